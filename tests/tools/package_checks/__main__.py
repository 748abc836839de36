"""A package's life, in a booted systemd: installed, used, upgraded under load, removed.

    package_checks deb|rpm OLDER NEWER

Runs as root inside tests/tools/boot-systemd.sh, called by tests/it/packages.rs. Each step stands on
the one before it, so the first that fails is the last. Prints `ok STEP` for each.
"""

import concurrent.futures
import http.client
import json
import os
import pathlib
import stat
import subprocess
import sys
import time

from machine import UNIT, User, UnixHTTP, add_user, ask, codex_processes, processes, run, settings, tcp, until, user

PROGRAM = f"/usr/bin/{UNIT}"
CONFIG = pathlib.Path("/etc/codex-api-proxy/config.toml")
# What the packages may leave when everything is gone: the package managers' own books, and systemd's.
BOOKS = ("/var/lib/dpkg", "/var/log", "/var/lib/rpm", "/var/cache", "/var/lib/systemd", "/root/.rpmdb", "/var/backups",
         "/var/lib/private", "/etc/passwd", "/etc/group", "/etc/shadow", "/etc/gshadow", "/etc/subuid", "/etc/subgid")


class Deb:
    """dpkg, as apt calls it."""

    def add(self, package):
        return run("dpkg", "--install", package, env={**os.environ, "DEBIAN_FRONTEND": "noninteractive"}).stdout

    upgrade = add

    def remove(self):
        said = run("dpkg", "--remove", UNIT).stdout
        assert CONFIG.exists(), "settings stay until the package is purged"
        return said

    def purge(self):
        run("dpkg", "--purge", UNIT)

    def files(self):
        return listed(run("dpkg", "--listfiles", UNIT).stdout)


class Rpm:
    """rpm with a database of its own; what Debian calls its packages is unknown to it."""

    # What rpm says of installing beside dpkg is not ours.
    OPTIONS = ("--nodeps", "--force-debian", "--dbpath", "/root/.rpmdb")

    def add(self, package):
        return run("rpm", "--install", *self.OPTIONS, package).stdout

    def upgrade(self, package):
        return run("rpm", "--upgrade", *self.OPTIONS, package).stdout

    def remove(self):
        said = run("rpm", "--erase", *self.OPTIONS, UNIT).stdout
        kept = CONFIG.with_suffix(".toml.rpmsave")
        assert kept.exists(), "edited settings are kept aside"
        return said

    def purge(self):
        # rpm knows no purge: what was edited, or made by the service, goes by hand.
        run("rm", "-r", "/etc/codex-api-proxy", "/var/lib/codex-api-proxy")

    def files(self):
        return listed(run("rpm", "--query", "--list", "--dbpath", "/root/.rpmdb", UNIT).stdout)


def listed(said):
    """The files of a package's own list, without its folders, where they really are."""
    paths = [path for path in said.splitlines() if os.path.islink(path) or not os.path.isdir(path)]
    return {os.path.join(os.path.realpath(os.path.dirname(path)), os.path.basename(path)) for path in paths}


# What was written in this machine, and nothing else; below it, others may write to their files as
# they like. See tests/tools/boot-systemd.sh.
LAYER = "/run/boot-systemd/layer"


def files(root=""):
    """Every file of the machine, or of its layer, that could come from a package."""
    found = set()
    for top in ("/etc", "/opt", "/root", "/srv", "/usr", "/var"):
        for folder, folders, names in os.walk(root + top):
            inside = folder[len(root):]
            folders[:] = [name for name in folders if f"{inside}/{name}" not in BOOKS]
            # Of folders only ours: rpm leaves those which a Fedora has anyway.
            ours = [name for name in folders if UNIT in name]
            found |= {f"{inside}/{name}" for name in [*names, *ours] if not is_whiteout(f"{folder}/{name}")} - set(BOOKS)
    # In /var the machine's other services, booted as well, keep what they write and remove all the time.
    found = {path for path in found if not path.startswith("/var/") or UNIT in path}
    return {path for path in found if not path.endswith((".pyc", "__pycache__"))}


def is_whiteout(path):
    """Whether that is the layer's mark of a file that was removed from what is below it."""
    try:
        found = os.lstat(path)
    except FileNotFoundError:
        return False
    return stat.S_ISCHR(found.st_mode) and found.st_rdev == 0


def is_removed(path):
    """Whether a file that was below the layer was removed in here, by itself or with a folder."""
    place = LAYER
    for part in pathlib.PurePosixPath(path).parts[1:]:
        place = f"{place}/{part}"
        if is_whiteout(place):
            return True
        if not os.path.lexists(place):
            return False
        # A folder that took the place of another one.
        if not os.path.islink(place) and os.path.isdir(place) and "trusted.overlay.opaque" in os.listxattr(place):
            return not os.path.lexists(LAYER + path)
    return False


class Stream:
    """An answer that is being streamed, read in a thread."""

    def __init__(self, pool, connection, text):
        body = {"model": "codex-local", "stream": True, "messages": [{"role": "user", "content": text}]}
        connection.request("POST", "/v1/chat/completions", json.dumps(body), {"Content-Type": "application/json"})
        self.response = connection.getresponse()
        assert self.response.status == 200, self.response.read()
        self.end = pool.submit(self.response.read)

    def complete(self):
        text = self.end.result().decode()
        return '"finish_reason":"stop"' in text and text.endswith("data: [DONE]\n\n")


SLOW = "Reply with exactly: " + " ".join(["word"] * 20) + "[[delay=200]]"


class Life:
    def __init__(self, kind, older, newer):
        self.manager = {"deb": Deb, "rpm": Rpm}[kind]()
        self.older, self.newer = older, newer
        self.instance = f"{UNIT}@other"
        self.other_socket = "/run/codex-api-proxy/other.sock"

    def installing_starts_and_enables_nothing(self):
        self.before, self.written = files(), files(LAYER)
        said = self.manager.add(self.older)
        assert "rror" not in said and "arning" not in said, said
        assert not processes(PROGRAM)
        for unit in (f"{UNIT}.service", f"{UNIT}.socket"):
            enabled = user.systemctl("is-enabled", unit, check=False).stdout.strip()
            assert enabled == "disabled", (unit, enabled)
        assert run("systemctl", "is-enabled", f"{self.instance}.socket", check=False).stdout.strip() == "disabled"
        failed = run("systemctl", "--failed", "--plain", "--no-legend").stdout
        assert UNIT not in failed, failed
        mine = self.manager.files()
        assert all(os.path.lexists(path) for path in mine), mine
        unseen = sorted(mine - (files(LAYER) - self.before))
        assert not unseen, f"the layer does not show these, and would not show what is left either: {unseen}"
        for wanted in ("man/man1/codex-api-proxy.1", "man/man5/codex-api-proxy.toml.5", "man/man7/codex-api-proxy-api.7",
                       "man/man8/codex-api-proxy.service.8",
                       "bash-completion/completions/codex-api-proxy", "_codex-api-proxy", "codex-api-proxy.fish",
                       "catalog/codex-api-proxy.catalog", "README.md", "crates.txt"):
            assert any(wanted in path for path in mine), wanted
        size = sum(os.lstat(path).st_size for path in mine if os.path.isfile(path))
        print(f"measured installed size: {size / 1e6:.1f} MB")
        assert size <= 14_000_000, size
        text = CONFIG.read_text().splitlines()
        assert text and all(not line or line.startswith("#") for line in text), "every setting is at its default"

    def an_ordinary_user_needs_two_commands(self):
        # Instead of a login: the scripted upstream.
        for owner in (user, self.other):
            owner.write(".config/codex-api-proxy/config.toml", settings(engine="app-server", turns_per_worker=8))
        began = time.monotonic()
        user.systemctl("enable", "--now", UNIT)
        said = user.run("curl", "-sS", "http://127.0.0.1:8765/v1/chat/completions", "-H", "Content-Type: application/json",
                        "-H", "x-request-id: first", "-d", json.dumps({"model": "codex-local", "messages": [
                            {"role": "user", "content": "Reply with exactly: pong"}]})).stdout
        print(f"measured from `systemctl enable --now` to the first answer: {time.monotonic() - began:.1f} s")
        assert json.loads(said)["choices"][0]["message"]["content"] == "pong", said
        assert codex_processes() and processes(PROGRAM)
        lines = until("the journal has it", lambda: user.journal("CODEX_REQUEST_ID=first"))
        assert lines[0]["MESSAGE"].startswith("codex_api_proxy.latency {"), lines
        user.run("codex-api-proxy", "doctor")
        assert "running" in user.run("codex-api-proxy", "status").stdout

    def a_system_service_serves_another_user(self):
        run("systemctl", "enable", "--now", f"{self.instance}.socket")
        assert ask("Reply with exactly: other", UnixHTTP(self.other_socket)).answer() == "other"

    def an_upgrade_loses_no_stream_and_no_edit(self):
        edited = CONFIG.read_text() + "\n# Edited here.\nmax_queue_size = 63\n"
        CONFIG.write_text(edited)
        mine = (user.home / ".config/codex-api-proxy/config.toml").read_text()
        pid, others = user.show("MainPID"), self.other_pid()
        with concurrent.futures.ThreadPoolExecutor(max_workers=16) as pool:
            streams = [Stream(pool, tcp(), SLOW) for _ in range(4)]
            streams += [Stream(pool, UnixHTTP(self.other_socket), SLOW) for _ in range(4)]
            said = self.manager.upgrade(self.newer)
            # The other user's service was restarted, after its streams had ended; its socket never closed.
            late = ask("Reply with exactly: late", UnixHTTP(self.other_socket))
            assert [stream.complete() for stream in streams] == [True] * len(streams)
        assert late.answer() == "late"
        assert "systemctl --user restart codex-api-proxy" in said, said
        assert user.show("MainPID") == pid, "a user's service is that user's to restart"
        assert self.other_pid() not in ("0", others), "system services get the new program"
        assert CONFIG.read_text() == edited, "edits are kept"
        assert (user.home / ".config/codex-api-proxy/config.toml").read_text() == mine
        # As the package said.
        user.systemctl("daemon-reload")
        user.systemctl("restart", UNIT)
        assert user.show("MainPID") != pid and ask("Reply with exactly: new").answer() == "new"
        assert user.systemctl("is-enabled", UNIT).stdout.strip() == "enabled"
        shown = json.loads(user.run("codex-api-proxy", "config", "show", "--json").stdout)
        assert "63" in json.dumps(shown), shown

    def removing_stops_what_is_the_systems(self):
        pid = user.show("MainPID")
        said = self.manager.remove()
        assert "systemctl --user disable --now" in said, said
        until("only the user's service is left", lambda: processes(PROGRAM) == [int(pid)])
        assert not pathlib.Path(self.other_socket).parent.exists()
        # As the package said. The unit files are gone, and yet it ends as it should.
        user.systemctl("disable", "--now", f"{UNIT}.socket", f"{UNIT}.service", check=False)
        until("nothing runs any more", lambda: not processes(PROGRAM) and not codex_processes())

    def purging_leaves_nothing(self):
        self.manager.purge()
        left = sorted(files(LAYER) - self.before)
        assert not left, left
        missing = sorted((self.written - files(LAYER)) | {path for path in self.before - files() if is_removed(path)})
        assert not missing, missing
        # No unit either, not even one that failed or is only remembered; but for the slice of all instances.
        known = run("systemctl", "list-units", "--all", "--plain", "--no-legend", f"{UNIT}*").stdout
        assert not known, known

    def other_pid(self):
        return run("systemctl", "show", "--value", "-p", "MainPID", f"{self.instance}.service").stdout.strip()

    def live(self):
        # Images of containers forbid packages to touch services; this is no such machine.
        pathlib.Path("/usr/sbin/policy-rc.d").unlink(missing_ok=True)
        user.create("tester")
        self.other = User()
        self.other.own(add_user("other"))
        run("systemd-run", "--unit=upstream", "/usr/lib/codex-api-proxy-tests/scripted-upstream", "127.0.0.1:9999")
        for step in (
            self.installing_starts_and_enables_nothing,
            self.an_ordinary_user_needs_two_commands,
            self.a_system_service_serves_another_user,
            self.an_upgrade_loses_no_stream_and_no_edit,
            self.removing_stops_what_is_the_systems,
            self.purging_leaves_nothing,
        ):
            began = time.monotonic()
            try:
                step()
            except BaseException:
                for unit in (f"--user-unit={UNIT}", f"--unit={self.instance}"):
                    log = subprocess.run(["journalctl", "--no-pager", "-n", "30", "-o", "cat", unit], capture_output=True)
                    print(log.stdout.decode(), file=sys.stderr)
                print(f"failed {step.__name__}", flush=True)
                raise
            print(f"ok {step.__name__} ({time.monotonic() - began:.1f} s)", flush=True)


Life(*sys.argv[1:]).live()
