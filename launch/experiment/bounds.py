"""The certified lower bound of a comparison: computed once for the first networks of a point, kept in the folder."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from typing import Any

import numpy as np

from edgemarl.agents.playbook import Bound, NoBound, Playbook
from edgemarl.agents.registry import playbook_of
from edgemarl.envs.scenario import Scenario
from edgemarl.launch.experiment.plan import Plan, Point
from edgemarl.launch.experiment.store import Store, digest
from edgemarl.marl.evaluation.rollout import TraceSource

Notify = Callable[[str, int, int], None]
OF_DRAWN = (
    "for a trace file none is printed: it holds in expectation over drawn traces, which says nothing of a given one"
)


def bound_of_point(
    plan: Plan, point: Point, source: TraceSource, store: Store, notify: Notify
) -> tuple[Bound | None, str]:
    """The bound of a point's first networks, or None and why there is none; found again in the folder if it is there.

    Args:
        plan: the experiment.
        point: the scenario to bound.
        source: the traces that its controllers meet.
        store: where it is kept.
        notify: told about progress.
    """
    scenario, book = point.scenario, playbook_of(point.scenario)
    if book.bound is None:
        return None, f"none is known for {scenario.name}"
    covered = networks_covered(book, scenario, source.cells)
    settings = [
        "bound", scenario.name, dataclasses.asdict(scenario.config), covered, source.slots, plan.preset.warmup,
        plan.seed, plan.preset.networks, None if plan.trace is None else plan.trace.digest(),
    ]  # fmt: skip
    path = store.folder / "parts" / f"{digest(settings)}.bound"
    content = store.read_sealed(path)
    if content is None:
        label = f"bound ({point.label})" if point.label else "bound"
        notify(label, 0, 1)
        content = json.dumps(_computed(book, scenario, source, covered, plan)).encode()
        store.write_sealed(path, content)
        notify(label, 1, 1)
    kept = json.loads(content)
    if "no_bound" in kept:
        return None, str(kept["no_bound"])
    return Bound(np.array(kept["values"]), bool(kept["each_trace"]), str(kept["binds"])), ""


def networks_covered(book: Playbook, scenario: Scenario, networks: int) -> int:
    """How many of the networks of a comparison a bound covers: all where it is cheap, at least one."""
    devices = scenario.roles["device"].count
    return networks if book.bound_devices == 0 else min(networks, max(1, book.bound_devices // devices))


def _computed(book: Playbook, scenario: Scenario, source: TraceSource, covered: int, plan: Plan) -> dict[str, Any]:
    """Plain values of a bound, or the reason why there is none."""
    assert book.bound is not None
    parts: list[Bound] = []
    left = covered
    if plan.trace is not None and not book.bound_each_trace:
        return {"no_bound": OF_DRAWN}
    try:
        for trace in source.chunks(covered):
            count = min(left, trace.cells)
            parts.append(book.bound(scenario, trace.select(slice(0, count)), plan.preset.warmup))
            left -= count
            if left == 0:
                break
    except NoBound as reason:
        return {"no_bound": str(reason)}
    if plan.trace is not None and not parts[0].each_trace:
        return {"no_bound": OF_DRAWN}
    values = np.concatenate([part.values for part in parts])
    return {"values": values.tolist(), "each_trace": parts[0].each_trace, "binds": parts[0].binds}
