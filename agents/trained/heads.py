"""What the numbers that a policy network puts out mean: a head per kind of action.

A head takes the mode of the distribution or draws from it, turns what was taken into raw actions of the environment,
says how far a network is from a shown action, and is part of the graph that is exported.

Shapes: p numbers of the network, a entries of an action as the network has it, (...) any leading axes.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

import numpy as np
import torch
from torch import nn

from edgemarl.agents.trained.hybrid import HybridAction
from edgemarl.agents.trained.spec import NetworkSpec
from edgemarl.envs.arrays import Array

MASKED_LOGIT = -1e9
SMOOTHING = 0.2
"""Part of a shown choice that is spread over all choices: 0.9 and 0.1 for two, so that exploration goes on."""


class Head(ABC):
    """A kind of action.

    Attributes:
        outputs: numbers that the network's last layer puts out, without free standard deviations.
        action_size: entries of one raw action.
    """

    outputs: int
    action_size: int

    @abstractmethod
    def greedy(self, parameters: Array) -> Array:
        """The mode of the distribution, (..., p) -> (..., a), or (...,) for one choice."""

    @abstractmethod
    def sample(self, parameters: Array, rng: np.random.Generator) -> Array:
        """A draw from the distribution; shapes as `greedy`."""

    @abstractmethod
    def to_env(self, actions: Array) -> Array:
        """Actions as the network has them -> raw actions of the space."""

    @abstractmethod
    def loss(self, parameters: torch.Tensor, actions: torch.Tensor) -> torch.Tensor:
        """How far the network is from shown raw actions (..., *shape)."""

    @abstractmethod
    def graph(self, parameters: torch.Tensor) -> torch.Tensor:
        """Greedy raw actions as one differentiable graph, for export."""

    @abstractmethod
    def output(self) -> tuple[str, tuple[int, ...]]:
        """Type and shape of one action that `graph` gives."""

    @abstractmethod
    def meaning(self) -> str:
        """What the numbers are that `graph` gives, in a few words."""

    def masked(self, parameters: torch.Tensor, mask: torch.Tensor | None) -> torch.Tensor:
        """Parameters without the choices that a mask (..., outputs) forbids; heads without choices ignore it."""
        return parameters


class Box(Head):
    """Numbers within bounds: a Gaussian, cut or squashed by tanh, or a deterministic value.

    The network puts out means and log standard deviations (..., 2a), or means (..., a) if deterministic. With the
    squash "tanh" an action as the network has it is the tanh of a draw, with "tanh_late" the draw itself.
    """

    def __init__(self, spec: NetworkSpec) -> None:
        self.shape, self.tanh, self.deterministic = spec.shape, spec.squash == "tanh", spec.deterministic
        self.tanh_late = spec.squash == "tanh_late"
        self.low, self.high = np.asarray(spec.low), np.asarray(spec.high)
        self.outputs = self.action_size = len(spec.low)

    def greedy(self, parameters: Array) -> Array:
        mean = parameters[..., : self.outputs]
        return np.tanh(mean) if self.tanh else mean

    def sample(self, parameters: Array, rng: np.random.Generator) -> Array:
        if self.deterministic:
            return self.greedy(parameters)
        mean, log_std = np.split(parameters, 2, axis=-1)
        noise = rng.standard_normal(mean.shape, dtype=np.float32)
        drawn: Array = mean + np.exp(log_std) * noise
        return np.tanh(drawn) if self.tanh else drawn

    def to_env(self, actions: Array) -> Array:
        given = actions.astype(np.float64)
        unit = np.tanh(given) if self.tanh_late else np.clip(given, -1.0, 1.0)
        scaled = self.low + (unit + 1.0) / 2.0 * (self.high - self.low)
        result: Array = scaled.reshape(actions.shape[:-1] + self.shape)
        return result

    def from_env(self, actions: torch.Tensor) -> torch.Tensor:
        """Raw actions as the network has them: undoes `to_env`, in their dtype; a draw behind a late tanh is finite."""
        unit = self._unit(actions)
        if not self.tanh_late:
            return unit
        largest = 1.0 - torch.finfo(unit.dtype).eps
        return torch.atanh(torch.clamp(unit, -largest, largest))

    def _unit(self, actions: torch.Tensor) -> torch.Tensor:
        """Raw actions with their bounds mapped onto [-1, 1], flat."""
        low, high = (torch.tensor(bound.tolist(), dtype=actions.dtype) for bound in (self.low, self.high))
        flat = actions.reshape(*actions.shape[: actions.dim() - len(self.shape)], self.outputs)
        return (flat - low) / (high - low) * 2.0 - 1.0

    def loss(self, parameters: torch.Tensor, actions: torch.Tensor) -> torch.Tensor:
        """Mean squared error in units of half the range."""
        mean = parameters[..., : self.outputs]
        predicted = torch.tanh(mean) if self.tanh or self.tanh_late else mean
        return nn.functional.mse_loss(predicted, self._unit(actions.float()))

    def graph(self, parameters: torch.Tensor) -> torch.Tensor:
        mean = parameters[..., : self.outputs]
        unit = torch.tanh(mean) if self.tanh or self.tanh_late else torch.clamp(mean, -1.0, 1.0)
        low, high = (torch.tensor(bound.tolist()) for bound in (self.low, self.high))
        return _shaped(low + (unit + 1.0) / 2.0 * (high - low), self.shape)

    def output(self) -> tuple[str, tuple[int, ...]]:
        return "float32", self.shape

    def meaning(self) -> str:
        return f"numbers within {_range(self.low, self.high)}"


class Choice(Head):
    """One choice of a Discrete space, or several of a MultiDiscrete one: logits of all choices, one after another."""

    def __init__(self, spec: NetworkSpec) -> None:
        self.choices, self.start, self.single = spec.choices, spec.start, spec.kind == "discrete"
        self.outputs, self.action_size = sum(spec.choices), len(spec.choices)

    def greedy(self, parameters: Array) -> Array:
        picks = [part.argmax(axis=-1) for part in np.split(parameters, np.cumsum(self.choices)[:-1], axis=-1)]
        return np.asarray(picks[0]) if self.single else np.stack(picks, axis=-1)

    def sample(self, parameters: Array, rng: np.random.Generator) -> Array:
        """By the Gumbel-max rule."""
        drawn = rng.standard_exponential(parameters.shape, dtype=np.float32)
        gumbel = -np.log(np.maximum(drawn, np.finfo(np.float32).tiny))  # a draw can be exactly 0
        return self.greedy(parameters + gumbel)

    def to_env(self, actions: Array) -> Array:
        start: Any = self.start[0] if self.single else np.asarray(self.start)
        return np.asarray(actions.astype(np.int64) + start)

    def loss(self, parameters: torch.Tensor, actions: torch.Tensor) -> torch.Tensor:
        """Cross-entropy of smoothed choices, summed over the parts."""
        parts = len(self.choices)
        chosen = (actions.reshape(*parameters.shape[:-1], parts) - torch.tensor(self.start)).reshape(-1, parts)
        heads = torch.split(parameters.reshape(-1, parameters.shape[-1]), list(self.choices), dim=-1)
        losses = [
            nn.functional.cross_entropy(head, chosen[:, i], label_smoothing=SMOOTHING) for i, head in enumerate(heads)
        ]
        return torch.stack(losses).sum()

    def graph(self, parameters: torch.Tensor) -> torch.Tensor:
        parts = torch.split(parameters, list(self.choices), dim=-1)
        picks = [torch.argmax(part, dim=-1) + first for part, first in zip(parts, self.start, strict=True)]
        return picks[0] if self.single else torch.stack(picks, dim=-1)

    def output(self) -> tuple[str, tuple[int, ...]]:
        return "int64", () if self.single else (len(self.choices),)

    def meaning(self) -> str:
        bounds = [(first, first + n - 1) for first, n in zip(self.start, self.choices, strict=True)]
        alike = bounds[:1] if len(set(bounds)) == 1 else bounds
        each = "an index" if self.single else "indices"
        return f"{each} from " + ", ".join(f"{low} to {high}" for low, high in alike)

    def masked(self, parameters: torch.Tensor, mask: torch.Tensor | None) -> torch.Tensor:
        if mask is None:
            return parameters
        return torch.where(mask.bool(), parameters, torch.full_like(parameters, MASKED_LOGIT))


class Grid(Choice):
    """One choice among the points of a grid over a Box; the last entry changes fastest."""

    def __init__(self, spec: NetworkSpec) -> None:
        super().__init__(spec)
        self.shape, self.action_size = spec.shape, len(spec.low)
        axes = [np.linspace(a, b, n) for a, b, n in zip(spec.low, spec.high, spec.grid, strict=True)]
        self.points: Array = np.stack([part.ravel() for part in np.meshgrid(*axes, indexing="ij")], axis=-1)

    def to_env(self, actions: Array) -> Array:
        return self.points[actions.astype(np.int64)].reshape(*actions.shape, *self.shape)

    def loss(self, parameters: torch.Tensor, actions: torch.Tensor) -> torch.Tensor:
        """Cross-entropy of the point nearest to the shown action, each entry in units of its range."""
        span = self.points.max(axis=0) - self.points.min(axis=0)
        scale = torch.tensor(np.where(span > 0.0, span, 1.0), dtype=actions.dtype)
        points = torch.tensor(self.points, dtype=actions.dtype) / scale
        flat = actions.reshape(-1, len(span)) / scale
        nearest = torch.cdist(flat, points).argmin(dim=-1)
        return super().loss(parameters, nearest.reshape(parameters.shape[:-1]))

    def graph(self, parameters: torch.Tensor) -> torch.Tensor:
        return _shaped(torch.tensor(self.points.astype(np.float32))[torch.argmax(parameters, dim=-1)], self.shape)

    def output(self) -> tuple[str, tuple[int, ...]]:
        return "float32", self.shape

    def meaning(self) -> str:
        low, high = self.points.min(axis=0), self.points.max(axis=0)
        return f"one of {len(self.points)} points within {_range(low, high)}"


class Hybrid(Head):
    """A joint action of discrete and continuous parts (`edgemarl.agents.trained.hybrid`)."""

    def __init__(self, spec: NetworkSpec) -> None:
        assert spec.hybrid is not None
        self.action = HybridAction.from_dict(spec.hybrid)
        self.outputs = self.action.parameters
        self.action_size = sum(part.entries for part in self.action.parts)

    def greedy(self, parameters: Array) -> Array:
        return np.asarray(self.action.relax(torch.from_numpy(parameters), None).numpy())

    def sample(self, parameters: Array, rng: np.random.Generator) -> Array:
        noise = torch.from_numpy(self.action.noise(parameters.shape[:-1], rng))
        return np.asarray(self.action.relax(torch.from_numpy(parameters), noise).numpy())

    def to_env(self, actions: Array) -> Array:
        return np.asarray(self.action.execute(torch.from_numpy(actions)).numpy(), np.float64)

    def loss(self, parameters: torch.Tensor, actions: torch.Tensor) -> torch.Tensor:
        raise ValueError("a joint action of discrete and continuous parts cannot be imitated")

    def graph(self, parameters: torch.Tensor) -> torch.Tensor:
        return self.action.execute(self.action.relax(parameters, None))

    def output(self) -> tuple[str, tuple[int, ...]]:
        return "float32", (self.action_size,)

    def meaning(self) -> str:
        what = {"binary": "bits", "choice": "indices", "simplex": "shares", "box": "numbers", "constant": "constants"}
        return ", ".join(f"{part.entries} {what[part.kind]} {part.name}" for part in self.action.parts)


def _shaped(flat: torch.Tensor, shape: tuple[int, ...]) -> torch.Tensor:
    """Actions (..., a) in the shape of the space."""
    return flat if len(shape) == 1 else flat.reshape(*flat.shape[:-1], *shape)


def _range(low: Array, high: Array) -> str:
    """Bounds as text, one pair where all entries have the same."""
    if (low == low[0]).all() and (high == high[0]).all():
        return f"[{low[0]:g}, {high[0]:g}]"
    return "bounds of each entry"


def head_of(spec: NetworkSpec) -> Head:
    """The head of a spec."""
    if spec.hybrid is not None:
        return Hybrid(spec)
    if spec.grid:
        return Grid(spec)
    return Box(spec) if spec.kind == "box" else Choice(spec)
