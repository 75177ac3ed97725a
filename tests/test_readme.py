"""The Python examples of README and CONTRIBUTING run as they stand."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgemarl.agents import make_controller
from edgemarl.agents.api import Team
from edgemarl.envs import make_scenario
from edgemarl.marl.evaluation.rollout import rollout

ROOT = Path(__file__).parent.parent


def python_blocks(name: str) -> list[str]:
    text = (ROOT / name).read_text(encoding="utf-8")
    return re.findall(r"```python\n(.*?)```", text, re.DOTALL)


def test_readme_examples_run(capsys: pytest.CaptureFixture[str]) -> None:
    namespace: dict[str, Any] = {}
    blocks = python_blocks("README.md")
    assert len(blocks) >= 2
    for block in blocks:
        exec(compile(block, "README.md", "exec"), namespace)
    costs = dict(line.split() for line in capsys.readouterr().out.splitlines())
    assert float(costs["vi_priced"]) < float(costs["parametric_q"]) < float(costs["random"])
    assert namespace["picture"].ndim == 3
    assert set(namespace["rewards"]) == set(namespace["env"].possible_agents)


def test_the_controller_of_the_contributing_guide_plays() -> None:
    namespace: dict[str, Any] = {}
    (block,) = python_blocks("CONTRIBUTING.md")
    exec(compile(block, "CONTRIBUTING.md", "exec"), namespace)
    scenario = make_scenario("sequential_offloading", num_devices=3)
    controller = namespace["HalfSpeed"]
    team = Team("half speed", {"device": controller(), "server": make_controller(scenario, "server", "parametric_q")})
    trace = scenario.sample_trace(np.random.default_rng(0), 2, 5)
    result = rollout(team, scenario, trace, np.random.default_rng(0))
    assert np.isfinite(result.means["cost"]).all()
