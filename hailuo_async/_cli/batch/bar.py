"""What is drawn on a terminal again and again, by Rich: the bar of a batch, or a line."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterator
from datetime import timedelta
from functools import partial

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from hailuo_async._cli.batch.tally import Tally


def bar(tally: Tally) -> Group:
    """A bar of the jobs that are done, and the counts under it, in as many lines as the terminal needs."""
    row = Table.grid(expand=True, padding=(0, 1))
    row.add_column(ratio=1)
    elapsed = timedelta(seconds=int(tally.elapsed_s))
    row.add_row(ProgressBar(tally.total, tally.done), f"{tally.done}/{tally.total}", str(elapsed))
    return Group(row, Text(tally.message))


@contextlib.contextmanager
def open_live(*, is_transient: bool = False) -> Iterator[Callable[[RenderableType], None]]:
    """Gives what draws on stderr; the last drawing stays on the screen, unless it ``is_transient``.

    Meanwhile stderr is written above the drawing, and so is stdout if it is a terminal too.
    """
    console, is_shared = Console(stderr=True), sys.stdout.isatty()
    with Live(console=console, auto_refresh=False, transient=is_transient, redirect_stdout=is_shared) as live:
        yield partial(live.update, refresh=True)
