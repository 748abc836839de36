use super::*;
use crate::clients::Needs;
use crate::config::render::tests::section_is_fresh;

fn target() -> Target {
    Target {
        address: "127.0.0.1:9000".parse().unwrap(),
        key: None,
        engine: "app-server".into(),
        profile: "model".into(),
        verb: "restart",
        elsewhere: false,
        trouble: None,
    }
}

#[test]
fn the_clients_of_the_readme_are_fresh() {
    section_is_fresh("README.md", "clients", &readme::markdown());
}

#[test]
fn each_has_a_line() {
    assert_eq!(list().lines().filter(|line| line.starts_with("  ")).count(), CLIENTS.len());
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
        let target = Target { engine: engine.into(), profile: profile.into(), ..target() };
        let expect: Vec<String> = expect.into_iter().map(str::to_owned).collect();
        assert_eq!(warnings(Client::find(name).unwrap(), &target), expect);
    }
    let lost = Target { elsewhere: true, trouble: Some("it sleeps".into()), ..target() };
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
