"""The live bar of a batch, drawn by Rich in a thread of its own."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import attrs
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

from hailuo_async._cli.tally import Tally


@attrs.define
class Bar:
    """A bar of the jobs that are done, the counts of the others, and the time since the start."""

    _progress: Progress
    _task: TaskID
    every_s: float = 0.1

    def show(self, tally: Tally) -> None:
        """Moves the bar to where the batch stands now."""
        self._progress.update(self._task, completed=tally.saved + tally.failed, words=tally.words)


@contextlib.contextmanager
def open_bar(total: int) -> Iterator[Bar]:
    """The bar on stderr, until the context ends; its last state stays on the screen."""
    columns = (
        BarColumn(bar_width=None),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("{task.fields[words]}", markup=False),
    )
    with Progress(*columns, console=Console(stderr=True), expand=True) as progress:
        yield Bar(progress, progress.add_task("videos", total=total, words=""))
