"""Options and fixtures of the test suite."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, settings

settings.register_profile("edgemarl", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("edgemarl")  # a busy machine is no error


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--vectors",
        action="append",
        default=None,
        metavar="PATH",
        help="golden vectors: a file or a folder of files named after their scenario (may be repeated)",
    )
