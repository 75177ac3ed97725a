"""One small Ray session for all tests of this folder."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest
import ray  # noqa: F401 - puts psutil on the path


@pytest.fixture(scope="session")
def local_cluster() -> Iterator[None]:
    import torch

    from edgemarl.marl.rllib.node import local_ray

    os.environ.setdefault("OMP_NUM_THREADS", "1")
    torch.set_num_threads(1)
    with local_ray(2):
        yield
