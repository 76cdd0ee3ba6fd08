"""The live bar of a batch, drawn by Rich."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator
from datetime import timedelta

import attrs
from rich.console import Console, Group
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from hailuo_async._cli.batch.tally import Tally


@attrs.define
class Bar:
    """A bar of the jobs that are done, and the counts under it, in as many lines as the terminal needs."""

    _live: Live
    every_s: float = 0.1

    def show(self, tally: Tally) -> None:
        """Draws where the batch stands now."""
        row = Table.grid(expand=True, padding=(0, 1))
        row.add_column(ratio=1)
        elapsed = timedelta(seconds=int(tally.elapsed_s))
        row.add_row(ProgressBar(tally.total, tally.done), f"{tally.done}/{tally.total}", str(elapsed))
        self._live.update(Group(row, Text(tally.message)), refresh=True)


@contextlib.contextmanager
def open_bar() -> Iterator[Bar]:
    """The bar on stderr, until the context ends; its last state stays on the screen.

    Meanwhile stderr is written above the bar, and so is stdout if it is a terminal too.
    """
    console = Console(stderr=True)
    with Live(console=console, auto_refresh=False, redirect_stdout=sys.stdout.isatty()) as live:
        yield Bar(live)
