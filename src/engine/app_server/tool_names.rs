//! Function names that Codex would refuse, or take for its own, and their stand-ins.

use std::borrow::Cow;
use std::collections::{HashMap, HashSet};

use crate::config::{Config, Profile, ToolTransport};
use crate::turn::{Item, Tool};

/// Put before a name that cannot go out as it is.
const PREFIX: &str = "client_";

/// The longest name the upstream takes.
const LONGEST: usize = 64;

/// Not offered to the model at all where the shell is off (measured with 0.169).
const ALWAYS_TAKEN: &[&str] = &["exec_command"];

/// Tools Codex itself offers where it works as an agent.
const TAKEN_BY_THE_AGENT: &[&str] = &[
    "apply_patch",
    "exec",
    "js_repl",
    "list_mcp_resource_templates",
    "list_mcp_resources",
    "local_shell",
    "read_mcp_resource",
    "request_user_input",
    "shell",
    "shell_command",
    "spawn_agent",
    "update_plan",
    "view_image",
    "wait",
    "web_search",
    "write_stdin",
];

/// Which names Codex has for itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Taken {
    /// Those it acts on in any case: tools go as an item that it does not read.
    Few,
    /// Those it refuses as functions too.
    ByFunctions,
    /// Those of its own tools too.
    ByAgent,
}

impl Taken {
    /// Under these settings.
    pub fn of(config: &Config) -> Taken {
        match (config.profile(), config.tool_transport) {
            (Profile::Agent, _) => Taken::ByAgent,
            (Profile::Model, ToolTransport::Dynamic) => Taken::ByFunctions,
            (Profile::Model, ToolTransport::Items) => Taken::Few,
        }
    }
}

/// The stand-ins of one request, for full names. Those that can go out unchanged have none.
#[derive(Debug, Default)]
pub struct Names {
    out: HashMap<String, String>,
    back: HashMap<String, String>,
    /// The tools by the names they go out with.
    offered: HashMap<String, usize>,
}

impl Names {
    /// Finds stand-ins for the functions offered and those called earlier in the conversation.
    ///
    /// The same names in the same order give the same stand-ins, so that a conversation looks the
    /// same to the upstream at each request.
    pub fn new(tools: &[Tool], conversation: &[Item], taken: Taken) -> Names {
        let called = conversation.iter().filter_map(|item| match item {
            Item::ToolCall(call) => Some(call.full_name()),
            _ => None,
        });
        let all: Vec<Cow<str>> = tools.iter().map(Tool::full_name).chain(called).collect();
        let given: HashSet<&str> = all.iter().map(|name| &**name).collect();
        let mut names = Names::default();
        // The next number to try among names that look alike: a history may have thousands of them.
        let mut next: HashMap<String, u32> = HashMap::new();
        for name in all.iter().map(|name| &**name) {
            if !names.out.contains_key(name) && !passes(name, taken) {
                let free = |candidate: &String| {
                    !given.contains(candidate.as_str()) && !names.back.contains_key(candidate)
                };
                let next = next.entry(stem(name)).or_insert(1);
                let numbers = std::iter::once(0).chain(std::iter::from_fn(|| {
                    *next += 1;
                    Some(*next - 1)
                }));
                let stand_in = numbers.map(|number| stand_in(name, number)).find(free).unwrap_or_default();
                names.back.insert(stand_in.clone(), name.to_owned());
                names.out.insert(name.to_owned(), stand_in);
            }
        }
        for (index, tool) in tools.iter().enumerate() {
            let out = names.out(&tool.full_name()).to_owned();
            names.offered.insert(out, index);
        }
        names
    }

    /// Which of the tools goes out under that name.
    pub fn offered(&self, out: &str) -> Option<usize> {
        self.offered.get(out).copied()
    }

    /// The name to send to Codex.
    pub fn out<'a>(&'a self, name: &'a str) -> &'a str {
        self.out.get(name).map_or(name, String::as_str)
    }

    /// The client's name for what Codex says.
    #[cfg(test)]
    fn back<'a>(&'a self, name: &'a str) -> &'a str {
        self.back.get(name).map_or(name, String::as_str)
    }
}

fn passes(name: &str, taken: Taken) -> bool {
    let plain = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
    let taken = ALWAYS_TAKEN.contains(&name)
        || (taken != Taken::Few && name.starts_with("mcp__"))
        || (taken == Taken::ByAgent && TAKEN_BY_THE_AGENT.contains(&name));
    (1..=LONGEST).contains(&name.len()) && name.chars().all(plain) && !taken
}

/// What the stand-ins of names that may be taken for each other begin with: as much as the largest
/// number leaves.
fn stem(name: &str) -> String {
    let mut stem = stand_in(name, u32::MAX);
    stem.truncate(stem.len() - "_4294967295".len());
    stem
}

fn stand_in(name: &str, number: u32) -> String {
    let end = if number == 0 { Cow::Borrowed("") } else { Cow::Owned(format!("_{number}")) };
    let room = LONGEST - PREFIX.len() - end.len();
    let plain = |c: char| if c.is_ascii_alphanumeric() || c == '-' { c } else { '_' };
    let middle: String = name.chars().map(plain).take(room).collect();
    format!("{PREFIX}{middle}{end}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::turn::ToolCall;

    fn check(offered: &[&str], taken: Taken, expect: &[&str]) {
        let tools: Vec<Tool> = offered.iter().map(|name| Tool::function(*name, "", "{}".into())).collect();
        let names = Names::new(&tools, &[], taken);
        let out: Vec<&str> = offered.iter().map(|name| names.out(name)).collect();
        assert_eq!(out, expect);
        let back: Vec<&str> = out.iter().map(|name| names.back(name)).collect();
        assert_eq!(back, offered);
        assert!(out.iter().all(|name| passes(name, taken)), "{out:?}");
    }

    #[test]
    fn awkward_names_go_out_under_another_and_come_back() {
        check(&["get_weather", "a-B_9"], Taken::ByFunctions, &["get_weather", "a-B_9"]);
        check(&["exec_command", "shell"], Taken::ByFunctions, &["client_exec_command", "shell"]);
        check(&["exec_command", "shell"], Taken::ByAgent, &["client_exec_command", "client_shell"]);
        check(&["mcp__x__y", "a.b"], Taken::ByFunctions, &["client_mcp__x__y", "client_a_b"]);
        check(
            &["a.b", "a:b", "client_a_b"],
            Taken::ByFunctions,
            &["client_a_b_1", "client_a_b_2", "client_a_b"],
        );
        check(&["mcp__x__y", "exec_command"], Taken::Few, &["mcp__x__y", "client_exec_command"]);
        let longest = "x".repeat(64);
        check(&[&longest], Taken::ByFunctions, &[&longest]);
        check(&[&"y".repeat(65)], Taken::ByFunctions, &[&format!("client_{}", "y".repeat(57))]);
        check(&["wörld"], Taken::ByFunctions, &["client_w_rld"]);
    }

    /// Looked for from the start for each, these would take hours.
    #[test]
    fn very_many_names_that_look_alike_are_told_apart() {
        let names: Vec<String> =
            (0..50_000_u32).map(|n| format!("f{}", char::from_u32(0x4e00 + n).unwrap_or('.'))).collect();
        let call = |name: &String| Item::from(ToolCall::function("c", name, "{}"));
        let made = Names::new(&[], &names.iter().map(call).collect::<Vec<_>>(), Taken::ByFunctions);
        assert_eq!((made.out(&names[0]), made.out(&names[1])), ("client_f_", "client_f__1"));
        let distinct: HashSet<&String> = names.iter().collect();
        assert_eq!(made.back.len(), distinct.len());
        assert!(distinct.iter().all(|name| made.back(made.out(name)) == name.as_str()));
    }

    #[test]
    fn calls_in_the_history_are_renamed_alike() {
        let call = |name: &str| Item::from(ToolCall::function("c", name, "{}"));
        let names = Names::new(&[], &[call("exec_command"), call("plain")], Taken::ByFunctions);
        assert_eq!(names.out("exec_command"), "client_exec_command");
        assert_eq!(names.out("plain"), "plain");
        assert_eq!(names.back("unknown"), "unknown");
    }
}
