"""Imports run in one direction: envs <- agents <- marl <- launch."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
LAYERS = ("envs", "agents", "marl", "launch")
OUTSIDE = {"envs": {"torch", "ray", "scipy", "typer", "rich"}, "agents": {"ray", "typer"}, "marl": {"typer"}}
PROFILERS = {"envs/dnn/profiler.py"}
"""The one place of `envs` that imports torch, and only when it is called."""


def imported(path: Path) -> set[str]:
    """Top-level packages that a file imports anywhere."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names.add(node.module.split(".")[0])
    return names


@pytest.mark.parametrize("layer", LAYERS)
def test_import_direction(layer: str) -> None:
    forbidden = set(LAYERS[LAYERS.index(layer) + 1 :]) | OUTSIDE.get(layer, set())
    files = sorted((ROOT / layer).rglob("*.py"))
    assert files
    for path in files:
        where = path.relative_to(ROOT).as_posix()
        broken = imported(path) & (forbidden - ({"torch"} if where in PROFILERS else set()))
        assert not broken, f"{where} imports {sorted(broken)}"
