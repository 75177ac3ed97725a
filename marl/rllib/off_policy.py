"""DQN and SAC on the batched runner: RLlib's Learners and losses, fed from a replay buffer of whole arrays.

Sources of the losses: Mnih et al. (Nature 2015) with double Q-learning (arXiv:1509.06461); Haarnoja et al.
(arXiv:1812.05905), as RLlib implements them. One ring buffer per role, not per agent; it is part of a checkpoint.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from copy import deepcopy
from typing import Any

import numpy as np
import torch
from ray.rllib.algorithms.dqn import DQN, DQNConfig
from ray.rllib.algorithms.dqn.torch.dqn_torch_learner import DQNTorchLearner
from ray.rllib.algorithms.sac import SAC, SACConfig
from ray.rllib.algorithms.sac.torch.sac_torch_learner import SACTorchLearner
from ray.rllib.core.columns import Columns
from ray.rllib.core.distribution.torch.torch_distribution import TorchCategorical, TorchSquashedGaussian
from ray.rllib.core.rl_module.apis import QNetAPI, TargetNetworkAPI
from ray.rllib.core.rl_module.torch.torch_rl_module import TorchRLModule
from ray.rllib.policy.sample_batch import MultiAgentBatch, SampleBatch
from ray.rllib.utils.metrics import (
    ENV_RUNNER_RESULTS,
    LEARNER_RESULTS,
    NUM_ENV_STEPS_SAMPLED_LIFETIME,
    TD_ERROR_KEY,
)
from torch import nn

from edgemarl.agents.trained.networks import NetworkSpec, Perceptron, PolicyNetwork
from edgemarl.envs.api import Array
from edgemarl.marl.rllib.modules import ACTION_MASK, NEXT_ACTION_MASK
from edgemarl.marl.rllib.ppo import IndependentNetworks, joined, sample_runners
from edgemarl.marl.rllib.recovery import PatientRecovery

REPLAY = "replay"
TEMPERATURE = "log_alpha"


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


class QModule(TorchRLModule, QNetAPI, TargetNetworkAPI):
    """Action values of a Discrete role; explores by epsilon-greedy, epsilon travels with the weights."""

    epsilon: torch.Tensor

    def setup(self) -> None:
        self.spec = NetworkSpec.from_dict(self.model_config["spec"])
        self.policy = PolicyNetwork(self.spec)
        self.register_buffer("epsilon", torch.ones(()))

    @property
    def has_agent_axis(self) -> bool:
        return bool(self.spec.agents)

    def make_target_networks(self) -> None:
        self.target = deepcopy(self.policy).requires_grad_(False)

    def get_target_network_pairs(self) -> list[tuple[nn.Module, nn.Module]]:
        return [(self.policy, self.target)]

    def forward_target(self, batch: dict[str, Any], **_: Any) -> torch.Tensor:
        return self.target(batch[Columns.NEXT_OBS], batch.get(NEXT_ACTION_MASK))

    def compute_q_values(self, batch: dict[str, Any]) -> dict[str, torch.Tensor]:
        return {"qf_preds": self.policy(batch[Columns.OBS])}

    def _forward(self, batch: dict[str, Any], **_: Any) -> dict[str, Any]:
        return {Columns.ACTION_DIST_INPUTS: self.policy(batch[Columns.OBS], batch.get(ACTION_MASK))}

    @torch.no_grad()
    def _forward_exploration(self, batch: dict[str, Any], **_: Any) -> dict[str, Any]:
        """Log-probabilities of the epsilon-greedy choice."""
        values = self.policy(batch[Columns.OBS], batch.get(ACTION_MASK))
        allowed = batch[ACTION_MASK].to(values.dtype) if ACTION_MASK in batch else torch.ones_like(values)
        best = nn.functional.one_hot(values.argmax(dim=-1), values.shape[-1])
        spread = allowed / allowed.sum(dim=-1, keepdim=True)
        return {Columns.ACTION_DIST_INPUTS: torch.log((1.0 - self.epsilon) * best + self.epsilon * spread + 1e-30)}

    def _forward_train(self, batch: dict[str, Any], **_: Any) -> dict[str, Any]:
        with torch.no_grad():
            following = self.policy(batch[Columns.NEXT_OBS], batch.get(NEXT_ACTION_MASK))
            target = self.forward_target(batch)
        return {**self.compute_q_values(batch), "qf_next_preds": following, "qf_target_next_preds": target}

    def get_inference_action_dist_cls(self) -> Any:
        return TorchCategorical


class SACModule(TorchRLModule, QNetAPI, TargetNetworkAPI):
    """Squashed Gaussian policy and twin critics of a Box role; RLlib's Learner finds its parts by these names."""

    def setup(self) -> None:
        self.spec = NetworkSpec.from_dict(self.model_config["spec"])
        self.policy = PolicyNetwork(self.spec)
        inputs, hidden = self.spec.observation_size + self.spec.outputs, self.model_config["critic_hidden"]
        self.qf = Perceptron(inputs, hidden, 1, self.spec.agents)
        self.qf_twin = Perceptron(inputs, hidden, 1, self.spec.agents)
        self.pi_encoder, self.qf_encoder, self.qf_twin_encoder = nn.Identity(), nn.Identity(), nn.Identity()

    @property
    def pi(self) -> PolicyNetwork:
        return self.policy

    @property
    def has_agent_axis(self) -> bool:
        return bool(self.spec.agents)

    def make_target_networks(self) -> None:
        self.target_qf = deepcopy(self.qf).requires_grad_(False)
        self.target_qf_twin = deepcopy(self.qf_twin).requires_grad_(False)

    def get_target_network_pairs(self) -> list[tuple[nn.Module, nn.Module]]:
        return [(self.qf, self.target_qf), (self.qf_twin, self.target_qf_twin)]

    def forward_target(self, batch: dict[str, Any], **_: Any) -> torch.Tensor:
        inputs = torch.cat([batch[Columns.OBS], batch[Columns.ACTIONS]], dim=-1)
        return torch.min(self.target_qf(inputs), self.target_qf_twin(inputs))[..., 0]

    def compute_q_values(self, batch: dict[str, Any]) -> Any:
        inputs = torch.cat([batch[Columns.OBS], batch[Columns.ACTIONS]], dim=-1)
        return torch.min(self.qf(inputs), self.qf_twin(inputs))[..., 0]

    def value_of(self, observations: torch.Tensor, actions: torch.Tensor) -> Any:
        """Values of actions for the actor's loss, whose gradient passes through the critics without moving them."""
        critics = [*self.qf.parameters(), *self.qf_twin.parameters()]
        for p in critics:
            p.requires_grad = False
        value = self.compute_q_values({Columns.OBS: observations, Columns.ACTIONS: actions})
        for p in critics:
            p.requires_grad = True
        return value

    def _forward(self, batch: dict[str, Any], **_: Any) -> dict[str, Any]:
        return {Columns.ACTION_DIST_INPUTS: self.policy(batch[Columns.OBS])}

    def _forward_train(self, batch: dict[str, Any], **_: Any) -> dict[str, Any]:
        taken = torch.cat([batch[Columns.OBS], batch[Columns.ACTIONS]], dim=-1)
        now = self.policy(batch[Columns.OBS])
        drawn, logp = TorchSquashedGaussian.from_logits(now).rsample_and_logp()
        value = self.value_of(batch[Columns.OBS], drawn)
        with torch.no_grad():
            next_drawn, next_logp = TorchSquashedGaussian.from_logits(
                self.policy(batch[Columns.NEXT_OBS])
            ).sample_and_logp()
            target = self.forward_target({Columns.OBS: batch[Columns.NEXT_OBS], Columns.ACTIONS: next_drawn})
        return {
            Columns.ACTION_DIST_INPUTS: now,
            "qf_preds": self.qf(taken)[..., 0],
            "qf_twin_preds": self.qf_twin(taken)[..., 0],
            "logp_resampled": logp,
            "q_curr": value,
            "q_target_next": target,
            "logp_next_resampled": next_logp,
        }

    def get_inference_action_dist_cls(self) -> Any:
        return TorchSquashedGaussian


class OffPolicy(PatientRecovery):
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
            batches = sample_runners(self)
            if not batches:
                return  # every runner failed; RLlib restarts them before the next step
            for module, rows in joined(batches).policy_batches.items():
                self._buffers.setdefault(module, ReplayBuffer(self.config.replay_rows)).add(rows)
            steps = int(self.metrics.peek((ENV_RUNNER_RESULTS, NUM_ENV_STEPS_SAMPLED_LIFETIME)))
        self._set_exploration(steps)
        rng = np.random.default_rng([int(self.config.seed or 0), steps])
        with torch.random.fork_rng(devices=[]):  # losses that draw actions or noise: a resumed run draws the same
            torch.manual_seed(int(rng.integers(2**31)))
            self._learn(rng, steps)
        self.env_runner_group.sync_weights(
            from_worker_or_learner_group=self.learner_group, policies=list(self._buffers), inference_only=True
        )

    def _learn(self, rng: np.random.Generator, steps: int) -> None:
        """All gradient steps of an iteration in one call of the Learner."""
        results = self.learner_group.update(
            batch=self._drawn(rng, self.config.updates_per_step),
            timesteps={NUM_ENV_STEPS_SAMPLED_LIFETIME: steps},
            num_total_minibatches=self.config.updates_per_step,
        )
        for result in results:
            for values in result.values():
                values.pop(TD_ERROR_KEY, None)  # one number per row, of use to prioritised replay only
        self.metrics.aggregate(results, key=LEARNER_RESULTS)

    def get_state(self, *args: Any, **kwargs: Any) -> dict[str, Any]:
        """RLlib's state and the replayed rows."""
        state: dict[str, Any] = super().get_state(*args, **kwargs)  # type: ignore[misc]
        return {**state, REPLAY: {module: buffer.get_state() for module, buffer in self._buffers.items()}}

    def set_state(self, state: Mapping[str, Any]) -> None:
        super().set_state(state)  # type: ignore[misc]
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


class OffPolicySettings:
    """What the replay needs beside RLlib's own settings."""

    replay_rows = 100_000
    replay_batch = 1000
    updates_per_step = 50
    random_steps = 0
    exploration_steps = 10_000
    epsilon_final = 0.05

    def validate(self) -> None:
        """RLlib's checks concern its own replay buffers."""


class ReplayUpdates:
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
            parts = {}
            for module, rows in batch.policy_batches.items():
                size = len(rows) // num_total_minibatches
                part = slice(i * size, (i + 1) * size)
                parts[module] = SampleBatch({name: values[part] for name, values in rows.items()})
            yield MultiAgentBatch(parts, batch.env_steps() // num_total_minibatches)

    @torch.no_grad()
    def _follow(self) -> None:
        """Target networks move towards the learned ones by the share tau."""
        for module in self.module.values():
            for learned, target in module.unwrapped().get_target_network_pairs():
                torch._foreach_lerp_(list(target.parameters()), list(learned.parameters()), self.config.tau)


class BatchedDQNLearner(ReplayUpdates, IndependentNetworks, DQNTorchLearner):
    """RLlib's double-DQN loss on whole arrays."""


class BatchedSACLearner(ReplayUpdates, SACTorchLearner):
    """RLlib's SAC losses on whole arrays; the temperature is part of the state, which RLlib leaves out."""

    def get_state(self, *args: Any, **kwargs: Any) -> dict[str, Any]:
        state: dict[str, Any] = super().get_state(*args, **kwargs)
        return {**state, TEMPERATURE: {m: value.detach().numpy().copy() for m, value in self.curr_log_alpha.items()}}

    def set_state(self, state: dict[str, Any]) -> None:
        super().set_state(state)
        for module, value in state.get(TEMPERATURE, {}).items():
            self.curr_log_alpha[module].data.copy_(torch.as_tensor(value))


class BatchedDQN(OffPolicy, DQN):
    """DQN whose runners return arrays of transitions."""

    @classmethod
    def get_default_config(cls) -> Any:
        return BatchedDQNConfig()


class BatchedSAC(OffPolicy, SAC):
    """SAC whose runners return arrays of transitions."""

    @classmethod
    def get_default_config(cls) -> Any:
        return BatchedSACConfig()


class BatchedDQNConfig(OffPolicySettings, DQNConfig):
    def __init__(self, algo_class: Any = None) -> None:
        super().__init__(algo_class=algo_class or BatchedDQN)

    def get_default_learner_class(self) -> Any:
        return BatchedDQNLearner


class BatchedSACConfig(OffPolicySettings, SACConfig):
    def __init__(self, algo_class: Any = None) -> None:
        super().__init__(algo_class=algo_class or BatchedSAC)

    def get_default_learner_class(self) -> Any:
        return BatchedSACLearner
