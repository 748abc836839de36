"""The booted machine as the checks use it: its user, the service's settings, calls over HTTP."""

import http.client
import json
import os
import pathlib
import pwd
import shutil
import socket
import subprocess
import time

UNIT = "codex-api-proxy"
# Multiplies the loops that look for lost requests.
REPEAT = int(os.environ.get("BOOT_REPEAT") or 1)
PATIENCE = 60

CHECKS = []


def check(function):
    """Makes it one of the checks; they run in the order of their files and lines."""
    CHECKS.append(function)
    return function


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
    """An ordinary user; once created, with a service manager of its own, without a session."""

    def own(self, entry):
        self.name, self.uid, self.gid, self.home = entry.pw_name, entry.pw_uid, entry.pw_gid, pathlib.Path(entry.pw_dir)

    def create(self, name):
        self.own(add_user(name))
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


user = User()


class UnixHTTP(http.client.HTTPConnection):
    def __init__(self, path, timeout=PATIENCE):
        super().__init__("localhost", timeout=timeout)
        self.path = str(path)

    def connect(self):
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self.path)


def tcp(port=8765, host="127.0.0.1"):
    return http.client.HTTPConnection(host, port, timeout=PATIENCE)


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


def catalog():
    """The shipped catalog: of each subject the MESSAGE_ID and the lines that explain it."""
    entries = {}
    for entry in pathlib.Path(f"/usr/lib/systemd/catalog/{UNIT}.catalog").read_text().split("\n-- ")[1:]:
        message_id, subject, _, *lines = entry.splitlines()
        entries[subject.removeprefix("Subject: ")] = message_id, [line for line in lines if line]
    return entries
