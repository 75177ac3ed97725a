"""Options and fixtures of the test suite."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator

import pytest
from hypothesis import HealthCheck, settings

settings.register_profile("edgemarl", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("edgemarl")  # a busy machine is no error
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # the suite in the background: tests of Ctrl-C need its default,
    signal.signal(signal.SIGINT, signal.default_int_handler)  # here and in the processes that they start
os.environ.setdefault("EDGEMARL_KEY", "the key of the tests, not of the user ..")


LONG = ("cluster", "test_install", "test_extension", "test_scale", "rllib", "docs")
"""Files and folders whose tests wait for processes: they come first, so that no worker is left with one at the end."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Long files first, otherwise in the order of collection, which is the same in every worker."""
    items.sort(key=lambda item: not {item.path.stem, item.path.parent.name} & {*LONG})


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--vectors",
        action="append",
        default=None,
        metavar="PATH",
        help="golden vectors: a file or a folder of files named after their scenario (may be repeated)",
    )


@pytest.fixture
def finding(record_property: Callable[[str, object], None]) -> Callable[..., None]:
    """`finding(what, tried, found)`: a row of the table that `make soak` ends with; `found` counts what went wrong."""

    def add(what: str, tried: int, found: int) -> None:
        record_property("finding", (what, tried, found))

    return add


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """The table of `make soak`."""
    reports = [report for kind in ("passed", "failed") for report in terminalreporter.stats.get(kind, [])]
    rows = [
        value for report in reports if getattr(report, "when", "") == "call"
        for name, value in report.user_properties if name == "finding"
    ]  # fmt: skip
    if rows:
        terminalreporter.write_line("| what | tried | findings |\n|---|---|---|")
    for what, tried, found in rows:
        terminalreporter.write_line(f"| {what} | {tried} | {found} |")


@pytest.fixture(autouse=True, scope="module")
def _names_of_scenarios() -> Iterator[None]:
    """Scenarios that a file's tests name are forgotten at its end: others list what there is."""
    from edgemarl.envs import registry

    before = dict(registry._registered)
    yield
    registry._registered.clear()
    registry._registered.update(before)
