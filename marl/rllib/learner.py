"""For RLlib's torch Learners: whole arrays from runners, minibatches, networks of agents that stay apart."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
import torch
from ray.rllib.core.columns import Columns
from ray.rllib.policy.sample_batch import MultiAgentBatch, SampleBatch
from ray.rllib.utils.metrics import ENV_RUNNER_RESULTS

from edgemarl.envs.arrays import Array
from edgemarl.marl.rllib.learners import Share, SharedMinibatches
from edgemarl.marl.rllib.modules import POOL

logger = logging.getLogger(__name__)

STANDARD_DEVIATION_MIN = 1e-4
"""RLlib's lower limit when it standardises advantages."""


def sample_runners(algorithm: Any, **asked: Any) -> list[MultiAgentBatch]:
    """One batch from each healthy runner, with their metrics aggregated; `asked` are arguments of `sample`."""
    group = algorithm.env_runner_group
    remote = group.num_remote_workers() > 0
    sampled = group.foreach_env_runner(
        lambda runner: (runner.sample(**asked), runner.get_metrics()),
        local_env_runner=not remote,
        timeout_seconds=algorithm.config.sample_timeout_s if remote else None,
    )
    if sampled:
        algorithm.metrics.aggregate([metrics for _, metrics in sampled], key=ENV_RUNNER_RESULTS)
    return [batch for batch, _ in sampled]


def joined(batches: list[MultiAgentBatch]) -> MultiAgentBatch:
    """The runners' batches as one, row after row, module by module."""
    if len(batches) == 1:
        return batches[0]
    modules = {
        module: SampleBatch({k: np.concatenate([b.policy_batches[module][k] for b in batches]) for k in rows})
        for module, rows in batches[0].policy_batches.items()
    }
    return MultiAgentBatch(modules, sum(batch.env_steps() for batch in batches))


def standardised(advantages: Array, per_agent: bool) -> Array:
    """Advantages with mean 0 and deviation 1 over the batch, as RLlib does per module; per agent (column) if asked."""
    axis = 0 if per_agent else None
    mean, deviation = advantages.mean(axis=axis), advantages.std(axis=axis)
    return ((advantages - mean) / np.maximum(deviation, STANDARD_DEVIATION_MIN)).astype(np.float32)


def batch_moments(rows: SampleBatch) -> dict[str, tuple[int, Array, Array]]:
    """Column -> (rows, mean, variance) of the network inputs, for the running normalisation."""
    inputs = [column for column in (Columns.OBS, POOL) if column in rows]
    return {
        column: (len(rows), rows[column].mean(axis=0, dtype=np.float64), rows[column].var(axis=0, dtype=np.float64))
        for column in inputs
    }


def level_critics(algorithm: Any, batch: MultiAgentBatch) -> None:
    """Give the Learners' fresh critics the mean of their first targets; it reaches the runners with the weights."""

    def level(learner: Any, **_: Any) -> None:
        for module, rows in batch.policy_batches.items():
            network = learner.module[module].unwrapped()
            if getattr(network, "levelled", False):
                network.level_critic(rows)

    algorithm.learner_group.foreach_learner(level)


def merge_moments(algorithm: Any, moments: dict[str, Any]) -> None:
    """Update the Learners' running normalisation; it reaches the runners with the weights."""

    def merge(learner: Any, **_: Any) -> None:
        for module, columns in moments.items():
            learner.module[module].unwrapped().merge_moments(columns)

    algorithm.learner_group.foreach_learner(merge)


class MiniBatches:
    """Shuffled minibatches over several epochs, as many for every module; of each, one Learner's share.

    RLlib's own iterator gives every module minibatches of one size and lets small modules cycle, so that a server's
    few rows would be visited dozens of times per epoch.

    `weights` are those of the shares in the newest minibatch, module by module.
    """

    def __init__(
        self,
        batch: MultiAgentBatch,
        epochs: int,
        agent_steps: int,
        rng: np.random.Generator,
        share: Share | None = None,
    ) -> None:
        self.batch, self.epochs, self.rng, self.share = batch, epochs, rng, share or Share()
        self.weights: dict[str, float] = {}
        sizes = [int(np.prod(rows[Columns.OBS].shape[:-1])) for rows in batch.policy_batches.values()]
        count = max(1, round(max(sizes) / agent_steps)) if agent_steps else 1
        self.count = min(count, max(len(rows) for rows in batch.policy_batches.values()))  # none is empty

    def __iter__(self) -> Iterator[MultiAgentBatch]:
        for _ in range(self.epochs):
            parts = {
                module: np.array_split(self.rng.permutation(len(rows)), min(self.count, len(rows)))
                for module, rows in self.batch.policy_batches.items()
            }
            for i in range(self.count):
                whole = {module: indices[i] for module, indices in parts.items() if i < len(indices)}
                self.weights.update({module: self.share.weight(len(rows)) for module, rows in whole.items()})
                modules = {
                    module: _taken(self.batch.policy_batches[module], rows[self.share.of(len(rows))])
                    for module, rows in whole.items()
                    if self.weights[module]
                }
                yield MultiAgentBatch(modules, self.batch.env_steps())


def _taken(rows: SampleBatch, indices: Array) -> SampleBatch:
    index = torch.from_numpy(indices)
    return SampleBatch({name: values.index_select(0, index) for name, values in rows.items()})


class FusedAdam(torch.optim.Adam):
    """Adam on a CPU, whose `move` is `step` without hooks and closures: a quarter of the time for small networks."""

    def __init__(self, parameters: Iterable[torch.Tensor], epsilon: float) -> None:
        super().__init__(parameters, eps=epsilon, fused=True)

    @torch.no_grad()
    def move(self) -> None:
        """Move the parameters that have a gradient."""
        for group in self.param_groups:
            parameters = [p for p in group["params"] if p.grad is not None]
            if not parameters:
                continue
            states = [self.state[p] for p in parameters]
            if not all(states):  # the first step makes them
                self.step()
                return
            counts = [state["step"] for state in states]
            torch._foreach_add_(counts, 1)
            torch._fused_adam_(
                parameters,
                [p.grad for p in parameters],
                [state["exp_avg"] for state in states],
                [state["exp_avg_sq"] for state in states],
                [],
                counts,
                lr=group["lr"],
                beta1=group["betas"][0],
                beta2=group["betas"][1],
                weight_decay=group["weight_decay"],
                eps=group["eps"],
                amsgrad=False,
                maximize=False,
            )


class IndependentNetworks(SharedMinibatches):
    """For RLlib's torch Learners: networks stacked in one module neither share a loss nor a gradient norm."""

    config: Any
    module: Any
    _module_optimizers: Any
    get_optimizer: Any

    def apply_gradients(self, gradients_dict: Any) -> None:
        """One check of all gradients instead of two per parameter; a step with NaN or infinity is left out."""
        gradients = [g for g in gradients_dict.values() if g is not None]
        if not torch.isfinite(torch.stack(torch._foreach_norm(gradients))).all():
            logger.warning("a gradient holds NaN or infinity: this minibatch is left out")
            return
        for parameter, gradient in gradients_dict.items():
            parameter.grad = gradient
        for module_id, names in self._module_optimizers.items():
            for name in names:
                optimizer = self.get_optimizer(module_id, name)
                if isinstance(optimizer, FusedAdam):
                    optimizer.move()
                else:
                    optimizer.step()

    def compute_loss_for_module(self, *, module_id: str, config: Any, batch: Any, fwd_out: Any) -> torch.Tensor:
        loss = super().compute_loss_for_module(  # type: ignore[misc]
            module_id=module_id, config=config, batch=batch, fwd_out=fwd_out
        )
        # the loss is a mean over rows and agents: n times it, an agent's gradient is that of its own separate module
        return loss * max(self._networks(module_id), 1)

    def postprocess_gradients_for_module(
        self, *, module_id: str, config: Any = None, module_gradients_dict: Any
    ) -> dict[Any, Any]:
        if config.grad_clip is None or config.grad_clip_by != "global_norm":
            return dict(
                super().postprocess_gradients_for_module(  # type: ignore[misc]
                    module_id=module_id, config=config, module_gradients_dict=module_gradients_dict
                )
            )
        agents = self._networks(module_id)
        gradients = {ref: g for ref, g in module_gradients_dict.items() if g is not None}
        if not agents:
            clip_together(list(gradients.values()), config.grad_clip)
            return dict(module_gradients_dict)
        module = self.module[module_id].unwrapped()
        critic = getattr(module, "critic", None)
        shared: set[int] = set()
        if critic is not None and critic.group_size:
            shared = {id(p) for p in critic.parameters()}
        clip_per_agent([g for ref, g in gradients.items() if id(ref) not in shared], agents, config.grad_clip)
        clip_together([g for ref, g in gradients.items() if id(ref) in shared], config.grad_clip)
        return dict(module_gradients_dict)

    def _networks(self, module_id: str) -> int:
        module = self.module[module_id].unwrapped()
        return int(module.spec.agents)


def clip_together(gradients: list[torch.Tensor], norm: float) -> None:
    """Scale gradients in place so that the norm over all of them is at most `norm`."""
    if gradients:
        total = torch.linalg.vector_norm(torch.stack(torch._foreach_norm(gradients)))
        torch._foreach_mul_(gradients, torch.clamp(norm / (total + 1e-6), max=1.0))


def clip_per_agent(gradients: list[torch.Tensor], agents: int, norm: float) -> None:
    """Scale stacked gradients (agents, ...) in place so that each agent's norm over all of them is at most `norm`."""
    if not gradients:
        return
    squares = torch.stack([g.reshape(agents, -1).square().sum(dim=1) for g in gradients]).sum(dim=0)
    factor = torch.clamp(norm / (squares.sqrt() + 1e-6), max=1.0)
    for g in gradients:
        g.mul_(factor.reshape(agents, *[1] * (g.dim() - 1)))
