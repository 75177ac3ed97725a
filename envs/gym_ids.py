"""Ids by which `gymnasium.make` and `gymnasium.make_vec` know the scenarios: `EdgeMARL/SequentialOffloading-v0`, ..

Gymnasium loads no packages by itself: `import edgemarl.envs` comes first, or the id names the module,
`gymnasium.make("edgemarl.envs:EdgeMARL/SequentialOffloading-v0")`.
"""

from __future__ import annotations

import gymnasium

NAMESPACE, VERSION = "EdgeMARL", 0


def gym_id(scenario: str) -> str:
    """The id of a scenario's central environment: `EdgeMARL/SequentialOffloading-v0` of `sequential_offloading`."""
    return f"{NAMESPACE}/{''.join(word.capitalize() for word in scenario.split('_'))}-v{VERSION}"


def register_gym_id(scenario: str) -> None:
    """Register a scenario with Gymnasium, unless it is."""
    name = gym_id(scenario)
    if name not in gymnasium.registry:
        gymnasium.register(
            name,
            entry_point="edgemarl.envs.central:CentralEnv",
            vector_entry_point="edgemarl.envs.vector:CentralVectorEnv",
            kwargs={"scenario": scenario},
        )
