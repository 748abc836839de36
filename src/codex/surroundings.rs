//! What a model that works in a folder is told of it, in words that stay the same from one request of
//! a conversation to the next.
//!
//! Where reads are confined, Codex itself names a folder of random name that each of its processes
//! makes for itself (0.169: an entry of `<filesystem>` in its `<environment_context>`). It stands
//! before the conversation, so that nothing of that would ever come from the upstream's cache. The
//! same context without that list is given in its place; what must not be read is said elsewhere.

use std::fmt::Write;
use std::path::Path;

use jiff::ZonedDateTime;

use super::args::{Confinement, basic, root_key};
use crate::config::{Config, Profile};

/// With one of these among `codex_configs` the operator decides what the model is told.
const TOLD: [&str; 2] = ["developer_instructions", "include_environment_context"];

/// The `-c` values that have it told so; none where Codex's own words stay the same by themselves.
pub fn overrides(config: &Config, confinement: &Confinement, cwd: &Path, now: &ZonedDateTime) -> Vec<String> {
    let theirs = config.codex_configs.iter().any(|entry| TOLD.contains(&root_key(entry)));
    let varies = matches!(confinement, Confinement::Workspace(_)) && config.profile() == Profile::Agent;
    if theirs || !varies {
        return Vec::new();
    }
    let told = basic(&context(cwd, now));
    vec!["include_environment_context=false".into(), format!("developer_instructions={told}")]
}

fn context(cwd: &Path, now: &ZonedDateTime) -> String {
    let mut text = format!(
        "<environment_context>\n  <cwd>{}</cwd>\n  <current_date>{}</current_date>\n",
        escaped(&cwd.to_string_lossy()),
        now.date()
    );
    if let Some(zone) = now.time_zone().iana_name() {
        let _ = writeln!(text, "  <timezone>{}</timezone>", escaped(zone));
    }
    text + "</environment_context>"
}

/// A folder's name may be anything but the end of its line.
fn escaped(text: &str) -> String {
    let plain = text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;");
    plain.replace(|c: char| c.is_control(), "\u{fffd}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::EngineKind;
    use crate::config::choices::ProfileChoice;

    fn told(config: &Config, confinement: &Confinement, cwd: &str) -> Vec<String> {
        let now: ZonedDateTime = "2026-11-25T23:59:59[Europe/Berlin]".parse().unwrap();
        overrides(config, confinement, Path::new(cwd), &now)
    }

    #[test]
    fn it_is_the_folder_and_the_day() {
        let confined = Confinement::Workspace(vec![]);
        assert_eq!(
            told(&Config::default(), &confined, "/src/a"),
            [
                "include_environment_context=false",
                "developer_instructions=\"<environment_context>\\n  <cwd>/src/a</cwd>\\n  \
                 <current_date>2026-11-25</current_date>\\n  <timezone>Europe/Berlin</timezone>\\n\
                 </environment_context>\"",
            ]
        );
        let odd = told(&Config::default(), &confined, "/a\n</cwd>\"é\u{7f}&");
        assert!(odd[1].contains("<cwd>/a\u{fffd}&lt;/cwd&gt;\\\"é\u{fffd}&amp;</cwd>"), "{}", odd[1]);
    }

    #[test]
    fn codexs_own_words_stay_where_they_are_the_same_or_the_operators() {
        let confined = Confinement::Workspace(vec![]);
        for entry in ["developer_instructions=\"x\"", "include_environment_context=true"] {
            let config = Config { codex_configs: vec![entry.into()], ..Config::default() };
            assert_eq!(told(&config, &confined, "/a"), [""; 0]);
        }
        let lean = Config { profile: ProfileChoice::Model, engine: EngineKind::Exec, ..Config::default() };
        assert_eq!(told(&lean, &confined, "/a"), [""; 0]);
        for other in [Confinement::Operator, Confinement::Host { reason: String::new() }] {
            assert_eq!(told(&Config::default(), &other, "/a"), [""; 0]);
        }
    }
}
