"""Actions of discrete and continuous parts: relaxation, execution, log-probability by hand, and a small bandit."""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar

import gymnasium
import numpy as np
import pytest
import torch
from ray.rllib.core.columns import Columns

from edgemarl.agents.trained.heads import head_of
from edgemarl.agents.trained.hybrid import HybridAction, hybrid_action
from edgemarl.agents.trained.spec import NetworkSpec
from edgemarl.envs.arrays import Array
from edgemarl.envs.central import CentralEnv
from edgemarl.envs.registry import make_scenario, register_scenario
from edgemarl.envs.scenarios.model_pruning import ModelPruning, ModelPruningDecisions
from edgemarl.envs.spaces import Simplex, entries_of, split_action
from edgemarl.marl.algorithms.hybrid_sac import HybridSACModule
from edgemarl.marl.training.config import TrainConfig, resolve
from edgemarl.marl.training.run import train
from edgemarl.marl.training.setup import module_specs
from tests.trained_cost import first_slot_cost

SPACE = gymnasium.spaces.Dict(
    {
        "bits": gymnasium.spaces.MultiBinary(3),
        "choice": gymnasium.spaces.MultiDiscrete([4, 4], start=[1, 1]),
        "level": gymnasium.spaces.Box(np.float32([0, -2]), np.float32([1, 6])),
        "share": Simplex(3),
    }
)
PRUNING = {"num_devices": 6, "num_gateways": 2}


def spec_of(action: HybridAction) -> NetworkSpec:
    return NetworkSpec(2, "hybrid", hybrid=action.to_dict())


@pytest.mark.parametrize("relaxation", ["gaussian", "concrete"])
def test_executed_actions_lie_in_the_space_and_follow_the_relaxed_ones(relaxation: Any) -> None:
    action = hybrid_action(SPACE, relaxation)
    spec, rng = spec_of(action), np.random.default_rng(0)
    parameters = (2 * rng.standard_normal((200, action.parameters))).astype(np.float32)
    relaxed = head_of(spec).sample(parameters, rng)
    assert relaxed.shape == (200, action.relaxed_size)
    parts = split_action(SPACE, head_of(spec).to_env(relaxed))
    for i in range(200):
        assert SPACE.contains({name: values[i].astype(SPACE[name].dtype) for name, values in parts.items()})
    np.testing.assert_array_equal(parts["bits"], relaxed[:, :3] > 0.5)
    width = 2 if relaxation == "gaussian" else 8
    choice = relaxed[:, 3 : 3 + width]
    want = np.rint(3 * choice) if relaxation == "gaussian" else choice.reshape(-1, 2, 4).argmax(axis=2)
    np.testing.assert_array_equal(parts["choice"], 1 + want)
    np.testing.assert_allclose(parts["share"], relaxed[:, -3:])


def test_concrete_draws_have_the_laws_of_their_logits() -> None:
    action = hybrid_action(SPACE, "concrete")
    logits = np.linspace(-1.5, 1.5, action.parameters).astype(np.float32)
    spec = spec_of(action)
    drawn = head_of(spec).sample(np.tile(logits, (20_000, 1)), np.random.default_rng(0))
    parts = split_action(SPACE, head_of(spec).to_env(drawn))
    np.testing.assert_allclose(parts["bits"].mean(axis=0), 1 / (1 + np.exp(-logits[:3])), atol=0.015)
    weights = np.exp(logits[3:7])
    np.testing.assert_allclose(np.bincount(parts["choice"][:, 0] - 1) / 20_000, weights / weights.sum(), atol=0.015)


def test_log_probability_by_hand() -> None:
    """Gaussian: the normal density of y; concrete: minus the entropy of each discrete entry on top."""
    space = gymnasium.spaces.Dict({"bit": gymnasium.spaces.MultiBinary(1), "share": Simplex(2)})
    gaussian, rng = hybrid_action(space, "gaussian"), np.random.default_rng(0)
    mean, log_std, noise = rng.standard_normal((3, 5, 3))
    found = gaussian.log_probability(torch.tensor(np.hstack([mean, log_std])), torch.tensor(noise))
    y = mean + np.exp(log_std) * noise
    density = np.exp(-((y - mean) ** 2) / (2 * np.exp(2 * log_std))) / (np.exp(log_std) * np.sqrt(2 * np.pi))
    np.testing.assert_allclose(found, np.log(density).sum(axis=1), rtol=1e-9)
    concrete = hybrid_action(space, "concrete")
    parameters = np.hstack([mean[:, :1], mean[:, 1:], log_std[:, 1:]])
    found = concrete.log_probability(torch.tensor(parameters), torch.tensor(noise))
    p = 1 / (1 + np.exp(-mean[:, 0]))
    np.testing.assert_allclose(
        found, np.log(density[:, 1:]).sum(axis=1) + p * np.log(p) + (1 - p) * np.log(1 - p), rtol=1e-9
    )


@pytest.mark.parametrize("relaxation", ["gaussian", "concrete"])
def test_gradient_passes_through_every_part_and_not_into_the_critics(relaxation: Any) -> None:
    config = jopa(relaxation=relaxation)
    module: Any = module_specs(resolve(config)).rl_module_specs["central"].build()
    module.make_target_networks()
    rows = torch.rand(9, module.spec.observation_size)
    taken = torch.rand(9, module.action.relaxed_size)
    out = module.forward_train({Columns.OBS: rows, Columns.NEXT_OBS: rows, Columns.ACTIONS: taken})
    (-out["q_curr"].mean()).backward()
    assert all(p.grad is None for critic in (module.qf, module.qf_twin) for p in critic.parameters())
    last = module.policy.body.biases[-1].grad
    means = module.action.parameters - (module.action.relaxed_size - module.action.logits)
    assert (last[:means] != 0).all()
    assert module.qf_twin(torch.cat([rows, taken], dim=1)).requires_grad


def test_bounded_logits_keep_every_share_within_a_factor() -> None:
    """No Gaussian gives one share more than exp(2 c) times another; near 0 and with c = 1 all is as without a bound."""
    bounded, free = (hybrid_action(SPACE, "gaussian", share_logit_scale=c) for c in (1.2, None))
    parameters = torch.tensor(np.random.default_rng(0).normal(0, 50, (200, free.parameters)).astype(np.float32))
    share, unbounded = (a.relax(parameters, None)[:, -entries_of(SPACE["share"]) :] for a in (bounded, free))
    ratio, free_ratio = (s.amax(dim=1) / s.amin(dim=1) for s in (share, unbounded))
    assert ratio.max() <= np.exp(2.4) * (1 + 1e-5) and free_ratio.max() > 1e6
    torch.testing.assert_close(share.sum(dim=1), torch.ones(200))
    unit = hybrid_action(SPACE, "gaussian", share_logit_scale=1.0)
    torch.testing.assert_close(
        unit.relax(parameters * 1e-4, None), free.relax(parameters * 1e-4, None), atol=1e-6, rtol=0
    )
    assert HybridAction.from_dict(bounded.to_dict()) == bounded
    before = {k: v for k, v in free.to_dict().items() if k != "share_logit_scale"}  # a file from before the setting
    assert HybridAction.from_dict(before) == free


def test_restricted_part_keeps_its_value() -> None:
    action = hybrid_action(SPACE, "gaussian", restrict={"choice": 3, "share": 1 / 3})
    spec = spec_of(action)
    assert action.relaxed_size == 5
    relaxed = head_of(spec).greedy(np.random.default_rng(0).standard_normal((7, action.parameters)).astype(np.float32))
    parts = split_action(SPACE, head_of(spec).to_env(relaxed))
    assert (parts["choice"] == 3).all()
    np.testing.assert_allclose(parts["share"], 1 / 3, rtol=1e-6)
    with pytest.raises(ValueError, match="unknown part of the action 'shares'"):
        hybrid_action(SPACE, restrict={"shares": 1.0})


# --- runs ------------------------------------------------------------------------------------------------------------


class TargetGame(ModelPruning):
    """A bandit on model_pruning's action: send everything, model 2, a third of the share to gateway 0."""

    name: ClassVar[str] = "target_game"

    def step(self, state: Any, decisions: ModelPruningDecisions, exogenous: Any) -> Any:
        step = super().step(state, decisions, exogenous)
        miss = (decisions.offload != 1).mean(axis=1) + np.abs(decisions.model - 2).mean(axis=1)
        miss += np.abs(decisions.edge_share[:, 0] - 1 / 3)
        costs = {role: np.zeros_like(cost) for role, cost in step.costs.items()}
        costs["server"] = miss[:, None]
        return type(step)(step.state, costs, {**step.metrics, "cost": miss}, step.details)


def jopa(**values: Any) -> TrainConfig:
    settings: dict[str, Any] = {
        "scenario": "model_pruning", "algorithm": "hybrid_sac", "control": "central", "central_policy": "joint",
        "set": PRUNING, "cells": 1, "slots": 8, "updates": 8, "minibatch": 32, "hidden": (32, 32), "discount": 0.0,
        "reward_scale": 0.1, "gradient_clip": None, "lr": 3e-3, "agent_steps": 9 * 64,
    }  # fmt: skip
    return TrainConfig(**{**settings, **values})


@pytest.mark.parametrize("relaxation", ["gaussian", "concrete"])
def test_small_bandit_is_learned(relaxation: str, local_cluster: None, tmp_path: Path) -> None:
    """What was learned misses by less than half of what the first policy does."""
    register_scenario("target_game", f"{__name__}:TargetGame")
    config = jopa(
        scenario="target_game", relaxation=relaxation, alpha=1e-3, reward_scale=1.0, cells=8, slots=4, updates=20,
        agent_steps=9 * 32 * 40, minibatch=128, lr=2e-3,
    )  # fmt: skip
    curve = train(config, tmp_path).curve
    assert first_slot_cost(tmp_path, make_scenario("target_game", **PRUNING)) < 0.5 * curve["cost"].iloc[0]


def test_target_without_entropy_is_the_papers(local_cluster: None) -> None:
    config = jopa(soft_target=False)
    module: Any = module_specs(resolve(config)).rl_module_specs["central"].build()
    assert isinstance(module, HybridSACModule)
    module.make_target_networks()
    rows, taken = torch.rand(4, module.spec.observation_size), torch.rand(4, module.action.relaxed_size)
    out = module.forward_train({Columns.OBS: rows, Columns.NEXT_OBS: rows, Columns.ACTIONS: taken})
    assert (out["logp_next_resampled"] == 0).all()


def test_central_environment_takes_the_parts(tmp_path: Path) -> None:
    env = CentralEnv("model_pruning", reward_scale=1.0, hybrid=True, **PRUNING)
    env.reset(seed=0)
    env.action_space.seed(0)
    action: dict[str, Array] = env.action_space.sample()
    assert env.action_space.contains(action)
    _, reward, _, _, info = env.step(action)
    assert reward == pytest.approx(info["reward"])
    assert info["offload_ratio"] == pytest.approx(action["offload"].mean())


def test_decentralized_hybrid_run_is_refused() -> None:
    with pytest.raises(ValueError, match="joint action"):
        resolve(jopa(control="decentralized"))
