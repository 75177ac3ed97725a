"""Arrays as columns of Arrow tables over their own memory; `pyarrow.array` loads pandas to look at them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from edgemarl.envs.arrays import Array


def column(values: Array | Sequence[str]) -> Any:
    """An Arrow array of numbers (R,), of rows (R, W) as lists, or of texts; other things as `pyarrow.array` takes them.

    Raises:
        ValueError: numbers with more axes.
    """
    import pyarrow

    if not isinstance(values, np.ndarray):
        encoded = [text.encode() for text in values]
        offsets = pyarrow.py_buffer(_offsets([len(text) for text in encoded]))
        return pyarrow.Array.from_buffers(
            pyarrow.string(), len(encoded), [None, offsets, pyarrow.py_buffer(b"".join(encoded))]
        )
    if values.dtype.kind not in "fiu":  # Arrow packs truth values into bits; missing ones are objects
        return pyarrow.array(values)
    if values.ndim > 2:
        raise ValueError(f"a column has one or two axes, got shape {values.shape}")
    flat = np.ascontiguousarray(values).reshape(-1)
    kind = pyarrow.from_numpy_dtype(flat.dtype)
    numbers = pyarrow.Array.from_buffers(kind, len(flat), [None, pyarrow.py_buffer(flat)])
    if values.ndim == 1:
        return numbers
    offsets = pyarrow.py_buffer(_offsets([values.shape[1]] * len(values)))
    return pyarrow.Array.from_buffers(pyarrow.list_(kind), len(values), [None, offsets], children=[numbers])


def _offsets(lengths: Sequence[int]) -> Array:
    return np.cumsum([0, *lengths]).astype(np.int32)
