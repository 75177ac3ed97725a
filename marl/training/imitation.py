"""Warm start: networks first learn the actions of a named controller from its own play (behavioural cloning).

The controllers play as a team, with all their messages; a network sees only what it will see when it acts: its row and
the messages of fixed roles, those of this slot from roles that act before it, those of the slot before from others.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import numpy as np
import torch

from edgemarl.agents.api import Team
from edgemarl.agents.pooling import with_pool
from edgemarl.agents.registry import acting_order, make_controller
from edgemarl.agents.trained.networks import PolicyNetwork
from edgemarl.envs.arrays import Array
from edgemarl.marl.algorithms.base import Run
from edgemarl.marl.algorithms.settings import RunFields
from edgemarl.marl.rllib.node import sync_runners
from edgemarl.marl.training.curve import policy_networks

LEARNING_RATE = 3e-3
"""First one; it falls linearly to a fiftieth."""
LAST_RATE = 0.02
ROWS = 8192
"""Rows that every imitated role plays at least unless told otherwise, or one episode of the run's cells."""
Look = Callable[[str, int, int, float], None]
"""Called after every slot that the named controllers play, and after every step: the role ("" while they play), how
many are done, of how many, and the newest loss (nan while they play). What it raises ends the imitation.
"""


def unseen(role: str, done: int, total: int, loss: float) -> None:
    """A `Look` of nobody."""


def warm_start(algorithm: Any, run: Run, look: Look = unseen) -> None:
    """Fit the policies of a fresh algorithm to the controllers that `imitate` names; runners receive them.

    The algorithm's own policies change at the end, all at once.
    """
    played = demonstrations(run, look)
    states = {}
    for role, network in policy_networks(algorithm).items():
        rows, actions = played[role]
        assert isinstance(network, PolicyNetwork)
        settings, seed = run.settings, run.config.seed
        fit(network, rows, actions, settings.imitate_steps, settings.minibatch, seed, partial(look, role))
        states[role] = network.state_dict()

    def load(learner: Any, **_: Any) -> None:
        for role, state in states.items():
            learner.module[role].unwrapped().policy.load_state_dict(state)

    algorithm.learner_group.foreach_learner(load)
    sync_runners(algorithm, list(states))


def demonstrations(run: Run, look: Look = unseen) -> dict[str, tuple[Array, Array]]:
    """Learned role -> rows (M, n, d) as its network will see them and the teacher's raw actions (M, n, ...)."""
    scenario, config, imitate = run.scenario, run.config, run.settings.imitate
    names = {**imitate, **config.fixed}
    members = {role: make_controller(scenario, role, names[role]) for role in scenario.roles}
    team = Team("demonstration", members, acting_order(scenario, (), list(scenario.roles)))
    traces, noise = (np.random.default_rng(s) for s in np.random.SeedSequence([config.seed, 3]).spawn(2))
    fewest = min(scenario.roles[role].count for role in imitate)
    episode = config.cells * fewest * scenario.horizon
    rows_shown = run.settings.imitate_rows or min(ROWS, episode)
    cells = config.cells * -(-rows_shown // episode)
    slots = -(-rows_shown // (cells * fewest))
    trace = scenario.sample_trace(traces, cells, slots)
    team.reset(scenario, trace)
    state = scenario.initial_state(trace)
    seen: dict[str, list[tuple[Array, Array]]] = {role: [] for role in imitate}
    for t in range(slots):
        exogenous = scenario.exogenous(trace, t)
        observations = scenario.observe(state, exogenous)
        before = team.act_before(imitate, observations, noise)
        rows = {role: _seen(team, role, observations, config) for role in seen}
        acts = team.act(observations, noise, before)
        for role, pairs in seen.items():
            actions = acts[role].actions
            if actions is None:
                raise ValueError(f"imitate: controller '{names[role]}' of role '{role}' gives no raw actions")
            pairs.append((rows[role], actions))
        state = scenario.step(state, team.decisions(acts, observations, state, exogenous), exogenous).state
        look("", t + 1, slots, math.nan)
    return {
        role: (np.concatenate([row for row, _ in pairs]), np.concatenate([action for _, action in pairs]))
        for role, pairs in seen.items()
    }


def _seen(team: Team, role: str, observations: Mapping[str, Array], config: RunFields) -> Array:
    """A role's rows, with messages of the roles that are not learned and, under central control, the pool."""
    inbox = team.inbox[role]
    told = [inbox[sender] for sender in team.controllers if sender in config.fixed and sender in inbox]
    rows = np.concatenate([observations[role], *told], axis=2)
    return with_pool(rows, team.pool(observations)) if config.pooled else rows


def fit(
    network: PolicyNetwork, rows: Array, actions: Array, steps: int, batch: int, seed: int,
    look: Callable[[int, int, float], None] = lambda done, total, loss: None,
) -> float:  # fmt: skip
    """Adam steps on the imitation loss; returns the last one.

    Args:
        network: the policy, changed in place.
        rows: (M, n, d) float32.
        actions: (M, n, ...) raw.
        batch: agent-steps of a step.
        look: called after every step: how many are done, of how many, the loss.
    """
    rng = np.random.default_rng([seed, 4])
    if network.normaliser is not None:  # else the first batch of training would change what was fitted
        network.normaliser.merge(len(rows), rows.mean(0, dtype=np.float64), rows.var(0, dtype=np.float64))
    optimiser = torch.optim.Adam(network.parameters(), lr=LEARNING_RATE)
    agents = rows.shape[1]
    if not network.spec.of_cells:
        rows, actions, agents = rows.reshape(-1, rows.shape[2]), actions.reshape(-1, *actions.shape[2:]), 1
    size = min(len(rows), max(1, batch // agents))
    value = float("nan")
    for i in range(steps):
        for group in optimiser.param_groups:
            group["lr"] = LEARNING_RATE * (1.0 - (1.0 - LAST_RATE) * i / steps)
        index = rng.integers(0, len(rows), size)
        loss = network.head.loss(network(torch.from_numpy(rows[index])), torch.from_numpy(actions[index]))
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        value = float(loss.detach())
        look(i + 1, steps, value)
    return value
