"""Commands one after another in one process of another Python, which loads what they need once."""

from __future__ import annotations

import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

SCRIPT = """
import contextlib, sys
from edgemarl.launch.cli import main

for i, words in enumerate(sys.argv[1:]):
    with open(f"{i}.txt", "w") as file, contextlib.redirect_stdout(file):
        try:
            main(words.split())
        except SystemExit as stop:
            if stop.code:
                sys.exit(f"{words}: exit code {stop.code}")
"""


def one_after_another(python: str, commands: Sequence[str], folder: Path, variables: Mapping[str, str]) -> None:
    """Run command lines of `edgemarl`, given without its name, in a folder; 0.txt, 1.txt, .. hold what they print.

    The first that fails ends them all, with an error.
    """
    done = subprocess.run(
        [python, "-c", SCRIPT, *commands], cwd=folder, env=dict(variables), capture_output=True, text=True, timeout=900
    )
    assert done.returncode == 0, done.stderr[-3000:]
