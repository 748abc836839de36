"""Start, readiness, reload, watchdog, drain and end of the user unit."""

import concurrent.futures
import http.client
import json
import os
import pathlib
import threading

from machine import (
    PROVIDER, UNIT, ask, catalog, check, codex_processes, configure, get, run, settings, start, stop_all, tcp, until, user,
    Reply,
)

# No worries between the numbers and where it listens.
ALL_WELL = "ready; 0 turns running, 0 queued; listening on http://127.0.0.1:8765"


@check
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


@check
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


@check
def memory_is_dumped_nowhere_and_seen_by_nobody():
    start(engine="app-server")
    server, worker = user.show("MainPID"), codex_processes()[0]
    for pid in (server, worker):
        limits = pathlib.Path(f"/proc/{pid}/limits").read_text().splitlines()
        core = next(line for line in limits if line.startswith("Max core file size"))
        assert core.split()[4:6] == ["0", "0"], core
    for look in ("cat", "environ"), ("head -c1", "mem"), ("ls", "fd"):
        seen = user.run(*look[0].split(), f"/proc/{server}/{look[1]}", check=False)
        assert seen.returncode and "ermission denied" in seen.stderr, (look, seen.stdout, seen.stderr)
    # Codex is a process as any of the user's, and the first to go when memory runs out.
    assert os.stat(f"/proc/{worker}/environ").st_uid != 0
    def scores():
        try:
            return {pathlib.Path(f"/proc/{pid}/oom_score_adj").read_text() for pid in codex_processes()}
        except OSError:
            return None  # one of them has just ended

    until("every process of Codex goes first", lambda: scores() == {"1000\n"})
    # Where it listens is told all the same.
    assert "listening  127.0.0.1:8765" in user.run("codex-api-proxy", "status").stdout


@check
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
        until("the status says so", lambda: "running on the old settings" in user.show("StatusText"))
        # Good to read, and still not to be followed.
        for wrong in ({"allowed_users": ["nobody-of-that-name"]}, {"default_cwd": "/proc/none"}):
            configure(**wrong)
            assert user.systemctl("reload", UNIT, check=False).returncode, f"reloading {wrong} succeeded"
        assert turn.result().answer() == "not disturbed at all"
    assert user.show("ActiveState") == "active" and user.show("MainPID") == pid
    assert get("/ready").json()["queue"]["max_queue_size"] == 5
    # The signal alone: the same, said in log and status.
    os.kill(int(pid), 1)
    until("the status says so", lambda: "running on the old settings" in user.show("StatusText"))
    broken, _ = catalog()["The settings are broken"]
    line = until("the log names it", lambda: user.journal(f"MESSAGE_ID={broken}"))[0]
    assert "max_queue_size" in line["MESSAGE"] and line["PRIORITY"] == "3", line
    configure(max_queue_size=6, port=9000)
    user.systemctl("reload", UNIT)
    until("good again", lambda: get("/ready").json()["queue"]["max_queue_size"] == 6)
    until("what needs a restart is named", lambda: "a restart is needed for port" in user.show("StatusText"))
    # What is worrying about new settings is said as at the start, and no longer than it is true.
    configure(codex_configs=[*PROVIDER, 'sandbox_mode="danger-full-access"'])
    user.systemctl("reload", UNIT)
    until("the status warns", lambda: "codex_configs take isolation away: sandbox_mode" in user.show("StatusText"))
    configure()
    user.systemctl("reload", UNIT)
    until("all is well", lambda: user.show("StatusText").startswith(ALL_WELL))
    assert user.show("MainPID") == pid and user.show("NRestarts") == "0"


@check
def reloads_under_load_disturb_nobody():
    start(max_concurrency=4)
    pid, over, answers = user.show("MainPID"), threading.Event(), []

    def client():
        connection = tcp()
        while not over.is_set():
            answers.append(stream("Reply with exactly: a b c d[[delay=20]]", connection).body)

    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        clients = [pool.submit(client) for _ in range(8)]
        try:
            for number in range(10):
                # The limit, and what Codex is told, change each time.
                configure(max_concurrency=2 + number % 3, codex_configs=[*PROVIDER, f'model_verbosity="{["low", "high"][number % 2]}"'])
                user.systemctl("reload", UNIT)
                seen = len(answers)
                until("answers come", lambda: len(answers) > seen + 4)
        finally:
            over.set()
        for done in clients:
            done.result()
    broken = [body for body in answers if not body.endswith("data: [DONE]\n\n")]
    assert not broken, broken[:3]
    assert user.show("MainPID") == pid and get("/ready").json()["queue"]["slots"] == 2


@check
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


@check
def nothing_is_left_after_a_kill():
    start()
    with concurrent.futures.ThreadPoolExecutor() as pool:
        turn = pool.submit(ask, "[[delay=20000]]Reply with exactly: never said")
        before = until("a codex process runs", codex_processes)
        killed = user.show("MainPID")
        user.systemctl("kill", "--kill-whom=main", "-s", "KILL", UNIT)
        until("no codex process is left", lambda: not set(before) & set(codex_processes()))
        try:
            raise AssertionError(f"answered: {turn.result().body}")
        except (OSError, http.client.HTTPException):
            pass
    # systemd may not have noticed yet.
    until("it is started again", lambda: user.show("MainPID") not in ("0", killed))
    until("and ready", lambda: user.show("ActiveState") == "active")
    assert ask("Reply with exactly: back").answer() == "back"
    user.systemctl("stop", UNIT)
    until("no codex process outlives a stop", lambda: not codex_processes())


def stream(text, connection):
    body = {"model": "codex-local", "stream": True, "messages": [{"role": "user", "content": text}]}
    connection.request("POST", "/v1/chat/completions", json.dumps(body), {"Content-Type": "application/json"})
    return Reply(connection.getresponse())


@check
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
        cut = pool.submit(stream, "[[reasoning=hm]][[delay=60000]]Reply with exactly: a b c d", tcp())
        until("it runs", lambda: get("/ready").json()["queue"]["running"] == 1)
        user.systemctl("stop", UNIT)
        reply = cut.result()
        assert '"error"' in reply.body and "[DONE]" not in reply.body, reply.body
    assert user.show("Result") == "success" and not codex_processes()


@check
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


@check
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


@check
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
