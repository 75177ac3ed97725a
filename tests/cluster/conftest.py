"""One cluster for all tests of this folder: a head, and two workers with CPUs."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from local_cluster import LocalCluster


@pytest.fixture(scope="session")
def cluster() -> Iterator[LocalCluster]:
    """Head without CPUs; `worker_a` with two (a driver and a runner), `worker_b` with one (a runner)."""
    started = LocalCluster()
    try:
        started.start_head()
        started.start_workers({"worker_a": 2, "worker_b": 1})
        yield started
    finally:
        started.stop()
    assert not started.folder.exists()
    assert not started.processes()
