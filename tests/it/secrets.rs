//! Secrets of the settings reach Codex and the upstream, and nobody who looks.

use crate::config::run;
use crate::support::{Reply, Setup, Upstream, require_codex, wait};

/// The provider with its secrets in a settings file, further lines behind it.
fn setup(engine: &str, more: &str) -> Option<(Setup, Upstream)> {
    let codex = require_codex()?;
    let upstream = Upstream::start();
    let setup = Setup::new(&codex).set("engine", engine).set("profile", "agent");
    let file = setup.scratch().write(
        "config/codex-api-proxy/config.toml",
        &format!(
            r#"codex_configs = [
    'model_provider="mock"',
    'model_providers.mock={{name="mock",base_url="{}",wire_api="responses",request_max_retries=0,stream_max_retries=0,experimental_bearer_token="s3cret-bearer"}}',
    'model_providers.mock.http_headers={{x-table="s3cret-table"}}',
    'model_providers.mock.http_headers.x-dotted=s3cret dotted',
    'shell_environment_policy.inherit="all"',
    {more}
]
"#,
            upstream.url()
        ),
    );
    use std::os::unix::fs::PermissionsExt;
    std::fs::set_permissions(file, std::fs::Permissions::from_mode(0o600)).unwrap();
    Some((setup, upstream))
}

/// The command lines of all processes of this machine that any user may read.
fn command_lines() -> String {
    let processes = std::fs::read_dir("/proc").unwrap().flatten();
    let lines = processes.filter_map(|process| std::fs::read(process.path().join("cmdline")).ok());
    lines.map(|line| String::from_utf8_lossy(&line).replace('\0', " ") + "\n").collect()
}

fn arrive_unseen(engine: &str) {
    let Some((setup, upstream)) = setup(engine, "") else { return };
    let mut everything = vec![];
    for command in [&["config", "show"][..], &["config", "show", "--json"], &["config", "check"], &["doctor"]]
    {
        let ran = run(&setup, command);
        everything.push(ran.out + &ran.err);
    }
    let proxy = setup.start();
    upstream.when("look", [Reply::call("exec_command", r#"{"cmd":"env"}"#), Reply::text("seen")]);
    assert_eq!(proxy.ask("look").send().answer(), "seen");
    let told = upstream.requests().pop().unwrap();
    for (header, value) in [
        ("authorization", "Bearer s3cret-bearer"),
        ("x-table", "s3cret-table"),
        ("x-dotted", "s3cret dotted"),
    ] {
        assert_eq!(told.header(header), Some(value), "{header}");
    }
    let outputs = told.tool_outputs();
    assert!(outputs[0].contains("CODEX_HOME="), "{outputs:?}");
    everything.push(outputs[0].clone());
    upstream.reply(Reply::nothing().then_partial(&["half"]).then_hang());
    // The requests so far are of turns that are over.
    let before = upstream.requests().len();
    let call = proxy.ask("hi").send_only();
    wait::until("the turn runs", || {
        upstream.requests().get(before).is_some_and(|request| request.deltas == 1)
    });
    everything.push(command_lines());
    assert!(everything.last().unwrap().contains("model_providers.mock"), "the running codex is among them");
    drop(call);
    everything.push(proxy.get("/ready").send().text());
    everything.push(proxy.log());
    for text in everything {
        assert!(!text.contains("s3cret"), "{text}");
    }
}

#[test]
fn tokens_and_headers_arrive_and_stand_in_no_command_line() {
    arrive_unseen("exec");
}

#[test]
fn tokens_and_headers_of_workers_arrive_and_stand_in_no_command_line() {
    arrive_unseen("app-server");
}

#[test]
fn what_codex_takes_from_its_command_line_only_is_named() {
    let Some((setup, _upstream)) = setup(
        "exec",
        r#"'model_providers.mock.query_params={version="s3cret"}', 'mcp_servers.x.env.A="s3cret"'"#,
    ) else {
        return;
    };
    let ran = run(&setup, &["config", "check"]);
    let text = ran.out + &ran.err;
    assert_eq!(ran.code, Some(0), "{text}");
    let names = "codex_configs: model_providers.mock.query_params.version, mcp_servers.x.env.A stands in the command \
                 line of codex";
    assert!(text.contains(names) && !text.contains("s3cret"), "{text}");
    let proxy = setup.start_unready();
    wait::until("it is said at start", || proxy.log().contains(names));
    assert!(!proxy.log().contains("s3cret"));
}

/// The upstream quotes the prompt in its error; the client reads why, the log does not.
fn told_to_the_client_only(setup: Setup, upstream: &Upstream) {
    let proxy = setup.start();
    let message = "Invalid schema for 's3cret prompt' in /srv/s3cret.txt of org-AbC123dEf456 (/etc/passwd).";
    let error = serde_json::json!({
        "message": message, "type": "invalid_request_error", "code": "invalid_json_schema", "param": "text.format" });
    upstream.when("s3cret prompt", [Reply::status(400, error)]);
    let answer = proxy.ask("s3cret prompt about /srv/s3cret.txt").send();
    let error = answer.error(400, "invalid_request_error", "invalid_json_schema");
    let expect = "The model service refused the request: Invalid schema for 's3cret prompt' in /srv/s3cret.txt of *** \
                  (***).";
    assert_eq!(error, expect);
    assert!(answer.json()["error"]["param"].is_null());
    let id = answer.header("x-request-id").unwrap().to_owned();
    wait::until("the log has it", || {
        proxy.log().lines().any(|line| line.contains(&id) && line.contains("code invalid_json_schema"))
    });
    assert!(!proxy.log().contains("s3cret"), "{}", proxy.log());
}

#[test]
fn what_the_upstream_said_reaches_the_client_and_not_the_log() {
    let Some((setup, upstream)) = crate::support::real() else { return };
    told_to_the_client_only(setup, &upstream);
}

#[test]
fn what_the_upstream_said_to_a_worker_reaches_the_client_and_not_the_log() {
    let Some((setup, upstream)) = crate::support::real() else { return };
    told_to_the_client_only(setup.set("engine", "app-server"), &upstream);
}
