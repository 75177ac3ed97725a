"""A second comparison with other settings leaves the first one's report alone, or says that it does not."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

from edgemarl.launch.cli import app

TINY = (
    "title: t\nscenario: sequential_offloading\nset: {num_devices: 2}\nnetworks: 2\nslots: 10\nwindow: 5\n"
    "controllers: [random, fixed_power]\nfigures: []\n"
)


@pytest.fixture(autouse=True)
def workplace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "tiny.yaml").write_text(TINY)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def compare(*words: str) -> str:
    ended = CliRunner().invoke(app, ["compare", "--preset", "tiny.yaml", *words], catch_exceptions=False)
    assert ended.exit_code == 0
    return ended.output


def test_other_settings_get_a_folder_of_their_own(workplace: Path) -> None:
    compare()
    first = (workplace / "results/tiny/report.html").read_bytes()
    said = compare("--set", "num_devices=3")
    assert (workplace / "results/tiny/report.html").read_bytes() == first
    assert "results/tiny holds results of other settings, which are kept" in said
    assert len([*workplace.glob("results/tiny-*/report.html")]) == 1
    assert "finished results of the same settings" in compare("--set", "num_devices=3")
    assert len([*workplace.glob("results/tiny-*/report.html")]) == 1


def test_same_settings_and_other_controllers_stay_in_place(workplace: Path) -> None:
    compare()
    assert "other settings" not in compare("--controllers", "random,uniform")
    assert not [*workplace.glob("results/tiny-*")]


def test_a_named_folder_is_used_and_it_is_said(workplace: Path) -> None:
    assert "other settings" not in compare("--out", "here")
    assert "here held the report of other settings" in compare("--out", "here", "--seed", "1")


def test_a_damaged_summary_counts_as_others(workplace: Path) -> None:
    compare()
    (workplace / "results/tiny/summary.json").write_text("[" * 100_000)
    assert "holds results of other settings" in compare()
