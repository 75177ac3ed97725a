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
    found = []
    for hash_seed in ("0", "1"):
        variables = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
        done = subprocess.run(
            [sys.executable, str(SCRIPT), str(tmp_path / hash_seed)],
            cwd=ROOT, capture_output=True, text=True, timeout=900,
            env={**variables, "PYTHONHASHSEED": hash_seed, "PYTHONPATH": str(ROOT)},
        )  # fmt: skip
        assert done.returncode == 0, done.stderr[-3000:]
        found.append(json.loads(done.stdout.splitlines()[-1]))
    assert len(found[0]) == 9
    assert found[0] == found[1]
