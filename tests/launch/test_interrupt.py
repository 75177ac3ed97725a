"""Ctrl-C at awkward moments: it ends the process with code 130, without a traceback, and is never lost."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from edgemarl.launch import interrupt

ROOT = Path(__file__).parents[2]
CTRL_C = "signal.raise_signal(signal.SIGINT)"
SIGTERM = "signal.raise_signal(signal.SIGTERM)"
HEAD = """
import signal, sys, time
from edgemarl.launch import interrupt
interrupt.raise_interrupts()
"""
MOMENTS = {
    "in a destructor, where Python drops exceptions": f"""
class Dropped:
    def __del__(self):
        {CTRL_C}
try:
    Dropped()
    time.sleep(600)
except KeyboardInterrupt:
    interrupt.stopped()
""",
    "while a module loads": """
try:
    import half_loaded
except BaseException:
    print("went on")
""",
    "in code made from a string, after which Python ends by the signal": f"""
try:
    exec("{CTRL_C}")
except KeyboardInterrupt:
    interrupt.stopped()
""",
    "in an ordinary place": f"""
try:
    {CTRL_C}
except KeyboardInterrupt:
    interrupt.stopped()
""",
    "after the message": f"""
interrupt.exit_at_once()
sys.stderr.write(interrupt.MESSAGE)
{CTRL_C}
print("went on")
""",
}


def run(script: str, folder: Path, ignored: bool = False) -> subprocess.CompletedProcess[str]:
    """A script run as `python -m`, as the command line is."""
    (folder / "half_loaded.py").write_text(f"import signal\n{CTRL_C}\n")
    (folder / "script.py").write_text(HEAD + script)
    before = signal.signal(signal.SIGINT, signal.SIG_IGN) if ignored else None
    try:
        return subprocess.run(
            [sys.executable, "-m", "script"], cwd=folder, capture_output=True, text=True,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
        )  # fmt: skip
    finally:
        if before is not None:
            signal.signal(signal.SIGINT, before)


@pytest.mark.parametrize("moment", MOMENTS)
def test_ctrl_c_ends_the_process(moment: str, tmp_path: Path) -> None:
    ended = run(MOMENTS[moment], tmp_path)
    assert ended.returncode == interrupt.EXIT_CODE
    assert ended.stderr == interrupt.MESSAGE
    assert not ended.stdout


@pytest.mark.parametrize("script", [
    f"""
try:
    {SIGTERM}
except SystemExit as end:
    assert interrupt.came() == end.code
    interrupt.stopped(end.code)
""",
    f"""
exec(compile({SIGTERM!r}, "<frozen importlib._bootstrap>", "exec"))
print("went on")
""",
])  # fmt: skip
def test_sigterm_ends_the_process_with_its_own_code(script: str, tmp_path: Path) -> None:
    ended = run(script, tmp_path)
    assert (ended.returncode, ended.stderr, ended.stdout) == (143, interrupt.MESSAGE, "")


def test_a_process_that_was_told_to_ignore_it_does(tmp_path: Path) -> None:
    ended = run(f'{CTRL_C}\nprint("went on")', tmp_path, ignored=True)
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, "went on\n", "")


def test_it_waits_for_the_end_of_a_block() -> None:
    done = []

    def start() -> None:
        with interrupt.held():
            signal.raise_signal(signal.SIGINT)
            done.append("block")
        done.append("after")

    with pytest.raises(KeyboardInterrupt):
        start()
    assert done == ["block"]
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
