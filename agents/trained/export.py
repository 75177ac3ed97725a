"""A trained policy as a file that other runtimes execute: ONNX or TorchScript, greedy actions, any batch size."""

from __future__ import annotations

import contextlib
import io
import json
import logging
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from edgemarl.agents.trained.interface import Interface, interface_of
from edgemarl.agents.trained.policy import GreedyAction, TrainedPolicy
from edgemarl.envs.arrays import Array
from edgemarl.envs.checks import checked_kind, checked_path
from edgemarl.envs.config import unknown_name
from edgemarl.envs.files import replacing
from edgemarl.envs.scenario import Scenario, checked_scenario

FORMATS = {".onnx": "onnx", ".ts": "torchscript"}
DESCRIPTION = "interface.json"
"""Extra file of a TorchScript archive that holds the interface; ONNX has it in its metadata."""
CHECK_ROWS = 1000
TOLERANCE = 1e-5
"""Largest difference between exported and trained actions, in units of the action."""
TIES = 2e-3
"""Share of rows that may differ by more: two choices whose values agree to rounding."""

Inputs = dict[str, Array]
"""Name -> array: `observations`, and `mask` where the graph takes one."""


def export_policy(policy: TrainedPolicy, path: Path | str, scenario: Scenario | None = None) -> Interface:
    """Write the greedy policy; the suffix chooses the format. The file is run and compared before it is put in place.

    The exported function maps observations float32 (M, d), or (M, n, d) of all agents where the network takes a cell's
    agents together (`NetworkSpec.of_cells`), to raw actions.
    Where choices that make sense differ from slot to slot or between agents, it also takes their mask, bool. What
    every number is stands in the file (`Interface.metadata`).

    Args:
        policy: the trained policy.
        path: target ending in `.onnx` (needs the extra `export`) or `.ts` (TorchScript).
        scenario: the network that it is to act in; default: the one in which it was trained.

    Returns:
        what goes in and what comes out.

    Raises:
        ValueError: another suffix, a scenario that cannot be made or that the policy does not fit, or the exported
            file does not act as the policy does.
    """
    checked_kind("policy", policy, TrainedPolicy, "TrainedPolicy.load(FILE)")
    target = checked_path("path", path)
    if scenario is not None:
        checked_scenario(scenario)
    if target.suffix not in FORMATS:
        raise ValueError(unknown_name("export format", target.suffix, FORMATS))
    interface = interface_of(policy, scenario)
    inputs = check_inputs(interface, CHECK_ROWS)
    module = GreedyAction(policy.network, interface.mask.values).eval()
    with replacing(target) as temporary:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            run = _WRITERS[target.suffix](module, inputs, interface.metadata(), temporary)
        for part in (inputs, {name: values[:1] for name, values in inputs.items()}):
            if not _agree(run(part), trained_actions(policy, interface, part)):
                raise ValueError(f"the exported file {target} does not act as the trained policy does")
    return interface


def check_inputs(interface: Interface, rows: int, seed: int = 0) -> Inputs:
    """Rows within their bounds and masks, at least one choice each, to hold an exported file to its policy."""
    rng = np.random.default_rng(seed)
    low, high = (np.clip(bound, -10.0, 10.0) for bound in (interface.low, interface.high))
    lead = (rows, interface.agents or len(interface.agent_ids)) if interface.of_cells else (rows,)
    inputs = {"observations": rng.uniform(low, high, (*lead, len(low))).astype(np.float32)}
    if interface.mask.kind == "input":
        choices = interface.head.outputs
        if interface.mask.of_agents is not None:
            mask = interface.mask.of_agents[rng.integers(len(interface.mask.of_agents), size=lead)]
        else:
            mask = rng.random((*lead, choices)) < 0.5
            np.put_along_axis(mask, rng.integers(choices, size=(*lead, 1)), True, axis=-1)
        inputs["mask"] = mask
    return inputs


def trained_actions(policy: TrainedPolicy, interface: Interface, inputs: Inputs) -> Array:
    """What the trained controller does with the same rows and masks."""
    mask = inputs.get("mask")
    if interface.mask.values is not None:
        shape = (*inputs["observations"].shape[:-1], interface.head.outputs)
        mask = np.broadcast_to(interface.mask.values, shape)
    return policy.act(inputs["observations"], np.random.default_rng(0), mask=mask)


def _agree(given: Array, wanted: Array) -> bool:
    if given.shape != wanted.shape:
        return False
    differs = np.abs(given - wanted).reshape(len(wanted), -1).max(axis=1) > TOLERANCE
    return bool(differs.mean() <= TIES)


def _onnx(module: GreedyAction, inputs: Inputs, about: dict[str, str], path: Path) -> Callable[[Inputs], Array]:
    try:
        import onnxruntime
    except ImportError as error:
        raise ValueError(
            f"export to ONNX needs the extra 'export' (pip install 'edgemarl[export]'): {error}"
        ) from error
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)  # it misses torchvision, which nothing here uses
    axes = {0: torch.export.Dim("rows"), **({1: torch.export.Dim("agents")} if module.network.spec.sets else {})}
    program = torch.onnx.export(
        module,
        _tensors(inputs),
        dynamo=True,
        input_names=list(inputs),
        output_names=["actions"],
        dynamic_shapes=dict.fromkeys(inputs, axes),
        verbose=False,
    )
    assert program is not None
    program.model.metadata_props.update(about)
    program.model.doc_string = f"{about['inputs']} -> {about['outputs']}"
    program.save(str(path), external_data=False)
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    return lambda part: session.run(None, part)[0]


def _torchscript(module: GreedyAction, inputs: Inputs, about: dict[str, str], path: Path) -> Callable[[Inputs], Array]:
    traced: Any = torch.jit.trace(module, _tensors(inputs))  # type: ignore[no-untyped-call]
    traced.save(str(path), _extra_files={DESCRIPTION: json.dumps(about)})
    loaded = torch.jit.load(str(path))  # type: ignore[no-untyped-call]
    return lambda part: loaded(*_tensors(part)).detach().numpy()


def _tensors(inputs: Inputs) -> tuple[torch.Tensor, ...]:
    return tuple(torch.from_numpy(np.ascontiguousarray(values)) for values in inputs.values())


_WRITERS = {".onnx": _onnx, ".ts": _torchscript}
