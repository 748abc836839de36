"""Sockets that systemd holds."""

import concurrent.futures
import http.client
import json
import os
import pathlib
import signal
import threading
import time

from machine import (
    REPEAT, UNIT, Reply, UnixHTTP, ask, check, codex_processes, configure, get, run, settings, start_socket, stop_all,
    tcp, until, user,
)


def resident():
    """Of the service, as the kernel counts it."""
    lines = pathlib.Path(f"/proc/{user.show('MainPID')}/status").read_text().splitlines()
    sizes = dict(line.split(":\t") for line in lines if line.startswith("Rss") or line.startswith("VmRSS"))
    megabytes = {name: int(size.split()[0]) / 1024 for name, size in sizes.items()}
    return f"{megabytes['VmRSS']:.1f} MB resident, {megabytes['RssAnon']:.1f} MB of it its own"


@check
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
    until("it is ready", lambda: get("/ready").status == 200)
    print(f"measured idle memory: {resident()}")
    assert ask("Reply with exactly: over TCP").answer() == "over TCP"
    user.systemctl("stop", UNIT + ".service")
    assert ask("Reply with exactly: over Unix", UnixHTTP(path)).answer() == "over Unix"
    url = "http://127.0.0.1:8765/v1/models"
    status = run("runuser", "-u", "stranger", "--", "curl", "-sS", "-o", "/dev/null", "-w", "%{http_code}", url).stdout
    assert status == "403", status
    refused = run("runuser", "-u", "stranger", "--", "curl", "-sS", "--unix-socket", str(path), url, check=False)
    assert refused.returncode, refused.stdout


@check
def several_socket_units_at_once_feed_one_service():
    units = {
        "by-tcp.socket": "ListenStream=127.0.0.1:8770\nFileDescriptorName=by-tcp\n",
        "by-unix.socket": "ListenStream=%t/by-unix.sock\nSocketMode=0600\nFileDescriptorName=by-unix\n",
        # Two in one unit share its name.
        "more.socket": "ListenStream=[::1]:8771\nListenStream=%t/more.sock\nFileDescriptorName=a name!\n",
    }
    stop_all()
    configure()
    folder = user.home / ".config/systemd/user"
    for name, listen in units.items():
        user.write(folder / name, f"[Socket]\nService={UNIT}.service\n{listen}")
    user.systemctl("daemon-reload")
    ways = [
        lambda: tcp(8770),
        lambda: UnixHTTP(user.runtime / "by-unix.sock"),
        lambda: tcp(8771, "::1"),
        lambda: UnixHTTP(user.runtime / "more.sock"),
    ]
    try:
        user.systemctl("start", *units)
        names = [user.show("FileDescriptorName", unit) for unit in units]
        assert names == ["by-tcp", "by-unix", "a name!"], names
        for way in ways:
            # Whichever is asked first starts the service, and all of them are served by it.
            user.systemctl("stop", UNIT + ".service")
            assert get("/health", way()).status == 200
            pid = user.show("MainPID")
            for other in ways:
                assert get("/ready", other()).status in (200, 503)
            assert user.show("MainPID") == pid
        for way in ways:
            assert ask("Reply with exactly: here", way()).answer() == "here"
        try:
            get("/health")
            raise AssertionError("it listens on the address of the settings, too")
        except ConnectionRefusedError:
            pass
    finally:
        user.systemctl("stop", *units, UNIT + ".service", check=False)
        for name in units:
            (folder / name).unlink()
        user.systemctl("daemon-reload")


def started():
    return int(user.show("ExecMainStartTimestampMonotonic") or 0)


@check
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


@check
def restarts_under_load_lose_no_request():
    restarts_under_load(max_concurrency=4)


@check
def restarts_under_load_lose_no_request_of_workers():
    restarts_under_load(engine="app-server", workers=2, turns_per_worker=2)


def restarts_under_load(**engine):
    start_socket("[Unit]\nStartLimitIntervalSec=0\n", max_queue_size=64, drain_seconds=20, **engine)
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
    user.systemctl("stop", UNIT + ".socket", UNIT + ".service")
    assert not codex_processes()


@check
def a_crash_refuses_nobody_while_systemd_listens():
    start_socket()
    for number in range(5):
        assert ask(f"Reply with exactly: number {number}").answer() == f"number {number}"
        os.kill(int(user.show("MainPID")), signal.SIGKILL)
    assert ask("Reply with exactly: still here").answer() == "still here"


@check
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
