use std::collections::BTreeSet;

use serde_json::Value;

use super::target::Key;
use super::*;
use crate::config::Secret;
use crate::config::render::tests::section_is_fresh;

fn target(key: Option<Key>) -> Target {
    Target {
        address: "127.0.0.1:9000".parse().unwrap(),
        key,
        engine: "app-server".into(),
        profile: "model".into(),
        verb: "restart",
        elsewhere: false,
        trouble: None,
    }
}

fn secret() -> Key {
    Key {
        secret: Secret::new("s3cret"),
        from: "api_key of /f".into(),
        shell: "\"$CODEX_PROXY_API_KEY\"".into(),
    }
}

#[test]
fn the_clients_of_the_readme_are_fresh() {
    section_is_fresh("clients", &readme::markdown());
}

#[test]
fn names_are_unique_and_every_mark_is_filled() {
    let names: BTreeSet<&str> = CLIENTS.iter().map(|client| client.name).collect();
    assert_eq!(names.len(), CLIENTS.len());
    for client in CLIENTS {
        for key in [None, Some(secret())] {
            let text = text(client, &target(key), false);
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
    assert_eq!(list().lines().filter(|line| line.starts_with("  ")).count(), CLIENTS.len());
}

#[test]
fn snippets_are_what_their_files_hold() {
    for name in ["zed", "openclaw"] {
        let text = text(Client::find(name).unwrap(), &target(None), false);
        let json: String = text.lines().filter(|line| !line.starts_with('#')).collect();
        assert!(serde_json::from_str::<Value>(&json).is_ok(), "{json}");
    }
    let opencode = Client::find("opencode").unwrap();
    let json = filled(opencode.env[1].1, &target(None));
    let json: Value = serde_json::from_str(&json).unwrap();
    assert_eq!(json["provider"]["codex-local"]["models"][MODEL]["limit"]["context"], WINDOW);
    let codex = Client::find("codex").unwrap();
    let Start::Program(_, words) = codex.start else { panic!("{codex:?}") };
    for pair in words.chunks(2) {
        let text = filled(pair[1], &target(None));
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
        text(claude, &target(None), false),
        format!(
            "# Claude Code speaks messages with http://127.0.0.1:9000\n\
             # key: none is set here; where a client wants one, any word will do: unused\n\
             # context window: is told 272,000\n{unset}\
             export ANTHROPIC_BASE_URL=http://127.0.0.1:9000\nexport ANTHROPIC_API_KEY=unused\n{rest}"
        )
    );
    assert_eq!(
        text(claude, &target(Some(secret())), true),
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

#[test]
fn what_does_not_suit_is_said_with_the_command_that_mends_it() {
    for (name, engine, profile, expect) in [
        ("curl", "exec", "agent", None),
        ("aider", "exec", "model", None),
        (
            "aider",
            "exec",
            "agent",
            Some(
                "aider wants a plain chat model, but engine = exec and profile = agent are in force; to set what it needs: codex-api-proxy restart --profile model",
            ),
        ),
        ("codex", "app-server", "model", None),
        (
            "codex",
            "exec",
            "model",
            Some(
                "Codex CLI brings tools of its own, but engine = exec and profile = model are in force; to set what it needs: codex-api-proxy restart --engine app-server --profile model",
            ),
        ),
        (
            "codex",
            "app-server",
            "agent",
            Some(
                "Codex CLI brings tools of its own, but engine = app-server and profile = agent are in force; to set what it needs: codex-api-proxy restart --engine app-server --profile model",
            ),
        ),
    ] {
        let target = Target { engine: engine.into(), profile: profile.into(), ..target(None) };
        let expect: Vec<String> = expect.into_iter().map(str::to_owned).collect();
        assert_eq!(warnings(Client::find(name).unwrap(), &target), expect);
    }
    let lost = Target { elsewhere: true, trouble: Some("it sleeps".into()), ..target(None) };
    assert_eq!(
        warnings(Client::find("curl").unwrap(), &lost),
        [
            "it sleeps",
            "nothing listens where the settings say; 127.0.0.1:9000 is taken, the only codex-api-proxy that runs here"
        ]
    );
    // The flags are true ones.
    for needs in [Needs::Model, Needs::Tools] {
        let line = format!("serve {}", needs.flags());
        let words = std::iter::once("codex-api-proxy").chain(line.split(' '));
        assert!(super::super::command().try_get_matches_from(words).is_ok(), "{line}");
    }
}

#[test]
fn what_has_no_way_to_be_started_says_why() {
    let word = |word: &str| std::ffi::OsString::from(word);
    let (program, fixed, given) = {
        let given = [word("-p")];
        let (program, fixed, given) = starts(Client::find("claude-code").unwrap(), &given).unwrap();
        (program.to_owned(), fixed, given.to_vec())
    };
    assert_eq!((program, fixed.len(), given), (word("claude"), 0, vec![word("-p")]));
    let given = [word("python3"), word("x.py")];
    let (program, _, rest) = starts(Client::find("openai-python").unwrap(), &given).unwrap();
    assert_eq!((program, rest), (given[0].as_os_str(), &given[1..]));
    for (name, expect) in [
        ("openai-python", "-- must be followed by a program that uses openai for Python, and its arguments"),
        (
            "zed",
            "Zed takes models from its settings.json only; nothing is started. What to set: codex-api-proxy connect zed",
        ),
    ] {
        let Err(Exit::Usage(why)) = starts(Client::find(name).unwrap(), &[]) else { panic!("{name}") };
        assert_eq!(why, expect);
    }
}

#[test]
fn an_unknown_name_is_a_usage_error_with_the_nearest() {
    for (asked, nearest) in [("claude", "claude-code"), ("opencod", "opencode"), ("qwen", "qwen-code")] {
        let error = super::super::command().try_get_matches_from(["codex-api-proxy", "connect", asked]);
        let error = error.unwrap_err();
        assert!(error.use_stderr() && error.to_string().contains(&format!("'{nearest}'")), "{error}");
    }
}
