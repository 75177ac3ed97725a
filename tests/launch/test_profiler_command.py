"""`profile` on files of the user: both forms of a target, and whatever goes wrong is one line that names the place."""

from __future__ import annotations

import sys
import warnings
from pathlib import Path

import pytest

from edgemarl.launch.cli import main

FILE = """
import sys, warnings
import torch
from torch import nn
from beside import size

warnings.warn("at import")

class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.a = nn.Linear(size, 3)
    def forward(self, x):
        warnings.warn("in forward")
        return self.a(x)

made = nn.Linear(4, 2)

def needs(n):
    return nn.Linear(n, n)

def fails():
    raise RuntimeError("one\\ntwo " * 300)

def leaves():
    sys.exit("bye")
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "nets.py").write_text(FILE)
    (tmp_path / "long.py").write_text("raise RuntimeError('word\\n' * 10000)")
    (tmp_path / "beside.py").write_text("size = 4\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.path", list(sys.path))
    for name in ("nets", "beside"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    return tmp_path


@pytest.mark.parametrize(("target", "work"), [("nets:Net", 12), ("nets.py:Net", 12), ("nets.py:made", 8)])
def test_both_forms_of_a_target(target: str, work: int, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with warnings.catch_warnings(record=True) as said, pytest.raises(SystemExit) as end:
        warnings.simplefilter("always")
        main(["profile", target, "--input", "4", "--repeats", "0", "--csv", "new/table.csv"])
    assert end.value.code == 0 and capsys.readouterr().err == "" and not said  # warnings are the user's own affair
    assert (folder / "new" / "table.csv").read_text().splitlines()[-1].split(",")[2] == str(work)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["nets:needs"], "network 'nets:needs' cannot be made: TypeError: needs() missing 1 required positional"),
        (["nets:fails"], "cannot be made: RuntimeError: one ("),
        (["nets:leaves"], "cannot be made: the code left the program (bye) ("),
        (["long.py:net"], "network 'long.py:net' does not load: RuntimeError: word word"),
        (["nets.py:size"], "is a int, must be a function or class"),
        (["nets.py:missing"], "nets.py has no 'missing'"),
        (["nets:Net", "--csv", "table.txt"], "csv = table.txt is not legal"),
        (["nets:Net", "--energy-budget-j", "-1"], "energy_budget_j = -1"),
        (["nets:Net", "--set", "nonsense=3"], "nonsense"),
        (["nets:Net", "--csv", "beside.py/table.csv"], "output folder beside.py cannot be used"),
        (["nets:Net", "--input", "4"], "positional arguments but 3 were given"),
        (["nets:Net", "--input", "99999999999999999999"], "cannot be made"),
    ],
)
def test_what_goes_wrong_is_one_line(
    arguments: list[str], words: str, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as end:
        main(["profile", *arguments, "--input", "4", "--repeats", "0"])
    error = capsys.readouterr().err
    assert end.value.code == 2 and error.count("\n") == 1 and words in error
    assert len(error) < 800
    if "fails" in arguments[0]:
        assert "nets.py, line 23" in error


def test_the_help_says_that_code_runs(capsys: pytest.CaptureFixture[str]) -> None:
    for command in (["profile", "module"], ["profile-pruning"]):
        with pytest.raises(SystemExit):
            main([*command, "--help"])
        assert "This runs your code" in capsys.readouterr().out
