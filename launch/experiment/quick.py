"""The short form of a preset: fewer networks, seeds, points and slots, smaller training budgets."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from edgemarl.envs.registry import make_scenario
from edgemarl.launch.experiment.plan import Learned, Preset, Sweep
from edgemarl.launch.recipes import resolved

NETWORKS, POINTS, BUDGET_SHARE, SLOTS_SHARE = 3, 3, 0.1, 0.5
"""Most networks and points of a sweep; shares of the training budget and of the slots that are left."""
TOLD = (
    "SHORT FORM: at most {networks} networks and {points} points of a sweep, one training seed, a tenth of every "
    "training budget, half the slots. Learners are not done: what they cost here says that the figure "
    "runs, not what it shows."
)


def quick_preset(preset: Preset) -> Preset:
    """The preset at a fraction of its cost; its title and description say so.

    Raises:
        ValueError: an unknown recipe.
    """
    slots = preset.slots or make_scenario(preset.scenario, **preset.set).horizon
    short = max(round(SLOTS_SHARE * slots), min(slots, preset.warmup + preset.window))
    told = TOLD.format(networks=NETWORKS, points=POINTS)
    return preset.model_copy(
        update={
            "title": f"{preset.title} (short form)",
            "description": f"{told} {preset.description}",
            "networks": min(preset.networks, NETWORKS),
            "slots": short,
            "sweep": None if preset.sweep is None else _fewer_points(preset.sweep),
            "learned": {name: _shorter(preset.scenario, learned) for name, learned in preset.learned.items()},
            "calculations": [],
        }
    )


def _shorter(scenario: str, learned: Learned) -> Learned:
    """One seed, a part of the budget, and of the random steps before it."""
    from edgemarl.marl.training.config import TrainConfig

    fields = resolved(scenario, learned.train)
    budget = max(1, round(BUDGET_SHARE * int(fields.get("agent_steps", TrainConfig().agent_steps))))
    minutes = fields.get("minutes")
    early = {} if minutes is None else {"minutes": BUDGET_SHARE * minutes}
    random_steps = getattr(TrainConfig(scenario=scenario, **fields).settings, "random_steps", 0)
    if random_steps:  # else they are most of what is left, and hardly anything is learned
        early["random_steps"] = round(BUDGET_SHARE * random_steps)
    return Learned(training_seeds=1, train={**learned.train, "agent_steps": budget, **early})


def _fewer_points(sweep: Sweep) -> Sweep:
    """The ends and the middle."""
    kept = ends_and_middle(len(sweep.values))
    also = {name: _at(values, kept) for name, values in sweep.also.items()}
    return sweep.model_copy(update={"values": _at(sweep.values, kept), "also": also})


def ends_and_middle(count: int) -> list[int]:
    """Indices of the first, the middle and the last of so many points."""
    return sorted({0, (count - 1) // 2, count - 1})


def _at(values: Sequence[Any], indices: Sequence[int]) -> list[Any]:
    return [values[i] for i in indices]
