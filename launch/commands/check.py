"""`check`: the learners against results that are known elsewhere."""

from __future__ import annotations

from pathlib import Path

from edgemarl.envs.config import unknown_name

PENDULUM = ("ddpg", "td3")


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
