"""A pytest plugin that counts a suite's results: those passed, and the others by what the server said to them.

Its report goes to the file that REPORT names. Tests of one server run in several processes; the first one writes.
"""

import collections
import json
import os
import re

passed = 0
others = collections.Counter()


def said(text):
    """The status and the first sentence of an error's message; what varies from request to request left out."""
    status = re.search(r"Error code: (\d+)", text)
    if not status:
        return text.strip().splitlines()[-1].split(": ", 1)[-1][:120]
    message = re.search(r"""['"]message['"]: (?:'([^']*)'|"([^"]*)")""", text)
    words = (message[1] or message[2]) if message else text.split(" - ", 1)[-1].splitlines()[0]
    return f"{status[1]} {words}"


def pytest_runtest_logreport(report):
    global passed
    if report.failed:
        others[said(report.longrepr.reprcrash.message)] += 1
    elif report.when == "call":
        passed += 1


def pytest_sessionfinish(session):
    if not hasattr(session.config, "workerinput"):
        with open(os.environ["REPORT"], "w") as file:
            json.dump({"passed": passed, "not_passed": dict(sorted(others.items()))}, file)
