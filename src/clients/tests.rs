use std::collections::BTreeSet;

use serde_json::Value;

use super::*;

fn place(key: Option<KeyWords>) -> Place {
    Place { authority: "127.0.0.1:9000".into(), key, unproxied: None }
}

fn secret() -> KeyWords {
    KeyWords::of_variable("api_key of /f".into())
}

#[test]
fn names_are_unique_and_every_mark_is_filled() {
    let names: BTreeSet<&str> = CLIENTS.iter().map(|client| client.name).collect();
    assert_eq!(names.len(), CLIENTS.len());
    for client in CLIENTS {
        for key in [None, Some(secret())] {
            let text = client.text(&place(key));
            for mark in ["@v1@", "@base@", "@model@", "@window@", "@key@", "@curl@", "s3cret"] {
                assert!(!text.contains(mark), "{mark} in {text}");
            }
            assert!(text.contains("http://127.0.0.1:9000"), "{text}");
            assert!(text.contains(MODEL), "{text}");
            assert!(text.ends_with('\n') && !text.contains("\n\n"), "{text}");
        }
        let told = client.window.contains("272,000");
        let words = format!("{}{:?}{:?}", client.text, client.env, client.start);
        assert_eq!(words.contains("@window@"), told, "{}", client.name);
        // By their environment only: a key in a command line is there for all to see.
        if let Start::Program(_, fixed) = client.start {
            assert!(fixed.iter().all(|word| !word.contains("@key@")), "{}", client.name);
            assert!(client.env.iter().any(|(_, value)| *value == "@key@"), "{}", client.name);
        }
        assert!(client.env.iter().all(|(_, value)| *value == "@key@" || !value.contains("@key@")));
    }
}

#[test]
fn snippets_are_what_their_files_hold() {
    for name in ["zed", "openclaw", "cline"] {
        let text = Client::find(name).unwrap().text(&place(None));
        let json: String = text.lines().filter(|line| !line.starts_with('#')).collect();
        assert!(serde_json::from_str::<Value>(&json).is_ok(), "{json}");
    }
    let opencode = Client::find("opencode").unwrap();
    let json = place(None).filled(opencode.env[1].1);
    let json: Value = serde_json::from_str(&json).unwrap();
    assert_eq!(json["provider"]["codex-local"]["models"][MODEL]["limit"]["context"], WINDOW);
    let codex = Client::find("codex").unwrap();
    let Start::Program(_, words) = codex.start else { panic!("{codex:?}") };
    for pair in words.chunks(2) {
        let text = place(None).filled(pair[1]);
        assert!(pair[0] == "-c" && text.parse::<toml::Table>().is_ok(), "{text}");
    }
}

#[test]
fn variables_come_as_a_shell_takes_them() {
    let claude = Client::find("claude-code").unwrap();
    let unset = "unset ANTHROPIC_AUTH_TOKEN CLAUDE_CODE_USE_BEDROCK CLAUDE_CODE_USE_VERTEX\n";
    let rest = "export ANTHROPIC_MODEL=codex-local\nexport ANTHROPIC_DEFAULT_OPUS_MODEL=codex-local\n\
                export ANTHROPIC_DEFAULT_SONNET_MODEL=codex-local\nexport ANTHROPIC_DEFAULT_HAIKU_MODEL=codex-local\n\
                export CLAUDE_CODE_MAX_CONTEXT_TOKENS=272000\nexport CLAUDE_CODE_DISABLE_1M_CONTEXT=1\nclaude\n";
    assert_eq!(
        claude.text(&place(None)),
        format!(
            "# Claude Code speaks messages with http://127.0.0.1:9000\n\
             # key: none is set here; where a client wants one, any word will do: unused\n\
             # context window: is told 272,000\n{unset}\
             export ANTHROPIC_BASE_URL=http://127.0.0.1:9000\nexport ANTHROPIC_API_KEY=unused\n{rest}"
        )
    );
    assert_eq!(
        claude.text(&Place { unproxied: Some("127.0.0.1".into()), ..place(Some(secret())) }),
        format!(
            "# Claude Code speaks messages with http://127.0.0.1:9000\n\
             # key: api_key of /f; this shell must have it in CODEX_PROXY_API_KEY\n\
             # context window: is told 272,000\n\
             export NO_PROXY=\"${{NO_PROXY:+$NO_PROXY,}}127.0.0.1\" no_proxy=\"${{no_proxy:+$no_proxy,}}127.0.0.1\"\n{unset}\
             export ANTHROPIC_BASE_URL=http://127.0.0.1:9000\n\
             export ANTHROPIC_API_KEY=\"$CODEX_PROXY_API_KEY\"\n{rest}"
        )
    );
    for (word, expect) in
        [("", "''"), ("a b", "'a b'"), ("it's", "'it'\\''s'"), ("$x", "'$x'"), ("a/b", "a/b")]
    {
        assert_eq!(quoted(word), expect);
    }
}
