"""Policy and value networks, torch only: multi-layer perceptrons, one for all agents of a role or one per agent.

Shapes: M rows, n agents, d entries of an agent's observation. A shared network maps (..., d); a stacked one holds n
networks and maps (M, n, d), agent i through network i, as one batched matrix product.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from torch import nn

from edgemarl.agents.trained.groups import GroupsBody
from edgemarl.agents.trained.heads import Box, head_of
from edgemarl.agents.trained.layers import Perceptron
from edgemarl.agents.trained.spec import Activation, NetworkSpec
from edgemarl.envs.arrays import Array
from edgemarl.envs.scenario import Parts

OBSERVATION_CLIP = 10.0
CONSTANT_BELOW = 1e-10
"""Variance below which an entry never varied in training: it is shown as 0, also where it later has another value."""


class PooledParts(nn.Module):
    """Like parts or agents (..., n, e) through one embedding, its mean over all, and a head.

    Deep Sets, arXiv:1703.06114. The weights do not depend on n; a permutation of the parts permutes the outputs of
    `each`.

    Args:
        entries: e.
        hidden: widths of the embedding; the head has one hidden layer of the last width.
        outputs: entries a of the head.
        each: an output (..., n, a) for each part from its embedding and the mean, else one (..., a) from the mean.
        blind: entries that a fresh network does not use.
        apart: a fresh network of `each` does not use the mean either.
    """

    def __init__(
        self, entries: int, hidden: Sequence[int], outputs: int, each: bool, output_gain: float = 1.0,
        activation: Activation = "tanh", blind: range = range(0), apart: bool = False,
    ) -> None:  # fmt: skip
        super().__init__()
        width, self.each = hidden[-1], each
        self.activate = {"tanh": torch.tanh, "relu": torch.relu}[activation]
        self.embed = Perceptron(entries, hidden[:-1], width, 0, math.sqrt(2.0), activation, blind)
        inputs, unused = (2 * width, range(width, 2 * width)) if each else (width, range(0))
        self.head = Perceptron(inputs, (width,), outputs, 0, output_gain, activation, unused if apart else range(0))

    def forward(self, parts: torch.Tensor) -> torch.Tensor:
        embedded = self.activate(self.embed(parts))
        mean = embedded.mean(dim=-2, keepdim=self.each)
        out: torch.Tensor = self.head(torch.cat([embedded, mean.expand_as(embedded)], dim=-1) if self.each else mean)
        return out


def divided(row: torch.Tensor, parts: Parts, pool: int = 0) -> torch.Tensor:
    """A row (..., d) as parts (..., n, e'): own entries, the own group's entry, messages, common entries.

    Behind the entries of `parts` stand messages, as many for every part if they divide by n, else common to all, and
    `pool` entries that are common to all.
    """
    n, lead = parts.count, row.shape[:-1]
    own, group, common, told, shared = torch.split(
        row, [n * parts.entries, parts.groups, parts.common, row.shape[-1] - parts.size - pool, pool], dim=-1
    )
    columns = [own.reshape(*lead, n, parts.entries)]
    if parts.groups:
        columns.append(group.repeat_interleave(n // parts.groups, dim=-1)[..., None])
    if told.shape[-1] % n:
        common = torch.cat([common, told], dim=-1)
    elif told.shape[-1]:
        columns.append(told.reshape(*lead, n, -1))
    common = torch.cat([common, shared], dim=-1)
    columns.append(common[..., None, :].expand(*lead, n, common.shape[-1]))
    return torch.cat(columns, dim=-1)


def part_entries(parts: Parts, observation_size: int, pool: int = 0) -> int:
    """Entries e' of a part in `divided` rows of a size."""
    told = observation_size - parts.size - pool
    heard = told if told % parts.count else told // parts.count
    return parts.entries + bool(parts.groups) + parts.common + pool + heard


class PartsBody(nn.Module):
    """A policy's body for a Box action of blocks: (..., d) -> (..., b n), all parts through the same `PooledParts`."""

    def __init__(self, spec: NetworkSpec, outputs: int) -> None:
        super().__init__()
        self.parts = Parts(*spec.parts)
        self.pool = spec.pool
        entries = part_entries(self.parts, spec.observation_size, spec.pool)
        blocks = outputs // self.parts.count
        blind = range(entries - spec.pool, entries)
        self.network = PooledParts(entries, spec.hidden, blocks, True, spec.output_gain, spec.activation, blind)

    def forward(self, row: torch.Tensor) -> torch.Tensor:
        each: torch.Tensor = self.network(divided(row, self.parts, self.pool))
        return each.transpose(-1, -2).flatten(-2)


class Normaliser(nn.Module):
    """Running mean and variance of rows (agents or 1, d), merged batch by batch (Chan et al., 1979)."""

    count: torch.Tensor
    mean: torch.Tensor
    variance: torch.Tensor

    def __init__(self, size: int, agents: int = 0) -> None:
        super().__init__()
        shape = (agents, size) if agents else (size,)
        self.register_buffer("count", torch.zeros((), dtype=torch.float64))
        self.register_buffer("mean", torch.zeros(shape, dtype=torch.float64))
        self.register_buffer("variance", torch.ones(shape, dtype=torch.float64))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        variance = self.variance.to(x.dtype)
        factor = torch.where(variance > CONSTANT_BELOW, torch.rsqrt(variance + 1e-8), torch.zeros_like(variance))
        return torch.clamp((x - self.mean.to(x.dtype)) * factor, -OBSERVATION_CLIP, OBSERVATION_CLIP)

    @torch.no_grad()
    def merge(self, count: int, mean: Array, variance: Array) -> None:
        """Take in the moments of `count` further rows per agent.

        Mean and variance have the shape of `self.mean`, or an agent axis before it, over which they are pooled.
        """
        other_mean = torch.as_tensor(np.asarray(mean), dtype=torch.float64, device=self.mean.device)
        other_variance = torch.as_tensor(np.asarray(variance), dtype=torch.float64, device=self.mean.device)
        if other_mean.dim() > self.mean.dim():
            count *= len(other_mean)
            other_variance = other_variance.mean(dim=0) + other_mean.var(dim=0, correction=0)
            other_mean = other_mean.mean(dim=0)
        total = self.count + count
        delta = other_mean - self.mean
        spread = self.variance * self.count + other_variance * count + delta**2 * (self.count * count / total)
        self.mean += delta * (count / total)
        self.variance.copy_(spread / total)
        self.count.copy_(total)


def network_inputs(spec: NetworkSpec, rows: torch.Tensor, normaliser: Normaliser | None) -> torch.Tensor:
    """Rows (..., d), scaled if there is a normaliser, with the indicators of their levels appended (..., inputs)."""
    x = rows if normaliser is None else normaliser(rows)
    marks = [
        nn.functional.one_hot(torch.clamp(torch.round(rows[..., c] * (n - 1)), 0, n - 1).long(), n)
        for c, n in spec.one_hot
    ]
    return torch.cat([x, *(mark.to(x.dtype) for mark in marks)], dim=-1) if marks else x


class PolicyNetwork(nn.Module):
    """Observations -> parameters of the action distribution.

    Output (..., 2 a) means and log standard deviations for a Box of a entries, (..., a) means of a deterministic
    policy; else the logits of all choices.
    """

    def __init__(self, spec: NetworkSpec) -> None:
        super().__init__()
        self.spec = spec
        self.normaliser = Normaliser(spec.observation_size, spec.agents) if spec.normalise else None
        self.head = head_of(spec)
        outputs = self.head.outputs * (2 if spec.state_std else 1)
        blind = range(spec.observation_size - spec.pool, spec.observation_size)
        start = spec.output_gain, spec.activation, blind
        self.body: nn.Module
        if spec.groups:
            self.body = GroupsBody(spec)
        elif spec.parts:
            self.body = PartsBody(spec, outputs)
        elif spec.sets:
            self.body = PooledParts(spec.inputs, spec.hidden, outputs, True, *start, apart=True)
        else:
            self.body = Perceptron(spec.inputs, spec.hidden, outputs, spec.agents, *start)
        if spec.kind == "box" and not spec.state_std and not spec.deterministic:
            free = self.head.outputs // (spec.parts[0] if spec.parts else 1)
            shape = (spec.agents, free) if spec.agents else (free,)
            self.log_std = nn.Parameter(torch.full(shape, spec.log_std))

    @torch.no_grad()
    def start_from(self, action: Sequence[float]) -> None:
        """Set the last biases so that a fresh network's mean is about this raw Box action, whatever the row."""
        last = self.body.head if isinstance(self.body, PooledParts) else self.body
        assert isinstance(last, Perceptron)
        assert isinstance(self.head, Box)
        mean = self.head.from_env(torch.tensor(action, dtype=torch.float64))
        last.biases[-1][..., : len(mean)] = mean

    def forward(self, observations: torch.Tensor, mask: torch.Tensor | None = None) -> torch.Tensor:
        """Distribution parameters.

        Args:
            observations: (..., d); (M, n, d) if `spec.of_cells`.
            mask: (..., outputs) bool, the choices that may be taken.
        """
        out: torch.Tensor = self.body(network_inputs(self.spec, observations, self.normaliser))
        if self.spec.kind == "box" and not self.spec.deterministic:
            mean, log_std = torch.chunk(out, 2, dim=-1) if self.spec.state_std else (out, self.log_std)
            if self.spec.parts and not self.spec.state_std:
                log_std = log_std.repeat_interleave(self.spec.parts[0])
            log_std = torch.clamp(log_std, self.spec.log_std_min, self.spec.log_std_max)
            return torch.cat([mean, log_std.expand(mean.shape)], dim=-1)
        return self.head.masked(out, mask)


class ValueNetwork(nn.Module):
    """State value (...,) of observations (..., d), one head for every agent.

    Args:
        spec: the policy's; a row that divides into parts is judged by the mean over its parts.
        hidden: widths.
        pool: entries of the pooled rows of all agents, seen beside the row.
        foreseen: entries of what the next slots bring, seen beside the row.
        group_size: consecutive agents that share one reward, hence one value, from the mean over their rows; or 0.
    """

    def __init__(
        self, spec: NetworkSpec, hidden: Sequence[int], pool: int = 0, foreseen: int = 0, group_size: int = 0
    ) -> None:
        super().__init__()
        self.spec, self.group_size = spec, group_size
        self.parts = Parts(*spec.parts) if spec.parts else None
        self.normaliser = Normaliser(spec.observation_size, spec.agents) if spec.normalise else None
        self.pool_normaliser = Normaliser(pool) if spec.normalise and pool else None
        own = spec.inputs if self.parts is None else part_entries(self.parts, spec.inputs, spec.pool)
        inputs = own + pool + foreseen
        self.body: nn.Module
        if self.parts is not None or group_size:
            self.body = PooledParts(inputs, hidden, 1, each=False)
        elif spec.sets:
            self.body = PooledParts(inputs, hidden, 1, each=True)
        else:
            self.body = Perceptron(inputs, hidden, 1, spec.agents)

    @property
    def per_agent(self) -> bool:
        """Whether every agent has a network of its own."""
        return isinstance(self.body, Perceptron) and bool(self.body.agents)

    def shift(self, amount: torch.Tensor) -> None:
        """Add a constant () to all values, or one per agent's network (n,)."""
        last = self.body.head if isinstance(self.body, PooledParts) else self.body
        assert isinstance(last, Perceptron)
        last.biases[-1] += amount[:, None, None] if self.per_agent else amount

    def forward(
        self, rows: torch.Tensor, pool: torch.Tensor | None = None, foreseen: torch.Tensor | None = None
    ) -> torch.Tensor:
        """Values (...,) of rows (..., d) beside pools (..., p) and what is foreseen (..., f)."""
        x = network_inputs(self.spec, rows, self.normaliser)
        if self.parts is not None:
            x = divided(x, self.parts, self.spec.pool)
        if pool is not None and self.pool_normaliser is not None:
            pool = self.pool_normaliser(pool)
        for beside in (pool, foreseen):
            if beside is not None:
                wide = beside if self.parts is None else beside[..., None, :].expand(*x.shape[:-1], -1)
                x = torch.cat([x, wide], dim=-1)
        if self.group_size:
            cells: torch.Tensor = self.body(x.reshape(*x.shape[:-2], -1, self.group_size, x.shape[-1]))[..., 0]
            return cells.repeat_interleave(self.group_size, dim=-1)
        out: torch.Tensor = self.body(x)
        return out[..., 0]
