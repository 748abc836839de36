//! `doctor`: looks at everything a turn needs, one thing after the other, and says what to do about
//! what is not right.

mod codex;
mod containers;
mod live;
mod machine;
mod places;
mod plan;
mod port;
mod report;

use clap::{Arg, ArgAction, ArgMatches, Command};

use super::exit::Exit;
use super::given::sources;
use super::service::World;
use crate::api::gate::Rules;
use crate::codex::args;
use crate::config::flags::flags;
use crate::config::{Config, Origin, load};
use report::{Finding, Report};

/// `doctor`, without the settings.
pub fn command() -> Command {
    Command::new("doctor")
        .about("Check everything that answering needs, and say what to do about what is wrong")
        .after_help("Exit status: 0 all is well (warnings allowed), 1 something is broken.")
        .arg(Arg::new("live").long("live").action(ArgAction::SetTrue).help(
            "Also hold a conversation of two turns, through the running service if there is one, and say what of \
             it was cached; this spends some 3,000 input tokens of your quota, and one small turn more with app-server",
        ))
        .arg(Arg::new("json").long("json").action(ArgAction::SetTrue).help(
            "Print JSON for programs: ok, and findings with verdict (good, mind or broken), subject, text and fixes",
        ))
}

/// Runs it.
///
/// # Errors
/// Exit status 1 if anything is broken.
pub fn run(matches: &ArgMatches) -> Result<(), Exit> {
    let mut world = World::look()?;
    world.sources.flags = flags(matches);
    world.sources.config_file = sources(matches)?.config_file;
    let mut report = Report::new(matches.get_flag("json"));

    let (config, findings) = settings(&world);
    report.add(findings)?;
    if let Some(config) = config {
        report.add(machine::folders(&config))?;
        let examined = codex::Examined::look(&config, &world.env)?;
        report.add(examined.findings(&config, &world))?;
        report.add(machine::service(&world, &config))?;
        if matches.get_flag("live") {
            report.add(live::ask(&world, &config, &examined))?;
        }
    } else {
        report.add(vec![Finding::mind("others", "not looked at: they depend on the settings")])?;
    }
    report.end()
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
