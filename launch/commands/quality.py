"""`bench --only quality`: seconds of one core until a policy of `sequential_offloading` is near the reference."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from typing import Any

SIDES = {
    "recipe": ("ours", "ppo", "ppo_many"),
    "plain": ("ours", "ppo_plain", "ppo_plain"),
    "rllib": ("rllib", "ppo_plain", "ppo_plain"),
}
"""Side -> runner, recipe up to `MANY` devices, recipe above.

RLlib's own runner can run the plain recipe only: what critics foresee and prices that a server broadcasts need ours.
"""
MANY = 40
AGENT_STEPS = 2_000_000
"""Budget that the schedules of the learning rate are for."""


@dataclass(frozen=True)
class QualityOptions:
    """Sizes, minutes of processor time after which a side gives up, the sides, and how many seeds each is trained with.

    Raises:
        ValueError: no or unknown sides, sizes below 1, no time.
    """

    devices: tuple[int, ...] = (20, 100)
    minutes: float = 10.0
    sides: tuple[str, ...] = tuple(SIDES)
    training_seeds: int = 1

    def __post_init__(self) -> None:
        if not self.devices or min(self.devices) < 1:
            raise ValueError(f"--devices = {self.devices} is not legal: must be integers >= 1 with commas")
        if not (self.minutes > 0.0 and math.isfinite(self.minutes)):
            raise ValueError(f"--minutes = {self.minutes:g} is not legal: must be minutes > 0")
        if self.training_seeds < 1:
            raise ValueError(f"--training-seeds = {self.training_seeds} is not legal: must be an integer >= 1")
        unknown = [side for side in self.sides if side not in SIDES]
        if unknown or not self.sides:
            raise ValueError(f"--sides: '{', '.join(unknown)}' is not legal: must be of {', '.join(SIDES)}")


def quality_options(
    devices: str | None, minutes: float | None, sides: str | None, training_seeds: int | None = None
) -> QualityOptions | None:
    """The options of the command line, or None where none is given."""
    given: dict[str, Any] = {}
    if devices is not None:
        try:
            given["devices"] = tuple(int(size) for size in devices.split(","))
        except ValueError:
            raise ValueError(f"--devices = {devices} is not legal: must be integers >= 1 with commas") from None
    if minutes is not None:
        given["minutes"] = minutes
    if sides is not None:
        given["sides"] = tuple(side.strip() for side in sides.split(","))
    if training_seeds is not None:
        given["training_seeds"] = training_seeds
    return QualityOptions(**given) if given else None


def side_settings(side: str, devices: int) -> tuple[str, dict[str, Any]]:
    """The runner of a side and its run's settings as plain values."""
    from edgemarl.launch.recipes import resolved
    from edgemarl.marl.training.config import TrainConfig

    runner, few, many = SIDES[side]
    name = "sequential_offloading"
    fields = resolved(name, {"recipe": few if devices <= MANY else many, "set": {"num_devices": devices}})
    config = TrainConfig(**{"scenario": name, **fields, "agent_steps": AGENT_STEPS})
    settings: dict[str, Any] = json.loads(json.dumps(config.to_dict()))
    return runner, settings


def quality_speeds(options: QualityOptions) -> dict[str, float]:
    """Keys `quality_{1,2}_percent_s_SIDE_DEVICES`, and `quality_{1,2}_percent_times_as_soon_DEVICES`: RLlib's time over
    the recipe's. Of several seeds the slowest counts; a side that was not so near within the minutes with one of them
    has no key.
    """
    from edgemarl.marl.benchmarks.quality import seconds_to

    times: dict[str, float] = {}
    for size in options.devices:
        for side in options.sides:
            runner, settings = side_settings(side, size)
            seeds = [
                seconds_to({**settings, "seed": seed}, runner, options.minutes)
                for seed in range(options.training_seeds)
            ]
            for share in seeds[0]:
                taken_s = [taken for times_to in seeds if (taken := times_to[share]) is not None]
                if len(taken_s) == len(seeds):
                    times[f"quality_{round(100 * share)}_percent_s_{side}_{size}"] = max(taken_s)
        for percent in (1, 2):
            ours, theirs = (times.get(f"quality_{percent}_percent_s_{side}_{size}") for side in ("recipe", "rllib"))
            if ours is not None and theirs is not None:
                times[f"quality_{percent}_percent_times_as_soon_{size}"] = theirs / ours
    return times
