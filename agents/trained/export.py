"""A trained policy as a file that other runtimes execute: ONNX or TorchScript, greedy actions, any batch size."""

from __future__ import annotations

import contextlib
import io
import logging
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from edgemarl.agents.trained.policy import GreedyAction, TrainedPolicy
from edgemarl.envs.arrays import Array
from edgemarl.envs.config import unknown_name
from edgemarl.envs.files import replacing

FORMATS = {".onnx": "onnx", ".ts": "torchscript"}
CHECK_ROWS = 7
TOLERANCE = 1e-5
"""Largest difference between exported and trained actions, in units of the action."""


def export_policy(policy: TrainedPolicy, path: Path | str) -> None:
    """Write the greedy policy; the suffix chooses the format. The file is run and compared before it is put in place.

    The exported function maps observations float32 (M, d), or (M, n, d) of all agents where the network takes a cell's
    agents together (`NetworkSpec.of_cells`), to raw actions.

    Args:
        policy: the trained policy.
        path: target ending in `.onnx` (needs the extra `export`) or `.ts` (TorchScript).

    Raises:
        ValueError: another suffix, or the exported file does not act as the policy does.
    """
    target = Path(path)
    if target.suffix not in FORMATS:
        raise ValueError(unknown_name("export format", target.suffix, FORMATS))
    module = GreedyAction(policy.network).eval()
    spec = policy.spec
    agents = (spec.agents or CHECK_ROWS,) if spec.of_cells else ()
    shape = (CHECK_ROWS, *agents, spec.observation_size)
    rows = np.random.default_rng(0).random(shape, dtype=np.float32)
    with replacing(target) as temporary:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            run = _WRITERS[target.suffix](module, torch.from_numpy(rows), temporary)
        for part in (rows, rows[:1]):
            with torch.no_grad():
                expected = module(torch.from_numpy(part)).numpy()
            if not np.allclose(run(part), expected, atol=TOLERANCE, rtol=0):
                raise ValueError(f"the exported file {target} does not act as the trained policy does")


def _onnx(module: GreedyAction, rows: torch.Tensor, path: Path) -> Callable[[Array], Array]:
    try:
        import onnxruntime
    except ImportError as error:
        raise ValueError(
            f"export to ONNX needs the extra 'export' (pip install 'edgemarl[export]'): {error}"
        ) from error
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)  # it misses torchvision, which nothing here uses
    agents = {1: torch.export.Dim("agents")} if module.network.spec.sets else {}
    program = torch.onnx.export(
        module,
        (rows,),
        dynamo=True,
        input_names=["observations"],
        output_names=["actions"],
        dynamic_shapes={"observations": {0: torch.export.Dim("rows"), **agents}},
        verbose=False,
    )
    assert program is not None
    program.save(str(path), external_data=False)
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    return lambda part: session.run(None, {"observations": part})[0]


def _torchscript(module: GreedyAction, rows: torch.Tensor, path: Path) -> Callable[[Array], Array]:
    torch.jit.trace(module, rows).save(str(path))  # type: ignore[no-untyped-call]
    loaded = torch.jit.load(str(path))  # type: ignore[no-untyped-call]
    return lambda part: loaded(torch.from_numpy(part)).detach().numpy()


_WRITERS = {".onnx": _onnx, ".ts": _torchscript}
