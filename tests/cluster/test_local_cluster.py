"""The cluster of the tests starts on a busy machine too."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import local_cluster
import pytest
from local_cluster import STARTS, TOO_SLOW, LocalCluster, _runs, psutil


@pytest.fixture
def slow_cluster(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[LocalCluster]:
    """A cluster whose `ray start` leaves a process behind and gives up, as often as its name says, before it runs."""
    script = tmp_path / "ray"
    script.write_text(
        "#!/bin/sh\n"
        f'echo . >> "{tmp_path}/$EDGEMARL_TEST_NODE"\n'
        f'if [ "$(wc -l < "{tmp_path}/$EDGEMARL_TEST_NODE")" -le "${{EDGEMARL_TEST_NODE#slow}}" ]; then\n'
        f'    sleep 600 & echo $! >> "{tmp_path}/left"; echo "The node {TOO_SLOW}"; exit 1\n'
        f'fi\ntouch "{tmp_path}/up_$EDGEMARL_TEST_NODE"\nexec sleep 600\n'
    )
    script.chmod(0o755)
    monkeypatch.setattr(local_cluster, "RAY", str(script))
    cluster = LocalCluster()
    monkeypatch.setattr(cluster, "alive", lambda: len(list(tmp_path.glob("up_*"))))
    yield cluster
    cluster.stop()


def test_a_node_that_ray_gave_up_waiting_for_is_started_again(slow_cluster: LocalCluster, tmp_path: Path) -> None:
    slow_cluster.start_workers({"slow0": 1, "slow2": 1})
    assert slow_cluster.starts == {"slow0": 1, "slow2": 3}
    left = [int(line) for line in (tmp_path / "left").read_text().split()]
    assert len(left) == 2
    assert not [pid for pid in left if psutil.pid_exists(pid) and _runs(psutil.Process(pid))], "nothing of it is left"


def test_a_node_that_never_starts_or_ends_otherwise_is_said(slow_cluster: LocalCluster, tmp_path: Path) -> None:
    with pytest.raises(AssertionError, match="node slow9 ended"):
        slow_cluster.start_workers({"slow9": 1})
    assert slow_cluster.starts == {"slow9": STARTS}
    os.remove(tmp_path / "ray")
    (tmp_path / "ray").write_text("#!/bin/sh\necho no such option\nexit 2\n")
    (tmp_path / "ray").chmod(0o755)
    del slow_cluster.nodes["slow9"]
    with pytest.raises(AssertionError, match="no such option"):
        slow_cluster.start_workers({"slow1": 1})
    assert slow_cluster.starts["slow1"] == 1
