"""A scenario as a task of BenchMARL, which knows its own tasks by name alone."""

from __future__ import annotations

from typing import Any

from benchmarl.environments.common import TaskClass
from torchrl.envs import PettingZooWrapper

from edgemarl.agents.environment import PartneredParallelEnv


class EdgeMARLTask(TaskClass):  # type: ignore[misc] # BenchMARL has no types
    """`EdgeMARLTask(scenario, config)`: a scenario by its name, its agents in groups by role.

    The config holds the scenario's fields and what `PartneredParallelEnv` takes: `fixed`, `max_cycles`, `reward_scale`.
    """

    def get_env_fun(self, num_envs: int, continuous_actions: bool, seed: int | None, device: Any) -> Any:
        return lambda: PettingZooWrapper(
            PartneredParallelEnv(self.name, **self.config), return_state=True, seed=seed, device=device
        )

    def supports_continuous_actions(self) -> bool:
        return True

    def supports_discrete_actions(self) -> bool:
        return True

    def max_steps(self, env: Any) -> int:
        return int(env.max_cycles or env.scenario.horizon)

    def has_render(self, env: Any) -> bool:
        return False

    def group_map(self, env: Any) -> Any:
        return env.group_map

    def observation_spec(self, env: Any) -> Any:
        spec = env.observation_spec.clone()
        for group in env.group_map:
            for name in [name for name in spec[group].keys() if name != "observation"]:  # noqa: SIM118 - no mapping
                del spec[group, name]
        del spec["state"]
        return spec

    def state_spec(self, env: Any) -> Any:
        spec = env.observation_spec.clone()
        for group in env.group_map:
            del spec[group]
        return spec

    def info_spec(self, env: Any) -> None:
        return None

    def action_mask_spec(self, env: Any) -> None:
        return None

    def action_spec(self, env: Any) -> Any:
        return env.full_action_spec

    @staticmethod
    def env_name() -> str:
        return "edgemarl"
