"""A small local Ray where none runs and one is needed: on this machine's loopback address alone, without files left.

Sampling and learning in one process need no Ray beside it, whose start takes seconds of computing: there it starts when
something asks for it.

Ray replaces the address 127.0.0.1 that it is given by that of the network, and then all its processes listen on every
address. Here it is kept, and with it every port of Ray (control store, raylet, its agents, driver, workers) is bound to
the loopback address. What connects needs the session's token, which only this user can read.
"""

from __future__ import annotations

import contextlib
import logging
import os
import secrets
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any
from unittest import mock

import ray

from edgemarl.marl.scratch import scratch

START_ATTEMPTS = 4
END_S = 10.0
"""Time that killed processes have to be gone, in s."""
OBJECT_STORE_BYTES = 200 * 1024**2


@contextlib.contextmanager
def local_ray(remote_processes: int) -> Iterator[None]:
    """Ray for the block: the running or given one (`RAY_ADDRESS`), else a small local one that ends with the block.

    Args:
        remote_processes: runners and Learners; with none the local Ray starts when it is asked for something.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    if ray.is_initialized():
        yield
        return
    if os.environ.get("RAY_ADDRESS"):
        with _own_signals():
            ray.init(log_to_driver=False)
        try:
            yield
        finally:
            ray.shutdown()
        return
    with contextlib.ExitStack() as stack:
        if remote_processes:
            stack.enter_context(_node(remote_processes))
        else:
            stack.enter_context(_when_asked(lambda: stack.enter_context(_node(0))))
        yield


@contextlib.contextmanager
def _node(remote_processes: int) -> Iterator[None]:
    with scratch(keep_if_it_fails=True) as folder, _token(folder):
        try:
            with _own_signals():
                _start_node(remote_processes, folder)
            yield
        finally:
            ray.shutdown()


@contextlib.contextmanager
def _when_asked(start: Callable[[], None]) -> Iterator[None]:
    """Ray's functions start our node where they would start one of their own, which listens on every address."""
    from ray._private import auto_init_hook

    def auto_init_ray() -> None:
        if not ray.is_initialized():
            with auto_init_hook.auto_init_lock:
                if not ray.is_initialized():
                    start()

    with mock.patch.object(auto_init_hook, "auto_init_ray", auto_init_ray):
        yield


@contextlib.contextmanager
def without_object_store() -> Iterator[None]:
    """What RLlib gives Ray to store for remote runners (settings, weights) is kept as it is where no Ray runs.

    It is all that RLlib asks of Ray where it builds an algorithm, restores it or passes weights on in one process.
    Settings, which are small, are never stored: a runner is begun again with what it was begun with, which Ray may have
    lost by then if it only has a reference; it says so in a line of error of every run (Ray's issue 53727).
    """
    from ray.rllib.algorithms.algorithm_config import AlgorithmConfig

    store = ray.put

    def put(value: Any, **options: Any) -> Any:
        stored = ray.is_initialized() and not isinstance(value, AlgorithmConfig)
        return store(value, **options) if stored else value

    with mock.patch.object(ray, "put", put):
        yield


def sync_runners(algorithm: Any, modules: Sequence[str]) -> None:
    """Give the runners of an algorithm the weights that its Learner has of these modules."""
    with without_object_store():
        algorithm.env_runner_group.sync_weights(
            from_worker_or_learner_group=algorithm.learner_group, policies=list(modules), inference_only=True
        )


@contextlib.contextmanager
def _token(folder: Path) -> Iterator[None]:
    """A token of this session's own for Ray, unless the user chose one or none; Ray's own file is for all to read."""
    chosen = "RAY_AUTH_TOKEN" in os.environ or "RAY_AUTH_TOKEN_PATH" in os.environ
    if chosen or os.environ.get("RAY_AUTH_MODE", "token") != "token":
        yield
        return
    from ray._raylet import AuthenticationTokenLoader  # type: ignore[attr-defined]

    file = folder / "token"
    with os.fdopen(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as opened:
        opened.write(secrets.token_hex(32))
    os.environ["RAY_AUTH_TOKEN_PATH"] = str(file)  # Ray turns its tokens on by itself
    try:
        AuthenticationTokenLoader.instance().reset_cache()  # that of an earlier session
        yield
    finally:
        del os.environ["RAY_AUTH_TOKEN_PATH"]


@contextlib.contextmanager
def _loopback() -> Iterator[None]:
    """Ray takes the loopback address as it is given."""
    from ray._private import services

    with mock.patch.object(services, "resolve_ip_for_localhost", lambda host: host):
        yield


@contextlib.contextmanager
def _few_processes() -> Iterator[None]:
    """Ray starts without what only clusters, dashboards and the driver's console need: each is a Python of its own.

    These are the autoscaler's monitor, the log monitor and the head of the dashboard.
    """
    from ray._private.node import Node

    def nothing(node: Any, **_: Any) -> None:
        node._webui_url = ""  # of the dashboard

    with contextlib.ExitStack() as stack:
        for start in ("start_monitor", "start_log_monitor", "start_api_server"):
            stack.enter_context(mock.patch.object(Node, start, nothing))
        yield


@contextlib.contextmanager
def _own_signals() -> Iterator[None]:
    """SIGTERM means afterwards what it meant before: Ray and its C++ code each put a handler of their own there."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.getsignal(signal.SIGTERM)
    try:
        yield
    finally:
        if callable(before):
            signal.signal(signal.SIGTERM, before)


def _start_node(remote_processes: int, folder: Path) -> None:
    """A small Ray node bound to this machine; a start that times out because the machine is busy is repeated.

    Args:
        remote_processes: CPUs beside this process's.
        folder: for its files: logs, sockets.
    """
    for attempt in range(1, START_ATTEMPTS + 1):
        try:
            with _loopback(), _few_processes():
                ray.init(
                    num_cpus=remote_processes + 1,
                    include_dashboard=False,
                    object_store_memory=OBJECT_STORE_BYTES,
                    log_to_driver=False,
                    logging_level=logging.ERROR,
                    _node_ip_address="127.0.0.1",
                    _temp_dir=str(folder),
                    runtime_env={"env_vars": {"OMP_NUM_THREADS": "1"}} if remote_processes else None,
                    _system_config={"prestart_worker_first_driver": False},  # workers are started when asked for
                )
            return
        except Exception as error:  # Ray raises no narrower class
            if attempt == START_ATTEMPTS or "timed out" not in str(error):
                raise
            ray.shutdown()
            _end_failed_start(folder)


def _end_failed_start(folder: Path) -> None:
    """End the processes of a start that timed out: Ray keeps them until this process ends, and a busy machine busy.

    Args:
        folder: of that start's files, which its processes are told; another Ray of this process goes on.
    """
    import psutil  # Ray ships it, and puts it on the path when it is imported

    left = []
    for process in psutil.Process().children(recursive=True):
        with contextlib.suppress(psutil.NoSuchProcess):
            if any(f"{folder}/session_" in part for part in process.cmdline()):
                process.kill()
                left.append(process)
    psutil.wait_procs(left, timeout=END_S)
