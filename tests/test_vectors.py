"""Golden one-step cases. `--vectors PATH` runs other files of the same form; a file's name is its scenario's."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgemarl.envs.registry import make_scenario, scenario_names
from edgemarl.envs.scenario import Scenario, agent_ids

HERE = Path(__file__).parent / "vectors"
RELATIVE = 1e-9
"""Relative tolerance, unless a scenario's own solvers are iterative."""
RELATIVE_OF = {"model_partitioning": 1e-8}


DEFAULTS_OF_THEIR_TIME = {
    "sampling_rate": {"share_mode": "optimal"},
    "model_partitioning": {"bandwidth_rule": "optimal", "edge_cpu_rule": "optimal"},
    "sequential_offloading": {"device_action": "cpu"},
}
"""Fields whose defaults have changed since the cases were made: a case names only what differed from these."""


def vector_files(paths: list[str] | None) -> list[Path]:
    """The files to run; of the shipped ones, those whose scenario is registered."""
    if not paths:
        return [p for p in sorted(HERE.glob("*.json")) if p.stem in scenario_names()]
    found: list[Path] = []
    for path in map(Path, paths):
        found += sorted(path.glob("*.json")) if path.is_dir() else [path]
    assert found, f"no vector files in {paths}"
    return found


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "case" in metafunc.fixturenames:
        files = vector_files(metafunc.config.getoption("vectors"))
        cases = [(f.stem, case) for f in files for case in json.loads(f.read_text())]
        metafunc.parametrize(
            ("scenario_name", "case"), cases, ids=[f"{name}-{c['name'].replace(' ', '_')}" for name, c in cases]
        )


def one_cell(values: Any) -> np.ndarray:
    return np.asarray(values)[None]


def fields_of(cls: type, given: dict[str, Any], default: Any) -> Any:
    """An instance from a case's fields; what the case leaves out comes from `default(name)`."""
    return cls(**{f.name: one_cell(given[f.name]) if f.name in given else default(f.name)
                  for f in dataclasses.fields(cls)})  # fmt: skip


def case_parts(scenario: Scenario, case: dict[str, Any]) -> tuple[Any, Any]:
    """State and exogenous of a case; a state field that it leaves out is initial, an exogenous one is NaN (unused)."""
    initial = scenario.initial_state(scenario.sample_trace(np.random.default_rng(0), 1, 1))
    state = fields_of(scenario.state_type, case["state"], lambda name: getattr(initial, name))
    exogenous = fields_of(scenario.exogenous_type, case["exogenous"], lambda name: np.full((1, 1), np.nan))
    return state, exogenous


def raw_actions(scenario: Scenario, given: dict[str, Any]) -> dict[str, np.ndarray]:
    """Raw actions by role as (1, n, ...); the one server's row is written flat."""
    actions = {}
    for name, role in scenario.roles.items():
        if name in given:
            shape = (1, role.count, *role.action_space.shape)
            actions[name] = np.asarray(given[name]).reshape(shape)
    return actions


def decisions_of(scenario: Scenario, case: dict[str, Any], state: Any, exogenous: Any) -> Any:
    names = {f.name for f in dataclasses.fields(scenario.decisions_type)}
    if set(case["actions"]) <= names:  # physical decisions, not raw actions
        decisions = scenario.decisions_type(**{name: one_cell(v) for name, v in case["actions"].items()})
        check_raw_server_action(scenario, case, state, exogenous, decisions)
        return decisions
    return scenario.decode(state, raw_actions(scenario, case["actions"]), exogenous)


def check_raw_server_action(scenario: Scenario, case: dict[str, Any], state: Any, exogenous: Any, given: Any) -> None:
    """A case of decisions may carry the server's raw action: `decode` must map it to the given shares."""
    if "raw_server_action" in case:
        raw = {"device": given.offload, "gateway": given.model, "server": one_cell([case["raw_server_action"]])}
        decoded = scenario.decode(state, raw, exogenous)
        close(decoded.edge_share, given.edge_share, "edge_share", RELATIVE, 1e-12)


def close(actual: Any, expected: Any, what: str, rtol: float, atol: float) -> None:
    want = np.asarray(expected, dtype=float)
    got = np.asarray(actual, dtype=float)
    if got.shape != want.shape:
        got = got.reshape(want.shape)
    np.testing.assert_allclose(got, want, rtol=rtol, atol=atol, err_msg=what)


def test_golden_vector(scenario_name: str, case: dict[str, Any]) -> None:
    scenario = make_scenario(scenario_name, **{**DEFAULTS_OF_THEIR_TIME.get(scenario_name, {}), **case["config"]})
    rtol = RELATIVE_OF.get(scenario_name, RELATIVE)
    state, exogenous = case_parts(scenario, case)
    for role, rows in case.get("observations", {}).items():
        close(scenario.observe(state, exogenous)[role][0], rows, f"observation of {role}", 1e-6, 1e-6)
    step = scenario.step(state, decisions_of(scenario, case, state, exogenous), exogenous)
    for name, want in case["next_state"].items():
        atol = 1e-3 if name.endswith("_cycles") else (1e-6 if name.endswith("_bits") else 1e-10)
        close(getattr(step.state, name)[0], want, name, rtol, atol)
    for role, entries in step.costs.items():
        for agent, cost in zip(agent_ids(role, entries.shape[1]), entries[0], strict=True):
            close(cost, case["costs"].pop(agent), f"cost of {agent}", rtol, 1e-9)
    assert not case["costs"], "agents without a ledger entry"
    check_metrics(case["metrics"], step, rtol)


def check_metrics(expected: dict[str, Any], step: Any, rtol: float) -> None:
    for name, want in expected.items():
        if isinstance(want, dict):  # a group of arrays
            check_metrics(want, step, rtol)
            continue
        got = step.metrics[name] if name in step.metrics else step.details[name]
        atol = 1e-3 if name.endswith("_cycles") else 1e-9
        close(got[0], want, name, rtol, atol)
