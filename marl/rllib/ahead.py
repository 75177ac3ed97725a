"""Sampling while the Learner learns: what remote runners do between two updates.

In turns, runners wait while a batch is learned from and the Learner waits while one is sampled. With `overlap` the
runners are asked for the next batch before this one is learned from: they act with the weights of the update before,
always of exactly that one. A request carries its weights, and its batch is waited for, so that a run depends on its
seed and not on who was faster. The clipped ratio of PPO and the rows of a replay buffer allow for weights that old.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import ray
from ray.rllib.core import COMPONENT_LEARNER, COMPONENT_RL_MODULE
from ray.rllib.policy.sample_batch import MultiAgentBatch
from ray.rllib.utils.metrics import ENV_RUNNER_RESULTS, WEIGHTS_SEQ_NO

from edgemarl.marl.rllib.learner import sample_runners
from edgemarl.marl.rllib.node import sync_runners

AHEAD = "sampled_ahead"
TAG = "sample"

Sampled = tuple[MultiAgentBatch, Any]
"""A runner's batch and its metrics."""


class SamplesAhead:
    """Before RLlib's `Algorithm`: batches of the runners, of which the next may be under way.

    A checkpoint waits for the batches that are under way and holds them: a resumed run learns from the same ones.
    """

    config: Any
    metrics: Any
    iteration: int
    learner_group: Any
    env_runner_group: Any

    _under_way = False
    _arrived: list[Sampled] | None = None
    """Batches of the next iteration that a checkpoint waited for."""
    _weights: Any = None
    """What the next request carries, in Ray's object store."""

    def sampled(self, **asked: Any) -> list[MultiAgentBatch]:
        """A batch from each healthy runner, in the runners' order; `asked` are arguments of `sample`."""
        if not self.config.overlap:
            return sample_runners(self, **asked)
        if self._arrived is None and not self._under_way:
            self._request(asked)
        batches = self._wait() if self._arrived is None else self._arrived
        self._arrived = None
        if batches:
            self.metrics.aggregate([metrics for _, metrics in batches], key=ENV_RUNNER_RESULTS)
        return [batch for batch, _ in batches]

    def sample_ahead(self) -> None:
        """Let the runners sample while what follows is computed.

        Not in the first iteration: a fresh critic's level and the first moments of the rows change at once what a
        network means.
        """
        if self.config.overlap and self.iteration > 0:
            self._request({})

    def hand_on(self, modules: Sequence[str]) -> None:
        """Give the runners the weights that the Learners have of these modules, for what they are asked next."""
        if self.config.overlap:
            self._weights = self._stored(modules)
        else:
            sync_runners(self, modules)

    def _request(self, asked: Mapping[str, Any]) -> None:
        if self._weights is None:
            self._weights = self._stored(list(self.config.rl_module_spec.rl_module_specs))
        given = {"weights": self._weights, "asked": dict(asked)}
        self.env_runner_group.foreach_env_runner_async(sample_with, tag=TAG, kwargs=given)
        self._under_way = True

    def _wait(self) -> list[Sampled]:
        """What the runners were asked for; one that failed is left out, as in RLlib."""
        self._under_way = False
        found: list[tuple[int, Sampled]] = self.env_runner_group.fetch_ready_async_reqs(
            tags=TAG, timeout_seconds=self.config.sample_timeout_s
        )
        return [sampled for _, sampled in sorted(found, key=lambda one: one[0])]

    def _stored(self, modules: Sequence[str]) -> Any:
        """The Learners' weights in Ray's object store; the local runner, which checkpoints hold, has them too."""
        names = [f"{COMPONENT_LEARNER}/{COMPONENT_RL_MODULE}/{module}" for module in modules]
        state = self.learner_group.get_state(components=names, inference_only=True)[COMPONENT_LEARNER]
        weights = {name: state[name] for name in (COMPONENT_RL_MODULE, WEIGHTS_SEQ_NO)}
        self.env_runner_group.local_env_runner.set_state(weights)
        return ray.put(weights)

    def settle(self) -> None:
        """Wait for the batches that are under way and keep them for the next iteration."""
        if self._under_way:
            self._arrived = self._wait()

    def get_state(self, *args: Any, **kwargs: Any) -> dict[str, Any]:
        """RLlib's state and the batches that were sampled ahead."""
        self.settle()
        state: dict[str, Any] = super().get_state(*args, **kwargs)  # type: ignore[misc]
        return {**state, AHEAD: self._arrived}

    def set_state(self, state: Mapping[str, Any]) -> None:
        super().set_state(state)  # type: ignore[misc]
        self._arrived = state.get(AHEAD)


def sample_with(runner: Any, weights: Mapping[str, Any], asked: Mapping[str, Any]) -> Sampled:
    """What a runner does: take the weights, sample."""
    runner.set_state(weights)
    return runner.sample(**asked), runner.get_metrics()
