"""The program's verbs as a user types them."""

import socket

from machine import UNIT, ask, check, codex_processes, configure, get, stop_all, tcp, until, user


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
