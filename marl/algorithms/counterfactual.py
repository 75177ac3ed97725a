"""All-action policy gradient with exact counterfactual credit, on the batched runner.

COMA (Foerster et al., AAAI 2018, arXiv:1705.08926) credits an agent with the difference that its choice makes while all
others' choices stay; a critic estimates it there. A scenario that can say what each choice would have paid
(`Counterfactual.choice_rewards`) gives it exactly, so that no critic is needed, and the gradient sums over an agent's
choices instead of drawing one (Allen et al., "Mean Actor Critic", arXiv:1709.00503). Made for slots that do not depend
on each other's actions: the discount is 0. A role with continuous actions, such as a server that divides its compute,
has no list of choices: it learns beside the others by PPO, from its reward.
"""

from __future__ import annotations

from typing import Any

import gymnasium
import torch
from ray.rllib.core.columns import Columns
from ray.rllib.core.distribution.torch.torch_distribution import TorchCategorical
from ray.rllib.core.learner.learner import ENTROPY_KEY, POLICY_LOSS_KEY
from ray.rllib.core.rl_module.torch.torch_rl_module import TorchRLModule
from ray.rllib.policy.sample_batch import MultiAgentBatch

from edgemarl.agents.trained.networks import PolicyNetwork
from edgemarl.agents.trained.spec import NetworkSpec
from edgemarl.envs import capabilities
from edgemarl.envs.config import config_class, quantity
from edgemarl.marl.algorithms.base import Algorithm, Needs, Run, on_policy_training
from edgemarl.marl.algorithms.ppo import BatchedPPO, BatchedPPOConfig, BatchedPPOLearner
from edgemarl.marl.algorithms.settings import OnPolicySettings
from edgemarl.marl.rllib.modules import ACTION_MASK, CHOICE_REWARDS, ActorCriticModule


@config_class
class CounterfactualSettings(OnPolicySettings):
    """Settings of the all-action gradient, and of PPO for roles with continuous actions."""

    log_std: float = quantity(-0.7, "-", "start of the log standard deviation of a Box action", ge=-3, le=1)


class CounterfactualGradient(Algorithm):
    """The all-action gradient with exact credit."""

    name = "counterfactual"
    meaning = "all-action policy gradient with the exact credit of every choice, where the scenario can say it"
    Settings = CounterfactualSettings
    needs = Needs(joint=False, sets=True)
    output = "choices"
    shares_minibatches = True

    def check(self, run: Run) -> None:
        super().check(run)
        known = run.scenario.counterfactual_roles if isinstance(run.scenario, capabilities.Counterfactual) else ()
        for role in run.roles:
            box = isinstance(run.scenario.roles[role].action_space, gymnasium.spaces.Box)
            if role not in known and not (known and box):
                raise ValueError(
                    f"counterfactual needs to know what every choice of a role pays; {run.scenario.name} says it for "
                    f"{', '.join(known) or 'no role'}, not for '{role}'"
                )

    def build(self, run: Run) -> CounterfactualConfig:
        return CounterfactualConfig().training(**on_policy_training(run), use_kl_loss=False)

    def module_class(self) -> type:
        return PolicyModule

    def module_class_of(self, run: Run, role: str) -> type:
        known = getattr(run.scenario, "counterfactual_roles", ())
        return PolicyModule if role in known else ActorCriticModule

    def spec(self, run: Run, role: str, **kind: Any) -> NetworkSpec:
        return super().spec(run, role, normalise=run.settings.normalise, log_std=run.settings.log_std, **kind)

    def module_config(self, run: Run, role: str) -> dict[str, Any]:
        return {
            **super().module_config(run, role), "critic_hidden": tuple(run.hidden), "pool": 0, "foreseen": 0,
            "group_size": 0,
        }  # fmt: skip


class PolicyModule(TorchRLModule):
    """The policy of a Discrete role without a critic; `model_config` entry `spec` is a `NetworkSpec` as dict."""

    def setup(self) -> None:
        self.spec = NetworkSpec.from_dict(self.model_config["spec"])
        self.policy = PolicyNetwork(self.spec)

    @property
    def has_agent_axis(self) -> bool:
        return self.spec.of_cells

    def _forward(self, batch: dict[str, Any], **_: Any) -> dict[str, Any]:
        return {Columns.ACTION_DIST_INPUTS: self.policy(batch[Columns.OBS], batch.get(ACTION_MASK))}

    def merge_moments(self, moments: dict[str, tuple[int, Any, Any]]) -> None:
        """Take (count, mean, variance) of the last batch's rows into the running normalisation, if there is one."""
        if self.policy.normaliser is not None:
            self.policy.normaliser.merge(*moments[Columns.OBS])

    def get_inference_action_dist_cls(self) -> Any:
        return TorchCategorical


def all_action_loss(logits: torch.Tensor, rewards: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Minus the mean credit of the policy, and its mean entropy in nat.

    Args:
        logits: (..., choices) of the policy.
        rewards: (..., choices) what each choice would have paid; a constant per agent has no effect on the gradient.
    """
    log_probability = torch.log_softmax(logits, dim=-1)
    probability = log_probability.exp()
    credit = rewards - rewards.mean(dim=-1, keepdim=True)
    return -(probability * credit).sum(dim=-1).mean(), -(probability * log_probability).sum(dim=-1).mean()


class CounterfactualLearner(BatchedPPOLearner):
    """RLlib's Learner with `all_action_loss` in place of PPO's; minibatches, optimiser and schedules are shared."""

    def compute_loss_for_module(self, *, module_id: str, config: Any, batch: Any, fwd_out: Any) -> torch.Tensor:
        if CHOICE_REWARDS not in batch:
            return super().compute_loss_for_module(module_id=module_id, config=config, batch=batch, fwd_out=fwd_out)
        loss, entropy = all_action_loss(fwd_out[Columns.ACTION_DIST_INPUTS], batch[CHOICE_REWARDS])
        self.metrics.log_dict({POLICY_LOSS_KEY: loss, ENTROPY_KEY: entropy}, key=module_id, window=1)
        bonus = self.entropy_coeff_schedulers_per_module[module_id].get_current_value()
        # a mean over rows and agents: n times it, the gradient of a stacked network is that of its own module
        return (loss - bonus * entropy) * max(self._networks(module_id), 1)


class CounterfactualConfig(BatchedPPOConfig):
    """Settings are PPO's; those of its clipped loss and its critic have no effect."""

    def __init__(self, algo_class: Any = None) -> None:
        super().__init__(algo_class=algo_class or BatchedCounterfactual)

    def get_default_learner_class(self) -> Any:
        return CounterfactualLearner


class BatchedCounterfactual(BatchedPPO):
    """Runners return what every choice would have paid instead of advantages."""

    @classmethod
    def get_default_config(cls) -> CounterfactualConfig:
        return CounterfactualConfig()

    def prepare(self, batch: MultiAgentBatch) -> None:
        """The credit is used as it is: its unit is the reward's; advantages of the other roles are standardised."""
        others = {m: rows for m, rows in batch.policy_batches.items() if CHOICE_REWARDS not in rows}
        if others:
            super().prepare(MultiAgentBatch(others, batch.env_steps()))
