"""What an experiment is: presets in YAML, checked, and what the command line changes in them."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Iterable, Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import Annotated, Any, Literal

import pydantic
from pydantic import BaseModel, ConfigDict, Field

from edgemarl.agents.registry import is_controller, playbook_of
from edgemarl.envs.config import cut, quoted, unknown_name, whole
from edgemarl.envs.reading import exists, is_file, parse_yaml, read_mapping
from edgemarl.envs.registry import make_scenario, scenario_class
from edgemarl.envs.scenario import Scenario
from edgemarl.launch.experiment.played import TraceFile, file_network

NETWORKS_MAX, SLOTS_MAX, SEEDS_MAX, POINTS_MAX = 100_000, 10_000_000, 1000, 1000
PLAYED_MAX = 10**9
"""Most slots of all networks together."""
SEED_MAX = 2**31 - 1
Count = Annotated[int, pydantic.BeforeValidator(whole)]
"""A whole number, which may be written as 1e6."""
FigureKind = Literal["bars", "curves", "sweep", "tradeoff", "scaling", "frontier", "training"]


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Sweep(_Model):
    """A config field that takes several values; every point is a comparison of its own.

    `also` names further fields that change along with it, with as many values. With `at_size` the values are numbers of
    devices, and everything that grows with the network follows the scenario's playbook.
    """

    field: str
    values: list[Any] = Field(min_length=1, max_length=POINTS_MAX)
    label: str = ""
    also: dict[str, list[Any]] = {}
    at_size: bool = False

    @pydantic.model_validator(mode="after")
    def _same_length(self) -> Sweep:
        for name, values in self.also.items():
            if len(values) != len(self.values):
                raise ValueError(f"also.{name} has {len(values)} values, must have {len(self.values)}")
        return self


class FigureSpec(_Model):
    """A figure to draw.

    kind: "bars" (a controller each), "curves" (the cost over time), "sweep" (a line per controller over the sweep),
    "tradeoff" (cost against signalling bytes), "scaling" (a sweep panel for the cost and for every column, log axes),
    "training" (learning curves of the learned controllers at the first point), "frontier" (one metric against another,
    a line per controller through the points of a sweep).
    metric: what it shows; the scenario's cost by default; of "training" a column of `curve.parquet`.
    against: what a frontier shows it against.
    without: controllers that it leaves out (not of "scaling", "training"), such as one whose cost dwarfs all others.
    """

    kind: FigureKind
    metric: str = ""
    against: str = ""
    without: list[str] = []
    caption: str = ""


class Calculation(_Model):
    """An exact calculation: a function of the scenario's config over a range of one argument.

    function: "module:function" of agents or marl, which returns name -> number; columns: name -> heading of what is
    shown; percent: names that are shares.
    """

    title: str
    function: str
    argument: str
    values: list[float] = Field(min_length=1, max_length=POINTS_MAX)
    columns: dict[str, str] = Field(min_length=1)
    percent: list[str] = []


class Learned(_Model):
    """A controller that is trained before it is compared: with how many seeds, and the fields of its training config.

    `train` may name a recipe of the scenario (`recipe: NAME`); its other fields win. `at` are the values of the sweep
    at which it is trained and compared, the first one among them; none: all.
    """

    training_seeds: Count = Field(1, ge=1, le=SEEDS_MAX)
    train: dict[str, Any] = {}
    at: list[Any] = []

    def is_at(self, value: Any) -> bool:
        """Whether it plays at a value of the sweep; None is the point of an experiment without one."""
        return not self.at or value is None or value in self.at


class Exchange(_Model):
    """Two controllers of a preset, of which the second hears one thing more: what that buys."""

    of: str
    without: str
    hearing: str


class Quick(_Model):
    """A preset's short form, for a first answer: sizes, networks, and the training budget of each learner."""

    sizes: list[int] = Field(min_length=1)
    networks: int = Field(3, ge=1)
    agent_steps: int = Field(ge=1)


class Preset(_Model):
    """One experiment.

    Attributes:
        set: config fields that differ from the scenario's defaults.
        networks: cells, each an independently drawn network.
        slots: steps of a trace; default: the scenario's horizon.
        warmup: slots left out of the means.
        window: slots per point of a learning curve.
        controllers: names of the registry, of `learned`, or paths of training runs.
        baseline, reference: the ends of the gap.
        calculations: exact calculations beside the simulation, on the first point's network.
        exchanges: pairs of controllers that say what a message buys.
        quick: its short form in a study.
    """

    title: str
    description: str = ""
    scenario: str
    set: dict[str, Any] = {}
    sweep: Sweep | None = None
    networks: Count = Field(5, ge=1, le=NETWORKS_MAX)
    slots: Count | None = Field(None, ge=1, le=SLOTS_MAX)
    warmup: Count = Field(0, ge=0, le=SLOTS_MAX)
    window: Count = Field(50, ge=1, le=SLOTS_MAX)
    controllers: list[str] = Field(min_length=1, max_length=POINTS_MAX)
    learned: dict[str, Learned] = {}
    baseline: str = "random"
    reference: str = ""
    figures: list[FigureSpec] = [FigureSpec(kind="bars"), FigureSpec(kind="curves")]
    calculations: list[Calculation] = []
    exchanges: list[Exchange] = []
    quick: Quick | None = None


@dataclasses.dataclass(frozen=True)
class Point:
    """One value of the sweep and the scenario there."""

    label: str
    value: Any
    scenario: Scenario
    fields: Mapping[str, Any]  # config fields that differ from the defaults


@dataclasses.dataclass(frozen=True)
class Plan:
    """A checked experiment.

    With a trace `networks_asked` and `slots_asked` say how much of the file is played (None: all of it), and a warm-up
    that nobody asked for is `quarter_warmup`: a quarter of what is played.

    Attributes:
        name, preset, points, seed: what is played.
        trace: the file that replaces the sampled traces.
        reference: the controller that closes all of the gap.
        runs: controller that is a training run -> its folder.
        labels: the same -> what tables, figures and files call it.
    """

    name: str
    preset: Preset
    points: tuple[Point, ...]
    seed: int
    trace: TraceFile | None
    reference: str
    runs: Mapping[str, Path]
    labels: Mapping[str, str]
    networks_asked: int | None = None
    slots_asked: int | None = None
    quarter_warmup: bool = False

    @property
    def trace_file(self) -> Path | None:
        return None if self.trace is None else self.trace.path

    @property
    def slots(self) -> int:
        return self.preset.slots or self.points[0].scenario.horizon


def preset_names() -> tuple[str, ...]:
    """Presets that ship with the product, such as `quick` or `sequential_offloading/fig6`."""
    root = resources.files("edgemarl.launch") / "presets"
    names = [p.name.removesuffix(".yaml") for p in root.iterdir() if p.name.endswith(".yaml")]
    for folder in root.iterdir():
        if folder.is_dir():
            names += [
                f"{folder.name}/{p.name.removesuffix('.yaml')}" for p in folder.iterdir() if p.name.endswith(".yaml")
            ]
    return tuple(sorted(names, key=lambda name: (name.count("/"), name)))


def load_preset(name: str) -> Preset:
    """A preset by name, or from a YAML file of the user's own.

    Raises:
        ValueError: unknown preset, not YAML, a misspelt or illegal entry.
    """
    if name in preset_names():
        text = (resources.files("edgemarl.launch") / "presets" / f"{name}.yaml").read_text(encoding="utf-8")
        values = parse_yaml(text, f"preset {name}")
    elif name.endswith((".yaml", ".yml")):
        if not is_file(name):
            raise ValueError(f"preset {cut(name)}: no such file")
        values = _files_beside(read_mapping(name, f"preset {name}"), Path(name).parent)
    else:
        raise ValueError(unknown_name("preset", name, preset_names()))
    try:
        preset = Preset.model_validate(values)
    except pydantic.ValidationError as error:
        raise ValueError(f"preset {name}: {_first_problem(error)}") from None
    for learned in preset.learned.values():
        values = [] if preset.sweep is None else preset.sweep.values
        if learned.at and (values[:1] != learned.at[:1] or any(value not in values for value in learned.at)):
            raise ValueError(f"preset {name}, at: {learned.at} must be values of the sweep, its first one first")
    for absent in {left for figure in preset.figures for left in figure.without} - {*preset.controllers}:
        raise ValueError(f"preset {name}, without: {unknown_name('controller', absent, preset.controllers)}")
    return preset


def _files_beside(values: dict[str, Any], folder: Path) -> dict[str, Any]:
    """A preset whose relative file names are those of its own folder, where the working folder has no such.

    File names may stand in `set`, in the values of its sweep, and in `controllers` (mine.py:Rule).
    """
    parts = ("set", "sweep", "controllers")
    return {name: _beside(value, folder) if name in parts else value for name, value in values.items()}


def _beside(value: Any, folder: Path) -> Any:
    """The same with names of files replaced, in texts, also those with commas, lists and mappings."""
    if isinstance(value, dict):
        return {name: _beside(entry, folder) for name, entry in value.items()}
    if isinstance(value, list):
        return [_beside(entry, folder) for entry in value]
    if not isinstance(value, str):
        return value
    if "," in value and not exists(value):
        return ",".join(_beside(part.strip(), folder) for part in value.split(","))
    file, colon, name = value.rpartition(":") if ".py:" in value else (value, "", "")
    found = str(folder / file) if file else ""
    return f"{found}{colon}{name}" if file and not exists(file) and is_file(found) else value


def scenario_preset(name: str) -> Preset:
    """The comparison that `compare --scenario NAME` runs: every rule and reference at the defaults."""
    cls = scenario_class(name)
    known = list(playbook_of(name).controllers)
    return Preset(title=cls.title, scenario=name, controllers=known, networks=10, warmup=cls().horizon // 4)


def make_plan(
    name: str, preset: Preset, *, overrides: Mapping[str, Any], seed: int = 0, networks: int | None = None,
    chosen: Sequence[str] = (), trace: TraceFile | None = None, slots: int | None = None, warmup: int | None = None,
    quarter_warmup: bool = False,
) -> Plan:  # fmt: skip
    """Apply the command line to a preset and check everything before anything runs.

    Args:
        name: of the experiment.
        preset: what it is.
        overrides: config fields.
        seed: of everything that is drawn.
        networks: how many of them.
        chosen: controllers.
        trace: file that replaces the sampled traces; fields that nobody else sets are those of its network.
        slots: steps of a network.
        warmup: slots left out of the means.
        quarter_warmup: the preset's warm-up is nobody's wish but a quarter of its slots.

    Raises:
        ValueError: networks below 1, unknown scenario, field or controller, a value outside its range, a warm-up as
            long as the trace.
    """
    changes: dict[str, Any] = {"controllers": list(chosen)} if chosen else {}
    asked = (
        ("networks", networks, 1, NETWORKS_MAX), ("slots", slots, 1, SLOTS_MAX), ("warmup", warmup, 0, SLOTS_MAX),
        ("seed", seed, 0, SEED_MAX),
    )  # fmt: skip
    for what, value, least, largest in asked:
        if value is not None and not least <= value <= largest:
            raise ValueError(f"{what} = {quoted(value)} is not legal: must be an integer >= {least} and <= {largest:,}")
        if value is not None and what != "seed":
            changes[what] = value
    quarter_warmup = quarter_warmup and warmup is None
    if quarter_warmup and slots is not None:
        changes["warmup"] = slots // 4
    preset = preset.model_copy(update=changes)
    points = _points(preset, overrides, {} if trace is None else file_network(trace.path, preset.scenario))
    runs, labels = _runs(preset, points[0].scenario)
    reference = labels.get(preset.reference, preset.reference) or _reference(preset)
    figures = [f.model_copy(update={"without": [labels.get(n, n) for n in f.without]}) for f in preset.figures]
    preset = preset.model_copy(update={"figures": figures})
    plan = Plan(name, preset, points, seed, trace, reference, runs, labels, networks, slots, quarter_warmup)
    if preset.networks * plan.slots > PLAYED_MAX:
        raise ValueError(
            f"networks x slots = {preset.networks * plan.slots:,} is not legal: must be <= {PLAYED_MAX:,} slots in all"
        )
    if preset.warmup >= plan.slots and trace is None:
        raise ValueError(f"warmup = {preset.warmup} slots is not legal: must be below the {plan.slots} slots played")
    return plan


def _runs(preset: Preset, scenario: Scenario) -> tuple[dict[str, Path], dict[str, str]]:
    """The controllers that are training runs: their folders, and names that no other controller has.

    Raises:
        ValueError: an unknown controller, one that is named twice, a learned one with the name of another.
    """
    known = playbook_of(preset.scenario).controllers
    for name in preset.learned:
        if name in known:
            raise ValueError(f"learned.{name}: the scenario has a controller of this name; choose another")
    runs: dict[str, Path] = {}
    for i, name in enumerate(preset.controllers):
        if name in preset.controllers[:i]:
            raise ValueError(f"controller '{name}' is named twice")
        if name in preset.learned or is_controller(scenario, name):
            continue
        if "://" in name:
            from edgemarl.marl.training.storage import fetched  # needs Ray's packages

            runs[name] = fetched(name)
        elif exists(name):
            runs[name] = Path(name)
        else:
            raise ValueError(
                unknown_name("controller", name, [*known, *preset.learned], f"edgemarl scenarios {scenario.name}")
            )
    return runs, run_labels(runs, {*known, *preset.learned, *preset.controllers} - {*runs})


def run_labels(runs: Iterable[str], taken: Collection[str]) -> dict[str, str]:
    """A name for each run: the last parts of its path, as many as it takes to tell it from every other controller.

    Args:
        runs: paths or URLs as they were given.
        taken: names of controllers that are not runs.

    Raises:
        ValueError: two of them are one folder.
    """
    whole = {run: run.rstrip("/") if "://" in run else Path(run).resolve().as_posix() for run in runs}
    for run, path in whole.items():
        for other, same in whole.items():
            if run != other and path == same:
                raise ValueError(f"controllers '{run}' and '{other}' are one run")
    labels = {}
    for run, path in whole.items():
        parts = path.split("/")
        names = ["/".join(parts[-count:]) for count in range(1, len(parts) + 1)]
        others = [f"/{other}" for other in whole.values() if other != path]
        labels[run] = next(
            (n for n in names if n not in taken and not any(other.endswith(f"/{n}") for other in others)), path
        )
    return labels


def _reference(preset: Preset) -> str:
    """The scenario's best reference, or the last one that is compared if that one is not."""
    known = playbook_of(preset.scenario).controllers
    best = playbook_of(preset.scenario).reference
    compared = [name for name in preset.controllers if name in known and known[name].kind == "reference"]
    return best if best in compared or not compared else compared[-1]


def _points(preset: Preset, overrides: Mapping[str, Any], given: Mapping[str, Any]) -> tuple[Point, ...]:
    fields = {**given, **preset.set, **overrides}
    sweep = preset.sweep
    if sweep is None or sweep.field in overrides:
        return (Point("", None, make_scenario(preset.scenario, **fields), fields),)
    points = []
    for i, value in enumerate(sweep.values):
        there = {**fields, **({} if sweep.at_size else {sweep.field: value})}
        there.update({name: values[i] for name, values in sweep.also.items()})
        if sweep.at_size:
            there.update(fields_at_size(preset.scenario, there, value))
        label = f"{sweep.label or sweep.field} = {cut(str(value))}"
        points.append(Point(label, value, make_scenario(preset.scenario, **there), there))
    return tuple(points)


def fields_at_size(scenario: str, fields: Mapping[str, Any], size: Any) -> dict[str, Any]:
    """Config fields that change where a network has so many devices and the resources that they need.

    Raises:
        ValueError: a scenario that does not say how it grows, a size that is not legal there.
    """
    at_size = playbook_of(scenario).at_size
    if at_size is None:
        raise ValueError(f"the playbook of {scenario} does not say how the network grows (at_size)")
    if not isinstance(size, int) or size < 1:
        raise ValueError(f"size = {quoted(size)} is not legal: must be a whole number of devices >= 1")
    base = make_scenario(scenario, **fields).config
    grown = at_size(base, size)
    names = [field.name for field in dataclasses.fields(base)]
    return {name: getattr(grown, name) for name in names if getattr(grown, name) != getattr(base, name)}


def parse_overrides(settings: Sequence[str], option: str = "--set") -> dict[str, str]:
    """`field=value` texts as a dict; the scenario's config checks names, types and ranges."""
    overrides: dict[str, str] = {}
    for setting in settings:
        name, sign, value = setting.partition("=")
        if not sign or not name.strip():
            raise ValueError(f"{option} {cut(setting)} is not legal: must be field=value")
        overrides[name.strip()] = value.strip()
    return overrides


def _first_problem(error: pydantic.ValidationError) -> str:
    entry = error.errors()[0]
    where = ".".join(str(part) for part in entry["loc"])
    if entry["type"] == "extra_forbidden" and entry["loc"][-1] == "seeds":
        return f"'{where}' is now '{'training_seeds' if len(entry['loc']) > 1 else 'networks'}'"
    if entry["type"] == "extra_forbidden":
        return unknown_name("entry", where, Preset.model_fields)
    return f"{cut(where)} = {quoted(entry['input'])}: {cut(entry['msg'])}"
