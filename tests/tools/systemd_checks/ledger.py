"""What was spent, as the journal has it: `usage`, and today of the running service."""

import collections
import datetime
import json

from machine import UNIT, ask, check, run, start, tcp, until, user

NOTHING = {"requests": 0, "failures": 0, "tokens_unknown": 0, "input_tokens": 0, "cached_tokens": 0, "output_tokens": 0}


def usage(*arguments):
    return json.loads(user.run(UNIT, "usage", "--json", *arguments).stdout)


def rows(page):
    return {row.pop("name"): row for row in page["rows"]}


def added(before, after):
    """What came to the sums of each name."""
    change = {name: {key: row[key] - before.get(name, NOTHING)[key] for key in NOTHING} for name, row in after.items()}
    return {name: row for name, row in change.items() if any(row.values())}


class Client:
    """Counts what it is told."""

    def __init__(self, name):
        self.headers = {"Authorization": f"Bearer key-of-{name}"}
        self.sums = collections.Counter(NOTHING)

    def told(self, reported):
        self.sums["input_tokens"] += reported["prompt_tokens"]
        self.sums["cached_tokens"] += reported["prompt_tokens_details"]["cached_tokens"]
        self.sums["output_tokens"] += reported["completion_tokens"]

    def turn(self, number):
        self.sums["requests"] += 1
        text = f"Reply with exactly: {number}"
        if number % 5 == 0:
            options = {"include_usage": True}
            body = ask(text, None, self.headers, stream=True, stream_options=options).body
            chunks = [json.loads(line[6:]) for line in body.splitlines() if line.startswith("data: {")]
            self.told(next(chunk["usage"] for chunk in chunks if chunk.get("usage")))
        elif number % 7 == 0:
            self.sums["failures"] += 1
            assert ask(text, None, self.headers, temperature="hot").status == 400
        else:
            self.told(ask(text, None, self.headers).json()["usage"])

    def leaves(self):
        self.sums["requests"] += 1
        self.sums["tokens_unknown"] += 1
        connection = tcp()
        body = json.dumps({"model": "codex-local", "messages": [
            {"role": "user", "content": "Reply with exactly: one two[[delay=60000]]"}]})
        connection.request("POST", "/v1/chat/completions", body, {"Content-Type": "application/json", **self.headers})
        until("the turn runs", lambda: "1 turn running" in user.show("StatusText"))
        connection.close()
        until("it is given up", lambda: "0 turns running" in user.show("StatusText"))


@check
def sums_are_what_the_clients_were_told():
    clients = {name: Client(name) for name in ("alice", "bob", "carol")}
    keys = user.write("keys", "".join(f"{name} key-of-{name}\n" for name in clients))
    before, before_all = rows(usage("--by", "client")), usage()["total"]
    start(api_key_file=str(keys))
    shares = ["alice"] * 5 + ["bob"] * 3 + ["carol"] * 2
    for number in range(50):
        if number == 20:
            user.systemctl("restart", UNIT)
        if number == 35:
            run("journalctl", "--rotate")
        clients[shares[number % len(shares)]].turn(number)
    clients["bob"].leaves()
    assert ask("hi", None, {"Authorization": "Bearer wrong"}).status == 401
    expected = {name: dict(client.sums) for name, client in clients.items()}
    expected["refused"] = {**NOTHING, "requests": 1, "failures": 1}
    total = {key: sum(row[key] for row in expected.values()) for key in NOTHING}
    assert total["requests"] == 52 and total["failures"] > 1 and total["tokens_unknown"] == 1, total

    sums = lambda: added(before, rows(usage("--by", "client")))
    until("the journal has all", lambda: sum(row["requests"] for row in sums().values()) >= 52)
    assert sums() == expected, (sums(), expected)
    # However it is asked, it is the same.
    page = usage("--since", "1d", "--by", "day")
    assert added({"": before_all}, {"": usage()["total"]}) == {"": total}, (usage(), total)
    assert sum(row["requests"] for row in page["rows"]) == page["total"]["requests"] >= 52, page
    assert [row["name"] for row in usage("--by", "day")["rows"]] == [datetime.date.today().isoformat()]
    assert {"codex-local"} <= set(rows(usage("--by", "model"))), usage("--by", "model")
    text = user.run(UNIT, "usage", "--by", "client").stdout
    assert text.startswith("Since today:\nclient ") and "\nalice " in text and "\ntotal " in text, text

    # The same for who has no right to see: nothing of it is this user's.
    stranger = run("runuser", "-u", "stranger", "--", UNIT, "usage", "--json", check=False, cwd="/")
    if stranger.returncode == 0:
        assert json.loads(stranger.stdout)["total"] == NOTHING, stranger
    else:
        assert stranger.returncode == 1 and "systemd-journal" in stranger.stderr, stranger
    wrong = user.run(UNIT, "usage", "--since", "soonish", check=False)
    assert wrong.returncode == 64 and "--since soonish: " in wrong.stderr, wrong


@check
def lines_that_others_forge_are_in_no_sum():
    before = usage()["total"]
    forged = {"MESSAGE": "forged", "SYSLOG_IDENTIFIER": UNIT, "USER_UNIT": f"{UNIT}.service", "UNIT": f"{UNIT}.service",
              "CODEX_EVENT": "chat_completion_latency", "CODEX_STATUS": "ok", "CODEX_HTTP_STATUS": "200",
              "CODEX_CALLER": "alice", "CODEX_PROMPT_TOKENS": "1000000", "CODEX_COMPLETION_TOKENS": "1"}
    fields = "".join(f"{name}={value}\n" for name, value in forged.items())
    for name in ("stranger", user.name):
        # Another user's, and this user's own from outside of the service.
        run("runuser", "-u", name, "--", "logger", "--journald", input=fields, cwd="/")
    until("both are in the journal", lambda: len(run(
        "journalctl", "--no-pager", "-o", "cat", "MESSAGE=forged").stdout.splitlines()) >= 2)
    assert usage()["total"] == before


@check
def today_goes_on_after_a_restart():
    start()
    for number in range(3):
        assert ask(f"Reply with exactly: {number}").status == 200
    until("the journal has all", lambda: usage()["total"]["requests"] >= 3)
    known = usage()
    user.systemctl("restart", UNIT)

    def today():
        connection = tcp()
        connection.request("GET", "/usage")
        return json.loads(connection.getresponse().read())["today"]

    until("the service has read it", lambda: today()["from"] == "midnight")
    assert today()["total"] == known["total"], (today(), known)
    shown = user.run(UNIT, "status").stdout
    assert f"{known['total']['requests']:,} requests" in shown and "since the service started" not in shown, shown
