"""Gymnasium's Pendulum-v1 as a batched scenario: a small task on which DDPG and TD3 are held to published returns.

    edgemarl check pendulum td3 --steps 10000 --seed 0

trains through `training.run` and plays 20 episodes of Gymnasium's own Pendulum-v1 without noise. Published returns are
-150 to -200.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import gymnasium
import numpy as np

from edgemarl.agents.trained.policy import TrainedPolicy
from edgemarl.envs.actions import checked_actions
from edgemarl.envs.arrays import Array
from edgemarl.envs.config import config_class, quantity
from edgemarl.envs.registry import register_scenario
from edgemarl.envs.scenario import Role, Scenario, Signalling, Step
from edgemarl.envs.trace import Trace, drawn
from edgemarl.marl.training.config import TrainConfig

ENVIRONMENT, EVALUATION_EPISODES = "Pendulum-v1", 20
SPEED_MAX, TORQUE_MAX, STEP_S, GRAVITY = 8.0, 2.0, 0.05, 10.0


@config_class
class PendulumConfig:
    """Mass and length are 1."""

    horizon_slots: int = quantity(200, "slots", "Gymnasium", ge=1)


@dataclass(frozen=True)
class PendulumState:
    """Angle from upright (B,), rad, and its speed (B,), rad/s."""

    angle: Array
    speed: Array


@dataclass(frozen=True)
class PendulumTrace(Trace):
    """The first state; during an episode nothing is drawn, so that the array per slot is its number alone."""

    slot: Array = drawn("slot", "-", process="count")
    angle: Array = drawn("initial", "rad", process="uniform")
    speed: Array = drawn("initial", "rad/s", process="uniform")


@dataclass(frozen=True)
class PendulumExogenous:
    """Number of the slot (B,)."""

    slot: Array


@dataclass(frozen=True)
class PendulumDecisions:
    """Torque (B,) in [-2, 2]."""

    torque: Array


class Pendulum(Scenario):
    """B pendulums; one "device" each, whose ledger entry is minus Gymnasium's reward."""

    name = "pendulum"
    title = "Pendulum-v1"
    paper = "Gymnasium, classic control"
    config_type, state_type, trace_type = PendulumConfig, PendulumState, PendulumTrace
    exogenous_type, decisions_type = PendulumExogenous, PendulumDecisions

    @property
    def roles(self) -> dict[str, Role]:
        return {"device": Role("device", 1, self.global_state_space, self.central_space)}

    @property
    def central_space(self) -> gymnasium.spaces.Box:
        return gymnasium.spaces.Box(-TORQUE_MAX, TORQUE_MAX, (1,), np.float32)

    @property
    def global_state_space(self) -> gymnasium.spaces.Box:
        high = np.array([1.0, 1.0, SPEED_MAX], np.float32)
        return gymnasium.spaces.Box(-high, high, dtype=np.float32)

    @property
    def horizon(self) -> int:
        return int(self.config.horizon_slots)

    def sample_cell(self, rng: np.random.Generator, slots: int) -> dict[str, Array]:
        angle, speed = rng.uniform([-np.pi, -1.0], [np.pi, 1.0])
        return {"slot": np.arange(slots + 1), "angle": np.asarray(angle), "speed": np.asarray(speed)}

    def initial_state(self, trace: Any) -> PendulumState:
        return PendulumState(trace.angle, trace.speed)

    def observe(self, state: Any, exogenous: Any) -> dict[str, Array]:
        return {"device": self.global_state(state, exogenous)[:, None]}

    def global_state(self, state: Any, exogenous: Any) -> Array:
        return np.stack([np.cos(state.angle), np.sin(state.angle), state.speed], axis=1).astype(np.float32)

    def decode(self, state: Any, actions: Mapping[str, Array], exogenous: Any) -> PendulumDecisions:
        torque = checked_actions("device", 1, self.central_space, actions["device"], len(state.angle))
        return PendulumDecisions(torque[:, 0, 0])

    def decode_central(self, state: Any, action: Array, exogenous: Any) -> PendulumDecisions:
        return PendulumDecisions(
            checked_actions("the controller", 0, self.central_space, action, len(state.angle))[:, 0]
        )

    def step(self, state: Any, decisions: Any, exogenous: Any) -> Step:
        wrapped = (state.angle + np.pi) % (2.0 * np.pi) - np.pi
        cost = wrapped**2 + 0.1 * state.speed**2 + 0.001 * decisions.torque**2
        speed = state.speed + (1.5 * GRAVITY * np.sin(state.angle) + 3.0 * decisions.torque) * STEP_S
        speed = np.clip(speed, -SPEED_MAX, SPEED_MAX)
        return Step(PendulumState(state.angle + speed * STEP_S, speed), {"device": cost[:, None]}, {"cost": cost})

    def signalling(self) -> Signalling:
        return Signalling({}, {})


def pendulum_run(algorithm: str, steps: int, seed: int) -> TrainConfig:
    """Small networks, one update per env step (in blocks of 50); rewards a tenth. Registers the scenario."""
    register_scenario(Pendulum.name, "edgemarl.marl.studies.pendulum:Pendulum")
    fields: dict[str, Any] = {
        "scenario": Pendulum.name, "algorithm": algorithm, "control": "central", "central_policy": "joint",
        "agent_steps": steps, "cells": 1, "slots": 50, "updates": 50, "minibatch": 64, "hidden": (64, 64),
        "lr": 1e-3, "critic_lr": 1e-3, "lr_final": 1.0, "noise": 0.1, "random_steps": 1000, "discount": 0.99,
        "gradient_clip": None, "reward_scale": 0.1, "seed": seed,
    }  # fmt: skip
    return TrainConfig(**fields)


def returns_without_noise(policy: TrainedPolicy, episodes: int, seed: int) -> Array:
    """Undiscounted returns (episodes,) on Gymnasium's Pendulum-v1, each from its own start."""
    env, rng = gymnasium.make(ENVIRONMENT), np.random.default_rng(seed)
    returns = np.zeros(episodes)
    for episode in range(episodes):
        row, over = env.reset(seed=seed + episode)[0], False
        while not over:
            row, reward, terminated, truncated, _ = env.step(policy.act(row[None], rng)[0].astype(np.float32))
            returns[episode] += float(reward)
            over = terminated or truncated
    return returns
