"""Seconds of one core until a policy is good: from the start of a process to the first checkpoint near the reference.

Every side trains in a process of its own, with one thread. Its clock is the processor time of the process and of the
Ray that it starts: interpreter, imports, building, imitation and training count; what is spent on looking at policies
does not. A checkpoint is looked at on traces that no training draws (`edgemarl.marl.training.quality.Yardstick`).

Sides:

- `ours`: the given settings through the batched runner;
- `rllib`: the same PPO through RLlib's own multi-agent runner (`edgemarl.marl.studies.learning_parity`).
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

LOOKS = 60
"""Checkpoints of a budget that are looked at."""


def seconds_to(
    settings: Mapping[str, Any], side: str, minutes: float, shares: Sequence[float], reference: str | None = None
) -> dict[float, float | None]:
    """Share above the reference -> seconds of a core until a checkpoint was so near, None where none was.

    Args:
        settings: of the run, as `TrainConfig.to_dict` gives them.
        side: "ours" or "rllib".
        minutes: processor time after which the side gives up.
        shares: above the reference, that are asked for.
        reference: controller to compare with; the scenario's reference by default.

    Raises:
        RuntimeError: the side's process failed; the message is the end of what it wrote.
    """
    words = [sys.executable, "-m", "edgemarl.marl.benchmarks.quality"]
    given = json.dumps(
        {"settings": settings, "side": side, "minutes": minutes, "shares": list(shares), "reference": reference}
    )
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "RAY_USAGE_STATS_ENABLED": "0"}
    done = subprocess.run(words, input=given, capture_output=True, text=True, check=False, env=environment)
    if done.returncode != 0:
        raise RuntimeError(f"side {side}: {done.stderr[-2000:]}")
    seconds = json.loads(done.stdout.splitlines()[-1])
    return {share: seconds[str(share)] for share in shares}


class Clock:
    """Processor time of this process and its children since they started, less what was set aside."""

    def __init__(self) -> None:
        self._aside_s = 0.0

    def now_s(self) -> float:
        return _processor_s() - self._aside_s

    def aside(self, run: Callable[[], float]) -> float:
        """What something returns, its time not counted."""
        started_s = time.process_time()
        value = run()
        self._aside_s += time.process_time() - started_s
        return value


def _processor_s() -> float:
    import psutil  # Ray ships it, and puts it on the path when it is imported

    total = time.process_time()
    for process in psutil.Process().children(recursive=True):
        try:
            times = process.cpu_times()
        except psutil.NoSuchProcess:
            continue
        total += times.user + times.system
    return total


def first_times(
    train: Callable[[], object],
    above: Callable[[], float],
    clock: Clock,
    iterations: int,
    limit_s: float,
    shares: Sequence[float],
    start: Callable[[], object] | None = None,
) -> dict[float, float | None]:
    """Time of the first of `LOOKS` checkpoints that is within each share of the reference.

    Args:
        train: one iteration.
        above: share above the reference of what is learned so far.
        clock: whose time counts.
        iterations: of the budget.
        limit_s: time after which no further iteration begins.
        shares: above the reference.
        start: what comes before the first iteration, such as an imitation; it leaves a checkpoint too.
    """
    times: dict[float, float | None] = dict.fromkeys(shares)
    looked = 0

    def look() -> None:
        now_s = clock.now_s()
        share = clock.aside(above)
        print(f"{now_s:.1f} s: {100 * share:.2f}% above", file=sys.stderr, flush=True)
        times.update({wanted: now_s for wanted in shares if share <= wanted and times[wanted] is None})

    if start is not None:
        start()
        look()
    for iteration in range(1, iterations + 1):
        if None not in times.values():
            break
        train()
        if iteration * LOOKS // iterations > looked or iteration == iterations:
            looked = iteration * LOOKS // iterations
            look()
        if None not in times.values() or clock.now_s() > limit_s:
            break
    return times


def measure(
    settings: Mapping[str, Any], side: str, minutes: float, shares: Sequence[float], reference: str | None = None
) -> dict[float, float | None]:
    """What `seconds_to` gives, measured in this process."""
    from edgemarl.marl.rllib.node import local_ray
    from edgemarl.marl.training.config import TrainConfig, resolve
    from edgemarl.marl.training.imitation import warm_start
    from edgemarl.marl.training.quality import Yardstick, live_policy
    from edgemarl.marl.training.setup import set_up

    config, clock = TrainConfig.from_dict(settings), Clock()
    run = resolve(config)
    iterations = -(-config.agent_steps // (config.cells * config.slots * run.agents))
    imitates = bool(getattr(run.settings, "imitate", {}))
    with local_ray(0):
        if side == "ours":
            algorithm = set_up(run)
        else:
            from edgemarl.marl.studies.learning_parity import rllib_algorithm

            algorithm = rllib_algorithm(config)
        yardstick = Yardstick(run.scenario, seed=config.seed + 1000, reference=reference)
        try:
            return first_times(
                algorithm.train, lambda: yardstick.above(live_policy(algorithm, run)), clock, iterations,
                60.0 * minutes, shares, (lambda: warm_start(algorithm, run)) if imitates else None,
            )  # fmt: skip
        finally:
            algorithm.stop()


if __name__ == "__main__":
    print(json.dumps({str(share): found_s for share, found_s in measure(**json.load(sys.stdin)).items()}))
