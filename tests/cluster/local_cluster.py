"""A Ray cluster of several nodes on this machine: each node a `ray start --block` of its own, bound to 127.0.0.1.

Exactly its own processes are ended: the nodes, their descendants, and whatever carries the cluster's marker in its
environment, such as drivers in sessions of their own.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import secrets
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import ray  # noqa: F401 - isort: skip (it puts the psutil that it ships on the path)
import psutil  # isort: skip

MARKER, NODE = "EDGEMARL_TEST_CLUSTER", "EDGEMARL_TEST_NODE"
RAY = str(Path(sys.executable).with_name("ray"))
OBJECT_STORE_BYTES = 80 * 1024**2  # Ray's lower limit is 75 MiB
START_S, JOB_S = 300.0, 900.0  # a job takes a minute or two on two free cores
ENDED = ("SUCCEEDED", "FAILED", "STOPPED")
STARTS, TOO_SLOW = 4, "timed out during startup"  # `ray start` waits 30 s for its raylet, even on a busy machine


def loopback(number: int) -> str:
    """A node's own loopback address; Ray replaces 127.0.0.1 itself by the machine's address on the network."""
    return f"127.0.0.{2 + number}" if sys.platform == "linux" else "127.0.0.1"


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def wait_for(condition: Callable[[], Any], what: str, seconds: float, about: Callable[[], str] = str) -> Any:
    """The first true value of a condition; fails with `about()` (logs) after a time."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        value = condition()
        if value:
            return value
        time.sleep(0.2)
    raise AssertionError(f"{what}: not within {seconds:.0f} s\n{about()}")


class LocalCluster:
    """A head without CPUs for users' work, and worker nodes; `stop` leaves neither process nor file."""

    def __init__(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="ray", dir="/tmp"))  # sockets need a short path
        self.token = secrets.token_hex(16)
        token_file = self.folder / "token"
        token_file.write_text(self.token)
        token_file.chmod(0o600)
        self.environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith("RAY_")},
            "RAY_AUTH_MODE": "token",
            "RAY_AUTH_TOKEN_PATH": str(token_file),
            "RAY_USAGE_STATS_ENABLED": "0",
            "RAY_health_check_period_ms": "1000",  # a lost node is seen after five seconds
            "RAY_prestart_worker_first_driver": "0",
            "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "1",
            "OMP_NUM_THREADS": "1",
            "PATH": os.pathsep.join([str(Path(RAY).parent), os.environ.get("PATH", "")]),
            MARKER: str(self.folder),
        }
        self.nodes: dict[str, subprocess.Popen[bytes]] = {}
        self.commands: dict[str, list[str]] = {}
        self.starts: dict[str, int] = {}
        self.addresses: dict[str, str] = {}
        self.seen: set[psutil.Process] = set()
        self.gcs_port, self.dashboard_port = free_port(), free_port()

    @property
    def address(self) -> str:
        """What `ray job submit --address` takes."""
        return f"http://127.0.0.1:{self.dashboard_port}"

    # --- nodes -------------------------------------------------------------------------------------------------------

    def start_head(self) -> None:
        ports = ["--port", str(self.gcs_port), "--dashboard-port", str(self.dashboard_port)]
        client = ["--ray-client-server-port", str(free_port())]
        self._start("head", ["--head", *ports, *client, "--num-cpus", "0"])
        self._started()

    def start_workers(self, cpus: Mapping[str, int]) -> None:
        """Nodes with CPUs, each with a resource of its name."""
        address = ["--address", f"{loopback(0)}:{self.gcs_port}"]
        for name, count in cpus.items():
            self._start(name, [*address, "--num-cpus", str(count), "--resources", json.dumps({name: 1})])
        self._started()

    def _start(self, name: str, arguments: list[str]) -> None:
        folder = self.folder / name
        folder.mkdir(exist_ok=True)
        self.addresses[name] = loopback(len(self.addresses))
        common = ["--node-ip-address", self.addresses[name], "--temp-dir", str(folder), "--block", "--num-gpus", "0"]
        common += ["--object-store-memory", str(OBJECT_STORE_BYTES), "--include-log-monitor", "false"]
        common += ["--dashboard-agent-listen-port", str(free_port())]
        self.commands[name] = [RAY, "start", *arguments, *common]
        self.starts[name] = 0
        self._launch(name)

    def _launch(self, name: str) -> None:
        environment = {**self.environment, NODE: name}
        with (self.folder / f"{name}.log").open("wb") as log:
            self.nodes[name] = subprocess.Popen(
                self.commands[name], env=environment, stdout=log, stderr=log, start_new_session=True
            )
        self.starts[name] += 1

    def _started(self) -> None:
        """Wait until the cluster counts every node."""

        def check() -> bool:
            for name, process in list(self.nodes.items()):
                if process.poll() is not None:
                    again = TOO_SLOW in self._log(name) and self.starts[name] < STARTS
                    assert again, f"node {name} ended\n{self._log(name)}"
                    _kill(p for p in self.processes() if _environment(p).get(NODE) == name)
                    self._launch(name)
            return self.alive() == len(self.nodes)

        wait_for(check, "all nodes start", START_S, lambda: "\n".join(self._log(name) for name in self.nodes))

    def node_id(self, name: str) -> str:
        """Ray's id of a node."""
        return next(str(n["node_id"]) for n in self._listed("nodes") if n["node_ip"] == self.addresses[name])

    def actor_nodes(self) -> dict[str, set[str]]:
        """Class of actor -> ids of the nodes on which actors of it live."""
        found: dict[str, set[str]] = {}
        for actor in self._listed("actors"):
            if actor["state"] == "ALIVE":
                found.setdefault(actor["class_name"], set()).add(actor["node_id"])
        return found

    def _listed(self, kind: str) -> list[dict[str, Any]]:
        rows: list[dict[str, Any]] = self.get(f"/api/v0/{kind}?detail=1")["data"]["result"]["result"]
        return rows

    def alive(self) -> int:
        """Nodes that the cluster counts as alive; 0 while there is no head."""
        try:
            return sum(node["state"] == "ALIVE" for node in self._listed("nodes"))
        except OSError:
            return 0

    def kill_node(self, name: str) -> None:
        """End a node at once, as a machine that loses power: its raylet, its agents, its workers."""
        process = self.nodes.pop(name)
        _kill([psutil.Process(process.pid), *psutil.Process(process.pid).children(recursive=True)])
        process.wait()

    def processes(self) -> list[psutil.Process]:
        """Everything that this cluster started and that still runs."""
        found = set()
        for process in psutil.process_iter():
            with contextlib.suppress(psutil.NoSuchProcess, psutil.AccessDenied):
                # Ray's agents overwrite their environment with a title, so their parents are asked too
                if process in self.seen or process.environ().get(MARKER) == str(self.folder):
                    found |= {process, *process.children(recursive=True)}
        self.seen |= found
        return [process for process in found if _runs(process)]

    def stop(self) -> None:
        """End the cluster and remove its folder; fails if a process is left."""
        if not self.folder.exists():
            return

        def ended() -> bool:
            left = self.processes()
            _kill(left)  # again and again: a raylet may start a worker while it is being ended
            return not left

        wait_for(ended, "the cluster's processes end", START_S, lambda: str(self.processes()))
        for process in self.nodes.values():
            process.wait()
        shutil.rmtree(self.folder)

    # --- jobs --------------------------------------------------------------------------------------------------------

    def get(self, path: str) -> Any:
        """The dashboard's answer to a request with the cluster's token."""
        request = urllib.request.Request(self.address + path, headers={"Authorization": f"Bearer {self.token}"})
        with urllib.request.urlopen(request, timeout=20) as answer:
            return json.load(answer)

    def submit(self, working_dir: Path, runtime_env: Path, entrypoint: list[str], options: tuple[str, ...] = ()) -> str:
        """`ray job submit --no-wait`; returns the job's submission id."""
        command = [RAY, "job", "submit", "--address", self.address, "--working-dir", str(working_dir), "--no-wait"]
        command += ["--runtime-env", str(runtime_env), *options, "--", *entrypoint]
        end = time.monotonic() + START_S
        while True:
            done = subprocess.run(command, env=self.environment, capture_output=True, text=True, timeout=JOB_S)
            if "No available agent" not in done.stderr or time.monotonic() > end:
                break  # a node counts as alive before its job agent listens
        found = re.search(r"raysubmit_\w+", done.stdout)
        assert done.returncode == 0 and found, f"{' '.join(command)}\n{done.stdout}\n{done.stderr}"
        return found.group()

    def status(self, job: str) -> Mapping[str, Any]:
        """The job's entry, with `status`, `driver_info` and `message`."""
        answer: dict[str, Any] = self.get(f"/api/jobs/{job}")
        return answer

    def log(self, job: str) -> str:
        """What the job's entrypoint printed, and its state; for messages of failing tests."""
        logs = self.folder.glob(f"*/session_2*/logs/job-driver-{job}.log")  # on the node of its driver
        text = "\n".join(log.read_text(errors="replace")[-6000:] for log in logs)
        return f"{self.status(job)}\n{text}"

    def finish(self, job: str, expected: str = "SUCCEEDED") -> None:
        """Wait for a job's end."""
        wait_for(lambda: self.status(job)["status"] in ENDED, f"job {job} ends", JOB_S, lambda: self.log(job))
        assert self.status(job)["status"] == expected, self.log(job)

    def during(self, job: str, condition: Callable[[], Any], what: str) -> Any:
        """The first true value of a condition while a job runs; a job that ends before fails the test."""

        def check() -> Any:
            value = condition()
            assert value or self.status(job)["status"] not in ENDED, f"{what}: the job ended before\n{self.log(job)}"
            return value

        return wait_for(check, what, JOB_S, lambda: self.log(job))

    def _log(self, name: str) -> str:
        return (self.folder / f"{name}.log").read_text(errors="replace")[-4000:]


def _kill(processes: Iterable[psutil.Process]) -> None:
    for process in processes:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.kill()


def _environment(process: psutil.Process) -> dict[str, str]:
    with contextlib.suppress(psutil.NoSuchProcess, psutil.AccessDenied):
        return dict(process.environ())
    return {}


def _runs(process: psutil.Process) -> bool:
    with contextlib.suppress(psutil.NoSuchProcess):
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    return False
