"""Named controllers of `sequential_offloading`, as teams and role by role."""

from __future__ import annotations

from collections.abc import Callable

from edgemarl.agents.api import Controller, Policy, Team
from edgemarl.agents.playbook import Entry, Playbook, RoleBuilder
from edgemarl.agents.sequential_offloading.bound import bound
from edgemarl.agents.sequential_offloading.paper_gradient import PaperGradientDevice, PaperGradientServer
from edgemarl.agents.sequential_offloading.q_device import ParametricQDevice
from edgemarl.agents.sequential_offloading.q_server import ParametricQServer
from edgemarl.agents.sequential_offloading.rules import FixedPowerDevice, RandomDevice
from edgemarl.agents.sequential_offloading.semi_gradient import SemiGradientDevice
from edgemarl.agents.sequential_offloading.value_iteration import (
    DeviceBuilder,
    ValueIterationDevice,
    ValueIterationServer,
    priced_roles,
)
from edgemarl.envs.scenario import Scenario
from edgemarl.envs.scenarios.sequential_offloading.config import at_size


def _team(name: str, device: DeviceBuilder, server: DeviceBuilder = ParametricQServer) -> Callable[[Scenario], Policy]:
    def build(scenario: Scenario) -> Policy:
        return Team(name, {"device": device(), "server": server()})

    return build


def _optimal_server(devices: DeviceBuilder) -> DeviceBuilder:
    """The server's optimum for the load of a device scheme."""
    return lambda: ValueIterationServer(devices)


def _priced_optimum(scenario: Scenario) -> Policy:
    device, server = priced_roles()
    return Team("vi_priced", {"device": device, "server": server})


_DEVICES: dict[str, DeviceBuilder] = {
    "random": RandomDevice,
    "local": lambda: ParametricQDevice("local"),
    "binary": lambda: ParametricQDevice("binary"),
    "even": lambda: ParametricQDevice("even"),
    "even_70": lambda: ParametricQDevice("even", even_fraction=0.7),
    "fixed_power": FixedPowerDevice,
    "paper_gradient": PaperGradientDevice,
    "parametric_q": ParametricQDevice,
    "parametric_q_priced": lambda: ParametricQDevice(priced=True),
    "parametric_q_sigmoid": lambda: ParametricQDevice(features="sigmoid"),
    "parametric_q_td": SemiGradientDevice,
    "vi": ValueIterationDevice,
    "local_vi": lambda: ValueIterationDevice("local"),
    "binary_vi": lambda: ValueIterationDevice("binary"),
    "even_vi": lambda: ValueIterationDevice("even"),
    "even_70_vi": lambda: ValueIterationDevice("even", even_fraction=0.7),
}
_SERVERS: dict[str, DeviceBuilder] = {
    "parametric_q": ParametricQServer,
    "parametric_q_priced": lambda: ParametricQServer(priced=True),
    "parametric_q_sigmoid": lambda: ParametricQServer(features="sigmoid"),
    "paper_gradient": PaperGradientServer,
    "vi": _optimal_server(ValueIterationDevice),
}


def _vi(name: str) -> Callable[[Scenario], Policy]:
    return _team(name, _DEVICES[name], _optimal_server(_DEVICES[name]))


_CONTROLLERS: dict[str, Entry] = {
    "random": Entry(_team("random", RandomDevice), "a rule: any residual, full effort; server learns", "baseline"),
    "local": Entry(_team("local", _DEVICES["local"]), "never offloads; how much work is learned", "baseline"),
    "binary": Entry(_team("binary", _DEVICES["binary"]), "a whole task or nothing is offloaded, learned", "baseline"),
    "even": Entry(_team("even", _DEVICES["even"]), "half a task or nothing is offloaded, learned", "baseline"),
    "even_70": Entry(_team("even_70", _DEVICES["even_70"]), "0.7 of a task or nothing, learned", "baseline"),
    "fixed_power": Entry(
        _team("fixed_power", FixedPowerDevice), "what 30% of p_max carries at full effort; server learns", "baseline"
    ),
    "paper_gradient": Entry(
        _team("paper_gradient", PaperGradientDevice, PaperGradientServer), "Algorithms 1 and 2 as printed", "learned"
    ),
    "parametric_q": Entry(
        _team("parametric_q", ParametricQDevice), "parametric Q-learning, every agent for itself", "learned"
    ),
    "parametric_q_priced": Entry(
        _team("parametric_q_priced", _DEVICES["parametric_q_priced"], _SERVERS["parametric_q_priced"]),
        "parametric Q-learning; the server broadcasts the price of its load",
        "learned",
    ),
    "parametric_q_sigmoid": Entry(
        _team("parametric_q_sigmoid", _DEVICES["parametric_q_sigmoid"], _SERVERS["parametric_q_sigmoid"]),
        "parametric Q-learning with the paper's sigmoid features and replay",
        "learned",
    ),
    "parametric_q_td": Entry(
        _team("parametric_q_td", SemiGradientDevice), "ablation: temporal differences of what was visited", "learned"
    ),
    "vi": Entry(_vi("vi"), "every agent's own optimum, by value iteration", "reference"),
    "vi_priced": Entry(_priced_optimum, "every agent's own optimum under the best price of the load", "reference"),
    "local_vi": Entry(_vi("local_vi"), "optimum without offloading", "reference"),
    "binary_vi": Entry(_vi("binary_vi"), "optimum of binary offloading", "reference"),
    "even_vi": Entry(_vi("even_vi"), "optimum with half a task or nothing", "reference"),
    "even_70_vi": Entry(_vi("even_70_vi"), "optimum with 0.7 of a task or nothing", "reference"),
}


def _of_role(builders: dict[str, DeviceBuilder]) -> dict[str, RoleBuilder]:
    def ignoring_scenario(builder: DeviceBuilder) -> RoleBuilder:
        def build(scenario: Scenario) -> Controller:
            return builder()

        return build

    return {name: ignoring_scenario(builder) for name, builder in builders.items()}


PLAYBOOK = Playbook(
    controllers=_CONTROLLERS,
    reference="vi_priced",
    roles={"device": _of_role(_DEVICES), "server": _of_role(_SERVERS)},
    partners={"device": "parametric_q", "server": "parametric_q"},
    at_size=at_size,
    bound=bound,
    bound_each_trace=False,
    bound_devices=1000,
    slack=0.01,
    slack_reason="it plans for one constant price and the mean load, where a learner reacts to the queue that is there",
)
