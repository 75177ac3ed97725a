"""The trace file of an experiment: the network that it is of, the part of it that is played, what of it is measured."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from edgemarl.envs.config import names_of_part
from edgemarl.envs.registry import scenario_class, scenario_names
from edgemarl.envs.scenario import Scenario
from edgemarl.marl.evaluation.series import INDEPENDENT, longest_memory, of_trace
from edgemarl.marl.evaluation.stretches import part, stretches, training_slots
from edgemarl.marl.evaluation.tables import file_digest, read_about
from edgemarl.marl.evaluation.traces import LoadedTrace, check_meaning, load_trace

FEW_NETWORKS = 10
"""Networks below which a bootstrap interval is rough."""


@dataclasses.dataclass(frozen=True)
class TraceFile:
    """A trace file as the command line names it.

    Attributes:
        path: the file, or the folder of a partitioned table.
        ignore: columns to leave out.
        cells_from: slots of the stretches that are played as networks of their own; None plays the file's cells.
        train_share: share of the slots, from the first on, that are for training and not played; None plays all.
    """

    path: Path
    ignore: tuple[str, ...] = ()
    cells_from: int | None = None
    train_share: float | None = None

    def digest(self) -> str:
        """A fingerprint of what the file holds and of how it is read."""
        how = [self.ignore, self.cells_from, self.train_share]
        return hashlib.sha256(json.dumps([how, file_digest(self.path)]).encode()).hexdigest()


@dataclasses.dataclass(frozen=True)
class PlayedTrace:
    """What is played of a trace file, and what the report says of it.

    Attributes:
        loaded: the file, its trace cut to what is played.
        file_cells, file_slots: size of the whole file.
        kept_apart: slots at its beginning that are for training and not played.
        doubts: what speaks against the intervals of a comparison on it, in sentences.
    """

    loaded: LoadedTrace
    file_cells: int
    file_slots: int
    kept_apart: int = 0
    doubts: tuple[str, ...] = ()

    def summary(self) -> dict[str, Any]:
        """Plain values for JSON."""
        loaded = self.loaded
        return {
            "measured": list(loaded.measured), "derived": list(loaded.derived), "drawn": list(loaded.sampled),
            "ignored": list(loaded.ignored), "differences": list(loaded.differences),
            "file": {"cells": self.file_cells, "slots": self.file_slots},
            "networks": loaded.trace.cells, "slots": loaded.trace.slots, "training_slots": self.kept_apart,
        }  # fmt: skip

    def sentences(self) -> list[str]:
        """Which fields are measured and which are drawn, which part of the file is played, what differs."""
        loaded, trace = self.loaded, self.loaded.trace
        drawn = "config" in loaded.about and "import" not in loaded.about  # `trace sample` wrote it
        of_fields = [
            f"{', '.join(names)} {how}"
            for names, how in (
                (loaded.measured, "from the file" if drawn else "measured (from the file)"),
                (loaded.derived, "derived from it"),
                (loaded.sampled, "drawn"),
            )
            if names
        ]
        said = ["; ".join(of_fields)]
        if (trace.cells, trace.slots) != (self.file_cells, self.file_slots):
            said.append(
                f"{trace.cells} network{'s' * (trace.cells != 1)} of {trace.slots} slots out of a file of "
                f"{self.file_cells} x {self.file_slots} slots"
            )
        if self.kept_apart:
            said.append(f"its first {self.kept_apart} slots are for training and not played")
        if trace.cells == 1:
            said.append("one network gives no interval: --cells-from SLOTS plays every stretch of the file as one")
        if loaded.ignored:
            said.append(f"left out: {', '.join(loaded.ignored)}")
        if loaded.differences:
            said.append(f"the file was made in a network with {', '.join(loaded.differences)}")
        return said


def file_scenario(path: Path) -> str | None:
    """Name of the scenario that a file says it is of; only a known one, since a name may stand for code."""
    name = read_about(path).get("scenario")
    return name if name in scenario_names() else None


def file_network(path: Path, scenario: str) -> dict[str, Any]:
    """Config fields, other than default, of the network that a trace file is of; none for a foreign file.

    What agents see and what a controller brings along is not the network's.

    Raises:
        ValueError: no such file, a file of another scenario, a config that the scenario does not take.
    """
    about, cls = read_about(path), scenario_class(scenario)
    if about.get("scenario", cls.name) != cls.name:
        raise ValueError(f"{path} is a trace of scenario '{about['scenario']}', not of '{cls.name}'")
    others = names_of_part(cls.config_type, "interface", "controller")
    given = {n: v for n, v in about.get("config", {}).items() if n not in others}
    usual = json.loads(json.dumps(dataclasses.asdict(cls.config_type())))
    fields = {name: value for name, value in given.items() if name not in usual or value != usual[name]}
    try:
        cls.config_type(**fields)
    except ValueError as error:
        raise ValueError(f"{path}, what the file says of its network: {str(error)[:300]}") from None
    return fields


def played_trace(
    file: TraceFile, scenarios: Mapping[str, Scenario], seed: int, slots: int | None, cells: int | None
) -> PlayedTrace:
    """Load what is played.

    Args:
        file: the trace file.
        scenarios: label -> scenario of each point; the file must fit all.
        seed: of what the file lacks.
        slots: steps that are played of each network; None plays all.
        cells: networks that are played; None plays all.

    Raises:
        ValueError: a file that does not fit, more slots or networks than it holds.
    """
    first, *others = scenarios.values()
    loaded = load_trace(file.path, first, seed, file.ignore)
    for scenario in others:
        check_meaning(file.path, loaded.about, scenario)
        scenario.check_trace(loaded.trace)
    trace = loaded.trace
    size = trace.cells, trace.slots
    if file.train_share is not None:
        trace = _rest(file, trace)
    doubts: tuple[str, ...] = ()
    if file.cells_from is not None:
        whole, trace = trace, stretches(trace, file.cells_from)
        doubts = _doubts(file, whole, trace.cells)
    if slots is not None:
        if slots > trace.slots:
            raise ValueError(f"slots = {slots} is not legal: {file.path} holds {trace.slots} slots")
        trace = trace.shortened(slots)
    if cells is not None:
        if cells > trace.cells:
            raise ValueError(
                f"networks = {cells} is not legal: {file.path} holds {trace.cells}"
                + ("" if file.cells_from else "; --cells-from SLOTS plays every stretch as one")
            )
        trace = trace.select(slice(0, cells))
    apart = 0 if file.train_share is None else training_slots(size[1], file.train_share)
    return PlayedTrace(dataclasses.replace(loaded, trace=trace), *size, apart, doubts)


def _doubts(file: TraceFile, whole: Any, networks: int) -> tuple[str, ...]:
    """What speaks against so many stretches of a trace as networks of their own: too short, too few."""
    field, memory_slots = longest_memory(of_trace(whole))
    said = []
    if file.cells_from is not None and file.cells_from < min(INDEPENDENT * memory_slots, whole.slots):
        said.append(
            f"a network of {file.cells_from} slots is shorter than ten autocorrelation times"
            + (f" of {field} ({memory_slots:.0f} slots each)" if field else " of one slot, the least there is")
            + ": networks resemble their neighbours, the intervals are too narrow"
        )
    if networks < FEW_NETWORKS:
        said.append(
            f"{networks} network{'s' * (networks != 1)} give a rough interval, or none: fewer than {FEW_NETWORKS}"
        )
    if said:
        said[-1] += f" (edgemarl trace describe {file.path} proposes a length)"
    return tuple(said)


def _rest(file: TraceFile, trace: Any) -> Any:
    """What of a trace is not for training."""
    share = file.train_share or 0.0
    first = training_slots(trace.slots, share)
    if not 0.0 < share < 1.0 or trace.slots - first < 1:
        raise ValueError(f"train-share = {share:g} of {trace.slots} slots is not legal: must be > 0 and leave a slot")
    return dataclasses.replace(trace, **part(trace, first, trace.slots - first))


def check_apart(file: TraceFile, slots: int, runs: Sequence[Path]) -> None:
    """Raise `ValueError` if a policy is to be played on slots of the file that it was trained on."""
    from edgemarl.marl.training.trained import saved_policies  # PyTorch takes a second to import: only for runs

    own = file_digest(file.path)
    for run in runs:
        trained = next(iter(saved_policies(run).policies.values())).information["train"]
        if trained.get("trace_digest") == own and (file.train_share or 0.0) < trained["train_share"]:
            share = trained["train_share"]
            raise ValueError(
                f"{run} was trained on the first {training_slots(slots, share)} of {slots} slots of {file.path}: "
                f"--train-share {share:g} leaves them out"
            )


def field_origin(loaded: LoadedTrace, field: str) -> str:
    """Where a field's values come from: "file", "derived" or "drawn"."""
    return "file" if field in loaded.measured else "derived" if field in loaded.derived else "drawn"
