"""Validated, frozen configurations: one decorator and one field function for every scenario."""

from __future__ import annotations

import dataclasses
import difflib
import json
import re
import reprlib
from collections.abc import Callable, Iterable
from decimal import Decimal, InvalidOperation
from types import UnionType
from typing import Annotated, Any, Literal, TypeVar, Union, dataclass_transform, get_args, get_origin

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
ENTRIES_MAX = 10_000
"""Most entries of a vector in a config."""


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

    A number has a range that is physical, with both ends, so that whatever is computed from it stays finite. Entries of
    a vector have theirs in the annotation, `tuple[Annotated[float, pydantic.Field(ge=0, le=1)], ...]`.

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
            raise ValueError(unknown_name("field", unknown[0], decorated.__pydantic_fields__, _listed_by(decorated)))
        try:
            validated_init(self, **{name: _parsed(value, decorated, name) for name, value in values.items()})
        except ValidationError as error:
            raise ValueError(_readable(error, decorated)) from None

    decorated.__init__ = __init__
    result: type[C] = decorated
    return result


def _parsed(value: Any, cls: Any, name: str) -> Any:
    """Text as people write numbers and vectors, such as `1e6`, `16,16` or `[[1,0],[0,1]]`; anything else unchanged."""
    kinds = _kinds(cls.__pydantic_fields__[name].annotation)
    if isinstance(value, list | tuple) and len(value) > ENTRIES_MAX:
        raise ValueError(f"{name} has {len(value)} entries: at most {ENTRIES_MAX} are legal")
    if tuple in kinds and isinstance(value, int | float) and not kinds & {int, float, bool}:
        return [value]
    if not isinstance(value, str):
        return value
    if int in kinds and float not in kinds and str not in kinds:
        value = whole(value)
    if tuple in kinds and str not in kinds:
        return vector(value)
    return value


def _kinds(annotation: Any) -> set[Any]:
    """Plain types that an annotation allows, without those of entries."""
    origin = get_origin(annotation)
    if origin is Annotated:
        return _kinds(get_args(annotation)[0])
    if origin in (Union, UnionType):
        return set().union(*map(_kinds, get_args(annotation)))
    return {origin or annotation}


def whole(value: Any) -> Any:
    """A whole number that is written as `1e6` or `1_000_000`, as an int; anything else unchanged.

    Text that is no whole number, or one beyond 18 digits, is left for whoever checks types and ranges.
    """
    if isinstance(value, float) and value.is_integer() and abs(value) < 1e18:
        return int(value)
    if not isinstance(value, str) or len(value) > QUOTED:
        return value
    try:
        number = Decimal(value.strip())
    except InvalidOperation:
        return value
    if not number.is_finite() or number.adjusted() >= 18 or number != number.to_integral_value():
        return value
    return int(number)


def vector(text: str) -> Any:
    """Text of a vector or matrix as lists: `1,2`, `1 2`, `(1, 2)`, `[[1,0],[0,1]]`; anything else unchanged."""
    if len(text) > ENTRIES_MAX * 25:
        return text
    bare = text.strip().replace("(", "[").replace(")", "]")
    if "," not in bare:
        bare = ",".join(bare.split())
    bare = re.sub(r",(?=\s*(\]|$))", "", bare)  # (16,)
    try:
        return json.loads(bare if bare.startswith("[") and bare.endswith("]") else f"[{bare}]")
    except (json.JSONDecodeError, RecursionError):
        return text  # the validator names the field and what is legal


QUOTED = 200
"""Characters of the user's input that a message repeats at most."""
_SHORT = reprlib.Repr()
_SHORT.maxlevel, _SHORT.maxstring, _SHORT.maxother = 3, QUOTED, QUOTED


def quoted(value: Any) -> str:
    """A value of the user's for a message: as Python writes it, at most `QUOTED` characters, whatever it holds."""
    if isinstance(value, int) and not isinstance(value, bool) and value.bit_length() > QUOTED:
        return f"a whole number of {value.bit_length()} bits"
    try:
        return cut(_SHORT.repr(value))
    except ValueError:  # a number inside that Python does not write
        return f"a {type(value).__name__}"


def cut(text: str, limit: int = QUOTED) -> str:
    """A text on one line, cut in the middle where it is longer than `limit`."""
    line = " ".join(text[: 4 * limit].split()) if len(text) > 4 * limit else " ".join(text.split())
    if len(line) <= limit and len(text) <= 4 * limit:
        return line
    return f"{line[: limit - 3]}..."


LISTED = 12
"""Known names that a message lists at most."""


def unknown_name(kind: str, name: str, known: Iterable[Any], listed_by: str = "") -> str:
    """The message for a name that does not exist: what is near, and what is known, the nearest of it where it is much.

    Args:
        kind: what is named, such as "field".
        name: the name that does not exist.
        known: the names that do.
        listed_by: the command that lists all of them, if there is one.
    """
    names = [cut(str(k), 80) for k in known]
    short = cut(str(name), 80)
    near = difflib.get_close_matches(short, names, n=1)
    hint = f"; did you mean '{near[0]}'?" if near else "."
    shown = names
    if len(names) > LISTED:
        nearest = difflib.get_close_matches(short, names, n=LISTED, cutoff=0.0)
        shown = [*nearest, f"... and {len(names) - len(nearest)} more{f' ({listed_by})' if listed_by else ''}"]
    return f"unknown {kind} '{short}'{hint} Known: {', '.join(shown)}"


def _listed_by(config_type: type) -> str:
    """The command that lists the fields of a shipped scenario's config."""
    scenario = re.search(r"\.scenarios\.(\w+)", config_type.__module__)
    return f"edgemarl scenarios {scenario[1]}" if scenario else ""


def names_of_part(config_type: Any, *parts: FieldPart) -> tuple[str, ...]:
    """Fields of a config that belong to one of these parts, in order."""
    return tuple(
        field.name
        for field in dataclasses.fields(config_type)
        if _extra(config_type.__pydantic_fields__[field.name]).get("part", "network") in parts
    )


def named_choices(config_type: Any) -> dict[str, tuple[Any, ...]]:
    """Field -> its values, of the fields of a config that are one of a few words, or true or false."""
    found: dict[str, tuple[Any, ...]] = {}
    for name, info in getattr(config_type, "__pydantic_fields__", {}).items():
        if info.annotation is bool:
            found[name] = (False, True)
        elif get_origin(info.annotation) is Literal:
            found[name] = get_args(info.annotation)
    return found


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
    return " and ".join([kind_of(info.annotation), *bounds])


def kind_of(annotation: Any) -> str:
    """An annotation in words: `float`, `one of 'a', 'b'`, `numbers >= 0 and <= 1 with commas`."""
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        bounds = [f"{sign} {getattr(m, key):g}" for part in arguments[1:] for m in _metadata(part)
                  for key, sign in _BOUNDS.items() if getattr(m, key, None) is not None]  # fmt: skip
        return " and ".join([kind_of(arguments[0]), *bounds])
    if origin is Literal:
        return "one of " + ", ".join(repr(value) for value in arguments)
    if origin in (Union, UnionType):
        return " or ".join(kind_of(part) for part in arguments)
    if origin is tuple:
        several = "with commas" if arguments[-1] is Ellipsis else f"{len(arguments)} with a comma"
        return f"{kind_of(arguments[0])}, {several}"
    if annotation is type(None):
        return "null"
    return str(getattr(origin or annotation, "__name__", annotation)).replace("typing.", "")


def range_of(config_type: Any, name: str) -> tuple[type, float | None, float | None] | None:
    """Kind (int or float), least and largest value of a number, or of a vector's entries; None for other fields.

    Args:
        config_type: class made by `config_class`.
        name: its field.
    """
    info: FieldInfo = config_type.__pydantic_fields__[name]
    kinds = _numbers_in(info.annotation)
    if not kinds:
        return None
    bounds = {key: getattr(entry, key) for entry in info.metadata for key in _BOUNDS if hasattr(entry, key)}
    bounds = bounds or bounds_of(info.annotation)
    return (float if float in kinds else int), bounds.get("ge"), bounds.get("le")


def _numbers_in(annotation: Any) -> set[Any]:
    """The types of number that an annotation holds, as entries too; none where it may also be something else."""
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return _numbers_in(arguments[0])
    if origin in (Union, UnionType, tuple):
        return set().union(*(_numbers_in(part) for part in arguments if part not in (Ellipsis, type(None))))
    return {annotation} if annotation in (int, float) else set()


def bounds_of(annotation: Any) -> dict[str, float]:
    """Bounds `ge`, `le`, `gt`, `lt` of an `Annotated` number, or of the entries of a vector."""
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        bounds = {key: getattr(m, key) for part in arguments[1:] for m in _metadata(part) for key in _BOUNDS
                 if getattr(m, key, None) is not None}  # fmt: skip
        return bounds or bounds_of(arguments[0])
    for part in arguments:
        if part is not Ellipsis and (bounds := bounds_of(part)):
            return bounds
    return {}


def _metadata(part: Any) -> Any:
    """What holds the bounds: the parts of a pydantic field, or the object itself."""
    return part.metadata if isinstance(part, FieldInfo) else (part,)


def _readable(error: ValidationError, cls: Any) -> str:
    lines: list[str] = []
    told = set()
    for entry in error.errors():
        name = str(entry["loc"][0]) if entry["loc"] else cls.__name__
        info = cls.__pydantic_fields__.get(name)
        if info is None:  # a check over several fields
            lines.append(str(entry["ctx"]["error"]) if "ctx" in entry else entry["msg"])
            continue
        if name in told:  # a field that may be of several types is told once
            continue
        told.add(name)
        if entry["type"] == "value_error":  # a field's own check, which writes the whole sentence
            lines.append(str(entry["ctx"]["error"]))
            continue
        unit = (info.json_schema_extra or {}).get("unit", "-")
        value = quoted(entry["input"]) + ("" if unit == "-" else f" {unit}")
        lines.append(f"{name} = {value} is not legal: must be {legal_range(info)}")
    return "; ".join(lines)
