"""How many decisions a policy gradient needs: what theory says about the three rewards."""

from __future__ import annotations

import pytest

import edgemarl.marl.studies.gradient_noise
from edgemarl.envs.scenarios.sequential_offloading.config import SequentialOffloadingConfig
from edgemarl.marl.studies.gradient_noise import gradient_noise


def test_other_devices_are_noise_in_the_sum_and_in_nothing_else(monkeypatch: pytest.MonkeyPatch) -> None:
    """One device: what it has an effect on is everything. Forty: their costs are noise in the sum alone."""
    monkeypatch.setattr(edgemarl.marl.studies.gradient_noise, "DEVICES", 40)
    alone, many = (gradient_noise(SequentialOffloadingConfig(), devices) for devices in (1, 40))
    assert alone["team"] == pytest.approx(alone["coupled"])
    assert many["team"] > 4 * many["coupled"]
