"""Scenarios that a price-conditioned learner (`edgemarl.marl.rllib.priced_dqn`) knows how to price."""

from __future__ import annotations

from importlib import import_module
from typing import Any

from edgemarl.envs.api import Scenario
from edgemarl.envs.config import unknown_name

GAMES = {"sampling_rate": "edgemarl.agents.heuristics.sampling_rate_prices:SamplingRatePrices"}
"""Scenario -> "module:class" with `spec`, `rewards` and `randomised`."""


def priced_game(scenario: Scenario) -> Any:
    """What the scenario tells a price-conditioned learner.

    Raises:
        ValueError: the scenario has nothing to price.
    """
    if scenario.name not in GAMES:
        raise ValueError(unknown_name("scenario of priced_dqn", scenario.name, GAMES))
    module, name = GAMES[scenario.name].split(":")
    return getattr(import_module(module), name)(scenario)
