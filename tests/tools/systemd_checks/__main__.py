"""What the service promises under systemd, checked in a booted one; see tests/it/systemd.rs.

Runs as root inside tests/tools/boot-systemd.sh. Prints one line for each check, `ok NAME`,
`failed NAME: why` or `measured NAME: what`; exits 0 if none failed. Arguments: names of checks to
run, none for all. BOOT_REPEAT multiplies the loops that look for lost requests.
"""

import importlib
import sys
import time
import traceback

from machine import CHECKS, UNIT, add_user, run, user

for subject in ("service", "sandbox", "journal", "ledger", "sockets", "verbs", "system"):
    importlib.import_module(subject)


def main():
    run("journalctl", "--update-catalog")
    run("systemctl", "daemon-reload")
    add_user("stranger")
    user.create("tester")
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
