use std::path::{Path, PathBuf};

use super::*;
use crate::config::schema::Hide;
use crate::config::{Sources, load};

/// Compares a checked-in file with what the table makes of it: corrects the file, then fails.
fn fresh(path: &Path, expect: &str) {
    let found = std::fs::read_to_string(path).unwrap_or_default();
    if found != expect {
        std::fs::write(path, expect).unwrap();
        panic!("{} was out of date and has been written anew: look at it and commit it", path.display());
    }
}

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

#[test]
fn the_example_is_fresh() {
    fresh(&root().join("etc/codex-api-proxy.toml"), &example());
}

/// Compares a generated section of a page likewise.
pub fn section_is_fresh(page: &str, name: &str, expect: &str) {
    // Tests run side by side, and each may write the file.
    static ONE: std::sync::Mutex<()> = std::sync::Mutex::new(());
    let _one = ONE.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    let (begin, end) = (format!("<!-- {name}:begin -->\n"), format!("<!-- {name}:end -->"));
    let path = root().join(page);
    let text = std::fs::read_to_string(&path).unwrap();
    let (before, rest) = text.split_once(&begin).expect("the page has the mark where the section begins");
    let (_, after) = rest.split_once(&end).expect("the page has the mark where the section ends");
    fresh(&path, &format!("{before}{begin}{expect}\n{end}{after}"));
}

#[test]
fn the_tables_of_the_reference_are_fresh() {
    section_is_fresh("packaging/REFERENCE.md", "settings", &super::reference::markdown());
}

#[test]
fn the_example_uncommented_is_the_defaults() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("config.toml");
    let uid = std::os::unix::fs::MetadataExt::uid(&dir.path().metadata().unwrap());
    let sources = Sources { home: Some("/home/me".into()), cwd: "/".into(), uid, ..Sources::default() };
    let uncommented: String = example()
        .lines()
        .filter_map(|line| {
            line.strip_prefix("# ")?.split_once(" = ").map(|(key, value)| (key, value.to_owned()))
        })
        .filter(|(key, _)| match Setting::find(key).map(|setting| &setting.initial) {
            Some(Initial::Unset { .. }) | None => false,
            Some(_) => true,
        })
        .map(|(key, value)| format!("{key} = {value}\n"))
        .collect();
    std::fs::write(&file, &uncommented).unwrap();
    let mut written = load(&Sources { config_file: Some(file), ..sources.clone() }).unwrap();
    written.config.read_from.clear();
    assert_eq!(written.config, load(&sources).unwrap().config);
    let set = SETTINGS.iter().filter(|setting| !matches!(setting.initial, Initial::Unset { .. })).count();
    assert_eq!(uncommented.lines().count(), set);
}

#[test]
fn the_values_shown_for_unset_settings_would_pass() {
    let here = crate::config::schema::Base { home: Some(Path::new("/home/me")), folder: Path::new("/") };
    for setting in SETTINGS {
        if let Initial::Unset { example, .. } = &setting.initial {
            assert!(setting.shape.read_text(example, &here).is_ok(), "{}", setting.key);
        }
    }
}

#[test]
fn no_secret_is_ever_shown() {
    const SECRET: &str = "hunter2";
    let mut seen = 0;
    for setting in SETTINGS {
        let text = match setting.hide {
            Hide::Nothing => continue,
            Hide::All => SECRET.to_owned(),
            Hide::Password => format!("http://user:{SECRET}@host:1"),
            Hide::Overrides => format!("model_providers.x.experimental_bearer_token=\"{SECRET}\""),
        };
        seen += 1;
        let env = vec![(setting.env().into(), text.into())];
        let sources = Sources { home: Some("/h".into()), cwd: "/".into(), env, ..Sources::default() };
        let loaded = load(&sources).unwrap();
        for shown in [
            show(&loaded),
            show_json(&loaded),
            format!("{:?}", loaded.config),
            format!("{loaded:?}"),
            format!("{:#?}", rows(&loaded)),
        ] {
            assert!(!shown.contains(SECRET) && shown.contains("***"), "{}: {shown}", setting.key);
        }
    }
    assert_eq!(seen, 3);
}

#[test]
fn show_names_every_setting_with_its_origin() {
    let sources = Sources {
        home: Some("/h".into()),
        cwd: "/".into(),
        env: vec![("CODEX_PROXY_MODEL_ALIASES".into(), "a=b".into())],
        flags: vec![("port", vec!["80".into()]), ("timeout_seconds", vec!["0.5".into()])],
        ..Sources::default()
    };
    let loaded = load(&sources).unwrap();
    let text = show(&loaded);
    assert_eq!(text.lines().count(), SETTINGS.len());
    for (key, value, origin) in [
        ("port", "80", "flag --port"),
        ("timeout_seconds", "0.5", "flag --timeout-seconds"),
        ("model_aliases", "a=b", "environment CODEX_PROXY_MODEL_ALIASES"),
        ("model", "(not set)", "default"),
        ("default_cwd", "/h/.codex-api-proxy/workspace", "default"),
        ("allowed_roots", "/h/.codex-api-proxy/workspace", "default"),
    ] {
        assert!(text.contains(&format!("{key:<28} {value:<32} # {origin}\n")), "{key}: {text}");
    }
    let json: Json = serde_json::from_str(&show_json(&loaded)).unwrap();
    assert_eq!(json["settings"]["port"], json!({"value": 80, "origin": {"kind": "flag", "flag": "--port"}}));
    assert_eq!(json["settings"]["timeout_seconds"]["value"], json!(0.5));
    assert_eq!(json["settings"]["drain_seconds"]["value"], json!(30));
    assert_eq!(json["settings"]["model_aliases"]["value"], json!({"a": "b"}));
    assert_eq!(json["settings"]["model"]["value"], Json::Null);
    assert_eq!(json["settings"]["ephemeral"]["value"], json!(true));
    assert_eq!(json["settings"]["max_body_bytes"]["value"], json!(33554432));
}
