"""Progress bars on the terminal: one line per thing that takes more than a moment."""

from __future__ import annotations

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


class Bars:
    """`with Bars() as bars: bars(text, done, total)`; a finished line stays with its time."""

    def __init__(self) -> None:
        console = plain_console(stderr=True)
        note = [TextColumn("{task.fields[note]}", markup=False)] if console.is_terminal else []
        self._progress = Progress(
            TextColumn("{task.description}", markup=False), BarColumn(bar_width=24), MofNCompleteColumn(),
            TimeElapsedColumn(), TimeRemainingColumn(compact=True), *note, console=console, refresh_per_second=4,
        )  # fmt: skip
        self._tasks: dict[str, TaskID] = {}

    @property
    def terminal(self) -> bool:
        """Whether a person sees the bars; a job's log does not show them."""
        return self._progress.console.is_terminal

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
        """Show that `done` of `total` is done; a total of 0 is a line that only moves; a note stands behind it."""
        self._progress.start()  # not before there is something to show: an error message stands alone
        if text not in self._tasks:
            self._tasks[text] = self._progress.add_task(text, total=total or None, note=note)
        self._progress.update(self._tasks[text], completed=done, total=total or None, note=note)
