"""How a batch is getting on: a bar on a terminal, plain lines elsewhere. Both go to stderr; results go to stdout."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator
from typing import Protocol

import attrs
import click

from hailuo_async._cli.tally import Tally


class Screen(Protocol):
    """Where progress is shown."""

    every_s: float
    """How often it wants to be told, in seconds."""

    def show(self, tally: Tally) -> None:
        """Shows where the batch stands now."""


@attrs.define
class _Lines:
    """A line for each change, for logs and pipes."""

    every_s: float = 1.0
    _last: Tally | None = attrs.field(default=None, init=False)

    def show(self, tally: Tally) -> None:
        """Writes where the batch stands now, if that has changed."""
        if tally != self._last:
            self._last = tally
            click.echo(f"{tally.elapsed_s:6.1f} s  {tally.words}", err=True)


@contextlib.contextmanager
def open_screen(total: int) -> Iterator[Screen]:
    """A live bar if stderr is a terminal, and plain lines otherwise. Nothing of it is left open."""
    if not sys.stderr.isatty():
        yield _Lines()
        return
    from hailuo_async._cli.bar import open_bar  # here, for Rich takes a while to import

    with open_bar(total) as bar:
        yield bar
