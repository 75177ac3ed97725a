"""Training that ends once its policy is near the reference; RLlib's side of the quality benchmark."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path

import pytest

from edgemarl.agents.registry import make_policy
from edgemarl.launch.commands.train import share_of_percent
from edgemarl.marl.benchmarks.quality import measure
from edgemarl.marl.training.config import TrainConfig, resolve
from edgemarl.marl.training.quality import Yardstick
from edgemarl.marl.training.run import Training, train

CONFIG = TrainConfig(
    set={"device_action": "split", "num_devices": 3, "episode_blocks": 40}, fixed={"server": "parametric_q"},
    cells=2, slots=10, minibatch=60, epochs=1, agent_steps=240,
)  # fmt: skip
"""Four iterations."""


@pytest.fixture(autouse=True)
def few_cells(monkeypatch: pytest.MonkeyPatch) -> None:
    """The yardstick plays 12 devices in place of 400: the reference of each cell takes its time."""
    monkeypatch.setattr("edgemarl.marl.training.quality.AGENTS", 12)


def test_a_run_ends_once_it_is_near_enough(local_cluster: None, tmp_path: Path) -> None:
    config = dataclasses.replace(CONFIG, until=1000.0)
    result = train(config, tmp_path)
    assert list(result.curve["agent_steps"]) == [60.0]
    with Training(config, tmp_path, resume=True) as again:
        assert again.finished
        found = Yardstick(resolve(config).scenario, config.seed).above(again.policy())
    assert found == pytest.approx(result.curve["above_reference"].iloc[0], rel=1e-9)
    assert 0.0 < found < 1000.0


def test_a_run_that_is_never_near_enough_uses_its_budget(local_cluster: None, tmp_path: Path) -> None:
    curve = train(dataclasses.replace(CONFIG, until=0.0), tmp_path).curve
    assert curve["agent_steps"].iloc[-1] == CONFIG.agent_steps
    assert (curve["above_reference"] > 0.0).all()


def test_a_run_that_is_not_told_so_looks_at_nothing(local_cluster: None, tmp_path: Path) -> None:
    assert "above_reference" not in train(CONFIG, tmp_path).curve


def test_the_reference_is_its_own_yardstick() -> None:
    scenario = CONFIG.make_scenario()
    yardstick = Yardstick(scenario)
    assert yardstick.above(make_policy(scenario, yardstick.reference)) == 0.0
    assert yardstick.above(make_policy(scenario, "local")) > 0.05
    assert Yardstick(scenario, reference="local").above(make_policy(scenario, "local")) == 0.0


@pytest.mark.parametrize("side", ["ours", "rllib"])
def test_both_sides_of_the_benchmark_run(local_cluster: None, side: str) -> None:
    found = measure(CONFIG.to_dict(), side, minutes=10.0, shares=(1000.0, 0.0))
    near, never = found[1000.0], found[0.0]
    assert never is None
    assert near is not None
    assert 0.0 < near < math.inf


@pytest.mark.parametrize(("text", "share"), [("1%", 0.01), ("2.5", 0.025), ("0%", 0.0)])
def test_percent_of_the_command_line(text: str, share: float) -> None:
    assert share_of_percent(text, "--until") == share


@pytest.mark.parametrize("text", ["-1%", "near", "nan", "inf%"])
def test_illegal_percent(text: str) -> None:
    with pytest.raises(ValueError, match=r"--until = .* is not legal: must be percent"):
        share_of_percent(text, "--until")
