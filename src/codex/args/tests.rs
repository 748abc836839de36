use super::*;
use crate::config::EngineKind;
use crate::config::choices::ProfileChoice;
use crate::turn::{ServiceTier, Verbosity, Workdir};

const NEW: Version = Version(0, 169, 0);

fn text(args: &[OsString]) -> String {
    args.iter().map(|arg| arg.to_str().unwrap()).collect::<Vec<_>>().join(" ")
}

fn host() -> Confinement {
    Confinement::Host { reason: String::new() }
}

#[test]
fn the_originals_flags_lead_and_the_operators_overrides_end_the_line() {
    let config = Config { codex_configs: vec!["web_search=\"live\"".into()], ..Config::default() };
    let line = text(&exec(&config, NEW, None, &host()));
    let start = "exec --json --skip-git-repo-check --ignore-user-config --ignore-rules --ephemeral --sandbox read-only -c ";
    assert!(line.starts_with(start), "{line}");
    assert!(line.ends_with(" -c web_search=\"live\""), "{line}");
    let lasting = Config { ephemeral: false, ..Config::default() };
    assert!(!text(&exec(&lasting, NEW, None, &host())).contains("--ephemeral"));
}

#[test]
fn a_permission_profile_goes_without_the_sandbox_flag() {
    let wanted = Confinement::wanted(&Config::default(), Path::new("/v \"q\""), &["/secret".into()]);
    let line = text(&exec(&Config::default(), NEW, None, &wanted));
    assert!(!line.contains("--sandbox"));
    let rules = r#"-c permissions.codex_api_proxy.filesystem={":minimal"="read","/v \"q\""="read",":project_roots"={"."="read"},"/secret"="none"}"#;
    assert!(line.contains(rules), "{line}");
}

#[test]
fn the_app_server_gets_the_same_floor_behind_its_subcommand() {
    let config = Config {
        engine: EngineKind::AppServer,
        model: Some("gpt-x".into()),
        codex_configs: vec!["web_search=\"live\"".into()],
        ..Config::default()
    };
    let line = text(&app_server(&config, NEW, Some(Path::new("/state/catalog.json")), &host()));
    assert!(line.starts_with("app-server --stdio -c sandbox_mode=\"read-only\" -c "), "{line}");
    assert!(line.contains("-c model_catalog_json=\"/state/catalog.json\""), "{line}");
    assert!(line.contains("-c approval_policy=\"never\"") && line.contains("-c thread_unload_delay_secs=1"));
    assert!(line.ends_with("-c model=\"gpt-x\" -c web_search=\"live\""), "{line}");
    let wanted = Confinement::wanted(&config, Path::new("/v"), &[]);
    let line = text(&app_server(&config, NEW, None, &wanted));
    assert!(line.contains("default_permissions") && !line.contains("sandbox_mode"), "{line}");
}

#[test]
fn the_operator_decides_about_the_sandbox() {
    for entry in
        ["sandbox_mode=\"workspace-write\"", "permissions.x.filesystem={}", "default_permissions = \"x\""]
    {
        let config = Config { codex_configs: vec![entry.into()], ..Config::default() };
        let wanted = Confinement::wanted(&config, Path::new("/v"), &[]);
        assert_eq!(wanted, Confinement::Operator);
        assert!(!text(&exec(&config, NEW, None, &wanted)).contains("--sandbox"));
    }
    let config = Config { agent_reads: AgentReads::Host, ..Config::default() };
    assert_eq!(Confinement::wanted(&config, Path::new("/v"), &[]).name(), "host");
}

#[test]
fn tools_never_inherit_what_is_set_for_codexs_own_git() {
    for (entries, expect) in [
        (&[][..], r#"exclude=["GIT_DIR"]"#),
        (&["shell_environment_policy.inherit=\"all\""][..], r#"inherit="all""#),
        (&["shell_environment_policy={inherit=\"all\"}"], r#"exclude=["GIT_DIR"]"#),
        (&["shell_environment_policy={exclude=[\"A*\"]}"], r#"exclude=["A*", "GIT_DIR"]"#),
        (
            &["shell_environment_policy.exclude=[\"A\"]", "shell_environment_policy.exclude=[\"B\"]"],
            r#"exclude=["B", "GIT_DIR"]"#,
        ),
        (&["shell_environment_policy = not toml"], r#"exclude=["GIT_DIR"]"#),
        (
            &["model_providers.x.http_headers.A='secret'"],
            r#"exclude=["GIT_DIR", "CODEX_API_PROXY_SECRET_*"]"#,
        ),
    ] {
        let codex_configs = entries.iter().map(|&entry| entry.to_owned()).collect();
        let config = Config { codex_configs, ..Config::default() };
        for args in [exec(&config, NEW, None, &host()), app_server(&config, NEW, None, &host())] {
            let last = args.iter().filter_map(|arg| arg.to_str()).rfind(|arg| arg.starts_with("shell_env"));
            assert_eq!(last, Some(&*format!("shell_environment_policy.{expect}")), "{entries:?}");
            assert!(text(&args).contains("GIT_DIR"));
        }
    }
}

#[test]
fn fast_is_low_effort_unless_overrides_are_set() {
    let low = "model_reasoning_effort=\"low\"";
    let fast = Config { fast: true, ..Config::default() };
    assert!(text(&exec(&fast, NEW, None, &host())).contains(low));
    let both = Config { codex_configs: vec!["model=\"x\"".into()], ..fast };
    assert!(!text(&exec(&both, NEW, None, &host())).contains(low));
}

#[test]
fn profiles_and_versions_differ() {
    let config = Config { profile: ProfileChoice::Model, ..Config::default() };
    let line = text(&exec(&config, NEW, Some(Path::new("/c.json")), &host()));
    assert!(line.contains("-c features.shell_tool=false") && line.contains("-c instructions=\"\""), "{line}");
    assert!(line.contains("-c model_catalog_json=\"/c.json\""), "{line}");
    assert!(line.contains("agents.enabled=false"));
    let old = text(&exec(&Config::default(), Version(0, 140, 0), None, &host()));
    assert!(!old.contains("agents.enabled") && !old.contains("shell_tool"));
    let app_server = Config { engine: EngineKind::AppServer, ..Config::default() };
    assert!(ours(&app_server, NEW, None).contains(&"features.shell_tool=false".to_owned()));
}

#[test]
fn a_turn_adds_only_closed_values_and_one_word_names() {
    let dir = std::env::temp_dir();
    let turn = Turn {
        caller: crate::turn::Caller::Unknown,
        client_name: None,
        model: Some("gpt-5.5".into()),
        effort: Some(Effort::XHigh),
        verbosity: Some(Verbosity::Low),
        service_tier: Some(ServiceTier::Flex),
        ..Turn::new([], Workdir::resolve(None, &dir, &[]).unwrap())
    };
    assert_eq!(
        text(&exec_turn(&turn, Some(Path::new("/s.json")), &["/a.png", "/b.png"], None)),
        "-c model_reasoning_effort=\"xhigh\" -c model_verbosity=\"low\" -c service_tier=\"flex\" \
         --model=gpt-5.5 --output-schema=/s.json --image=/a.png --image=/b.png -- -"
    );
    assert_eq!(
        text(&exec_turn(&turn, None, &["/a.png"], Some("0-1"))),
        "-c model_reasoning_effort=\"xhigh\" -c model_verbosity=\"low\" -c service_tier=\"flex\" \
         --model=gpt-5.5 --image=/a.png fork -- 0-1 -"
    );
}

#[test]
fn what_weakens_isolation_is_named_without_its_value() {
    let entries = [
        "model=\"x\"",
        "model_providers.a={env_key=\"K\"}",
        "sandbox_mode=\"read-only\"",
        "sandbox_mode=\"workspace-write\"",
        "mcp_servers.x.command=\"secret\"",
        "web_search=\"live\"",
        "features.hooks=false",
        "features.hooks=true",
    ];
    let entries: Vec<String> = entries.map(str::to_owned).to_vec();
    assert_eq!(
        weakened(&entries),
        ["sandbox_mode", "sandbox_mode", "mcp_servers.x.command", "web_search", "features.hooks"]
    );
}
