"""RLModules of the batched runner: actor and critic of one role, shared by its agents or one per agent in one module.

Rows of a batch are agent-steps where every row is alike (shared policy, local critic), and cell-steps with an agent
axis (M, n, ...) where the network takes a cell's agents together: one network per agent, a network of the set of all
agents, or a critic of a group.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from ray.rllib.core.columns import Columns
from ray.rllib.core.distribution.torch.torch_distribution import (
    TorchCategorical,
    TorchDiagGaussian,
    TorchMultiCategorical,
)
from ray.rllib.core.rl_module.apis.value_function_api import ValueFunctionAPI
from ray.rllib.core.rl_module.torch.torch_rl_module import TorchRLModule
from ray.rllib.evaluation.postprocessing import Postprocessing

from edgemarl.agents.trained.heads import Box
from edgemarl.agents.trained.networks import PolicyNetwork, ValueNetwork
from edgemarl.agents.trained.spec import NetworkSpec

POOL = "pool"
ACTION_MASK = "action_mask"
NEXT_ACTION_MASK = "next_action_mask"
CHOICE_REWARDS = "choice_rewards"
FORESEEN = "foreseen"


class ActorCriticModule(TorchRLModule, ValueFunctionAPI):
    """Policy and separate value network of one role.

    `model_config` entries: `spec` (a `NetworkSpec` as dict), `critic_hidden` (widths), `critic_start` ("rewards" or
    "zero"), `pool` and `foreseen` (entries of the pooled rows and of the next slots that the critic sees beside a row,
    else 0), `group_size` (agents that share one value, else 0), `first_action` (raw action that the policy starts from,
    or nothing).
    """

    spec: NetworkSpec
    policy: PolicyNetwork
    critic: ValueNetwork

    def setup(self) -> None:
        settings = self.model_config
        self.spec = NetworkSpec.from_dict(settings["spec"])
        self.policy = PolicyNetwork(self.spec)
        if settings.get("first_action"):
            self.policy.start_from(settings["first_action"])
        self.critic = ValueNetwork(
            self.spec, settings["critic_hidden"], settings["pool"], settings["foreseen"], settings["group_size"]
        )

    @property
    def has_agent_axis(self) -> bool:
        """Whether rows are cell-steps (M, n, ...) and not agent-steps."""
        return self.spec.of_cells or bool(self.critic.group_size)

    def _forward(self, batch: dict[str, Any], **kwargs: Any) -> dict[str, Any]:
        return {Columns.ACTION_DIST_INPUTS: self.policy(batch[Columns.OBS], batch.get(ACTION_MASK))}

    def compute_values(self, batch: dict[str, Any], embeddings: Any = None) -> torch.Tensor:
        """Values: (M,) of agent-steps, (M, n) with an agent axis."""
        return self.critic(batch[Columns.OBS], batch.get(POOL), batch.get(FORESEEN))

    @property
    def levelled(self) -> bool:
        """Whether a fresh critic starts at the level of the first rewards."""
        return bool(self.model_config.get("critic_start") == "rewards")

    @torch.no_grad()
    def level_critic(self, rows: Mapping[str, Any]) -> None:
        """Shift the critic so that its mean over a batch, per network, is that of the batch's value targets."""
        seen = [name for name in (Columns.OBS, POOL, FORESEEN, Postprocessing.VALUE_TARGETS) if name in rows]
        columns = {name: torch.from_numpy(np.array(rows[name])) for name in seen}  # copies: Ray's are read-only
        short = columns.pop(Postprocessing.VALUE_TARGETS) - self.compute_values(columns)
        self.critic.shift(short.mean(dim=0) if self.critic.per_agent else short.mean())

    def merge_moments(self, moments: dict[str, tuple[int, Any, Any]]) -> None:
        """Take (count, mean, variance) of the last batch's rows into the running normalisation, if there is one."""
        if self.policy.normaliser is not None:
            self.policy.normaliser.merge(*moments[Columns.OBS])
        if self.critic.normaliser is not None:
            self.critic.normaliser.merge(*moments[Columns.OBS])
        if self.critic.pool_normaliser is not None:
            self.critic.pool_normaliser.merge(*moments[POOL])

    def get_inference_action_dist_cls(self) -> Any:
        if isinstance(self.policy.head, Box):
            return TorchDiagGaussian
        if len(self.spec.choices) == 1:
            return TorchCategorical
        return TorchMultiCategorical.get_partial_dist_cls(input_lens=list(self.spec.choices))
