"""The gradients of an update whose actor and critics are perceptrons, layer by layer: autograd's numbers, sooner."""

from __future__ import annotations

from typing import Any

import torch
from ray.rllib.core.columns import Columns

from edgemarl.agents.trained.layers import Perceptron
from edgemarl.agents.trained.networks import network_inputs
from edgemarl.marl.algorithms.ddpg.module import DDPGModule

MEAN = 1
"""PyTorch's number for a loss that is a mean."""


class PerceptronGradients:
    """Losses and gradients of `DDPGLearner` without a recorded graph.

    Networks of a few dozen units take microseconds per layer, and PyTorch's modules and graph several times that.

    Args:
        module: one that this `applies` to.
        discount: gamma of the critics' targets.
        action_penalty: weight of the mean square of the actor's outputs before tanh.
    """

    def __init__(self, module: DDPGModule, discount: float, action_penalty: float) -> None:
        self.module, self.discount, self.action_penalty = module, discount, action_penalty
        self.actor, *self.critics = _layers(module, "policy.body", *module.critic_names)
        targets = [f"target_{name}" for name in ("policy.body", *module.critic_names)]
        self.target_actor, *self.target_critics = _layers(module, *targets)

    @staticmethod
    def applies(module: DDPGModule) -> bool:
        """Whether the actor is one perceptron for all rows; critics are, where it is."""
        return isinstance(module.policy.body, Perceptron) and not module.has_agent_axis

    @torch.no_grad()
    def __call__(self, batch: dict[str, torch.Tensor]) -> tuple[dict[str, torch.Tensor], dict[torch.Tensor, Any]]:
        """Values to log, by name, and parameter -> gradient; rows (M, ...)."""
        rows, targets = batch[Columns.OBS], self._targets(batch)
        taken, one = torch.cat([rows, batch[Columns.ACTIONS]], dim=-1), targets.new_ones(())
        gradients: dict[torch.Tensor, Any] = {}
        predictions = []
        for critic in self.critics:
            out, inputs = critic.forward(taken)
            predictions.append(out[..., 0])
            slope = torch.ops.aten.mse_loss_backward(one, predictions[-1], targets, MEAN)
            gradients.update(critic.gradients(inputs, slope[..., None]))
        losses = [torch.nn.functional.mse_loss(q, targets) for q in predictions]
        logged = {"qf_loss": torch.stack(losses).sum(), "qf_mean": predictions[0].mean()}
        if self.module.policy_is_due:
            logged["policy_loss"], of_actor = self._of_actor(rows)
            gradients.update(of_actor)
        return logged, gradients

    def _of_actor(self, rows: torch.Tensor) -> tuple[torch.Tensor, dict[torch.Tensor, Any]]:
        out, actor_inputs = self.actor.forward(self._actor_inputs("policy", rows))
        acted = torch.tanh(out)
        values, critic_inputs = self.critics[0].forward(torch.cat([rows, acted], dim=-1))
        loss = -values.mean()
        slope, actions = torch.full_like(values, -1.0) / values.numel(), slice(rows.shape[-1], None)
        slope = torch.ops.aten.tanh_backward(self.critics[0].input_gradient(critic_inputs, slope, actions), acted)
        if self.action_penalty > 0.0:
            loss = loss + self.action_penalty * out.square().mean()
            slope = slope + torch.full_like(out, self.action_penalty) / out.numel() * (2.0 * out)
        return loss, self.actor.gradients(actor_inputs, slope)

    def _targets(self, batch: dict[str, torch.Tensor]) -> torch.Tensor:
        rewards = batch[Columns.REWARDS]
        if self.discount == 0.0:
            return rewards
        following = batch[Columns.NEXT_OBS]
        actions = torch.tanh(self.target_actor.forward(self._actor_inputs("target_policy", following))[0])
        judged = torch.cat([following, self.module.smoothed(actions)], dim=-1)
        values = [critic.forward(judged)[0][..., 0] for critic in self.target_critics]
        worth = values[0] if len(values) == 1 else torch.minimum(values[0], values[1])
        alive = 1.0 - batch[Columns.TERMINATEDS].float()
        return rewards + self.discount * alive * worth

    def _actor_inputs(self, policy: str, rows: torch.Tensor) -> torch.Tensor:
        normaliser: Any = getattr(self.module, policy).normaliser
        return network_inputs(self.module.spec, rows, normaliser)


def _layers(module: DDPGModule, *names: str) -> list[Any]:
    return [module.get_submodule(name).listed() for name in names]
