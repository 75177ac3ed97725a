"""What of a scenario may be measured: how a file's numbers are to be read, and how measured quantities become a trace.

A scenario of this project says it in `envs/scenarios/<name>/measured.py`, in one object `MEASURED`; another one in the
class attribute `measured = "module:OBJECT"`; one that says nothing takes trace files in its own units.
"""

from __future__ import annotations

import dataclasses
import importlib
import importlib.util
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from edgemarl.envs.arrays import Array
from edgemarl.envs.scenario import Scenario
from edgemarl.envs.targets import load_target
from edgemarl.envs.trace import trace_fields

SHIPPED = "edgemarl.envs.scenarios."


@dataclass(frozen=True)
class Link:
    """What turns a path gain into the signal-to-noise ratio and the rate of a radio link.

    Attributes:
        power_w: transmit power.
        noise_w: noise power in the band.
        bandwidth_hz: the band.
        snr_gap: SNR gap to capacity, >= 1.
        per_w: the trace holds gain over noise power (1/W), not the path gain.
        path_gain: mean path gain at a distance in m, where the scenario has a law.
    """

    power_w: float
    noise_w: float
    bandwidth_hz: float
    snr_gap: float = 1.0
    per_w: bool = False
    path_gain: Callable[[Any], Array] | None = None


@dataclass(frozen=True)
class Quantity:
    """A row of the table of what may be measured.

    Attributes:
        meaning: what is measured, in words.
        enters: where it enters the scenario.
        absent: what is drawn where the file lacks it.
    """

    meaning: str
    enters: str
    absent: str


def _nothing(scenario: Any, given: Mapping[str, Array]) -> dict[str, Any]:
    return {}


@dataclass(frozen=True)
class Measured:
    """What of a scenario may be measured.

    Attributes:
        quantities: field of the trace -> what it is.
        meaning: config fields that give a trace's numbers their meaning: a file made under other values is not played.
        step_s: seconds of one step, from the config.
        slots_in_step: slots of one step, where a field has an entry for each (`task_arrivals`).
        links: field of the trace -> its radio link, from the config.
        arrivals: field that counts tasks, or "" if every agent has its tasks anyway.
        counts_max: tasks that one entry of `arrivals` holds at most, or None.
        population: config fields that make the network as large as the number of agents that were measured.
        fitted: config fields that follow from measured fields, such as a mean rate, from which references plan.
    """

    quantities: Mapping[str, Quantity] = dataclasses.field(default_factory=dict)
    meaning: tuple[str, ...] = ()
    step_s: Callable[[Any], float] = lambda config: float(getattr(config, "slot_s", 1.0))
    slots_in_step: Callable[[Any], int] = lambda config: 1
    links: Mapping[str, Callable[[Any], Link]] = dataclasses.field(default_factory=dict)
    arrivals: str = ""
    counts_max: int | None = None
    population: Callable[[Any, str, int], dict[str, Any]] = lambda config, axis, count: {axis: count}
    fitted: Callable[[Any, Mapping[str, Array]], dict[str, Any]] = _nothing


def measured(scenario: type[Scenario]) -> Measured:
    """What of a scenario may be measured.

    Raises:
        ValueError: the class names an object that is not there.
    """
    given = getattr(scenario, "measured", "")
    if given:
        declared = load_target(given, "measured")
        if not isinstance(declared, Measured):
            raise ValueError(f"measured '{given}' is a {type(declared).__name__}, must be a Measured")
        return declared
    for cls in scenario.__mro__:
        package = cls.__module__.rpartition(".")[0]
        if package.startswith(SHIPPED) and importlib.util.find_spec(f"{package}.measured"):
            shipped: Measured = importlib.import_module(f"{package}.measured").MEASURED
            return shipped
    has_slot = any(f.name == "slot_s" for f in dataclasses.fields(scenario.config_type))
    return Measured(meaning=("slot_s",) if has_slot else ())


def meaning_fields(scenario: type[Scenario]) -> tuple[str, ...]:
    """Config fields without which a trace's numbers cannot be read: what its axes are long by, and its units."""
    fields = [f.name for f in dataclasses.fields(scenario.config_type)]
    axes = [axis for meta in trace_fields(scenario.trace_type).values() for axis in meta["axes"]]
    wanted = {*axes, *measured(scenario).meaning}
    return tuple(name for name in fields if name in wanted)
