"""A local Ray whose start times out is started again, and what the first start left is ended."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import ray
from ray.rllib.algorithms.algorithm_config import AlgorithmConfig

from edgemarl.marl.rllib import node

SLEEP = "import time; time.sleep(60)"


def test_start_that_timed_out_leaves_no_process(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Another Ray of this process, such as the one that other tests share, goes on."""
    session = f"session_2026-01-01_00-00-00_000000_{os.getpid()}/logs"
    left: list[subprocess.Popen[bytes]] = []
    other = subprocess.Popen([sys.executable, "-c", SLEEP, f"{tmp_path}-2/{session}"])

    def init(**_: Any) -> None:
        if not left:
            left.append(subprocess.Popen([sys.executable, "-c", SLEEP, f"--logs={tmp_path}/{session}"]))
            raise Exception("The current node timed out during startup.")

    monkeypatch.setattr(ray, "init", init)
    monkeypatch.setattr(ray, "shutdown", lambda: None)
    try:
        node._start_node(0, tmp_path)
        with pytest.raises(ProcessLookupError):
            os.kill(left[0].pid, 0)
        assert other.poll() is None
    finally:
        for process in (other, *left):
            process.kill()
            process.wait()


def test_other_errors_of_a_start_are_raised(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def init(**_: Any) -> None:
        raise ConnectionError("no address")

    monkeypatch.setattr(ray, "init", init)
    with pytest.raises(ConnectionError, match="no address"):
        node._start_node(0, tmp_path)


def test_settings_of_runners_are_no_reference_that_ray_may_lose(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ray says in a line of error that a runner could not be begun again with a reference; weights are stored."""
    stored: list[object] = []
    monkeypatch.setattr(ray, "is_initialized", lambda: True)
    monkeypatch.setattr(ray, "put", stored.append)
    settings, weights = AlgorithmConfig(), {"weights": 1}
    with node.without_object_store():
        assert ray.put(settings) is settings
        ray.put(weights)
    assert stored == [weights]
