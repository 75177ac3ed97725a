"""`bench --only quality`: seconds of one core until a policy is near the reference, of every scenario."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

MAIN = "sequential_offloading"
SIDES = {
    "recipe": ("ours", "ppo", "ppo_many"),
    "plain": ("ours", "ppo_plain", "ppo_plain"),
    "rllib": ("rllib", "ppo_plain", "ppo_plain"),
}
"""Side of `sequential_offloading` -> runner, recipe up to `MANY` devices, recipe above.

RLlib's own runner can run the plain recipe only: what critics foresee and prices that a server broadcasts need ours.
In the other scenarios a side is the name of a recipe, through our runner.
"""
MANY = 40
AGENT_STEPS = 2_000_000
"""Budget of `sequential_offloading` that the schedules of the learning rate are for; elsewhere the recipe's own."""


@dataclass(frozen=True)
class QualityOptions:
    """What is trained until it is near what.

    Attributes:
        scenario: its name.
        devices: sizes; none: the scenario's own, of `sequential_offloading` 20 and 100.
        minutes: processor time after which a side gives up.
        sides: of `SIDES`, all by default; in other scenarios names of recipes.
        training_seeds: how many trainings of each, of which the slowest counts.
        within: shares above the reference that are asked for.
        against: controller to compare with; the scenario's reference by default.
        fields: of the scenario's config, over those of the side and the size.

    Raises:
        ValueError: unknown scenario, sides or controller, sizes below 1, no time, no share.
    """

    scenario: str = MAIN
    devices: tuple[int, ...] = ()
    minutes: float = 10.0
    sides: tuple[str, ...] = ()
    training_seeds: int = 1
    within: tuple[float, ...] = (0.02, 0.01)
    against: str | None = None
    fields: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        from edgemarl.agents.registry import make_policy
        from edgemarl.envs.registry import make_scenario
        from edgemarl.launch.recipes import recipes

        scenario = make_scenario(self.scenario, **self.fields)
        if self.devices and min(self.devices) < 1:
            raise ValueError(f"--devices = {self.devices} is not legal: must be integers >= 1 with commas")
        if not (self.minutes > 0.0 and math.isfinite(self.minutes)):
            raise ValueError(f"--minutes = {self.minutes:g} is not legal: must be minutes > 0")
        if self.training_seeds < 1:
            raise ValueError(f"--training-seeds = {self.training_seeds} is not legal: must be an integer >= 1")
        known = list(SIDES) if self.scenario == MAIN else list(recipes(self.scenario))
        unknown = [side for side in self.sides if side not in known]
        if unknown:
            raise ValueError(f"--sides: '{', '.join(unknown)}' is not legal: must be of {', '.join(known)}")
        if self.scenario != MAIN and not self.sides:
            raise ValueError(f"--sides: none is not legal for {self.scenario}: must be of {', '.join(known)}")
        if not self.within:
            raise ValueError("--within: none is not legal: must be percent above the reference, such as 2,1")
        if self.against is not None:
            make_policy(scenario, self.against)

    @property
    def sizes(self) -> Sequence[int | None]:
        """Numbers of devices; None is the scenario's own."""
        return self.devices or ((20, 100) if self.scenario == MAIN else (None,))


def quality_options(
    devices: str | None,
    minutes: float | None,
    sides: str | None,
    training_seeds: int | None = None,
    scenario: str | None = None,
    within: str | None = None,
    against: str | None = None,
    settings: Sequence[str] = (),
) -> QualityOptions | None:
    """The options of the command line, or None where none is given.

    Raises:
        ValueError: what `QualityOptions` refuses, words that are no numbers.
    """
    from edgemarl.launch.commands.train import share_of_percent
    from edgemarl.launch.experiment.plan import parse_overrides

    given: dict[str, Any] = {
        "minutes": minutes, "training_seeds": training_seeds, "scenario": scenario, "against": against,
    }  # fmt: skip
    if devices is not None:
        try:
            given["devices"] = tuple(int(size) for size in devices.split(","))
        except ValueError:
            raise ValueError(f"--devices = {devices} is not legal: must be integers >= 1 with commas") from None
    if sides is not None:
        given["sides"] = tuple(side.strip() for side in sides.split(","))
    if within is not None:
        given["within"] = tuple(share_of_percent(word.strip(), "--within") for word in within.split(","))
    if settings:
        given["fields"] = dict(parse_overrides(settings))
    given = {name: value for name, value in given.items() if value is not None}
    return QualityOptions(**given) if given else None


def side_settings(
    side: str, devices: int | None, scenario: str = MAIN, given: Mapping[str, Any] | None = None
) -> tuple[str, dict[str, Any]]:
    """The runner of a side and its run's settings as plain values; a number of devices brings what they need.

    `given` are fields of the scenario's config, which come before those of the side and the size.
    """
    from edgemarl.launch.experiment.plan import fields_at_size
    from edgemarl.launch.recipes import resolved
    from edgemarl.marl.training.config import TrainConfig

    if scenario == MAIN:
        assert devices is not None
        runner, few, many = SIDES[side]
        own = {"recipe": few if devices <= MANY else many, "set": {"num_devices": devices}}
        fields = {**resolved(scenario, own), "agent_steps": AGENT_STEPS}
    else:
        runner, fields = "ours", resolved(scenario, {"recipe": side})
        if devices is not None:
            own = fields.get("set", {})
            fields["set"] = {**own, **fields_at_size(scenario, own, devices)}
    fields["set"] = {**fields.get("set", {}), **(given or {})}
    config = TrainConfig(**{"scenario": scenario, **fields})
    settings: dict[str, Any] = json.loads(json.dumps(config.to_dict()))
    return runner, settings


def quality_speeds(options: QualityOptions) -> dict[str, float]:
    """Keys `quality_{2,1}_percent_s_SIDE_DEVICES`, in other scenarios `.._s_SCENARIO_SIDE[_DEVICES]`, and
    `quality_{2,1}_percent_times_as_soon_DEVICES`: RLlib's time over the recipe's.

    Of several seeds the slowest counts; a side that was not so near within the minutes with one of them has no key.
    """
    times: dict[str, float] = {}
    for size in options.sizes:
        for side in options.sides or tuple(SIDES):
            of = side if options.scenario == MAIN else f"{options.scenario}_{side}"
            for share, taken_s in _slowest(options, side, size).items():
                times[f"quality_{100 * share:g}_percent_s_{of}{'' if size is None else f'_{size}'}"] = taken_s
        for share in options.within:
            key = f"quality_{100 * share:g}_percent"
            ours, theirs = (times.get(f"{key}_s_{side}_{size}") for side in ("recipe", "rllib"))
            if ours is not None and theirs is not None:
                times[f"{key}_times_as_soon_{size}"] = theirs / ours
    return times


def _slowest(options: QualityOptions, side: str, size: int | None) -> dict[float, float]:
    """Share above the reference -> seconds of the slowest seed; not the shares that one of them did not reach."""
    from edgemarl.marl.benchmarks.quality import seconds_to

    runner, settings = side_settings(side, size, options.scenario, options.fields)
    seeds = [
        seconds_to({**settings, "seed": seed}, runner, options.minutes, options.within, options.against)
        for seed in range(options.training_seeds)
    ]
    taken = {share: [times[share] for times in seeds] for share in options.within}
    return {share: max(s for s in all_s if s is not None) for share, all_s in taken.items() if None not in all_s}
