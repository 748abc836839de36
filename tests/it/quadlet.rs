//! The example of a container, as Podman's quadlet takes it.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::support::Setup;

const FOLDER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/packaging/quadlet");

/// What of podman-systemd.unit(5) and systemd's own pages the example may say, by section.
const KNOWN: [(&str, &[&str]); 4] = [
    ("Unit", &["Description", "Documentation"]),
    (
        "Container",
        &[
            "Image",
            "Exec",
            "PublishPort",
            "Secret",
            "Volume",
            "Notify",
            "User",
            "Group",
            "NoNewPrivileges",
            "DropCapability",
            "ReadOnly",
        ],
    ),
    ("Service", &["Restart", "RestartPreventExitStatus", "TimeoutStartSec", "TimeoutStopSec"]),
    ("Install", &["WantedBy"]),
];

/// Section, key and value of each line that is no comment.
fn lines() -> Vec<(String, String, String)> {
    let text = std::fs::read_to_string(Path::new(FOLDER).join("codex-api-proxy.container")).unwrap();
    let mut section = String::new();
    let mut found = vec![];
    for line in text.lines().filter(|line| !line.is_empty() && !line.starts_with('#')) {
        match line.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
            Some(name) => name.clone_into(&mut section),
            None => {
                let (key, value) = line.split_once('=').unwrap_or_else(|| panic!("no key: {line}"));
                found.push((section.clone(), key.to_owned(), value.to_owned()));
            }
        }
    }
    found
}

fn value(key: &str) -> String {
    let found: Vec<String> =
        lines().into_iter().filter(|(_, name, _)| name == key).map(|(_, _, value)| value).collect();
    assert_eq!(found.len(), 1, "{key}");
    found[0].clone()
}

#[test]
fn the_container_is_written_as_podman_knows_it() {
    for (section, key, _) in lines() {
        let known = KNOWN.iter().find(|(name, _)| *name == section);
        assert!(known.is_some_and(|(_, keys)| keys.contains(&key.as_str())), "[{section}] {key}");
    }
    // Reached from this machine alone, not root, with the key as a secret that its user alone can read.
    assert_eq!(value("PublishPort"), "127.0.0.1:8765:8765");
    assert_eq!(
        (value("User"), value("Group"), value("Notify")),
        ("1000".into(), "1000".into(), "true".into())
    );
    assert_eq!(value("Secret"), "codex-api-proxy-keys,type=mount,uid=1000,gid=1000,mode=0400");
    let image = std::fs::read_to_string(Path::new(FOLDER).join("Containerfile")).unwrap();
    let (_, state) =
        value("Volume").split_once(':').map(|(from, to)| (from.to_owned(), to.to_owned())).unwrap();
    for line in [format!("ENV HOME={state}\n"), "USER 1000:1000\n".into(), "ENTRYPOINT []\n".into()] {
        assert!(image.contains(&line), "{line}");
    }
}

#[test]
fn the_container_starts_the_program_with_flags_that_it_knows() {
    let exec = value("Exec");
    let words: Vec<&str> = exec.split_whitespace().collect();
    assert_eq!(words[..2], ["codex-api-proxy", "serve"]);
    let (setup, _codex) = Setup::fake("");
    // All but the secret is there, and whatever is wrong with the flags is said before: 64.
    let output = setup.command(&words[1..]).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(78), "{said}");
    assert!(said.contains("/run/secrets/codex-api-proxy-keys does not exist"), "{said}");
    assert_eq!(said.matches("error: ").count(), 1, "{said}");
}

#[test]
fn podmans_generator_makes_a_unit_of_it() {
    let places =
        ["/usr/lib/podman/quadlet", "/usr/libexec/podman/quadlet", "/usr/local/libexec/podman/quadlet"];
    let Some(generator) = places.iter().map(PathBuf::from).find(|path| path.exists()) else {
        // Not `support::skipped`: no package of Debian 12 has it, and the tests above hold without it.
        return println!("skipped: Podman's quadlet (4.4 and newer) is not installed");
    };
    let output =
        Command::new(generator).args(["-dryrun", "-user"]).env("QUADLET_UNIT_DIRS", FOLDER).output().unwrap();
    let (unit, said) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success() && !said.contains("unsupported key"), "{said}");
    for part in
        ["---codex-api-proxy.service---", "Type=notify", "--sdnotify=container", "--read-only", "1000:1000"]
    {
        assert!(unit.contains(part), "{part} in {unit}");
    }
}
