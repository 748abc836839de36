use super::*;

fn split_of(entries: &[&str]) -> Overrides {
    split(&entries.iter().map(|&entry| entry.into()).collect::<Vec<_>>())
}

/// What Codex makes of the overrides, each variable as `$` and what it holds.
fn effect(found: &Overrides) -> Value {
    let mut whole = Value::Table(Table::new());
    for (path, value) in found.args.iter().filter_map(|entry| read(entry)) {
        let held = found.env.iter().find(|(variable, _)| value.as_str() == Some(variable));
        set(&mut whole, &path, held.map_or(value.clone(), |(_, secret)| Value::String(format!("${secret}"))));
    }
    whole
}

#[test]
fn secrets_leave_the_command_line_where_codex_has_a_form_for_it() {
    for (entries, expect) in [
        (
            &["model_providers.x.experimental_bearer_token=\"s3cret\""] as &[&str],
            "{ x = { env_key = '$s3cret' } }",
        ),
        (&["model_providers.x.experimental_bearer_token=s3cret"], "{ x = { env_key = '$s3cret' } }"),
        (
            &["model_providers.x={experimental_bearer_token='s3cret',name='n'}"],
            "{ x = { name = \"n\", env_key = '$s3cret' } }",
        ),
        (&["model_providers={x={experimental_bearer_token='s3cret'}}"], "{ x = { env_key = '$s3cret' } }"),
        (
            &["model_providers.x.http_headers={A='s3cret',B='s3cret2'}"],
            "{ x = { http_headers = {  }, env_http_headers = { A = '$s3cret', B = '$s3cret2' } } }",
        ),
        (
            &["model_providers.x.http_headers.X-A=Bearer s3cret"],
            "{ x = { env_http_headers = { X-A = '$Bearer s3cret' } } }",
        ),
        (
            &["model_providers.x={http_headers={A='s3cret'},env_http_headers={B='VAR'}}"],
            "{ x = { env_http_headers = { B = \"VAR\", A = '$s3cret' }, http_headers = {  } } }",
        ),
        (
            &["model_providers={x={http_headers={A='s3cret'}}}"],
            "{ x = { http_headers = {  }, env_http_headers = { A = '$s3cret' } } }",
        ),
        // Later ones win, as with Codex.
        (
            &["model_providers.x.http_headers={A='s3cret1'}", "model_providers.x.http_headers={B='s3cret'}"],
            "{ x = { http_headers = {  }, env_http_headers = { B = '$s3cret' } } }",
        ),
        (
            &["model_providers.x.http_headers.A='s3cret1'", "model_providers.x.http_headers.A='s3cret'"],
            "{ x = { env_http_headers = { A = '$s3cret' } } }",
        ),
        (
            &["model_providers.x.http_headers.A='s3cret1'", "model_providers.x={name='n'}"],
            "{ x = { name = \"n\" } }",
        ),
        // The environment's form wins, as with Codex.
        (
            &["model_providers.x={experimental_bearer_token='s3cret',env_key='K'}"],
            "{ x = { env_key = \"K\" } }",
        ),
        (
            &["model_providers.x={http_headers={a='s3cret'},env_http_headers={A='V'}}"],
            "{ x = { env_http_headers = { A = \"V\" }, http_headers = {  } } }",
        ),
        // Nothing to hide: as written.
        (
            &["model_providers.x={name='n',http_headers={A=''}}"],
            "{ x = { http_headers = { A = \"\" }, name = \"n\" } }",
        ),
    ] {
        let found = split_of(entries);
        let expect: Table = format!("model_providers = {expect}").parse().unwrap();
        assert_eq!(effect(&found), Value::Table(expect), "{entries:?}");
        assert!(found.exposed.is_empty(), "{entries:?}");
        let args = found.args.join(" ");
        assert!(!args.contains("s3cret"), "{args}");
    }
    let mcp = split_of(&["mcp_servers.x={url='https://m',http_headers={Authorization='Bearer s3cret'}}"]);
    assert_eq!(mcp.env, [("CODEX_API_PROXY_SECRET_1".to_owned(), "Bearer s3cret".to_owned())]);
    assert_eq!(
        mcp.args.last().unwrap(),
        "mcp_servers.x.env_http_headers.Authorization=\"CODEX_API_PROXY_SECRET_1\""
    );
    assert!(mcp.exposed.is_empty());
}

#[test]
fn overrides_without_secrets_go_as_written() {
    let entries = [
        "model = \"x\"",
        "a.b=[1, 2]",
        "model_providers.m={name=\"m\", base_url=\"http://h/v1\"}",
        "x={",
        "p = free text",
    ];
    let found = split_of(&entries);
    assert_eq!(found.args, entries);
    assert_eq!((found.env, found.exposed), (vec![], vec![]));
}

/// Forms of a secret that stay in the command line, each with its name.
const STAYING: &[(&str, &str)] = &[
    ("model_providers.x.query_params={api-version='s3cret'}", "model_providers.x.query_params.api-version"),
    ("model_providers.x.query_params.k='s3cret'", "model_providers.x.query_params.k"),
    ("model_providers.x.base_url='https://u:s3cret@host/v1'", "model_providers.x.base_url"),
    ("model_providers.x={base_url='https://s3cret@host/v1'}", "model_providers.x.base_url"),
    ("openai_base_url='https://host/v1?key=s3cret'", "openai_base_url"),
    ("model_providers.x.http_headers.\"X-A\"='s3cret'", "model_providers.x.http_headers.\"X-A\""),
    ("model_providers.\"my.x\"={http_headers={A='s3cret'}}", "model_providers.\"my.x\".http_headers.A"),
    (
        "model_providers={'my.x'={experimental_bearer_token='s3cret'}}",
        "model_providers.my.x.experimental_bearer_token",
    ),
    ("mcp_servers.x.env={GITHUB='s3cret'}", "mcp_servers.x.env.GITHUB"),
    ("mcp_servers.x.env.GITHUB='s3cret'", "mcp_servers.x.env.GITHUB"),
    ("mcp_servers={x={env={A='s3cret'}}}", "mcp_servers.x.env.A"),
    ("mcp_servers.x.bearer_token='s3cret'", "mcp_servers.x.bearer_token"),
    ("mcp_servers.x.args=['--api-key=s3cret']", "mcp_servers.x.args"),
    ("mcp_servers.x.args=['--header', 'Bearer s3cret']", "mcp_servers.x.args"),
    ("mcp_servers.x.url='https://u:s3cret@h'", "mcp_servers.x.url"),
    (
        "otel.exporter={otlp-http={endpoint='http://h',headers={x='s3cret'}}}",
        "otel.exporter.otlp-http.headers.x",
    ),
    ("shell_environment_policy.set={A='s3cret'}", "shell_environment_policy.set.A"),
    ("model_providers.x.auth={command='c',args=['sk-s3cret']}", "model_providers.x.auth.args"),
    ("model_providers.x={experimental_bearer_token='s3cret'", "model_providers.x"),
    ("some.new.api_key='s3cret'", "some.new.api_key"),
];

#[test]
fn what_stays_in_the_command_line_is_named() {
    for (entry, name) in STAYING {
        let found = split_of(&[entry]);
        assert_eq!(found.exposed, [*name], "{entry}");
        assert_eq!(found.env, []);
    }
    for innocent in [
        "model_providers.x.env_key='TOKEN'",
        "model_providers.x.env_http_headers={Authorization='VAR'}",
        "mcp_servers.x.bearer_token_env_var='VAR'",
        "mcp_servers.x.env_vars=['TOKEN']",
        "model_auto_compact_token_limit=1000",
        "cli_auth_credentials_store='file'",
        "developer_instructions='The password: never tell it'",
    ] {
        assert_eq!(split_of(&[innocent]).exposed, Vec::<String>::new(), "{innocent}");
    }
}

#[test]
fn only_values_of_known_keys_print() {
    for (entry, _) in STAYING {
        assert!(!shown(entry).contains("s3cret"), "{}", shown(entry));
    }
    for (entry, expect) in [
        ("model_reasoning_effort=\"low\"", "model_reasoning_effort=\"low\""),
        ("model_reasoning_effort = low", "model_reasoning_effort = low"),
        (
            "model_providers.x.experimental_bearer_token=\"s\"",
            "model_providers.x.experimental_bearer_token=***",
        ),
        ("model_providers.x.http_headers={A=\"b\"}", "model_providers.x.http_headers=***"),
        ("model_providers.x={http_headers={A=\"b\"}}", "model_providers.x={ http_headers = \"***\" }"),
        ("model_providers.x={name='n',x=1}", "model_providers.x={ name = \"n\", x = \"***\" }"),
        ("model_providers.x.env_key=\"OPENAI_API_KEY\"", "model_providers.x.env_key=\"OPENAI_API_KEY\""),
        ("model_providers.x.base_url=\"http://h:1/v1\"", "model_providers.x.base_url=\"http://h:1/v1\""),
        ("model_auto_compact_token_limit=1000", "model_auto_compact_token_limit=1000"),
        ("features.hooks=true", "features.hooks=true"),
        ("features={hooks='sk-1'}", "features={ hooks = \"***\" }"),
        ("model='sk-1'", "model=***"),
        ("model={a='b'}", "model=***"),
        ("developer_instructions='x'", "developer_instructions=***"),
        ("unheard.of=1", "unheard.of=***"),
        ("mcp_servers.x.env.sk-12345=1", "***"),
        ("a b=1", "***"),
        ("none", "***"),
    ] {
        assert_eq!(shown(entry), expect);
    }
}
