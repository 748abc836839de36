//! `connect`: what it prints is run by a shell. The clients that it starts are in `agents`.

use std::io::Write;
use std::path::Path;
use std::process::{Output, Stdio};

use serde_json::Value;

use crate::support::programs::{KEY, client, connect, untroubled};
use crate::support::proxy::Scratch;
use crate::support::{real, wait};

fn text(output: &Output) -> (String, String) {
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
    (text(&output.stdout), text(&output.stderr))
}

#[test]
fn a_shell_runs_what_it_prints_for_curl() {
    for key in ["no key", "a variable", "a file"] {
        let Some((mut setup, _upstream)) = real() else { return };
        let scratch = Scratch::new();
        let file = scratch.write("keys", &format!("# NAME KEY\nann {KEY}\n")).display().to_string();
        let variable = match key {
            "a variable" => Some(("CODEX_PROXY_API_KEY", KEY)),
            "a file" => Some(("CODEX_PROXY_API_KEY_FILE", file.as_str())),
            _ => None,
        };
        if let Some((name, value)) = variable {
            setup = setup.env(name, value);
        }
        let proxy = setup.start();
        let output = connect(&proxy, &scratch, &["curl"]).envs(variable).output().unwrap();
        let (printed, said) = text(&output);
        assert!(output.status.success() && said.is_empty(), "{key}: {printed}{said}");
        assert!(printed.contains(&proxy.url()) && !printed.contains(KEY), "{printed}");
        let mut shell = client(Path::new("sh"), &scratch);
        shell.envs(variable).env_remove("NO_PROXY").env_remove("no_proxy");
        let mut shell = shell.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        shell.stdin.take().unwrap().write_all(printed.as_bytes()).unwrap();
        let (answer, _) = text(&shell.wait_with_output().unwrap());
        let answer: Value = serde_json::from_str(&answer).unwrap_or_else(|error| panic!("{error}: {answer}"));
        assert_eq!(answer["choices"][0]["message"]["content"], "pong", "{key}: {answer}");
        // Its line may be read a moment after its answer.
        wait::until("its line is logged", || !proxy.latency_lines().is_empty());
        untroubled(&proxy);
    }
}

#[test]
fn what_stands_in_the_way_is_said_with_its_mend() {
    let Some((setup, _upstream)) = real() else { return };
    let proxy = setup.env("CODEX_PROXY_API_KEY", KEY).start();
    let scratch = Scratch::new();
    let address = proxy.address();
    let ran = |words: &[&str], key: Option<&str>, port: u16| {
        let mut command = connect(&proxy, &scratch, words);
        command.envs(key.map(|key| ("CODEX_PROXY_API_KEY", key)));
        let output = command.env("CODEX_PROXY_PORT", port.to_string()).output().unwrap();
        let (printed, said) = text(&output);
        (output.status.code(), printed, said)
    };
    // exec is in force: the server's word, for these settings name no engine.
    let (code, printed, said) = ran(&["codex"], Some(KEY), address.port());
    assert_eq!(
        (code, said.as_str()),
        (
            Some(0),
            "warning: Codex CLI brings tools of its own, but engine = exec and profile = agent are in force; \
             to set what it needs: codex-api-proxy serve --engine app-server --profile model\n"
        )
    );
    assert!(printed.contains("env_key=\"CODEX_LOCAL_API_KEY\"") && !printed.contains(KEY), "{printed}");

    let wanted = format!("{address} wants a key, and none is known here; have it in CODEX_PROXY_API_KEY\n");
    let (code, printed, said) = ran(&["curl"], None, address.port());
    assert_eq!((code, said), (Some(0), format!("warning: {wanted}")), "{printed}");
    let (code, printed, said) = ran(&["claude-code", "--", "-p", "x"], None, address.port());
    assert_eq!((code, printed.as_str(), said), (Some(1), "", format!("error: {wanted}")));
    let (code, _, said) = ran(&["curl"], Some("another"), address.port());
    let refused = "does not take the key of api_key of environment CODEX_PROXY_API_KEY; have its key in CODEX_PROXY_API_KEY";
    assert_eq!((code, said), (Some(0), format!("warning: {address} {refused}\n")));

    // Without a word after it, too.
    for words in [&["zed", "--"][..], &["zed", "--", "."]] {
        let (code, printed, said) = ran(words, Some(KEY), address.port());
        let why = "error: Zed takes models from its settings.json only; nothing is started. What to set: codex-api-proxy connect zed\n";
        assert_eq!((code, printed.as_str(), said.as_str()), (Some(64), "", why));
    }
    let (code, _, said) = ran(&["claud"], Some(KEY), address.port());
    assert!(code == Some(64) && said.contains("'claude-code'"), "{code:?} {said}");
    let (code, printed, _) = ran(&[], Some(KEY), address.port());
    assert!(code == Some(0) && printed.contains("\n  claude-code "), "{printed}");
    let (code, _, said) = ran(&["openai-python", "--", "/no/such"], Some(KEY), address.port());
    let why = "error: /no/such (openai for Python) cannot be started: No such file or directory (os error 2); it must be on PATH\n";
    assert_eq!((code, said.as_str()), (Some(1), why));
}

#[test]
fn the_service_tells_the_same_text() {
    for key in ["no key", "a file"] {
        let Some((mut setup, _upstream)) = real() else { return };
        let scratch = Scratch::new();
        let file = scratch.write("keys", &format!("# NAME KEY\nann {KEY}\n")).display().to_string();
        let variable = (key == "a file").then_some(("CODEX_PROXY_API_KEY_FILE", file.as_str()));
        if let Some((name, value)) = variable {
            setup = setup.env(name, value);
        }
        let proxy = setup.start();
        if variable.is_some() {
            proxy.get("/clients").send().error(401, "invalid_request_error", "invalid_api_key");
        }
        let answer = proxy.get("/clients").header("authorization", format!("Bearer {KEY}")).send();
        assert!(!answer.text().contains(KEY), "{key}");
        let clients = answer.json()["clients"].clone();
        let clients = clients.as_array().unwrap();
        let (listed, _) = text(&connect(&proxy, &scratch, &[]).envs(variable).output().unwrap());
        assert_eq!(listed.lines().filter(|line| line.starts_with("  ")).count(), clients.len());
        for name in ["curl", "codex", "zed"] {
            let told = clients.iter().find(|client| client["name"] == name).unwrap();
            let mut command = connect(&proxy, &scratch, &[name]);
            for proxy in ["http_proxy", "HTTP_PROXY", "https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"]
            {
                command.env_remove(proxy);
            }
            let (printed, said) = text(&command.envs(variable).output().unwrap());
            assert_eq!(told["text"], printed, "{key}");
            match told["needs"].as_str() {
                Some(needs) => assert!(said.contains(needs), "{said} {needs}"),
                None => assert_eq!(said, ""),
            }
        }
    }
}
