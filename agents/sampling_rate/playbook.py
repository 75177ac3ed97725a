"""The named controllers of the sampling-rate scenario."""

from __future__ import annotations

from collections.abc import Callable

from edgemarl.agents.api import Controller, Policy, Team
from edgemarl.agents.playbook import Builder, Entry, Playbook, RoleBuilder
from edgemarl.agents.sampling_rate.bound import bound
from edgemarl.agents.sampling_rate.prices import SamplingRatePrices
from edgemarl.agents.sampling_rate.q_learner import OptionLearner
from edgemarl.agents.sampling_rate.q_priced import PricedOptionLearner, PriceTellingServer
from edgemarl.agents.sampling_rate.reference import JointMyopic, ProposedFixed, UnawareJoint, WarmReference
from edgemarl.agents.sampling_rate.rules import (
    BroadcastPrice,
    ClosedFormShares,
    ConstantOptions,
    FixedServerShares,
    Myopic,
    NominalServerShares,
    RandomOption,
    local_full,
    offload_full,
)
from edgemarl.agents.sampling_rate.static import static_mixed, static_uniform
from edgemarl.envs.scenario import Scenario
from edgemarl.envs.scenarios.sampling_rate import SamplingRate
from edgemarl.envs.scenarios.sampling_rate.config import at_size


def _team(name: str, device: Callable[[], Controller], server: Callable[[], Controller] = FixedServerShares) -> Builder:
    """A team of devices and a server: the closed form, or `server` where it decides before it hears the loads."""

    def build(scenario: Scenario) -> Policy:
        controllers = {"device": device()}
        if "server" in scenario.roles:
            controllers["server"] = server() if _hears_nothing(scenario) else ClosedFormShares()
        return Team(name, controllers)

    return build


def _hears_nothing(scenario: Scenario) -> bool:
    assert isinstance(scenario, SamplingRate)
    return scenario.config.share_mode == "action"


def _priced(scenario: Scenario) -> Policy:
    """The server tells its prices before the devices choose; where it is no agent nobody does: as `parametric_q`."""
    if "server" not in scenario.roles:
        return Team("parametric_q_priced", {"device": OptionLearner()})
    members = {"device": PricedOptionLearner(), "server": PriceTellingServer()}
    return Team("parametric_q_priced", members, order=[["server"], ["device"]])


_CONTROLLERS: dict[str, Entry] = {
    "random": Entry(_team("random", RandomOption), "every option with the same probability", "baseline"),
    "local_full": Entry(
        _team("local_full", lambda: ConstantOptions(local_full)),
        "everything on the device at the full rate",
        "baseline",
    ),
    "offload_full": Entry(
        _team("offload_full", lambda: ConstantOptions(offload_full)), "everything to the server, full rate", "baseline"
    ),
    "static_uniform": Entry(
        _team("static_uniform", lambda: ConstantOptions(static_uniform)),
        "the cheapest option per service that meets its target",
        "baseline",
    ),
    "static_mixed": Entry(
        _team("static_mixed", lambda: ConstantOptions(static_mixed)),
        "the cheapest constant options per device that meet the targets",
        "baseline",
    ),
    "delay_myopic": Entry(
        _team("delay_myopic", lambda: Myopic(social=False)),
        "each device minimises its own delay and accuracy deficit",
        "baseline",
    ),
    "social_myopic": Entry(
        _team("social_myopic", lambda: Myopic(social=True)),
        "as delay_myopic, charged for the waiting that it causes",
        "baseline",
    ),
    "broadcast_price": Entry(
        _team("broadcast_price", BroadcastPrice, NominalServerShares),
        "as social_myopic, at shares that the broadcast deficits and backlogs imply",
        "baseline",
    ),
    "parametric_q": Entry(
        _team("parametric_q", OptionLearner),
        "each device learns a linear Q-function from its own ledger entry and what it makes others wait",
        "learned",
    ),
    "parametric_q_priced": Entry(
        _priced, "the server learns and tells a price per service, the devices their costs at it", "learned"
    ),
    "joint_myopic": Entry(lambda scenario: JointMyopic(), "exact minimiser of the slot's cost", "baseline"),
    "joint_unaware": Entry(
        lambda scenario: UnawareJoint(),
        "joint_myopic that counts on optimal shares whatever the server does",
        "baseline",
    ),
    "proposed_fixed": Entry(
        lambda scenario: ProposedFixed(), "joint_myopic that plans for fixed shares (Fig. 7)", "baseline"
    ),
    "warm_reference": Entry(
        lambda scenario: WarmReference(),
        "exact minimiser whose accuracy prices start at their stationary level",
        "reference",
    ),
}
_ROLES: dict[str, dict[str, RoleBuilder]] = {
    "device": {
        "delay_myopic": lambda scenario: Myopic(social=False),
        "social_myopic": lambda scenario: Myopic(social=True),
        "broadcast_price": lambda scenario: BroadcastPrice(),
        "parametric_q": lambda scenario: OptionLearner(),
    },
    "server": {
        "closed_form": lambda scenario: NominalServerShares() if _hears_nothing(scenario) else ClosedFormShares(),
        "fixed_shares": lambda scenario: FixedServerShares(),
        "parametric_q_priced": lambda scenario: PriceTellingServer(),
        "nominal_shares": lambda scenario: NominalServerShares(),
    },
}
"""Role -> name -> builder of that role's part, for a role that is not learned.

"closed_form" is Theorem 1 for the loads of the slot, in `share_mode="action"` for those that the server expects.
"""

PLAYBOOK = Playbook(
    controllers=_CONTROLLERS,
    reference="warm_reference",
    roles=_ROLES,
    partners={"device": "social_myopic", "server": "closed_form"},
    pricing=SamplingRatePrices,
    at_size=at_size,
    bound=bound,
    slack=0.002,
    slack_reason="its prices are those of a long episode",
)
