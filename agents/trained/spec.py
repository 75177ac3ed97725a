"""Everything that rebuilds a policy network, as plain values."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from typing import Any, Literal

import gymnasium
import numpy as np

ActionKind = Literal["box", "discrete", "multidiscrete", "hybrid"]
Activation = Literal["tanh", "relu"]
GRID_POINTS_MAX = 1000
"""Most points of a grid that stands in for a Box action; each is an output of the network."""


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
        squash: how a Box action is kept in [-1, 1]: "clip" (a Gaussian, cut), "tanh" (a squashed Gaussian), or
            "tanh_late" (the action is the draw, whose density is the Gaussian's; the environment gets its tanh).
        grid: points per entry of a Box that is decided as one discrete choice among all grid points; evenly spaced,
            bounds included, the last entry changes fastest.
        deterministic: a Box policy without a standard deviation (DDPG); what explores belongs to its learner.
        output_gain: gain of the last layer at the start.
        hybrid: fields of `HybridAction` for a joint action of discrete and continuous parts.
        price: fields of `edgemarl.agents.trained.priced_network.PriceSpec` where the network sets its own price.
        parts: count, entries, groups, common of `envs.scenario.Parts` for a network that treats the row's parts alike.
        pool: entries at the end of the row that hold the pooled rows of all agents; a fresh policy does not use them.
        sets: one network that decides for all agents of a cell from the set of their rows (Deep Sets).
        groups: fields of `envs.capabilities.ActionGroups` for a joint action whose groups are treated alike.
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
    squash: Literal["clip", "tanh", "tanh_late"] = "clip"
    grid: tuple[int, ...] = ()
    deterministic: bool = False
    output_gain: float = 0.01
    price: dict[str, Any] | None = None
    hybrid: dict[str, Any] | None = None
    parts: tuple[int, ...] = ()
    pool: int = 0
    sets: bool = False
    groups: dict[str, Any] | None = None

    @property
    def inputs(self) -> int:
        """Numbers that go into the first layer: the row, and the indicators of its levels."""
        return self.observation_size + sum(values for _, values in self.one_hot)

    @property
    def of_cells(self) -> bool:
        """Whether the network takes the rows (..., n, d) of a cell's agents together, not an agent's row alone."""
        return bool(self.agents) or self.sets

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
