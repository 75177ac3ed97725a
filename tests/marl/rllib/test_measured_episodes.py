"""Training on stretches of a trace file: what is measured comes from its training part, the rest is drawn anew."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from edgemarl.envs.registry import make_scenario
from edgemarl.launch.commands.train import run_config
from edgemarl.launch.experiment.played import TraceFile
from edgemarl.marl.evaluation.stretches import training_slots
from edgemarl.marl.evaluation.tables import file_digest
from edgemarl.marl.evaluation.traces import save_trace, trace_table
from edgemarl.marl.rllib.measured import Stretches
from edgemarl.marl.training.config import TrainConfig, resolve
from tests.launch.test_cli import run
from tests.launch.test_cli_training import write_run
from tests.marl.rllib.test_env_runner import runner

NETWORK = make_scenario("sequential_offloading", num_devices=2, device_action="split", episode_blocks=6)
TRACE = NETWORK.sample_trace(np.random.default_rng(0), cells=2, slots=40)
SETTINGS = {"num_devices": 2, "device_action": "split", "episode_blocks": 6}


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """Only the channel is measured."""
    trace_table(TRACE, ["channel_gain_per_w"]).to_parquet(tmp_path / "t.parquet", index=False)
    return tmp_path / "t.parquet"


def test_episodes_are_stretches_of_the_training_part(file: Path) -> None:
    """Every start comes, none sees a later slot, arrivals are drawn anew."""
    source, rng = Stretches(NETWORK, str(file), 0.5), np.random.default_rng(1)
    series = TRACE.channel_gain_per_w
    starts, arrivals = set(), []
    for _ in range(300):
        trace = source(rng)
        NETWORK.check_trace(trace)
        assert (trace.cells, trace.slots) == (1, 6)
        (found,) = (
            (cell, first)
            for cell in range(2)
            for first in range(35)
            if np.array_equal(trace.channel_gain_per_w[:, 0], series[first : first + 7, cell])
        )
        starts.add(found)
        arrivals.append(trace.task_arrivals)
        np.testing.assert_allclose(trace.mean_gain_per_w[0], series[:, found[0]].mean(axis=0))
    assert starts == {(cell, first) for cell in range(2) for first in range(14)}  # slots 0 to 19, an episode has 7
    assert len({a.tobytes() for a in arrivals}) > 290
    assert training_slots(40, 0.7) == 28 and training_slots(10, 0.3) == 3


def test_a_channel_that_is_drawn_at_the_start_goes_on_from_the_slot_before(tmp_path: Path) -> None:
    network = make_scenario("model_pruning", num_devices=4, num_gateways=2, episode_slots=3)
    trace = network.sample_trace(np.random.default_rng(0), cells=1, slots=30)
    trace_table(trace, ["next_channel_gain", "channel_gain"]).to_parquet(tmp_path / "t.parquet", index=False)
    source, rng = Stretches(network, str(tmp_path / "t.parquet")), np.random.default_rng(0)
    for _ in range(20):
        found = source(rng)
        gains = np.concatenate([found.channel_gain[None], found.next_channel_gain])[:, 0]
        whole = np.concatenate([trace.channel_gain[None], trace.next_channel_gain])[:, 0]
        assert any(np.array_equal(gains, whole[first : first + 5]) for first in range(27))


def test_runners_play_them(file: Path) -> None:
    sampler = runner(scenario="sequential_offloading", set=SETTINGS, trace=str(file), train_share=0.5)
    sampler.sample()
    assert sampler.cells is not None
    known = {row.tobytes() for row in TRACE.channel_gain_per_w[:20].reshape(-1, 2)}
    for trace in sampler.cells.traces:
        assert {row.tobytes() for row in trace.channel_gain_per_w[:, 0]} <= known


def test_what_cannot_be_trained_on_is_refused(file: Path) -> None:
    config = TrainConfig(scenario="sequential_offloading", set=SETTINGS, trace=str(file), train_share=0.1)
    with pytest.raises(ValueError, match=r"0.1 of its 40 slots are fewer than an episode of 6 slots"):
        resolve(config)
    config = dataclasses.replace(config, train_share=0.7, trace_digest=file_digest(file))
    resolve(config)
    pd.read_parquet(file).assign(channel_gain_per_w=1.0).to_parquet(file, index=False)
    with pytest.raises(ValueError, match="is not the file that the run began with"):
        resolve(config)


def test_the_command_trains_in_the_file_s_network(tmp_path: Path) -> None:
    path = save_trace(tmp_path / "t.csv", NETWORK, TRACE)
    config = run_config(None, [], [], 0, TraceFile(path, train_share=0.5))
    assert config.scenario == "sequential_offloading" and config.train_share == 0.5
    assert {k: config.set[k] for k in ("num_devices", "episode_blocks")} == {"num_devices": 2, "episode_blocks": 6}
    assert TrainConfig.from_dict(json.loads(json.dumps(config.to_dict()))).flat() == config.flat()


def test_a_policy_is_not_judged_on_what_it_was_trained_on(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = save_trace(tmp_path / "t.csv", NETWORK, TRACE)
    trained: dict[str, Any] = {"trace": str(path), "trace_digest": file_digest(path), "train_share": 0.5}
    write_run(tmp_path / "day", TrainConfig(scenario="sequential_offloading", set=SETTINGS, **trained))
    words = ["compare", "--trace", str(path), "--controllers", f"fixed_power,{tmp_path / 'day'}"]
    words += ["--out", str(tmp_path / "o")]
    code, _, err = run(*words, capsys=capsys)
    assert code == 2 and "was trained on the first 20 of 40 slots" in err and "--train-share 0.5 leaves them out" in err
    code, out, err = run(*words, "--train-share", "0.5", "--cells-from", "10", capsys=capsys)
    assert code == 0, err
    assert "4 networks of 10 slots out of a file of 2 x 40 slots; its first 20 slots are for training" in out
