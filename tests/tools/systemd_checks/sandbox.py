"""What Codex gets of the service's surroundings, and its own sandbox inside the units'."""

import concurrent.futures
import json
import os
import pathlib
import shutil

from machine import UNIT, ask, check, codex_processes, configure, get, run, start, stop_all, tcp, tool, until, user


@check
def codex_inherits_nothing_of_the_service_manager():
    start()
    with concurrent.futures.ThreadPoolExecutor() as pool:
        turn = pool.submit(ask, "[[delay=3000]]Reply with exactly: done")
        pids = until("a codex process runs", codex_processes)
        names = set()
        for pid in pids:
            environment = pathlib.Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
            names |= {entry.split(b"=")[0].decode() for entry in environment if entry}
        leaked = {"NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID", "LISTEN_FDS", "LISTEN_PID", "JOURNAL_STREAM",
                  "CREDENTIALS_DIRECTORY", "INVOCATION_ID", "MAINPID", "DBUS_SESSION_BUS_ADDRESS"} & names
        assert names and not leaked, (names, leaked)
        turn.result()


def sandbox_works(connection=tcp, workspace=None, headers=None):
    workspace = pathlib.Path(workspace or user.home / ".codex-api-proxy/workspace")
    note, secret = workspace / "note.txt", user.write("secret.txt", "the-secret-of-the-home")
    note.write_text("the-note-of-the-workspace")
    os.chown(note, user.uid, user.gid)
    read = ask(tool("cat note.txt"), connection(), headers).answer()
    assert "the-note-of-the-workspace" in read, read
    for attempt in (f"cat {secret}", "echo x > written.txt; ls written.txt", "cat /proc/*/environ | tr '\\0' '\\n'"):
        read = ask(tool(attempt), connection(), headers).answer()
        assert "The tool said" in read, read
        assert "the-secret" not in read and "NOTIFY_SOCKET=" not in read, (attempt, read)
    assert not (workspace / "written.txt").exists()


@check
def codex_s_own_sandbox_works_in_the_user_unit():
    start(profile="agent")
    assert get("/ready").json()["agent_reads"] == "workspace", get("/ready").body
    sandbox_works()


@check
def codex_s_own_sandbox_works_in_the_hardened_user_unit():
    stop_all()
    configure(profile="agent")
    user.drop_in(pathlib.Path(f"/usr/lib/systemd/user/{UNIT}.service.d/hardening.conf.example").read_text())
    user.systemctl("start", UNIT)
    # Seen from its user namespace root is nobody; the user itself is served.
    def as_user(text):
        body = json.dumps({"model": "codex-local", "messages": [{"role": "user", "content": text}]})
        return user.run("curl", "-sS", "-m", "60", "http://127.0.0.1:8765/v1/chat/completions", "-H",
                        "content-type: application/json", "-d", body).stdout
    user.write(".codex-api-proxy/workspace/note.txt", "the-note-of-the-workspace")
    assert "the-note-of-the-workspace" in as_user(tool("cat note.txt"))
    user.write("secret.txt", "the-secret-of-the-home")
    assert "the-secret" not in as_user(tool(f"cat {user.home}/secret.txt"))
    probe = user.show("MainPID")
    outside = os.readlink("/proc/1/ns/user")
    assert os.readlink(f"/proc/{probe}/ns/user") != outside, "the drop-in was not in force"


@check
def root_is_known_in_the_hardened_user_unit_and_strangers_are_not():
    stop_all()
    configure()
    user.drop_in(pathlib.Path(f"/usr/lib/systemd/user/{UNIT}.service.d/hardening.conf.example").read_text())
    packaged = pathlib.Path("/etc/codex-api-proxy/config.toml")
    text = packaged.read_text()
    packaged.write_text(text + "max_queue_size = 17\n")
    user.systemctl("start", UNIT)
    # All but the user is nobody in there; what lies in /etc is root's all the same.
    ready = json.loads(user.run("curl", "-sS", "http://127.0.0.1:8765/ready").stdout)
    assert ready["queue"]["max_queue_size"] == 17, ready
    user.systemctl("reload", UNIT)
    packaged.write_text(text)
    # Elsewhere nobody's files are a stranger's.
    run("chown", "stranger", user.write(".config/codex-api-proxy/config.d/60-theirs.toml", "max_queue_size = 18\n"))
    assert user.systemctl("restart", UNIT, check=False).returncode
    assert user.show("ExecMainStatus") == "78", user.show("ExecMainStatus")
    shutil.rmtree(user.home / ".config/codex-api-proxy/config.d")
    user.systemctl("start", UNIT)
