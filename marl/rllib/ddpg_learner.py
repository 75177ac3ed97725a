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
from ray.rllib.core.learner.utils import update_target_network
from ray.rllib.utils.metrics import ALL_MODULES, NUM_TARGET_UPDATES, TD_ERROR_KEY

from marl.rllib.ddpg_module import Q_CURRENT, Q_TARGET_NEXT, QF_PREDS, QF_TWIN_PREDS

CRITIC, ACTOR = "qf", "policy"
"""Names of the two optimisers; losses are logged as `qf_loss` and `policy_loss`."""


class DDPGLearner(DQNTorchLearner):
    """DDPG, and TD3 with `twin_q`, `policy_delay` and `target_noise`.

    Critic targets: r + gamma^n min_i Q_i'(s', mu'(s') + clipped noise), without the second term where the episode
    terminated; a truncated episode is bootstrapped. The loss of each critic is the weighted mean of squared (or Huber)
    errors; the actor's is the mean of -Q_1(s, mu(s)).
    """

    def build(self) -> None:
        super().build()
        self._losses: dict[tuple[str, str], torch.Tensor] = {}

    def configure_optimizers_for_module(self, module_id: str, config: Any = None) -> None:
        module = self._module[module_id]
        critics = [p for name in module.critic_names for p in self.get_parameters(module.get_submodule(name))]
        for name, parameters, rate in (
            (CRITIC, critics, config.critic_lr),
            (ACTOR, self.get_parameters(module.actor), config.actor_lr),
        ):
            self.register_optimizer(
                module_id=module_id,
                optimizer_name=name,
                optimizer=torch.optim.Adam(parameters, eps=config.adam_epsilon),
                params=parameters,
                lr_or_lr_schedule=rate,
            )

    def compute_loss_for_module(self, *, module_id: str, config: Any, batch: Any, fwd_out: Any) -> torch.Tensor:
        alive = 1.0 - batch[Columns.TERMINATEDS].float()
        targets = batch[Columns.REWARDS] + config.gamma ** batch["n_step"] * alive * fwd_out[Q_TARGET_NEXT]
        measure = torch.nn.functional.mse_loss if config.td_error_loss_fn == "mse" else torch.nn.functional.huber_loss
        predictions = [fwd_out[name] for name in (QF_PREDS, QF_TWIN_PREDS) if name in fwd_out]
        losses = [torch.mean(batch["weights"] * measure(q, targets, reduction="none")) for q in predictions]
        total = self._losses[module_id, CRITIC] = torch.stack(losses).sum()
        errors = torch.stack([torch.abs(q.detach() - targets) for q in predictions]).mean(dim=0)
        values = {"qf_loss": total, "qf_mean": predictions[0].mean(), "td_error_mean": errors.mean()}
        if Q_CURRENT in fwd_out:
            policy_loss = self._losses[module_id, ACTOR] = -fwd_out[Q_CURRENT].mean()
            values["policy_loss"] = policy_loss
            total = total + policy_loss
        self.metrics.log_value((module_id, TD_ERROR_KEY), errors, reduce="item_series")
        self.metrics.log_dict({name: value.detach() for name, value in values.items()}, key=module_id, window=1)
        return total

    def compute_gradients(self, loss_per_module: Any, **_: Any) -> dict[Any, Any]:
        """Each loss moves its own optimiser's parameters; an actor whose turn it is not has no gradient at all."""
        gradients: dict[Any, Any] = {}
        for module_id in [name for name in loss_per_module if name != ALL_MODULES]:
            for name, optimizer in self.get_optimizers_for_module(module_id):
                optimizer.zero_grad(set_to_none=True)
                loss = self._losses.pop((module_id, name), None)
                if loss is None:
                    continue
                loss.backward()
                own = self.filter_param_dict_for_optimizer(self._params, optimizer)
                gradients.update({reference: parameter.grad for reference, parameter in own.items()})
        return gradients

    def after_gradient_based_update(self, *, timesteps: Any) -> None:
        """Targets follow (Polyak) whenever the actor moved, not after a number of env steps as in DQN."""
        super(DQNLearner, self).after_gradient_based_update(timesteps=timesteps)
        for module_id, wrapped in self.module._rl_modules.items():
            module, config = wrapped.unwrapped(), self.config.get_config_for_module(module_id)
            if module.policy_is_due:
                for network, target in module.get_target_network_pairs():
                    update_target_network(main_net=network, target_net=target, tau=config.tau)
                self.metrics.log_value((module_id, NUM_TARGET_UPDATES), 1, reduce="lifetime_sum")
            module.updates += 1
