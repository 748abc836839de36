use super::*;
use crate::config::Secret;

const US: u32 = 1000;
const FRIEND: u32 = 2000;
const STRANGER: u32 = 3000;

fn rules(keys: &[&str]) -> Rules {
    let config = Config {
        allowed_hosts: vec!["Proxy.LAN.".into(), "tunnel:9000".into()],
        allowed_origins: vec!["http://localhost:3000/".into(), "app://Notes".into()],
        keys: keys
            .iter()
            .map(|key| Key { name: format!("{key}'s").into(), secret: Secret::new(*key) })
            .collect(),
        ..Config::default()
    };
    let mut rules = Rules::new(&config).unwrap();
    rules.hosts.push("this-machine".into());
    rules.users = vec![0, US, FRIEND];
    rules
}

fn headers(list: &[(&'static str, &str)]) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for (name, value) in list {
        headers.append(*name, HeaderValue::from_bytes(value.as_bytes()).unwrap());
    }
    headers
}

fn verdict(
    rules: &Rules,
    uri: &str,
    list: &[(&'static str, &str)],
    peer: Peer,
    access: Access,
) -> Result<Pass, String> {
    let (uri, headers) = (uri.parse().unwrap(), headers(list));
    let head = Head { method: &Method::POST, uri: &uri, headers: &headers };
    rules.check(head, peer, access).map_err(|failure| match failure {
        Failure::Forbidden { rule, .. } => format!("{rule:?}"),
        Failure::BadRequest { at: None, .. } => "400".into(),
        Failure::Unauthorized { presented } => format!("401 {presented}"),
        other => panic!("{other:?}"),
    })
}

const OURS: Peer = Peer::Local(US);
const UNIX: Peer = Peer::Unix(Some(US));
const REMOTE: Peer = Peer::Remote(std::net::IpAddr::V4(std::net::Ipv4Addr::new(198, 51, 100, 7)));
const HOST_OK: (&str, &str) = ("host", "localhost:8765");
const YES: Result<bool, &str> = Ok(true);

fn same(found: Result<Pass, String>, expect: Result<bool, &str>, about: &dyn std::fmt::Debug) {
    assert_eq!(found.map(|pass| pass.trusted), expect.map_err(str::to_owned), "{about:?}");
}

#[test]
fn the_host_is_this_server() {
    let rules = rules(&[]);
    let check = |list: &[(&'static str, &str)], expect| {
        same(verdict(&rules, "/v1/models", list, OURS, Access::Key), expect, &list)
    };
    for host in [
        "127.0.0.1",
        "127.0.0.1:8765",
        "10.0.0.7:80",
        "[::1]",
        "[::1]:8765",
        "[::ffff:1.2.3.4]:1",
        "localhost",
        "localhost:1",
        "LocalHost:8765",
        "localhost.:8765",
        "this-machine",
        "This-Machine:8765",
        "proxy.lan",
        "proxy.lan:1",
        "proxy.lan.",
        "tunnel:9000",
        "localhost:",
    ] {
        check(&[("host", host)], YES);
    }
    for host in [
        "evil.example",
        "evil.example:8765",
        "localhost.evil.example",
        "evil.localhost",
        "xlocalhost",
        "127.0.0.1.nip.io",
        "2130706433",
        "0x7f000001",
        "127.1",
        "tunnel",
        "tunnel:9001",
        "proxy.lan.evil",
        "[::1].evil.example",
    ] {
        let found = verdict(&rules, "/", &[("host", host)], OURS, Access::Key);
        assert!(found.as_ref().is_err_and(|error| error == "Host" || error == "400"), "{host}: {found:?}");
    }
    check(&[("host", "evil.example")], Err("Host"));
    check(&[], Err("400"));
    check(&[("host", "")], Err("400"));
    check(&[("host", "localhost"), ("host", "localhost")], Err("400"));
    check(&[("host", "localhost"), ("host", "evil.example")], Err("400"));
    check(&[("host", "user@localhost")], Err("400"));
    check(&[("host", "local host")], Err("400"));
    check(&[("host", "localhost/x")], Err("400"));
    check(&[("host", "löcalhost")], Err("400"));
}

#[test]
fn an_absolute_target_follows_the_same_rule() {
    let rules = rules(&[]);
    let check = |uri: &str, list: &[(&'static str, &str)], expect| {
        same(verdict(&rules, uri, list, OURS, Access::Key), expect, &uri)
    };
    check("http://localhost:8765/v1/models", &[HOST_OK], YES);
    check("http://evil.example/v1/models", &[HOST_OK], Err("Host"));
    check("http://localhost/v1/models", &[("host", "evil.example")], Err("Host"));
    check("http://localhost/v1/models", &[], Err("400"));
}

#[test]
fn other_sites_pages_are_refused() {
    let rules = rules(&[]);
    let check = |list: &[(&'static str, &str)], expect| {
        let list: Vec<_> = [HOST_OK].into_iter().chain(list.iter().copied()).collect();
        same(verdict(&rules, "/v1/chat/completions", &list, OURS, Access::Key), expect, &list)
    };
    check(&[("origin", "http://localhost:8765")], YES);
    check(&[("origin", "HTTP://LOCALHOST:8765")], YES);
    check(&[("origin", "http://localhost:3000")], YES);
    check(&[("origin", "app://notes")], YES);
    check(&[("origin", "http://localhost:3000"), ("sec-fetch-site", "cross-site")], YES);
    check(&[("origin", "http://localhost:8765"), ("sec-fetch-site", "same-origin")], YES);
    check(&[("sec-fetch-site", "same-origin")], YES);
    check(&[("sec-fetch-site", "none")], YES);
    check(&[("origin", "null")], Err("Origin"));
    check(&[("origin", "")], Err("Origin"));
    check(&[("origin", "http://evil.example")], Err("Origin"));
    check(&[("origin", "http://localhost")], Err("Origin"));
    check(&[("origin", "http://localhost:3001")], Err("Origin"));
    check(&[("origin", "http://localhost:87650")], Err("Origin"));
    check(&[("origin", "ftp://localhost:8765")], Err("Origin"));
    check(&[("origin", "http://localhost:3000.evil.example")], Err("Origin"));
    check(&[("origin", "http://löcal")], Err("Origin"));
    check(&[("origin", "http://localhost:3000"), ("origin", "http://evil.example")], Err("400"));
    check(&[("sec-fetch-site", "cross-site")], Err("Origin"));
    check(&[("sec-fetch-site", "same-site")], Err("Origin"));
    check(&[("sec-fetch-site", "anything")], Err("Origin"));
    check(&[("sec-fetch-site", "none"), ("sec-fetch-site", "cross-site")], Err("Origin"));
}

#[test]
fn without_a_key_the_peer_decides() {
    let check = |keys: &[&str], caller, expect| {
        same(verdict(&rules(keys), "/v1/models", &[HOST_OK], caller, Access::Open), expect, &caller)
    };
    check(&[], OURS, YES);
    check(&[], Peer::Local(0), YES);
    check(&[], Peer::Local(FRIEND), YES);
    check(&[], Peer::Local(STRANGER), Err("Peer"));
    check(&[], Peer::Stranger, Err("Peer"));
    check(&[], Peer::CannotTell, YES);
    check(&[], REMOTE, YES);
    check(&[], UNIX, YES);
    check(&["k"], Peer::Local(STRANGER), Ok(false));
    check(&["k"], Peer::Stranger, Ok(false));
}

#[test]
fn without_a_key_nothing_forwarded_is_let_in() {
    let check = |keys: &[&str], name: &'static str, expect| {
        for caller in [OURS, UNIX, REMOTE] {
            let list = [HOST_OK, (name, "10.0.0.1"), ("authorization", "Bearer k")];
            same(verdict(&rules(keys), "/v1/models", &list, caller, Access::Key), expect, &(name, caller));
        }
    };
    for name in [
        "forwarded",
        "via",
        "x-real-ip",
        "x-forwarded",
        "x-forwarded-for",
        "x-forwarded-proto",
        "x-forwarded-anything",
        "x-original-forwarded-for",
        "cf-connecting-ip",
        "cf-connecting-ipv6",
        "cf-pseudo-ipv4",
        "cf-ray",
        "cdn-loop",
        "true-client-ip",
        "client-ip",
        "x-client-ip",
        "x-cluster-client-ip",
        "fly-client-ip",
        "fastly-client-ip",
        "do-connecting-ip",
        "x-nf-client-connection-ip",
        "x-appengine-user-ip",
        "x-azure-clientip",
        "x-azure-socketip",
        "x-originating-ip",
        "x-remote-ip",
        "x-remote-addr",
        "proxy-client-ip",
        "wl-proxy-client-ip",
        "x-envoy-external-address",
        "x-envoy-expected-rq-timeout-ms",
    ] {
        check(&[], name, Err("Forwarded"));
        check(&["k"], name, YES);
    }
    // What clients send by themselves, and words that only look alike.
    for name in
        ["traceparent", "x-stainless-os", "x-title", "x-zip", "x-trip", "ip", "x-skip", "x-client-request-id"]
    {
        check(&[], name, YES);
    }
    check(&[], "x-request-id", YES);
}

#[test]
fn keys_are_compared_whole() {
    let rules = rules(&["sk-one", "sk-two"]);
    let check = |list: &[(&'static str, &str)], expect: Result<bool, &str>| {
        let list: Vec<_> = [HOST_OK].into_iter().chain(list.iter().copied()).collect();
        same(verdict(&rules, "/v1/models", &list, OURS, Access::Key), expect, &list);
        // An open route lets everybody in and says who is trusted.
        same(verdict(&rules, "/health", &list, OURS, Access::Open), Ok(expect.is_ok()), &list);
        // A Unix socket is no substitute for the key.
        same(verdict(&rules, "/v1/models", &list, UNIX, Access::Key), expect, &list);
    };
    check(&[("authorization", "Bearer sk-one")], YES);
    check(&[("authorization", "Bearer sk-two")], YES);
    check(&[("authorization", "bearer   sk-two  ")], YES);
    check(&[("authorization", "BEARER\tsk-two")], YES);
    check(&[("x-api-key", "sk-one")], YES);
    check(&[("x-api-key", "wrong"), ("authorization", "Bearer sk-one")], YES);
    check(&[("x-api-key", "sk-one"), ("authorization", "Bearer wrong")], YES);
    check(&[], Err("401 false"));
    check(&[("authorization", "Basic c2stb25l")], Err("401 false"));
    check(&[("authorization", "sk-one")], Err("401 false"));
    check(&[("authorization", "Bearersk-one")], Err("401 false"));
    check(&[("authorization", "Bearer")], Err("401 false"));
    check(&[("authorization", "Bearer ")], Err("401 false"));
    check(&[("authorization", "Bearer sk-on")], Err("401 true"));
    check(&[("authorization", "Bearer sk-onee")], Err("401 true"));
    check(&[("authorization", "Bearer SK-ONE")], Err("401 true"));
    check(&[("authorization", "Bearer sk-one sk-two")], Err("401 true"));
    check(&[("x-api-key", "sk-öne")], Err("401 true"));
}

#[test]
fn nothing_that_decides_is_sent_twice() {
    let check = |keys: &[&str], list: &[(&'static str, &str)], expect: &str| {
        let list: Vec<_> = [HOST_OK].into_iter().chain(list.iter().copied()).collect();
        let (uri, headers) = ("/v1/models".parse().unwrap(), headers(&list));
        let head = Head { method: &Method::POST, uri: &uri, headers: &headers };
        for access in [Access::Key, Access::Open] {
            let found = match rules(keys).check(head, OURS, access) {
                Err(Failure::BadRequest { at: None, message }) => message,
                other => format!("{other:?}"),
            };
            assert!(found.starts_with(expect), "{list:?}: {found}");
        }
    };
    let (good, bad) = (("authorization", "Bearer k"), ("authorization", "Bearer wrong"));
    for list in [[good, good], [good, bad], [bad, good], [("authorization", "Basic eA=="), good]] {
        check(&["k"], &list, "The Authorization header must not be sent twice.");
        check(&[], &list, "Ok(Pass { trusted: true");
    }
    let (good, bad) = (("x-api-key", "k"), ("x-api-key", "wrong"));
    for list in [[good, good], [good, bad], [bad, good]] {
        check(&["k"], &list, "The x-api-key header must not be sent twice.");
        check(&[], &list, "Ok(Pass { trusted: true");
    }
}

#[test]
fn a_body_is_chunked_or_has_a_length() {
    let check = |values: &[&str], expect| {
        let coded = values.iter().map(|value| ("transfer-encoding", *value));
        let list: Vec<_> = [HOST_OK].into_iter().chain(coded).collect();
        for peer in [OURS, UNIX] {
            same(verdict(&rules(&[]), "/v1/models", &list, peer, Access::Open), expect, &list);
        }
    };
    check(&["chunked"], YES);
    check(&[" Chunked "], YES);
    for coding in [
        "gzip, chunked",
        "gzip,chunked",
        "chunked, chunked",
        "identity, chunked",
        "gzip",
        "identity",
        "",
        "chunked;q=1",
    ] {
        check(&[coding], Err("400"));
    }
    check(&["gzip", "chunked"], Err("400"));
    check(&["chunked", "chunked"], Err("400"));
}

#[test]
fn a_key_says_who_asks_and_else_the_connection() {
    let check = |keys: &[&str], list: &[(&'static str, &str)], peer, expect: Caller| {
        let list: Vec<_> = [HOST_OK].into_iter().chain(list.iter().copied()).collect();
        let pass = verdict(&rules(keys), "/health", &list, peer, Access::Open).unwrap();
        assert_eq!(pass.caller, expect, "{list:?} {peer:?}");
    };
    let key = |name: &str| Caller::Key(name.into());
    let second = ("authorization", "Bearer two");
    for peer in [OURS, UNIX, REMOTE, Peer::Stranger, Peer::CannotTell] {
        check(&["one", "two"], &[second], peer, key("two's"));
        check(&["one", "two"], &[("x-api-key", "one")], peer, key("one's"));
        check(&["one", "two"], &[("x-api-key", "wrong")], peer, peer.caller());
        check(&["one", "two"], &[], peer, peer.caller());
    }
    check(&[], &[second], OURS, Caller::User(US));
    check(&[], &[second], REMOTE, REMOTE.caller());
}

#[test]
fn without_a_key_any_authorization_is_ignored() {
    let list = [HOST_OK, ("authorization", "Bearer whatever")];
    same(verdict(&rules(&[]), "/v1/models", &list, OURS, Access::Key), YES, &list);
}

#[test]
fn the_first_broken_rule_is_the_answer() {
    let all = [("host", "evil.example"), ("origin", "null"), ("via", "1.1 x")];
    let stranger = Peer::Local(STRANGER);
    let check = |keys: &[&str], from: usize, expect| {
        let list: Vec<_> =
            [HOST_OK].into_iter().skip(usize::from(from == 0)).chain(all[from..].to_vec()).collect();
        same(verdict(&rules(keys), "/v1/models", &list, stranger, Access::Key), Err(expect), &list);
    };
    check(&[], 0, "Host");
    check(&["k"], 0, "Host");
    check(&[], 1, "Origin");
    check(&["k"], 1, "Origin");
    check(&[], 2, "Forwarded");
    check(&[], 3, "Peer");
    check(&["k"], 2, "401 false");
}

#[test]
fn a_unix_socket_needs_no_host() {
    let rules = rules(&[]);
    let check = |list: &[(&'static str, &str)], expect| {
        same(verdict(&rules, "/v1/models", list, UNIX, Access::Key), expect, &list)
    };
    check(&[], YES);
    check(&[("host", "whatever")], YES);
    check(&[("origin", "http://evil.example")], Err("Origin"));
}

#[test]
fn preflights_are_answered_for_allowed_pages_only() {
    let rules = rules(&["key"]);
    let uri: Uri = "/v1/chat/completions".parse().unwrap();
    let ask = |method: Method, list: &[(&'static str, &str)]| {
        let headers = headers(list);
        rules.preflight(Head { method: &method, uri: &uri, headers: &headers }, OURS, "POST, OPTIONS")
    };
    let page = ("origin", "http://localhost:3000");
    let method = ("access-control-request-method", "POST");
    assert!(ask(Method::OPTIONS, &[HOST_OK, page]).is_none());
    assert!(ask(Method::OPTIONS, &[HOST_OK, method]).is_none());
    assert!(ask(Method::POST, &[HOST_OK, page, method]).is_none());
    let refused = ask(Method::OPTIONS, &[HOST_OK, ("origin", "http://evil.example"), method]).unwrap();
    assert!(matches!(refused, Err(Failure::Forbidden { rule: Rule::Origin, .. })));
    let refused = ask(Method::OPTIONS, &[("host", "evil.example"), page, method]).unwrap();
    assert!(matches!(refused, Err(Failure::Forbidden { rule: Rule::Host, .. })));

    let check = |list: &[(&'static str, &str)], expect: &[(&str, &str)]| {
        let list: Vec<_> = [HOST_OK, page, method].into_iter().chain(list.iter().copied()).collect();
        let response = ask(Method::OPTIONS, &list).unwrap().unwrap();
        assert_eq!(response.status(), 204);
        let mut found: Vec<(&str, &str)> =
            response.headers().iter().map(|(name, value)| (name.as_str(), value.to_str().unwrap())).collect();
        let mut expect: Vec<_> = [
            ("vary", "origin"),
            ("access-control-allow-origin", "http://localhost:3000"),
            ("access-control-allow-methods", "POST, OPTIONS"),
            ("access-control-max-age", "600"),
        ]
        .into_iter()
        .chain(expect.iter().copied())
        .collect();
        found.sort();
        expect.sort();
        assert_eq!(found, expect);
    };
    check(&[], &[]);
    check(
        &[("access-control-request-headers", "authorization,x-stainless-os")],
        &[
            ("access-control-allow-headers", "authorization,x-stainless-os"),
            ("vary", "access-control-request-headers"),
        ],
    );
    check(
        &[("access-control-request-private-network", "true")],
        &[("access-control-allow-private-network", "true")],
    );
}

#[test]
fn only_allowed_pages_may_read_answers() {
    let check = |rules: &Rules, list: &[(&'static str, &str)], expect: &[&str]| {
        let mut found = HeaderMap::new();
        rules.cors(&headers(list)).apply(&mut found);
        let names: Vec<&str> = found.keys().map(HeaderName::as_str).collect();
        assert_eq!(names, expect, "{list:?}");
    };
    let some = rules(&[]);
    let all = ["vary", "access-control-allow-origin", "access-control-expose-headers"];
    check(&some, &[("origin", "http://localhost:3000")], &all);
    check(&some, &[("origin", "http://evil.example")], &["vary"]);
    check(&some, &[], &["vary"]);
    let none = Rules { origins: vec![], ..some };
    check(&none, &[("origin", "http://localhost:3000")], &[]);
}

#[test]
fn wrong_settings_are_named() {
    let check = |config: Config, expect: &str| {
        let error = Rules::new(&config).unwrap_err();
        assert!(error.starts_with(expect), "{error}");
    };
    let origin = |origin: &str| Config { allowed_origins: vec![origin.into()], ..Config::default() };
    check(origin("*"), "allowed_origins: `*` is not an origin;");
    check(origin("localhost:3000"), "allowed_origins: `localhost:3000` is not an origin;");
    check(
        Config { allowed_users: vec!["no-such-user-here".into()], ..Config::default() },
        "allowed_users: there is no user",
    );
    assert!(Rules::new(&origin("null")).is_ok());
}
