"""The frames that RLlib asks for, without the source lines that nobody reads.

Every connector looks at the arguments that it was built with, through `inspect.stack()`, which reads the source of each
module on the stack, and goes through all that are loaded for code that has no file. Of the time that it takes to build
an algorithm and to train it for a moment this is half under pytest, 0.15 s, and 15 ms of a command.
"""

from __future__ import annotations

import contextlib
import inspect
import sys
from collections.abc import Iterator
from types import FrameType, SimpleNamespace
from unittest import mock

from ray.rllib.connectors import connector_v2


@contextlib.contextmanager
def frames_alone() -> Iterator[None]:
    """Connectors that are built in the block are given frames alone."""
    names = {**vars(inspect), "stack": _stack}
    with mock.patch.object(connector_v2, "inspect", SimpleNamespace(**names)):
        yield


def _stack() -> list[SimpleNamespace]:
    """The caller's frame and those of its callers, as `frame` of an entry each."""
    found: list[SimpleNamespace] = []
    frame: FrameType | None = sys._getframe(1)
    while frame is not None:
        found.append(SimpleNamespace(frame=frame))
        frame = frame.f_back
    return found
