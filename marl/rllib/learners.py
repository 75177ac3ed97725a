"""Several Learners: each takes its share of every minibatch, and their gradients are added before any is used.

RLlib cuts a batch into as many parts as there are Learners, each of which makes minibatches of its own: another number
of Learners, other minibatches. Here every Learner reads the same batch, shuffles it as one alone would, and takes a
share of each minibatch's rows. A loss is a mean over rows, so the gradients of the shares, each weighted by its rows,
add up to that of the minibatch, whatever the number of Learners; clipping and Adam follow in every Learner alike.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import ray
import torch
from ray.rllib.policy.sample_batch import MultiAgentBatch
from torch import distributed


@dataclass(frozen=True)
class Share:
    """The part of a minibatch that Learner `index` of `count` takes."""

    index: int = 0
    count: int = 1

    def of(self, rows: int) -> slice:
        """Which of so many rows; none where there are fewer rows than Learners."""
        return slice(self.index * rows // self.count, (self.index + 1) * rows // self.count)

    def weight(self, rows: int) -> float:
        """Rows of the share over all rows."""
        part = self.of(rows)
        return (part.stop - part.start) / rows


def learn(algorithm: Any, batch: MultiAgentBatch, **how: Any) -> list[dict[str, Any]]:
    """One update of all Learners by the same batch; `how` are arguments of RLlib's `LearnerGroup.update`."""
    group = algorithm.learner_group
    if group.is_local:
        local: list[dict[str, Any]] = group.update(batch=batch, **how)
        return local
    stored = ray.put(batch)
    remote: list[dict[str, Any]] = group.update(batch_refs=[stored] * len(group), **how)
    return remote


class SharedMinibatches:
    """For RLlib's torch Learners whose losses are means over rows and draw nothing.

    Who makes minibatches takes `share` of them and notes the weights in `share_weights`.
    """

    config: Any
    module: Any
    share = Share()
    share_weights: Mapping[str, float] = {}
    """Module -> weight of the present share; 1 where it is not named."""
    _params: Any

    def build(self) -> None:
        if self.config.num_learners > 1:
            self.share = Share(distributed.get_rank(), distributed.get_world_size())
        super().build()  # type: ignore[misc]

    def _make_modules_ddp_if_necessary(self) -> None:
        """All start from the first one's weights; RLlib's wrapper takes means of gradients, whatever rows each has."""
        if self.share.count > 1:
            for module in self.module.values():
                for tensor in module.state_dict().values():
                    distributed.broadcast(tensor, 0)

    def _uncompiled_update(self, batch: dict[str, Any], **_: Any) -> tuple[Any, Any, Any]:
        """RLlib's, without what its wrapper of modules needs."""
        forward = self.module.forward_train(batch)
        losses = self.compute_losses(fwd_out=forward, batch=batch)  # type: ignore[attr-defined]
        gradients = self.compute_gradients(losses)
        self.apply_gradients(self.postprocess_gradients(gradients))  # type: ignore[attr-defined]
        return forward, losses, {}

    def _log_metrics(self, batch: MultiAgentBatch) -> None:
        """RLlib's counters take no 0: where a minibatch has fewer rows than there are Learners, some have none."""
        if batch.policy_batches:
            super()._log_metrics(batch)  # type: ignore[misc]

    def compute_gradients(self, loss_per_module: Mapping[str, Any], **_: Any) -> dict[Any, Any]:
        """Gradients of the whole minibatch; parameter -> gradient."""
        if self.share.count == 1:
            alone: dict[Any, Any] = super().compute_gradients(loss_per_module)  # type: ignore[misc]
            return alone
        weighted = {name: loss * self.share_weights.get(name, 1.0) for name, loss in loss_per_module.items()}
        return self.added(super().compute_gradients(weighted))  # type: ignore[misc]

    def added(self, gradients: Mapping[Any, Any]) -> dict[Any, Any]:
        """The sum over all Learners, parameter by parameter; None where none of them has a gradient."""
        parameters = [p for p in self._params.values() if p.requires_grad]
        own = [gradients.get(p) for p in parameters]
        there = torch.tensor([float(g is not None) for g in own])
        filled = [torch.zeros_like(p) if g is None else g for p, g in zip(parameters, own, strict=True)]
        flat = torch.cat([there, *(g.reshape(-1) for g in filled)])
        distributed.all_reduce(flat)
        sums = flat[len(own) :].split([p.numel() for p in parameters])
        found = flat[: len(own)].tolist()
        return {p: s.view_as(p) if f else None for p, s, f in zip(parameters, sums, found, strict=True)}
