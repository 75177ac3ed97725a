"""Does a long training, and a long rollout beside it, keep its memory?

    edgemarl check memory --minutes 60

One process trains iteration after iteration with every save that its clock asks for, and plays episodes of an
online learner after each; its resident memory, open descriptors and threads are noted all along.
"""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd

SETTLED = 0.2
"""Share of the time after which caches are full and everything is loaded: what grows from there on is a leak."""
SLOTS = 200
LOOKS_MIN = 3
"""Looks that a slope needs."""


def watch_memory(minutes: float, every_s: float, out: Path, notify: Callable[[int, int], None]) -> pd.DataFrame:
    """Train and play for some minutes.

    Args:
        minutes: of the clock.
        every_s: seconds between two looks.
        out: folder of the training run.
        notify: told the seconds that are over, and of how many.

    Returns:
        A row per look: time_s, resident_mib, descriptors, threads, iterations, episodes.
    """
    from edgemarl.agents.registry import make_policy
    from edgemarl.envs.registry import make_scenario
    from edgemarl.marl.evaluation.rollout import rollout
    from edgemarl.marl.training.config import TrainConfig
    from edgemarl.marl.training.run import Training

    scenario = make_scenario("sequential_offloading")
    config = TrainConfig(scenario="sequential_offloading", iteration_steps=4000, agent_steps=10**12, checkpoint_s=10.0)
    traces, noise = np.random.default_rng(1), np.random.default_rng(2)
    rows: list[dict[str, float]] = []
    started_s = saved_s = time.monotonic()
    with Training(config, out) as training:
        while (now_s := time.monotonic() - started_s) < 60.0 * minutes or len(rows) < LOOKS_MIN:
            training.step()
            if time.monotonic() - saved_s >= config.checkpoint_s:
                training.save()
                saved_s = time.monotonic()
            rollout(
                make_policy(scenario, "parametric_q_priced"), scenario, scenario.sample_trace(traces, 4, SLOTS), noise
            )
            if not rows or now_s - rows[-1]["time_s"] >= every_s:
                rows.append({"time_s": now_s, **_taken(), "iterations": len(training.rows)})
                notify(min(int(now_s), math.ceil(60.0 * minutes)), math.ceil(60.0 * minutes))
    return pd.DataFrame(rows).assign(episodes=lambda table: 4 * table["iterations"])


def _taken() -> dict[str, float]:
    import psutil

    process = psutil.Process()
    with process.oneshot():
        resident, threads = process.memory_info().rss, process.num_threads()
    return {
        "resident_mib": resident / 2**20, "descriptors": float(len(os.listdir("/proc/self/fd"))), "threads": threads,
    }  # fmt: skip


def growth_mib_per_hour(rows: pd.DataFrame) -> tuple[float, float]:
    """Slope of the resident memory after it has settled, and half of its 95 % interval, in MiB per hour.

    Theil and Sen's estimate: the median slope of all pairs of looks, which single peaks do not move.
    """
    from scipy.stats import theilslopes

    late = rows[rows["time_s"] >= SETTLED * rows["time_s"].iloc[-1]]
    slope, _, low, high = theilslopes(late["resident_mib"], late["time_s"] / 3600.0)
    return float(slope), float(high - low) / 2.0
