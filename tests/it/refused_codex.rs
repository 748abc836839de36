//! A program that every user of the machine could change is not run, until that is mended.

use std::os::unix::fs::{MetadataExt, PermissionsExt, lchown, symlink};
use std::path::Path;

use crate::support::proxy::{Proxy, skipped};
use crate::support::{Setup, wait};

const MESSAGE: &str = "Other users could change the program that `codex_bin` names on the machine of this server: it \
                       is not run. `codex-api-proxy doctor` there names what to mend.";

fn mode(path: &Path, bits: u32) {
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(bits)).unwrap();
}

fn is_refused(proxy: &Proxy, why: &str) {
    // The survey before this one may be believed for another moment.
    let answer = wait::until_some("it is refused", || {
        let answer = proxy.ask("hi").send();
        (answer.status == 503).then_some(answer)
    });
    assert_eq!(answer.error(503, "server_error", "codex_refused"), MESSAGE, "{why}");
    assert_eq!(answer.header("x-should-retry"), Some("false"));
    let reason = wait::until_some("/ready says why", || {
        proxy.get("/ready").send().json()["reason"].as_str().map(str::to_owned)
    });
    assert_eq!(reason, MESSAGE, "{why}");
    assert_eq!(proxy.get("/health").send().json()["codex_available"], false, "{why}");
}

fn is_used(proxy: &Proxy, why: &str) {
    wait::until(why, || proxy.get("/ready").send().status == 200);
    assert_eq!(proxy.ask("hi").send().answer(), "pong", "{why}");
}

/// A fake Codex that is a file of its own, in `scratch/bin`.
fn fake() -> (Setup, crate::support::fake_codex::FakeCodex) {
    let (setup, fake) = Setup::fake("start\nanswer pong\ndone");
    // Not a link to the tests' program: its mode is to be changed.
    let copy = fake.path().with_extension("copy");
    std::fs::copy(fake.path(), &copy).unwrap();
    std::fs::rename(&copy, fake.path()).unwrap();
    (setup, fake)
}

#[test]
fn a_codex_that_everybody_could_change_is_not_run() {
    for engine in ["exec", "app-server"] {
        let (setup, fake) = fake();
        let (program, folder) = (fake.path().to_owned(), fake.path().parent().unwrap().to_owned());
        mode(&folder, 0o777);
        let doctor = setup.command(&["doctor"]).args(setup.flags()).output().unwrap();
        let said = String::from_utf8_lossy(&doctor.stdout);
        assert_eq!(doctor.status.code(), Some(1), "{said}");
        let finding = format!("others may write to {} (mode 0777)", folder.display());
        assert!(said.contains("FAIL  codex") && said.contains(&finding), "{said}");
        let proxy = setup.set("engine", engine).start_unready();
        is_refused(&proxy, "a folder for everybody");
        assert!(fake.calls().is_empty(), "not even its version is asked for: {:?}", fake.calls());
        let log = format!("others may write to {} (mode 0777); run chmod go-w", folder.display());
        wait::until("the log says why", || proxy.log().contains(&log));
        mode(&folder, 0o755);
        is_used(&proxy, "mended");
        if engine == "app-server" {
            // A worker that runs was looked at when it was started, and goes on.
            continue;
        }
        for (path, bits, used) in [
            (&folder, 0o707, false),
            // Sticky, others can replace only what is theirs; a group may be one's own.
            (&folder, 0o1777, true),
            (&folder, 0o775, true),
            (&program, 0o757, false),
            (&program, 0o775, true),
        ] {
            mode(path, bits);
            let why = format!("{engine}: {} with {bits:o}", path.display());
            if used {
                is_used(&proxy, &why);
            } else {
                is_refused(&proxy, &why);
            }
            mode(path, 0o755);
            is_used(&proxy, &format!("{why}, mended"));
        }
        if std::fs::metadata("/proc/self").is_ok_and(|meta| meta.uid() == 0) {
            mode(&folder, 0o1777);
            lchown(&program, Some(65534), None).unwrap();
            is_refused(&proxy, "everybody could have put it there");
            lchown(&program, Some(0), None).unwrap();
            is_used(&proxy, "its owner is the server's again");
        } else {
            skipped("giving files away needs root");
        }
    }
}

/// What is named counts as well as what is behind it.
#[test]
fn a_link_in_a_folder_for_everybody_is_not_followed() {
    let (setup, fake) = fake();
    let open = setup.scratch().dir("open");
    symlink(fake.path(), open.join("codex")).unwrap();
    mode(&open, 0o777);
    let path = format!("{}:/usr/bin:/bin", open.display());
    let proxy = setup.env("PATH", &path).set("codex_bin", "codex").start_unready();
    is_refused(&proxy, "by its name on PATH");
    assert!(fake.calls().is_empty(), "{:?}", fake.calls());
    mode(&open, 0o755);
    // The fake has its script beside the name it is called by.
    std::fs::copy(fake.path().with_extension("script"), open.join("codex.script")).unwrap();
    is_used(&proxy, "mended");
}
