"""The code of docs/clients.md by section, and what tests of all libraries do with a policy."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from edgemarl.marl.evaluation.rollout import rollout

PAGE = Path(__file__).parents[2] / "docs" / "clients.md"


def blocks(title: str) -> list[str]:
    """Python blocks of a section."""
    parts = re.split(r"^## (.*)$", PAGE.read_text(encoding="utf-8"), flags=re.MULTILINE)
    sections = dict(zip(parts[1::2], parts[2::2], strict=True))
    found = re.findall(r"```python\n(.*?)```", sections[title], re.DOTALL)
    assert found, f"section {title} has no code"
    return found


Section = Callable[[str], dict[str, Any]]


def costs(policy: Any, scenario: Any, slots: int = 20) -> Any:
    """Costs of two networks on a trace that is always the same."""
    trace = scenario.sample_trace(np.random.default_rng(0), 2, slots)
    return rollout(policy, scenario, trace, np.random.default_rng(1)).means[scenario.cost_metric]
