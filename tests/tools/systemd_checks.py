"""What the service promises under systemd, checked in a booted one; see tests/it/systemd.rs.

Runs as root inside tests/tools/boot-systemd.sh. Prints one line for each check, `ok NAME`,
`failed NAME: why` or `measured NAME: what`; exits 0 if none failed. Arguments: names of checks to
run, none for all. BOOT_REPEAT multiplies the loops that look for lost requests.
"""

import concurrent.futures
import http.client
import json
import os
import pathlib
import pwd
import shutil
import socket
import subprocess
import sys
import threading
import time
import traceback

UNIT = "codex-api-proxy"
REPEAT = int(os.environ.get("BOOT_REPEAT") or 1)
PATIENCE = 60


def run(*command, check=True, **more):
    done = subprocess.run(command, capture_output=True, text=True, timeout=180, **more)
    if check and done.returncode:
        raise AssertionError(f"{' '.join(command)}: {done.returncode}: {done.stdout}{done.stderr}")
    return done


def until(what, condition, seconds=PATIENCE):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        value = condition()
        if value:
            return value
        time.sleep(0.01)
    raise AssertionError(f"not within {seconds} s: {what}")


def add_user(name):
    run("useradd", "--create-home", "--shell", "/bin/bash", name)
    return pwd.getpwnam(name)


class User:
    """An ordinary user with a service manager of its own, without a session."""

    def __init__(self, name):
        entry = add_user(name)
        self.name, self.uid, self.gid, self.home = name, entry.pw_uid, entry.pw_gid, pathlib.Path(entry.pw_dir)
        self.runtime = pathlib.Path(f"/run/user/{self.uid}")
        run("loginctl", "enable-linger", name)
        until("the user's manager runs", lambda: (self.runtime / "systemd/private").exists())

    def run(self, *command, check=True):
        variables = [f"XDG_RUNTIME_DIR={self.runtime}", f"DBUS_SESSION_BUS_ADDRESS=unix:path={self.runtime}/bus"]
        return run("runuser", "-u", self.name, "--", "env", *variables, *command, check=check, cwd="/")

    def systemctl(self, *arguments, check=True):
        return self.run("systemctl", "--user", *arguments, check=check)

    def show(self, name, unit=UNIT + ".service"):
        return self.systemctl("show", "--value", "-p", name, unit).stdout.strip()

    def journal(self, *matches):
        out = self.run("journalctl", "--user", "-u", UNIT, "-o", "json", "--no-pager", *matches).stdout
        return [json.loads(line) for line in out.splitlines()]

    def write(self, path, text):
        path = self.home / path
        missing = [folder for folder in path.parents if not folder.exists()]
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        path.chmod(0o600)
        for made in [path, *missing]:
            os.chown(made, self.uid, self.gid)
        return path

    def drop_in(self, text, unit=UNIT + ".service"):
        folder = self.home / ".config/systemd/user" / (unit + ".d")
        if text is None:
            shutil.rmtree(folder, ignore_errors=True)
        else:
            self.write(folder / "test.conf", text)
        self.systemctl("daemon-reload")


class UnixHTTP(http.client.HTTPConnection):
    def __init__(self, path, timeout=PATIENCE):
        super().__init__("localhost", timeout=timeout)
        self.path = str(path)

    def connect(self):
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self.path)


def tcp():
    return http.client.HTTPConnection("127.0.0.1", 8765, timeout=PATIENCE)


class Reply:
    def __init__(self, response):
        self.status, self.headers, self.body = response.status, response.headers, response.read().decode()

    def json(self):
        return json.loads(self.body)

    def answer(self):
        assert self.status == 200, f"{self.status} {self.body}"
        return self.json()["choices"][0]["message"]["content"]


def call(connection, method, path, body=None, headers=None):
    headers = {"Content-Type": "application/json", **(headers or {})}
    try:
        connection.request(method, path, body and json.dumps(body), headers)
        return Reply(connection.getresponse())
    finally:
        connection.close()


def get(path, connection=None):
    return call(connection or tcp(), "GET", path)


def ask(text, connection=None, headers=None, **more):
    body = {"model": "codex-local", "messages": [{"role": "user", "content": text}], **more}
    return call(connection or tcp(), "POST", "/v1/chat/completions", body, headers)


def tool(command):
    """A prompt at which the scripted model calls Codex's shell tool."""
    return f"go [[tool=exec_command {json.dumps({'cmd': command})}]]"


PROVIDER = [
    'model_provider="mock"',
    'model_providers.mock={name="mock",base_url="http://127.0.0.1:9999/v1",wire_api="responses",'
    "request_max_retries=0,stream_max_retries=0}",
]


def settings(**more):
    values = {"codex_bin": "/opt/codex/bin/codex", "codex_configs": PROVIDER, **more}
    return "".join(f"{key} = {json.dumps(value)}\n" for key, value in values.items())


def configure(**more):
    user.write(".config/codex-api-proxy/config.toml", settings(**more))


def stop_all():
    user.systemctl("stop", UNIT + ".socket", UNIT + ".service", check=False)
    user.systemctl("reset-failed", check=False)
    for unit in (".service", ".socket"):
        user.drop_in(None, UNIT + unit)


def start(**more):
    stop_all()
    configure(**more)
    user.systemctl("start", UNIT)


def start_socket(service_drop_in=None, **more):
    stop_all()
    configure(**more)
    if service_drop_in:
        user.drop_in(service_drop_in)
    user.systemctl("start", UNIT + ".socket")


def processes(of):
    """Ids of the processes that run the file `of`."""
    found = []
    for link in pathlib.Path("/proc").glob("[0-9]*/exe"):
        try:
            if str(link.readlink()).startswith(of):
                found.append(int(link.parts[2]))
        except OSError:
            pass
    return found


def codex_processes():
    return processes("/opt/codex/")


# --- the checks ------------------------------------------------------------------------------


def units_verify():
    user_units = [f"/usr/lib/systemd/user/{UNIT}.{kind}" for kind in ("service", "socket")]
    system_units = [f"{UNIT}@{user.name}.{kind}" for kind in ("service", "socket")]
    for done in (
        user.run("systemd-analyze", "--user", "verify", *user_units),
        run("systemd-analyze", "verify", *system_units),
    ):
        assert not done.stdout + done.stderr, done.stdout + done.stderr
    unit = f"/usr/lib/systemd/system/{UNIT}@.service"
    exposed = run("systemd-analyze", "security", "--offline=yes", "--threshold=30", "--no-pager", unit)
    print("measured exposure:", exposed.stdout.strip().splitlines()[-1])


def ready_comes_after_the_first_look_and_health_before():
    slow = pathlib.Path("/opt/slow-codex")
    slow.write_text('#!/bin/sh\n[ "$1" != --version ] || until [ -e /run/go ]; do sleep 0.05; done\n'
                    'exec /opt/codex/bin/codex "$@"\n')
    slow.chmod(0o755)
    stop_all()
    configure(codex_bin=str(slow))
    user.systemctl("start", "--no-block", UNIT)

    def health():
        try:
            return get("/health").status == 200
        except OSError:
            return False

    until("/health answers", health)
    assert user.show("ActiveState") == "activating", user.show("ActiveState")
    assert get("/ready").status == 503
    until("the status says why", lambda: "not ready: " in user.show("StatusText"))
    pathlib.Path("/run/go").touch()
    until("the unit is started", lambda: user.show("ActiveState") == "active")
    ready = get("/ready")
    assert ready.status == 200, ready.body
    assert user.show("StatusText").startswith("ready; 0 turns running, 0 queued"), user.show("StatusText")


def a_turn_shows_in_status_and_journal():
    start()
    with concurrent.futures.ThreadPoolExecutor() as pool:
        headers = {"x-request-id": "journal-1"}
        turn = pool.submit(ask, "Reply with exactly: one two three four[[delay=700]]", None, headers)
        until("a turn shows in the status", lambda: "1 turns running" in user.show("StatusText"))
        assert turn.result().answer() == "one two three four"
    until("and goes again", lambda: "0 turns running" in user.show("StatusText"))
    lines = until("the journal has it", lambda: user.journal("CODEX_REQUEST_ID=journal-1"))
    assert len(lines) == 1, lines
    line = lines[0]
    wanted = {"CODEX_EVENT": "chat_completion_latency", "CODEX_STATUS": "ok", "CODEX_ENGINE": "exec",
              "PRIORITY": "6", "SYSLOG_IDENTIFIER": UNIT, "_TRANSPORT": "journal", "CODEX_HTTP_STATUS": "200"}
    for name, value in wanted.items():
        assert line.get(name) == value, (name, line.get(name))
    assert line["MESSAGE"].startswith("codex_api_proxy.latency {"), line["MESSAGE"]
    assert user.journal("CODEX_EVENT=chat_completion_latency")


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


def codex_s_own_sandbox_works_in_the_user_unit():
    start(profile="agent")
    assert get("/ready").json()["agent_reads"] == "workspace", get("/ready").body
    sandbox_works()


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


def good_and_bad_reloads():
    start(max_queue_size=3)
    pid = user.show("MainPID")
    assert get("/ready").json()["queue"]["max_queue_size"] == 3
    with concurrent.futures.ThreadPoolExecutor() as pool:
        turn = pool.submit(ask, "Reply with exactly: not disturbed at all[[delay=500]]")
        until("the turn runs", lambda: get("/ready").json()["queue"]["running"] == 1)
        configure(max_queue_size=5)
        user.systemctl("reload", UNIT)
        until("the new limit is in force", lambda: get("/ready").json()["queue"]["max_queue_size"] == 5)
        user.write(".config/codex-api-proxy/config.toml", settings(max_queue_size="many"))
        assert user.systemctl("reload", UNIT, check=False).returncode, "reloading a broken file succeeded"
        assert turn.result().answer() == "not disturbed at all"
    assert user.show("ActiveState") == "active" and user.show("MainPID") == pid
    assert get("/ready").json()["queue"]["max_queue_size"] == 5
    # The signal alone: the same, said in log and status.
    os.kill(int(pid), 1)
    until("the status says so", lambda: "running on the old settings" in user.show("StatusText"))
    line = until("the log explains it", lambda: user.journal(f"MESSAGE_ID={BROKEN}"))[0]
    assert "max_queue_size" in line["MESSAGE"] and line["PRIORITY"] == "3", line
    explained = user.run("journalctl", "--user", "-x", "--no-pager", f"MESSAGE_ID={BROKEN}").stdout
    assert "config check" in explained, explained
    configure(max_queue_size=6, port=9000)
    user.systemctl("reload", UNIT)
    until("good again", lambda: get("/ready").json()["queue"]["max_queue_size"] == 6)
    until("what needs a restart is named", lambda: "a restart is needed for port" in user.show("StatusText"))
    assert user.show("MainPID") == pid and user.show("NRestarts") == "0"


def the_watchdog_is_fed_and_bites():
    stop_all()
    configure()
    user.drop_in("[Service]\nWatchdogSec=2\n")
    user.systemctl("start", UNIT)
    pid = user.show("MainPID")
    alive = lambda: int(user.show("WatchdogTimestampMonotonic") or 0)
    first = alive()
    until("the watchdog is fed for three times its limit", lambda: alive() > first + 6_000_000)
    assert user.show("MainPID") == pid and user.show("NRestarts") == "0"
    os.kill(int(pid), 19)
    until("the stopped process is replaced", lambda: user.show("NRestarts") == "1" and user.show("ActiveState") == "active")
    assert ask("Reply with exactly: back").answer() == "back"


def nothing_is_left_after_a_kill():
    start()
    with concurrent.futures.ThreadPoolExecutor() as pool:
        turn = pool.submit(ask, "[[delay=20000]]Reply with exactly: never said")
        before = until("a codex process runs", codex_processes)
        user.systemctl("kill", "--kill-whom=main", "-s", "KILL", UNIT)
        until("no codex process is left", lambda: not set(before) & set(codex_processes()))
        try:
            raise AssertionError(f"answered: {turn.result().body}")
        except (OSError, http.client.HTTPException):
            pass
    until("it is started again", lambda: user.show("ActiveState") == "active")
    assert ask("Reply with exactly: back").answer() == "back"
    user.systemctl("stop", UNIT)
    until("no codex process outlives a stop", lambda: not codex_processes())


def stream(text, connection=None):
    """The body of a stream, and whether it ended as it should: [DONE] or an error event."""
    connection = connection or tcp()
    body = {"model": "codex-local", "stream": True, "messages": [{"role": "user", "content": text}]}
    connection.request("POST", "/v1/chat/completions", json.dumps(body), {"Content-Type": "application/json"})
    reply = Reply(connection.getresponse())
    connection.close()
    return reply


def a_drain_lets_turns_end_and_refuses_the_rest():
    start(max_concurrency=1)
    with concurrent.futures.ThreadPoolExecutor() as pool:
        running = pool.submit(ask, "Reply with exactly: this one may end[[delay=500]]")
        until("it runs", lambda: get("/ready").json()["queue"]["running"] == 1)
        queued = pool.submit(ask, "Reply with exactly: too late")
        until("another waits", lambda: get("/ready").json()["queue"]["waiting"] == 1)
        user.systemctl("stop", UNIT)
        assert running.result().answer() == "this one may end"
        refused = queued.result()
        assert refused.status == 503 and refused.headers["x-should-retry"] == "true", (refused.status, refused.body)
    assert user.show("Result") == "success" and not codex_processes()
    start(drain_seconds=1)
    with concurrent.futures.ThreadPoolExecutor() as pool:
        cut = pool.submit(stream, "[[reasoning=hm]][[delay=60000]]Reply with exactly: a b c d")
        until("it runs", lambda: get("/ready").json()["queue"]["running"] == 1)
        user.systemctl("stop", UNIT)
        reply = cut.result()
        assert '"error"' in reply.body and "[DONE]" not in reply.body, reply.body
    assert user.show("Result") == "success" and not codex_processes()


def a_long_drain_asks_for_its_time():
    stop_all()
    configure(drain_seconds=60)
    user.drop_in("[Service]\nTimeoutStopSec=2\n")
    user.systemctl("start", UNIT)
    with concurrent.futures.ThreadPoolExecutor() as pool:
        running = pool.submit(ask, "Reply with exactly: one two three four five[[delay=1000]]")
        until("it runs", lambda: get("/ready").json()["queue"]["running"] == 1)
        user.systemctl("stop", UNIT)
        assert running.result().answer() == "one two three four five"
    assert user.show("Result") == "success", user.show("Result")


def sockets_start_the_service():
    start_socket()
    path = user.runtime / "codex-api-proxy.sock"
    assert path.stat().st_mode & 0o777 == 0o600 and path.stat().st_uid == user.uid
    times = []
    for _ in range(5):
        user.systemctl("stop", UNIT + ".service")
        began = time.monotonic()
        assert get("/health").status == 200
        times.append(1000 * (time.monotonic() - began))
    times.sort()
    print(f"measured cold start to /health over the socket: median {times[2]:.0f} ms, worst {times[-1]:.0f} ms")
    assert ask("Reply with exactly: over TCP").answer() == "over TCP"
    user.systemctl("stop", UNIT + ".service")
    assert ask("Reply with exactly: over Unix", UnixHTTP(path)).answer() == "over Unix"
    url = "http://127.0.0.1:8765/v1/models"
    status = run("runuser", "-u", "stranger", "--", "curl", "-sS", "-o", "/dev/null", "-w", "%{http_code}", url).stdout
    assert status == "403", status
    refused = run("runuser", "-u", "stranger", "--", "curl", "-sS", "--unix-socket", str(path), url, check=False)
    assert refused.returncode, refused.stdout


def started():
    return int(user.show("ExecMainStartTimestampMonotonic") or 0)


def idle_exits_lose_no_request():
    idle = 0.2
    start_socket("[Unit]\nStartLimitIntervalSec=0\n", idle_exit_seconds=idle)
    until("the first answer", lambda: get("/health").status == 200)
    lost, answered, starts, last = [], 0, 0, started()
    gap = 0.0
    while starts < 20 * REPEAT:
        # From well before the moment of exit to well after it, again and again.
        gap = idle * 0.8 if gap > idle * 1.6 else gap + idle / 40
        time.sleep(gap)
        try:
            reply = get("/health", tcp() if answered % 2 else UnixHTTP(user.runtime / "codex-api-proxy.sock"))
            assert reply.status == 200, reply.body
            answered += 1
        except (OSError, http.client.HTTPException) as error:
            lost.append(f"{gap:.3f}: {error!r}")
            answered += 1
        if started() != last:
            starts, last = starts + 1, started()
    print(f"measured idle exits: {starts}, requests around them {answered}, lost {len(lost)}")
    assert not lost, lost
    assert user.show("Result") == "success"


def restarts_under_load_lose_no_request():
    start_socket("[Unit]\nStartLimitIntervalSec=0\n", max_concurrency=4, max_queue_size=64, drain_seconds=20)
    over, lost, lock = threading.Event(), [], threading.Lock()
    counts = {"complete": 0, "retry": 0}

    def client(number):
        # Half of them keep their connection, as client libraries do.
        kept = tcp() if number % 2 else None
        body = {"model": "codex-local", "stream": True,
                "messages": [{"role": "user", "content": "Reply with exactly: a b c d e[[delay=20]]"}]}
        while not over.is_set():
            connection = kept or tcp()
            try:
                connection.request("POST", "/v1/chat/completions", json.dumps(body), {"Content-Type": "application/json"})
                reply = Reply(connection.getresponse())
                complete = reply.status == 200 and reply.body.endswith("data: [DONE]\n\n")
                explained = reply.status == 200 and '"error"' in reply.body
                retry = reply.status in (429, 503) and reply.headers["x-should-retry"] == "true"
                with lock:
                    if complete:
                        counts["complete"] += 1
                    elif explained or retry:
                        counts["retry"] += 1
                    else:
                        lost.append(f"{reply.status} {reply.body[-200:]}")
            except (OSError, http.client.HTTPException) as error:
                with lock:
                    lost.append(repr(error))
                connection.close()
            if not kept:
                connection.close()

    restarts = 5 * REPEAT
    with concurrent.futures.ThreadPoolExecutor(32) as pool:
        for number in range(32):
            pool.submit(client, number)
        try:
            for number in range(restarts):
                seen = counts["complete"]
                until("answers come", lambda: counts["complete"] > seen + 2)
                user.systemctl("restart", UNIT + ".service")
        finally:
            over.set()
    print(f"measured restarts under 32 streams: {restarts}, complete {counts['complete']}, "
          f"told to retry {counts['retry']}, lost {len(lost)}")
    assert not lost, lost[:5]


def broken_settings_with_a_socket_answer_503():
    stop_all()
    user.write(".config/codex-api-proxy/config.toml", settings(max_queue_size="many"))
    user.systemctl("start", UNIT + ".socket")
    reply = ask("hi")
    assert reply.status == 503 and reply.json()["error"]["code"] == "misconfigured", reply.body
    assert get("/health").status == 200
    pid = user.show("MainPID")
    assert "misconfigured" in user.show("StatusText") and "max_queue_size" in user.show("StatusText")
    assert user.systemctl("reload", UNIT, check=False).returncode
    for _ in range(40):
        assert ask("hi").status == 503
    assert user.show("MainPID") == pid and user.show("NRestarts") == "0"
    configure()
    user.systemctl("reload", UNIT)
    until("it serves", lambda: get("/ready").status == 200)
    assert ask("Reply with exactly: mended").answer() == "mended"
    assert user.show("MainPID") == pid
    # Without the socket there is nobody to answer: exit 78, and no restart.
    stop_all()
    user.write(".config/codex-api-proxy/config.toml", settings(max_queue_size="many"))
    assert user.systemctl("start", UNIT, check=False).returncode
    assert user.show("ExecMainStatus") == "78" and user.show("NRestarts") == "0", user.show("ExecMainStatus")


def not_logged_in_is_explained():
    start(codex_configs=[])
    assert user.show("ActiveState") == "active"
    assert "not ready: " in user.show("StatusText"), user.show("StatusText")
    assert until("it is in the journal", lambda: user.journal(f"MESSAGE_ID={NOT_LOGGED_IN}"))


def app_server_workers_are_up_at_ready():
    start(engine="app-server", workers=1)
    page = get("/ready").json()
    assert page["status"] == "ready" and page["workers"] == {"ready": 1, "total": 1}, page
    assert "1 of 1 workers" in user.show("StatusText"), user.show("StatusText")
    assert ask("Reply with exactly: streamed").answer() == "streamed"
    user.systemctl("kill", "--kill-whom=main", "-s", "KILL", UNIT)
    until("its worker is gone and another up", lambda: user.show("NRestarts") == "1" and user.show("ActiveState") == "active")
    user.systemctl("stop", UNIT)
    until("no worker outlives it", lambda: not codex_processes())


def the_system_template_serves_with_its_key():
    stop_all()
    name = f"{UNIT}@{user.name}"
    pathlib.Path("/etc/codex-api-proxy").mkdir()
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
    assert not codex_processes()


def a_user_unit_takes_its_key_as_a_credential():
    stop_all()
    configure()
    user.write("key", "sk-user-credential\n")
    user.drop_in("[Service]\nLoadCredential=api-key:%h/key\n")
    user.systemctl("start", UNIT)
    assert ask("hi").status == 401
    assert ask("Reply with exactly: keyed", None, {"Authorization": "Bearer sk-user-credential"}).answer() == "keyed"
    user.systemctl("reload", UNIT)
    assert ask("hi").status == 401


def verb(line, code=0):
    """Runs the program as the user types it; returns what it printed."""
    done = user.run("codex-api-proxy", *line.split(), check=False)
    text = done.stdout + done.stderr
    assert done.returncode == code, f"codex-api-proxy {line}: {done.returncode}, not {code}: {text}"
    return text


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


CHECKS = [
    units_verify,
    ready_comes_after_the_first_look_and_health_before,
    a_turn_shows_in_status_and_journal,
    codex_inherits_nothing_of_the_service_manager,
    codex_s_own_sandbox_works_in_the_user_unit,
    codex_s_own_sandbox_works_in_the_hardened_user_unit,
    good_and_bad_reloads,
    the_watchdog_is_fed_and_bites,
    nothing_is_left_after_a_kill,
    a_drain_lets_turns_end_and_refuses_the_rest,
    a_long_drain_asks_for_its_time,
    sockets_start_the_service,
    idle_exits_lose_no_request,
    restarts_under_load_lose_no_request,
    broken_settings_with_a_socket_answer_503,
    not_logged_in_is_explained,
    app_server_workers_are_up_at_ready,
    a_user_unit_takes_its_key_as_a_credential,
    the_verbs_of_the_python_program_work_word_by_word,
    the_system_template_serves_with_its_key,
]


def message_id(subject):
    lines = pathlib.Path(f"/usr/lib/systemd/catalog/{UNIT}.catalog").read_text().splitlines()
    return lines[lines.index("Subject: " + subject) - 1].removeprefix("-- ")


def main():
    global user, BROKEN, NOT_LOGGED_IN
    BROKEN, NOT_LOGGED_IN = message_id("The settings are broken"), message_id("Codex is not logged in")
    run("journalctl", "--update-catalog")
    run("systemctl", "daemon-reload")
    add_user("stranger")
    user = User("tester")
    run("systemd-run", "--unit=upstream", "/usr/lib/codex-api-proxy-tests/scripted-upstream", "127.0.0.1:9999")
    failed = 0
    wanted = sys.argv[1:]
    for check in CHECKS:
        if wanted and check.__name__ not in wanted:
            continue
        began = time.monotonic()
        try:
            check()
            print(f"ok {check.__name__} ({time.monotonic() - began:.1f} s)", flush=True)
        except Exception as error:  # noqa: BLE001 - each check is judged by itself
            failed += 1
            print(f"failed {check.__name__}: {str(error) or repr(error)}".replace("\n", " | "), flush=True)
            traceback.print_exc()
            for manager in ("--user-unit", "--unit"):
                log = run("journalctl", "--no-pager", "-n", "25", "-o", "cat", manager, UNIT + "*", check=False)
                print(log.stdout, file=sys.stderr, flush=True)
            print(user.systemctl("status", "--no-pager", "-n0", UNIT, check=False).stdout, file=sys.stderr)
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
