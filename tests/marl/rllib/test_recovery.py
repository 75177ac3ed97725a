"""How often lost runners are asked after, with a clock and a group of the test's own."""

from __future__ import annotations

from unittest import mock

import pytest

from edgemarl.marl.rllib import recovery
from edgemarl.marl.rllib.recovery import WAITS, PatientRecovery
from edgemarl.marl.training import run

PROBE_S = 5.0


class Clock:
    now_s = 100.0

    def monotonic(self) -> float:
        return self.now_s


class Group:
    def __init__(self, runners: int, healthy: int) -> None:
        self.runners, self.healthy = runners, healthy

    def num_remote_workers(self) -> int:
        return self.runners

    def num_healthy_remote_workers(self) -> int:
        return self.healthy


class Asking:
    """Stands for RLlib's Algorithm: asking takes the whole probe while a runner is missing."""

    asked = 0
    clock: Clock
    comes_back = False

    def restore_env_runners(self, env_runner_group: Group) -> list[int]:
        if env_runner_group.healthy == env_runner_group.runners:
            return []
        self.asked += 1
        if self.comes_back:
            env_runner_group.healthy += 1
            return [1]
        self.clock.now_s += PROBE_S
        return []


class Algorithm(PatientRecovery, Asking):
    pass


@pytest.fixture
def algorithm(monkeypatch: pytest.MonkeyPatch) -> Algorithm:
    built = Algorithm()
    built.clock = Clock()
    monkeypatch.setattr(recovery, "time", built.clock)
    return built


def test_a_node_that_is_gone_takes_a_fifth_of_the_time_at_most(algorithm: Algorithm) -> None:
    group, started_s = Group(2, 1), algorithm.clock.now_s
    for _ in range(200):
        assert algorithm.restore_env_runners(group) == []
        algorithm.clock.now_s += 1.0  # an iteration
    spent_s = algorithm.clock.now_s - started_s
    assert algorithm.asked >= 5
    assert algorithm.asked * PROBE_S <= spent_s / (1 + WAITS) + PROBE_S


def test_a_runner_that_comes_back_is_taken_in_and_the_next_loss_is_seen_at_once(algorithm: Algorithm) -> None:
    group = Group(2, 1)
    algorithm.restore_env_runners(group)
    algorithm.clock.now_s += WAITS * PROBE_S
    algorithm.comes_back = True
    assert algorithm.restore_env_runners(group) == [1]
    group.healthy, algorithm.comes_back = 1, False
    algorithm.restore_env_runners(group)
    assert algorithm.asked == 3


def test_with_no_runner_left_it_asks_every_time(algorithm: Algorithm) -> None:
    group = Group(2, 0)
    for _ in range(3):
        algorithm.restore_env_runners(group)
    assert algorithm.asked == 3


def test_what_fails_in_every_runner_is_raised_where_it_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    """Runners end without their error; a scenario's own fails in this process too, after one iteration."""
    monkeypatch.setattr(run.time, "sleep", lambda _: None)
    done = {"env_runners": {"sampled": 1}, "learners": {"device": 1}}
    broken = mock.Mock(train=mock.Mock(return_value={}))
    broken.env_runner.sample.side_effect = RuntimeError("the scenario's own")
    with pytest.raises(RuntimeError, match="the scenario's own"):
        run._iteration(broken)
    assert broken.train.call_count == 1
    lost = mock.Mock(train=mock.Mock(side_effect=[{}, {}, done]))
    assert run._iteration(lost) is done
    assert lost.env_runner.sample.call_count == 1
