"""Validated, frozen configurations: one decorator and one field function for every scenario."""

from __future__ import annotations

import dataclasses
import difflib
import json
from collections.abc import Callable
from typing import Any, Literal, TypeVar, dataclass_transform, get_origin

import pydantic
import pydantic.dataclasses
from pydantic import ConfigDict, ValidationError
from pydantic.fields import FieldInfo

C = TypeVar("C")

FieldPart = Literal["network", "interface", "controller"]
"""What a field belongs to: the network, what an agent sees and how its actions read, or what a controller brings along.

A trained policy keeps the interface that it was trained with, in any network. What a controller brings along, such as
who sets a quantity, also changes what happens: it plays in a network with its own values, on everybody's traces.
"""

_BOUNDS = {"gt": ">", "ge": ">=", "lt": "<", "le": "<="}


def quantity(
    default: Any,
    unit: str,
    meaning: str,
    *,
    symbol: str = "-",
    source: str = "chosen",
    part: FieldPart = "network",
    gt: float | None = None,
    ge: float | None = None,
    lt: float | None = None,
    le: float | None = None,
) -> Any:
    """A field of a config: its default, unit, meaning, the paper's symbol and where the value comes from.

    Args:
        default: value used when the caller gives none; a tuple for a vector.
        unit: SI unit, or "-" for a number without one.
        meaning: one line for the parameter table.
        symbol: the symbol in the paper.
        source: section or figure of the paper, or "chosen".
        part: what the field belongs to (`FieldPart`).
        gt, ge, lt, le: legal range.
    """
    return pydantic.Field(
        default=default,
        description=meaning,
        gt=gt,
        ge=ge,
        lt=lt,
        le=le,
        json_schema_extra={"unit": unit, "symbol": symbol, "source": source, "part": part},
    )


@dataclass_transform(frozen_default=True, kw_only_default=True)
def config_class(cls: type[C]) -> type[C]:
    """Make a frozen, keyword-only dataclass whose fields are checked for name, type and range.

    A wrong value raises a `ValueError` that names the field, the value, its unit and what is legal.
    """
    decorated: Any = pydantic.dataclasses.dataclass(
        frozen=True, kw_only=True, config=ConfigDict(extra="forbid", allow_inf_nan=False)
    )(cls)
    validated_init: Callable[..., None] = decorated.__init__

    def __init__(self: Any, **values: Any) -> None:
        unknown = [name for name in values if name not in decorated.__pydantic_fields__]
        if unknown:
            raise ValueError(unknown_name("field", unknown[0], decorated.__pydantic_fields__))
        try:
            validated_init(self, **{name: _parsed(value, decorated, name) for name, value in values.items()})
        except ValidationError as error:
            raise ValueError(_readable(error, decorated)) from None

    decorated.__init__ = __init__
    result: type[C] = decorated
    return result


def _parsed(value: Any, cls: Any, name: str) -> Any:
    """Command-line text of a vector or matrix, `1,2` or `[[1,0],[0,1]]`, as lists; anything else unchanged."""
    if not isinstance(value, str) or get_origin(cls.__pydantic_fields__[name].annotation) is not tuple:
        return value
    text = value.strip()
    try:
        return json.loads(text if text.startswith("[") else f"[{text}]")
    except json.JSONDecodeError:
        return value  # the validator names the field and what is legal


def unknown_name(kind: str, name: str, known: Any) -> str:
    """The message for a name that does not exist: what is near, and all that is known."""
    names = [str(k) for k in known]
    near = difflib.get_close_matches(name, names, n=1)
    hint = f"; did you mean '{near[0]}'?" if near else "."
    return f"unknown {kind} '{name}'{hint} Known: {', '.join(names)}"


def names_of_part(config_type: Any, *parts: FieldPart) -> tuple[str, ...]:
    """Fields of a config that belong to one of these parts, in order."""
    return tuple(
        field.name
        for field in dataclasses.fields(config_type)
        if _extra(config_type.__pydantic_fields__[field.name]).get("part", "network") in parts
    )


def _extra(info: FieldInfo) -> dict[str, Any]:
    return info.json_schema_extra if isinstance(info.json_schema_extra, dict) else {}


def config_fields(config: Any) -> list[dict[str, Any]]:
    """Rows of the parameter table: name, value, default, unit, legal range, symbol, source, meaning."""
    rows = []
    for field in dataclasses.fields(config):
        info: FieldInfo = type(config).__pydantic_fields__[field.name]
        extra = _extra(info)
        rows.append(
            {
                "name": field.name,
                "value": getattr(config, field.name),
                "default": info.default,
                "unit": extra.get("unit", "-"),
                "legal": legal_range(info),
                "symbol": extra.get("symbol", "-"),
                "source": extra.get("source", "-"),
                "meaning": info.description or "",
            }
        )
    return rows


def legal_range(info: FieldInfo) -> str:
    """The range of a field in words, for tables and messages."""
    bounds = [
        f"{sign} {getattr(entry, key):g}"
        for entry in info.metadata
        for key, sign in _BOUNDS.items()
        if hasattr(entry, key)
    ]
    kind = getattr(info.annotation, "__name__", str(info.annotation)).replace("typing.", "")
    if get_origin(info.annotation) is tuple:
        kind = str(info.annotation)
    if kind == "Literal" or "Literal[" in str(info.annotation):
        return "one of " + ", ".join(repr(v) for v in getattr(info.annotation, "__args__", ()))
    return " and ".join([kind, *bounds])


def _readable(error: ValidationError, cls: Any) -> str:
    lines = []
    for entry in error.errors():
        name = str(entry["loc"][0]) if entry["loc"] else cls.__name__
        info = cls.__pydantic_fields__.get(name)
        if info is None:  # a check over several fields
            lines.append(str(entry["ctx"]["error"]) if "ctx" in entry else entry["msg"])
            continue
        if entry["type"] == "value_error":  # a field's own check, which writes the whole sentence
            lines.append(str(entry["ctx"]["error"]))
            continue
        unit = (info.json_schema_extra or {}).get("unit", "-")
        lines.append(
            f"{name} = {entry['input']!r}{'' if unit == '-' else ' ' + unit} is not legal: must be {legal_range(info)}"
        )
    return "; ".join(lines)
