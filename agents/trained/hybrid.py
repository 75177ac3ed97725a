"""A joint action of discrete and continuous parts: relaxed for critics, so that gradients pass, and executed.

Two relaxations of the discrete parts. "gaussian" is JOPA's (Niazmand and Ye, 2025): a Gaussian y per entry, relaxed
sigmoid(y), executed round(sigmoid(y)) or, of V choices, round((V - 1) sigmoid(y)); the end choices get half a bin.
"concrete" draws exactly from Bernoulli and categorical laws and relaxes the draw at a temperature (Maddison et al.,
arXiv:1611.00712; Jang et al., arXiv:1611.01144). Shares are the softmax of Gaussians, Box entries their tanh.
With `share_logit_scale` c the softmax is that of c tanh(y): no share then exceeds another by more than exp(2 c),
whatever the Gaussians do. `share_centred` takes the mean of the y off first: without it all of them can run into the
same end of the tanh, where shares are equal and the gradient is 0.

Layout of the parameters: logits of discrete parts (concrete only), then means, then log standard deviations.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import gymnasium
import numpy as np
import torch

from edgemarl.envs.arrays import Array
from edgemarl.envs.config import unknown_name
from edgemarl.envs.spaces import Simplex, entries_of, parts_of

PartKind = Literal["binary", "choice", "simplex", "box", "constant"]
Relaxation = Literal["gaussian", "concrete"]
LOG_STD_MIN, LOG_STD_MAX = -20.0, 2.0


@dataclass(frozen=True)
class ActionPart:
    """One part of the action.

    Attributes:
        name: its name in the space.
        kind: "constant" is held at `value` and not learned.
        entries: numbers of the executed action.
        choices: of every entry of kind "choice".
        start: first value of a choice, or bounds low and high of every Box entry.
    """

    name: str
    kind: PartKind
    entries: int
    choices: int = 0
    start: int = 0
    low: tuple[float, ...] = ()
    high: tuple[float, ...] = ()
    value: float = 0.0


@dataclass(frozen=True)
class HybridAction:
    """Parts of an action and how they are relaxed; plain values."""

    parts: tuple[ActionPart, ...]
    relaxation: Relaxation = "concrete"
    temperature: float = 1.0
    share_logit_scale: float | None = None
    """Bound of the logits of shares; None: unbounded, as printed."""
    share_centred: bool = False
    """Whether the bound is on what a share's Gaussian is above their mean."""
    log_std_min: float = LOG_STD_MIN
    """Least log standard deviation: exploration that the learner cannot give up."""

    def to_dict(self) -> dict[str, Any]:
        return dataclasses.asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> HybridAction:
        plain: list[dict[str, Any]] = [
            {name: tuple(v) if isinstance(v, list) else v for name, v in part.items()} for part in values["parts"]
        ]
        parts = tuple(ActionPart(**part) for part in plain)
        later = {name: values[name] for name in ("share_logit_scale", "share_centred", "log_std_min") if name in values}
        return cls(parts, values["relaxation"], values["temperature"], **later)

    # --- sizes -------------------------------------------------------------------------------------------------------

    def per_entry(self, part: ActionPart) -> tuple[int, int]:
        """Logits and Gaussians of one entry of a part."""
        if part.kind == "constant":
            return 0, 0
        if self._discrete(part):
            return (part.choices if part.kind == "choice" else 1), 0
        return 0, 1

    def _width(self, part: ActionPart) -> int:
        """Numbers of a part in the relaxed action."""
        return part.entries * sum(self.per_entry(part))

    def _discrete(self, part: ActionPart) -> bool:
        """Whether a part is drawn from logits."""
        return self.relaxation == "concrete" and part.kind in ("binary", "choice")

    @property
    def relaxed_size(self) -> int:
        """Numbers that critics see."""
        return sum(self._width(part) for part in self.parts)

    @property
    def logits(self) -> int:
        """Numbers of the network that are logits."""
        return sum(width for _, width in self.logit_parts)

    @property
    def logit_parts(self) -> list[tuple[str, int]]:
        """Kind and width of every part that is drawn from logits."""
        return [(part.kind, self._width(part)) for part in self.parts if self._discrete(part)]

    @property
    def parameters(self) -> int:
        """Numbers that a policy network puts out."""
        return 2 * self.relaxed_size - self.logits

    @property
    def learned_entries(self) -> int:
        """Executed numbers that are not constant."""
        return sum(part.entries for part in self.parts if part.kind != "constant")

    def split(self, parameters: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Logits, means and log standard deviations (clipped)."""
        gaussians = self.relaxed_size - self.logits
        logits, mean, log_std = torch.split(parameters, [self.logits, gaussians, gaussians], dim=-1)
        return logits, mean, torch.clamp(log_std, self.log_std_min, LOG_STD_MAX)

    # --- draws -------------------------------------------------------------------------------------------------------

    def noise(self, lead: tuple[int, ...], rng: np.random.Generator) -> Array:
        """(*lead, relaxed_size) float32: logistic and Gumbel noise of logits, then standard normal noise."""
        columns = []
        for kind, width in self.logit_parts:
            columns.append((rng.logistic if kind == "binary" else rng.gumbel)(size=(*lead, width)))
        columns.append(rng.standard_normal((*lead, self.relaxed_size - self.logits)))
        return np.concatenate(columns, axis=-1).astype(np.float32)

    def relax(self, parameters: torch.Tensor, noise: torch.Tensor | None) -> torch.Tensor:
        """(..., relaxed_size) differentiable action; without noise the most likely one."""
        logits, mean, log_std = self.split(parameters)
        latent = mean
        if noise is not None:
            logits = logits + noise[..., : self.logits]
            latent = mean + log_std.exp() * noise[..., self.logits :]
        pieces = []
        i = j = 0
        for part in self.parts:
            width = self._width(part)
            if self._discrete(part):
                piece = logits[..., i : i + width] / self.temperature
                i += width
                shape = (*piece.shape[:-1], part.entries, -1)
                soft = torch.sigmoid(piece) if part.kind == "binary" else piece.reshape(shape).softmax(-1)
                pieces.append(soft.reshape(piece.shape))
            elif width:
                piece = latent[..., j : j + width]
                j += width
                pieces.append(self._squashed(piece, part.kind))
        return torch.cat(pieces, dim=-1)

    def _squashed(self, latent: torch.Tensor, kind: PartKind) -> torch.Tensor:
        """Gaussian numbers of a part as shares, values in [-1, 1], or relaxed bits and choices in [0, 1]."""
        if kind != "simplex":
            return torch.tanh(latent) if kind == "box" else torch.sigmoid(latent)
        if self.share_centred:
            latent = latent - latent.mean(dim=-1, keepdim=True)
        c = self.share_logit_scale
        return (latent if c is None else c * torch.tanh(latent)).softmax(-1)

    def execute(self, relaxed: torch.Tensor) -> torch.Tensor:
        """(..., entries) what the environment gets: bits, indices, shares and values within their bounds."""
        entries, start = [], 0
        for part in self.parts:
            piece = relaxed[..., start : start + self._width(part)]
            start += self._width(part)
            entries.append(self._executed(part, piece))
        return torch.cat(entries, dim=-1)

    def _executed(self, part: ActionPart, piece: torch.Tensor) -> torch.Tensor:
        if part.kind == "constant":
            return torch.full((*piece.shape[:-1], part.entries), part.value, dtype=piece.dtype, device=piece.device)
        if part.kind == "binary":
            return (piece > 0.5).to(piece.dtype)
        if part.kind == "choice":
            if self._discrete(part):
                index = piece.reshape(*piece.shape[:-1], part.entries, part.choices).argmax(-1).to(piece.dtype)
            else:
                index = torch.round((part.choices - 1) * piece)
            return index + part.start
        if part.kind == "box":
            low, high = (piece.new_tensor(bound) for bound in (part.low, part.high))
            return low + (piece + 1.0) / 2.0 * (high - low)
        return piece

    def log_probability(self, parameters: torch.Tensor, noise: torch.Tensor) -> torch.Tensor:
        """(...,) of the draw that `noise` makes: density of the Gaussians before squashing (the paper states no
        Jacobian), and for Bernoulli and categorical parts their expected log-probability (minus the entropy)."""
        logits, _, log_std = self.split(parameters)
        normal = noise[..., self.logits :]
        total = (-0.5 * normal.square() - log_std - 0.5 * math.log(2.0 * math.pi)).sum(-1)
        start = 0
        for part in self.parts:
            if not self._discrete(part):
                continue
            piece = logits[..., start : start + self._width(part)]
            start += self._width(part)
            if part.kind == "binary":
                piece = torch.stack([piece, torch.zeros_like(piece)], dim=-1)
            else:
                piece = piece.reshape(*piece.shape[:-1], part.entries, part.choices)
            log_p = piece.log_softmax(-1)
            total = total + (log_p.exp() * log_p).sum((-1, -2))
        return total


def hybrid_action(
    space: gymnasium.Space[Any],
    relaxation: Relaxation = "concrete",
    temperature: float = 1.0,
    restrict: Mapping[str, float] | None = None,
    **shape: Any,
) -> HybridAction:
    """The parts of a Dict or Tuple space.

    Args:
        space: with parts MultiBinary, Discrete, MultiDiscrete (entries of equal size), Simplex and bounded Box.
        relaxation, temperature: of the discrete parts.
        restrict: part -> value that all its entries keep; it is not learned.
        **shape: `share_logit_scale`, `share_centred`, `log_std_min` of `HybridAction`.

    Raises:
        ValueError: a part of another kind, an unknown name in `restrict`, or nothing left to learn.
    """
    parts, held = parts_of(space), dict(restrict or {})
    for name in held:
        if name not in parts:
            raise ValueError(unknown_name("part of the action", name, parts))
    if len(held) == len(parts):
        raise ValueError("restrict names every part: nothing is left to learn")
    chosen = tuple(
        ActionPart(name, "constant", entries_of(part), value=float(held[name])) if name in held else _part(name, part)
        for name, part in parts.items()
    )
    return HybridAction(chosen, relaxation, temperature, **shape)


def _part(name: str, space: gymnasium.Space[Any]) -> ActionPart:
    entries = entries_of(space)
    if isinstance(space, Simplex):
        return ActionPart(name, "simplex", entries)
    if isinstance(space, gymnasium.spaces.MultiBinary):
        return ActionPart(name, "binary", entries)
    if isinstance(space, gymnasium.spaces.Discrete):
        return ActionPart(name, "choice", 1, int(space.n), int(space.start))
    if isinstance(space, gymnasium.spaces.MultiDiscrete):
        sizes, starts = np.unique(space.nvec), np.unique(space.start)
        if len(sizes) == 1 and len(starts) == 1:
            return ActionPart(name, "choice", entries, int(sizes[0]), int(starts[0]))
    if isinstance(space, gymnasium.spaces.Box) and np.isfinite(space.low).all() and np.isfinite(space.high).all():
        low, high = (tuple(float(v) for v in bound.ravel()) for bound in (space.low, space.high))
        return ActionPart(name, "box", entries, low=low, high=high)
    raise ValueError(
        f"part {name} of the action is {space}: must be MultiBinary, Discrete, MultiDiscrete of equal sizes, "
        "Simplex or a bounded Box"
    )
