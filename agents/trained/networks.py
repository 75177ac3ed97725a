"""Policy and value networks, torch only: multi-layer perceptrons, one for all agents of a role or one per agent.

Shapes: M rows, n agents, d entries of an agent's observation. A shared network maps (..., d); a stacked one holds n
networks and maps (M, n, d), agent i through network i, as one batched matrix product.
"""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import gymnasium
import numpy as np
import torch
from torch import nn

from edgemarl.agents.trained.hybrid import HybridAction
from edgemarl.agents.trained.layers import perceptron
from edgemarl.envs.api import Array, Parts

ActionKind = Literal["box", "discrete", "multidiscrete", "hybrid"]
Activation = Literal["tanh", "relu"]
MASKED_LOGIT = -1e9
GRID_POINTS_MAX = 1000
"""Most points of a grid that stands in for a Box action; each is an output of the network."""
OBSERVATION_CLIP = 10.0
CONSTANT_BELOW = 1e-10
"""Variance below which an entry never varied in training: it is shown as 0, also where it later has another value."""


@dataclass(frozen=True)
class NetworkSpec:
    """Everything that rebuilds a policy network; plain values, so that it can be written as JSON.

    Attributes:
        observation_size: entries d of one agent's row.
        kind: kind of the action space.
        shape: shape of one raw action.
        low, high: bounds of a Box, flattened; a network output in [-1, 1] is mapped onto them.
        choices, start: sizes and first values of the discrete parts (one part for Discrete).
        hidden: widths of the hidden layers.
        activation: of the hidden layers.
        agents: 0 for one network that all agents share, n for one network per agent.
        normalise: scale observations by the running mean and variance of the training data.
        log_std: start value of the free log standard deviation of a Box action, kept in [log_std_min, log_std_max].
        state_std: the network also puts out the log standard deviation (then `log_std` has no effect).
        one_hot: (column, values) of observation entries that lie on an even grid of that many values from 0 to 1, such
            as a level: the networks also see them as indicators.
        squash: how a Box action is kept in [-1, 1]: "clip" (a Gaussian, cut) or "tanh" (a squashed Gaussian).
        grid: points per entry of a Box that is decided as one discrete choice among all grid points; evenly spaced,
            bounds included, the last entry changes fastest.
        deterministic: a Box policy without a standard deviation (DDPG); what explores belongs to its learner.
        output_gain: gain of the last layer at the start.
        hybrid: fields of `HybridAction` for a joint action of discrete and continuous parts.
        price: fields of `edgemarl.agents.trained.priced_network.PriceSpec` where the network sets its own price.
        parts: count, entries, groups, common of `envs.api.Parts` for a network that treats the row's parts alike.
    """

    observation_size: int
    kind: ActionKind
    shape: tuple[int, ...] = ()
    low: tuple[float, ...] = ()
    high: tuple[float, ...] = ()
    choices: tuple[int, ...] = ()
    start: tuple[int, ...] = ()
    hidden: tuple[int, ...] = (64, 64)
    activation: Activation = "tanh"
    agents: int = 0
    normalise: bool = False
    log_std: float = -0.7
    log_std_min: float = -3.0
    log_std_max: float = 1.0
    state_std: bool = False
    one_hot: tuple[tuple[int, int], ...] = ()
    squash: Literal["clip", "tanh"] = "clip"
    grid: tuple[int, ...] = ()
    deterministic: bool = False
    output_gain: float = 0.01
    price: dict[str, Any] | None = None
    hybrid: dict[str, Any] | None = None
    parts: tuple[int, ...] = ()

    @property
    def outputs(self) -> int:
        """Numbers that the policy network puts out: means, or logits of all choices."""
        if self.hybrid is not None:
            return HybridAction.from_dict(self.hybrid).parameters
        return len(self.low) if self.kind == "box" else sum(self.choices)

    @property
    def inputs(self) -> int:
        """Numbers that go into the first layer: the row, and the indicators of its levels."""
        return self.observation_size + sum(values for _, values in self.one_hot)

    @property
    def action_size(self) -> int:
        """Entries of one raw action."""
        return len(self.low) if self.kind == "box" else len(self.choices)

    def to_dict(self) -> dict[str, Any]:
        return dataclasses.asdict(self)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> NetworkSpec:
        return cls(**{name: _tuples(value) for name, value in values.items()})


def _tuples(value: Any) -> Any:
    """Lists, at any depth, as tuples."""
    return tuple(_tuples(v) for v in value) if isinstance(value, list | tuple) else value


def network_spec(
    observation_size: int, space: gymnasium.Space[Any], grid: tuple[int, ...] = (), **settings: Any
) -> NetworkSpec:
    """The spec for an action space; with a grid a Box becomes a discrete choice among its points.

    Raises:
        ValueError: a space that is not a bounded Box, Discrete or MultiDiscrete; a grid that does not fit the space.
    """
    shape = tuple(int(n) for n in space.shape or ())
    if grid and not isinstance(space, gymnasium.spaces.Box):
        raise ValueError(f"a grid divides a Box, not the action space {space}")
    if isinstance(space, gymnasium.spaces.Box):
        if not (np.isfinite(space.low).all() and np.isfinite(space.high).all()):
            raise ValueError(f"action space {space} is not bounded; a policy network needs finite low and high")
        low, high = (tuple(float(v) for v in bound.ravel()) for bound in (space.low, space.high))
        if grid:
            points = grid_points(grid, len(low))
            return NetworkSpec(
                observation_size, "discrete", shape, low, high, choices=(points,), start=(0,), grid=grid, **settings
            )
        return NetworkSpec(observation_size, "box", shape, low, high, **settings)
    if isinstance(space, gymnasium.spaces.Discrete):
        return NetworkSpec(
            observation_size, "discrete", shape, choices=(int(space.n),), start=(int(space.start),), **settings
        )
    if isinstance(space, gymnasium.spaces.MultiDiscrete) and space.nvec.ndim == 1:
        choices, start = (tuple(int(v) for v in part) for part in (space.nvec, space.start))
        return NetworkSpec(observation_size, "multidiscrete", shape, choices=choices, start=start, **settings)
    raise ValueError(f"action space {space} is not supported: must be a bounded Box, Discrete or MultiDiscrete")


def grid_points(grid: tuple[int, ...], entries: int) -> int:
    """Points of a grid over a Box of so many entries.

    Raises:
        ValueError: another number of entries, fewer than 2 points in one, more than `GRID_POINTS_MAX` in all.
    """
    if len(grid) != entries or min(grid) < 2 or math.prod(grid) > GRID_POINTS_MAX:
        raise ValueError(
            f"grid = {list(grid)} points is not legal for an action of {entries} entries: must be {entries} integers "
            f">= 2 with a product of at most {GRID_POINTS_MAX}"
        )
    return math.prod(grid)


class Perceptron(nn.Module):
    """A perceptron with orthogonal start and zero biases; shared (..., d) or stacked (M, n, d)."""

    def __init__(
        self,
        inputs: int,
        hidden: Sequence[int],
        outputs: int,
        agents: int = 0,
        output_gain: float = 1.0,
        activation: Activation = "tanh",
    ) -> None:
        super().__init__()
        self.activation = activation
        sizes = [inputs, *hidden, outputs]
        self.agents = agents
        self.weights = nn.ParameterList()
        self.biases = nn.ParameterList()
        for i, (rows, columns) in enumerate(itertools.pairwise(sizes)):
            gain = output_gain if i == len(hidden) else math.sqrt(2.0)
            layers = [nn.init.orthogonal_(torch.empty(columns, rows), gain) for _ in range(max(agents, 1))]
            if agents:
                self.weights.append(nn.Parameter(torch.stack(layers).transpose(1, 2).contiguous()))
                self.biases.append(nn.Parameter(torch.zeros(agents, 1, columns)))
            else:
                self.weights.append(nn.Parameter(layers[0]))
                self.biases.append(nn.Parameter(torch.zeros(columns)))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if self.agents:  # agent first: one batched product per layer
            return perceptron(x.transpose(0, 1), [*self.weights], [*self.biases], self.activation).transpose(0, 1)
        out = perceptron(x.reshape(-1, x.shape[-1]), [*self.weights], [*self.biases], self.activation)
        return out.reshape(*x.shape[:-1], out.shape[-1])


class PooledParts(nn.Module):
    """Like parts (..., n, e) through one embedding, its mean over the parts, and a head (Deep Sets, arXiv:1703.06114).

    The weights do not depend on n; a permutation of the parts permutes the outputs of `each`.

    Args:
        entries: e.
        hidden: widths of the embedding; the head has one hidden layer of the last width.
        outputs: entries a of the head.
        each: an output (..., n, a) for each part from its embedding and the mean, else one (..., a) from the mean.
    """

    def __init__(
        self, entries: int, hidden: Sequence[int], outputs: int, each: bool, output_gain: float = 1.0,
        activation: Activation = "tanh",
    ) -> None:  # fmt: skip
        super().__init__()
        width, self.each = hidden[-1], each
        self.activate = {"tanh": torch.tanh, "relu": torch.relu}[activation]
        self.embed = Perceptron(entries, hidden[:-1], width, output_gain=math.sqrt(2.0), activation=activation)
        inputs = 2 * width if each else width
        self.head = Perceptron(inputs, (width,), outputs, output_gain=output_gain, activation=activation)

    def forward(self, parts: torch.Tensor) -> torch.Tensor:
        embedded = self.activate(self.embed(parts))
        mean = embedded.mean(dim=-2, keepdim=self.each)
        out: torch.Tensor = self.head(torch.cat([embedded, mean.expand_as(embedded)], dim=-1) if self.each else mean)
        return out


def divided(row: torch.Tensor, parts: Parts) -> torch.Tensor:
    """A row (..., d) as parts (..., n, e'): own entries, the own group's entry, messages, common entries.

    Entries beyond those of `parts` are messages: as many for every part if they divide by n, else common to all.
    """
    n, lead = parts.count, row.shape[:-1]
    own, group, common, told = torch.split(
        row, [n * parts.entries, parts.groups, parts.common, row.shape[-1] - parts.size], dim=-1
    )
    columns = [own.reshape(*lead, n, parts.entries)]
    if parts.groups:
        columns.append(group.repeat_interleave(n // parts.groups, dim=-1)[..., None])
    if told.shape[-1] % n:
        common = torch.cat([common, told], dim=-1)
    elif told.shape[-1]:
        columns.append(told.reshape(*lead, n, -1))
    columns.append(common[..., None, :].expand(*lead, n, common.shape[-1]))
    return torch.cat(columns, dim=-1)


def part_entries(parts: Parts, observation_size: int) -> int:
    """Entries e' of a part in `divided` rows of a size."""
    told = observation_size - parts.size
    heard = told if told % parts.count else told // parts.count
    return parts.entries + bool(parts.groups) + parts.common + heard


class PartsBody(nn.Module):
    """A policy's body for a Box action of blocks: (..., d) -> (..., b n), all parts through the same `PooledParts`."""

    def __init__(self, spec: NetworkSpec, outputs: int) -> None:
        super().__init__()
        self.parts = Parts(*spec.parts)
        entries = part_entries(self.parts, spec.observation_size)
        blocks = outputs // self.parts.count
        self.network = PooledParts(entries, spec.hidden, blocks, True, spec.output_gain, spec.activation)

    def forward(self, row: torch.Tensor) -> torch.Tensor:
        each: torch.Tensor = self.network(divided(row, self.parts))
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
        outputs = spec.outputs * (2 if spec.state_std else 1)
        self.body: nn.Module
        if spec.parts:
            self.body = PartsBody(spec, outputs)
        else:
            self.body = Perceptron(
                spec.inputs,
                spec.hidden,
                outputs,
                spec.agents,
                output_gain=spec.output_gain,
                activation=spec.activation,
            )
        if spec.kind == "box" and not spec.state_std and not spec.deterministic:
            free = spec.outputs // (spec.parts[0] if spec.parts else 1)
            shape = (spec.agents, free) if spec.agents else (free,)
            self.log_std = nn.Parameter(torch.full(shape, spec.log_std))

    @torch.no_grad()
    def start_from(self, action: Sequence[float]) -> None:
        """Set the last biases so that a fresh network's mean is about this raw Box action, whatever the row."""
        assert isinstance(self.body, Perceptron)
        mean = unit_actions(self.spec, torch.tensor(action, dtype=torch.float64))
        self.body.biases[-1][..., : len(mean)] = mean

    def forward(self, observations: torch.Tensor, mask: torch.Tensor | None = None) -> torch.Tensor:
        """Distribution parameters.

        Args:
            observations: (..., d); (M, n, d) if stacked.
            mask: (..., outputs) bool, the choices that may be taken.
        """
        out: torch.Tensor = self.body(network_inputs(self.spec, observations, self.normaliser))
        if self.spec.kind == "box" and not self.spec.deterministic:
            mean, log_std = torch.chunk(out, 2, dim=-1) if self.spec.state_std else (out, self.log_std)
            if self.spec.parts and not self.spec.state_std:
                log_std = log_std.repeat_interleave(self.spec.parts[0])
            log_std = torch.clamp(log_std, self.spec.log_std_min, self.spec.log_std_max)
            return torch.cat([mean, log_std.expand(mean.shape)], dim=-1)
        return (
            out
            if mask is None or self.spec.kind == "box"
            else torch.where(mask.bool(), out, torch.full_like(out, MASKED_LOGIT))
        )


class ValueNetwork(nn.Module):
    """State value (...,) of observations (..., d), or the values (M, n) of n agents from one global state (M, D).

    Args:
        spec: the policy's; a row that divides into parts is judged by the mean over its parts.
        hidden: widths.
        global_size: entries D of the global state if the critic sees it, else 0.
        agents: n.
        cell_size: consecutive agents that share one reward, hence one value, from the mean over their rows; or 0.
        foreseen: entries of what the next slots bring, seen beside the row.
    """

    def __init__(
        self, spec: NetworkSpec, hidden: Sequence[int], global_size: int = 0, agents: int = 0, cell_size: int = 0,
        foreseen: int = 0,
    ) -> None:  # fmt: skip
        super().__init__()
        inputs = (global_size or spec.inputs) + foreseen
        self.spec, self.of_global_state, self.cell_size = spec, bool(global_size), cell_size
        self.parts = Parts(*spec.parts) if spec.parts and not global_size else None
        stacked = 0 if global_size else spec.agents
        self.normaliser = Normaliser(global_size or spec.observation_size, stacked) if spec.normalise else None
        self.body: nn.Module
        if self.parts is not None or cell_size:
            entries = inputs if self.parts is None else part_entries(self.parts, inputs)
            self.body = PooledParts(entries, hidden, 1, each=False)
        else:
            self.body = Perceptron(inputs, hidden, agents if global_size else 1, stacked)

    def forward(self, inputs: torch.Tensor, foreseen: torch.Tensor | None = None) -> torch.Tensor:
        if self.of_global_state:
            x = inputs if self.normaliser is None else self.normaliser(inputs)
        else:
            x = network_inputs(self.spec, inputs, self.normaliser)
        if foreseen is not None:
            x = torch.cat([x, foreseen], dim=-1)
        if self.cell_size:
            cells: torch.Tensor = self.body(x.unflatten(-2, (-1, self.cell_size)))[..., 0]
            return cells.repeat_interleave(self.cell_size, dim=-1)
        out: torch.Tensor = self.body(x if self.parts is None else divided(x, self.parts))
        return out if self.of_global_state else out[..., 0]


def environment_actions(spec: NetworkSpec, actions: Any) -> Array:
    """Network actions (..., a) or (...,) -> raw actions of the space: [-1, 1] onto a Box, indices onto choices."""
    values = np.asarray(actions)
    if spec.hybrid is not None:
        return np.asarray(HybridAction.from_dict(spec.hybrid).execute(torch.from_numpy(values)).numpy(), np.float64)
    if spec.grid:
        points = grid_values(spec)[values.astype(np.int64)]
        return points.reshape(*values.shape, *spec.shape)
    if spec.kind == "box":
        low, high = np.asarray(spec.low), np.asarray(spec.high)
        scaled = low + (np.clip(values.astype(np.float64), -1.0, 1.0) + 1.0) / 2.0 * (high - low)
        return scaled.reshape(values.shape[:-1] + spec.shape)
    start = spec.start[0] if spec.kind == "discrete" else np.asarray(spec.start)
    shifted: Array = values.astype(np.int64) + start
    return shifted


def unit_actions(spec: NetworkSpec, actions: torch.Tensor) -> torch.Tensor:
    """Raw actions of a Box as the network puts them out, in [-1, 1]: undoes `environment_actions`, in their dtype."""
    low, high = (torch.tensor(bound, dtype=actions.dtype) for bound in (spec.low, spec.high))
    flat = actions.reshape(*actions.shape[: actions.dim() - len(spec.shape)], len(spec.low))
    return (flat - low) / (high - low) * 2.0 - 1.0


def grid_values(spec: NetworkSpec) -> Array:
    """Raw actions (points, entries) of a grid's choices."""
    axes = [np.linspace(a, b, n) for a, b, n in zip(spec.low, spec.high, spec.grid, strict=True)]
    return np.stack([part.ravel() for part in np.meshgrid(*axes, indexing="ij")], axis=-1)


def greedy_actions(spec: NetworkSpec, parameters: Array) -> Array:
    """The mode of the distribution: means (..., a), or indices (...,) for Discrete, (..., a) for MultiDiscrete."""
    if spec.hybrid is not None:
        return np.asarray(HybridAction.from_dict(spec.hybrid).relax(torch.from_numpy(parameters), None).numpy())
    if spec.kind == "box":
        mean = parameters[..., : spec.outputs]
        return np.tanh(mean) if spec.squash == "tanh" else mean
    picks = [part.argmax(axis=-1) for part in np.split(parameters, np.cumsum(spec.choices)[:-1], axis=-1)]
    return picks[0] if spec.kind == "discrete" else np.stack(picks, axis=-1)


def sampled_actions(spec: NetworkSpec, parameters: Array, rng: np.random.Generator) -> Array:
    """A draw from the distribution: Gaussian, or categorical by the Gumbel-max rule; shapes as `greedy_actions`."""
    if spec.deterministic:
        return greedy_actions(spec, parameters)
    if spec.hybrid is not None:
        action = HybridAction.from_dict(spec.hybrid)
        draw = torch.from_numpy(action.noise(parameters.shape[:-1], rng))
        return np.asarray(action.relax(torch.from_numpy(parameters), draw).numpy())
    if spec.kind == "box":
        mean, log_std = np.split(parameters, 2, axis=-1)
        noise = rng.standard_normal(mean.shape, dtype=np.float32)
        drawn: Array = mean + np.exp(log_std) * noise
        return np.tanh(drawn) if spec.squash == "tanh" else drawn
    drawn_exponential = rng.standard_exponential(parameters.shape, dtype=np.float32)
    gumbel = -np.log(np.maximum(drawn_exponential, np.finfo(np.float32).tiny))  # a draw can be exactly 0
    return greedy_actions(spec, parameters + gumbel)
