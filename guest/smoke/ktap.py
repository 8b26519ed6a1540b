"""pytest plugin that reports in KTAP version 1, with the plan, on standard output.

The ids of all tests stand in `tests.txt`. A test that is there and was not found, or was found and
is not there, fails: no test vanishes silently.
"""

import os
import sys
from pathlib import Path

import pytest

PLAN = Path(__file__).with_name("tests.txt")


def pytest_addoption(parser):
    parser.addoption("--ktap", action="store_true", help="report in KTAP on standard output")


@pytest.hookimpl(trylast=True)
def pytest_configure(config):
    if config.getoption("--ktap"):
        config.pluginmanager.unregister(config.pluginmanager.getplugin("terminalreporter"))
        config.pluginmanager.register(Ktap(PLAN.read_text().splitlines()), "ktap-reporter")


class Ktap:
    """Writes one line for each test, and before it what there is to say about it."""

    def __init__(self, planned):
        # pytest may have put a file in the place of descriptor 1: this one stays.
        self.stream = os.fdopen(os.dup(sys.stdout.fileno()), "w", encoding="utf-8")
        self.planned = planned
        self.unplanned = []
        self.count = 0
        self.reports = []

    def say(self, line):
        print(line, file=self.stream, flush=True)

    def result(self, ok, name, directive=""):
        self.count += 1
        ending = f" # {directive}" if directive else ""
        self.say(f"{'ok' if ok else 'not ok'} {self.count} {name}{ending}")

    def explain(self, text):
        for line in text.splitlines():
            self.say(f"# {line}".rstrip())

    @pytest.hookimpl(tryfirst=True)
    def pytest_collection_modifyitems(self, items):
        # Before -k and -m leave tests out.
        found = [test_id(item.nodeid) for item in items]
        for name in [name for name in self.planned if name not in set(found)]:
            self.unplanned.append((name, "is in tests.txt and was not found"))
        for name in [name for name in found if name not in set(self.planned)]:
            self.unplanned.append((name, "was found and is not in tests.txt"))

    def pytest_collection_finish(self, session):
        self.say("KTAP version 1")
        self.say(f"1..{len(session.items) + len(self.unplanned)}")

    def pytest_collectreport(self, report):
        if report.failed:
            self.explain(f"{report.nodeid} cannot be collected\n{report.longreprtext}")

    def pytest_runtest_logstart(self, nodeid):
        self.reports = []

    def pytest_runtest_logreport(self, report):
        self.reports.append(report)

    def pytest_runtest_logfinish(self, nodeid):
        failed = [report for report in self.reports if report.failed]
        skipped = [report for report in self.reports if report.skipped]
        for report in failed:
            self.explain(f"{report.when}:\n{report.longreprtext}")
            for title, content in report.sections:
                self.explain(f"{title}:\n{content}")
        duration = sum(report.duration for report in self.reports)
        self.say(f"# duration {duration:.3f}")
        directive = ""
        if skipped and not failed:
            reason = skipped[-1].longrepr
            directive = "SKIP " + (reason[2] if isinstance(reason, tuple) else str(reason))
        self.result(not failed, test_id(nodeid), directive.replace("\n", " "))

    def pytest_sessionfinish(self):
        for name, problem in self.unplanned:
            self.explain(f"{name} {problem}")
            self.say("# duration 0.000")
            self.result(False, name)


def test_id(nodeid):
    """The id without the folder, which depends on where pytest was started."""
    return (
        nodeid.rsplit("/", 1)[-1]
        if "::" not in nodeid
        else (nodeid.split("::", 1)[0].rsplit("/", 1)[-1] + "::" + nodeid.split("::", 1)[1])
    )
