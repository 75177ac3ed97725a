"""What RLlib's configurations of the batched runner have alike: what they refuse, and how they evaluate."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from ray.rllib.callbacks.callbacks import RLlibCallback
from ray.rllib.core.rl_module.multi_rl_module import MultiRLModuleSpec

from edgemarl.envs.config import unknown_name

EPISODE_CALLBACKS = ("on_episode_created", "on_episode_start", "on_episode_step", "on_episode_end")
"""What RLlib calls with an episode object, which the batched runner does not have."""
OWN_RUNNER = "RLlib's own runner has it: see edgemarl.marl.rllib.multi_agent_env.ScenarioMultiAgentEnv"
WHOLE = (
    "edgemarl.marl.training.setup.rllib_config(resolve(TrainConfig(..))) gives the whole, to be changed before build"
)


class BatchedConfig:
    """Before one of RLlib's `AlgorithmConfig`s; `edgemarl.marl.training.setup.rllib_config` fills it.

    Evaluation is greedy unless `evaluation_config` says `explore`.
    """

    module_bases: dict[str, type] | None = None
    """The RLModule of the algorithm, of which a role's module is a subclass."""
    overlap = False
    """Whether remote runners sample while a batch is learned from (`edgemarl.marl.rllib.ahead`)."""

    def validate(self) -> None:
        """RLlib's checks after ours.

        Raises:
            ValueError: a part that is missing, a module or callback that the batched runner cannot use.
        """
        check_batched(self)
        super().validate()  # type: ignore[misc]

    def role_modules(self, **classes: type) -> Any:
        """Other modules for roles, `config.role_modules(device=Mine)`: subclasses of the algorithm's own."""
        specs: Any = self.rl_module_spec  # type: ignore[attr-defined] # RLlib hands out a copy
        for role, module_class in classes.items():
            if role not in specs.rl_module_specs:
                raise ValueError(unknown_name("learned role", role, specs.rl_module_specs))
            specs.rl_module_specs[role].module_class = module_class
        return self.rl_module(rl_module_spec=specs)  # type: ignore[attr-defined]

    def get_evaluation_config_object(self) -> Any:
        config = super().get_evaluation_config_object()  # type: ignore[misc]
        given: Any = self.evaluation_config  # type: ignore[attr-defined]
        if config is not None and (given is None or (isinstance(given, dict) and "explore" not in given)):
            config.explore = False
        return config


def check_batched(config: Any) -> None:
    """Whether a configuration has what the batched runner needs and nothing that it cannot do.

    Raises:
        ValueError: names the first problem and what to do.
    """
    name = type(config).__name__
    given = {
        "env_runners(env_runner_cls=..)": config.env_runner_cls is not None,
        "environment(env_config=..)": "scenario" in (config.env_config or {}),
        "rl_module(rl_module_spec=..)": config._rl_module_spec is not None,
    }
    missing = [what for what, there in given.items() if not there]
    if missing:
        raise ValueError(f"{name} alone misses {', '.join(missing)}: {WHOLE}")
    _check_modules(config)
    for callback in sorted(set(_refused_callbacks(config))):
        raise ValueError(
            f"callback {callback} gets an episode object, which the batched runner does not have: use on_sample_end "
            f"(whole batches), on_train_result or on_evaluate_end; {OWN_RUNNER}"
        )


def _check_modules(config: Any) -> None:
    specs, bases = config._rl_module_spec, config.module_bases or {}
    roles = tuple(config.env_config["roles"])
    if not isinstance(specs, MultiRLModuleSpec) or set(specs.rl_module_specs) != set(roles):
        raise ValueError(
            f"rl_module_spec must be a MultiRLModuleSpec with a module for each of {', '.join(roles)}: "
            f"config.role_modules({roles[0]}=Mine) changes one"
        )
    for role, spec in specs.rl_module_specs.items():
        module_class, base = spec.module_class, bases.get(role)
        if base is not None and not (isinstance(module_class, type) and issubclass(module_class, base)):
            raise ValueError(
                f"module of '{role}' is {getattr(module_class, '__name__', module_class)}: the batched runner takes "
                f"{base.__name__} and subclasses of it. {OWN_RUNNER}"
            )


def _refused_callbacks(config: Any) -> Iterator[str]:
    given = config.callbacks_class
    classes = given if isinstance(given, list | tuple) else [given]
    for name in EPISODE_CALLBACKS:
        if getattr(config, f"callbacks_{name}", None):
            yield name
        for callbacks_class in classes:
            if getattr(callbacks_class, name, None) is not getattr(RLlibCallback, name):
                yield f"{name} of {getattr(callbacks_class, '__name__', callbacks_class)}"
