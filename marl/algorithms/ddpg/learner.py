"""Learner of deterministic policy gradients: critics towards one-step targets, the actor up the first critic.

Sources: Silver et al. (ICML 2014), Lillicrap et al. (arXiv:1509.02971), Fujimoto et al. (arXiv:1802.09477). Both
gradients of an update are taken at the parameters before it, as RLlib's SAC does.
"""

from __future__ import annotations

from typing import Any

import torch
from ray.rllib.algorithms.dqn.dqn_learner import DQNLearner
from ray.rllib.algorithms.dqn.torch.dqn_torch_learner import DQNTorchLearner
from ray.rllib.core.columns import Columns
from ray.rllib.utils.metrics import ALL_MODULES

from edgemarl.marl.algorithms.ddpg.module import ACTOR_OUTPUT, Q_CURRENT, QF_PREDS, QF_TWIN_PREDS
from edgemarl.marl.algorithms.ddpg.perceptrons import PerceptronGradients
from edgemarl.marl.rllib.learner import FusedAdam, IndependentNetworks

CRITIC, ACTOR = "qf", "policy"
"""Names of the two optimisers; losses are logged as `qf_loss` and `policy_loss`."""
COLUMNS = (Columns.OBS, Columns.NEXT_OBS, Columns.ACTIONS, Columns.REWARDS, Columns.TERMINATEDS)


class DDPGLearner(IndependentNetworks, DQNTorchLearner):
    """DDPG, and TD3 with `twin_q`, `policy_delay` and `target_noise`.

    Critic targets: r + gamma min_i Q_i'(s', mu'(s') + clipped noise), without the second term where the episode
    terminated; a truncated episode is bootstrapped. The loss of each critic is the mean of squared errors; the actor's
    is the mean of -Q_1(s, mu(s)) plus `action_penalty` times the mean square of its outputs before tanh.
    """

    def build(self) -> None:
        super().build()
        self._losses: dict[tuple[str, str], torch.Tensor] = {}
        self._latest: dict[str, dict[str, torch.Tensor]] = {}
        self._direct: dict[str, PerceptronGradients] = {}
        for module_id, module in self.module.items():
            if PerceptronGradients.applies(module.unwrapped()):
                config = self.config.get_config_for_module(module_id)
                self._direct[module_id] = PerceptronGradients(module.unwrapped(), config.gamma, config.action_penalty)

    def configure_optimizers_for_module(self, module_id: str, config: Any = None) -> None:
        module = self._module[module_id]
        critics = [p for name in module.critic_names for p in self.get_parameters(module.get_submodule(name))]
        for name, parameters, rate in (
            (CRITIC, critics, config.critic_lr),
            (ACTOR, self.get_parameters(module.policy), config.actor_lr),
        ):
            self.register_optimizer(
                module_id=module_id,
                optimizer_name=name,
                optimizer=FusedAdam(parameters, config.adam_epsilon),
                params=parameters,
                lr_or_lr_schedule=rate,
            )

    def _update(self, batch: dict[str, Any], **_: Any) -> tuple[Any, Any, Any]:
        """All updates of an iteration: the batch holds their minibatches one after another.

        RLlib's own cost of an update (conversion, timers, metrics) is several times that of networks this small.
        """
        losses: dict[str, torch.Tensor] = {}
        for module_id, rows in batch.items():
            size = len(rows[Columns.OBS]) // self.config.updates_per_step
            parts = (torch.split(rows[name], size) for name in COLUMNS)
            for minibatch in zip(*parts, strict=True):
                losses[module_id] = self._one_update(module_id, dict(zip(COLUMNS, minibatch, strict=True)))
        return {}, losses, {}

    def _one_update(self, module_id: str, batch: dict[str, torch.Tensor]) -> torch.Tensor:
        module, config = self.module[module_id].unwrapped(), self.config.get_config_for_module(module_id)
        loss, gradients = self._of_share(module_id, config, batch)
        if config.grad_clip is not None:
            gradients = self.postprocess_gradients_for_module(
                module_id=module_id, config=config, module_gradients_dict=gradients
            )
        self.apply_gradients(gradients)
        for parameter in gradients:
            parameter.grad = None  # nothing is left for the next module's step
        self._follow(module, config.tau)
        return loss.detach()

    def _of_share(
        self, module_id: str, config: Any, batch: dict[str, torch.Tensor]
    ) -> tuple[torch.Tensor, dict[Any, Any]]:
        """The loss of this Learner's share of a minibatch, and the gradients of all shares together."""
        rows = len(batch[Columns.OBS])
        weight, own = self.share.weight(rows), self.share.of(rows)
        loss = torch.zeros(())
        gradients: dict[Any, Any] = {}
        if weight:
            part = {name: values[own] for name, values in batch.items()}
            if module_id in self._direct:
                logged, gradients = self._direct[module_id](part)
                self._latest.setdefault(module_id, {}).update(logged)
                loss = logged["qf_loss"]
            else:
                forward = self.module[module_id].unwrapped()._forward_train(part)
                loss = self.compute_loss_for_module(module_id=module_id, config=config, batch=part, fwd_out=forward)
                gradients = self.compute_gradients({module_id: loss})
        if self.share.count > 1:
            added = self.added({p: weight * g for p, g in gradients.items()})
            gradients = {p: g for p, g in added.items() if g is not None}
        return loss, gradients

    def compute_loss_for_module(self, *, module_id: str, config: Any, batch: Any, fwd_out: Any) -> torch.Tensor:
        targets = batch[Columns.REWARDS]
        if config.gamma > 0.0:
            alive = 1.0 - batch[Columns.TERMINATEDS].float()
            following = self.module[module_id].unwrapped().forward_target(batch)
            targets = targets + config.gamma * alive * following
        predictions = [fwd_out[name] for name in (QF_PREDS, QF_TWIN_PREDS) if name in fwd_out]
        # a mean over rows and agents: n times it, an agent's gradient is that of its own separate networks
        networks = max(self._networks(module_id), 1)
        total = networks * torch.stack([torch.nn.functional.mse_loss(q, targets) for q in predictions]).sum()
        self._losses[module_id, CRITIC] = total
        values = {"qf_loss": total / networks, "qf_mean": predictions[0].mean()}
        if Q_CURRENT in fwd_out:
            policy_loss = -fwd_out[Q_CURRENT].mean()
            if config.action_penalty > 0.0:
                policy_loss = policy_loss + config.action_penalty * fwd_out[ACTOR_OUTPUT].square().mean()
            self._losses[module_id, ACTOR] = networks * policy_loss
            values["policy_loss"] = policy_loss
            total = total + networks * policy_loss
        self._latest.setdefault(module_id, {}).update({name: value.detach() for name, value in values.items()})
        return total

    def compute_gradients(self, loss_per_module: Any, **_: Any) -> dict[Any, Any]:
        """Each loss moves its own optimiser's parameters; an actor whose turn it is not has no gradient at all."""
        gradients: dict[Any, Any] = {}
        for module_id in [name for name in loss_per_module if name != ALL_MODULES]:
            for name, optimizer in self.get_optimizers_for_module(module_id):
                loss = self._losses.pop((module_id, name), None)
                if loss is None:
                    continue
                parameters = [p for group in optimizer.param_groups for p in group["params"]]
                gradients.update(zip(parameters, torch.autograd.grad(loss, parameters), strict=True))
        return gradients

    @torch.no_grad()
    def _follow(self, module: Any, rate: float) -> None:
        """Targets follow (Polyak) whenever the actor moved, not after a number of env steps as in DQN."""
        if module.policy_is_due:
            torch._foreach_lerp_(module.target_parameters, module.followed_parameters, rate)
        module.updates += 1

    def after_gradient_based_update(self, *, timesteps: Any) -> None:
        """Learning rates follow their schedules; targets have moved already (`_follow`)."""
        super(DQNLearner, self).after_gradient_based_update(timesteps=timesteps)
        for module_id, values in self._latest.items():
            self.metrics.log_dict(values, key=module_id, window=1)
