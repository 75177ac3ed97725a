"""Nobody beats a certified bound, nor the reference by more than its stated slack: every controller at three sizes."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

import numpy as np
import pytest

from edgemarl.agents.model_partitioning import far_sighted
from edgemarl.agents.model_placement import best_plan
from edgemarl.agents.registry import make_policy, playbook_of
from edgemarl.envs import make_scenario, scenario_names
from edgemarl.envs.scenario import Scenario
from edgemarl.envs.scenarios.sampling_rate import SamplingRate, SamplingRateConfig
from edgemarl.marl.evaluation.rollout import rollout

PLAYED: dict[str, tuple[int, int, int]] = {  # networks, slots, warm-up
    "sequential_offloading": (6, 110, 60),
    "model_partitioning": (1, 40, 10),
    "sampling_rate": (2, 120, 30),
    "model_pruning": (2, 24, 0),
    "model_placement": (4, 16, 4),
}
AT_DEFAULT = {"model_placement": (1, 6, 2), "sequential_offloading": (3, 110, 60)}
"""Fewer networks where the default size is large."""
PER_SERVICE = (
    "raw_task_bits", "device_cycles_per_bit", "server_cycles_per_bit", "device_model_accuracy",
    "server_model_accuracy", "accuracy_target", "accuracy_price_s",
)  # fmt: skip
CASES = [(name, devices) for name in scenario_names() for devices in (1, 2, None)]
STANDARD_ERRORS = 3.0
REFUSED = {("sampling_rate", 1, "broadcast_price"), ("sampling_rate", 1, "parametric_q_priced")}


@pytest.fixture(autouse=True)
def short_plans(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """References that plan on traces of their own plan on short ones."""
    monkeypatch.setattr(far_sighted, "PLAN_SLOTS", 24)
    monkeypatch.setattr(best_plan, "TRIAL_SLOTS", 8)
    monkeypatch.setattr(best_plan, "TRIAL_DEVICES", 10)
    monkeypatch.setattr(best_plan, "TRIAL_NETWORKS", 3)
    yield
    far_sighted._PLANS.clear()
    best_plan._FOUND.clear()


def network(name: str, devices: int | None) -> Scenario:
    """A scenario with 1, 2 or its default number of devices and the resources that they need."""
    if devices is None:
        return make_scenario(name)
    if (name, devices) == ("sampling_rate", 1):
        return one_service(SamplingRateConfig())
    scenario, at_size = make_scenario(name), playbook_of(name).at_size
    assert at_size is not None
    return type(scenario)(at_size(scenario.config, devices))


def one_service(config: SamplingRateConfig) -> SamplingRate:
    """The first service alone, with one device and a tenth of the default's resources."""
    first = {name: getattr(config, name)[:1] for name in PER_SERVICE}
    share = 1.0 / config.num_devices
    resources = {name: getattr(config, name) * share for name in ("bandwidth_hz", "server_hz")}
    return SamplingRate(dataclasses.replace(config, **{**first, **resources, "devices_per_service": (1,)}))


@pytest.mark.parametrize(("name", "devices"), CASES)
def test_nobody_beats_the_bound_or_the_reference(name: str, devices: int | None) -> None:
    scenario, book = network(name, devices), playbook_of(name)
    cells, slots, warmup = AT_DEFAULT.get(name, PLAYED[name]) if devices is None else PLAYED[name]
    trace = scenario.sample_trace(np.random.default_rng(7), cells, slots)
    assert book.bound is not None
    bound = book.bound(scenario, trace, warmup)
    assert bound.values.shape == (cells,)
    assert bound.each_trace == book.bound_each_trace
    costs = {}
    for controller in book.controllers:
        rng = np.random.default_rng(0)
        if (name, devices, controller) in REFUSED:
            with pytest.raises(ValueError, match="needs 2 services"):
                rollout(make_policy(scenario, controller), scenario, trace, rng)
            continue
        played = rollout(make_policy(scenario, controller), scenario, trace, rng, warmup=warmup)
        costs[controller] = played.means[scenario.cost_metric]
    for controller, cost in costs.items():
        above = cost - bound.values
        if bound.each_trace:
            assert above.min() >= 0.0, controller
        else:
            assert above.mean() > -STANDARD_ERRORS * above.std(ddof=1) / np.sqrt(cells), controller
    reference = costs[book.reference].mean()
    best = min(costs, key=lambda controller: costs[controller].mean())
    assert costs[best].mean() >= reference - book.slack * abs(reference), (best, costs[best].mean(), reference)


@pytest.mark.parametrize("name", scenario_names())
def test_a_slack_has_a_reason(name: str) -> None:
    book = playbook_of(name)
    assert book.bound is not None
    assert (book.slack > 0.0) == bool(book.slack_reason)
    assert book.controllers[book.reference].kind == "reference"
