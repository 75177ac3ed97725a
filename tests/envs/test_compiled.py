"""Compiled code is kept once per user: a copy of the source elsewhere takes it, changed code does not."""

from __future__ import annotations

import sys
from importlib import invalidate_caches
from pathlib import Path
from types import ModuleType

import pytest

from edgemarl.envs import compiled

CALLED = "RATE = {rate}\n\ndef scaled(x):\n    return {factor} * x\n"
CALLER = """
from edgemarl.envs.compiled import compiled
from mine.called import RATE, scaled

_scaled = compiled()(scaled)


@compiled("float64(float64)", cache=True)
def total(x):
    return RATE + _scaled(x)
"""


def project(folder: Path, monkeypatch: pytest.MonkeyPatch, rate: float = 1.0, factor: float = 2.0) -> ModuleType:
    """The package `mine` of a folder, loaded anew."""
    package = folder / "mine"
    package.mkdir(parents=True)
    (package / "__init__.py").touch()
    (package / "called.py").write_text(CALLED.format(rate=rate, factor=factor))
    (package / "caller.py").write_text(CALLER)
    for name in [name for name in sys.modules if name.split(".")[0] == "mine"]:
        del sys.modules[name]
    invalidate_caches()
    with monkeypatch.context() as patch:
        patch.syspath_prepend(str(folder))
        from mine import caller  # type: ignore[import-not-found]

        found: ModuleType = caller
    return found


def hits(module: ModuleType) -> int:
    return sum(module.total.stats.cache_hits.values())


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compiled, "PACKAGE", "mine")
    monkeypatch.setattr(compiled.config, "CACHE_DIR", str(tmp_path / "cache"))


def test_a_copy_elsewhere_takes_compiled_code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = project(tmp_path / "a", monkeypatch)
    assert (hits(first), first.total(3.0)) == (0, 7.0)
    copied = project(tmp_path / "b", monkeypatch)
    assert (hits(copied), copied.total(3.0)) == (1, 7.0)


def test_what_a_function_calls_or_reads_elsewhere_is_part_of_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    project(tmp_path / "a", monkeypatch)
    other_number = project(tmp_path / "b", monkeypatch, rate=10.0)
    assert (hits(other_number), other_number.total(3.0)) == (0, 16.0)
    other_function = project(tmp_path / "c", monkeypatch, factor=5.0)
    assert (hits(other_function), other_function.total(3.0)) == (0, 16.0)


def test_a_folder_that_cannot_be_written_is_left_to_numba(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setattr(compiled.config, "CACHE_DIR", str(tmp_path / "file"))
    module = project(tmp_path / "a", monkeypatch)
    assert compiled.ContentLocator.from_function(module.total.py_func, "caller.py") is None


def test_the_folder_follows_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert compiled.cache_folder() == tmp_path / "cache"
    monkeypatch.setattr(compiled.config, "CACHE_DIR", "")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "user"))
    assert compiled.cache_folder() == tmp_path / "user" / compiled.PACKAGE / "numba"
