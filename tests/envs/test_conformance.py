"""The suite of `edgemarl.envs.testing` over every scenario that has a name."""

from __future__ import annotations

import warnings
from typing import Any

import pytest

from edgemarl.envs import ScenarioParallelEnv, make_scenario, scenario_names
from edgemarl.envs.scenario import Scenario
from edgemarl.envs.testing import ScenarioTests, refused

SMALLER: dict[str, dict[str, Any]] = {
    "model_placement": {
        "num_gateways": 2, "devices_per_gateway": 3, "uplink_bandwidth_hz": 170e3, "relay_bandwidth_hz": 340e3,
        "gateway_cpu_hz": 130e6, "edge_cpu_hz": 86e6, "gateway_cache_bits": 2e8, "edge_cache_bits": 3e8,
    },
}  # fmt: skip
"""Scenarios whose default network is too large for checkers that step a dict per agent."""


class TestConformance(ScenarioTests):
    @pytest.fixture(autouse=True, params=scenario_names())
    def _named(self, request: pytest.FixtureRequest) -> None:
        self.name = request.param

    def make(self) -> Scenario:
        return make_scenario(self.name, **SMALLER.get(self.name, {}))


def test_what_is_not_refused_is_noticed() -> None:
    with pytest.raises(AssertionError, match="no ValueError"), refused("x"):
        pass
    with pytest.raises(AssertionError, match="is not named"), refused("bandwidth_hz"):
        raise ValueError("power_w = -1")


def test_an_option_of_reset_that_is_not_read_is_named() -> None:
    env = ScenarioParallelEnv("sequential_offloading", num_devices=2)
    with pytest.warns(UserWarning, match="traces"):
        env.reset(seed=0, options={"traces": None})
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        env.reset(seed=0, options={})
