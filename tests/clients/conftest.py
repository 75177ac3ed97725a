"""Sections of docs/clients.md as fixtures, and one small Ray session for those that need it."""

from __future__ import annotations

import re
import sys
import types
from collections.abc import Iterator
from typing import Any

import pytest
from sections import PAGE, Section, blocks


@pytest.fixture(scope="module")
def section(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Section]:
    """Run a section in a folder of its own; returns its names and, as `folder`, where its files are."""
    done: dict[str, dict[str, Any]] = {}
    with pytest.MonkeyPatch.context() as patch:

        def run(title: str) -> dict[str, Any]:
            if title not in done:
                folder = tmp_path_factory.mktemp("section")
                patch.chdir(folder)
                module = types.ModuleType(f"clients_{re.sub(r'[^a-z]+', '_', title.lower())}")
                patch.setitem(sys.modules, module.__name__, module)  # what is pickled is found there again
                for block in blocks(title):
                    exec(compile(block, f"{PAGE.name}: {title}", "exec"), module.__dict__)
                done[title] = {**module.__dict__, "folder": folder}
            return done[title]

        yield run


@pytest.fixture(scope="session")
def local_cluster() -> Iterator[None]:
    from edgemarl.marl.rllib.node import local_ray

    with local_ray(0):
        yield
