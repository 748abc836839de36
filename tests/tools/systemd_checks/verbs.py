"""The program's verbs as a user types them."""

import os
import pathlib
import pwd
import shutil
import socket

from machine import (
    UNIT, UnixHTTP, ask, check, codex_processes, configure, get, processes, run, settings, stop_all, tcp, until, user,
)


def verb(line, code=0):
    """Runs the program as the user types it; returns what it printed."""
    done = user.run("codex-api-proxy", *line.split(), check=False)
    text = done.stdout + done.stderr
    assert done.returncode == code, f"codex-api-proxy {line}: {done.returncode}, not {code}: {text}"
    return text


@check
def the_verbs_of_the_python_program_work_word_by_word():
    stop_all()
    configure()
    assert "http://127.0.0.1:8765" in verb("start")
    assert user.show("ActiveState") == "active" and get("/ready").status == 200
    assert ask("Reply with exactly: started").answer() == "started"
    pid = user.show("MainPID")
    assert "already running" in verb("start --host 0.0.0.0") and user.show("MainPID") == pid
    assert "running" in verb("status")
    assert "max_queue_size" in verb("status --verbose")
    verb("restart")
    assert user.show("MainPID") != pid and get("/ready").status == 200
    assert "http://127.0.0.1:8118" in verb("restart --proxy=http://127.0.0.1:8118")
    verb("stop")
    # The saved proxy is gone: start takes only what it is given.
    assert "8118" not in verb("start --fast")
    assert ask("Reply with exactly: fast").answer() == "fast"
    verb("stop")
    verb("start --engine app-server --workers 2")
    # They start one at a time; the first makes the service ready.
    until("both workers are up", lambda: get("/ready").json()["workers"] == {"ready": 2, "total": 2})
    verb("stop")
    verb("start --proxy=http://127.0.0.1:8118 --fast --engine app-server --workers 4")
    assert get("/ready").json()["workers"]["total"] == 4
    # A restart that cannot work leaves the old settings running.
    verb("restart --codex-bin /no/such", 1)
    assert get("/ready").json()["workers"]["total"] == 4
    verb("stop")
    verb("stop")
    assert "stopped" in verb("status", 3)
    until("nothing of codex is left", lambda: not codex_processes())
    warned = verb("start --host 0.0.0.0")
    assert "warning" in warned and "api_key" in warned and "quota" in warned, warned
    assert "listening" in verb("logs")
    verb("doctor --live")
    verb("stop")


@check
def a_restart_onto_a_port_that_is_taken_changes_nothing():
    for socket_too in (False, True):
        stop_all()
        configure()
        if socket_too:
            user.systemctl("start", UNIT + ".socket")
        verb("start")
        pid, saved = user.show("MainPID"), verb("config show")
        with socket.create_server(("127.0.0.1", 8999)):
            said = verb("restart --port 8999", 1)
        # The holder is root's here, so the user may not know its name.
        assert "127.0.0.1:8999 is held by" in said and "--port" in said, said
        assert user.show("MainPID") == pid and verb("config show") == saved, said
        assert ask("Reply with exactly: as before").answer() == "as before"
        # With the port free it works, and the way back too.
        verb("restart --port 8999")
        assert ask("Reply with exactly: moved", tcp(8999)).answer() == "moved"
        verb("restart --port 8765")
        assert ask("Reply with exactly: back").answer() == "back"
        verb("stop")
        assert not verb_left_listening()


def verb_left_listening():
    return [port for port in (8765, 8999) if socket.socket().connect_ex(("127.0.0.1", port)) == 0]


@check
def what_cannot_be_had_disturbs_nothing():
    stop_all()
    configure()
    verb("start")
    pid, saved = user.show("MainPID"), verb("config show")
    for given, code, said in (
        ("--host no-such-host", 1, "cannot resolve `host` = \"no-such-host\""),
        ("--host 192.0.2.1", 1, "cannot listen on 192.0.2.1:8765"),
        ("--port 80", 1, "cannot listen on 127.0.0.1:80: permission denied"),
        ("--allowed-users nobody-of-that-name", 78, "there is no user `nobody-of-that-name`"),
        ("--default-cwd /proc/none", 78, "cannot create default_cwd /proc/none"),
        ("--allowed-root /usr --default-cwd /srv", 78, "must be inside allowed_roots (/usr)"),
    ):
        told = verb(f"restart {given}", code)
        assert said in told and "previously saved settings are back" in told, told
        assert told.count("error: ") == 1, told
        assert user.show("MainPID") == pid and verb("config show") == saved, given
    verb("stop")
    # Enabled while the service held the address itself: the next restart hands it over.
    verb("start")
    user.systemctl("enable", UNIT + ".socket")
    try:
        verb("restart")
        assert user.show("ActiveState", UNIT + ".socket") == "active"
        assert ask("Reply with exactly: by socket", UnixHTTP(user.runtime / "codex-api-proxy.sock")).answer() == "by socket"
        # A start that fails leaves it as `stop` did.
        verb("stop")
        verb("start --codex-bin /no/such", 1)
        assert user.show("ActiveState", UNIT + ".socket") == "inactive"
    finally:
        user.systemctl("disable", UNIT + ".socket")
        verb("stop")


@check
def sockets_that_cannot_move_are_put_back():
    stop_all()
    configure()
    place = user.home / ".config/systemd/user" / f"{UNIT}.socket.d/50-start.conf"
    user.drop_in(f"[Socket]\nExecStartPre=sh -c '! grep -qs 8999 {place}'\n", UNIT + ".socket")
    user.systemctl("start", UNIT + ".socket")
    verb("start")
    saved = verb("config show")
    told = verb("restart --port 8999", 1)
    assert f"{UNIT}.socket" in told and "previous settings are back" in told, told
    assert not place.exists() and verb("config show") == saved, told
    assert user.show("ActiveState", UNIT + ".socket") == "active"
    assert ask("Reply with exactly: as before").answer() == "as before"
    verb("stop")


@check
def units_that_cannot_start_are_explained():
    stop_all()
    configure()
    user.systemctl("mask", UNIT)
    try:
        for line, code in (("start", 1), ("restart", 1), ("install", 1), ("status", 3), ("doctor", 1), ("uninstall", 0)):
            told = verb(line, code)
            assert "masked" in told and "systemctl --user unmask codex-api-proxy" in told, (line, told)
        assert "is not running" in verb("stop")
    finally:
        user.systemctl("unmask", UNIT)
    user.write(".config/codex-api-proxy/config.toml", settings(max_queue_size="many"))
    assert user.systemctl("start", UNIT, check=False).returncode
    told = verb("status", 3)
    for part in ("codex-api-proxy: failed", "its settings are wrong (exit status 78)", "log: error: ", "max_queue_size"):
        assert part in told, (part, told)
    assert "max_queue_size" in verb("start", 78)
    assert "max_queue_size" in verb("doctor", 1)
    assert "its settings are wrong" in verb("stop")
    assert "codex-api-proxy: stopped" in verb("status", 3)
    # Held by the socket, it answers and says why.
    user.systemctl("start", UNIT + ".socket")
    assert get("/ready").status == 503
    told = verb("status")
    assert "ready      no: The server's settings are broken" in told and "max_queue_size" in told, told
    verb("stop")
    # A unit whose program is gone.
    configure()
    user.drop_in("[Service]\nExecStart=\nExecStart=/no/such/program serve\nRestartSec=60\n")
    told = verb("start", 1)
    assert "/no/such/program" in told, told
    assert user.systemctl("start", UNIT, check=False).returncode
    told = verb("status", 3)
    assert "the program that its unit names cannot be run (exit status 203); systemd tries again" in told, told
    assert "203" in verb("stop")
    user.drop_in(None)
    assert "codex-api-proxy: stopped" in verb("status", 3)
    # Started too often: systemd refuses for as long as its interval, the verb does not.
    user.drop_in("[Unit]\nStartLimitIntervalSec=600\nStartLimitBurst=2\n")
    user.write(".config/codex-api-proxy/config.toml", settings(max_queue_size="many"))
    for _ in range(3):
        assert user.systemctl("start", UNIT, check=False).returncode
    configure()
    assert user.systemctl("start", UNIT, check=False).returncode
    assert "http://127.0.0.1:8765" in verb("start")
    verb("stop")
    user.drop_in(None)


def stranger(line, *session):
    """Runs a verb as a user without lingering; `session` makes it a login."""
    begin = session or ("runuser", "-u", "stranger", "--")
    done = run(*begin, "codex-api-proxy", *line.split(), check=False, cwd="/")
    return done.returncode, done.stdout + done.stderr


@check
def without_a_login_or_lingering_the_verbs_say_so():
    for line, code in (("start", 1), ("restart", 1), ("stop", 1), ("logs", 1), ("install", 1), ("status", 4)):
        found, told = stranger(line)
        assert found == code, (line, found, told)
        for part in ("service manager does not answer", "enable-linger", "codex-api-proxy serve"):
            assert part in told, (line, part, told)
    done = run("codex-api-proxy", "status", check=False)
    assert done.returncode == 4 and "systemctl status 'codex-api-proxy@*'" in done.stdout, done.stdout
    folder = pathlib.Path("/home/stranger/.config/codex-api-proxy")
    folder.mkdir(parents=True)
    (folder / "config.toml").write_text(settings(port=8790))
    run("chown", "-R", "stranger:", "/home/stranger/.config")
    login = ("systemd-run", "--quiet", "--pipe", "--wait", "-p", "PAMName=login", "-p", "User=stranger")
    found, told = stranger("start", *login)
    assert found == 0 and "http://127.0.0.1:8790/v1" in told, told
    assert "Lingering is off: the service ends when you log out" in told and "loginctl enable-linger" in told, told
    for line in ("status", "doctor"):
        found, told = stranger(line, *login)
        assert "Lingering is off" in told, (line, told)
    # A manager that nobody's login has started.
    uid = pwd.getpwnam("stranger").pw_uid
    run("loginctl", "terminate-user", "stranger")
    until("the service ends with the login", lambda: not [
        pid for pid in processes("/usr/bin/codex-api-proxy") if os.stat(f"/proc/{pid}").st_uid == uid])


@check
def install_for_one_user_and_away_again():
    stop_all()
    configure()
    program = user.home / "own build/codex-api-proxy"
    user.write(program, "")
    shutil.copy("/usr/bin/codex-api-proxy", program)
    program.chmod(0o755)

    def own(line, code=0):
        done = user.run(str(program), *line.split(), check=False)
        assert done.returncode == code, f"{line}: {done.returncode}: {done.stdout}{done.stderr}"
        return done.stdout + done.stderr

    assert "Already installed by a package" in own("install")
    units = [user.home / f".config/systemd/user/{UNIT}.{kind}" for kind in ("service", "socket")]
    told = own("install --force")
    assert all(f"Wrote {unit}" in told for unit in units), told
    assert "Wrote" not in own("install"), "a second time changes nothing"
    verified = user.run("systemd-analyze", "--user", "verify", *map(str, units))
    assert not verified.stdout + verified.stderr, verified.stdout + verified.stderr
    own("start")
    assert processes(str(program)), "it runs the program that wrote the units"
    assert ask("Reply with exactly: installed").answer() == "installed"
    user.systemctl("reload", UNIT)
    user.systemctl("enable", UNIT + ".service", UNIT + ".socket")
    told = own("uninstall")
    assert all(f"Removed {unit}" in told for unit in units), told
    assert not processes(str(program)) and not codex_processes()
    left = list((user.home / ".config/systemd/user").glob(f"**/{UNIT}*"))
    assert not left, left
    assert user.show("FragmentPath").startswith("/usr/lib/systemd/user/")
    assert "nothing was removed" in own("uninstall")
