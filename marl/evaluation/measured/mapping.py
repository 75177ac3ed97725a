"""Which column of which file is what: layouts kept as YAML, those of public forms, and the command line's words."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import Any, Literal

import pydantic
import yaml
from pydantic import BaseModel, ConfigDict, Field

from edgemarl.envs.config import unknown_name
from edgemarl.envs.reading import parse_yaml
from edgemarl.marl.evaluation.measured.units import unit

CHANNEL, ARRIVALS = "channel", "arrivals"
"""Names of fields that a mapping gives for every scenario: its first link's gain, and its task arrivals."""
YAML_BYTES_MAX = 100_000


class Column(BaseModel):
    """Where a field comes from.

    columns: one column; several are one agent's each (a wide table); `x:y` are two coordinates of one position.
    unit: of its numbers, as `edgemarl.marl.evaluation.measured.units.UNITS`.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)
    columns: tuple[str, ...] = Field(min_length=1)
    unit: str = "1"


class Layout(BaseModel):
    """How measurements are laid out.

    Attributes:
        title, source: of a public form.
        columns: names of the columns, where the file has no line with them.
        missing: texts that stand for no value.
        absent: column -> numbers that stand for no value, such as an RSRP of 0 dBm.
        tasks: a row is a task, not a sample; arrivals are counted.
        weight: of a task list: column that says how many tasks a row is.
        time: column of the stamps.
        time_unit: of stamps that are numbers; "slot": they count steps of the scenario.
        time_format: of stamps that are texts, as in strptime; found by itself where it can only be one.
        agent: column that says whose row it is; "file": each file is an agent's; none: one agent.
        align: "clock": stamps of all agents are of one clock; "start": each agent's first stamp is the start.
        fields: field of the trace, or `channel` or `arrivals` -> column.
        aggregate: what several samples of a slot become; by default their mean, of whole numbers the last.
        fill: what a slot without a sample becomes.
        counts: "spread": tasks beyond what a slot takes come in the slots that follow; "refuse".
        deal: tasks are dealt to so many agents by what `agent` says (a job, a user), all of one to the same.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)
    title: str = ""
    source: str = ""
    columns: tuple[str, ...] = ()
    missing: tuple[str, ...] = ()
    absent: dict[str, tuple[float, ...]] = {}
    tasks: bool = False
    weight: str = ""
    time: str = ""
    time_unit: str = "s"
    time_format: str = ""
    agent: str = ""
    align: Literal["clock", "start"] = "clock"
    fields: dict[str, Column] = {}
    aggregate: Literal["", "mean", "last", "max", "min", "sum"] = ""
    fill: Literal["hold", "interpolate", "none"] = "none"
    counts: Literal["spread", "refuse"] = "refuse"
    deal: int | None = Field(None, ge=1)

    def needed(self) -> frozenset[str]:
        """Every column that is read."""
        names = {self.time, self.weight, *([] if self.agent == "file" else [self.agent]), *self.absent}
        for column in self.fields.values():
            names.update(part for entry in column.columns for part in entry.split(":"))
        return frozenset(names - {""})


def form_names() -> tuple[str, ...]:
    """Public forms that are known by name."""
    root = resources.files("edgemarl.marl.evaluation.measured") / "forms"
    return tuple(sorted(p.name.removesuffix(".yaml") for p in root.iterdir() if p.name.endswith(".yaml")))


def load_mapping(name: str) -> Layout:
    """A mapping by the name of a public form, or from a YAML file.

    Raises:
        ValueError: an unknown name, not YAML, a misspelt or illegal entry.
    """
    if name in form_names():
        text = (resources.files("edgemarl.marl.evaluation.measured") / "forms" / f"{name}.yaml").read_text("utf-8")
    elif name.endswith((".yaml", ".yml")) and Path(name).is_file():
        if Path(name).stat().st_size > YAML_BYTES_MAX:
            raise ValueError(f"mapping {name} has more than {YAML_BYTES_MAX} bytes")
        text = Path(name).read_text("utf-8", errors="replace")
    else:
        raise ValueError(unknown_name("form", name, form_names()) + ", or a .yaml file")
    return made(parse_yaml(text, f"mapping {name}"), f"mapping {name}")


def made(values: Any, where: str) -> Layout:
    """A mapping from plain values; `where` begins messages."""
    if not isinstance(values, Mapping):
        raise ValueError(f"{where} must map entries ({', '.join(Layout.model_fields)}) to values")
    fields = values.get("fields", {})
    if isinstance(fields, Mapping):
        values = {**values, "fields": {name: _column(entry) for name, entry in fields.items()}}
    try:
        mapping = Layout.model_validate(values)
    except pydantic.ValidationError as error:
        entry = error.errors()[0]
        path = ".".join(str(part) for part in entry["loc"])
        if entry["type"] == "extra_forbidden":
            raise ValueError(f"{where}: {unknown_name('entry', path, Layout.model_fields)}") from None
        raise ValueError(f"{where}: {path} = {str(entry['input'])[:60]!r}: {entry['msg']}") from None
    for column in mapping.fields.values():
        unit(column.unit)
    return mapping


def _column(entry: Any) -> Any:
    """`SNR`, `[a, b]` and `{column: SNR, unit: dB}` are short for the whole."""
    if isinstance(entry, str):
        return {"columns": [part.strip() for part in entry.split(",")]}
    if isinstance(entry, list | tuple):
        return {"columns": [str(part) for part in entry]}
    if isinstance(entry, Mapping) and "column" in entry:
        rest = {name: value for name, value in entry.items() if name != "column"}
        return {**_column(entry["column"]), **rest}
    return entry


def changed(mapping: Layout, maps: Sequence[str], units: Sequence[str], **entries: Any) -> Layout:
    """A mapping with what the command line says of it.

    Args:
        mapping: a form, or an empty one.
        maps: `FIELD=COLUMN` texts; they replace the form's fields.
        units: `UNIT` of all fields, or `FIELD=UNIT`.
        entries: further entries; None keeps the mapping's.

    Raises:
        ValueError: a text of another form, an unknown unit or field.
    """
    fields: dict[str, Any] = {n: c.model_dump() for n, c in mapping.fields.items()} if not maps else {}
    for text in maps:
        name, sign, columns = text.partition("=")
        if not sign or not name.strip() or not columns.strip():
            raise ValueError(f"--map {text} is not legal: must be FIELD=COLUMN")
        fields[name.strip()] = _column(columns)
    for text in units:
        name, sign, word = text.rpartition("=")
        if sign and name not in fields:
            raise ValueError(f"--unit {text}: " + unknown_name("field", name, fields))
        for field in [name] if sign else fields:
            fields[field] = {**fields[field], "unit": word}
    given = {name: value for name, value in entries.items() if value not in (None, (), {})}
    return made({**mapping.model_dump(), **given, "fields": fields}, "the mapping")


def save_mapping(mapping: Layout, path: Path) -> None:
    """Keep a mapping as YAML."""
    values = mapping.model_dump(mode="json", exclude_defaults=True)
    try:
        path.write_text(yaml.safe_dump(values, sort_keys=False, allow_unicode=True), encoding="utf-8")
    except OSError as error:
        raise ValueError(f"mapping {path} cannot be written: {error.strerror or error}") from None
