"""The system's own templates, which run as the user they are named after."""

import os
import pathlib
import shutil
import subprocess

from machine import (
    UNIT, UnixHTTP, ask, check, codex_processes, configure, get, processes, run, stop_all, until, user,
)
from sandbox import sandbox_works


@check
def the_system_template_serves_with_its_key():
    stop_all()
    name = f"{UNIT}@{user.name}"
    configure(profile="agent")
    store = pathlib.Path(f"/etc/credstore/codex-api-proxy.{user.name}.api-key")
    store.parent.mkdir(exist_ok=True)
    path = f"/run/codex-api-proxy/{user.name}.sock"
    state = f"/var/lib/codex-api-proxy/{user.name}"
    # Without a key first.
    run("systemctl", "start", name + ".socket")
    assert ask("Reply with exactly: open", UnixHTTP(path)).answer() == "open"
    run("systemctl", "stop", name + ".socket", name + ".service")
    store.write_text("sk-local-credential\n")
    store.chmod(0o600)
    run("systemctl", "start", name + ".socket")
    key = {"Authorization": "Bearer sk-local-credential"}
    assert ask("hi", UnixHTTP(path)).status == 401
    assert ask("Reply with exactly: keyed", UnixHTTP(path), key).answer() == "keyed"
    assert os.stat(path).st_mode & 0o777 == 0o600 and os.stat(path).st_uid == user.uid
    assert os.stat(state).st_uid == user.uid and os.stat(state).st_mode & 0o777 == 0o700
    sandbox_works(lambda: UnixHTTP(path), f"{state}/workspace", key)
    run("systemctl", "reload", name + ".service")
    shown = run("systemctl", "show", "--value", "-p", "StatusText", name + ".service").stdout
    assert shown.startswith("ready; "), shown
    run("systemctl", "stop", name + ".socket", name + ".service")
    store.unlink()
    assert not codex_processes()


@check
def the_system_template_takes_an_encrypted_key():
    stop_all()
    name = f"{UNIT}@{user.name}"
    configure()
    store = pathlib.Path(f"/etc/credstore.encrypted/codex-api-proxy.{user.name}.api-key")
    store.parent.mkdir(exist_ok=True)
    path = f"/run/codex-api-proxy/{user.name}.sock"
    # Not with the TPM, which this machine need not have.
    run("systemd-creds", "encrypt", "--with-key=host", "--name=api-key", "-", str(store), input="sk-local-encrypted\n")
    assert "sk-local-encrypted" not in store.read_text()
    # As the comment in the template has it.
    line = f"LoadCredentialEncrypted=api-key:codex-api-proxy.{user.name}.api-key"
    template = pathlib.Path(f"/usr/lib/systemd/system/{UNIT}@.service").read_text()
    assert f"#   {line.replace(user.name, 'alice')}\n" in template
    drop_in = pathlib.Path(f"/etc/systemd/system/{name}.service.d/override.conf")
    drop_in.parent.mkdir()
    drop_in.write_text(f"[Service]\n{line}\n")
    run("systemctl", "daemon-reload")
    try:
        verified = run("systemd-analyze", "verify", name + ".service")
        assert verified.stdout + verified.stderr == "", verified
        run("systemctl", "start", name + ".socket")
        key = {"Authorization": "Bearer sk-local-encrypted"}
        assert ask("hi", UnixHTTP(path)).status == 401
        assert ask("hi", UnixHTTP(path), {"Authorization": "Bearer wrong"}).status == 401
        assert ask("Reply with exactly: decrypted", UnixHTTP(path), key).answer() == "decrypted"
        run("systemctl", "reload", name + ".service")
        assert ask("Reply with exactly: again", UnixHTTP(path), key).answer() == "again"
    finally:
        run("systemctl", "stop", name + ".socket", name + ".service")
        shutil.rmtree(drop_in.parent)
        store.unlink()
        run("systemctl", "daemon-reload")


@check
def the_system_template_takes_an_address_and_settings_for_each_user():
    stop_all()
    configure()
    name = f"{UNIT}@{user.name}"
    variables = pathlib.Path(f"/etc/codex-api-proxy/{user.name}.env")
    variables.parent.mkdir(exist_ok=True)
    variables.write_text("CODEX_PROXY_MAX_QUEUE_SIZE=5\n")
    # As the comment in the template has it.
    drop_in = pathlib.Path(f"/etc/systemd/system/{name}.socket.d/override.conf")
    drop_in.parent.mkdir()
    drop_in.write_text("[Socket]\nListenStream=127.0.0.1:8765\n")
    run("systemctl", "daemon-reload")
    try:
        run("systemctl", "start", name + ".socket")
        url = "http://127.0.0.1:8765/v1/models"
        for caller, expect in ((user.name, "200"), ("root", "200"), ("stranger", "403")):
            curl = ("curl", "-sS", "-o", "/dev/null", "-w", "%{http_code}", url)
            assert run("runuser", "-u", caller, "--", *curl).stdout == expect, caller
        page = until("it is ready", lambda: (get("/ready").status == 200) and get("/ready").json())
        assert page["queue"]["max_queue_size"] == 5, page
        assert get("/health", UnixHTTP(f"/run/codex-api-proxy/{user.name}.sock")).status == 200
        variables.write_text("CODEX_PROXY_MAX_QUEUE_SIZE=many\n")
        done = run("systemctl", "reload", name + ".service", check=False)
        assert done.returncode, "reloading a broken variable succeeded"
    finally:
        run("systemctl", "stop", name + ".socket", name + ".service")
        shutil.rmtree(drop_in.parent)
        variables.unlink()
        run("systemctl", "daemon-reload")


@check
def install_for_the_whole_system_and_away_again():
    stop_all()
    configure()
    places = [pathlib.Path(f"/etc/systemd/system/{UNIT}@.{kind}") for kind in ("service", "socket")]
    # Not where the packaged templates have it: these are to run the program that wrote them.
    program = pathlib.Path("/opt/own build/codex-api-proxy")
    program.parent.mkdir()
    shutil.copy("/usr/bin/codex-api-proxy", program)

    def install(*more):
        return run(str(program), *more).stdout

    # The packaged program has its templates already.
    assert "Already installed by a package: " in run("/usr/bin/codex-api-proxy", "install", "--system").stdout
    assert not any(path.exists() for path in places)
    # What others can write is not made into a unit that everybody runs: a folder above, the file itself.
    for path in (program.parent, program):
        path.chmod(0o777)
        result = subprocess.run([program, "install", "--system"], capture_output=True, text=True)
        mend = f"others may write to {path} (mode 0777); run chmod go-w {path}"
        assert result.returncode == 1 and mend in result.stderr, result
        path.chmod(0o755)
    assert not any(path.exists() for path in places)
    said = install("install", "--system")
    assert all(f"Wrote {path}" in said for path in places), said
    assert f"enable --now {UNIT}@alice.socket" in said, said
    assert "Wrote" not in install("install", "--system"), "a second time changes nothing"
    names = [f"{UNIT}@{user.name}.{kind}" for kind in ("service", "socket")]
    verified = run("systemd-analyze", "verify", *names)
    assert not verified.stdout + verified.stderr, verified.stdout + verified.stderr
    run("systemctl", "enable", "--now", names[1])
    path = f"/run/codex-api-proxy/{user.name}.sock"
    assert ask("Reply with exactly: installed", UnixHTTP(path)).answer() == "installed"
    shown = run("systemctl", "show", "--value", "-p", "FragmentPath", names[0]).stdout.strip()
    assert shown == str(places[0]), shown
    assert processes(str(program)), "it runs the program that wrote the units"

    said = install("uninstall", "--system")
    assert all(f"Removed {path}" in said for path in places), said
    assert not processes(str(program)) and not codex_processes()
    left = [*pathlib.Path("/etc/systemd/system").glob(f"**/{UNIT}*"), *pathlib.Path("/run/codex-api-proxy").glob("*")]
    assert not left, left
    for name in names:
        assert run("systemctl", "is-active", name, check=False).stdout.strip() == "inactive", name
    # The packaged template is in force again.
    shown = run("systemctl", "show", "--value", "-p", "FragmentPath", names[0]).stdout.strip()
    assert shown.endswith(f"/lib/systemd/system/{UNIT}@.service"), shown
    assert "Nothing of it is installed" in install("uninstall", "--system")
