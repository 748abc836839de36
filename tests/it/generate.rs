//! What packages take from the program: manual pages and completions that know every verb and setting.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::Value;

use codex_api_proxy::SETTINGS;

use crate::support::{Setup, skipped};

const PAGES: [&str; 4] =
    ["codex-api-proxy.1", "codex-api-proxy.toml.5", "codex-api-proxy-api.7", "codex-api-proxy.service.8"];

/// Every verb as it is typed.
const VERBS: [&str; 21] = [
    "start",
    "stop",
    "restart",
    "status",
    "logs",
    "usage",
    "serve",
    "doctor",
    "install",
    "uninstall",
    "config show",
    "config check",
    "config path",
    "config init",
    "config set",
    "config unset",
    "generate man",
    "generate completions",
    "generate config",
    "generate units",
    "help",
];

fn printed(setup: &Setup, arguments: &[&str]) -> String {
    let output = setup.command(arguments).output().unwrap();
    assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// A folder with the pages, and the text of each.
fn pages(setup: &Setup) -> (PathBuf, Vec<String>) {
    let folder = setup.scratch().dir("man");
    let said = printed(setup, &["generate", "man", "--output", folder.to_str().unwrap()]);
    let paths: Vec<String> = PAGES.iter().map(|page| folder.join(page).display().to_string()).collect();
    assert_eq!(said.lines().collect::<Vec<_>>(), paths);
    let texts = paths.iter().map(|path| std::fs::read_to_string(path).unwrap()).collect();
    (folder, texts)
}

/// Whether the program is there to be run.
fn installed(program: &str) -> bool {
    let found = std::env::split_paths(&std::env::var_os("PATH").unwrap_or_default())
        .any(|folder| folder.join(program).is_file());
    if !found {
        skipped(&format!("{program} is not installed"));
    }
    found
}

/// Roff as it was before characters of the keyboard were written so that they can be copied.
fn unescaped(text: &str) -> String {
    text.replace("\\-", "-").replace("\\(aq", "'").replace("\\fB", "").replace("\\fR", "")
}

#[test]
fn pages_name_every_verb_and_every_setting() {
    let (setup, _codex) = Setup::fake("");
    let (_, texts) = pages(&setup);
    let [program, settings, api, service]: [String; 4] =
        texts.iter().map(|text| unescaped(text)).collect::<Vec<_>>().try_into().unwrap();
    let document: Value = serde_json::from_str(include_str!("../../src/api/openapi.json")).unwrap();
    let names = |value: &Value| -> Vec<String> { value.as_object().unwrap().keys().cloned().collect() };
    let mut told = names(&document["components"]["headers"]);
    told.extend(names(&document["x-error-codes"]));
    for (name, schema) in document["components"]["schemas"].as_object().unwrap() {
        if name.ends_with("Request") && schema["properties"].is_object() {
            told.extend(names(&schema["properties"]));
        }
    }
    for (path, item) in document["paths"].as_object().unwrap() {
        let methods = item.as_object().unwrap().iter().filter(|(_, operation)| operation.is_object());
        told.extend(methods.map(|(method, _)| format!("{} {path}", method.to_uppercase())));
    }
    assert!(told.len() > 100, "{}", told.len());
    for name in told {
        let found = api.lines().any(|line| line.trim_start_matches("\\&") == name);
        assert!(found, "{name}");
    }
    for verb in VERBS.iter().filter(|verb| **verb != "help") {
        let heading = format!(".SS {verb}");
        let found = program.lines().any(|line| {
            line.strip_prefix(&heading).is_some_and(|rest| rest.is_empty() || rest.starts_with(' '))
        });
        assert!(found, "{verb}");
    }
    for setting in SETTINGS {
        let flags = program.lines().filter(|line| {
            line.strip_prefix("--")
                .and_then(|line| line.strip_prefix(setting.flag))
                .is_some_and(|rest| rest.starts_with([' ', '[']))
        });
        assert_eq!(flags.count(), 1, "--{} stands once", setting.flag);
        assert!(
            settings.contains(&format!(".TP\n{}\n{}", setting.key, setting.doc().split('`').next().unwrap())),
            "{}",
            setting.key
        );
        for part in [format!("Option: --{}\n", setting.flag), format!("Variable: {}\n", setting.env())] {
            assert!(settings.contains(&part), "{part}");
        }
    }
    // Where packages put things: what installs elsewhere replaces these.
    assert!(
        program.contains("/usr/share/doc/codex-api-proxy") && service.contains("/usr/bin/codex-api-proxy")
    );
    for (text, name) in texts.iter().zip(PAGES) {
        assert!(!text.contains("@VERSION@") && text.lines().all(|line| !line.starts_with('@')), "{name}");
        assert!(text.starts_with(".TH ") && text.contains(env!("CARGO_PKG_VERSION")), "{name}");
        assert!(!text.contains('`') && text.is_ascii(), "{name}");
    }
    let all = printed(&setup, &["generate", "man"]);
    assert!(texts.iter().all(|text| all.contains(text)), "without a folder they are printed");
}

#[test]
fn pages_are_clean_roff() {
    let (setup, _codex) = Setup::fake("");
    let (folder, _) = pages(&setup);
    let check = |program: &str, arguments: &[&str], page: &Path| {
        let mut command = Command::new(program);
        command.args(arguments).arg(page).env("LC_ALL", "C.UTF-8").env("MANWIDTH", "80");
        let output = command.output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        (output.status.success(), said, String::from_utf8_lossy(&output.stdout).into_owned())
    };
    for page in PAGES.map(|page| folder.join(page)) {
        if installed("mandoc") {
            let (good, said, out) = check("mandoc", &["-T", "lint", "-W", "warning"], &page);
            assert!(good, "{said}{out}");
        }
        if installed("man") {
            let (good, said, out) = check("man", &["--warnings", "-l"], &page);
            assert!(good && said.is_empty(), "{}: {said}", page.display());
            // What is copied from a page must run: no typographic hyphens and quotes.
            assert!(!out.contains(['\u{2010}', '\u{2019}', '\u{2dc}']), "{out}");
        }
    }
}

#[test]
fn completions_name_every_verb_and_every_setting() {
    let (setup, _codex) = Setup::fake("");
    for shell in ["bash", "zsh", "fish"] {
        let script = printed(&setup, &["generate", "completions", shell]);
        let long = if shell == "fish" { "-l " } else { "--" };
        for setting in SETTINGS {
            for word in [format!("{long}{}", setting.flag), setting.key.to_owned()] {
                assert!(script.contains(&word), "{shell}: {word}");
            }
        }
        for verb in VERBS.iter().flat_map(|verb| verb.split(' ')) {
            assert!(script.contains(verb), "{shell}: {verb}");
        }
        assert!(!script.contains("pid-file"), "{shell}: what does nothing is not proposed");
        if installed(shell) {
            let file = setup.scratch().write(&format!("completions/{shell}"), &script);
            let parsed = Command::new(shell).arg("-n").arg(file).output().unwrap();
            assert!(parsed.status.success() && parsed.stderr.is_empty(), "{shell}: {parsed:?}");
        }
    }
    let refused = setup.command(&["generate", "completions", "tcsh"]).output().unwrap();
    assert_eq!(refused.status.code(), Some(64));
    assert!(String::from_utf8_lossy(&refused.stderr).contains("bash, zsh, fish"));
}

#[test]
fn bash_completes_verbs_flags_values_files_and_keys() {
    let (setup, _codex) = Setup::fake("");
    if !installed("bash") {
        return;
    }
    let folder = setup.scratch().dir("here");
    std::fs::write(folder.join("keys.txt"), "").unwrap();
    std::fs::create_dir(folder.join("src")).unwrap();
    let script =
        setup.scratch().write("completions/bash", &printed(&setup, &["generate", "completions", "bash"]));
    // As readline does it: the words, the place of the last, and the command, the word, the one before.
    const DRIVE: &str = r#"
        source "$1"; shift
        compopt() { asked="$*"; }
        COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); COMPREPLY=(); asked=
        name=$(complete -p codex-api-proxy); name=${name#*-F }; name=${name%% *}
        "$name" codex-api-proxy "${COMP_WORDS[COMP_CWORD]}" "${COMP_WORDS[COMP_CWORD - 1]}"
        echo "${COMPREPLY[*]} $asked""#;
    let all: Vec<&str> = SETTINGS.iter().map(|setting| setting.key).collect();
    for (line, expect) in [
        ("st", "start stop status"),
        ("config ", "-h --help show check path init set unset help"),
        ("start --eng", "--engine"),
        ("start --engine ", "exec app-server"),
        ("start --engine app", "app-server"),
        ("serve --log-target ", "auto journald oslog stderr"),
        ("config set max_q", "max_queue_size"),
        ("config unset api_", "api_key api_key_file"),
        ("config set ", &format!("-h --help {}", all.join(" "))),
        ("generate completions ", "-h --help bash zsh fish"),
        ("serve --api-key-file ke", "keys.txt -o filenames"),
        ("serve --default-cwd ", "-o plusdirs"),
        ("generate man --output ", "-o plusdirs"),
        ("status --pid", ""),
    ] {
        let words = format!("codex-api-proxy {line}");
        let output = Command::new("bash")
            .args(["--norc", "-c", DRIVE, "bash"])
            .arg(&script)
            .args(words.split(' '))
            .current_dir(&folder)
            .stdin(Stdio::null())
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&output.stdout);
        assert_eq!(said.trim(), expect, "{line}: {}", String::from_utf8_lossy(&output.stderr));
    }
}

#[test]
fn fish_completes_verbs_flags_values_and_keys() {
    let (setup, _codex) = Setup::fake("");
    if !installed("fish") {
        return;
    }
    let script =
        setup.scratch().write("completions/fish", &printed(&setup, &["generate", "completions", "fish"]));
    for (line, expect) in [
        ("st", vec!["start", "status", "stop"]),
        ("start --eng", vec!["--engine"]),
        ("start --engine ", vec!["app-server", "exec"]),
        ("config unset api_", vec!["api_key", "api_key_file"]),
        ("config set max_q", vec!["max_queue_size"]),
        ("generate completions ", vec!["bash", "fish", "zsh"]),
    ] {
        let output = Command::new("fish")
            .args(["--no-config", "-c", "source $argv[1]; complete -C $argv[2]"])
            .arg(&script)
            .arg(format!("codex-api-proxy {line}"))
            .env("HOME", setup.scratch().dir("fish-home"))
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&output.stdout);
        let words: Vec<&str> = said.lines().filter_map(|line| line.split('\t').next()).collect();
        assert_eq!(words, expect, "{line}: {}", String::from_utf8_lossy(&output.stderr));
    }
}
