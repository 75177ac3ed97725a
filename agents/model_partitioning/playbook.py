"""Named controllers of `model_partitioning`."""

from __future__ import annotations

from collections.abc import Callable

from edgemarl.agents.api import Controller, Policy, Team
from edgemarl.agents.model_partitioning.bound import bound
from edgemarl.agents.model_partitioning.far_sighted import FarSighted
from edgemarl.agents.model_partitioning.q_learner import CutLearner
from edgemarl.agents.model_partitioning.q_priced import CutPricingServer, PricedCutLearner
from edgemarl.agents.model_partitioning.q_server import ShareLearner
from edgemarl.agents.model_partitioning.reference import EXACT_DEVICES_MAX, Coordinate, MultiStart, SlotOptimal
from edgemarl.agents.model_partitioning.rules import (
    AllEdge,
    AllLocal,
    CrowdGreedy,
    EqualShareGreedy,
    EvenServer,
    PriceGreedy,
    RandomCut,
)
from edgemarl.agents.playbook import Entry, Playbook, RoleBuilder
from edgemarl.envs.scenario import Scenario
from edgemarl.envs.scenarios.model_partitioning import ModelPartitioning
from edgemarl.envs.scenarios.model_partitioning.config import at_size


def _team(
    name: str, device: Callable[[], Controller], server: Callable[[], Controller] = EvenServer
) -> Callable[[Scenario], Policy]:
    def build(scenario: Scenario) -> Policy:
        members = {"device": device(), **({"server": server()} if "server" in scenario.roles else {})}
        return Team(name, members)

    return build


def _priced(scenario: Scenario) -> Policy:
    """The server tells its prices before the devices choose; where it is no agent nobody does: as `parametric_q`."""
    if "server" not in scenario.roles:
        return Team("parametric_q_priced", {"device": CutLearner()})
    members = {"device": PricedCutLearner(), "server": CutPricingServer()}
    return Team("parametric_q_priced", members, order=[["server"], ["device"]])


def _slot_optimal(scenario: Scenario) -> Policy:
    assert isinstance(scenario, ModelPartitioning)
    return SlotOptimal() if scenario.config.num_devices <= EXACT_DEVICES_MAX else MultiStart()


_CONTROLLERS: dict[str, Entry] = {
    "random": Entry(_team("random", RandomCut), "a uniform cut per device and slot", "baseline"),
    "local": Entry(_team("local", AllLocal), "everything on the devices", "baseline"),
    "edge": Entry(_team("edge", AllEdge), "raw inputs to the edge", "baseline"),
    "equal_share_greedy": Entry(
        _team("equal_share_greedy", EqualShareGreedy), "least own cost with shares 1/N; no signal", "baseline"
    ),
    "crowd_greedy": Entry(
        _team("crowd_greedy", CrowdGreedy), "least own cost with shares from the broadcast crowd", "baseline"
    ),
    "price_greedy": Entry(
        _team("price_greedy", PriceGreedy), "least own cost plus two broadcast prices of the shares", "baseline"
    ),
    "parametric_q": Entry(
        _team("parametric_q", CutLearner, ShareLearner),
        "every agent learns online what its choice costs others and later slots",
        "learned",
    ),
    "parametric_q_priced": Entry(
        _priced, "the same; before the cuts the server tells every device the prices that the others make", "learned"
    ),
    "coordinate": Entry(lambda scenario: Coordinate(), "coordinate descent from two starts, centralized", "baseline"),
    "multi_start": Entry(lambda scenario: MultiStart(), "coordinate descent from ten starts, centralized", "baseline"),
    "slot_optimal": Entry(
        _slot_optimal,
        "exact minimum of each slot's objective, blind to later slots; beyond 6 devices multi_start",
        "baseline",
    ),
    "far_sighted": Entry(
        lambda scenario: FarSighted(),
        "minimum of the slot's objective and of what the queues after it are worth",
        "reference",
    ),
}


def _role(build: Callable[[], Controller]) -> RoleBuilder:
    return lambda scenario: build()


PLAYBOOK = Playbook(
    controllers=_CONTROLLERS,
    reference="far_sighted",
    roles={
        "device": {
            "random": _role(RandomCut),
            "local": _role(AllLocal),
            "edge": _role(AllEdge),
            "equal_share_greedy": _role(EqualShareGreedy),
            "crowd_greedy": _role(CrowdGreedy),
            "price_greedy": _role(PriceGreedy),
            "parametric_q": _role(CutLearner),
            "parametric_q_priced": _role(PricedCutLearner),
        },
        "server": {
            "closed_form": _role(EvenServer),
            "equal": _role(EvenServer),
            "parametric_q": _role(ShareLearner),
            "parametric_q_priced": _role(CutPricingServer),
        },
    },
    partners={"device": "price_greedy", "server": "closed_form"},
    at_size=at_size,
    bound=bound,
    bound_devices=30,
    slack=0.01,
    slack_reason="its values are those of a mean field, and an episode ends",
)
