"""Ctrl-C: it ends a command at once, without a traceback, and is never lost."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from functools import partial
from multiprocessing import resource_tracker
from types import FrameType
from typing import Any, NoReturn

EXIT_CODE = 130
AGAIN_S = 0.05
"""After this time, in s, a Ctrl-C that Python swallowed comes again."""
MESSAGE = "edgemarl: stopped; finished results are kept, the same command goes on from there\n"
SHOW_CURSOR = "\x1b[?25h\n"

_came: list[int] = []


def came() -> bool:
    """Whether there was a Ctrl-C: what goes wrong afterwards, such as a module that is half loaded, follows from it."""
    return bool(_came)


def exit_at_once() -> None:
    """From here on Ctrl-C ends the process where it is: while modules load, while the interpreter cleans up."""
    if _heard():
        signal.signal(signal.SIGINT, _exit)


def raise_interrupts() -> None:
    """From here on Ctrl-C raises `KeyboardInterrupt` in the main thread; while a module loads it ends the process."""
    if _heard():
        signal.signal(signal.SIGINT, _raise)
        sys.unraisablehook = partial(_unraisable, sys.unraisablehook)


def stopped() -> NoReturn:
    """End this process after a Ctrl-C, with the shell's exit code for it."""
    # where Ctrl-C broke off code that was made from a string, the interpreter would end itself by the signal instead;
    # it forgets this when such code is run again
    eval("None")
    sys.stderr.write(MESSAGE)
    sys.exit(EXIT_CODE)


def _heard() -> bool:
    """Whether this process was not started to ignore Ctrl-C, as `nohup` and background jobs are."""
    return signal.getsignal(signal.SIGINT) is not signal.SIG_IGN


def _exit(number: int, frame: FrameType | None) -> None:
    os._exit(EXIT_CODE)


def _raise(number: int, frame: FrameType | None) -> None:
    _came.append(number)
    if _loads(frame):
        text = (SHOW_CURSOR if os.isatty(2) else "") + MESSAGE
        os.write(2, text.encode())
        os._exit(EXIT_CODE)
    raise KeyboardInterrupt


def _loads(frame: FrameType | None) -> bool:
    """Whether a module is being loaded: C++ code that loads (PyTorch's) ends the process if Python raises in it."""
    while frame is not None and frame.f_code.co_filename != "<frozen importlib._bootstrap>":
        frame = frame.f_back
    return frame is not None


def _unraisable(other: Callable[[Any], Any], event: Any) -> None:
    """Python drops exceptions in destructors and in callbacks of weak references: a Ctrl-C is repeated instead."""
    if event.exc_type is KeyboardInterrupt:
        signal.signal(signal.SIGALRM, _raise)
        signal.setitimer(signal.ITIMER_REAL, AGAIN_S)
    else:
        other(event)


@contextlib.contextmanager
def held() -> Iterator[None]:
    """Ctrl-C waits for the end of the block; a process that is started in the block never receives one.

    In a thread beside the main one, which never gets a Ctrl-C, only the latter.

    Raises:
        KeyboardInterrupt: at the end, if it came meanwhile.
    """
    resource_tracker.ensure_running()  # started by multiprocessing in the block, it would unblock the signal
    if threading.current_thread() is not threading.main_thread():
        mask = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
        try:
            yield
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        return
    waiting: list[int] = []
    before: Any = signal.signal(signal.SIGINT, lambda number, frame: waiting.append(number))
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})  # a new process inherits it
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        signal.signal(signal.SIGINT, before)
    if waiting:
        signal.raise_signal(signal.SIGINT)
