"""Several Learners learn what one does: every algorithm that can; a run of two goes on with one; others are refused."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from train_every_algorithm import RUNS

from edgemarl.marl.rllib.learners import Share
from edgemarl.marl.training.config import TrainConfig, resolve
from edgemarl.marl.training.run import train
from edgemarl.marl.training.trained import saved_policies

ROOT = Path(__file__).parents[3]
SCRIPT = Path(__file__).parent / "learn_in_shares.py"
TOLERANCE = 1e-6
"""Of weights around 1 in single precision whose gradients were added in another order; measured: 1.2e-7."""


@pytest.mark.parametrize("count", [1, 2, 3, 7])
@pytest.mark.parametrize("rows", [1, 2, 5, 7, 1000])
def test_shares_are_all_rows_once(count: int, rows: int) -> None:
    shares = [Share(index, count) for index in range(count)]
    assert [row for share in shares for row in range(rows)[share.of(rows)]] == [*range(rows)]
    assert sum(share.weight(rows) for share in shares) == pytest.approx(1.0)
    assert max(share.weight(rows) for share in shares) * rows <= -(-rows // count)


def test_two_learners_learn_what_one_does_with_every_algorithm_that_can(tmp_path: Path) -> None:
    variables = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
    both = [
        subprocess.Popen(
            [sys.executable, "-W", "ignore", str(SCRIPT), str(rank), str(tmp_path / "meeting")],
            cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
            env={**variables, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
        )
        for rank in range(2)
    ]  # fmt: skip
    told = [process.communicate(timeout=900) for process in both]
    assert [process.returncode for process in both] == [0, 0], "\n".join(err[-3000:] for _, err in told)
    for found in (json.loads(out.splitlines()[-1]) for out, _ in told):
        assert {*found} == {"ppo", "ppo_independent", "mappo", "counterfactual", "dqn", "ddpg", "td3"}
        for name, (difference, moved) in found.items():
            assert difference <= TOLERANCE, name
            assert moved >= 100 * TOLERANCE, name


def test_a_run_of_two_learners_goes_on_with_one(local_cluster: None, tmp_path: Path) -> None:
    """On Ray: two iterations by two Learners, two by one in this process, is four by one."""

    def config(**more: Any) -> TrainConfig:
        small = {"cells": 2, "slots": 10, "minibatch": 7, "hidden": (8,), "seed": 3, "normalise": True, "lr_final": 1.0}
        return TrainConfig(**{**RUNS["ppo"], **small, **more})

    steps = 2 * 10 * 3
    train(config(agent_steps=2 * steps, num_learners=2), tmp_path / "run")
    train(config(agent_steps=4 * steps), tmp_path / "run", resume=True)
    train(config(agent_steps=4 * steps), tmp_path / "alone")
    learned, alone = (networks(tmp_path / name) for name in ("run", "alone"))
    assert learned.keys() == alone.keys()
    for name, weights in alone.items():
        np.testing.assert_allclose(learned[name], weights, atol=5 * TOLERANCE, err_msg=name)


def networks(run: Path) -> dict[str, Any]:
    policies = saved_policies(run).policies
    return {f"{r} {n}": w.numpy() for r, policy in policies.items() for n, w in policy.network.state_dict().items()}


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({**RUNS["sac"], "algorithm": "sac"}, "num_learners = 2 is not legal: updates of sac draw random numbers"),
        ({**RUNS["hybrid_sac"], "algorithm": "hybrid_sac"}, "num_learners = 2 is not legal: updates of hybrid_sac"),
        ({**RUNS["priced_dqn"], "algorithm": "priced_dqn"}, "num_learners = 2 is not legal: updates of priced_dqn"),
        ({**RUNS["td3"], "algorithm": "td3"}, "num_learners = 2 is not legal with target_noise = 0.2"),
    ],
)
def test_algorithms_that_draw_in_their_updates_are_refused(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message) as refused:
        resolve(TrainConfig(**fields, num_learners=2))
    assert "\n" not in str(refused.value)
    resolve(TrainConfig(**fields))
