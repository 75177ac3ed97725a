"""Leave a module as it was, also one that cannot be copied: what a run changes in it is put back."""

from __future__ import annotations

from collections import deque
from types import BuiltinFunctionType, FunctionType, MethodType, ModuleType
from typing import Any

import torch
from torch import Tensor, nn

LARGEST = 100_000
"""Entries of a container that are looked at; a larger one holds data."""
_PLAIN = (
    str, bytes, int, float, complex, type(None), type, ModuleType, FunctionType, MethodType, BuiltinFunctionType,
    torch.dtype, torch.device, torch.Size,
)  # fmt: skip


class Snapshot:
    """Attributes of a module and of all objects and containers in it, and which memory its tensors have.

    Elements that are overwritten in place are not in it; a `Tape` keeps those.
    """

    def __init__(self, module: nn.Module) -> None:
        self._modes = [(part, part.training) for part in module.modules() if hasattr(part, "training")]
        self._dicts: list[tuple[dict[Any, Any], dict[Any, Any]]] = []
        self._sequences: list[tuple[Any, list[Any]]] = []
        self._tensors: list[tuple[Tensor, Tensor]] = []
        self._walk(module)

    def _walk(self, module: nn.Module) -> None:
        seen: set[int] = set()
        waiting: list[Any] = [module]
        while waiting:
            thing = waiting.pop()
            if isinstance(thing, _PLAIN) or id(thing) in seen:
                continue
            seen.add(id(thing))
            waiting += self._note(thing)

    def _note(self, thing: Any) -> list[Any]:
        """Note one object; gives what is in it."""
        if isinstance(thing, Tensor):
            if thing.layout == torch.strided and not thing.is_meta and not nn.parameter.is_lazy(thing):
                self._tensors.append((thing, thing.detach()))
            return []
        parts: list[Any] = []
        if isinstance(thing, dict):
            if len(thing) <= LARGEST:
                self._dicts.append((thing, dict(thing)))
                parts += thing.values()
        elif isinstance(thing, list | set | deque):
            if len(thing) <= LARGEST:
                self._sequences.append((thing, list(thing)))
                parts += thing
        elif isinstance(thing, tuple):
            parts += thing[:LARGEST]
        attributes = getattr(thing, "__dict__", None)
        return [*parts, attributes] if isinstance(attributes, dict) else parts

    def restore(self) -> None:
        """Put everything back."""
        for current, kept in self._dicts:
            if not _same(current, kept):
                current.clear()
                current.update(kept)
        for sequence, entries in self._sequences:
            if len(sequence) != len(entries) or any(a is not b for a, b in zip(sequence, entries, strict=True)):
                sequence.clear()
                (sequence.update if isinstance(sequence, set) else sequence.extend)(entries)
        with torch.no_grad():
            for tensor, memory in self._tensors:
                if not tensor.is_set_to(memory):
                    tensor.data = memory
        for part, training in self._modes:
            if part.training != training:
                part.training = training


def _same(current: dict[Any, Any], kept: dict[Any, Any]) -> bool:
    return len(current) == len(kept) and all(
        a is b and current[a] is kept[b] for a, b in zip(current, kept, strict=True)
    )
