//! What public suites give: `tests/data/scores.json` holds what was measured, each suite's test fails when it
//! measures anything else, and the README's table is made from it.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;

fn path(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(name)
}

fn all() -> Vec<Value> {
    serde_json::from_str(&fs::read_to_string(path("tests/data/scores.json")).unwrap()).unwrap()
}

/// That a suite gives what is written down: how many passed, and how many did not for each reason.
pub fn hold(suite: &str, measured: &Value) {
    let scores = all();
    let written = scores.iter().find(|score| score["suite"] == suite).unwrap_or(&Value::Null);
    for of in ["passed", "not_passed"] {
        assert_eq!(
            measured[of], written[of],
            "{suite}: {of} in tests/data/scores.json is not what was measured: {measured:#}"
        );
    }
}

/// That the version written down is the one that is installed: its list names it.
#[test]
fn versions_are_those_that_are_installed() {
    for score in all() {
        let (list, line) = (score["list"].as_str().unwrap(), score["pin"].as_str().unwrap());
        let list = fs::read_to_string(path(list)).unwrap();
        let pinned = list.lines().any(|pin| pin.trim().trim_end_matches(',') == line);
        assert!(pinned && line.contains(score["version"].as_str().unwrap()), "{line}");
    }
}

#[test]
fn the_table_of_the_readme_is_what_was_measured() {
    let mut table = String::from(
        "\n| suite | version | passed | what is not, and why | measured |\n|---|---|---|---|---|\n",
    );
    for score in all() {
        let text = |name: &str| score[name].as_str().unwrap().to_owned();
        let others: u64 =
            score["not_passed"].as_object().unwrap().values().map(|count| count.as_u64().unwrap()).sum();
        let passed = score["passed"].as_u64().unwrap();
        table += &format!(
            "| {} | {} | {passed} of {} | {} | {} |\n",
            text("suite"),
            text("version"),
            passed + others,
            text("why"),
            text("date")
        );
    }
    let (begin, end) = ("<!-- scores:begin -->\n", "<!-- scores:end -->");
    let readme = fs::read_to_string(path("README.md")).unwrap();
    let (before, rest) = readme.split_once(begin).expect("README.md has the mark where the table begins");
    let (found, after) = rest.split_once(end).expect("README.md has the mark where the table ends");
    let table = format!("{table}\n");
    if found != table {
        fs::write(path("README.md"), format!("{before}{begin}{table}{end}{after}")).unwrap();
        panic!(
            "the table of scores in README.md was out of date and has been written anew: look at it and commit it"
        );
    }
}
