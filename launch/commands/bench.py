"""`bench`: speed as a flat JSON of numbers, and what became slower since an earlier one."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

from rich.table import Table

import edgemarl
from edgemarl.envs.config import unknown_name
from edgemarl.envs.files import replacing
from edgemarl.launch.commands.quality import QualityOptions, quality_speeds
from edgemarl.launch.console import plain_console
from edgemarl.launch.progress import Bars
from edgemarl.launch.report.numerals import significant
from edgemarl.marl.benchmarks import GROUPS, load_group
from edgemarl.marl.benchmarks.changes import REFERENCE, SLOWER, Change, changes, reference_s

QUALITY = "quality"
"""Group that trains until policies are good: minutes, so that it runs only where it is asked for."""


def bench(
    json_file: Path | None, only: Sequence[str], compare: Path | None = None, history: Path | None = None,
    quality: QualityOptions | None = None,
) -> int:  # fmt: skip
    """Run groups of benchmarks, print their numbers and write them.

    Args:
        json_file: where the numbers go; keys of earlier groups in it are kept if only some groups run.
        only: groups; all by default.
        compare: numbers of an earlier run, to say what became slower.
        history: Markdown file at whose end the numbers of this run, and its changes, are put.
        quality: sizes and patience of the group `quality`.

    Returns:
        exit code: 1 if something became slower.

    Raises:
        ValueError: unknown group, a file that cannot be written or holds no numbers.
    """
    for name in only:
        if name not in (*GROUPS, QUALITY):
            raise ValueError(unknown_name("benchmark group", name, [*GROUPS, QUALITY]))
    if quality is not None and QUALITY not in only:
        raise ValueError(
            "--devices, --scenario, --set, --minutes, --sides, --within, --against: of the group quality, give "
            "--only quality"
        )
    timed = partial(quality_speeds, quality or QualityOptions())
    old = None if compare is None else _numbers(compare)
    for file in (json_file, history):
        if file is not None:
            _check_writable(file)
    kept = _numbers(json_file) if json_file is not None and only and json_file.is_file() else {}
    measured, group_of = _measure(
        {name: timed if name == QUALITY else load_group(name) for name in only or GROUPS}, kept, json_file
    )
    table = Table("benchmark", "value")
    for key, value in (kept | measured).items():
        table.add_row(key, significant(value))
    console = plain_console()
    console.print(table)
    changed = [] if old is None else changes(old, measured, group_of)
    if old is not None:
        console.print(_change_table(changed))
        _warn_without_reference(changed)
    if history is not None:
        _append_history(history, measured, changed, only, compare)
    return int(any(change.slower for change in changed))


def _measure(
    groups: Mapping[str, Callable[[], Mapping[str, float]]], kept: Mapping[str, float], json_file: Path | None
) -> tuple[dict[str, float], dict[str, str]]:
    """Numbers of the groups, written after each beside those that are kept; key -> group."""
    measured: dict[str, float] = {}
    group_of: dict[str, str] = {}
    with Bars() as bars:
        for name, speeds in groups.items():
            bars(name, 0, 1)
            before = reference_s()
            numbers = {key: float(value) for key, value in speeds().items()}
            measured |= numbers | {REFERENCE + name: min(before, reference_s())}
            group_of |= dict.fromkeys(numbers, name)
            bars(name, 1, 1)
            if json_file is not None:
                with replacing(json_file) as temporary:
                    temporary.write_text(json.dumps({**kept, **measured}, indent=1) + "\n", encoding="utf-8")
    return measured, group_of


def _change_table(changed: Sequence[Change]) -> Table:
    table = Table("benchmark", "before", "now", "times as fast", "")
    for change in changed:
        factor = "-" if math.isnan(change.factor) else significant(change.factor)
        mark = "slower" if change.slower else ""
        table.add_row(change.key, significant(change.old), significant(change.new), factor, mark)
    return table


def _warn_without_reference(changed: Sequence[Change]) -> None:
    console = plain_console()
    if any(math.isnan(change.factor) for change in changed):
        console.print("-: the earlier run has no reference for this number, which depends on its machine")
    slower = [change.key for change in changed if change.slower]
    console.print(f"slower by more than {SLOWER:g} times: {', '.join(slower) or 'none'}", soft_wrap=True)


def _append_history(
    path: Path, measured: Mapping[str, float], changed: Sequence[Change], only: Sequence[str], compare: Path | None
) -> None:
    """A section at the end of a Markdown file: the command, and a table of the run."""
    words = ["edgemarl bench", *(f"--only {name}" for name in only)] + ([f"--compare {compare}"] if compare else [])
    factors = {change.key: change.factor for change in changed}
    lines = [f"\n### {datetime.now(UTC):%Y-%m-%d}, version {edgemarl.__version__}\n", f"`{' '.join(words)}`\n"]
    lines += ["| key | value | times as fast as before |", "|---|---|---|"]
    for key, value in measured.items():
        factor = factors.get(key, math.nan)
        lines.append(f"| `{key}` | {significant(value)} | {'' if math.isnan(factor) else significant(factor)} |")
    before = path.read_text(encoding="utf-8") if path.is_file() else "# Benchmarks\n"
    with replacing(path) as temporary:
        temporary.write_text(before + "\n".join(lines) + "\n", encoding="utf-8")


def _numbers(path: Path) -> dict[str, float]:
    """Key -> number of a file that `bench --json` wrote.

    Raises:
        ValueError: no such file, or one that holds something else.
    """
    try:
        numbers = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ValueError(f"benchmark file {path} cannot be read: {error.strerror or error}") from None
    except (ValueError, RecursionError):
        raise ValueError(f"benchmark file {path} is no JSON; must be written by bench --json") from None
    if not isinstance(numbers, dict) or not all(isinstance(v, int | float) for v in numbers.values()):
        raise ValueError(f"benchmark file {path} must hold one flat object of numbers, as bench --json writes it")
    return {key: float(value) for key, value in numbers.items()}


def _check_writable(path: Path) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(path.with_name(f"{path.name}.probe")) as temporary:
            temporary.touch()
        path.with_name(f"{path.name}.probe").unlink()
    except OSError as error:
        raise ValueError(f"output file {path} cannot be written: {error.strerror or error}") from None
