"""`make soak`: the long forms. Kills of real commands at random and aimed moments, flipped bits by the thousand.

Other modules join with the marker `soak` and the fixture `finding`; `make test` leaves them out.
"""

from __future__ import annotations

import io
import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml
from damage import flip_bit

from edgemarl.agents.trained.policy import TrainedPolicy
from edgemarl.launch.experiment.store import Store
from edgemarl.marl.training.saves import DamagedError, Save, save_folders
from edgemarl.marl.training.trained import saved_policies
from tests.marl.test_saves import make, part, policy

ROOT = Path(__file__).parent.parent
SET = ["--set", "num_devices=2", "--set", "device_action=split", "--set", "episode_blocks=20"]
TRAIN = ["--train", "cells=2", "--train", "slots=10", "--train", "minibatch=20", "--train", "checkpoint_s=0.01"]
TRAINED = {"cells": 2, "slots": 10, "minibatch": 20, "checkpoint_s": 0.01, "agent_steps": 600}
PROBE = """
import socket, sys
for port in sys.argv[1:]:
    connection = socket.socket()
    connection.settimeout(2)
    print(connection.connect_ex(("10.253.7.1", int(port))))
"""
KILLS = int(os.environ.get("SOAK_KILLS", "6"))
"""Kills of each command at random moments."""

pytestmark = pytest.mark.soak


def commands(folder: Path) -> dict[str, list[str]]:
    preset = {
        "title": "Tiny", "scenario": "sequential_offloading", "networks": 2, "slots": 20, "window": 10, "figures": [],
        "set": {"num_devices": 2, "device_action": "split", "episode_blocks": 20},
        "controllers": ["random", "vi", "ppo"], "learned": {"ppo": {"train": TRAINED}},
    }  # fmt: skip
    (folder / "tiny.yaml").write_text(yaml.safe_dump(preset))
    out = ["--out", "out"]
    return {
        "train": ["train", *SET, *TRAIN, "--agent-steps", "600", *out],
        "train, remote runner": ["train", *SET, *TRAIN, "--train", "num_env_runners=1", "--agent-steps", "600", *out],
        "compare": ["compare", "--preset", "tiny.yaml", *out],
        "sweep": [
            "sweep",
            "--controllers",
            "shared",
            "--training-seeds",
            "2",
            *SET,
            *TRAIN,
            "--agent-steps",
            "600",
            *out,
        ],
        "scale": ["scale", "--devices", "2,3", "--networks", "1", *out],
    }


def start(words: list[str], folder: Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "edgemarl", *words], cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
        text=True, start_new_session=True, env={**os.environ, "PYTHONPATH": str(ROOT)},
    )  # fmt: skip


def finish(words: list[str], folder: Path) -> float:
    started_s = time.monotonic()
    process = start(words, folder)
    _, err = process.communicate(timeout=600)
    assert process.returncode == 0, err[-2000:]
    return time.monotonic() - started_s


def results(folder: Path) -> dict[str, int]:
    """Finished results -> when they were written."""
    return {str(file): file.stat().st_mtime_ns for file in folder.rglob("*.part") if not file.name.startswith(".")}


def weights(folder: Path) -> dict[str, str]:
    """Run -> all of its weights as text."""
    runs = {file.parent for file in folder.rglob("config.json")}
    found = {}
    for run in sorted(runs):
        policies = saved_policies(run).policies
        values = {role: {n: v.tolist() for n, v in p.network.state_dict().items()} for role, p in policies.items()}
        found[run.relative_to(folder).as_posix()] = json.dumps(values, sort_keys=True)
    return found


@pytest.mark.parametrize("name", ["train", "train, remote runner", "compare", "sweep", "scale"])
def test_killed_commands_lose_nothing_when_they_are_given_again(
    name: str, tmp_path: Path, finding: Callable[..., None]
) -> None:
    """SIGKILL for the command's whole session, so that nothing of it cleans up; then the same command again."""
    whole = tmp_path / "whole"
    whole.mkdir()
    words = commands(whole)[name]
    takes_s = finish(words, whole)
    expected, expected_parts = weights(whole), {Path(file).name for file in results(whole)}
    rng, wrong, killed = random.Random(name), [], 0
    for attempt in range(KILLS):
        folder = tmp_path / str(attempt)
        folder.mkdir()
        words = commands(folder)[name]
        process = start(words, folder)
        time.sleep(takes_s * rng.random())
        killed += process.poll() is None
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
        before = results(folder)
        finish(words, folder)
        after = results(folder)
        if any(after.get(file) != at for file, at in before.items()):
            wrong.append(f"{attempt}: a finished result was lost or computed again")
        if weights(folder) != expected or {Path(file).name for file in after} != expected_parts:
            wrong.append(f"{attempt}: other weights or results than without a kill")
    finding(f"kills of `{name}` at random moments, resume bit-equal", killed, len(wrong))
    assert not wrong


def test_every_flipped_bit_is_noticed(tmp_path: Path, finding: Callable[..., None]) -> None:
    rng, missed = random.Random(0), 0
    whole = policy().to_bytes()
    for _ in range(400):
        try:
            TrainedPolicy.from_bytes(flip_bit(io.BytesIO(whole), rng), "a.pt")
            missed += 1
        except ValueError:
            continue
    store, file = Store(tmp_path), tmp_path / "parts" / "a.part"
    store.write(file, part(), "mark")
    content = file.read_bytes()
    for _ in range(300):
        file.write_bytes(content)
        flip_bit(file, rng)
        missed += store.read(file, "mark") is not None
    save = make(tmp_path / "run", 1)
    names = [*save.manifest["files"], "manifest.json"]
    for _ in range(300):
        damaged = save_folders(tmp_path / "run")[0] / rng.choice(names)
        content = damaged.read_bytes()
        flip_bit(damaged, rng)
        try:
            Save.open(save.path).check()
            missed += 1
        except DamagedError:
            pass
        damaged.write_bytes(content)
    finding("flipped bits in policies, results, saves", 1000, missed)
    assert not missed


@pytest.mark.skipif(os.geteuid() != 0, reason="mounts a file system")
def test_a_full_disk_is_one_line_and_loses_nothing(tmp_path: Path, finding: Callable[..., None]) -> None:
    """File systems of a few sizes: the command stops at other places, and finishes on one that is large enough."""
    wrong, tried = [], 0
    for size_kb in (40, 160, 640):
        folder = tmp_path / str(size_kb)
        folder.mkdir()
        mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size_kb}k", "tmpfs", str(folder)], check=False)
        if mounted.returncode != 0:
            pytest.skip("cannot mount a file system here")
        try:
            words = commands(folder)["train"]
            process = start(words, folder)
            _, err = process.communicate(timeout=600)
            tried += 1
            if process.returncode != 2 or "Traceback" in err or "No space left" not in err.splitlines()[-1]:
                wrong.append(f"{size_kb} kB: {process.returncode} {err[-500:]}")
            subprocess.run(["mount", "-o", "remount,size=100m", str(folder)], check=True)
            finish(words, folder)
            saved_policies(folder / "out")
        finally:
            subprocess.run(["umount", "-l", str(folder)], check=True)
    finding("full disks while training", tried, len(wrong))
    assert not wrong, wrong


@pytest.mark.skipif(os.geteuid() != 0, reason="makes a network namespace")
def test_nothing_answers_another_machine(tmp_path: Path, finding: Callable[..., None]) -> None:
    """From a network namespace, joined by a pair of virtual cables, every port that listens is tried."""
    name = f"edgemarl-{os.getpid()}"
    make_it = [
        f"ip netns add {name}", f"ip link add v{os.getpid()}a type veth peer name v{os.getpid()}b netns {name}",
        f"ip addr add 10.253.7.1/24 dev v{os.getpid()}a", f"ip link set v{os.getpid()}a up",
        f"ip -n {name} addr add 10.253.7.2/24 dev v{os.getpid()}b", f"ip -n {name} link set v{os.getpid()}b up",
    ]  # fmt: skip
    try:
        for line in make_it:
            if subprocess.run(line.split(), capture_output=True, check=False).returncode != 0:
                pytest.skip("no network namespaces here")
        long = [w if w != "600" else "1000000000" for w in commands(tmp_path)["train, remote runner"]]
        process = start(long, tmp_path)
        while not list((tmp_path / "out").glob("saves/*")) and process.poll() is None:
            time.sleep(0.2)
        text = subprocess.run(["ss", "-Htlnp"], capture_output=True, text=True, check=True).stdout
        tree = subprocess.run(["ps", "-o", "pid=", "-s", str(process.pid)], capture_output=True, text=True, check=True)
        own = tree.stdout.split()
        lines = [line for line in text.splitlines() if any(f"pid={pid}," in line for pid in own)]
        ports = [line.split()[3].rsplit(":", 1)[1] for line in lines]
        ask = ["ip", "netns", "exec", name, sys.executable, "-c", PROBE, *ports]
        done = subprocess.run(ask, capture_output=True, text=True, check=True)
        answered = done.stdout.split().count("0")
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
        finding("ports of embedded Ray that answer another network namespace", len(ports), answered)
        assert ports
        assert not answered
    finally:
        subprocess.run(["ip", "netns", "del", name], capture_output=True, check=False)
        subprocess.run(["ip", "link", "del", f"v{os.getpid()}a"], capture_output=True, check=False)
