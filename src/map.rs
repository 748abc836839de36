//! The map of `lib.rs`, held against what the files really import.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

/// Words that belong to some files only, as `lib.rs` claims: the word, and where it may stand.
const WORDS: [(&str, &[&str]); 3] = [
    ("warp::", &["api/", "cli/serve"]),
    ("clap::", &["config/flags.rs", "cli/"]),
    ("serde_json::Value", &["api/", "cli/", "clients/tests", "codex/", "config/", "engine/", "observe/"]),
];

fn source() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("src")
}

/// Every file of the program below `folder`, by its path from `src`, but for this one.
fn files(folder: &Path, found: &mut Vec<(String, String)>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files(&path, found);
        } else if path.extension().is_some_and(|end| end == "rs") && !path.ends_with("map.rs") {
            let name = path.strip_prefix(source()).unwrap().to_str().unwrap().to_owned();
            found.push((name, std::fs::read_to_string(&path).unwrap()));
        }
    }
}

/// The floors of the table in `lib.rs`, and what each may name.
fn floors() -> BTreeMap<String, BTreeSet<String>> {
    let text = std::fs::read_to_string(source().join("lib.rs")).unwrap();
    let rows = text.lines().filter_map(|line| line.strip_prefix("//! | [`"));
    let floor = |row: &str| {
        let mut cells = row.split('|').map(str::trim);
        let name = cells.next().unwrap().trim_end_matches("`]").to_owned();
        let named = cells.next().unwrap().split(", ").filter(|named| *named != "nobody");
        (name, named.map(str::to_owned).collect())
    };
    rows.map(floor).collect()
}

/// The floors that a line of code names, as the first step of a path from the crate's root.
fn named(line: &str, depth: usize) -> Vec<String> {
    let word = |text: &str| {
        let end = text.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(text.len());
        text[..end].to_owned()
    };
    let root = "super::".repeat(depth);
    let mut found = Vec::new();
    for root in ["crate::", &root] {
        for (at, _) in line.match_indices(root) {
            let before = line[..at].chars().next_back();
            if before.is_some_and(|c| c.is_ascii_alphanumeric() || c == '_' || c == ':') {
                continue;
            }
            match line[at + root.len()..].strip_prefix('{') {
                None => found.push(word(&line[at + root.len()..])),
                // `use crate::{a::b, c}`: every word that a brace or comma stands before.
                Some(group) => found.extend(group.split(['{', ',']).map(|part| word(part.trim()))),
            }
        }
    }
    found
}

#[test]
fn imports_follow_the_arrows_of_the_map() {
    let floors = floors();
    let mut sources = Vec::new();
    files(&source(), &mut sources);
    let mut against = Vec::new();
    for (file, text) in &sources {
        let mut steps: Vec<&str> = file.trim_end_matches(".rs").split('/').collect();
        steps.pop_if(|last| *last == "mod");
        let floor = steps[0];
        let Some(allowed) = floors.get(floor) else {
            assert!(["lib", "main", "names"].contains(&floor), "{file} is on no floor of the map in lib.rs");
            continue;
        };
        for (number, line) in text.lines().enumerate().map(|(at, line)| (at + 1, line.trim_start())) {
            if line.starts_with("//") {
                continue;
            }
            for other in named(line, steps.len()) {
                if other != floor && floors.contains_key(&other) && !allowed.contains(&other) {
                    against.push(format!("src/{file}:{number}: {floor} names {other}"));
                }
            }
            for (word, places) in WORDS {
                if line.contains(word) && !places.iter().any(|place| file.starts_with(place)) {
                    against.push(format!("src/{file}:{number}: {word} has no business here"));
                }
            }
        }
    }
    assert!(against.is_empty(), "not as lib.rs says:\n{}", against.join("\n"));
}

#[test]
fn the_map_has_every_folder_and_no_circle() {
    let floors = floors();
    let entries = std::fs::read_dir(source()).unwrap().map(|entry| entry.unwrap().path());
    let folders: BTreeSet<String> = entries
        .filter(|path| path.is_dir())
        .map(|path| path.file_name().unwrap().to_str().unwrap().to_owned())
        .collect();
    assert_eq!(floors.keys().cloned().collect::<BTreeSet<_>>(), folders);
    let mut left = floors;
    while !left.is_empty() {
        let above: BTreeSet<String> = left.keys().cloned().collect();
        left.retain(|_, named| !named.is_disjoint(&above));
        assert!(left.len() < above.len(), "these name each other: {above:?}");
    }
}

#[test]
fn paths_are_found_however_they_are_written() {
    for (line, depth, expect) in [
        ("use crate::turn::Turn;", 2, &["turn"][..]),
        ("use crate::{api, turn::{At, Turn}};", 2, &["api", "turn", "At", "Turn"]),
        ("let x = crate::os::memory::used();", 2, &["os"]),
        ("$crate::config::table::Field", 2, &["config"]),
        ("use super::super::engine::Engine;", 2, &["engine"]),
        ("use super::engine::Engine;", 2, &[]),
        ("use mycrate::turn;", 2, &[]),
    ] {
        assert_eq!(named(line, depth), expect, "{line}");
    }
}
