"""The notebooks run from the first cell to the last, as a new user runs them, and show what their text says."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

nbclient = pytest.importorskip("nbclient", reason="pip install -e '.[docs]'")
nbformat = pytest.importorskip("nbformat")
pytest.importorskip("ipykernel")

ROOT = Path(__file__).parents[2]
NOTEBOOKS = ROOT / "docs" / "notebooks"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty working folder in which `edgemarl` is this checkout's."""
    program = tmp_path / "bin" / "edgemarl"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m edgemarl "$@"\n')
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path / "ipython"))
    monkeypatch.setenv("JUPYTER_RUNTIME_DIR", str(tmp_path / "jupyter"))
    work = tmp_path / "work"
    work.mkdir()
    return work


def printed(name: str, folder: Path) -> str:
    """All that the cells of a notebook print; an error in a cell raises, and so does a command that fails."""
    book: Any = nbformat.read(NOTEBOOKS / name, as_version=4)
    failing = "get_ipython().events.register('post_run_cell', lambda _: _failed())\n"
    check = (
        "def _failed():\n    code = get_ipython().user_ns.get('_exit_code', 0)\n"
        "    if code:\n        import os; print(f'EXIT CODE {code}', flush=True)\n"
    )
    book.cells.insert(0, nbformat.v4.new_code_cell(check + failing))
    nbclient.NotebookClient(book, timeout=300, resources={"metadata": {"path": str(folder)}}).execute()
    outputs = [output for cell in book.cells if cell.cell_type == "code" for output in cell.outputs]
    text = "".join(output.get("text", "") for output in outputs)
    assert "EXIT CODE" not in text, text[-3000:]
    return text


def costs(folder: Path) -> pd.Series:
    return pd.read_parquet(folder / "results.parquet").groupby("controller")["cost"].mean()


def test_a_first_result(folder: Path) -> None:
    """Learning for oneself is near its optimum; at a hundred devices the price pays."""
    text = printed("1_first_result.ipynb", folder)
    table = costs(folder / "results" / "first")
    assert table["vi_priced"] < table["parametric_q"] < 0.9 * table["random"]
    at_a_hundred = dict(line.split() for line in text.splitlines()[-3:])
    assert float(at_a_hundred["parametric_q_priced"]) < 0.97 * float(at_a_hundred["parametric_q"])


def test_a_controller_of_ones_own(folder: Path) -> None:
    """The rule of the notebook is better than random, and its six slots are printed."""
    text = printed("2_own_controller.ipynb", folder)
    table = costs(folder / "results" / "mine")
    assert table["parametric_q"] < table["mine.py:Hurry"] < table["random"]
    assert text.count("-> cost") == 6


def test_a_scenario_of_ones_own(folder: Path) -> None:
    """Theory, simulation and learning agree: 4.2 per slot, and the learner is within 5% of it."""
    printed("3_own_scenario.ipynb", folder)
    table = costs(folder / "results" / "learned") / 8
    assert table["best_age"] == pytest.approx(4.2, abs=0.1)
    assert table["best_age"] < table["always"] < table["patient"]
    assert table["ages"] < 1.05 * table["best_age"]
