"""A comparison from Python: the rows that `edgemarl compare` prints, of controllers of any kind."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from edgemarl.agents.api import Policy
from edgemarl.agents.registry import is_controller, playbook_of, policy_of
from edgemarl.envs.checks import checked_integer, checked_names, checked_seed
from edgemarl.envs.config import unknown_name
from edgemarl.envs.registry import given_scenario
from edgemarl.envs.scenario import Scenario
from edgemarl.marl.evaluation.compare import Comparison, Outcome, compare
from edgemarl.marl.evaluation.rollout import SampledTraces, decision_latency_s, rollout
from edgemarl.marl.training.trained import load_policy


def compare_controllers(
    scenario: Scenario | str,
    controllers: Sequence[str] | Mapping[str, Any],
    *,
    networks: int = 10,
    slots: int | None = None,
    warmup: int | None = None,
    seed: int = 0,
    reference: str | None = None,
) -> Comparison:
    """Play controllers on the same traces; the numbers are those of the command line, which adds the certified bound.

    Args:
        scenario: the network, or its name.
        controllers: names, as on the command line; or name in the table -> what plays it: such a name, or anything
            that `edgemarl.agents.policy_of` takes: a policy, a controller, a model of Stable-Baselines3, an actor of
            TorchRL, a function of (observations, rng).
        networks: cells, each an independently drawn network.
        slots: slots of a trace; default: the scenario's horizon.
        warmup: slots left out of the means; default: a quarter.
        seed: of traces and of what policies draw; the same as `edgemarl compare --seed`.
        reference: name of the controller that gaps are measured against; default: the scenario's own.

    Raises:
        ValueError: an unknown controller, one that does not fit, a number that is not legal.
    """
    played = given_scenario(scenario)
    networks, seed = checked_integer("networks", networks, 1), checked_seed("seed", seed)
    length = played.horizon if slots is None else checked_integer("slots", slots, 1)
    left_out = length // 4 if warmup is None else checked_integer("warmup", warmup, 0, "slots", high=length - 1)
    named: Mapping[str, Any] = controllers if isinstance(controllers, Mapping) else _by_name(controllers)
    if reference is not None and (not isinstance(reference, str) or reference not in named):
        raise ValueError(unknown_name("reference", reference, named))
    policies = {name: _policy(played, given, name) for name, given in named.items()}
    source = SampledTraces(played, np.random.SeedSequence([seed, 1]), networks, length)
    outcomes = [_played(played, policy, name, source, left_out, seed) for name, policy in policies.items()]
    return compare(played, outcomes, reference=reference or playbook_of(played).reference, seed=seed)


def _by_name(controllers: Any) -> dict[str, str]:
    return {name: name for name in checked_names("controllers", controllers)}


def _policy(scenario: Scenario, given: Any, name: str) -> Policy:
    if isinstance(given, str) and not is_controller(scenario, given):
        try:
            return load_policy(given, scenario)
        except ValueError as error:
            if "no trained policy" not in str(error):
                raise
            known, listed_by = playbook_of(scenario).controllers, f"edgemarl scenarios {scenario.name}"
            raise ValueError(unknown_name("controller", given, known, listed_by)) from None
    return policy_of(scenario, given, name)


def _played(scenario: Scenario, policy: Policy, name: str, source: SampledTraces, warmup: int, seed: int) -> Outcome:
    known = playbook_of(scenario).controllers
    stream = np.random.SeedSequence([seed, 2, 0])
    discount = getattr(scenario.config, "discount", None)
    result = rollout(policy, scenario, source, np.random.default_rng(stream), warmup=warmup, discount=discount)
    latency = decision_latency_s(policy, scenario, next(source.chunks(1)), np.random.default_rng(stream))
    return Outcome(
        controller=name,
        kind=known[name].kind if name in known else "learned",
        information=result.information,
        metrics={metric: values[None] for metric, values in result.means.items()},
        discounted_cost=None if result.discounted_cost is None else result.discounted_cost[None],
        decision_s=latency,
        message_bytes=result.message_bytes,
        setup_s=result.setup_s,
        growth={metric: values[None] for metric, values in result.growth.items()},
        slots=source.slots,
    )
