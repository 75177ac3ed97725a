"""The hour of `check memory`, for a moment: what it writes, and the slope that it reports."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from edgemarl.launch.cli import main
from edgemarl.marl.studies.memory import growth_mib_per_hour


def run(*words: str) -> object:
    with pytest.raises(SystemExit) as caught:
        main(["check", "memory", *words])
    return caught.value.code


def test_the_slope_is_of_what_comes_after_the_start_and_no_peak_moves_it() -> None:
    time_s = np.arange(0.0, 3600.0, 10.0)
    resident = 500.0 + 12.0 * time_s / 3600.0 + np.where(time_s < 600.0, -300.0, 0.0)
    resident[::50] += 400.0
    slope, half = growth_mib_per_hour(pd.DataFrame({"time_s": time_s, "resident_mib": resident}))
    assert slope == pytest.approx(12.0, abs=0.1) and 0.0 <= half < 0.1


def test_a_moment_of_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("--minutes", "0.01", "--every-s", "0.1", "--out", str(tmp_path)) == 0
    rows = pd.read_csv(tmp_path / "memory.csv")
    assert len(rows) >= 3 and rows["iterations"].is_monotonic_increasing and (rows["resident_mib"] > 100.0).all()
    assert (rows["episodes"] == 4 * rows["iterations"]).all() and (tmp_path / "memory.svg").stat().st_size > 5_000
    assert "MiB per hour" in capsys.readouterr().out


@pytest.mark.parametrize("minutes", ["0", "nan", "inf"])
def test_a_time_that_is_none_is_one_line(minutes: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("--minutes", minutes, "--out", str(tmp_path)) == 2
    assert "minutes = " in capsys.readouterr().err
