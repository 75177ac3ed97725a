"""Options and fixtures of the test suite."""

from __future__ import annotations

import os
import signal

import pytest
from hypothesis import HealthCheck, settings

settings.register_profile("edgemarl", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("edgemarl")  # a busy machine is no error
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # the suite in the background: tests of Ctrl-C need its default,
    signal.signal(signal.SIGINT, signal.default_int_handler)  # here and in the processes that they start
os.environ.setdefault("EDGEMARL_KEY", "the key of the tests, not of the user ..")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--vectors",
        action="append",
        default=None,
        metavar="PATH",
        help="golden vectors: a file or a folder of files named after their scenario (may be repeated)",
    )
