"""A seed gives one result, whatever Python's hash seed is: every algorithm trained in two processes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[3]
SCRIPT = Path(__file__).parent / "train_every_algorithm.py"


def test_two_hash_seeds_train_the_same_weights_with_every_algorithm(tmp_path: Path) -> None:
    """One of the processes asks for Ray at its end, and gets it."""
    variables = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
    both = [
        subprocess.Popen(
            [sys.executable, str(SCRIPT), str(tmp_path / hash_seed), *more],
            cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
            env={**variables, "PYTHONHASHSEED": hash_seed, "PYTHONPATH": str(ROOT)},
        )
        for hash_seed, more in (("0", ["ray"]), ("1", []))
    ]  # fmt: skip
    told = [process.communicate(timeout=900) for process in both]
    assert [process.returncode for process in both] == [0, 0], "\n".join(err[-3000:] for _, err in told)
    found = [json.loads(out.splitlines()[-1]) for out, _ in told]
    assert len(found[0]) == 9
    assert found[0] == found[1]
