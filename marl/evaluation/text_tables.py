"""Tables in text: which character stands between columns and before decimals, which lines are no rows."""

from __future__ import annotations

import csv
import dataclasses
import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pyarrow

DELIMITERS = (",", ";", "\t", "|")
NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?$|[+-]?(nan|inf|infinity)$", re.IGNORECASE)
COMMA_NUMBER = re.compile(r"[+-]?\d*,\d+([eE][+-]?\d+)?$")
POINT_NUMBER = re.compile(r"[+-]?\d*\.\d+([eE][+-]?\d+)?$")
SAMPLE_LINES = 200
LINE_BYTES_MAX = 2**20
NAME_MAX = 120
"""Characters of a column's name at most."""
MISSING = ("", "NA", "N/A", "#N/A", "NaN", "nan", "-NaN", "-nan", "NULL", "null", "None", "<NA>", "n/a", "#NV")
"""Texts that stand for no value in every table."""


@dataclasses.dataclass(frozen=True)
class TextForm:
    """What is known of a text table beforehand.

    Attributes:
        names: names of its columns, in order, where the file has no line with them.
        columns: columns that are kept; None keeps all.
        missing: further texts that stand for no value.
        as_text: columns that are not read as numbers or stamps.
    """

    names: tuple[str, ...] = ()
    columns: frozenset[str] | None = None
    missing: tuple[str, ...] = ()
    as_text: tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True)
class TextTable:
    """The rows of a text, how they were read, and whether the columns have names of their own."""

    table: pyarrow.Table
    notes: tuple[str, ...]
    headed: bool


def read_text(path: Path, data: bytes, form: TextForm) -> TextTable:
    """The table that a text holds.

    Raises:
        ValueError: no text, no rows, mixed decimal signs; what pyarrow raises for ragged rows.
    """
    import pyarrow
    import pyarrow.csv

    data, notes = _decoded(path, data)
    data = _without_comments(data)
    lines = _sample_lines(path, data)
    delimiter = _delimiter(lines)
    if delimiter == " ":
        data = re.sub(rb"(?m)[ \t]+$|^[ \t]+", b"", data)
        data = re.sub(rb"[ \t]+", b"\t", data)
        lines, delimiter = _sample_lines(path, data), "\t"
    rows = list(csv.reader(lines, delimiter=delimiter))
    point = _decimal_sign(path, rows, delimiter)
    names, headed = _names(rows, point, form)
    long = next((name for name in names if len(name) > NAME_MAX or "\n" in name), None)
    if long is not None:
        raise ValueError(f"{path}: the first line has a column {long[:20]!r}: does it hold the columns' names?")
    if headed and len(lines) == 1:
        raise ValueError(f"{path} holds one line and no rows below it")
    shown = {"\t": "tabs", " ": "spaces"}.get(delimiter, f"'{delimiter}'")
    if delimiter != "," or point != ".":
        notes += (f"{shown} between columns, decimal {'commas' if point == ',' else 'points'}",)
    read = pyarrow.csv.ReadOptions(column_names=names, skip_rows=1 if headed else 0)
    convert = pyarrow.csv.ConvertOptions(
        decimal_point=point, null_values=[*MISSING, *form.missing], strings_can_be_null=True,
        column_types=dict.fromkeys((n for n in form.as_text if n in names), pyarrow.string()),
        include_columns=None if form.columns is None else [n for n in names if n in form.columns],
    )  # fmt: skip
    table = pyarrow.csv.read_csv(pyarrow.py_buffer(data), read, pyarrow.csv.ParseOptions(delimiter=delimiter), convert)
    return TextTable(table, notes, headed or bool(form.names))


def _decoded(path: Path, data: bytes) -> tuple[bytes, tuple[str, ...]]:
    """The text as UTF-8 with plain line ends, without byte order mark."""
    notes: tuple[str, ...] = ()
    for mark, coding in ((b"\xff\xfe", "utf-16-le"), (b"\xfe\xff", "utf-16-be")):
        if data.startswith(mark):
            data, notes = data[2:].decode(coding, errors="replace").encode(), ("UTF-16",)
    data = data.removeprefix(b"\xef\xbb\xbf")
    if b"\0" in data:
        raise ValueError(f"{path} is no text: write the table as CSV or Parquet")
    try:
        data.decode("utf-8")
    except UnicodeDecodeError:
        data, notes = data.decode("latin-1").encode(), ("not UTF-8, read as Latin-1",)
    if b"\r" in data:
        data = data.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
    return data, notes


def _without_comments(data: bytes) -> bytes:
    """Without lines that begin with `#`, `%` or `//`, a spreadsheet's `sep=;`, and blank lines at the top."""
    start = 0
    while (end := data.find(b"\n", start)) >= 0:
        bare = data[start : min(end, start + LINE_BYTES_MAX)].strip().lstrip(b'"')
        if bare and not bare.startswith((b"#", b"%", b"//")) and not bare.lower().startswith(b"sep="):
            break
        start = end + 1
    data = data[start:]
    return re.sub(rb"(?m)^#.*\n?", b"", data) if b"\n#" in data else data


def _sample_lines(path: Path, data: bytes) -> list[str]:
    """The first and some of the last lines."""
    head, tail = data[:LINE_BYTES_MAX], data[-LINE_BYTES_MAX:]
    first = head.split(b"\n")
    if len(data) > LINE_BYTES_MAX:
        first = first[:-1]
        if not first:
            raise ValueError(f"{path} has a line of more than {LINE_BYTES_MAX} bytes: is it a table?")
    last = tail.split(b"\n")[-SAMPLE_LINES:] if len(data) > LINE_BYTES_MAX else first[SAMPLE_LINES:][-SAMPLE_LINES:]
    lines = [line.decode(errors="replace") for line in (*first[:SAMPLE_LINES], *last[1:]) if line.strip()]
    if not lines:
        raise ValueError(f"{path} holds no rows")
    return lines


def _delimiter(lines: Sequence[str]) -> str:
    """The character between columns: it gives most lines as many columns as the first one, and most of them."""

    def score(sign: str) -> tuple[float, int]:
        widths = [len(row) for row in csv.reader(lines, delimiter=sign)]
        return sum(w == widths[0] for w in widths) / len(widths), widths[0]

    scores = {sign: score(sign) for sign in DELIMITERS if sign in lines[0]}
    whole = {sign: width for sign, (share, width) in scores.items() if width > 1 and share > 0.5}
    if whole:
        return max(whole, key=lambda sign: (scores[sign][0] > 0.99, whole[sign]))
    spaced = {len(line.split()) for line in lines}
    if len(spaced) == 1 and spaced != {1} and not scores:
        return " "
    return max(scores, key=scores.__getitem__, default=",")


def _decimal_sign(path: Path, rows: Sequence[Sequence[str]], delimiter: str) -> str:
    if delimiter == ",":
        return "."
    entries = [entry.strip() for row in rows for entry in row]
    commas = next((e for e in entries if COMMA_NUMBER.match(e)), None)
    points = next((e for e in entries if POINT_NUMBER.match(e)), None)
    if commas and points:
        raise ValueError(f"{path} has decimal commas ({commas}) and decimal points ({points}): write all in one way")
    return "," if commas else "."


def _names(rows: Sequence[Sequence[str]], point: str, form: TextForm) -> tuple[list[str], bool]:
    """Names of the columns, and whether the first line holds them; columns without names are called 1, 2, .."""
    first = [entry.strip() for entry in rows[0]]
    numeric = all(NUMBER.match(entry.replace(point, ".")) for entry in first if entry) and any(first)
    if form.names:
        names = [*form.names, *(str(i + 1) for i in range(len(form.names), len(first)))][: len(first)]
        return names, first[: len(form.names)] == list(form.names[: len(first)])
    if numeric:
        return [str(i + 1) for i in range(len(first))], False
    return first, True
