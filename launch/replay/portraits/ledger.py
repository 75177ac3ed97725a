"""Any scenario: what each agent pays in the slot, a row of columns for each role."""

from __future__ import annotations

from typing import Any

import numpy as np

import edgemarl.launch.replay.shapes as shapes
from edgemarl.envs.scenario import Scenario
from edgemarl.launch.replay.recording import Moment

CAPTION = "Columns: cost of the slot of every agent, by role."


def draw(axes: Any, moment: Moment, scenario: Scenario) -> None:
    """A row of columns for each role, higher for a higher cost; a cost below 0 hangs down."""
    costs = {role: values[0] for role, values in moment.step.costs.items()}
    height = 0.8 / len(costs)
    for i, (role, values) in enumerate(costs.items()):
        floor = 0.1 + height * i
        x, width = shapes.places(len(values))
        largest = max(float(np.abs(values).max()), 1e-12)
        tall = 0.7 * height * np.minimum(np.abs(values) / largest, 1.0)
        down = values < 0.0
        colours = np.where(down, shapes.GREEN, shapes.ORANGE)
        shapes.boxes(axes, x - width / 2, floor, width, tall, colours)
        shapes.numbers(axes, x, floor - 0.02)
        shapes.text(axes, 0.06, floor + 0.78 * height, f"{role}: up to {largest:.3g}", side="left")
    shapes.key(axes, [(shapes.ORANGE, "cost"), (shapes.GREEN, "gain")])
