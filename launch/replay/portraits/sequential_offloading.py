"""Queues of tasks, CPU work, residuals on their way to the server, its queue and its price."""

from __future__ import annotations

from typing import Any

import numpy as np

import edgemarl.launch.replay.shapes as shapes
from edgemarl.agents.sequential_offloading.model import PRICE_SCALE
from edgemarl.envs.scenarios.sequential_offloading import SequentialOffloading
from edgemarl.launch.replay.recording import Moment

CAPTION = (
    "Columns: tasks waiting at each device; blue: computed in this block, orange: sent to the server. "
    "Beams: transmit power. Red: not sent, the channel is too bad."
)
FULL_TASKS = 6.0
"""Tasks of the highest column."""


def draw(axes: Any, moment: Moment, scenario: SequentialOffloading) -> None:
    """One block."""
    c = scenario.config
    queue = moment.state.device_queue_cycles[0] / c.task_cycles
    work, residual = (moment.detail(name) / c.task_cycles for name in ("local_work_cycles", "residual_cycles"))
    outage, power = moment.detail("outage"), moment.detail("transmit_power_w")
    x, width = shapes.places(len(queue))
    unit = (0.50 - shapes.FLOOR) / FULL_TASKS
    _columns(axes, x, width, queue, unit)
    left, shown = x - width / 2, np.minimum(queue, FULL_TASKS)
    done = np.minimum(work, shown)
    shapes.boxes(axes, left, shapes.FLOOR, width, unit * done, shapes.BLUE)
    sent = np.minimum(residual, np.maximum(shown - done, 0.0))
    shapes.boxes(axes, left, shapes.FLOOR + unit * done, width, unit * sent, shapes.ORANGE)
    if outage.any():
        shapes.boxes(axes, left[outage], shapes.FLOOR - 0.03, width, 0.014, shapes.RED)
    top = shapes.FLOOR + unit * shown + 0.01
    shapes.beams(axes, x, top, power / c.transmit_power_w_max, (0.5, shapes.ROOF), shapes.ORANGE, residual > 0.0)
    shapes.numbers(axes, x, shapes.FLOOR - 0.05)
    _server(axes, moment, scenario)
    shapes.key(
        axes, [(shapes.BLUE, "computed"), (shapes.ORANGE, "sent"), (shapes.PALE, "waiting"), (shapes.RED, "no channel")]
    )


def _columns(axes: Any, x: Any, width: float, queue: Any, unit: float) -> None:
    """A box for every waiting task, the last one as full as it is; a mark on columns that go on."""
    for task in range(int(np.ceil(min(FULL_TASKS, queue.max(initial=0.0))))):
        here = queue > task
        part = np.minimum(queue[here] - task, 1.0)
        shapes.boxes(axes, x[here] - width / 2, shapes.FLOOR + unit * task, width, unit * part, shapes.PALE)
    for i in np.flatnonzero(queue > FULL_TASKS)[:20]:
        shapes.text(
            axes, float(x[i]), shapes.FLOOR + unit * FULL_TASKS + 0.02, f"{queue[i]:.0f}", size=6.5, colour=shapes.RED
        )


def _server(axes: Any, moment: Moment, scenario: SequentialOffloading) -> None:
    c = scenario.config
    backlog = float(moment.state.server_queue_cycles[0]) / c.task_cycles
    shapes.gauge(axes, 0.25, 0.82, 0.5, 0.07, backlog / (2.0 * c.num_devices), f"server: {backlog:.1f} tasks waiting")
    rate = float(np.clip(moment.decisions.server_cpu_hz[0] / c.server_cpu_hz_max, 0.0, 1.0))
    shapes.gauge(axes, 0.25, 0.73, 0.5, 0.06, rate, f"its CPU at {100 * rate:.0f}%", shapes.GREEN)
    price = moment.messages.get(("server", "device"))
    if price is not None:
        shapes.text(
            axes, 0.5, 0.94, f"price of the server: {PRICE_SCALE * price[0]:.3g} per offloaded task", size=9,
            colour=shapes.PURPLE, weight="bold",
        )  # fmt: skip
