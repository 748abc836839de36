"""What the journal has of the service."""

import concurrent.futures
import os
import signal

from machine import UNIT, Reply, ask, catalog, check, configure, get, run, settings, start, stop_all, tcp, until, user


@check
def a_turn_shows_in_status_and_journal():
    start()
    with concurrent.futures.ThreadPoolExecutor() as pool:
        headers = {"x-request-id": "journal-1"}
        turn = pool.submit(ask, "Reply with exactly: one two three four[[delay=700]]", None, headers)
        until("a turn shows in the status", lambda: "1 turn running" in user.show("StatusText"))
        assert turn.result().answer() == "one two three four"
    until("and goes again", lambda: "0 turns running" in user.show("StatusText"))
    lines = until("the journal has it", lambda: user.journal("CODEX_REQUEST_ID=journal-1"))
    assert len(lines) == 1, lines
    line = lines[0]
    wanted = {"CODEX_EVENT": "chat_completion_latency", "CODEX_STATUS": "ok", "CODEX_ENGINE": "exec",
              "PRIORITY": "6", "SYSLOG_IDENTIFIER": UNIT, "_TRANSPORT": "journal", "CODEX_HTTP_STATUS": "200",
              "CODEX_CALLER": "root", "CODEX_PROMPT_TOKENS": "11", "CODEX_CACHED_TOKENS": "3",
              "CODEX_COMPLETION_TOKENS": "7"}
    for name, value in wanted.items():
        assert line.get(name) == value, (name, line.get(name))
    assert line["MESSAGE"].startswith("codex_api_proxy.latency {"), line["MESSAGE"]
    assert user.journal("CODEX_EVENT=chat_completion_latency")


@check
def a_stream_s_lines_and_numbers_are_fields():
    start()
    headers = {"x-request-id": "journal-2"}
    assert ask("Reply with exactly: one two", None, headers, stream=True).body.endswith("data: [DONE]\n\n")
    events = {"chat_completion_first_sse", "chat_completion_first_content_sse", "chat_completion_latency"}
    lines = lambda: {line["CODEX_EVENT"]: line for line in user.journal("CODEX_REQUEST_ID=journal-2")}
    until("the journal has all three", lambda: set(lines()) == events)
    line = lines()["chat_completion_latency"]
    assert float(line["CODEX_TOTAL_MS"]) > 0 and line["CODEX_MODEL"] == "codex-local", line


@check
def elsewhere_the_log_is_text_or_json_on_stderr():
    for log_format, wanted in (("text", " INFO listening on "), ("json", '"message":"listening on ')):
        stop_all()
        configure(log_format=log_format)
        path = user.home / f"{log_format}.log"
        user.drop_in(f"[Service]\nStandardError=file:{path}\n")
        user.systemctl("start", UNIT)
        pid = user.show("MainPID")
        assert wanted in path.read_text(), path.read_text()
        assert not user.journal(f"_PID={pid}"), "it is in the journal, too"


@check
def a_journal_that_stalls_stops_nobody():
    start()
    journald = int(run("systemctl", "show", "--value", "-p", "MainPID", "systemd-journald").stdout)
    os.kill(journald, signal.SIGSTOP)
    try:
        connection = tcp()
        # More than the socket and the queue of lines hold together.
        for _ in range(1500):
            connection.request("POST", "/v1/chat/completions", "{}", {"Content-Type": "application/json"})
            assert Reply(connection.getresponse()).status == 400
        connection.close()
        assert get("/health").status == 200
    finally:
        os.kill(journald, signal.SIGCONT)
    until("the loss is said", lambda: any(
        "log lines dropped" in line["MESSAGE"] for line in user.journal("PRIORITY=4")))
    # One that was started anew is written to as before.
    run("systemctl", "restart", "systemd-journald")
    assert ask("Reply with exactly: logged", None, {"x-request-id": "journal-3"}).answer() == "logged"
    until("the new journal has it", lambda: user.journal("CODEX_REQUEST_ID=journal-3"))


@check
def what_is_said_before_the_log_has_its_priority():
    stop_all()
    user.write(".config/codex-api-proxy/config.toml", settings(max_queue_size="many"))
    assert user.systemctl("start", UNIT, check=False).returncode
    broken, _ = catalog()["The settings are broken"]
    lines = until("the journal has it", lambda: [
        line for line in user.journal(f"MESSAGE_ID={broken}") if line["MESSAGE"].startswith("error: ")])
    assert "max_queue_size" in lines[-1]["MESSAGE"] and lines[-1]["PRIORITY"] == "3", lines[-1]


def broken_reload():
    start()
    user.write(".config/codex-api-proxy/config.toml", settings(max_queue_size="many"))
    assert user.systemctl("reload", UNIT, check=False).returncode
    os.kill(int(user.show("MainPID")), signal.SIGHUP)


# How each message of the catalog comes about, and whether turns are served all the same.
PROVOKED = {
    "Codex is not logged in": (lambda: start(codex_configs=[]), False),
    "The Codex CLI cannot be used": (lambda: start(codex_bin="/no/such/codex"), False),
    "The settings are broken": (broken_reload, True),
    "Anybody who reaches this service can spend your quota": (lambda: start(host="0.0.0.0"), True),
    "What Codex's tools read is not confined": (lambda: start(profile="agent", agent_reads="host"), True),
}


@check
def every_message_that_needs_somebody_is_explained():
    entries = catalog()
    assert set(entries) == set(PROVOKED), (set(entries), set(PROVOKED))
    for subject, (message_id, lines) in entries.items():
        provoke, served = PROVOKED[subject]
        before = len(user.journal(f"MESSAGE_ID={message_id}"))
        provoke()
        until(f"the journal has: {subject}", lambda: len(user.journal(f"MESSAGE_ID={message_id}")) > before)
        explained = user.run("journalctl", "--user", "-x", "--no-pager", f"MESSAGE_ID={message_id}").stdout
        for line in [f"Subject: {subject}", *lines]:
            assert line in explained, (line, explained)
        # None of them ends the service.
        assert user.show("ActiveState") == "active" and (get("/ready").status == 200) == served, subject
        assert user.show("StatusText").startswith("ready; " if served else "not ready: "), user.show("StatusText")
