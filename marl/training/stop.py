"""SIGTERM, which clusters send before they end a job: training saves once more, then ends."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
from collections.abc import Iterator
from types import FrameType

EXIT_CODE = 143
"""The shell's code for it."""
GRACE_S = float(os.environ.get("EDGEMARL_GRACE_S", "10"))
"""Time, in s, for the iteration at hand and the last save; then the process ends as it is, with the save before."""
LATE = b"edgemarl: stopped before the last save was done; the save before it is kept\n"


class Terminated(SystemExit):
    """A SIGTERM came: it passes everything that handles errors, and ends a script with the shell's code for it."""

    def __init__(self) -> None:
        super().__init__(EXIT_CODE)


class StopRequest:
    """What a training run asks between iterations."""

    def __init__(self) -> None:
        self.came = False
        self._end: threading.Timer | None = None

    def __call__(self, number: int, frame: FrameType | None) -> None:
        """The signal's handler."""
        self.came = True
        if self._end is None:
            self._end = threading.Timer(GRACE_S, _end_now)
            self._end.daemon = True
            self._end.start()

    def over(self) -> None:
        """The save is done: what follows may take its time."""
        if self._end is not None:
            self._end.cancel()


@contextlib.contextmanager
def stop_request() -> Iterator[StopRequest]:
    """In the block a SIGTERM is only noted, and raised at its end; outside the main thread none can be.

    Raises:
        Terminated: it came.
    """
    request = StopRequest()
    if threading.current_thread() is not threading.main_thread():
        yield request
        return
    before = signal.signal(signal.SIGTERM, request)
    try:
        yield request
    finally:
        request.over()
        signal.signal(signal.SIGTERM, before)
    if request.came:
        raise Terminated


def _end_now() -> None:
    os.write(2, LATE)
    os._exit(EXIT_CODE)
