//! `doctor`: looks at everything a turn needs, one thing after the other, and says what to do about
//! what is not right.

mod codex;
mod live;
mod machine;

use std::io::IsTerminal;

use clap::{Arg, ArgAction, ArgMatches, Command};

use super::exit::Exit;
use super::given::sources;
use super::output::out;
use super::service::World;
use crate::api::gate::Rules;
use crate::codex::args;
use crate::config::flags::flags;
use crate::config::{Config, Origin, load};

/// `doctor`, without the settings.
pub fn command() -> Command {
    Command::new("doctor")
        .about("Check everything that answering needs, and say what to do about what is wrong")
        .after_help("Exit status: 0 all is well (warnings allowed), 1 something is broken.")
        .arg(Arg::new("live").long("live").action(ArgAction::SetTrue).help(
            "Also hold a conversation of two turns, through the running service if there is one, and say what of \
             it was cached; this spends some 3,000 input tokens of your quota, and one small turn more with app-server",
        ))
}

/// How one thing is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verdict {
    Good,
    Mind,
    Broken,
}

/// One thing looked at.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Finding {
    verdict: Verdict,
    /// A word for what was looked at.
    subject: &'static str,
    /// How it is.
    text: String,
    /// What to do; a line each.
    fixes: Vec<String>,
}

impl Finding {
    fn good(subject: &'static str, text: impl Into<String>) -> Finding {
        Finding { verdict: Verdict::Good, subject, text: text.into(), fixes: vec![] }
    }

    fn mind(subject: &'static str, text: impl Into<String>) -> Finding {
        Finding { verdict: Verdict::Mind, ..Finding::good(subject, text) }
    }

    fn broken(subject: &'static str, text: impl Into<String>) -> Finding {
        Finding { verdict: Verdict::Broken, ..Finding::good(subject, text) }
    }

    fn fix(mut self, what: impl Into<String>) -> Finding {
        self.fixes.push(what.into());
        self
    }

    fn show(&self, colours: bool) -> String {
        let (word, colour) = match self.verdict {
            Verdict::Good => ("ok", 32),
            Verdict::Mind => ("warn", 33),
            Verdict::Broken => ("FAIL", 31),
        };
        let word = if colours { format!("\x1b[{colour}m{word:<5}\x1b[0m") } else { format!("{word:<5}") };
        let mut shown = format!("{word} {:<11} {}\n", self.subject, self.text.trim_end().replace('\n', "; "));
        for fix in &self.fixes {
            shown += &format!("{:18}-> {fix}\n", "");
        }
        shown
    }
}

/// Runs it.
///
/// # Errors
/// Exit status 1 if anything is broken.
pub fn run(matches: &ArgMatches) -> Result<(), Exit> {
    let mut world = World::look()?;
    world.sources.flags = flags(matches);
    world.sources.config_file = sources(matches)?.config_file;
    let colours = std::io::stdout().is_terminal();
    let mut broken = 0;
    let mut say = |findings: Vec<Finding>| {
        broken += findings.iter().filter(|finding| finding.verdict == Verdict::Broken).count();
        out(&findings.iter().map(|finding| finding.show(colours)).collect::<String>())
    };

    let (config, findings) = settings(&world);
    say(findings)?;
    if let Some(config) = config {
        say(machine::folders(&config))?;
        let examined = codex::Examined::look(&config, &world.env)?;
        say(examined.findings(&config, &world))?;
        say(machine::service(&world, &config))?;
        if matches.get_flag("live") {
            say(live::ask(&world, &config, &examined))?;
        }
    } else {
        say(vec![Finding::mind("others", "not looked at: they depend on the settings")])?;
    }
    match broken {
        0 => out("\nAll that a turn needs is there.\n"),
        1 => out("\nOne thing is broken.\n").and(Err(Exit::Code(1))),
        _ => out(&format!("\n{broken} things are broken.\n")).and(Err(Exit::Code(1))),
    }
}

/// The settings as the service sees them.
fn settings(world: &World) -> (Option<Config>, Vec<Finding>) {
    let loaded = match load(&world.sources) {
        Ok(loaded) => loaded,
        Err(errors) => {
            let findings = errors.lines.into_iter().map(|line| {
                Finding::broken("settings", line)
                    .fix("see codex-api-proxy config path for the files that are read")
            });
            return (None, findings.collect());
        }
    };
    let files: Vec<String> = loaded
        .files
        .iter()
        .filter(|(_, exists)| *exists)
        .map(|(path, _)| path.display().to_string())
        .collect();
    let set = loaded.origins.values().filter(|origin| **origin != Origin::Default).count();
    let from = if files.is_empty() { "no file".to_owned() } else { files.join(", ") };
    let mut findings =
        vec![Finding::good("settings", format!("valid; {set} not at their default; read: {from}"))];
    findings.extend(loaded.warnings.iter().map(|warning| Finding::mind("settings", warning)));
    match Rules::new(&loaded.config) {
        Ok(rules) => findings.extend(rules.unmapped().map(|text| Finding::mind("settings", text))),
        Err(why) => findings.push(Finding::broken("settings", why)),
    }
    let weakened = args::weakened(&loaded.config.codex_configs);
    if !weakened.is_empty() {
        let text = format!("codex_configs take isolation away: {}", weakened.join(", "));
        findings.push(Finding::mind("settings", text).fix("remove them, unless you want that"));
    }
    let unseen: Vec<String> = std::env::vars_os()
        .filter(|(name, value)| {
            let ours = name.as_encoded_bytes().starts_with(b"CODEX_PROXY_");
            ours && !value.is_empty() && !world.sources.env.contains(&(name.clone(), value.clone()))
        })
        .map(|(name, _)| name.to_string_lossy().into_owned())
        .collect();
    if !unseen.is_empty() {
        let text = format!("of this shell, and unknown to the service: {}", unseen.join(", "));
        findings.push(Finding::mind("settings", text).fix("codex-api-proxy restart saves them for it"));
    }
    (Some(loaded.config), findings)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn findings_align_and_carry_their_fixes() {
        for (finding, expect) in [
            (Finding::good("codex", "0.169.0"), "ok    codex       0.169.0\n"),
            (
                Finding::mind("linger", "off").fix("do this"),
                "warn  linger      off\n                  -> do this\n",
            ),
            (Finding::broken("port", "held\nby x"), "FAIL  port        held; by x\n"),
        ] {
            assert_eq!(finding.show(false), expect);
        }
        assert!(Finding::good("a", "b").show(true).contains("\x1b[32mok"));
    }
}
