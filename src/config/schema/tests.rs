use std::collections::BTreeSet;
use std::path::Path;

use super::*;
use crate::config::{Config, Origin, SETTINGS, Sources, edit, load};

/// A text for each setting that is not its default.
fn sample(setting: &Setting) -> String {
    match (setting.key, &setting.shape) {
        ("host" | "allowed_hosts", _) => "10.0.0.1".into(),
        ("port", _) => "0".into(),
        ("allowed_origins", _) => "https://example.com".into(),
        ("api_key", _) => "12345".into(),
        ("api_key_file", _) => "/keys".into(),
        ("proxy", _) => "http://u:p@127.0.0.1:8118".into(),
        ("model", _) => "gpt-x".into(),
        ("model_aliases", _) => "a=b;;*=c/d".into(),
        ("codex_configs", _) => "a=\"x=1,2:3\"".into(),
        ("codex_bin", _) => "/bin/codex".into(),
        ("default_cwd", _) => "/roots/cwd".into(),
        ("allowed_roots", _) => "/".into(),
        ("log_level", _) => "debug".into(),
        (_, Shape::Text(_) | Shape::List(..)) => "SOME_name".into(),
        (_, Shape::Choice(names)) => names[names.len() - 1].into(),
        (_, Shape::Switch) if setting.key == "ephemeral" => "no".into(),
        (_, Shape::Switch) => "yes".into(),
        (_, Shape::Count { least, .. }) => (least + 2).to_string(),
        (_, Shape::Seconds { .. }) => "1.5".into(),
        (_, Shape::Path | Shape::Program | Shape::Pairs) => "/somewhere".into(),
    }
}

#[test]
fn flag_variable_and_file_give_the_same_settings() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("config.toml");
    let plain = Sources {
        home: Some("/home/me".into()),
        cwd: "/".into(),
        uid: std::os::unix::fs::MetadataExt::uid(&dir.path().metadata().unwrap()),
        ..Sources::default()
    };
    // What some settings need before they can be set.
    let needed = |key: &str| match key {
        "default_cwd" => vec![("allowed_roots", vec!["/".to_owned()])],
        "max_buffered_bytes" => vec![("max_body_bytes", vec!["1".to_owned()])],
        _ => vec![],
    };
    let keys = dir.path().join("keys");
    std::fs::write(&keys, "k").unwrap();
    for setting in SETTINGS {
        let text = match setting.key {
            "api_key_file" => keys.to_str().unwrap().to_owned(),
            _ => sample(setting),
        };
        let plain = Sources { flags: needed(setting.key), ..plain.clone() };
        let by = |sources: Sources, kind: &str| -> Config {
            let loaded =
                load(&sources).unwrap_or_else(|errors| panic!("{} by {kind}: {errors}", setting.key));
            let origin = &loaded.origins[setting.key];
            let right = match kind {
                "flag" => *origin == Origin::Flag(format!("--{}", setting.flag)),
                "variable" => *origin == Origin::Environment(setting.env()),
                _ => *origin == Origin::File(file.clone()),
            };
            assert!(right, "{} by {kind}: {origin:?}", setting.key);
            loaded.config
        };
        let mut flags = plain.flags.clone();
        flags.push((setting.key, vec![text.clone()]));
        let flag = by(Sources { flags, ..plain.clone() }, "flag");
        let env = vec![(setting.env().into(), text.clone().into())];
        let variable = by(Sources { env, ..plain.clone() }, "variable");
        let base = Base { home: None, folder: Path::new("/") };
        std::fs::write(&file, edit::set("", setting.key, &[text], &base).unwrap()).unwrap();
        let mut by_file = by(Sources { config_file: Some(file.clone()), ..plain.clone() }, "file");
        assert_eq!(by_file.read_from.pop(), Some(file.clone()));

        assert_eq!(flag, variable, "{}", setting.key);
        assert_eq!(flag, by_file, "{}", setting.key);
        assert_ne!(flag, load(&plain).unwrap().config, "{} keeps its default", setting.key);
    }
}

#[test]
fn the_table_is_consistent() {
    let mut names =
        BTreeSet::from(["config".to_owned(), "pid-file".into(), "log-file".into(), "state-file".into()]);
    for setting in SETTINGS {
        let doc = setting.doc();
        assert!(names.insert(setting.flag.to_owned()), "--{} twice", setting.flag);
        assert!(names.insert(setting.env()), "{} twice", setting.env());
        assert!(doc.ends_with('.') && !doc.ends_with(".."), "{}: {doc}", setting.key);
        assert!(!doc.trim_end_matches('.').contains(". "), "{}: more than one sentence: {doc}", setting.key);
        assert!(doc.starts_with(|c: char| c.is_uppercase()), "{}: {doc}", setting.key);
        let dashed = setting.key.replace('_', "-");
        let expect = if setting.one_entry { dashed.trim_end_matches('s') } else { &dashed };
        assert_eq!(setting.flag, expect);
        assert!(!doc.contains(['|', '\n']), "{}: breaks the table of the README", setting.key);
    }
}

#[test]
fn lists_by_flag() {
    let base = Base { home: None, folder: Path::new("/w") };
    for (key, texts, expect) in [
        ("allowed_roots", &["a", "b:c"][..], "/w/a:/w/b:c"),
        ("codex_configs", &["a=1;;2", "b=3"], "a=1;;2;;b=3"),
        ("codex_configs", &[""], ""),
        ("allowed_hosts", &["a,b", "c"], "a,b,c"),
        ("model_aliases", &["a=b", "c=d;;e=f"], "a=b;;c=d;;e=f"),
    ] {
        let setting = Setting::find(key).unwrap();
        let texts: Vec<String> = texts.iter().map(|text| (*text).to_owned()).collect();
        assert_eq!(setting.to_text(&setting.read_flags(&texts, &base).unwrap()), expect, "{key}");
    }
}
