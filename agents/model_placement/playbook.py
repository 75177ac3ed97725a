"""The named controllers of model placement."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from edgemarl.agents.api import Announcement, Controller
from edgemarl.agents.model_placement.bandit import BanditDevices
from edgemarl.agents.model_placement.best_plan import BestPlan
from edgemarl.agents.model_placement.bound import bound
from edgemarl.agents.model_placement.gateway_plans import cell_team
from edgemarl.agents.model_placement.learned_prices import priced_team
from edgemarl.agents.model_placement.q_priced import learning_team
from edgemarl.agents.model_placement.reference import PlanController
from edgemarl.agents.model_placement.rules import (
    HEAVY_BIT,
    IMPROVED,
    LOCAL_BIT,
    GatewayRule,
    LocalLightDevices,
    PlacementTeam,
    PriceDevices,
    Prices,
    RandomDevices,
    ServerRule,
    StagedDevices,
    StaticDevices,
    rule_team,
)
from edgemarl.agents.playbook import Entry, Playbook, RoleBuilder
from edgemarl.envs.arrays import Array
from edgemarl.envs.scenario import Scenario
from edgemarl.envs.scenarios.model_placement.config import at_size

MARGIN_S = 0.4
"""What the improved staged rule leaves between a model's arrival and the deadline."""

PRICE_FACTOR = 1.3
"""Prices of `static_level2` over those of `static_level`: the middle of a flat optimum, 1.15 to 1.45."""

_TRIED = ("plan_used", "plan_all", "alllocal_light", "static_level2", "cell_plan_used", "cell_plan_priced")
"""What `best_plan` tries: nothing else is the best of a network of 1 to 700 devices."""

_CONTROLLERS: dict[str, Entry] = {
    "random": Entry(
        lambda s: PlacementTeam(
            "random", RandomDevices(), GatewayRule("random", "random"), ServerRule("random", "random")
        ),
        "every bit fair, every score uniform",
        "baseline",
    ),
    "random_equal": Entry(
        lambda s: PlacementTeam(
            "random_equal", RandomDevices(), GatewayRule("equal", "random"), ServerRule("equal", "random")
        ),
        "random bits, equal shares",
        "baseline",
    ),
    "static_equal": Entry(
        lambda s: PlacementTeam("static_equal", StaticDevices(), GatewayRule("equal"), ServerRule("equal")),
        "static assignment, all heavy, equal shares",
        "baseline",
    ),
    "static_need": Entry(
        lambda s: PlacementTeam("static_need", StaticDevices(), GatewayRule("need"), ServerRule("need")),
        "static assignment, shares proportional to need",
        "baseline",
    ),
    "static_rule": Entry(
        lambda s: rule_team("static_rule", StaticDevices()),
        "static assignment, gateways share by deadline and shed, the server by need",
        "baseline",
    ),
    "static_rule2": Entry(
        lambda s: rule_team("static_rule2", StaticDevices(), IMPROVED),
        "static assignment, gateways and server share by deadline and shed",
        "baseline",
    ),
    "alllocal_light": Entry(
        lambda s: rule_team("alllocal_light", LocalLightDevices()),
        "everything light at the gateway, shares by deadline",
        "baseline",
    ),
    "static_level": Entry(
        lambda s: rule_team("static_level", PriceDevices("static"), keep="none"),
        "static location, level by constant prices, nothing cached",
        "baseline",
    ),
    "static_level2": Entry(
        lambda s: rule_team("static_level2", PriceDevices("static", Prices().scaled(PRICE_FACTOR)), IMPROVED, "none"),
        "static location, level by higher constant prices, improved shares, nothing cached",
        "baseline",
    ),
    "price_rule": Entry(
        lambda s: rule_team("price_rule", PriceDevices("free")),
        "location and level by constant prices",
        "baseline",
    ),
    "staged": Entry(
        lambda s: rule_team("staged", StagedDevices()),
        "static assignment, models fetched in two stages over slow links",
        "baseline",
    ),
    "staged2": Entry(
        lambda s: rule_team("staged2", StagedDevices(MARGIN_S), IMPROVED),
        "staged with a margin for the task itself, improved shares",
        "baseline",
    ),
    "device_q": Entry(
        lambda s: rule_team("device_q", BanditDevices(), IMPROVED, "none"),
        "each device learns what its options gain from its own ledger entry, improved shares, nothing cached",
        "learned",
    ),
    "parametric_q_priced": Entry(
        lambda s: learning_team("parametric_q_priced"),
        "devices learn how often options are served, gateways and server what their band and CPU are worth",
        "learned",
    ),
    "cell_plan": Entry(
        lambda s: cell_team("cell_plan", keep="none"),
        "every gateway plans its own cell at constant server prices and tells its devices; nothing cached",
        "baseline",
    ),
    "cell_plan_used": Entry(
        lambda s: cell_team("cell_plan_used", keep="used"), "the same, keeping the models in use", "baseline"
    ),
    "cell_plan_priced": Entry(
        lambda s: priced_team("cell_plan_priced", keep="none"),
        "gateways plan their own cells at prices that the server learns and broadcasts; nothing cached",
        "learned",
    ),
    "cell_plan_priced_all": Entry(
        lambda s: priced_team("cell_plan_priced_all", keep="all"), "the same, keeping every model", "learned"
    ),
    "plan_used": Entry(
        lambda s: PlanController("used"), "Lagrangian plan that sees everything, keeps the models in use", "reference"
    ),
    "plan_none": Entry(lambda s: PlanController("none"), "the same, caching nothing", "reference"),
    "plan_all": Entry(lambda s: PlanController("all"), "the same, keeping every model", "reference"),
    "best_plan": Entry(
        lambda s: BestPlan("best_plan", {name: _CONTROLLERS[name].build for name in _TRIED}),
        "sees everything; plays what is best of plans, rules and teams on trials of each network",
        "reference",
    ),
}


def _role(build: Callable[[], Controller]) -> RoleBuilder:
    return lambda scenario: build()


LEVEL = Prices().scaled(PRICE_FACTOR)

_ROLES: dict[str, dict[str, RoleBuilder]] = {
    "device": {
        "random": _role(RandomDevices),
        "static": _role(StaticDevices),
        "local_light": _role(LocalLightDevices),
        "static_level": _role(lambda: PriceDevices("static", LEVEL)),
        "bandit": _role(BanditDevices),
        "staged": _role(lambda: StagedDevices(MARGIN_S)),
    },
    "gateway": {
        "equal": _role(lambda: GatewayRule("equal")),
        "deadline": _role(lambda: GatewayRule("deadline", "used", IMPROVED)),
        "deadline_cacheless": _role(lambda: GatewayRule("deadline", "none", IMPROVED)),
    },
    "server": {
        "equal": _role(lambda: ServerRule("equal")),
        "deadline": _role(lambda: ServerRule("deadline", "used", IMPROVED)),
        "deadline_cacheless": _role(lambda: ServerRule("deadline", "none", IMPROVED)),
    },
}
"""Parts of the teams above, for mixed teams: improved constants throughout; "cacheless" keeps no model."""


def _decisions_told(scenario: Scenario) -> Announcement:
    """Devices tell (m, n), one byte each, as `RuleDevices` do."""
    n, g = scenario.roles["device"].count, scenario.roles["gateway"].count

    def tell(actions: Array) -> dict[str, Array]:
        code = (LOCAL_BIT * actions[..., 0] + HEAVY_BIT * actions[..., 1]).astype(np.float32)
        return {"gateway": code.reshape(-1, g, n // g), "server": code[:, None, :]}

    return Announcement({"gateway": n // g, "server": n}, tell, frozenset({"gateway", "server"}))


PLAYBOOK = Playbook(
    controllers=_CONTROLLERS,
    reference="best_plan",
    roles=_ROLES,
    partners={"device": "static_level", "gateway": "deadline_cacheless", "server": "deadline_cacheless"},
    order=("device", "gateway", "server"),
    announcements={"device": _decisions_told},
    at_size=at_size,
    bound=bound,
    slack=0.03,
    slack_reason="what is best is told from short trials of its own",
)
