"""What a script hands over wrongly is a ValueError that names argument and what is legal, before any work starts."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgemarl.agents import PartneredParallelEnv, Team, export_policy, make_controller, make_policy, policy_of
from edgemarl.agents.trained.policy import TrainedPolicy
from edgemarl.envs import (
    CentralEnv,
    CentralVectorEnv,
    ScenarioParallelEnv,
    make_scenario,
    register_scenario,
    scenario_names,
)
from edgemarl.envs.checks import checked_number
from edgemarl.launch.replay import replay
from edgemarl.marl import (
    GivenTraces,
    Outcome,
    SampledTraces,
    TrainConfig,
    compare,
    compare_controllers,
    load_policy,
    load_trace,
    resolve,
    rollout,
    save_trace,
    train,
)

NAN = float("nan")
NO_COUNT = (2.5, 2.0, "2", -1, NAN, [], True)
NO_SEED = (2.5, "2", -1, NAN, True, np.random.default_rng(0))
NO_GENERATOR = (0, None, "x", np.random.RandomState(0), np.random.default_rng)
NO_SCENARIO = (None, 3, [])
NO_PATH = (None, 3, [], "")
Call = Callable[[], Any]


@cache
def scenario() -> Any:
    return make_scenario("sequential_offloading", num_devices=2)


@cache
def trace() -> Any:
    return scenario().sample_trace(np.random.default_rng(0), 2, 4)


def rng() -> np.random.Generator:
    return np.random.default_rng(0)


def played(**given: Any) -> Any:
    return rollout(make_policy(scenario(), "random"), scenario(), trace(), rng(), **given)


def compared(**given: Any) -> Any:
    outcome = Outcome("a", "baseline", "local", {"cost": np.ones((1, 4))})
    return compare(**{"scenario": scenario(), "outcomes": [outcome], **given})


def table(**given: Any) -> Any:
    return compare_controllers(
        **{"scenario": scenario(), "controllers": ["random"], "networks": 1, "slots": 4, **given}
    )


def decoded(actions: Any) -> Any:
    exogenous = scenario().exogenous(trace(), 0)
    return scenario().decode(scenario().initial_state(trace()), actions, exogenous)


def stepped(first: Any) -> Any:
    env = ScenarioParallelEnv(scenario())
    env.reset(seed=0)
    return env.step({agent: first if agent == "wd_0" else env.action_space(agent).sample() for agent in env.agents})


def of_traces() -> Iterator[tuple[str, Call]]:
    for v in NO_COUNT:
        yield "cells", lambda v=v: scenario().sample_trace(rng(), v, 4)
        yield "slots", lambda v=v: scenario().sample_trace(rng(), 1, v)
        yield "slots", lambda v=v: trace().shortened(v)
        yield "cells", lambda v=v: SampledTraces(scenario(), 0, v, 4)
    for v in (*NO_GENERATOR, np.random.SeedSequence(0)):
        yield "default_rng", lambda v=v: scenario().sample_trace(v, 1, 4)
    none: tuple[Any, ...] = ([], slice(5, 9), slice(0, 0), slice("a"), [False, False])
    for v in (*none, [5], [-3], 0, 2.5, [0.5], [True], [[0, 1]], [[0], [0, 1]], "x", None, {}):
        yield "one cell or more of the trace's 2", lambda v=v: trace().select(v)
    for v in (5, -1, 2.5, None, "x"):
        yield "integer >= 0 and <= 4", lambda v=v: scenario().exogenous(trace(), v)
    for v in NO_SEED:
        yield "seed", lambda v=v: SampledTraces(scenario(), v, 2, 4)
        yield "seed", lambda v=v: load_trace("none.csv", scenario(), seed=v)
    for v in NO_PATH:
        yield "path", lambda v=v: load_trace(v, scenario())
        yield "path", lambda v=v: save_trace(v, scenario(), trace())
    for v in (None, 3, "cell"):
        yield "ignore", lambda v=v: load_trace("none.csv", scenario(), ignore=v)
    for v in NO_SCENARIO:
        yield "scenario", lambda v=v: load_trace("none.csv", v)
        yield "scenario", lambda v=v: SampledTraces(v, 0, 2, 4)
        yield "trace", lambda v=v: GivenTraces(v)


def of_names() -> Iterator[tuple[str, Call]]:
    for v in (None, 3, [], type(scenario()), scenario()):
        yield "scenario", lambda v=v: make_scenario(v)
    for name, target in ((3, "a:B"), ("a b", "a:B"), ("", "a:B"), ("mine", 3), ("mine", "nonsense")):
        yield "name" if target == "a:B" else "target", lambda n=name, t=target: register_scenario(n, t)
    for v in (None, 3, []):
        yield "controller", lambda v=v: make_policy(scenario(), v)
        yield "controller of role 'device'", lambda v=v: make_controller(scenario(), "device", v)
        yield "role", lambda v=v: make_controller(scenario(), v, "random")
        yield "scenario", lambda v=v: make_policy(v, "random")
        yield "scenario", lambda v=v: make_controller(v, "device", "random")
        yield "scenario", lambda v=v: policy_of(v, "random", "a")
        yield "controller", lambda v=v: Team("x", v) if v != [] else Team("x", {"device": 3})  # type: ignore[dict-item]
    device = make_controller(scenario(), "device", "random")
    for v in (3, "device", ["device"]):
        yield "order", lambda v=v: Team("x", {"device": device}, v)
    yield "information", lambda: Team("x", {"device": device}, information="all")  # type: ignore[arg-type]


def of_environments() -> Iterator[tuple[str, Call]]:
    parallel = (ScenarioParallelEnv, PartneredParallelEnv)
    for kind in (*parallel, CentralEnv, CentralVectorEnv):
        for v in (*NO_SCENARIO, type(scenario())):
            yield "scenario", lambda k=kind, v=v: k(v)
        for v in ("2", -1, NAN, [], 0):
            yield "reward_scale", lambda k=kind, v=v: k(scenario(), reward_scale=v)
        for v in NO_SEED:
            yield "seed", lambda k=kind, v=v: k(scenario()).reset(seed=v)
        for v in (3, "x", trace()):
            yield "options", lambda k=kind, v=v: k(scenario()).reset(options=v)
        yield "give its name", lambda k=kind: k(scenario(), num_devices=3)
    for kind in parallel:
        for v in NO_COUNT:
            yield "max_cycles", lambda k=kind, v=v: k(scenario(), max_cycles=v)
        for v in (3, "x", [], {"device": 3}):
            yield "agent_names", lambda k=kind, v=v: k(scenario(), agent_names=v)
        for v in (None, 3, "x", []):
            yield "agent", lambda k=kind, v=v: k(scenario()).observation_space(v)
            yield "agent", lambda k=kind, v=v: k(scenario()).action_space(v)
    for v in NO_COUNT:
        yield "num_envs", lambda v=v: CentralVectorEnv(scenario(), num_envs=v)
        yield "max_episode_steps", lambda v=v: CentralVectorEnv(scenario(), max_episode_steps=v)
    for v in (3, "x", ["device"], {"device": 3}, {"device": None}):
        yield "fixed", lambda v=v: PartneredParallelEnv(scenario(), fixed=v)
    for v in (None, "x", 3.0, [[1], [1, 2]]):
        yield "device", lambda v=v: stepped(v)
    for v in (None, 3, []):
        yield "actions", lambda v=v: decoded(v)


def of_rollouts() -> Iterator[tuple[str, Call]]:
    for v in NO_GENERATOR:
        yield "default_rng", lambda v=v: rollout(make_policy(scenario(), "random"), scenario(), trace(), v)
    for v in ("random", None, {}, make_controller(scenario(), "device", "random")):
        yield "policy", lambda v=v: rollout(v, scenario(), trace(), rng())
    for v in NO_SCENARIO:
        yield "scenario", lambda v=v: rollout(make_policy(scenario(), "random"), v, trace(), rng())
    for v in ("x.parquet", None, [], [trace()], scenario()):
        yield "trace", lambda v=v: rollout(make_policy(scenario(), "random"), scenario(), v, rng())
    for name in ("warmup", "window_slots", "chunk_cells"):
        for v in NO_COUNT:
            yield name, lambda n=name, v=v: played(**{n: v})
    for v in ("2", -1, NAN, [], 1.5, True):
        yield "discount", lambda v=v: played(discount=v)
    for v in (None, 3, "cost", [1]):
        yield "record", lambda v=v: played(record=v)
    for v in (3, "x", []):
        yield "progress", lambda v=v: played(progress=v)
    for name in ("networks", "slots", "warmup"):
        for v in NO_COUNT:
            yield name, lambda n=name, v=v: table(**{n: v})
    for v in NO_SEED:
        yield "seed", lambda v=v: table(seed=v)
    for v in (None, 3, "random", [3]):
        yield "controllers", lambda v=v: table(controllers=v)
    for v in NO_SCENARIO:
        yield "scenario", lambda v=v: table(scenario=v)
    for v in (3, "rondom", []):
        yield "reference", lambda v=v: table(reference=v)
    for v in (None, [3], "x"):
        yield "outcome", lambda v=v: compared(outcomes=v)
    for v in ("x", np.ones((1, 4, 2)), np.ones((1, 0))):
        yield "metric 'cost'", lambda v=v: compared(outcomes=[Outcome("a", "baseline", "local", {"cost": v})])
    yield "has no metric 'device_queue_tasks'", compared
    yield "resamples", lambda: compared(resamples=2.5)
    yield "seed", lambda: compared(seed=2.5)
    yield "scenario", lambda: compared(scenario="sequential_offloading")
    yield "bound", lambda: compare(model(), [outcome()], bound=3)  # type: ignore[arg-type]


def model() -> Any:
    return make_scenario("sequential_offloading")


def outcome() -> Outcome:
    names = [model().cost_metric, *(name for names in model().summary_metrics.values() for name in names)]
    return Outcome("a", "baseline", "local", {name: np.ones((1, 4)) for name in names})


def of_trainings() -> Iterator[tuple[str, Call]]:
    for v in (2.5, "x", [3], 3):
        yield "settings", lambda v=v: TrainConfig(settings=v)
    for v in (None, 3, "x", {}, TrainConfig):
        yield "TrainConfig", lambda v=v: resolve(v)
        yield "TrainConfig", lambda v=v: train(v, "none")
    for v in NO_PATH:
        yield "out", lambda v=v: train(TrainConfig(scenario="sequential_offloading", agent_steps=10**5), v)
        yield "path", lambda v=v: load_policy(v, scenario())
        yield "path", lambda v=v: TrainedPolicy.load(v)
    for name in ("progress", "saved", "imitated"):
        yield (
            name,
            lambda n=name: train(TrainConfig(scenario="sequential_offloading", agent_steps=100), "none", **{n: 3}),
        )
    for v in (None, 3, "x"):
        yield "policy", lambda v=v: export_policy(v, "none.onnx")
        yield "scenario", lambda v=v: load_policy("none", v)


def shown(**given: Any) -> Any:
    return replay(**{"scenario": scenario(), "controllers": ["random"], "out": "x.gif", "slots": 2, **given})


def of_replays() -> Iterator[tuple[str, Call]]:
    for v in NO_SCENARIO:
        yield "scenario", lambda v=v: shown(scenario=v)
    for v in (None, 3, "random", [], [3], ["random"] * 3):
        yield "controllers", lambda v=v: shown(controllers=v)
    for v in NO_PATH:
        yield "out", lambda v=v: shown(out=v)
    for v in NO_COUNT:
        yield "slots", lambda v=v: shown(slots=v)
        yield "first", lambda v=v: shown(first=v)
    for v in ("x.parquet", 3, []):
        yield "trace", lambda v=v: shown(trace=v)
    for v in NO_SEED:
        yield "seed", lambda v=v: shown(seed=v)
    for v in ("2", -1, NAN, [], 0, 1000):
        yield "fps", lambda v=v: shown(fps=v)
    yield "progress", lambda: shown(progress=3)


@pytest.mark.parametrize("calls", [of_traces, of_names, of_environments, of_rollouts, of_trainings, of_replays])
def test_a_wrong_argument_is_named(
    calls: Callable[[], Iterator[tuple[str, Call]]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    wrong = []
    for i, (words, call) in enumerate(calls()):
        try:
            wrong.append(f"{i}: {words}: {call()!r:.80}")
        except ValueError as error:
            if words not in str(error) or "\n" in str(error):
                wrong.append(f"{i}: {words}: {error}")
        except Exception as error:
            wrong.append(f"{i}: {words}: {error!r}")
    assert not wrong, "\n".join(wrong)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", scenario_names())
def test_actions_that_are_no_mapping_of_roles_are_refused_by_every_scenario(name: str) -> None:
    played = make_scenario(name)
    one = played.sample_trace(rng(), 1, 2)
    for actions in (None, 3, [], "device", {}):
        with pytest.raises(ValueError, match="actions"):
            played.decode(played.initial_state(one), actions, played.exogenous(one, 0))  # type: ignore[arg-type]


def test_right_arguments_in_other_types_are_taken() -> None:
    assert scenario().sample_trace(rng(), np.int64(2), np.int32(3)).slots == 3
    assert trace().select(np.array([True, False])).cells == trace().select(slice(1, None)).cells == 1
    assert trace().select((0, 1, 1)).cells == 3 and trace().select([-1]).cells == 1
    assert checked_number("x", np.float32(0.5), 0.0) == checked_number("x", np.array(0.5), 0.0) == 0.5
    played(warmup=np.int64(1), discount=np.float64(0.9), record=("cost",))
    CentralVectorEnv(scenario(), 2).reset(seed=np.array([1, 2]))  # type: ignore[arg-type]
    CentralEnv(scenario()).reset(seed=np.int64(3))  # type: ignore[arg-type]
