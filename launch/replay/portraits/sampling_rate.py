"""Sampling rates of the devices, who computes at home, the server's shares and backlogs, the accuracy missed."""

from __future__ import annotations

from typing import Any

import numpy as np

import edgemarl.launch.replay.shapes as shapes
from edgemarl.envs.scenarios.sampling_rate import SamplingRate
from edgemarl.launch.replay.recording import Moment

CAPTION = (
    "Columns: sampling rate of each device; blue: the compressed network on the device, orange: the whole one at the "
    "server, by the link whose rate the beam shows. Above: each service's share of the server's CPU, its accuracy and "
    "what it owes."
)
SERVICES = (shapes.GREEN, shapes.PURPLE, shapes.SKY, shapes.INK)
"""Colours of services; further ones begin anew and are told apart by their number."""


def draw(axes: Any, moment: Moment, scenario: SamplingRate) -> None:
    """One slot."""
    c = scenario.config
    level = np.asarray(moment.decisions.rate_level[0])
    local = np.asarray(moment.decisions.local[0], bool)
    x, width = shapes.places(c.num_devices)
    unit = (0.44 - shapes.FLOOR) / c.num_rates
    colours = np.where(local, shapes.BLUE, shapes.ORANGE)
    for k in range(c.num_rates):
        taken = level > k
        boxes = np.where(taken, colours, shapes.EMPTY)
        shapes.boxes(axes, x - width / 2, shapes.FLOOR + unit * k, width, unit, boxes)
    rate = scenario.link_rate_bps(moment.exogenous.channel_gain[0]) / scenario.rate_bps_max
    to = np.stack([_centres(c.num_services)[scenario.service], np.full(c.num_devices, shapes.ROOF - 0.06)], axis=1)
    shapes.beams(axes, x, 0.45, rate, to, shapes.ORANGE, ~local)
    marks = np.array([SERVICES[m % len(SERVICES)] for m in scenario.service])
    shapes.boxes(axes, x - width / 2, shapes.FLOOR - 0.022, width, 0.012, marks)
    shapes.numbers(axes, x, shapes.FLOOR - 0.045)
    _services(axes, moment, scenario)
    shapes.key(axes, [(shapes.BLUE, "on the device"), (shapes.ORANGE, "at the server")])


def _centres(services: int) -> Any:
    return shapes.places(services)[0]


def _services(axes: Any, moment: Moment, scenario: SamplingRate) -> None:
    """A block per service: share of the CPU, backlog, accuracy against its target."""
    c = scenario.config
    share, accuracy = moment.detail("share"), moment.detail("service_accuracy")
    backlog = moment.state.server_queue_bits[0] / scenario.server_bits_per_slot
    debt = moment.state.accuracy_deficit[0]
    width = min(0.42, 0.84 / c.num_services)
    for m, middle in enumerate(_centres(c.num_services)):
        left = float(middle) - width / 2
        colour = SERVICES[m % len(SERVICES)]
        shapes.text(axes, float(middle), 0.945, f"service {m}", size=8.5, colour=colour, weight="bold")
        shapes.gauge(axes, left, 0.87, width, 0.05, float(share[m]), f"{100 * share[m]:.0f}% of the CPU", colour)
        shapes.gauge(axes, left, 0.81, width, 0.05, float(backlog[m]), f"backlog {backlog[m]:.2f} slot", shapes.BLUE)
        missed = accuracy[m] < scenario.accuracy_target[m]
        words = f"accuracy {accuracy[m]:.3f} of {scenario.accuracy_target[m]:.3f}"
        shapes.text(axes, float(middle), 0.775, words, size=7.5, colour=shapes.RED if missed else shapes.INK)
        shapes.text(axes, float(middle), 0.735, f"accuracy debt {debt[m]:.2f}", size=7.5, colour=shapes.SOFT)
