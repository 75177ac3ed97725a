"""What an evaluation runner of RLlib does here: whole episodes from their start, the same traces every time."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from ray.rllib.utils.metrics import (
    EPISODE_LEN_MEAN,
    EPISODE_RETURN_MEAN,
    NUM_ENV_STEPS_SAMPLED,
    NUM_ENV_STEPS_SAMPLED_LIFETIME,
    NUM_EPISODES,
)

from edgemarl.envs.arrays import Array
from edgemarl.marl.rllib.cells import Cells, Slot

SCENARIO_METRICS = "scenario"


@dataclass(frozen=True)
class PlayedEpisodes:
    """Some cells side by side, as RLlib counts episodes.

    Attributes:
        slots: (B,) slots that were played of each cell's first episode.
        ended: (B,) whether it was played to its end.
        returns: (B,) sum of rewards over roles, agents and these slots.
        totals: metric -> its sum over cells and slots.
        agents: learning agents of a cell.
    """

    slots: Array
    ended: Array
    returns: Array
    totals: dict[str, float]
    agents: int

    def env_steps(self) -> int:
        return int(self.slots.sum())

    def agent_steps(self) -> int:
        return self.env_steps() * self.agents


def evaluate(runner: Any, num_timesteps: int | None, num_episodes: int | None, explore: bool) -> list[PlayedEpisodes]:
    """Play and log; partners that learn start anew, as in `compare`.

    Args:
        runner: a `BatchedEnvRunner`.
        num_timesteps: env steps (cell-slots) of episodes from their start, rounded up to whole slots.
        num_episodes: episodes, if no steps are given; at most `cells` of them run side by side.
        explore: draw actions instead of taking the most likely.
    """
    settings = runner.settings
    seed = 0 if runner.config.seed is None else int(runner.config.seed)
    sequence = np.random.SeedSequence([seed, int(runner.worker_index or 0), 1])
    traces, noise = (np.random.default_rng(s) for s in sequence.spawn(2))
    played = []
    for cells, slots in _parts(settings.cells, num_timesteps, num_episodes or 1):
        alone = dataclasses.replace(settings, cells=cells, stagger=False, output="advantages")
        drawn = traces.spawn(1)[0]  # of its own: cells draw another trace when an episode ends
        played.append(_play(runner, runner.new_cells(alone, drawn), slots, noise if explore else None))
    _log(runner.metrics, played)
    return played


def _parts(most: int, num_timesteps: int | None, num_episodes: int) -> Iterator[tuple[int, int | None]]:
    """Cells side by side and how many slots at most, part by part."""
    if num_timesteps is not None:
        yield most, -(-int(num_timesteps) // most)
        return
    for first in range(0, num_episodes, most):
        yield min(most, num_episodes - first), None


def _play(runner: Any, cells: Cells, slots: int | None, noise: np.random.Generator | None) -> PlayedEpisodes:
    ended = np.zeros(cells.count, bool)
    played, returns = np.zeros(cells.count, np.int64), np.zeros(cells.count)
    totals: dict[str, float] = {}
    t = 0
    while not ended.all() and (slots is None or t < slots):
        rows = cells.slot()
        step, _, over = cells.step({role: act(runner.module[role], role, rows, noise) for role in cells.learned})
        returns += np.where(ended, 0.0, sum(r.sum(axis=1) for r in runner.rewards(step, cells).values()))
        for name, values in step.metrics.items():
            totals[name] = totals.get(name, 0.0) + float(values[~ended].sum())
        played += ~ended
        ended |= over
        t += 1
    return PlayedEpisodes(played, ended, returns, totals, runner.learning_agents)


@torch.no_grad()
def act(module: Any, role: str, rows: Slot, noise: np.random.Generator | None) -> Array:
    """Raw actions (B, n, ...) of a role: the most likely ones, or drawn from the policy's distribution with noise."""
    mask = torch.from_numpy(np.array(rows.masks[role])) if role in rows.masks else None
    parameters = module.policy(torch.from_numpy(np.ascontiguousarray(rows.observations[role])), mask).numpy()
    head = module.policy.head
    return np.asarray(head.to_env(head.greedy(parameters) if noise is None else head.sample(parameters, noise)))


def _log(metrics: Any, played: list[PlayedEpisodes]) -> None:
    steps = sum(part.env_steps() for part in played)
    lengths, returns, ended = (
        np.concatenate([getattr(part, name) for part in played]) for name in ("slots", "returns", "ended")
    )
    for value, length in zip(returns[ended], lengths[ended], strict=True):
        metrics.log_value(EPISODE_RETURN_MEAN, float(value), window=int(ended.sum()))
        metrics.log_value(EPISODE_LEN_MEAN, int(length), window=int(ended.sum()))
    metrics.log_value(NUM_EPISODES, int(ended.sum()), reduce="sum")
    metrics.log_value(NUM_ENV_STEPS_SAMPLED, steps, reduce="sum")
    metrics.log_value(NUM_ENV_STEPS_SAMPLED_LIFETIME, steps, reduce="lifetime_sum", with_throughput=True)
    for name in played[0].totals:
        metrics.log_value((SCENARIO_METRICS, name), sum(part.totals[name] for part in played) / steps, window=1)
