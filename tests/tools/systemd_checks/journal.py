"""What the journal has of the service."""

import concurrent.futures
import os
import signal

from machine import UNIT, ask, catalog, check, get, settings, start, until, user


@check
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
