"""Progress bars: one line per thing that takes more than a moment; in a log or a notebook plain lines."""

from __future__ import annotations

import sys
import time
from types import TracebackType

from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from edgemarl.launch.console import plain_console

PLAIN_FIRST_S, PLAIN_MOST_S = 10.0, 600.0
"""Seconds until something is said of what is not finished, and at most between two lines of it."""


class Bars:
    """`with Bars() as bars: bars(text, done, total)`; a finished line stays with its time."""

    def __init__(self) -> None:
        console = plain_console(stderr=True)
        self.terminal = console.is_terminal
        """Whether a person sees bars; a job's log and a notebook do not show them."""
        self._lines = PlainLines()
        note = [TextColumn("{task.fields[note]}", markup=False)] if console.is_terminal else []
        self._progress = Progress(
            TextColumn("{task.description}", markup=False), BarColumn(bar_width=24), MofNCompleteColumn(),
            TimeElapsedColumn(), TimeRemainingColumn(compact=True), *note, console=console, refresh_per_second=4,
        )  # fmt: skip
        self._tasks: dict[str, TaskID] = {}

    def __enter__(self) -> Bars:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if not self._tasks:
            return
        done = any(task.completed for task in self._progress.tasks)
        if kind is not None and issubclass(kind, ValueError) and not done:
            self._progress.live.transient = True  # bad input: the message about it stands alone
            self._progress.live.stop()
        else:
            self._progress.stop()

    def __call__(self, text: str, done: int, total: int, note: str = "") -> None:
        """Show that `done` of `total` is done; a total of 0 is a line that only moves; a note stands behind it.

        Without bars whoever gives a note prints it.
        """
        if not self.terminal:
            if not note:
                self._lines(text, done, total)
            return
        self._progress.start()  # not before there is something to show: an error message stands alone
        if text not in self._tasks:
            self._tasks[text] = self._progress.add_task(text, total=total or None, note=note)
        self._progress.update(self._tasks[text], completed=done, total=total or None, note=note)


class PlainLines:
    """A line for each thing that is done, and few of what takes long: after 10 s, 20 s, 40 s, then every 10 minutes."""

    def __init__(self) -> None:
        self._started: dict[str, float] = {}
        self._next: dict[str, float] = {}

    def __call__(self, text: str, done: int, total: int) -> None:
        now = time.monotonic()
        started = self._started.setdefault(text, now)
        due = self._next.setdefault(text, started + PLAIN_FIRST_S)
        finished = 0 < total <= done
        if now < due and not (finished and due < float("inf")):
            return
        count = f" {done:,} of {total:,}" if total else ""
        sys.stderr.write(f"{text}:{count}, {now - started:.0f} s\n")
        sys.stderr.flush()
        self._next[text] = float("inf") if finished else now + min(max(now - started, PLAIN_FIRST_S), PLAIN_MOST_S)
