"""Record a run: a dispatch mode sees every operator of torch, whatever Python code calls it.

Values of the input that leave torch (a branch on them, NumPy, a number) would be frozen into the tape, so the run is
refused there, and the message names the line.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from typing import Any, NoReturn

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import DataDependentOutputException, DynamicOutputShapeException, FakeTensor
from torch.multiprocessing.reductions import StorageWeakRef
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.weak import WeakTensorKeyDictionary

from edgemarl.launch.dnn.tape import Operation, Ref, Tape, Value, references, replaced, tensors_in
from edgemarl.launch.dnn.user_code import Refused, current_frames, place
from edgemarl.launch.dnn.work import FACTORS, Uncounted, macs

SHAPE_ALONE = {
    "zeros_like", "ones_like", "full_like", "empty_like", "rand_like", "randn_like", "randint_like", "new_zeros",
    "new_ones", "new_full", "new_empty", "new_empty_strided",
}  # fmt: skip
"""Operators that take the shape of their tensor and nothing else."""

READERS = {
    Tensor.numpy: "numpy()", Tensor.tolist: "tolist()", Tensor.__array__: "NumPy", Tensor.__dlpack__: "DLPack",
    Tensor.data_ptr: "data_ptr()", Tensor.untyped_storage: "its memory", Tensor.storage: "its memory",
}  # fmt: skip
"""Calls with which the elements of a tensor leave torch unseen."""

_VALUES_ON_META = (DataDependentOutputException, DynamicOutputShapeException)
ONE_PATH = "profile a module with one path, such as the longest, or let torch.where choose"
IN_TORCH = "compute it with torch"

HARMLESS = {Tensor.__repr__, Tensor.__format__}
"""Calls that read elements only to print them."""


class Recorder:
    """Writes a tape while it is active.

    Args:
        tape: written.
        name: of the network, for messages.
        density: count the work with weights that are not 0 (`Operation.nonzero_macs`).

    Attributes:
        fakes: ids of fake tensors from before the run.
        refusal: why the run cannot be profiled, also where the user's code caught it.
        failure: the last error of an operator; TorchScript loses its message.
    """

    def __init__(self, tape: Tape, name: str, density: bool = False) -> None:
        self.tape = tape
        self.name = name
        self.fakes: set[int] = set()
        self.refusal: Refused | None = None
        self.failure: Exception | None = None
        self.density = density
        self._numbers: Any = WeakTensorKeyDictionary()
        self._storages: dict[Any, int] = {}
        self._alive: list[Any] = []  # weak references that keep the addresses of memory from being used again
        self._bases: dict[int, int] = {}  # memory -> the tensor that came with it
        self._random: set[int] = set()
        self._harmless = 0

    @contextmanager
    def active(self) -> Iterator[None]:
        """See all operators and all reads."""
        with _Operators(self), _Reads(self):
            yield

    # --- tensors and memory ---------------------------------------------------------------------------------------

    def input(self, tensor: Tensor) -> None:
        """Say that a tensor is an input of the run."""
        number = self._new(tensor, None, -1)
        self.tape.inputs.append(number)
        self.tape.since[self.tape.values[number].storage] = -1

    def output(self, value: Any) -> None:
        """Say what the run returned."""
        self.tape.outputs = [self._number(tensor) for tensor in tensors_in(value)]

    def _number(self, tensor: Tensor) -> int:
        number = self._numbers.get(tensor)
        if number is None or self.tape.values[number].storage != self._storage(tensor, number):
            number = self._unseen(tensor)
        return int(number)

    def _unseen(self, tensor: Tensor) -> int:
        """A tensor that no operator returned: from before the run, or a view made unseen (`data`, `as_subclass`)."""
        storage = self._storage(tensor, len(self.tape.values))
        base = self._bases.get(storage)
        if base is None or self.tape.values[base].kept is not None:
            if isinstance(tensor, FakeTensor) and id(tensor) not in self.fakes:
                self.refuse(
                    "a tensor comes from operators that are not seen, such as those of another thread", IN_TORCH
                )
            number = self._new(tensor, None, -1)
            self.tape.values[number].kept = tensor
            return number
        index = len(self.tape.operations)
        number = self._new(tensor, base, index)
        geometry = (tuple(tensor.shape), tensor.stride(), tensor.storage_offset())
        view = torch.ops.aten.as_strided.default
        self.tape.operations.append(
            Operation(view, (Ref(base), *geometry), {}, (number,), (base,), (), True, storage in self.tape.since)
        )
        return number

    def _new(self, tensor: Tensor, parent: int | None, made: int) -> int:
        number = len(self.tape.values)
        size = tensor.element_size() if tensor.layout == torch.strided else 0
        self.tape.values.append(
            Value(tensor.numel(), tensor.numel() * size, self._storage(tensor, number), parent, made)
        )
        self._numbers[tensor] = number
        if parent is None:
            self._bases.setdefault(self.tape.values[number].storage, number)
        return number

    def _storage(self, tensor: Tensor, number: int) -> int:
        """Number of a tensor's memory; sparse and opaque tensors have memory of their own."""
        try:
            storage = tensor.untyped_storage()
            key: Any = storage._cdata
        except (RuntimeError, NotImplementedError):
            return self._storages.setdefault(("tensor", number), len(self._storages))
        if key not in self._storages:
            self._alive.append(StorageWeakRef(storage))
        return self._storages.setdefault(key, len(self._storages))

    def memory(self, tensor: Tensor) -> int:
        """Number of the memory that a tensor is a view of now."""
        return self._storage(tensor, self._number(tensor))

    def depends(self, tensor: Tensor) -> bool:
        """Whether what a tensor holds depends on the input."""
        return self.memory(tensor) in self.tape.since

    # --- operators ------------------------------------------------------------------------------------------------

    def before(self, function: Any, arguments: Sequence[Any], keywords: dict[str, Any]) -> tuple[Tensor, ...]:
        """Refuse what reads elements, and keep what is about to be overwritten; gives the tensors that are."""
        self._refuse_reading(function, arguments)
        written = tuple(t for part in _written(function)(arguments, keywords) for t in tensors_in(part))
        for tensor in written:
            storage = self.memory(tensor)
            kept = self.tape.values[self._bases[storage]].kept
            if kept is not None and storage not in self.tape.saved and _is_real(tensor):
                self.tape.saved[storage] = (kept, tensor.untyped_storage().clone())
        for leaf in keywords.values():
            if isinstance(leaf, torch.Generator) and all(leaf is not g for g, _ in self.tape.generators):
                self.tape.generators.append((leaf, leaf.get_state()))
        return written

    def after(
        self, function: Any, arguments: Sequence[Any], keywords: dict[str, Any], written: Sequence[Tensor], out: Any
    ) -> None:
        """Write one operator down."""
        made = tensors_in(out)
        if not made and not written:
            return
        call = replaced((tuple(arguments), keywords), lambda x: Ref(self._number(x)) if isinstance(x, Tensor) else x)
        index = len(self.tape.operations)
        used = [r.index for r in references(call)]
        read = [] if function._opname in SHAPE_ALONE else used
        memory = {self.tape.values[i].storage: i for i in reversed(used)}
        for tensor in written:  # `set_` gives a tensor other memory
            self.tape.values[self._numbers[tensor]].storage = self._storage(tensor, self._numbers[tensor])
        changed = {self.memory(t) for t in written}
        results, fresh = self._results(made, memory, index)
        changed |= fresh
        if any(self._since(i) for i in read):
            lengths = function._opname == "_pack_padded_sequence"  # its second result are the lengths, in another form
            for storage in changed - ({self.memory(made[1])} if lengths else set()):
                self.tape.since.setdefault(storage, index)
        if torch.Tag.nondeterministic_seeded in function.tags or any(self._is_random(i) for i in read):
            self._random |= changed
        work, nonzero = self._work(function, arguments, keywords, out)
        touched = changed | {self.tape.values[i].storage for i in results}
        self.tape.operations.append(
            Operation(
                function, call[0], call[1], tuple(results), tuple(read), tuple(self._number(t) for t in written),
                view=not changed, depends=any(s in self.tape.since for s in touched), macs=work, nonzero_macs=nonzero,
            )
        )  # fmt: skip

    def _results(self, made: Sequence[Tensor], memory: dict[int, int], index: int) -> tuple[list[int], set[int]]:
        """Numbers of what an operator returned, and the memory that is new."""
        results, fresh = [], set()
        for tensor in made:
            number = self._numbers.get(tensor)
            if number is None:
                storage = self._storage(tensor, len(self.tape.values))
                number = self._new(tensor, memory.get(storage), index)
                if storage not in memory:
                    fresh.add(storage)
            results.append(int(number))
        return results, fresh

    def _since(self, index: int) -> bool:
        return self.tape.values[index].storage in self.tape.since

    def _is_random(self, index: int) -> bool:
        return self.tape.values[index].storage in self._random

    def _work(self, function: Any, arguments: Sequence[Any], keywords: dict[str, Any], out: Any) -> tuple[int, int]:
        """Work of an operator, and as much of it as uses weights that are not 0."""
        try:
            work = nonzero = macs(function, arguments, keywords, out)
        except Uncounted as error:
            self.refuse(str(error))
        if work and self.density:
            for tensor in (arguments[i] for i in FACTORS.get(function._opname, ())):
                if tensor.layout == torch.strided and not self.depends(tensor):
                    nonzero = nonzero * int(torch.count_nonzero(tensor)) // tensor.numel()
        return work, nonzero

    # --- reads ----------------------------------------------------------------------------------------------------

    def _refuse_reading(self, function: Any, arguments: Sequence[Any]) -> None:
        name = function._opname
        tensors = tensors_in(arguments)
        if torch.Tag.data_dependent_output in function.tags:
            for tensor in tensors:
                self.reading(tensor, "its path depends on")
        elif name == "_pack_padded_sequence":
            self.reading(arguments[1], "its work depends on")
        elif name.startswith(("_to_sparse", "to_sparse")):
            self.reading(arguments[0], "its work depends on")
        elif torch.Tag.dynamic_output_shape in function.tags:
            masks = [t for t in tensors[1:] if t.dtype in (torch.bool, torch.uint8)]
            for tensor in masks if name == "index" else tensors:
                self.reading(tensor, "a shape in it depends on")

    def reading(self, tensor: Tensor, what: str, advice: str = ONE_PATH) -> None:
        """Refuse that the elements of a tensor leave torch, if they depend on the input or on chance."""
        depends, drawn = self.depends(tensor), self.memory(tensor) in self._random
        if self._harmless or not (depends or drawn) or _checks_alone():
            return
        self.refuse(f"{what} {'the values of the input' if depends else 'random numbers'}", advice)

    def refuse(self, message: str, advice: str = "") -> NoReturn:
        """Raises Refused, and remembers it where the user's code goes on all the same."""
        where = place(current_frames())
        parts = [f"{self.name} cannot be profiled: {message}", f" ({where})" if where else "", advice and f"; {advice}"]
        self.refusal = self.refusal or Refused("".join(parts))
        raise self.refusal


class _Operators(TorchDispatchMode):
    supports_higher_order_operators = True

    def __init__(self, recorder: Recorder) -> None:
        super().__init__()
        self.recorder = recorder

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        keywords = kwargs or {}
        if not isinstance(func, torch._ops.OpOverload):
            self.recorder.refuse(f"higher-order operator {func} is not counted", ONE_PATH)
        if func.namespace == "prim":  # asks for a property
            return func(*args, **keywords)
        with self:  # under inference_mode operators arrive that consist of others
            whole = func.decompose(*args, **keywords)
        if whole is not NotImplemented:
            return whole
        with torch._C.DisableTorchFunction():  # our own looks at tensors are not the user's
            written = self.recorder.before(func, args, keywords)
        try:
            out = func(*args, **keywords)
        except _VALUES_ON_META:
            self.recorder.refuse("numbers are read that weights on the meta device do not have", "make it with weights")
        except Exception as error:
            self.recorder.failure = error
            raise
        with torch._C.DisableTorchFunction():
            self.recorder.after(func, args, keywords, written, out)
        return out


class _Reads(TorchFunctionMode):
    def __init__(self, recorder: Recorder) -> None:
        super().__init__()
        self.recorder = recorder

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func in HARMLESS or _is_one_hot(func, args, kwargs or {}):
            self.recorder._harmless += 1
            try:
                return func(*args, **(kwargs or {}))
            finally:
                self.recorder._harmless -= 1
        if func in READERS and args and isinstance(args[0], Tensor):
            self.recorder.reading(args[0], f"by {READERS[func]} its result depends on", IN_TORCH)
        return func(*args, **(kwargs or {}))


def _is_one_hot(function: Any, arguments: Sequence[Any], keywords: dict[str, Any]) -> bool:
    """One-hot codes of a given number of classes: torch reads the indices to check them."""
    if function is not torch.nn.functional.one_hot:
        return False
    classes = arguments[1] if len(arguments) > 1 else keywords.get("num_classes", -1)
    return isinstance(classes, int) and classes > 0


def _checks_alone() -> bool:
    """Whether torch itself reads a mask, to tell whether it is the causal one; work and result are the same."""
    return any(frame.f_code.co_name == "_detect_is_causal_mask" for frame, _ in current_frames())


def _is_real(tensor: Tensor) -> bool:
    return tensor.layout == torch.strided and tensor.device.type != "meta" and type(tensor).__name__ != "FakeTensor"


@cache
def _written(function: Any) -> Callable[[Sequence[Any], dict[str, Any]], list[Any]]:
    """Takes from the arguments of an operator those that it changes."""
    changed = [
        (i, argument.name)
        for i, argument in enumerate(function._schema.arguments)
        if argument.alias_info is not None and argument.alias_info.is_write
    ]

    def take(arguments: Sequence[Any], keywords: dict[str, Any]) -> list[Any]:
        return [arguments[i] if i < len(arguments) else keywords.get(name) for i, name in changed]

    return take
