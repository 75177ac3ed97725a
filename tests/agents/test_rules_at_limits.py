"""Every rule at both ends of every number of its scenario: five slots, all finite, nothing raised, no overflow.

One rule at each end in `make test`, all of them with `pytest -m soak`.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from itertools import cycle

import numpy as np
import pytest

from edgemarl.agents.registry import make_policy, playbook_of
from edgemarl.envs.config import range_of
from edgemarl.envs.registry import scenario_class, scenario_names
from edgemarl.envs.scenario import Scenario
from edgemarl.envs.testing import arrays
from tests.envs.test_limits import FIELDS, at_end

SLOTS = 5
RULES = {
    scenario: [name for name, entry in playbook_of(scenario).controllers.items() if entry.kind != "reference"]
    for scenario in scenario_names()
}
PLANNERS = {
    ("model_partitioning", "num_devices"): (300, "coordinate", "multi_start", "slot_optimal"),
    ("model_pruning", "num_devices"): (
        300, "threshold", "threshold_static_50", "cell_plan", "cell_plan_static_40", "cell_plan_chosen"
    ),
    ("model_pruning", "num_criticality_levels"): (
        64, "threshold", "threshold_static_50", "cell_plan", "cell_plan_static_40", "cell_plan_chosen"
    ),
    ("model_placement", "num_gateways"): (100, "cell_plan", "cell_plan_used", "cell_plan_priced"),
}  # fmt: skip
"""Sizes up to which rules are tried that plan for all agents of a slot together: at the largest they take minutes."""


def ends_of(scenario: str, name: str, rule: str) -> tuple[float, float]:
    kind, *ends = range_of(scenario_class(scenario).config_type, name)
    least, largest = map(kind, ends)
    size, *planners = PLANNERS.get((scenario, name), (largest,))
    return least, size if rule in planners else largest


def hold(network: Scenario, rule: str, name: str) -> None:
    """Five slots of finite numbers; or the rule says at its start, and of this field, why it cannot play."""
    trace = network.sample_trace(np.random.default_rng(0), 1, SLOTS)
    policy, rng = make_policy(network, rule), np.random.default_rng(1)
    try:
        policy.reset(network, trace)
    except ValueError as error:
        assert name in str(error) and "\n" not in str(error)
        return
    state = network.initial_state(trace)
    for t in range(SLOTS):
        exogenous = network.exogenous(trace, t)
        decisions = policy.decide(state, exogenous, rng)
        step = network.step(state, decisions, exogenous)
        policy.feedback(step.costs)
        for part in (decisions, step):
            for path, values in arrays(part).items():
                never = path == "details.delay_s."  # of a task that is refused
                assert (~np.isnan(values) if never else np.isfinite(values)).all(), (name, path)
        state = step.state


TURNS = {scenario: cycle(rules) for scenario, rules in RULES.items()}
SAMPLE = [(scenario, name, i, next(TURNS[scenario])) for scenario, name in FIELDS for i in (0, 1)]


@pytest.mark.parametrize(("scenario", "name", "end", "rule"), SAMPLE)
def test_a_rule_plays_at_an_end(scenario: str, name: str, end: int, rule: str) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error", RuntimeWarning)
        hold(at_end(scenario, name, ends_of(scenario, name, rule)[end]), rule, name)


@pytest.mark.soak
@pytest.mark.parametrize(("scenario", "rule"), [(scenario, rule) for scenario in RULES for rule in RULES[scenario]])
def test_every_rule_plays_at_every_end(scenario: str, rule: str, finding: Callable[..., None]) -> None:
    cases, wrong = [(name, end) for s, name in FIELDS if s == scenario for end in ends_of(scenario, name, rule)], []
    with warnings.catch_warnings():
        warnings.simplefilter("error", RuntimeWarning)
        for name, end in cases:
            try:
                hold(at_end(scenario, name, end), rule, name)
            except Exception as error:  # whatever it is
                wrong.append(f"{name} = {end:g}: {type(error).__name__}: {error}")
    finding(f"ends of ranges at which `{rule}` of {scenario} plays", len(cases), len(wrong))
    assert not wrong
