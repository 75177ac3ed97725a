"""Columns of Arrow tables hold what `pyarrow.array` would, without pandas."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow
import pytest

from edgemarl.launch.experiment.columns import column


@pytest.mark.parametrize(
    "values",
    [
        np.array([1.5, np.nan, -2.0]),
        np.arange(10)[::3],
        np.arange(6, dtype=np.float32).reshape(2, 3).T,
        np.empty((2, 0)),
        np.array([True, False]),
        np.array([None, 2.0], object),
        np.broadcast_to(3.0, 4),
        ["", "größer", "b"],
        [],
    ],
)
def test_a_column_holds_what_it_was_given(values: Any) -> None:
    found = column(values)
    found.validate(full=True)
    given = values.tolist() if isinstance(values, np.ndarray) else values
    assert str(found.to_pylist()) == str(given)  # NaN is not equal to itself
    if isinstance(values, np.ndarray) and values.ndim == 1:
        assert found.type == pyarrow.array(values).type


def test_three_axes_are_no_column() -> None:
    with pytest.raises(ValueError, match="one or two axes"):
        column(np.ones((2, 2, 2)))
