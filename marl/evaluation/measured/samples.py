"""The samples that measurement files hold: whose, when, what."""

from __future__ import annotations

import dataclasses
import re
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from edgemarl.envs.arrays import Array
from edgemarl.envs.config import unknown_name
from edgemarl.marl.evaluation.measured.mapping import Layout
from edgemarl.marl.evaluation.measured.stamps import Stamps, seconds
from edgemarl.marl.evaluation.tables import read_table
from edgemarl.marl.evaluation.text_tables import TextForm

if TYPE_CHECKING:
    import pandas as pd

STARTS = "start"


@dataclass(frozen=True)
class Samples:
    """Samples of all agents, sorted by agent and time.

    Attributes:
        agents: names of the agents, in order.
        bounds: (D+1,) where each agent's samples begin.
        times_s: (n,) stamps in s.
        columns: column -> (n,) numbers, NaN where nothing was measured.
        notes: what is to be said of the files.
        counted: the stamps look like numbers of slots, not like times.
    """

    agents: tuple[str, ...]
    bounds: Array
    times_s: Array
    columns: Mapping[str, Array]
    notes: tuple[str, ...]
    counted: bool = False

    def of(self, agent: int) -> slice:
        return slice(int(self.bounds[agent]), int(self.bounds[agent + 1]))


@dataclass
class _Part:
    """One file: numbers by column, stamps, and whose each row is, an index into names."""

    columns: dict[str, Array]
    stamps: Stamps
    owner: Array
    names: list[str]


def read_samples(files: Sequence[Path], layout: Layout, without: Sequence[str] = (), step_s: float = 1.0) -> Samples:
    """Read measurement files.

    Args:
        files: one or several of one layout.
        layout: which column is what.
        without: agents to leave out.
        step_s: seconds of a slot, for stamps that count slots.

    Raises:
        ValueError: no stamps, a column that is not there or holds something else, clocks that do not fit each other.
    """
    if not layout.time:
        raise ValueError("nothing says when: give --time COLUMN (of a file without column names --time 1)")
    parts = [_part(Path(file), layout, step_s) for file in files]
    clocks = {part.stamps.clock: file for part, file in zip(parts, files, strict=True)}
    if len(clocks) > 1 and layout.align != STARTS:
        listed = ", ".join(f"{clock} in {Path(file).name}" for clock, file in clocks.items())
        raise ValueError(f"the files' clocks are of different kinds ({listed}): use --align start, or write all alike")
    names = sorted({name for part in parts for name in part.names}, key=_natural)
    for name in without:
        if name not in names:
            raise ValueError(f"--without {name}: " + unknown_name("agent", name, names))
    chosen = {name: i for i, name in enumerate(name for name in names if name not in without)}
    agent = np.concatenate([np.array([chosen.get(n, -1) for n in part.names])[part.owner] for part in parts])
    times_s = np.concatenate([part.stamps.seconds for part in parts])
    joined = {name: np.concatenate([part.columns[name] for part in parts]) for name in parts[0].columns}
    stamped = (agent >= 0) & np.isfinite(times_s)
    measured = np.logical_or.reduce([np.isfinite(v) for v in joined.values()]) if joined and not layout.tasks else True
    kept = stamped & measured
    if not kept.any():
        raise ValueError(f"{files[0]} holds no row with a stamp and a value")
    order = np.flatnonzero(kept)
    order = order[np.argsort(agent[order], kind="stable")]  # of each agent as they were written
    back = (np.diff(times_s[order]) < 0.0) & (np.diff(agent[order]) == 0)
    if back.any():
        order = order[np.lexsort((times_s[order], agent[order]))]
    agent, times_s = agent[order], times_s[order]
    bounds = np.searchsorted(agent, np.arange(len(chosen) + 1))
    there = np.diff(bounds) > 0
    if not there.all() and not layout.tasks:
        absent = list(chosen)[int(np.argmin(there))]
        raise ValueError(f"agent {absent} has no row with a stamp and a value: leave it out (--without {absent})")
    notes = _notes(int((~stamped).sum()), int((stamped & ~kept).sum()), 0 if layout.tasks else int(back.sum()))
    if layout.align == STARTS:
        times_s = times_s - times_s[bounds[:-1]][agent]
    return Samples(
        tuple(chosen),
        bounds,
        times_s,
        {n: v[order] for n, v in joined.items()},
        notes,
        all(part.stamps.counted for part in parts),
    )


def _part(path: Path, layout: Layout, step_s: float) -> _Part:
    """One file: its value columns as numbers, its stamps, whose each row is."""
    needed = layout.needed()
    form = TextForm(
        names=layout.columns, columns=needed, missing=layout.missing,
        as_text=tuple(n for n in (layout.agent,) if n and n != "file"),
    )  # fmt: skip
    table = read_table(path, form)
    frame = table.frame
    wanted = needed - set(layout.absent)
    for name in sorted(wanted - set(frame.columns)):
        known = list(read_table(path, dataclasses.replace(form, columns=None)).frame.columns)
        if not table.headed:
            raise ValueError(f"{path} has no column names; its columns are called {', '.join(known[:12])}")
        raise ValueError(f"{path}: {unknown_name('column', name, known)}")
    try:
        stamps = seconds(frame[layout.time], layout.time_unit, layout.time_format, step_s)
        values = {n: _values(path, frame[n], layout) for n in _value_columns(layout)}
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None
    return _Part(values, stamps, *_owners(path, frame, layout))


def _value_columns(layout: Layout) -> tuple[str, ...]:
    if layout.tasks:
        return (layout.weight,) if layout.weight else ()
    parts = [part for column in layout.fields.values() for entry in column.columns for part in entry.split(":")]
    return tuple(dict.fromkeys(parts))


def _values(path: Path, column: pd.Series, layout: Layout) -> Array:
    import pandas as pd

    if column.dtype.kind not in "iufb":
        if column.dtype.kind in "Mm":
            raise ValueError(f"column '{column.name}' holds dates, must hold numbers")
        numbers = pd.to_numeric(column, errors="coerce")
        texts = column[numbers.isna() & column.notna()]
        if len(texts):
            word = str(texts.iloc[0])[:40]
            raise ValueError(
                f"column '{column.name}' holds '{word}'; if that means that nothing was measured: --missing '{word}'"
            )
        column = numbers
    values = column.to_numpy(np.float64, na_value=np.nan)
    for number in layout.absent.get(str(column.name), ()):
        values = np.where(values == number, np.nan, values)
    return np.where(np.isfinite(values), values, np.nan)


def _owners(path: Path, frame: pd.DataFrame, layout: Layout) -> tuple[Array, list[str]]:
    """(n,) index of the agent that each row is of, and the agents' names."""
    if not layout.agent or layout.agent == "file":
        return np.zeros(len(frame), np.int64), [path.name.removesuffix(path.suffix) if layout.agent else "0"]
    import pandas as pd

    codes, names = pd.factorize(frame[layout.agent].astype("string").fillna("nobody"))
    if layout.deal is None:
        return codes, [str(name) for name in names]
    dealt = np.array([zlib.crc32(str(name).encode()) % layout.deal for name in names], np.int64)
    return dealt[codes], [str(i) for i in range(layout.deal)]


def _natural(name: str) -> list[tuple[int, int, str]]:
    """So that n10 comes after n9."""
    return [(0, int(t), "") if t.isdecimal() else (1, 0, t) for t in re.split(r"(\d+)", str(name)) if t]


def _notes(left_out: int, empty: int, back: int) -> tuple[str, ...]:
    said = [f"{left_out} rows left out (no stamp, or of agents that are left out)"] if left_out else []
    said += [f"{empty} rows hold no value"] if empty else []
    if back:
        said.append(f"stamps run backwards {back} times (a clock that was set, or summer time?); rows were sorted")
    return tuple(said)
