"""Options and fixtures of the test suite."""

from __future__ import annotations

import pytest


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--vectors",
        action="append",
        default=None,
        metavar="PATH",
        help="golden vectors: a file or a folder of files named after their scenario (may be repeated)",
    )
