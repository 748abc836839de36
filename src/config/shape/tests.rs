use super::*;
use crate::config::schema::Setting;

fn base() -> Base<'static> {
    Base { home: Some(Path::new("/home/me")), folder: Path::new("/srv") }
}

/// Each row: the key, the text of a variable, and its normal form or the end of its message.
#[test]
fn texts() {
    for (key, text, expect) in [
        ("port", "0", Ok("0")),
        ("port", "65535", Ok("65535")),
        ("port", "65536", Err("a whole number from 0 to 65535, not `65536`")),
        ("port", "-1", Err("a whole number from 0 to 65535, not `-1`")),
        ("port", "80.0", Err("a whole number from 0 to 65535, not `80.0`")),
        ("workers", "1", Ok("1")),
        ("workers", "0", Err("a whole number from 1 to 256, not `0`")),
        ("workers", "257", Err("a whole number from 1 to 256, not `257`")),
        ("turns_per_worker", "0", Err("a whole number from 1 to 1024, not `0`")),
        ("max_concurrency", "0", Err("a whole number from 1 to 1024, not `0`")),
        ("max_queue_size", "0", Ok("0")),
        ("max_connections", "0", Err("a whole number from 1 to 1000000, not `0`")),
        ("max_body_bytes", "0", Err("a whole number from 1 to 1099511627776, not `0`")),
        ("max_body_bytes", "32M", Err("a whole number from 1 to 1099511627776, not `32M`")),
        ("prewarm", "64", Ok("64")),
        ("prewarm", "65", Err("a whole number from 0 to 64, not `65`")),
        ("timeout_seconds", "0.5", Ok("0.5")),
        ("timeout_seconds", "0.01", Ok("0.01")),
        ("timeout_seconds", "0", Err("a number of seconds from 0.01 to 31536000, not `0`")),
        ("timeout_seconds", "31536000", Ok("31536000")),
        ("timeout_seconds", "31536001", Err("a number of seconds from 0.01 to 31536000, not `31536001`")),
        ("timeout_seconds", "nan", Err("a number of seconds from 0.01 to 31536000, not `nan`")),
        ("timeout_seconds", "inf", Err("a number of seconds from 0.01 to 31536000, not `inf`")),
        ("idle_exit_seconds", "0", Ok("0")),
        ("queue_timeout_seconds", "-1", Err("a number of seconds from 0 to 31536000, not `-1`")),
        ("ephemeral", "YES", Ok("true")),
        ("ephemeral", "0", Ok("false")),
        ("ephemeral", "on", Err("yes or no (1, true, yes, 0, false, no; in files true or false), not `on`")),
        ("engine", "app-server", Ok("app-server")),
        ("engine", "appserver", Err("one of exec, app-server, not `appserver`")),
        ("default_cwd", "~", Ok("/home/me")),
        ("default_cwd", "~/a b", Ok("/home/me/a b")),
        ("default_cwd", "./a//b/.", Ok("/srv/a/b")),
        ("default_cwd", "../a", Ok("/srv/../a")),
        ("default_cwd", "~root/a", Err("a path in which ~ stands alone or before a slash, not `~root/a`")),
        ("default_cwd", "", Err("a path, not ``")),
        ("codex_bin", "codex", Ok("codex")),
        ("codex_bin", "./codex", Ok("/srv/codex")),
        ("codex_bin", "~/bin/codex", Ok("/home/me/bin/codex")),
        ("allowed_roots", "/a: b:", Ok("/a:/srv/b")),
        ("codex_configs", "a=1;;b=x;y;;", Ok("a=1;;b=x;y")),
        (
            "codex_configs",
            "a",
            Err("key=value (as for codex -c), without NUL characters (the value is not shown)"),
        ),
        ("pass_env", "A, B_1", Ok("A,B_1")),
        (
            "model_aliases",
            "a=b;;*=c=",
            Err("names for a model name ([A-Za-z0-9][A-Za-z0-9._:/-]{0,127}), not `c=`"),
        ),
        ("model_aliases", " a = b ;; * = c ", Ok("a=b;;*=c")),
        ("model_aliases", "a=b;;a=c", Err("names that differ, not `a`")),
        (
            "model_aliases",
            "a",
            Err("names and models, as {\"name\" = \"model\"} or name=model;;name=model, not `a`"),
        ),
    ] {
        let setting = Setting::find(key).unwrap();
        let found = setting.shape.read_text(text, &base());
        let found = found.map(|value| setting.to_text(&value)).map_err(|bad| setting.explain(&bad));
        let expect = expect.map(str::to_owned).map_err(|end| format!("{key} must be {end}"));
        assert_eq!(found, expect, "{key} {text:?}");
    }
}

/// Each row: an entry of a file, and its normal form if it passes.
#[test]
fn toml() {
    for (entry, expect) in [
        ("port = 80", Some("80")),
        ("port = \"80\"", None),
        ("port = 80.0", None),
        ("port = -1", None),
        ("timeout_seconds = 1", Some("1")),
        ("timeout_seconds = 1.5", Some("1.5")),
        ("timeout_seconds = \"1\"", None),
        ("timeout_seconds = nan", None),
        ("ephemeral = false", Some("false")),
        ("ephemeral = \"false\"", None),
        ("ephemeral = 0", None),
        ("api_key = \"12345\"", Some("12345")),
        ("api_key = 12345", None),
        ("api_key = \"\"", None),
        ("model = \"\"", None),
        ("engine = \"exec\"", Some("exec")),
        ("default_cwd = \"sub\"", Some("/srv/sub")),
        ("default_cwd = \"a\\u0000\"", None),
        ("allowed_hosts = [\"B\", \"a\"]", Some("b,a")),
        ("allowed_hosts = []", Some("")),
        ("allowed_hosts = \"a,b\"", None),
        ("allowed_hosts = [1]", None),
        ("model_aliases = { z = \"1\", a = \"2\" }", Some("z=1;;a=2")),
        ("[model_aliases]\nz = \"1\"\n\"*\" = \"2\"", Some("z=1;;*=2")),
        ("model_aliases = [\"a=b\"]", None),
        ("model_aliases = { a = 1 }", None),
        ("[[port]]", None),
        ("[port]", None),
        ("port = 1979-05-27", None),
    ] {
        let document = entry.parse::<toml_edit::DocumentMut>().unwrap();
        let (key, item) = document.iter().next().unwrap();
        let setting = Setting::find(key).unwrap();
        let found = setting.shape.read_toml(item, &base()).ok();
        assert_eq!(found.map(|value| setting.to_text(&value)).as_deref(), expect, "{entry}");
    }
}

#[test]
fn without_a_home_a_tilde_is_refused() {
    let base = Base { home: None, ..base() };
    let error = Shape::Path.read_text("~/x", &base).unwrap_err();
    assert!(Setting::find("login_home").unwrap().explain(&error).contains("HOME is not set"));
}

#[test]
fn long_values_are_cut_and_control_characters_escaped() {
    let setting = Setting::find("engine").unwrap();
    let bad = setting.shape.read_text(&format!("\x1b{}", "x".repeat(100)), &base()).unwrap_err();
    let found = setting.explain(&bad);
    assert!(found.ends_with(&format!("\\u{{1b}}{}…`", "x".repeat(79))), "{found}");
}
