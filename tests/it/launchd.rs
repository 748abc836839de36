//! The property lists for launchd: read as launchd would, each key known and of its type.
//!
//! launchd itself exists on macOS only, and ignores what it does not know: a misspelt key would be
//! found by nobody.

use std::process::Command;

/// Keys of launchd.plist(5) that ours may have, and what else must hold.
const CHECK: &str = r#"
import pathlib, plistlib, sys

SOCKET = {"SockNodeName": str, "SockServiceName": str, "SockFamily": str, "SockType": str}
KEYS = {
    "Label": str, "ProgramArguments": [str], "UserName": str, "EnvironmentVariables": {None: str},
    "Sockets": {None: SOCKET}, "KeepAlive": {"SuccessfulExit": bool}, "ThrottleInterval": int, "ExitTimeOut": int,
    "ProcessType": str, "Umask": int, "SoftResourceLimits": {"NumberOfFiles": int, "Core": int},
    "HardResourceLimits": {"Core": int},
    "StandardOutPath": str, "StandardErrorPath": str,
}

def check(where, value, kind):
    if isinstance(kind, dict):
        assert type(value) is dict and value, f"{where}: not a dict: {value!r}"
        for key, inner in value.items():
            assert key in kind or None in kind, f"{where}: unknown key {key}"
            check(f"{where}.{key}", inner, kind.get(key, kind.get(None)))
    elif isinstance(kind, list):
        assert type(value) is list and value, f"{where}: not an array: {value!r}"
        for inner in value:
            check(where, inner, kind[0])
    else:
        assert type(value) is kind, f"{where}: not {kind.__name__}: {value!r}"

for path in map(pathlib.Path, sys.argv[1:]):
    plist = plistlib.loads(path.read_bytes())
    check(path.name, plist, KEYS)
    assert plist["Label"] + ".plist" == path.name
    assert plist["ProgramArguments"][1:] == ["serve"] and plist["ProgramArguments"][0].startswith("/")
    # Restarted after a crash only, or an idle exit would not last.
    assert plist["KeepAlive"] == {"SuccessfulExit": False}
    # Above drain_seconds (30), last words (1) and last processes (3).
    assert plist["ExitTimeOut"] > 34 and plist["Umask"] == 0o077
    assert plist["SoftResourceLimits"]["Core"] == plist["HardResourceLimits"]["Core"] == 0
    sockets = plist["Sockets"]
    assert list(sockets) == ["Listeners"], "the name that src/os/launchd.rs asks for"
    assert sockets["Listeners"]["SockNodeName"] == "127.0.0.1" and sockets["Listeners"]["SockServiceName"] == "8765"
    assert plist["ProcessType"] in ("Background", "Standard", "Adaptive", "Interactive")
    assert ("UserName" in plist) == plist["Label"].endswith(".daemon"), "an agent runs as who is logged in"
    print("ok", path.name)
"#;

#[test]
fn the_property_lists_hold_what_launchd_knows() {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("launchd");
    let plists = ["local.codex-api-proxy.agent.plist", "local.codex-api-proxy.daemon.plist"];
    let output =
        Command::new("python3").args(["-c", CHECK]).args(plists.map(|name| folder.join(name))).output();
    let output = output.expect("python3 runs; `make test-tools` gets it");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(String::from_utf8_lossy(&output.stdout).matches("ok ").count(), plists.len());
}
