//! What is around the program: its folders, its port, its unit, its log.

use std::os::unix::fs::MetadataExt;
use std::path::Path;

use super::report::Finding;
use super::{containers, plan, port};
use crate::cli::readiness::{addresses, addresses_of, ask_ready, why_not};
use crate::cli::service::{Manager, Service, State, World};
use crate::cli::{check, socket, unit_files};
use crate::codex::folders;
use crate::config::Config;
use crate::os::trust::{self, Doubt};
use crate::os::users::own_uid;
use crate::turn::failure::Folder;

/// The state folder and the workspace.
pub(super) fn folders(config: &Config) -> Vec<Finding> {
    let workspace = if config.default_cwd.starts_with(&config.state_dir) {
        folder("workspace", &config.default_cwd, Folder::Workspace)
    } else {
        named_folder("workspace", &config.default_cwd)
    };
    let warnings = folders::warnings(config).into_iter();
    let warnings =
        warnings.map(|text| Finding::mind("workspace", text).fix("choose one that only you can write to"));
    let mut state = folder("state", &config.state_dir, Folder::State);
    if config.state_dir.is_dir() {
        state.text = format!("{} ({})", state.text, shown_size(size(&config.state_dir)));
    }
    [state, workspace].into_iter().chain(warnings).collect()
}

/// How much of the disk a folder takes, in bytes. Links are not followed; what cannot be read counts
/// for nothing.
fn size(folder: &Path) -> u64 {
    let mut left = vec![folder.to_path_buf()];
    let mut bytes = 0;
    while let Some(folder) = left.pop() {
        for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
            let Ok(meta) = entry.metadata() else { continue };
            bytes += meta.blocks() * 512;
            if meta.is_dir() {
                left.push(entry.path());
            }
        }
    }
    bytes
}

/// `640 kB`, `12.3 MB`.
fn shown_size(bytes: u64) -> String {
    let kilobytes = bytes.div_ceil(1000);
    if kilobytes < 1000 {
        return format!("{kilobytes} kB");
    }
    format!("{}.{} MB", kilobytes / 1000, kilobytes % 1000 / 100)
}

/// A folder of the program's own: nobody else may be able to change it.
fn folder(subject: &'static str, path: &Path, which: Folder) -> Finding {
    let shown = path.display();
    match trust::folder(path, own_uid()) {
        Ok(()) => {}
        Err(Doubt::Foreign { path: at, owner, .. }) => {
            let text = format!("{} belongs to user {owner}, not to you", at.display());
            return Finding::broken(subject, text).fix(format!(
                "sudo chown -R {} {}",
                own_uid(),
                at.display()
            ));
        }
        Err(Doubt::Writable { path: at, mode }) => {
            let text = format!("others may write to {} (mode {mode:04o})", at.display());
            return Finding::broken(subject, text).fix(format!("chmod go-w {}", at.display()));
        }
        Err(Doubt::Link(_)) => {
            return Finding::broken(subject, format!("{shown} is a link, which is not followed"))
                .fix(format!("rm {shown}"));
        }
        Err(doubt @ Doubt::NotAFolder(_)) => {
            return Finding::broken(subject, doubt.to_string()).fix(format!("rm {shown}"));
        }
        Err(doubt @ Doubt::Io(..)) => return Finding::broken(subject, doubt.to_string()),
    }
    let Ok(meta) = path.metadata() else { return missing(subject, path) };
    if let Err(failure) = folders::takes_something(which, path) {
        return Finding::broken(subject, failure.to_string());
    }
    if meta.mode() & 0o077 != 0 {
        let text = format!("{shown} has mode {:04o}: others can look into it", meta.mode() & 0o7777);
        return Finding::mind(subject, text).fix(format!("chmod 700 {shown}"));
    }
    Finding::good(subject, shown.to_string())
}

/// A folder that the user chose, taken as it is.
fn named_folder(subject: &'static str, path: &Path) -> Finding {
    let shown = path.display();
    match path.metadata() {
        Ok(meta) if meta.is_dir() => Finding::good(subject, shown.to_string()),
        Ok(_) => Finding::broken(subject, format!("{shown} is not a folder")).fix(format!("rm {shown}")),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => missing(subject, path),
        Err(error) => Finding::broken(subject, format!("{shown}: {error}")),
    }
}

fn missing(subject: &'static str, path: &Path) -> Finding {
    let shown = path.display();
    match check::can_be_made(path) {
        Ok(()) => Finding::good(subject, format!("{shown}, made when first needed")),
        Err(why) => Finding::broken(subject, format!("{shown} cannot be made: {why}")),
    }
}

/// The service and its port.
pub(super) fn service(world: &World, config: &Config) -> Vec<Finding> {
    let service = match &world.manager {
        Manager::None(why) => {
            let service =
                Finding::mind("service", why).fix("run it in the foreground: codex-api-proxy serve");
            let mut findings = vec![port::look(config, None), service];
            findings.extend(containers::look(config, &addresses_of(config), &containers::bridges()));
            return findings;
        }
        manager => match manager.service() {
            Ok(service) => service,
            Err(_) => return vec![Finding::broken("service", "the service manager does not answer")],
        },
    };
    let places = addresses(&service, config);
    let mut findings = vec![port::look(config, Some(&service)), unit(world, &service, config)];
    if service.state == State::Running {
        findings.extend(plan::ask(&places, config));
    }
    findings.extend(containers::look(config, &places, &containers::bridges()));
    if let Manager::Systemd(systemd) = &world.manager {
        findings.push(match systemd.lingers() {
            Some(true) => Finding::good("lingering", "on: the service runs without a login"),
            Some(false) => Finding::mind(
                "lingering",
                unit_files::notes_on_login(&world.manager, true).split(". To").next().unwrap_or_default(),
            )
            .fix("loginctl enable-linger"),
            None => Finding::mind("lingering", "loginctl does not tell"),
        });
        if service.socket.known {
            findings.push(sockets(&service, config));
        }
        let lines = world.manager.last_lines(None);
        findings.push(if lines.starts_with("(the log cannot") {
            Finding::mind("log", lines).fix("sudo usermod -aG systemd-journal $USER, then log in again")
        } else {
            Finding::good("log", "codex-api-proxy logs")
        });
    }
    findings
}

fn unit(world: &World, service: &Service, config: &Config) -> Finding {
    let file = service.file.as_ref().map_or(String::new(), |file| format!(" ({})", file.display()));
    match &service.state {
        State::Missing => {
            Finding::mind("service", "not installed").fix("codex-api-proxy start installs and starts it")
        }
        State::Masked => Finding::broken("service", format!("masked{file}: it must not start"))
            .fix(world.manager.how_to_unmask()),
        State::Failed(how) => Finding::broken("service", format!("failed{file}: {how}"))
            .fix("codex-api-proxy logs")
            .fix("when the cause is gone: codex-api-proxy start"),
        State::Running => match ask_ready(&addresses(service, config), config) {
            Ok(page) if page.status == 200 => Finding::good("service", format!("running and ready{file}")),
            Ok(page) => Finding::broken("service", format!("running but not ready: {}", why_not(&page.body))),
            Err(error) => Finding::broken("service", format!("running but not to be reached: {error}")),
        },
        state if service.socket.listening => {
            Finding::good("service", format!("{}, started by the next connection{file}", state.name()))
        }
        state => {
            let text = format!("{}{file}", state.name());
            let enabled = service.enabled || service.socket.enabled;
            let finding = Finding::mind("service", text).fix("codex-api-proxy start");
            if enabled {
                finding
            } else {
                finding.fix(format!("at each login: {}", world.manager.how_to_enable()))
            }
        }
    }
}

fn sockets(service: &Service, config: &Config) -> Finding {
    match socket::compare(&service.socket, config) {
        Ok(socket::Step::Differ(_)) => Finding::mind("socket", socket::differ(&service.socket, config)),
        Err(why) => Finding::broken("socket", why),
        Ok(socket::Step::Same) if service.socket.listening => {
            Finding::good("socket", "systemd listens for the service")
        }
        Ok(socket::Step::Same) => {
            // systemd refuses to listen for a service that runs already.
            let stop = if service.pid.is_some() { "codex-api-proxy stop; " } else { "" };
            let how = "systemctl --user enable --now codex-api-proxy.socket";
            Finding::good("socket", format!("not used; to have it: {stop}{how}"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::report::Verdict;
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn folders_are_private_writable_or_still_to_be_made() {
        let base = tempfile::tempdir().unwrap();
        let make = |name: &str, mode: u32| {
            let path = base.path().join(name);
            std::fs::create_dir(&path).unwrap();
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
            path
        };
        let file = base.path().join("file");
        std::fs::write(&file, "").unwrap();
        let dangling = base.path().join("dangling");
        std::os::unix::fs::symlink(base.path().join("nowhere"), &dangling).unwrap();
        let base = base.path().canonicalize().unwrap();
        for (path, private, expect) in [
            (base.join("none"), true, Verdict::Good),
            (make("private", 0o700), true, Verdict::Good),
            (make("open", 0o755), true, Verdict::Mind),
            (make("writable", 0o770), true, Verdict::Broken),
            (make("writable-above", 0o770).join("below"), true, Verdict::Broken),
            (make("work", 0o755), false, Verdict::Good),
            (make("for-all", 0o777), false, Verdict::Good),
            (file.clone(), false, Verdict::Broken),
            (file, true, Verdict::Broken),
            (dangling.join("below"), false, Verdict::Broken),
            (dangling, true, Verdict::Broken),
        ] {
            let finding = match private {
                true => folder("state", &path, Folder::State),
                false => named_folder("workspace", &path),
            };
            assert_eq!(finding.verdict, expect, "{} {finding:?}", path.display());
        }
        assert_eq!(base.join("private").read_dir().unwrap().count(), 0, "nothing is left behind");
    }

    #[test]
    fn a_folders_size_is_what_it_takes_of_the_disk() {
        let base = tempfile::tempdir().unwrap();
        let before = size(base.path());
        std::fs::create_dir(base.path().join("sub")).unwrap();
        std::fs::write(base.path().join("sub/file"), vec![1; 3_000_000]).unwrap();
        std::os::unix::fs::symlink("/", base.path().join("link")).unwrap();
        let grown = size(base.path()) - before;
        assert!((3_000_000..3_100_000).contains(&grown), "{grown}");
        for (bytes, expect) in [
            (0, "0 kB"),
            (1, "1 kB"),
            (999_000, "999 kB"),
            (999_001, "1.0 MB"),
            (12_345_678, "12.3 MB"),
            (5_000_000_000, "5000.0 MB"),
        ] {
            assert_eq!(shown_size(bytes), expect);
        }
    }
}
