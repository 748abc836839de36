//! The unit and plist files, carried in the program: printed as packages ship them, or fitted to
//! this program and user by `install`.

use std::path::Path;

/// How packages name the program in the unit files.
const PACKAGED: &str = "/usr/bin/codex-api-proxy";
/// And in the plists.
const PACKAGED_MAC: &str = "/usr/local/bin/codex-api-proxy";

/// By this we know our own files again. (No `--`: it stands in comments of XML, too.)
const MARK: &str = "Written by `codex-api-proxy install`";

const USER_SERVICE: &str = include_str!("../../../systemd/user/codex-api-proxy.service");
const USER_SOCKET: &str = include_str!("../../../systemd/user/codex-api-proxy.socket");
const SYSTEM_SERVICE: &str = include_str!("../../../systemd/system/codex-api-proxy@.service");
const SYSTEM_SOCKET: &str = include_str!("../../../systemd/system/codex-api-proxy@.socket");
const HARDENING: &str =
    include_str!("../../../systemd/user/codex-api-proxy.service.d/hardening.conf.example");
const CATALOG: &str = include_str!("../../../systemd/codex-api-proxy.catalog");
const AGENT: &str = include_str!("../../../launchd/local.codex-api-proxy.agent.plist");
const DAEMON: &str = include_str!("../../../launchd/local.codex-api-proxy.daemon.plist");

/// A file and the text it is to have.
pub type File = (&'static str, String);

/// Every file as packages ship it, by its path in the sources.
pub const SHIPPED: &[(&str, &str)] = &[
    ("systemd/user/codex-api-proxy.service", USER_SERVICE),
    ("systemd/user/codex-api-proxy.socket", USER_SOCKET),
    ("systemd/user/codex-api-proxy.service.d/hardening.conf.example", HARDENING),
    ("systemd/system/codex-api-proxy@.service", SYSTEM_SERVICE),
    ("systemd/system/codex-api-proxy@.socket", SYSTEM_SOCKET),
    ("systemd/codex-api-proxy.catalog", CATALOG),
    ("launchd/local.codex-api-proxy.agent.plist", AGENT),
    ("launchd/local.codex-api-proxy.daemon.plist", DAEMON),
];

/// Whether `install` or `start` wrote this text.
pub fn is_ours(text: &str) -> bool {
    text.contains(MARK)
}

/// The user units, running `program`.
pub fn user(program: &Path) -> Vec<File> {
    vec![
        ("codex-api-proxy.service", unit(USER_SERVICE, program)),
        ("codex-api-proxy.socket", unit(USER_SOCKET, program)),
    ]
}

/// The system templates, running `program`.
pub fn system(program: &Path) -> Vec<File> {
    vec![
        ("codex-api-proxy@.service", unit(SYSTEM_SERVICE, program)),
        ("codex-api-proxy@.socket", unit(SYSTEM_SOCKET, program)),
    ]
}

/// The user's agent, running `program` and listening on that address.
pub fn agent(program: &Path, home: &Path, host: &str, port: u16) -> File {
    ("local.codex-api-proxy.agent.plist", plist(AGENT, program, home, "", host, port))
}

/// The system's daemon for that user.
pub fn daemon(program: &Path, home: &Path, user: &str, host: &str, port: u16) -> File {
    ("local.codex-api-proxy.daemon.plist", plist(DAEMON, program, home, user, host, port))
}

fn unit(text: &str, program: &Path) -> String {
    let mark = format!("# {MARK}; `uninstall` removes it. Change it by drop-ins.\n");
    mark + &text.replace(PACKAGED, &escaped(program))
}

/// A path as the first word of `ExecStart=`: systemd.service(5) quotes like a shell, `%` begins a
/// specifier and `$` a variable.
fn escaped(program: &Path) -> String {
    let text = program.to_string_lossy().replace('\\', "\\\\").replace('%', "%%").replace('$', "$$");
    let plain = |c: char| c.is_alphanumeric() || "/._-+%$@:".contains(c);
    if text.chars().all(plain) { text } else { format!("\"{}\"", text.replace('"', "\\\"")) }
}

fn plist(text: &str, program: &Path, home: &Path, user: &str, host: &str, port: u16) -> String {
    let path = |path: &Path| xml(&path.to_string_lossy());
    let family = if host.contains(':') { "IPv6" } else { "IPv4" };
    let text = text
        .replace(PACKAGED_MAC, &path(program))
        .replace("<string>@HOME@", &format!("<string>{}", path(home)))
        .replace("<string>@USER@", &format!("<string>{}", xml(user)))
        .replace("<string>127.0.0.1<", &format!("<string>{}<", xml(host)))
        .replace("<string>8765<", &format!("<string>{port}<"))
        .replace("<string>IPv4<", &format!("<string>{family}<"));
    let mark = format!("<!-- {MARK}; `uninstall` removes it. -->\n<plist ");
    text.replacen("<plist ", &mark, 1)
}

fn xml(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_survive_systemds_quoting() {
        for (path, expect) in [
            ("/usr/bin/codex-api-proxy", "/usr/bin/codex-api-proxy"),
            ("/home/a b/x", "\"/home/a b/x\""),
            ("/home/100%/x", "/home/100%%/x"),
            ("/home/$me/x", "/home/$$me/x"),
            ("/home/a\"b/x", "\"/home/a\\\"b/x\""),
        ] {
            assert_eq!(escaped(Path::new(path)), expect);
        }
    }

    #[test]
    fn units_run_this_program_and_are_known_again() {
        let program = Path::new("/opt/my bin/codex-api-proxy");
        for (name, text) in user(program).into_iter().chain(system(program)) {
            assert!(is_ours(&text) && !text.contains(PACKAGED), "{name}: {text}");
            let commands = text.lines().filter(|line| line.starts_with("ExecStart="));
            for line in commands {
                assert_eq!(line, "ExecStart=\"/opt/my bin/codex-api-proxy\" serve");
            }
        }
        assert!(SHIPPED.iter().all(|(_, text)| !is_ours(text)));
        assert!(USER_SERVICE.contains(PACKAGED) && AGENT.contains(PACKAGED_MAC));
    }

    #[test]
    fn plists_carry_program_home_user_and_address() {
        let (_, text) = agent(Path::new("/a&b/proxy"), Path::new("/Users/me"), "::1", 9000);
        for part in [
            "<string>/a&amp;b/proxy</string>",
            "<string>/Users/me/Library/Logs",
            "<string>::1</string>",
            "<string>9000</string>",
            "<string>IPv6</string>",
        ] {
            assert!(text.contains(part), "{part} in {text}");
        }
        let (_, text) = daemon(Path::new("/p"), Path::new("/Users/me"), "me", "127.0.0.1", 8765);
        assert!(text.contains("<string>me</string>") && !text.contains("<string>@"), "{text}");
        assert!(is_ours(&text));
    }
}
