"""The tape of a network: recorded on one request, checked on another against a plain run of the module."""

from __future__ import annotations

import copy
import logging
import random
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, nullcontext, suppress
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from edgemarl.launch.dnn.recording import Recorder
from edgemarl.launch.dnn.state import Snapshot
from edgemarl.launch.dnn.tape import Tape, tensors_in
from edgemarl.launch.dnn.user_code import Refused, network_name, script_place, summary, user_code

SEED = 0
TOLERANCE = {torch.float16: 2e-2, torch.bfloat16: 1e-1}
"""Largest difference of outputs, relative to the largest element; 1e-3 for all other types."""


def trace(module: nn.Module, inputs: Sequence[Any], density: bool = False) -> Tape:
    """Run a module in evaluation mode on one request and write down what it does.

    The module runs three times, each time from the state that it is in now: recorded; plain, on other values of the
    same shapes; and as the tape, on these. Weights on the meta device have no values: such a module is recorded once,
    on fake tensors. In the end the module is as it was.

    Args:
        module: any module.
        inputs: tensors, or lists, tuples and dicts of them: the arguments of `forward`.
        density: look at weights that are 0 (`Operation.nonzero_macs`).

    Raises:
        ValueError: code that fails, a path or a result that depends on the values of the input in a way that the tape
            does not have; the message names the place.
    """
    name = network_name(module)
    tape = Tape()
    with user_code(f"{name} cannot be profiled"):
        module = _initialised(module, inputs)
        inputs = _moved(inputs, _device(module))
        snapshot = Snapshot(module)
        settled = Tape()  # what `eval` itself changes in the weights
        with _quiet(_device(module)):
            try:
                _evaluation_mode(module, settled, name)
                _recorded_and_checked(module, inputs, tape, density, name)
            finally:
                tape.restore()
                settled.restore()
                snapshot.restore()
    return tape


def _evaluation_mode(module: nn.Module, settled: Tape, name: str) -> None:
    with user_code(f"{name}.eval() fails"), Recorder(settled, name).active(), suppress(NotImplementedError):
        module.eval()  # an exported program has one mode and refuses


def _seed() -> None:
    """The same random numbers in every run; `_quiet` puts the old ones back."""
    torch.default_generator.manual_seed(SEED)
    if torch.cuda.is_initialized():
        torch.cuda.manual_seed(SEED)


def _recorded_and_checked(module: nn.Module, inputs: Sequence[Any], tape: Tape, density: bool, name: str) -> None:
    fake = any(t.is_meta for t in (*module.parameters(), *module.buffers()))
    ready = Snapshot(module)
    _record(module, inputs, tape, fake, density, name)
    ready.restore()
    tape.restore()
    if not fake:
        _check(module, inputs, tape, ready, name)


def seconds(tape: Tape, module: nn.Module, inputs: Sequence[Any], repeats: int) -> list[float]:
    """Median run time in s on this CPU of every operation of a module's tape.

    Raises:
        ValueError: weights that are not in this machine's memory.
    """
    elsewhere = [t.device for t in (*module.parameters(), *module.buffers()) if t.device.type != "cpu"]
    if elsewhere:
        raise ValueError(
            f"{network_name(module)} has weights on {elsewhere[0]}, times are measured on this CPU: repeats must be 0,"
            " or the module moved by .to('cpu')"
        )
    with _quiet(torch.device("cpu")):
        return tape.seconds(tensors_in(_moved(inputs, torch.device("cpu"))), repeats)


def _initialised(module: nn.Module, inputs: Sequence[Any]) -> nn.Module:
    """The module, or a copy that has run once where it has lazy layers."""
    lazy = [p for p in (*module.parameters(), *module.buffers()) if nn.parameter.is_lazy(p)]
    if not lazy:
        return module
    name = network_name(module)
    with user_code(f"{name} has lazy layers and cannot be copied to initialise them; call it once before"):
        ready = copy.deepcopy(module)
    with user_code(f"{name} cannot run on {described(inputs)}"), _quiet(torch.device("cpu")):
        _call_module(ready.eval(), _changed(inputs, lambda x: x.to(lazy[0].device, copy=True)))
    return ready


def _device(module: nn.Module) -> torch.device:
    """Where the module is, as far as it has tensors."""
    devices = [t.device for t in (*module.parameters(), *module.buffers()) if t.device.type != "meta"]
    return devices[0] if devices else torch.device("cpu")


@contextmanager
def _quiet(device: torch.device) -> Iterator[None]:
    """Nothing that a run draws, switches or learns stays; what torch would fuse unseen runs as it is written."""
    fast, checks = torch.backends.mha.get_fastpath_enabled(), torch.distributions.Distribution._validate_args
    with ExitStack() as stack:
        stack.enter_context(torch.random.fork_rng([device.index or 0] if device.type == "cuda" else []))
        stack.enter_context(torch.no_grad())
        if "torch._dynamo" in sys.modules:
            stack.enter_context(torch.compiler.set_stance("force_eager"))
        torch.backends.mha.set_fastpath_enabled(False)
        torch.distributions.Distribution.set_default_validate_args(False)
        try:
            yield
        finally:
            torch.backends.mha.set_fastpath_enabled(fast)
            torch.distributions.Distribution.set_default_validate_args(checks)


def _record(module: nn.Module, inputs: Sequence[Any], tape: Tape, fake: bool, density: bool, name: str) -> None:
    recorder = Recorder(tape, name, density)
    drawn = _chance()
    _seed()
    try:
        with user_code(f"{name} cannot run on {described(inputs)}"), _fake_weights(module) if fake else nullcontext():
            recorder.fakes = {id(t) for t in (*module.parameters(), *module.buffers())}
            request = _copied(inputs)  # fake ones where the weights are
            for tensor in tensors_in(request):
                recorder.input(tensor)
            with recorder.active():
                output = _call_module(module, request)
            recorder.output(output)
            tape.name(module.named_parameters())
    except Refused as error:
        where = script_place(error.__cause__)
        said = recorder.refusal or error
        if where and recorder.refusal is None and recorder.failure is not None:
            said = Refused(f"{name} cannot run on {described(inputs)}: {summary(recorder.failure)}")
        raise Refused(f"{said} ({where})" if where and where not in str(said) else str(said)) from error
    if recorder.refusal is not None:  # the user's code caught it
        raise recorder.refusal
    if not any(tape.values[i].storage in tape.since for i in tape.outputs):
        raise Refused(f"{name} returns no tensor that depends on its input")
    if _has_constant_weights(module, tape):
        raise Refused(f"{name} has weights that are constants of its TorchScript: profile it before torch.jit.freeze")
    if _chance() != drawn:
        raise Refused(f"{name} draws random numbers from Python or NumPy in forward; draw them with torch")


def _has_constant_weights(module: nn.Module, tape: Tape) -> bool:
    """Whether TorchScript multiplies by tensors that are neither parameters nor buffers."""
    if not any(isinstance(part, torch.jit.ScriptModule) for part in module.modules()):
        return False
    buffers = {id(buffer) for buffer in module.buffers()}
    multiplied = {tape.values[k].storage for operation in tape.operations if operation.macs for k in operation.reads}
    return any(
        value.kept is not None
        and value.storage in multiplied
        and not tape.parameters[i]
        and id(value.kept) not in buffers
        for i, value in enumerate(tape.values)
    )


def _chance() -> tuple[Any, ...]:
    """State of the random numbers of Python and NumPy that all code shares."""
    kind, keys, *rest = np.random.get_state(legacy=True)  # noqa: NPY002 - what others draw from
    return random.getstate(), kind, np.asarray(keys).tobytes(), rest


@contextmanager
def _fake_weights(module: nn.Module) -> Iterator[None]:
    """Tensors without memory in the place of those on the meta device, as if they were on this CPU."""
    from torch._subclasses.fake_tensor import FakeTensorMode

    mode = FakeTensorMode(allow_non_fake_inputs=True)
    twins: dict[int, Tensor] = {}
    replaced: list[tuple[nn.Module, str, Tensor]] = []
    loud = logging.getLogger("torch._subclasses.fake_tensor")  # says at length what an exception says as well
    level = loud.level
    with mode:
        for part in module.modules():
            for key, tensor in (*part._parameters.items(), *part._buffers.items()):
                if tensor is not None and tensor.is_meta:
                    replaced.append((part, key, tensor))
                    twins.setdefault(id(tensor), _twin(tensor))
        try:
            loud.setLevel(logging.CRITICAL + 1)
            for part, key, tensor in replaced:
                setattr(part, key, twins[id(tensor)])  # an LSTM keeps a list of its own
            with torch.device("cpu"):  # also where the user's default is another
                yield
        finally:
            loud.setLevel(level)
            for part, key, tensor in replaced:
                setattr(part, key, tensor)


def _twin(tensor: Tensor) -> Tensor:
    empty = torch.empty_strided(tensor.shape, tensor.stride(), dtype=tensor.dtype, device="cpu")
    if isinstance(tensor, nn.Parameter):
        return nn.Parameter(empty, requires_grad=tensor.requires_grad)
    return empty


def _check(module: nn.Module, inputs: Sequence[Any], tape: Tape, ready: Snapshot, name: str) -> None:
    """Hold the tape against a plain run on other values of the same shapes, or on the same where others fail."""
    for values in _others(inputs):
        _seed()
        try:
            with user_code(f"{name} cannot run on {described(inputs)}"):
                expected = tensors_in(_call_module(module, _copied(values)))
            break
        except Refused as error:  # such as an index that a table does not have
            refusal = error
        finally:
            ready.restore()
            tape.restore()
    else:
        raise refusal
    _seed()
    replayed = tape.run(tensors_in(values))
    tape.restore()
    if len(replayed) != len(expected) or not all(map(_close, replayed, expected)):
        raise Refused(
            f"{name} cannot be profiled: a second run gives another result than the operators of the first, so values"
            " leave torch on the way (NumPy, threads, state that outlives a call)"
        )


def _others(inputs: Sequence[Any]) -> Iterator[Sequence[Any]]:
    """Other requests, from those that say most to the one that was given."""
    generator = torch.Generator("cpu").manual_seed(SEED + 1)
    yield _changed(inputs, lambda x: _drawn(x, generator))
    yield _changed(inputs, lambda x: _drawn(x, generator) if x.is_floating_point() or x.is_complex() else x)
    yield inputs


def _drawn(x: Tensor, generator: torch.Generator) -> Tensor:
    """Real numbers in the range of the given ones, or [0, 1); whole ones in another order, or 0 and 1."""
    if x.layout != torch.strided or x.numel() == 0 or x.is_quantized:
        return x
    size, cpu = x.numel(), torch.device("cpu")
    if x.is_floating_point() or x.is_complex():
        given = torch.view_as_real(x.detach().resolve_conj()) if x.is_complex() else x.detach()
        given = given.to(cpu, torch.float64)
        low, high = float(given.min()), float(given.max())
        unit = torch.rand(given.shape, generator=generator, dtype=torch.float64, device=cpu)
        drawn = low + (high - low) * unit if high > low else unit
        return (torch.view_as_complex(drawn) if x.is_complex() else drawn).to(x)
    if bool((x != x.flatten()[0]).any()):
        return x.flatten()[torch.randperm(size, generator=generator, device=cpu).to(x.device)].reshape(x.shape)
    return torch.randint(0, 2, x.shape, generator=generator, device=cpu).to(x)


def _close(a: Tensor, b: Tensor) -> bool:
    if a.shape != b.shape or a.dtype != b.dtype or a.layout != b.layout:
        return False
    if a.layout != torch.strided:
        a, b = a.to_dense(), b.to_dense()
    if not (a.is_floating_point() or a.is_complex()):
        return torch.equal(a, b)
    finite = b[torch.isfinite(b)].abs()
    largest = float(finite.max()) if finite.numel() else 0.0
    return torch.allclose(a, b, rtol=0.0, atol=TOLERANCE.get(a.dtype, 1e-3) * largest, equal_nan=True)


def described(inputs: Sequence[Any]) -> str:
    """The shapes of a request, for messages."""
    shapes = [tuple(t.shape) for t in tensors_in(inputs)]
    return f"an input of shape {shapes}"


def _call_module(module: nn.Module, inputs: Sequence[Any]) -> Any:
    return module(*inputs)


def _copied(inputs: Sequence[Any]) -> Sequence[Any]:
    return _changed(inputs, torch.clone)


def _moved(inputs: Sequence[Any], device: torch.device) -> Sequence[Any]:
    return _changed(inputs, lambda x: torch.zeros_like(x, device=device) if x.is_meta else x.to(device))


def _changed(value: Any, change: Any) -> Any:
    """A request with every tensor changed."""
    if isinstance(value, Tensor):
        return change(value)
    if isinstance(value, list | tuple):
        parts = [_changed(part, change) for part in value]
        return type(value)(*parts) if hasattr(value, "_fields") else type(value)(parts)
    if isinstance(value, dict):
        return {key: _changed(part, change) for key, part in value.items()}
    return value
