"""`trace describe`: what a person wants to know of a trace file, held to series whose answers are known."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from edgemarl.envs.registry import make_scenario
from edgemarl.marl.evaluation.series import autocorrelation_slots, describe
from edgemarl.marl.evaluation.traces import save_trace, trace_table
from tests.launch.test_cli import run


@pytest.mark.parametrize("memory", [0.0, 0.5, 0.9])
def test_an_autoregression_forgets_as_theory_says(memory: float) -> None:
    """x(t+1) = a x(t) + noise has the integrated time (1 + a)/(1 - a)."""
    rng = np.random.default_rng(1)
    noise = rng.normal(size=(4000, 20))
    x = np.zeros_like(noise)
    for t in range(1, len(x)):
        x[t] = memory * x[t - 1] + noise[t]
    found, bound = autocorrelation_slots(x * 1e-13)
    assert found == pytest.approx((1 + memory) / (1 - memory), rel=0.06) and not bound


def test_series_that_never_forget_or_never_change() -> None:
    slots, bound = autocorrelation_slots(np.linspace(0.0, 1.0, 100)[:, None])
    assert bound and slots > 10
    assert np.isnan(describe(np.full((50, 3), 2.0)).autocorrelation_slots)
    found = describe(np.array([[1.0, 3.0], [5.0, 7.0]]))
    assert (found.mean, found.low, found.high, found.deviation) == (4.0, 1.0, 7.0, pytest.approx(np.sqrt(5.0)))


def test_a_file_is_described(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    network = make_scenario("model_partitioning", num_devices=2, slot_s=0.5)
    trace = network.sample_trace(np.random.default_rng(0), 1, 400)
    path = save_trace(tmp_path / "t.csv", network, trace)
    code, out, err = run("trace", "describe", str(path), "--out", str(tmp_path / "t.svg"), capsys=capsys)
    assert code == 0, err
    assert "1 network, 400 steps of 0.5 s (3 min 20 s) of model_partitioning" in out
    assert "drawn when it is played: nothing" in out
    assert "1 slot" in out and "--cells-from 20 gives 20" in out
    assert b"<svg" in (tmp_path / "t.svg").read_bytes()
    trace_table(trace, ["channel_gain"]).to_csv(path, index=False)
    words = ["--scenario", "model_partitioning", "--set", "num_devices=2"]
    code, out, _ = run("trace", "describe", str(path), *words, capsys=capsys)
    assert code == 0 and "drawn when it is played: arrival_rate_hz" in out
    code, _, err = run("trace", "describe", str(path), *words, "--out", "t.pdf", capsys=capsys)
    assert code == 2 and "must end in .png or .svg" in err
