"""Price-conditioned shared DQN with a learned price, discount 0, on the batched runner.

For games in which devices that share a server must agree, slot by slot, who uses it (`trained.priced_network`). Two
networks are learned from what cells play. The Q-network values an option under an assumed way of sharing the server,
a candidate, from rewards in which a device pays for the server time that it takes. The price network learns, from the
broadcast entries alone, what each candidate costs the whole cell when every device answers it with its best option; in
training this needs all rows of a slot, in use each device evaluates both networks on its own row.

A scenario takes part through a class such as `edgemarl.agents.sampling_rate.prices.SamplingRatePrices`.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import torch
from ray.rllib.algorithms import dqn as rllib
from ray.rllib.algorithms.dqn.dqn_learner import DQNLearner
from ray.rllib.algorithms.dqn.torch.dqn_torch_learner import DQNTorchLearner
from ray.rllib.core.columns import Columns
from ray.rllib.core.rl_module.apis import QNetAPI, TargetNetworkAPI
from ray.rllib.core.rl_module.torch.torch_rl_module import TorchRLModule
from ray.rllib.policy.sample_batch import MultiAgentBatch, SampleBatch
from ray.rllib.utils.metrics import LEARNER_RESULTS, NUM_ENV_STEPS_SAMPLED_LIFETIME
from torch import nn

from edgemarl.agents.pooling import pooled_entries
from edgemarl.agents.registry import pricing
from edgemarl.agents.trained.priced_network import PricedQNetwork
from edgemarl.agents.trained.spec import NetworkSpec
from edgemarl.envs.arrays import Array
from edgemarl.envs.config import config_class, quantity
from edgemarl.marl.algorithms.base import Algorithm, Needs, Run, off_policy_training, set_replay
from edgemarl.marl.algorithms.dqn import set_exploration
from edgemarl.marl.algorithms.settings import OffPolicySettings
from edgemarl.marl.rllib.cells import Cells
from edgemarl.marl.rllib.env_runner import BatchedEnvRunner
from edgemarl.marl.rllib.learner import IndependentNetworks
from edgemarl.marl.rllib.replay import OffPolicy, OffPolicyConfig

ROLE = "device"
CANDIDATE = "candidate"
CANDIDATE_RANDOM_MIN = 0.2
PRICE_ERROR_MAX = 3.0
"""Error in s beyond which the price network's squared error becomes linear."""
QF, PRICE = "qf", "price"
"""Names of the two optimisers; losses are logged as `qf_loss` and `price_loss`."""


@config_class
class PricedDQNSettings(OffPolicySettings):
    """Settings of the price-conditioned DQN."""

    epsilon: float = quantity(0.05, "-", "final share of random actions", ge=0, le=1)
    exploration: float = quantity(0.3, "-", "share of the budget over which epsilon falls from 1", gt=0, le=1)
    price_updates: int = quantity(30, "-", "gradient steps of the price network per iteration", ge=1, le=10**9)


class PricedDQN(Algorithm):
    """A Q-network that all devices share and the network that prices the server for it."""

    name = "priced_dqn"
    meaning = "shared Q-learning at a price of the server that is learned too, where the scenario can be priced"
    Settings = PricedDQNSettings
    needs = Needs(actions="discrete", joint=False)
    output = "transitions"

    def check(self, run: Run) -> None:
        super().check(run)
        pricing(run.scenario)
        config = run.config
        if run.independent or run.settings.discount != 0.0:
            raise ValueError("priced_dqn is shared and without discount: set discount = 0")
        others = {role: "closed_form" for role in run.scenario.roles if role != ROLE}
        if dict(config.fixed) != others:
            raise ValueError(
                f"priced_dqn learns devices beside optimal shares: fixed = {dict(config.fixed)} must be {others}"
            )

    def build(self, run: Run) -> PricedDQNConfig:
        built = PricedDQNConfig().training(
            **off_policy_training(run),
            lr=run.falling(run.settings.lr or 1e-3),
            double_q=True,
            dueling=False,
            num_atoms=1,
        )
        set_replay(built, run)
        set_exploration(built, run)
        built.replay_rows = max(1, run.settings.replay // run.agents)
        built.budget_steps, built.price_updates = run.env_steps, run.settings.price_updates
        return built

    def module_class(self) -> type:
        return PricedModule

    def runner_class(self) -> type:
        return PricedRunner

    def spec(self, run: Run, role: str, **kind: Any) -> NetworkSpec:
        price = pricing(run.scenario).spec()
        return dataclasses.replace(
            super().spec(run, role, **kind), price=_with_pool(price, run) if run.config.pooled else price
        )


def _with_pool(price: dict[str, Any], run: Run) -> dict[str, Any]:
    """The price's fields for rows that end in the pool of all: what it reads of a row it reads of the pooled rows too.

    The pool is alike in all rows of a cell, so that the price network sees it too. What other roles see is hidden: the
    devices' rows hold what of it concerns them.
    """
    scale: list[float] = []
    for role, played in run.scenario.roles.items():
        entries = pooled_entries(played)
        scale += 2 * list(price["scale"]) if role == ROLE else [0.0] * (2 * entries)
    own = len(price["scale"])
    broadcast = [own + i for i, factor in enumerate(scale) if factor]
    return {**price, "scale": (*price["scale"], *scale), "broadcast": (*price["broadcast"], *broadcast)}


class PricedModule(TorchRLModule, QNetAPI, TargetNetworkAPI):
    """Both networks, epsilon and the share of random candidates; without discount there is no target network."""

    epsilon: torch.Tensor
    random_candidates: torch.Tensor

    def setup(self) -> None:
        self.spec = NetworkSpec.from_dict(self.model_config["spec"])
        self.policy = PricedQNetwork(self.spec)
        self.register_buffer("epsilon", torch.ones(()))
        self.register_buffer("random_candidates", torch.ones(()))

    @property
    def has_agent_axis(self) -> bool:
        return True

    def make_target_networks(self) -> None:
        """None: with discount 0 the target is the reward."""

    def get_target_network_pairs(self) -> list[tuple[nn.Module, nn.Module]]:
        return []

    def forward_target(self, batch: dict[str, Any], **_: Any) -> torch.Tensor:
        return torch.zeros_like(batch[Columns.REWARDS])

    def compute_q_values(self, batch: dict[str, Any]) -> dict[str, torch.Tensor]:
        return {"qf_preds": self.policy.values(batch[Columns.OBS], batch[CANDIDATE])}

    def _forward(self, batch: dict[str, Any], **_: Any) -> dict[str, Any]:
        return {Columns.ACTION_DIST_INPUTS: self.policy(batch[Columns.OBS])}

    @torch.no_grad()
    def explored(self, rows: Array, rng: np.random.Generator) -> tuple[Array, Array]:
        """Actions (B, n) of rows (B, n, d) and the candidates (B,), one per cell, that they were taken under."""
        tensor = torch.from_numpy(rows)
        candidate = self.policy.candidates(tensor[:, 0]).numpy()
        drawn = rng.integers(0, self.policy.log_share.shape[0], candidate.shape)
        candidate = np.where(rng.random(candidate.shape) < float(self.random_candidates), drawn, candidate)
        wide = torch.from_numpy(candidate)[:, None].expand(rows.shape[:2])
        actions = self.policy.values(tensor, wide).argmax(dim=-1).numpy()
        random = rng.integers(0, self.policy.head.outputs, actions.shape)
        return np.where(rng.random(actions.shape) < float(self.epsilon), random, actions), candidate


class PricedRunner(BatchedEnvRunner):
    """Plays whole slots under one candidate per cell; half of the cells have their state drawn anew now and then."""

    def _play(self, cells: Cells, slots: int, explore: bool, fresh: bool) -> MultiAgentBatch:
        game, module = pricing(self.scenario), self.module[ROLE]
        first = self.num_env_steps_sampled_lifetime // cells.count
        columns: dict[str, list[Array]] = {}
        totals: dict[str, float] = {}
        for t in range(slots):
            cells.state = game.randomised(cells.state, first + t, slice(0, cells.count // 2), self._noise)
            state, exogenous, rows = cells.state, cells.exogenous, cells.slot().observations[ROLE]
            actions, candidate = module.explored(rows, self._noise)
            rewards = game.rewards(state, actions, exogenous, candidate)
            step, _, ended = cells.step({ROLE: actions})
            recorded = {
                Columns.OBS: rows, Columns.ACTIONS: actions, Columns.REWARDS: rewards.astype(np.float32),
                CANDIDATE: candidate,
            }  # fmt: skip
            for name, values in recorded.items():
                columns.setdefault(name, []).append(values)
            for name, values in step.metrics.items():
                totals[name] = totals.get(name, 0.0) + float(values.mean()) / slots
            self._count_episodes(rewards.sum(axis=1), ended, cells)
        self._log(slots * cells.count, totals)
        batch = SampleBatch({name: np.concatenate(values) for name, values in columns.items()})
        return MultiAgentBatch({ROLE: batch}, slots * cells.count)


class PricedLearner(IndependentNetworks, DQNTorchLearner):
    """Squared error of the Q-network to the rewards; of the price network to what candidates cost a whole slot."""

    def configure_optimizers_for_module(self, module_id: str, config: Any = None) -> None:
        policy = self._module[module_id].policy
        for name, network in ((QF, policy.q), (PRICE, policy.price)):
            parameters = self.get_parameters(network)
            self.register_optimizer(
                module_id=module_id,
                optimizer_name=name,
                optimizer=torch.optim.Adam(parameters, fused=True),
                params=parameters,
                lr_or_lr_schedule=config.lr,
            )

    def _update(self, batch: dict[str, Any], **_: Any) -> tuple[Any, Any, Any]:
        """All updates of an iteration; the batch holds whole slots, whose agents' rows are shuffled."""
        losses = {}
        for module_id, rows in batch.items():
            policy = self.module[module_id].unwrapped().policy
            optimizers = dict(self.get_optimizers_for_module(module_id))
            q_loss = price_loss = torch.zeros(())
            for part in self._agent_rows(rows):
                values = policy.values(part[Columns.OBS], part[CANDIDATE])
                taken = values.gather(-1, part[Columns.ACTIONS][:, None])[:, 0]
                q_loss = torch.nn.functional.mse_loss(taken, part[Columns.REWARDS])
                _descend(q_loss, optimizers[QF])
            for index in self._slots(len(rows[Columns.OBS])):
                price_loss = _price_loss(policy, rows[Columns.OBS][index])
                _descend(price_loss, optimizers[PRICE])
            losses[module_id] = (q_loss + price_loss).detach()
            self.metrics.log_dict(
                {"qf_loss": q_loss.detach(), "price_loss": price_loss.detach()}, key=module_id, window=1
            )
        return {}, losses, {}

    def _agent_rows(self, rows: Any) -> Any:
        """Minibatches of agents' rows, drawn without replacement over the slots of the batch."""
        slots, agents = rows[Columns.REWARDS].shape
        flat = {
            Columns.OBS: rows[Columns.OBS].reshape(slots * agents, -1),
            Columns.ACTIONS: rows[Columns.ACTIONS].reshape(-1),
            Columns.REWARDS: rows[Columns.REWARDS].reshape(-1),
            CANDIDATE: rows[CANDIDATE].repeat_interleave(agents),
        }
        size = slots * agents // self.config.updates_per_step
        for index in torch.randperm(slots * agents).split(size)[: self.config.updates_per_step]:
            yield {name: values[index] for name, values in flat.items()}

    def _slots(self, slots: int) -> Any:
        """Slots of the price network's minibatches: none before `price_start` iterations."""
        if self._weights_seq_no > self.config.price_start:
            for _ in range(self.config.price_updates):
                yield torch.randint(0, slots, (min(self.config.price_batch, slots),))

    def after_gradient_based_update(self, *, timesteps: Any) -> None:
        """Learning rates follow their schedules; there are no targets."""
        super(DQNLearner, self).after_gradient_based_update(timesteps=timesteps)


def _price_loss(policy: PricedQNetwork, rows: torch.Tensor) -> torch.Tensor:
    """Huber loss of the costs (slots, C) that the price network reads from a slot's broadcast.

    The target is minus the sum over a slot's devices of the best value under a candidate, centred over the candidates:
    only differences between them count.
    """
    with torch.no_grad():
        best = policy.values_of_all(rows).amax(dim=-1)  # (slots, n, C)
        target = -best.sum(dim=1)
        target = target - target.mean(dim=-1, keepdim=True)
    costs = policy.costs(rows[:, 0])
    return 2.0 * torch.nn.functional.huber_loss(costs, target, delta=PRICE_ERROR_MAX)


def _descend(loss: torch.Tensor, optimizer: torch.optim.Optimizer) -> None:
    optimizer.zero_grad(set_to_none=True)
    loss.backward()
    optimizer.step()


class BatchedPricedDQN(OffPolicy, rllib.DQN):
    """The algorithm; its replay holds whole slots."""

    @classmethod
    def get_default_config(cls) -> PricedDQNConfig:
        return PricedDQNConfig()

    def _learn(self, rng: np.random.Generator, steps: int) -> None:
        rows = self._buffers[ROLE]
        agents = rows.width(Columns.REWARDS)
        slots = -(-self.config.updates_per_step * self.config.replay_batch // agents)
        batch = MultiAgentBatch({ROLE: SampleBatch(rows.sample(slots, rng))}, slots)
        torch.manual_seed(int(rng.integers(2**31)))
        results = self.learner_group.update(batch=batch, timesteps={NUM_ENV_STEPS_SAMPLED_LIFETIME: steps})
        self.metrics.aggregate(results, key=LEARNER_RESULTS)

    def _set_exploration(self, steps: int) -> None:
        super()._set_exploration(steps)
        self._fill(random_candidates=max(CANDIDATE_RANDOM_MIN, 1.0 - steps / self.config.budget_steps))


class PricedDQNConfig(OffPolicyConfig, rllib.DQNConfig):
    """Settings beside those of the replay.

    Attributes:
        budget_steps: env steps over which candidates become the learned ones.
        price_start: iterations before the price network learns.
        price_updates, price_batch: its gradient steps per iteration, and their slots.
    """

    budget_steps = 1
    price_start = 4
    price_updates = 30
    price_batch = 128

    def __init__(self, algo_class: Any = None) -> None:
        super().__init__(algo_class=algo_class or BatchedPricedDQN)

    def get_default_learner_class(self) -> type[PricedLearner]:
        return PricedLearner
