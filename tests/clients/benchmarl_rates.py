"""Why actions of BenchMARL's IPPO become NaN at a learning rate of 1e-3: one thing changed at a time.

    python tests/clients/benchmarl_rates.py [VARIANT ..]

Prints, before every update, mean reward, the share of actions at a bound, the spread and log probabilities of the
policy, and after it its KL divergence. Two minutes of a core each; docs/clients.md quotes it.
"""

from __future__ import annotations

import sys
import tempfile
from typing import Any

from benchmarl.algorithms import IppoConfig, ippo
from benchmarl.experiment import Callback, Experiment, ExperimentConfig
from benchmarl.models.mlp import MlpConfig

from edgemarl.agents.clients.benchmarl_task import EdgeMARLTask

VARIANTS: dict[str, dict[str, Any]] = {
    "as it comes": {},
    "actions in [-1, 1]": {"actions": "unit"},
    "rewards a tenth": {"reward_scale": 0.01},
    "a plain normal distribution": {"use_tanh_normal": False},
    "advantages normalised": {"normalize_advantage": True},
}
FRAMES, DEVICES = 600, 10


class Print(Callback):  # type: ignore[misc] # BenchMARL has no types
    def __getstate__(self) -> dict[str, Any]:
        return {}

    def on_batch_collected(self, batch: Any) -> None:
        action, log_prob = batch["wd", "action"], batch["wd", "log_prob"]
        reward, decisions = batch["next", "wd", "reward"].mean(), self.experiment.total_frames * DEVICES
        space = self.experiment.action_spec["wd", "action"].space
        place = (action - space.low) / (space.high - space.low)
        edge = ((place < 1e-4) | (place > 1 - 1e-4)).float().mean((0, 1, 2)).tolist()
        print(
            f"{decisions:>7} decisions: reward {reward:.2f}, at a bound {edge[0]:.0%} {edge[1]:.0%}, "
            f"scale from {batch['wd', 'scale'].min():.3f}, "
            f"log probability from {log_prob.min():.3g} to {log_prob.max():.3g}", flush=True
        )  # fmt: skip

    def on_train_end(self, training_td: Any, group: str) -> None:
        print(f"{'':>8}KL divergence of the update {training_td['kl_approx'].mean():.3g}", flush=True)


def train(variant: dict[str, Any]) -> None:
    given = {name: variant[name] for name in ("actions",) if name in variant}
    scale, fixed = variant.get("reward_scale", 0.1), {"server": "parametric_q"}
    task = EdgeMARLTask(
        "sequential_offloading",
        {"num_devices": DEVICES, "device_action": "residual", "fixed": fixed, "reward_scale": scale, **given},
    )
    config = ExperimentConfig.get_from_yaml()
    config.loggers, config.create_json, config.evaluation, config.render = [], False, False, False
    config.gamma, config.lr, config.max_n_iters, config.max_n_frames = 0.95, 1e-3, 17, None
    config.on_policy_n_envs_per_worker, config.on_policy_collected_frames_per_batch = 6, FRAMES
    config.on_policy_minibatch_size, config.on_policy_n_minibatch_iters = 40, 10
    config.save_folder = tempfile.mkdtemp()
    algorithm, layers = IppoConfig.get_from_yaml(), MlpConfig.get_from_yaml()
    algorithm.use_tanh_normal = variant.get("use_tanh_normal", True)
    loss = ippo.ClipPPOLoss
    if "normalize_advantage" in variant:  # BenchMARL has no setting for it
        ippo.ClipPPOLoss = lambda **values: loss(**{**values, "normalize_advantage": True})
    try:
        Experiment(task, algorithm, layers, 0, config, critic_model_config=layers, callbacks=[Print()]).run()
    except ValueError as error:
        print(error)
    finally:
        ippo.ClipPPOLoss = loss


if __name__ == "__main__":
    for name in sys.argv[1:] or VARIANTS:
        print(name, flush=True)
        train(VARIANTS[name])
