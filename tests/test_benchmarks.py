"""The benchmarks compare like with like."""

from __future__ import annotations

import numpy as np

from edgemarl.marl.benchmarks.sequential_offloading import TimedBlocks, step_cell_by_loop


def test_the_loop_and_the_batched_step_agree() -> None:
    blocks = TimedBlocks(cells=3, devices=7)
    for state, decisions, exogenous in blocks.parts:
        step = blocks.scenario.step(state, decisions, exogenous)
        for b in range(3):
            queues, costs = step_cell_by_loop(blocks.scenario.config, state, decisions, exogenous, b)
            np.testing.assert_allclose(queues[:-1], step.state.device_queue_cycles[b], rtol=1e-9, atol=1e-3)
            np.testing.assert_allclose(queues[-1], step.state.server_queue_cycles[b], rtol=1e-9)
            np.testing.assert_allclose(costs[:-1], step.costs["device"][b], rtol=1e-9)
            np.testing.assert_allclose(costs[-1], step.costs["server"][b, 0], rtol=1e-9)
