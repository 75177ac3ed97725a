"""A small local Ray where none runs."""

from __future__ import annotations

import contextlib
import logging
import os
import re
from collections.abc import Iterator

import ray

START_ATTEMPTS = 4
END_S = 10.0
"""Time that killed processes have to be gone, in s."""
OBJECT_STORE_BYTES = 200 * 1024**2


@contextlib.contextmanager
def local_ray(num_env_runners: int) -> Iterator[None]:
    """Ray for the block: the running or given one (`RAY_ADDRESS`), else a small local one that ends with the block."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    if ray.is_initialized():
        yield
        return
    if os.environ.get("RAY_ADDRESS"):
        ray.init(log_to_driver=False)
    else:
        _start_node(num_env_runners)
    try:
        yield
    finally:
        ray.shutdown()


def _start_node(num_env_runners: int) -> None:
    """A small Ray node bound to this machine; a start that times out because the machine is busy is repeated."""
    for attempt in range(1, START_ATTEMPTS + 1):
        try:
            ray.init(
                num_cpus=num_env_runners + 1,
                include_dashboard=False,
                object_store_memory=OBJECT_STORE_BYTES,
                log_to_driver=False,
                logging_level=logging.ERROR,
                _node_ip_address="127.0.0.1",
                runtime_env={"env_vars": {"OMP_NUM_THREADS": "1"}} if num_env_runners else None,
                _system_config={"prestart_worker_first_driver": False},  # workers are started when they are asked for
            )
            return
        except Exception as error:  # Ray raises no narrower class
            if attempt == START_ATTEMPTS or "timed out" not in str(error):
                raise
            ray.shutdown()
            _end_failed_start()


def _end_failed_start() -> None:
    """End the processes of a start that timed out: Ray keeps them until this process ends, and a busy machine busy."""
    import psutil  # Ray ships it, and puts it on the path when it is imported

    own = re.compile(rf"session_[\d_-]+_{os.getpid()}\b")  # Ray names a session after its time and the driver
    left = []
    for process in psutil.Process().children(recursive=True):
        with contextlib.suppress(psutil.NoSuchProcess):
            if any(own.search(part) for part in process.cmdline()):
                process.kill()
                left.append(process)
    psutil.wait_procs(left, timeout=END_S)
