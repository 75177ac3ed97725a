"""`python -m edgemarl.marl.studies.clients.measure`: a job as JSON on standard input, its rows as JSON at the end."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import Any

from edgemarl.marl.studies.clients import load_client
from edgemarl.marl.studies.clients.job import ClientJob


def in_process_of_its_own(job: ClientJob) -> list[dict[str, float]]:
    """The rows of a job, trained in a process that ends with it.

    Raises:
        RuntimeError: the process failed; the message is the end of what it wrote.
    """
    words = [sys.executable, "-m", "edgemarl.marl.studies.clients.measure"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "RAY_USAGE_STATS_ENABLED": "0"}
    done = subprocess.run(
        words, input=json.dumps(job.to_dict()), capture_output=True, text=True, check=False, env=environment
    )
    if done.returncode != 0:
        raise RuntimeError(f"client {job.client}, seed {job.seed}: {done.stderr[-2000:]}")
    rows: list[dict[str, float]] = json.loads(done.stdout.splitlines()[-1])
    return rows


def measure(values: dict[str, Any]) -> list[dict[str, float]]:
    """The rows of a job, trained in this process."""
    from edgemarl.marl.benchmarks.quality import Clock

    job, clock = ClientJob.from_dict(values), Clock()
    learn = load_client(job.client)
    import torch

    from edgemarl.marl.studies.clients.job import Looks

    torch.set_num_threads(1)
    looks = Looks(job, clock)
    learn(job, looks)
    return looks.rows


if __name__ == "__main__":
    print(json.dumps(measure(json.load(sys.stdin))))
