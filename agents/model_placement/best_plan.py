"""A central controller of `model_placement` that first tries plans and rules on the network, then plays the best one.

The Lagrangian plan fills each slot as well as it can, which is not the best over an episode: where the caches hold a
model or two, whoever keeps light models at the gateway does better, and in full networks gateways that plan at prices
which the server has learned. Nothing of that can be told from a slot. So every candidate is played on traces of the
controller's own, with the networks' own models as far as there is room, and what is best in the mean is played; a
network that has a trial of its own plays another candidate if that was better there by more than chance.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import fields, replace
from typing import Any

import numpy as np

from edgemarl.agents.api import CentralController, Policy, Team
from edgemarl.envs.arrays import Array
from edgemarl.envs.scenario import Scenario
from edgemarl.envs.scenarios.model_placement import (
    ModelPlacement,
    ModelPlacementDecisions,
    ModelPlacementExogenous,
    ModelPlacementState,
    ModelPlacementTrace,
)
from edgemarl.envs.trace import trace_fields

TRIAL_SLOTS = 20
TRIAL_NETWORKS, TRIAL_DEVICES = 8, 700
"""Networks of a trial, and devices in all of them together: the more, the longer the planning."""
ERRORS = 2.5
"""Standard errors by which a candidate must be better on a network than the one that is best in the mean."""
TRIAL_SEED = 20250311


class BestPlan(CentralController):
    """The best of several policies for each network, on trials of its own.

    Args:
        name: name in tables.
        candidates: name -> builder of a policy that decides everything.
    """

    scenario: ModelPlacement

    def __init__(self, name: str, candidates: Mapping[str, Callable[[Scenario], Policy]]) -> None:
        self.name, self.candidates = name, candidates

    def reset(self, scenario: Scenario, trace: ModelPlacementTrace) -> None:
        if not isinstance(scenario, ModelPlacement):
            raise ValueError(f"controller '{self.name}' plays scenario 'model_placement', got '{scenario.name}'")
        super().reset(scenario, trace)
        names = list(self.candidates)
        best = best_candidates(scenario, trace, [self.candidates[name] for name in names])
        self.chosen = {name: best == i for i, name in enumerate(names) if (best == i).any()}
        """Candidate -> networks (B,) that it plays."""
        self.members: dict[str, Any] = {name: self.candidates[name](scenario) for name in self.chosen}
        for member in self.members.values():
            member.reset(scenario, trace)

    def decide(
        self, state: ModelPlacementState, exogenous: ModelPlacementExogenous, rng: np.random.Generator
    ) -> ModelPlacementDecisions:
        joined: ModelPlacementDecisions | None = None
        for name, member in self.members.items():
            decisions = member.decide(state, exogenous, rng)
            joined = decisions if joined is None else _merged(self.chosen[name], decisions, joined)
        assert joined is not None
        return joined

    def feedback(self, costs: Mapping[str, Array]) -> None:
        for member in self.members.values():
            member.feedback(costs)

    def state_dict(self) -> dict[str, Any]:
        """What the members have learned, and the messages between their parts."""
        return {
            name: {"learned": member.state_dict(), "inbox": member.inbox if isinstance(member, Team) else {}}
            for name, member in self.members.items()
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        if not state:
            return
        if set(state) != set(self.members):
            raise ValueError(f"{self.name} plays {sorted(self.members)} here, got the state of {sorted(state)}")
        for name, member in self.members.items():
            member.load_state_dict(state[name]["learned"])
            if isinstance(member, Team):
                member.inbox = {role: dict(rows) for role, rows in state[name]["inbox"].items()}


_FOUND: dict[tuple[str, bytes], Array] = {}
_FOUND_MAX = 20


def best_candidates(
    scenario: ModelPlacement, trace: ModelPlacementTrace, builders: list[Callable[[Scenario], Policy]]
) -> Array:
    """(B,) index of the candidate for each network; computed once per process, network and set of candidates."""
    models = b"".join(np.ascontiguousarray(a).tobytes() for a in (trace.model_accuracy, trace.model_bits))
    key = repr((scenario.config, len(builders))), models
    if key not in _FOUND:
        if len(_FOUND) >= _FOUND_MAX:
            _FOUND.clear()
        _FOUND[key] = _tried(scenario, trace, builders)
    return _FOUND[key]


def _tried(scenario: ModelPlacement, trace: ModelPlacementTrace, builders: list[Callable[[Scenario], Policy]]) -> Array:
    count = max(1, min(TRIAL_NETWORKS, TRIAL_DEVICES // scenario.config.num_devices))
    own = min(trace.cells, count)
    trial = scenario.sample_trace(np.random.default_rng(TRIAL_SEED), count, TRIAL_SLOTS)
    names = [name for name, field in trace_fields(type(trace)).items() if field["kind"] == "episode"]
    known = {name: np.concatenate([getattr(trace, name)[:own], getattr(trial, name)[own:]]) for name in names}
    gained = np.stack([_accuracies(scenario, replace(trial, **known), build(scenario)) for build in builders])
    common = int(gained.mean(axis=(1, 2)).argmax())
    better = gained[:, :, :own] - gained[common, :, :own]
    sure = better.mean(axis=1) - ERRORS * better.std(axis=1, ddof=1) / np.sqrt(better.shape[1])
    best = np.full(trace.cells, common)
    best[:own] = np.where(sure.max(axis=0) > 0.0, sure.argmax(axis=0), common)
    return best


def _accuracies(scenario: ModelPlacement, trial: ModelPlacementTrace, policy: Policy) -> Array:
    """(T, B) mean accuracy in every slot after the first quarter of a trial."""
    rng, state = np.random.default_rng(TRIAL_SEED), scenario.initial_state(trial)
    policy.reset(scenario, trial)
    accuracies = []
    for t in range(trial.slots):
        exogenous = scenario.exogenous(trial, t)
        step = scenario.step(state, policy.decide(state, exogenous, rng), exogenous)
        policy.feedback(step.costs)
        state = step.state
        accuracies.append(step.metrics["mean_accuracy"])
    return np.stack(accuracies[trial.slots // 4 :])


def _merged(chosen: Array, new: ModelPlacementDecisions, old: ModelPlacementDecisions) -> ModelPlacementDecisions:
    """The decisions of `new` in the chosen networks (B,), those of `old` in the others."""
    parts = {}
    for f in fields(ModelPlacementDecisions):
        a, b = np.asarray(getattr(new, f.name)), np.asarray(getattr(old, f.name))
        parts[f.name] = np.where(chosen.reshape(-1, *[1] * (a.ndim - 1)), a, b)
    return ModelPlacementDecisions(**parts)
