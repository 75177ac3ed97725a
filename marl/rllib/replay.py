"""Off-policy learning on the batched runner: a replay buffer of whole arrays and the updates drawn from it.

One ring buffer per role, not per agent; it is part of a checkpoint.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import torch
from ray.rllib.core.columns import Columns
from ray.rllib.policy.sample_batch import MultiAgentBatch, SampleBatch
from ray.rllib.utils.metrics import (
    ENV_RUNNER_RESULTS,
    LEARNER_RESULTS,
    NUM_ENV_STEPS_SAMPLED_LIFETIME,
    TD_ERROR_KEY,
)

from edgemarl.envs.arrays import Array
from edgemarl.marl.rllib.ahead import SamplesAhead
from edgemarl.marl.rllib.config import BatchedConfig, check_batched
from edgemarl.marl.rllib.learner import joined
from edgemarl.marl.rllib.learners import SharedMinibatches, learn
from edgemarl.marl.rllib.recovery import PatientRecovery
from edgemarl.marl.rllib.runner_states import RunnerStates

REPLAY = "replay"


class ReplayBuffer:
    """The last `capacity` transitions of a role, in preallocated arrays; rows are drawn uniformly."""

    def __init__(self, capacity: int) -> None:
        self.capacity, self.count, self._next = capacity, 0, 0
        self._columns: dict[str, Array] = {}

    def add(self, rows: SampleBatch) -> None:
        """Append rows; the oldest give way."""
        index = (self._next + np.arange(len(rows))) % self.capacity
        for name, values in rows.items():
            if name not in self._columns:
                self._columns[name] = np.empty((self.capacity, *values.shape[1:]), values.dtype)
            self._columns[name][index] = values
        self._next = int((self._next + len(rows)) % self.capacity)
        self.count = min(self.count + len(rows), self.capacity)

    def width(self, column: str) -> int:
        """Agents of a row with an agent axis."""
        return int(self._columns[column].shape[1])

    def sample(self, rows: int, rng: np.random.Generator) -> dict[str, Array]:
        """Rows drawn with replacement."""
        index = rng.integers(0, self.count, rows)
        return {name: values[index] for name, values in self._columns.items()}

    def get_state(self) -> dict[str, Any]:
        """The rows that are filled, and where the next one goes."""
        columns = {name: values[: self.count].copy() for name, values in self._columns.items()}
        return {"columns": columns, "next": self._next}

    @classmethod
    def from_state(cls, state: Mapping[str, Any], capacity: int) -> ReplayBuffer:
        """The buffer of `get_state`, in the same capacity."""
        buffer = cls(capacity)
        if state["columns"]:
            buffer.add(SampleBatch(state["columns"]))
        buffer._next = int(state["next"])
        return buffer


class OffPolicy(SamplesAhead, RunnerStates, PatientRecovery):
    """`training_step` of an off-policy algorithm: sample, remember, update several times, hand on the weights."""

    config: Any
    metrics: Any
    learner_group: Any
    env_runner_group: Any
    _buffers: dict[str, ReplayBuffer]

    def _create_local_replay_buffer_if_necessary(self, config: Any) -> None:
        """RLlib's buffers hold episode objects; ours hold arrays."""
        self._buffers = {}

    def training_step(self) -> None:
        steps = -1
        while steps < self.config.random_steps:  # the first iteration plays them all before anything is learned
            batches = self.sampled()
            if not batches:
                return  # every runner failed; RLlib restarts them before the next step
            for module, rows in joined(batches).policy_batches.items():
                self._buffers.setdefault(module, ReplayBuffer(self.config.replay_rows)).add(rows)
            steps = int(self.metrics.peek((ENV_RUNNER_RESULTS, NUM_ENV_STEPS_SAMPLED_LIFETIME)))
        self.sample_ahead()
        self._set_exploration(steps)
        rng = np.random.default_rng([int(self.config.seed or 0), steps])
        with torch.random.fork_rng(devices=[]):  # losses that draw actions or noise: a resumed run draws the same
            torch.manual_seed(int(rng.integers(2**31)))
            self._learn(rng, steps)
        self.hand_on(list(self._buffers))

    def _learn(self, rng: np.random.Generator, steps: int) -> None:
        """All gradient steps of an iteration in one call of the Learner."""
        results = learn(
            self,
            self._drawn(rng, self.config.updates_per_step),
            timesteps={NUM_ENV_STEPS_SAMPLED_LIFETIME: steps},
            num_total_minibatches=self.config.updates_per_step,
        )
        for result in results:
            for values in result.values():
                values.pop(TD_ERROR_KEY, None)  # one number per row, of use to prioritised replay only
        self.metrics.aggregate(results, key=LEARNER_RESULTS)

    def get_state(self, *args: Any, **kwargs: Any) -> dict[str, Any]:
        """RLlib's state and the replayed rows."""
        state: dict[str, Any] = super().get_state(*args, **kwargs)
        return {**state, REPLAY: {module: buffer.get_state() for module, buffer in self._buffers.items()}}

    def set_state(self, state: Mapping[str, Any]) -> None:
        super().set_state(state)
        if REPLAY in state:
            rows = self.config.replay_rows
            self._buffers = {m: ReplayBuffer.from_state(kept, rows) for m, kept in state[REPLAY].items()}

    def _drawn(self, rng: np.random.Generator, minibatches: int = 1) -> MultiAgentBatch:
        """Rows of so many minibatches from every role's buffer, one after another."""
        modules = {}
        for module, buffer in self._buffers.items():
            agents = self.config.rl_module_spec.rl_module_specs[module].model_config["spec"]["agents"]
            rows = buffer.sample(minibatches * max(2, self.config.replay_batch // max(agents, 1)), rng)
            ones = np.ones(rows[Columns.REWARDS].shape, np.float32)
            modules[module] = SampleBatch({**rows, "weights": ones, "n_step": ones})
        return MultiAgentBatch(modules, minibatches * self.config.replay_batch)

    def _set_exploration(self, steps: int) -> None:
        """Linear from 1 to the final share of random actions, over the first part of the budget."""
        share = min(1.0, steps / self.config.exploration_steps)
        self._fill(epsilon=1.0 + share * (self.config.epsilon_final - 1.0))

    def _fill(self, **values: float) -> None:
        """Set buffers of these names in the Learners' modules, where a module has them."""

        def fill(learner: Any, **_: Any) -> None:
            for module in learner.module.values():
                for name, value in values.items():
                    if hasattr(module.unwrapped(), name):
                        getattr(module.unwrapped(), name).fill_(value)

        self.learner_group.foreach_learner(fill)


class OffPolicyConfig(BatchedConfig):
    """What the replay needs beside RLlib's own settings."""

    replay_rows = 100_000
    replay_batch = 1000
    updates_per_step = 50
    random_steps = 0
    exploration_steps = 10_000
    epsilon_final = 0.05

    def validate(self) -> None:
        """RLlib's checks concern its own replay buffers."""
        check_batched(self)


class ReplayUpdates(SharedMinibatches):
    """For RLlib's off-policy Learners: a batch holds the rows of several gradient steps, and targets follow each."""

    config: Any
    module: Any
    _make_batch_if_necessary: Any

    def _create_iterator_if_necessary(
        self, *, training_data: Any, num_total_minibatches: int = 1, **_: Any
    ) -> Iterator[MultiAgentBatch]:
        batch = self._make_batch_if_necessary(training_data=training_data)
        for i in range(num_total_minibatches):
            if i:
                self._follow()  # RLlib does so itself after the last one
            parts, weights = {}, {}
            for module, rows in batch.policy_batches.items():
                size = len(rows) // num_total_minibatches
                own, weights[module] = self.share.of(size), self.share.weight(size)
                part = slice(i * size + own.start, i * size + own.stop)
                if weights[module]:
                    parts[module] = SampleBatch({name: values[part] for name, values in rows.items()})
            self.share_weights = weights
            yield MultiAgentBatch(parts, batch.env_steps() // num_total_minibatches)

    @torch.no_grad()
    def _follow(self) -> None:
        """Target networks move towards the learned ones by the share tau."""
        for module in self.module.values():
            for learned, target in module.unwrapped().get_target_network_pairs():
                torch._foreach_lerp_(list(target.parameters()), list(learned.parameters()), self.config.tau)
