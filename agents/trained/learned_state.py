"""Files that hold what an online learner has learned, which are no policy files, to be named as what they are."""

from __future__ import annotations

import io
import pickle
import struct
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch

MARKS = {"covariance", "worth"}
"""Entries that the state of an online learner has (`edgemarl.agents.least_squares`), and no network's."""
UNREADABLE = (
    pickle.UnpicklingError, LookupError, TypeError, AttributeError, RuntimeError, ValueError, OSError, EOFError,
    struct.error, AssertionError, ArithmeticError,
)  # fmt: skip
"""What PyTorch raises for files that it does not read."""
_ARRAYS: list[Any] = [np.ndarray, np.dtype, np.array(0).__reduce__()[0], *(type(np.dtype(c)) for c in "?lfd")]
"""What arrays are pickled as, beside plain values; nothing else is loaded."""


def learned_entries(content: bytes) -> list[str]:
    """Entries of the state of an online learner, or of a team's of one, in a file's content; none of another file."""
    try:
        with torch.serialization.safe_globals(_ARRAYS):
            held = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
    except UNREADABLE:
        return []
    states = [held, *held.values()] if isinstance(held, Mapping) else []
    found = [sorted(map(str, state)) for state in states if isinstance(state, Mapping) and MARKS & {*state}]
    return found[0] if found else []


def not_a_policy(path: Any, entries: list[str]) -> str:
    """What is said of such a file."""
    return (
        f"{path} holds what an online learner has learned ({', '.join(entries)}), not a trained network as training "
        "writes it (policy/ROLE.pt of a run): load it in Python, with load_state_dict of the controller that it is of"
    )
