"""`check`: the learners against results that are known elsewhere."""

from __future__ import annotations

import math
from pathlib import Path

from edgemarl.envs.config import unknown_name
from edgemarl.launch.progress import Bars

PENDULUM = ("ddpg", "td3")
TAKEN = {"resident_mib": "MiB of memory", "descriptors": "open descriptors", "threads": "threads"}


def check_pendulum(algorithm: str, steps: int, seed: int) -> None:
    """Train on Gymnasium's Pendulum-v1, whose returns are published (-150 to -200), and play it without noise.

    Raises:
        ValueError: an algorithm that is not of continuous actions, fewer than 1 step.
    """
    if algorithm not in PENDULUM:
        raise ValueError(unknown_name("algorithm of this check", algorithm, PENDULUM))
    from edgemarl.agents.trained.policy import CENTRAL
    from edgemarl.marl.scratch import scratch
    from edgemarl.marl.studies.pendulum import EVALUATION_EPISODES, pendulum_run, returns_without_noise
    from edgemarl.marl.training.run import train
    from edgemarl.marl.training.trained import saved_policies

    config = pendulum_run(algorithm, steps, seed)
    with scratch() as folder:
        run = train(config, folder / "run")
        policy = saved_policies(run.path).policies[CENTRAL]
    returns = returns_without_noise(policy, EVALUATION_EPISODES, 10_000)
    print(
        f"{algorithm}, seed {seed}, {steps} env steps in {run.training_s:.0f} s: return {returns.mean():.1f}, "
        f"standard deviation {returns.std(ddof=1):.1f}, worst {returns.min():.1f} over {EVALUATION_EPISODES} episodes "
        "without noise"
    )


def check_parity(training_seeds: int, agent_steps: int, devices: int, out: Path) -> None:
    """Train the same PPO through our runner and through RLlib's own, and compare what they learn.

    Raises:
        ValueError: fewer than two seeds: an interval needs them.
    """
    if training_seeds < 2:
        raise ValueError(f"training_seeds = {training_seeds} is not legal: an interval needs at least 2")
    from edgemarl.marl.studies.learning_parity import interval, study

    costs = study(out, training_seeds, agent_steps, devices)
    intervals = {side: interval(values.mean(axis=1)) for side, values in costs.items()}
    for side, (mean, low, high) in intervals.items():
        print(f"{side:8s} cost {mean:.3f} [{low:.3f}, {high:.3f}] over {training_seeds} seeds")
    difference = interval((costs["batched"] / costs["rllib"] - 1.0).mean(axis=1))
    print("batched over rllib: {:+.2%} [{:+.2%}, {:+.2%}]".format(*difference))
    (_, low_a, high_a), (_, low_b, high_b) = intervals["batched"], intervals["rllib"]
    print("the intervals overlap" if low_a <= high_b and low_b <= high_a else "the intervals do not overlap")


def check_memory(minutes: float, every_s: float, out: Path) -> None:
    """Train and play for some minutes and say whether memory, descriptors and threads grow; a table and a figure.

    Raises:
        ValueError: no time, a folder that cannot be written or that another command works in.
    """
    for name, value in (("minutes", minutes), ("every_s", every_s)):
        if not (0.0 < value < math.inf):
            raise ValueError(f"{name} = {value:g} is not legal: must be a number > 0")
    from edgemarl.launch.experiment.store import working_in
    from edgemarl.launch.report.memory_figure import draw_memory
    from edgemarl.marl.scratch import scratch
    from edgemarl.marl.studies.memory import growth_mib_per_hour, watch_memory

    with working_in(out), scratch() as folder, Bars() as bars:
        rows = watch_memory(minutes, every_s, folder / "run", lambda over_s, all_s: bars("seconds", over_s, all_s))
        rows.to_csv(out / "memory.csv", index=False)
        draw_memory(rows, out / "memory.svg")
    slope, half = growth_mib_per_hour(rows)
    first, last = rows.iloc[len(rows) // 5], rows.iloc[-1]
    taken = "; ".join(f"{what} {first[key]:.0f} -> {last[key]:.0f}" for key, what in TAKEN.items())
    print(
        f"{last['time_s'] / 60:.0f} min, {last['iterations']:,.0f} iterations, {last['episodes']:,.0f} episodes; "
        f"after the first fifth {taken}; memory {slope:+.1f} +- {half:.1f} MiB per hour"
    )
