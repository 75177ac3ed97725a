"""Pictures of a cell: every scenario draws, pictures follow the state, a window without a screen is refused."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest

from edgemarl.envs import render
from edgemarl.envs.parallel import ScenarioParallelEnv
from edgemarl.envs.registry import scenario_names


def environment(name: str = "sequential_offloading", **overrides: Any) -> ScenarioParallelEnv:
    env = ScenarioParallelEnv(name, render_mode="rgb_array", **overrides)
    env.reset(seed=3)
    return env


def with_state(env: ScenarioParallelEnv, **changes: Any) -> np.ndarray:
    """The picture after some state fields changed."""
    before = env._episode.state
    env._episode.state = dataclasses.replace(before, **changes)
    picture = env.render()
    env._episode.state = before
    assert picture is not None
    return picture


@pytest.mark.parametrize("name", scenario_names())
def test_every_scenario_draws_its_cell(name: str) -> None:
    env = environment(name)
    first = env.render()
    assert first is not None
    assert (first.shape, first.dtype) == ((600, 900, 3), np.uint8)
    assert len(np.unique(first.reshape(-1, 3), axis=0)) > 20
    env.step({agent: env.action_space(agent).sample() for agent in env.agents})
    second = env.render()
    assert (second != first).any()
    env.close()


def test_a_picture_shows_each_queue() -> None:
    env = environment(num_devices=6)
    empty = env.render()
    assert empty is not None
    np.testing.assert_array_equal(empty, env.render())
    queue = np.zeros((1, 6))
    queue[0, 2] = 5e8 * 6
    one_device = with_state(env, device_queue_cycles=queue)
    server = with_state(env, server_queue_cycles=np.array([6e9]))
    changed_by_device = (one_device != empty).any(axis=2)
    changed_by_server = (server != empty).any(axis=2)
    assert changed_by_device.any()
    assert changed_by_server.any()
    assert not (changed_by_device & changed_by_server).any()  # a device's place is not the server's
    columns = np.flatnonzero(changed_by_device.any(axis=0))
    assert columns.max() - columns.min() < 60  # one device only


def test_a_better_channel_draws_a_stronger_link() -> None:
    env = environment(num_devices=4)
    exogenous = env._episode.exogenous
    portrait = env.scenario.portrait(env._episode.state, exogenous)["device"]
    better = dataclasses.replace(exogenous, channel_gain_per_w=exogenous.channel_gain_per_w * 4)
    stronger = env.scenario.portrait(env._episode.state, better)["device"]
    assert portrait.link is not None
    assert stronger.link is not None
    assert (stronger.link > portrait.link).any()
    assert (stronger.link >= portrait.link).all()
    assert portrait.distance is not None
    assert np.argmin(portrait.distance) == np.argmax(exogenous.mean_gain_per_w)


def test_the_cost_curve_starts_anew_with_the_episode() -> None:
    env = environment(num_devices=2)
    for _ in range(3):
        env.step({agent: env.action_space(agent).sample() for agent in env.agents})
        env.render()
    assert [slot for slot, _ in env._view.canvas._costs] == [1, 2, 3]
    env.reset(seed=3)
    env.render()
    assert env._view.canvas._costs == []


def test_a_window_without_a_screen_is_refused_in_words(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(render, "WINDOW_BACKENDS", ("NoSuchToolkitAgg",))
    env = ScenarioParallelEnv("sequential_offloading", render_mode="human", num_devices=2)
    env.reset(seed=0)
    with pytest.raises(RuntimeError, match="needs a screen and one of the window toolkits"):
        env.render()


@pytest.mark.filterwarnings("ignore:FigureCanvasAgg is non-interactive")
def test_a_window_shows_what_the_array_holds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(render, "WINDOW_BACKENDS", ("agg",))
    window = ScenarioParallelEnv("sequential_offloading", render_mode="human", num_devices=3)
    window.reset(seed=3)
    assert window.render() is None  # as PettingZoo has it
    shown = np.asarray(window._view.canvas.figure.canvas.buffer_rgba())[..., :3]
    np.testing.assert_array_equal(shown, environment(num_devices=3).render())
    window.close()
