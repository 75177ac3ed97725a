"""Joint actions of like groups: what each network may depend on, what critics are taught, and a short run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from ray.rllib.core.columns import Columns

from edgemarl.agents.trained.hybrid import HybridAction
from edgemarl.envs.registry import make_scenario
from edgemarl.envs.scenarios.model_pruning import ModelPruning, ModelPruningDecisions
from edgemarl.marl.training.config import TrainConfig, resolve
from edgemarl.marl.training.run import train
from edgemarl.marl.training.setup import module_specs
from tests.trained_cost import first_slot_cost

G, M, V, K = 2, 3, 6, 6
PRUNING = {"num_devices": G * M, "num_gateways": G}


def jopa(**values: Any) -> TrainConfig:
    settings: dict[str, Any] = {
        "scenario": "model_pruning", "algorithm": "hybrid_sac", "control": "central", "central_policy": "joint",
        "set": PRUNING, "cells": 2, "slots": 8, "updates": 8, "minibatch": 32, "hidden": (32, 32), "discount": 0.0,
        "reward_scale": 1.0, "lr": 3e-3, "agent_steps": 10 * 64, "groups": True, "reward": "group", "output_gain": 1.0,
        "soft_target": False,
    }  # fmt: skip
    return TrainConfig(**{**settings, **values})


def module_of(config: TrainConfig) -> Any:
    torch.manual_seed(0)
    module: Any = module_specs(resolve(config)).rl_module_specs["central"].build()
    module.make_target_networks()
    return module


def states(rows: int) -> torch.Tensor:
    rng = np.random.default_rng(0)
    level = rng.integers(0, K, (rows, G * M)) / (K - 1)
    return torch.tensor(np.hstack([rng.uniform(0.3, 1.0, (rows, G)), level]).astype(np.float32))


def bits_of(module: Any, relaxation: str) -> slice:
    """Where a policy puts out its six bits: parts stand in the order of their names, edge_share, model, offload."""
    assert [part.name for part in module.action.parts] == ["edge_share", "model", "offload"]
    first = G * V if relaxation == "concrete" else 2 * G
    return slice(first, first + G * M)


@pytest.mark.parametrize("relaxation", ["gaussian", "concrete"])
def test_members_are_decided_from_their_group_and_alike_in_every_group(relaxation: Any) -> None:
    """Exchanging the groups exchanges the bits' parameters; another group's levels do not move them."""
    module = module_of(jopa(relaxation=relaxation))
    state = states(50)
    order = [1, 0, 5, 6, 7, 2, 3, 4]
    out, exchanged = (module.policy(s) for s in (state, state[:, order]))
    assert out.shape == (50, module.action.parameters)
    bits = bits_of(module, relaxation)
    torch.testing.assert_close(exchanged[:, bits], out[:, bits][:, [3, 4, 5, 0, 1, 2]])
    other = state.clone()
    other[:, 5:8] = 1.0 - other[:, 5:8]
    moved = (module.policy(other) != out).any(dim=0)[bits]
    assert not moved[:3].any() and moved[3:6].all()


def test_equals_are_told_apart_by_their_place() -> None:
    """A group of three tasks of one level: the first, second and third get bits of their own."""
    state = torch.tensor([[1.0, 1.0, *[0.4] * 6]])
    module = module_of(jopa(relaxation="concrete"))
    bits = module.policy(state)[0, bits_of(module, "concrete")][:3].tolist()
    assert len({round(bit, 4) for bit in bits}) == 3


@pytest.mark.parametrize("relaxation", ["gaussian", "concrete"])
def test_a_groups_value_depends_on_its_own_part_alone(relaxation: Any) -> None:
    module = module_of(jopa(relaxation=relaxation))
    state = states(1)
    relaxed = torch.rand(1, module.action.relaxed_size)
    taken = torch.cat([state, relaxed], dim=1).requires_grad_()
    (gradient,) = torch.autograd.grad(module.qf(taken)[0, 0], taken)
    depends = gradient[0] != 0
    width = V if relaxation == "concrete" else 1
    own = [True, False, *[True] * M, *[False] * M]  # gain and levels
    own += [True, False] + [True] * width + [False] * width + [True] * M + [False] * M  # share, model, bits
    assert depends.tolist() == own


@pytest.mark.parametrize("reward", ["group", "team"])
def test_critics_are_taught_each_groups_reward_or_the_sum(reward: str) -> None:
    module = module_of(jopa(reward=reward))
    state, taken = states(9), torch.rand(9, module.action.relaxed_size)
    out = module.forward_train({Columns.OBS: state, Columns.NEXT_OBS: state, Columns.ACTIONS: taken})
    each = module.qf(torch.cat([state, taken], dim=1))
    torch.testing.assert_close(out["qf_preds"], each if reward == "group" else each.sum(dim=1))
    shape = (9, G) if reward == "group" else (9,)
    assert out["q_target_next"].shape == shape and out["q_curr"].shape == (9,)
    assert torch.broadcast_shapes(out["logp_next_resampled"].shape, shape) == shape
    (-out["q_curr"].mean()).backward()
    assert all(p.grad is None for critic in (module.qf, module.qf_twin) for p in critic.parameters())
    assert all((p.grad != 0).any() for p in module.policy.parameters())


def test_group_rewards_sum_to_the_reward() -> None:
    made = make_scenario("model_pruning", **PRUNING)
    assert isinstance(made, ModelPruning)
    rng = np.random.default_rng(0)
    trace = made.sample_trace(rng, 20, 1)
    decisions = ModelPruningDecisions(rng.integers(0, 2, (20, 6)), rng.integers(0, V, (20, G)), rng.random((20, G)))
    step = made.step(made.initial_state(trace), decisions, made.exogenous(trace, 0))
    np.testing.assert_allclose(made.group_rewards(step).sum(axis=1), step.metrics["reward"], rtol=1e-9)


def test_centred_shares_do_not_saturate_together() -> None:
    """What all Gaussians have in common does not enter; without centring it makes all shares equal."""
    action = module_of(jopa(share_logit_scale=1.8, share_centred=True, log_std_min=-2.0)).action
    parameters = torch.zeros(1, action.parameters)
    share = slice(action.logits, action.logits + G)
    parameters[0, share] = torch.tensor([0.7, -0.7])
    shifted = parameters.clone()
    shifted[0, share] += 9.0
    torch.testing.assert_close(action.relax(shifted, None), action.relax(parameters, None))
    plain = HybridAction.from_dict({**action.to_dict(), "share_centred": False})
    saturated, free = (float(plain.relax(p, None)[0, 0]) for p in (shifted, parameters))
    assert abs(saturated - 0.5) < 1e-3 and free > 0.8
    assert float(action.split(parameters - 50.0)[2].max()) == -2.0


def test_short_run_is_saved_and_plays(local_cluster: None, tmp_path: Path) -> None:
    config = jopa(agent_steps=6400, share_logit_scale=1.8, share_centred=True, alpha=3e-3)
    curve = train(config, tmp_path).curve
    assert first_slot_cost(tmp_path, make_scenario("model_pruning", **PRUNING)) < 0.5 * curve["cost"].iloc[0]


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"scenario": "sampling_rate", "set": {}, "reward": "team"}, "has no like groups"),
        ({"set": {"num_devices": 7, "num_gateways": 2}}, "must be a multiple of num_gateways = 2"),
        ({"groups": False}, "judged by 'team'"),
    ],
)
def test_what_has_no_like_groups_is_refused(values: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        resolve(jopa(**values))
