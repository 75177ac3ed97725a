"""One command at a time in a folder; temporary folders of killed commands go."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from edgemarl.marl.lock import FolderLock, InUseError, locked
from edgemarl.marl.scratch import remove_left, scratch

ROOT = Path(__file__).parents[2]
HOLD = """
import sys, time
from pathlib import Path
from edgemarl.marl.{module} import {name}
with {name}({argument}) as held:
    print(held, flush=True)
    time.sleep(600)
"""


def holder(module: str, name: str, argument: str) -> tuple[subprocess.Popen[str], str]:
    """A process that holds something, and what it says of it."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD.format(module=module, name=name, argument=argument)],
        stdout=subprocess.PIPE, text=True, env={**os.environ, "PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    assert process.stdout is not None
    return process, process.stdout.readline().strip()


def test_a_lock_says_who_holds_it_and_that_of_a_killed_command_is_taken_over_at_once(tmp_path: Path) -> None:
    process, _ = holder("lock", "locked", f"Path({str(tmp_path)!r})")
    try:
        with pytest.raises(InUseError, match=rf"{tmp_path} is in use by process {process.pid} on \S+ since \d{{4}}-"):
            FolderLock(tmp_path, wait_s=0.2)
        process.send_signal(signal.SIGKILL)
        process.wait()
        started_s = time.monotonic()
        with locked(tmp_path):
            assert time.monotonic() - started_s < 5.0
    finally:
        process.kill()
        process.wait()


def test_a_free_lock_leaves_no_holder(tmp_path: Path) -> None:
    with locked(tmp_path):
        assert (tmp_path / ".lock.json").is_file()
    assert not (tmp_path / ".lock.json").exists()
    with locked(tmp_path):
        pass


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ValueError, match="file/run cannot be written"):
        FolderLock(tmp_path / "file" / "run")


@pytest.fixture
def temporary(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A temporary folder of the test's own, with a path short enough for sockets."""
    with tempfile.TemporaryDirectory(prefix="t-", dir="/tmp") as folder:
        monkeypatch.setattr(tempfile, "tempdir", folder)
        monkeypatch.setenv("TMPDIR", folder)
        yield Path(folder)


def test_temporary_folders_of_killed_processes_go_and_those_of_others_stay(temporary: Path) -> None:
    process, text = holder("scratch", "scratch", "")
    try:
        left = Path(text)
        assert left.parent == temporary
        assert not remove_left()
        assert left.is_dir()
        process.kill()
        process.wait()
        with scratch() as own:
            assert not left.exists()
            assert own.is_dir()
            assert own.stat().st_mode & 0o777 == 0o700
        assert not list(temporary.iterdir())
    finally:
        process.kill()
        process.wait()
