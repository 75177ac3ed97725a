"""The configuration of a training run: the fields of every run and the settings of its algorithm."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from typing import Any

from edgemarl.envs.checks import checked_kind
from edgemarl.envs.config import config_class, quoted, unknown_name
from edgemarl.marl.algorithms.base import Run
from edgemarl.marl.algorithms.registry import make_algorithm, owners, setting_names
from edgemarl.marl.algorithms.settings import RunFields
from edgemarl.marl.rllib.measured import Stretches


@config_class
class _Config(RunFields):
    """A run's fields and, under `settings`, its algorithm's."""

    settings: Any = None


class TrainConfig(_Config):
    """A training run. Settings of the algorithm may be given beside the run's own fields, or as `settings`.

    `TrainConfig(algorithm="ppo", agent_steps=10**6, lr=3e-4)`; defaults are the recipe of docs/algorithms.md.

    Raises:
        ValueError: a field that neither a run nor the algorithm has, a value of wrong type or outside its range.
    """

    def __init__(self, **values: Any) -> None:
        for name in ("algorithm", "scenario"):
            if not isinstance(values.get(name, ""), str):
                raise ValueError(f"{name} = {quoted(values[name])} is not legal: must be a name")
        algorithm = make_algorithm(values.get("algorithm", RunFields().algorithm))
        settings = values.pop("settings", None)
        if settings is not None and not isinstance(settings, Mapping | algorithm.Settings):
            raise ValueError(f"settings = {quoted(settings)} is not legal: must map names of settings to values")
        given = dict(settings or {}) if isinstance(settings, Mapping | None) else dataclasses.asdict(settings)
        own = {name: value for name, value in values.items() if name in RUN_FIELDS}
        given.update({name: value for name, value in values.items() if name not in RUN_FIELDS})
        known = setting_names(algorithm)
        for name in given:
            if name not in known:
                where = owners(name)
                if where:
                    raise ValueError(f"{algorithm.name} has no setting '{name}'; it is one of {', '.join(where)}")
                raise ValueError(unknown_name("training field", name, [*RUN_FIELDS, *known]))
        super().__init__(**own, settings=algorithm.Settings(**given))
        if self.iteration_steps is not None:
            cells = self._cells_of_an_iteration()
            if own.get("cells", cells) != cells:
                raise ValueError(
                    f"cells = {self.cells} and iteration_steps = {self.iteration_steps} are not legal together: an "
                    f"iteration of as many agent-steps has {cells} cells of {self.slots} slots; give one of them"
                )
            object.__setattr__(self, "cells", cells)

    def _cells_of_an_iteration(self) -> int:
        scenario = self.make_scenario()
        agents = 1 if self.joint else sum(r.count for name, r in scenario.roles.items() if name not in self.fixed)
        nearest = round((self.iteration_steps or 0) / (self.slots * max(agents, 1)))
        return min(max(nearest, 1), CELLS_MAX)

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON, from which `from_dict` makes the same run."""
        return dataclasses.asdict(self)

    def flat(self) -> dict[str, Any]:
        """Plain JSON values of all fields and settings side by side: two runs with equal ones are the same run."""
        values = self.to_dict()
        settings = values.pop("settings")
        flat: dict[str, Any] = json.loads(json.dumps({**values, **settings}))
        return flat

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> TrainConfig:
        """A run from `to_dict`, also from runs before 0.2, whose settings stood beside the run's fields.

        Raises:
            ValueError: as the constructor.
        """
        if not isinstance(values.get("algorithm"), str):
            raise ValueError(f"algorithm = {quoted(values.get('algorithm'))} is not legal: must be a name")
        if not isinstance(values.get("settings", {}), Mapping):
            raise ValueError(f"settings = {quoted(values['settings'])} is not legal: must map names to values")
        values = {**values, "reward": RENAMED_REWARDS.get(str(values.get("reward")), values.get("reward"))}
        if "settings" in values:
            return cls(**values)
        known = setting_names(make_algorithm(values["algorithm"]))
        # None stood for the recipe's value, and every field of every algorithm was listed
        kept = {n: v for n, v in values.items() if n in RUN_FIELDS or (n in known and v is not None)}
        kept.update({name: None for name in ("gradient_clip",) if values.get(name, 0.0) is None})
        return cls(**kept)


CELLS_MAX = 64
"""Largest number of cells that `iteration_steps` leads to."""
RENAMED_REWARDS = {"cell": "group"}
"""Reward modes of runs before 0.2 -> what they are called now."""
RUN_FIELDS = tuple(field.name for field in dataclasses.fields(RunFields))
"""Fields of every run."""


def resolve(config: TrainConfig) -> Run:
    """The run of a configuration, checked.

    Raises:
        ValueError: what the fields' own checks cannot see, such as an algorithm that cannot decide a role's actions.
    """
    checked_kind("config", config, TrainConfig, "TrainConfig(agent_steps=100_000)")
    algorithm = make_algorithm(config.algorithm)
    run = Run(config, algorithm, config.settings, config.make_scenario())
    algorithm.check(run)
    if config.trace:
        Stretches(run.scenario, config.trace, config.train_share, config.trace_ignore, config.trace_digest)
    return run
