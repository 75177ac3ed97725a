"""`bench`: speed as a flat JSON of numbers."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from rich.table import Table

from edgemarl.envs.config import unknown_name
from edgemarl.envs.files import replacing
from edgemarl.launch.console import plain_console
from edgemarl.launch.progress import Bars
from edgemarl.launch.report.numerals import significant
from edgemarl.marl.benchmarks import GROUPS, load_group


def bench(json_file: Path | None, only: Sequence[str]) -> None:
    """Run groups of benchmarks, print their numbers and write them.

    Args:
        json_file: where the numbers go; keys of earlier groups in it are kept if only some groups run.
        only: groups; all by default.

    Raises:
        ValueError: unknown group, two groups with one key, a file that cannot be written.
    """
    for name in only:
        if name not in GROUPS:
            raise ValueError(unknown_name("benchmark group", name, GROUPS))
    chosen = list(only) or list(GROUPS)
    found: dict[str, float] = {}
    if json_file is not None:
        _check_writable(json_file)
        if only and json_file.is_file():
            found = json.loads(json_file.read_text(encoding="utf-8"))
    with Bars() as bars:
        for name in chosen:
            bars(name, 0, 1)
            found |= {key: float(value) for key, value in load_group(name)().items()}
            bars(name, 1, 1)
            if json_file is not None:
                with replacing(json_file) as temporary:
                    temporary.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    table = Table("benchmark", "value")
    for key, value in found.items():
        table.add_row(key, significant(value))
    plain_console().print(table)


def _check_writable(path: Path) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(path.with_name(f"{path.name}.probe")) as temporary:
            temporary.touch()
        path.with_name(f"{path.name}.probe").unlink()
    except OSError as error:
        raise ValueError(f"output file {path} cannot be written: {error.strerror or error}") from None
