//! `/clients`: what points each known client here, as the verb `connect` prints it.

use http::HeaderMap;
use http::header::HOST;
use serde_json::{Value, json};

use crate::clients::{CLIENTS, KeyWords, Place};
use crate::config::Config;
use crate::os::systemd;

/// All of them, for a client that reached us as that request did.
pub fn list(config: &Config, headers: &HeaderMap, engine: &str) -> Value {
    let place = place(config, headers.get(HOST).and_then(|host| host.to_str().ok()));
    // As a service it has settings that `restart` changes; started by hand it has its command line.
    let verb = if systemd::listens() || cfg!(target_os = "macos") { "restart" } else { "serve" };
    let clients: Vec<Value> = CLIENTS
        .iter()
        .map(|client| {
            json!({
                "name": client.name, "title": client.title, "speaks": client.speaks(),
                "needs": client.unmet(engine, config.profile().name(), verb),
                "text": client.text(&place),
            })
        })
        .collect();
    json!({"clients": clients})
}

/// Where that request found us. On a Unix socket anything may stand in `Host`; this becomes words of a
/// shell, so only what can be a host counts.
fn place(config: &Config, host: Option<&str>) -> Place {
    let plain = |host: &&str| {
        !host.is_empty() && host.bytes().all(|byte| byte.is_ascii_alphanumeric() || b".-:[]".contains(&byte))
    };
    let authority = match host.filter(plain) {
        Some(host) => host.to_owned(),
        None if config.host.contains(':') => format!("[{}]:{}", config.host, config.port),
        None => format!("{}:{}", config.host, config.port),
    };
    let key = (!config.keys.is_empty()).then(|| match (&config.api_key, &config.api_key_file) {
        // Who came from elsewhere has not this machine's files.
        (None, Some(_)) if !is_here(&authority) => KeyWords::of_variable("one of api_key_file".into()),
        (None, Some(file)) => KeyWords::of_file(&file.display().to_string()),
        _ => KeyWords::of_variable("api_key".into()),
    });
    Place { authority, key, unproxied: None }
}

/// Whether only this machine is reached under that name.
fn is_here(authority: &str) -> bool {
    let host = match authority.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((v6, _)) => v6,
        None => authority.split(':').next().unwrap_or_default(),
    };
    host.eq_ignore_ascii_case("localhost")
        || host.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Key, Secret};

    #[test]
    fn a_client_is_pointed_where_the_request_came() {
        let config = Config { port: 9000, ..Config::default() };
        for (host, expect) in [
            (Some("localhost:8765"), "localhost:8765"),
            (Some("[::1]:8765"), "[::1]:8765"),
            (Some("box.lan"), "box.lan"),
            (Some("x;rm -rf"), "127.0.0.1:9000"),
            (Some("$(x)"), "127.0.0.1:9000"),
            (Some(""), "127.0.0.1:9000"),
            (None, "127.0.0.1:9000"),
        ] {
            assert_eq!(place(&config, host).authority, expect, "{host:?}");
        }
        let config = Config { host: "::1".into(), port: 9000, ..Config::default() };
        assert_eq!(place(&config, None).authority, "[::1]:9000");
    }

    #[test]
    fn the_key_is_told_by_its_place_and_a_file_of_this_machine_only_here() {
        let key = |name: &str| Key { name: name.into(), secret: Secret::new("s3cret") };
        let file =
            Config { keys: vec![key("ann")], api_key_file: Some("/etc/keys".into()), ..Config::default() };
        for host in ["127.0.0.1:8765", "localhost:8765", "[::1]:8765", "127.9.9.9"] {
            assert_eq!(place(&file, Some(host)).key, Some(KeyWords::of_file("/etc/keys")), "{host}");
        }
        for host in ["10.0.0.1:8765", "box.lan:8765", "[fe80::1]:8765"] {
            let expect = KeyWords::of_variable("one of api_key_file".into());
            assert_eq!(place(&file, Some(host)).key, Some(expect), "{host}");
        }
        let whole = list(&file, &HeaderMap::new(), "exec").to_string();
        assert!(!whole.contains("s3cret"), "{whole}");
        let direct = Config { api_key: Some(Secret::new("s3cret")), ..file };
        let expect = KeyWords::of_variable("api_key".into());
        assert_eq!(place(&direct, Some("127.0.0.1:8765")).key, Some(expect));
        assert_eq!(place(&Config::default(), None).key, None);
    }

    #[test]
    fn what_is_in_force_decides_what_a_client_needs() {
        let needs = |engine: &str| {
            let list = list(&Config::default(), &HeaderMap::new(), engine);
            let codex = list["clients"].as_array().unwrap().iter().find(|client| client["name"] == "codex");
            codex.unwrap()["needs"].clone()
        };
        let said = needs("exec");
        let said = said.as_str().unwrap();
        assert!(
            said.starts_with(
                "Codex CLI brings tools of its own, but engine = exec and profile = agent are in"
            )
        );
        assert!(said.ends_with(" --engine app-server --profile model"), "{said}");
    }
}
