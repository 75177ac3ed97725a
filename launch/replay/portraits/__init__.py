"""What a moving picture shows of a network: a module per scenario, found by the scenario's name.

A module holds `draw(axes, moment, scenario)`, which draws one slot on a plane that runs from 0 to 1 both ways, and
`CAPTION`, which says in words what is seen. A scenario of another package names its own as "module:NAME" or
"file.py:NAME" in its class attribute `replay_portrait`, an object with these two; without one the agents' costs are
drawn.
"""

from __future__ import annotations

from importlib import import_module
from importlib.util import find_spec
from typing import Any, Protocol, cast

from edgemarl.envs.scenario import Scenario
from edgemarl.envs.targets import load_target
from edgemarl.launch.replay.recording import Moment


class Portraying(Protocol):
    """A module, or any object, that draws a slot of a scenario."""

    CAPTION: str

    def draw(self, axes: Any, moment: Moment, scenario: Any) -> None: ...


def portrait_for(scenario: Scenario) -> Portraying:
    """Who draws a scenario.

    Raises:
        ValueError: a scenario's own portrait that cannot be loaded or cannot draw.
    """
    own = getattr(scenario, "replay_portrait", "")
    if own:
        module = load_target(own, "portrait")
        if not callable(getattr(module, "draw", None)) or not isinstance(getattr(module, "CAPTION", None), str):
            raise ValueError(
                f"portrait '{own}' of scenario '{scenario.name}' has no draw(axes, moment, scenario) or CAPTION"
            )
        return cast(Portraying, module)
    name = f"{__name__}.{scenario.name}"
    shipped = scenario.name.isidentifier() and find_spec(name) is not None
    return cast(Portraying, import_module(name if shipped else f"{__name__}.ledger"))
