"""What an iteration of RLlib tells: a row of the learning curve, and the policy networks as they are."""

from __future__ import annotations

from typing import Any

from ray.rllib.utils.metrics import (
    ENV_RUNNER_RESULTS,
    EPISODE_RETURN_MEAN,
    LEARNER_RESULTS,
    NUM_ENV_STEPS_SAMPLED_LIFETIME,
)

from edgemarl.agents.trained.policy import ActingNetwork
from edgemarl.marl.algorithms.base import Run
from edgemarl.marl.rllib.env_runner import SCENARIO_METRICS

LOSSES = ("policy_loss", "vf_loss", "qf_loss", "price_loss", "entropy", "default_optimizer_learning_rate")


def curve_row(result: dict[str, Any], run: Run) -> dict[str, float]:
    """One row of the learning curve from RLlib's result of an iteration."""
    sampled = result[ENV_RUNNER_RESULTS]
    env_steps = int(sampled[NUM_ENV_STEPS_SAMPLED_LIFETIME])
    row = {
        "iteration": int(result["training_iteration"]),
        "env_steps": env_steps,
        "agent_steps": env_steps * run.agents,
        "episode_return": float(sampled.get(EPISODE_RETURN_MEAN, float("nan"))),
    }
    row.update({name: float(value) for name, value in sampled.get(SCENARIO_METRICS, {}).items()})
    for role in run.roles:
        losses = result.get(LEARNER_RESULTS, {}).get(role, {})
        for name in LOSSES:
            if name in losses:
                row[f"{role}_{name}"] = float(losses[name])
    return row


def policy_networks(algorithm: Any) -> dict[str, ActingNetwork]:
    """Role -> a copy of the policy network as the learner holds it."""
    state = algorithm.learner_group.get_state(components="learner/rl_module")["learner"]["rl_module"]
    networks = {}
    for role, spec in algorithm.config.rl_module_spec.rl_module_specs.items():
        module = spec.build()
        module.set_state(state[role])
        networks[role] = module.policy
    return networks
