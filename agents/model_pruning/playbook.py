"""Named controllers of `model_pruning`, as teams and role by role."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Literal

from edgemarl.agents.api import Controller, Policy, Team
from edgemarl.agents.model_pruning.bound import bound
from edgemarl.agents.model_pruning.q_learner import PruningQDevice, PruningQGateway
from edgemarl.agents.model_pruning.q_planner import LearningGateway, LearningServer, ReportingDevice
from edgemarl.agents.model_pruning.reference import NearOptimal
from edgemarl.agents.model_pruning.rules import (
    AccuracyGuaranteedDelayMinimisation,
    AccuracyOffload,
    ChosenTimes,
    FixedModel,
    FixedOffload,
    PlanFollower,
    PlanningGateway,
    RandomRole,
    RootShares,
    StaticShares,
    mid_model,
)
from edgemarl.agents.model_pruning.share_grid import ShareGridSearch
from edgemarl.agents.model_pruning.threshold import ThresholdRole
from edgemarl.agents.playbook import Entry, Playbook, RoleBuilder
from edgemarl.envs.scenario import Scenario
from edgemarl.envs.scenarios.model_pruning import ModelPruning
from edgemarl.envs.scenarios.model_pruning.config import at_size

_ORDER = ("server", "gateway", "device")
"""Shares are told before gateways plan, plans before devices follow."""
STATIC_PERCENT = range(30, 101, 10)
"""Edge times that the server's rule can aim at, in percent of the transmission time."""


def _q_team(scenario: Scenario) -> Policy:
    """Q-learners: devices act first, so that gateways hear the costs of the slot before."""
    members: dict[str, Controller] = {
        "server": StaticShares(1.0), "device": PruningQDevice(), "gateway": PruningQGateway(),
    }  # fmt: skip
    return Team("bandit_q", members, order=[["server"], ["device"], ["gateway"]])


def _q_planners(scenario: Scenario) -> Policy:
    """The server tells its shares, gateways their plans, devices follow and report in the next slot."""
    members: dict[str, Controller] = {
        "server": LearningServer(), "gateway": LearningGateway(), "device": ReportingDevice(),
    }  # fmt: skip
    return Team("parametric_q", members, order=[[role] for role in _ORDER])


def _team(name: str, device: RoleBuilder, gateway: RoleBuilder, server: RoleBuilder) -> Callable[[Scenario], Policy]:
    def build(scenario: Scenario) -> Policy:
        roles = {"server": server(scenario), "gateway": gateway(scenario), "device": device(scenario)}
        return Team(name, roles, order=[[role] for role in _ORDER])

    return build


def _cell_plan(name: str, share: Literal["chosen"] | float | None, sampled: bool) -> Callable[[Scenario], Policy]:
    """The plan's devices toss coins where they are told to, or where they do not know their rank.

    `share` is the server's rule: the fraction of `StaticShares`, None for equal shares, or "chosen" for `ChosenTimes`.
    """

    def build(scenario: Scenario) -> Policy:
        assert isinstance(scenario, ModelPruning)
        coins = sampled or scenario.config.gateway_broadcast != "rank"
        server = ChosenTimes() if share == "chosen" else StaticShares(share, share is not None)
        known: Literal["chosen", "announced", "equal"] = (
            "chosen" if share == "chosen" else "equal" if share is None else "announced"
        )
        return _team(name, lambda _: PlanFollower(coins), lambda _: PlanningGateway(known, coins), lambda _: server)(
            scenario
        )

    return build


def _threshold(name: str, fraction: float | None) -> Callable[[Scenario], Policy]:
    return _team(
        name,
        lambda _: ThresholdRole("device", fraction),
        lambda _: ThresholdRole("gateway", fraction),
        lambda _: StaticShares(fraction),
    )


def _near_optimal_one_model(scenario: Scenario) -> Policy:
    assert isinstance(scenario, ModelPruning)
    return NearOptimal((mid_model(scenario),), "near_optimal_one_model")


def _random(role: str) -> RoleBuilder:
    return lambda _: RandomRole(role)


def _fixed(name: str, bit: int, model: int) -> Callable[[Scenario], Policy]:
    return _team(name, lambda _: FixedOffload(bit), lambda _: FixedModel(model), lambda _: StaticShares(None))


_CONTROLLERS: dict[str, Entry] = {
    "random": Entry(
        _team("random", *(_random(role) for role in ("device", "gateway", "server"))),
        "fair coins, any model, any shares",
        "baseline",
    ),
    "all_local": Entry(_fixed("all_local", 0, 0), "nothing is sent; the least pruned model", "baseline"),
    "all_local_pruned": Entry(_fixed("all_local_pruned", 0, -1), "nothing is sent; the most pruned model", "baseline"),
    "all_offload": Entry(_fixed("all_offload", 1, 0), "everything is sent; equal shares", "baseline"),
    "accuracy_rule": Entry(
        _team("accuracy_rule", lambda _: AccuracyOffload(), lambda _: FixedModel(None), lambda _: RootShares()),
        "sends what the mid-pruned model would not answer accurately enough",
        "baseline",
    ),
    "agdm": Entry(
        lambda _: AccuracyGuaranteedDelayMinimisation(), "least delay under requirements that it believes static",
        "baseline",
    ),
    "threshold": Entry(_threshold("threshold", None), "tuned table of own level and channel; equal shares", "baseline"),
    "threshold_static_50": Entry(
        _threshold("threshold_static_50", 0.5), "tuned table; edge time half the transmission time", "baseline"
    ),
    "cell_plan": Entry(
        _cell_plan("cell_plan", None, False), "every gateway plans its tasks exactly; equal shares", "baseline"
    ),
    "cell_plan_static_40": Entry(
        _cell_plan("cell_plan_static_40", 0.4, False), "cell plan; edge time 0.4 of the transmission time", "baseline"
    ),
    "cell_plan_static_50": Entry(
        _cell_plan("cell_plan_static_50", 0.5, False), "cell plan; edge time half the transmission time", "baseline"
    ),
    "cell_plan_static_100": Entry(
        _cell_plan("cell_plan_static_100", 1.0, False), "cell plan; edge time at its limit", "baseline"
    ),
    "cell_plan_chosen": Entry(
        _cell_plan("cell_plan_chosen", "chosen", False), "cell plan; every gateway also chooses its edge time",
        "baseline",
    ),
    "cell_plan_sampled": Entry(
        _cell_plan("cell_plan_sampled", None, True), "cell plan; devices do not know their rank", "baseline"
    ),
    "cell_plan_sampled_static_80": Entry(
        _cell_plan("cell_plan_sampled_static_80", 0.8, True), "the same; edge time 0.8 of the transmission time",
        "baseline",
    ),
    "bandit_q": Entry(
        _q_team, "every device and gateway learns its own linear Q-values while it works; static(1.0)", "learned"
    ),
    "parametric_q": Entry(
        _q_planners,
        "gateways learn what completes and earns, plan by it, and hear their devices' reports; the server learns its "
        "edge time",
        "learned",
    ),
    "near_optimal": Entry(lambda _: NearOptimal(), "plans every gateway and the shares jointly", "reference"),
    "near_optimal_one_model": Entry(
        _near_optimal_one_model, "the same with the mid-pruned model only (V = 1)", "reference"
    ),
    "share_grid": Entry(lambda _: ShareGridSearch(), "exhaustive search with shares in twentieths", "reference"),
}  # fmt: skip


def _role(build: Callable[[], Controller]) -> RoleBuilder:
    def of_scenario(scenario: Scenario) -> Controller:
        return build()

    return of_scenario


_ROLES: dict[str, dict[str, RoleBuilder]] = {
    "device": {
        "random": _role(lambda: RandomRole("device")),
        "all_local": _role(lambda: FixedOffload(0)),
        "all_offload": _role(lambda: FixedOffload(1)),
        "accuracy_rule": _role(AccuracyOffload),
        "threshold": _role(lambda: ThresholdRole("device", None)),
        "cell_plan": _role(lambda: PlanFollower(False)),
    },
    "gateway": {
        "random": _role(lambda: RandomRole("gateway")),
        "least_pruned": _role(lambda: FixedModel(0)),
        "mid_pruned": _role(lambda: FixedModel(None)),
        "threshold": _role(lambda: ThresholdRole("gateway", None)),
        "cell_plan": _role(lambda: PlanningGateway("equal")),
        "cell_plan_chosen": _role(lambda: PlanningGateway("chosen")),
        **{f"cell_plan_static_{p}": _role(partial(PlanningGateway, p / 100)) for p in STATIC_PERCENT},
    },
    "server": {
        "random": _role(lambda: RandomRole("server")),
        "equal": _role(lambda: StaticShares(None)),
        "chosen_times": _role(ChosenTimes),
        **{f"static_{p}": _role(partial(StaticShares, p / 100)) for p in STATIC_PERCENT},
        "accuracy_rule": _role(RootShares),
    },
}

PLAYBOOK = Playbook(
    controllers=_CONTROLLERS,
    reference="near_optimal",
    roles=_ROLES,
    partners={"device": "cell_plan", "gateway": "cell_plan_static_100", "server": "static_100"},
    order=_ORDER,
    at_size=at_size,
    bound=bound,
)
