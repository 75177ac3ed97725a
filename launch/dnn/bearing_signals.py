"""Synthetic vibration signals of a rolling bearing and a small CNN that tells its faults: an example to prune.

A healthy bearing gives noise and the shaft's rotation; a fault on the outer ring, the inner ring or a ball adds short
ringing impulses at its own repetition rate (the rates are those of a common deep-groove bearing, per revolution).
"""

from __future__ import annotations

import numpy as np
import torch
from torch import nn

from edgemarl.envs.arrays import Array
from edgemarl.launch.dnn.pruning import FineTuning, fine_tune

Batch = tuple[torch.Tensor, torch.Tensor]
SAMPLE_RATE_HZ = 4000.0
SAMPLES = 512
SHAFT_HZ = 30.0
IMPULSES_PER_REVOLUTION = (0.0, 3.58, 5.42, 2.36)
"""Healthy, outer ring, inner ring, ball."""
RESONANCE_HZ = 900.0
DECAY_PER_S = 250.0
NOISE = 0.3


def bearing_signals(rng: np.random.Generator, count: int) -> tuple[Array, Array]:
    """Signals (count, 1, SAMPLES) float32 and their class indices (count,)."""
    time = np.arange(SAMPLES) / SAMPLE_RATE_HZ
    label = rng.integers(0, len(IMPULSES_PER_REVOLUTION), count)
    shaft_hz = SHAFT_HZ * rng.uniform(0.95, 1.05, (count, 1))
    rate = np.asarray(IMPULSES_PER_REVOLUTION)[label][:, None] * shaft_hz
    since = np.mod(time * rate + rng.random((count, 1)), 1.0) / np.where(rate > 0.0, rate, 1.0)
    ringing = np.exp(-DECAY_PER_S * since) * np.sin(2.0 * np.pi * RESONANCE_HZ * since) * (rate > 0.0)
    rotation = 0.4 * np.sin(2.0 * np.pi * shaft_hz * time + rng.uniform(0.0, 2.0 * np.pi, (count, 1)))
    amplitude = rng.uniform(0.8, 1.6, (count, 1))
    signal = amplitude * ringing + rotation + NOISE * rng.standard_normal((count, SAMPLES))
    return signal[:, None].astype(np.float32), label


def bearing_batches(train: int = 800, test: int = 600) -> tuple[list[Batch], list[Batch]]:
    """Batches (signals, classes) of training and of test signals; a torch DataLoader would do as well."""
    rng = np.random.default_rng(0)
    return _batches(rng, train, 50), _batches(rng, test, 200)


def _batches(rng: np.random.Generator, count: int, size: int) -> list[Batch]:
    signals, labels = (torch.as_tensor(part) for part in bearing_signals(rng, count))
    return list(zip(signals.split(size), labels.split(size), strict=True))


class BearingCNN(nn.Module):
    """Three convolutions over time and two linear layers."""

    def __init__(self, classes: int = len(IMPULSES_PER_REVOLUTION)) -> None:
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv1d(1, 8, 16, stride=4), nn.ReLU(), nn.Conv1d(8, 16, 9, stride=2), nn.ReLU(),
            nn.Conv1d(16, 16, 9, stride=2), nn.ReLU(), nn.AdaptiveAvgPool1d(8), nn.Flatten(),
        )  # fmt: skip
        self.head = nn.Sequential(nn.Linear(128, 32), nn.ReLU(), nn.Linear(32, classes))

    def forward(self, signals: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = self.head(self.features(signals))
        return logits


def bearing_cnn(epochs: int = 20) -> BearingCNN:
    """The CNN, trained from a fixed seed."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = BearingCNN()
    fine_tune(model, bearing_batches()[0], FineTuning(epochs, 3e-3))
    return model
