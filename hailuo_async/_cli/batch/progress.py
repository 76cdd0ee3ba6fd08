"""How a batch is getting on: a bar on a terminal, plain lines elsewhere. Both go to stderr; results go to stdout."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterator

import attrs

from hailuo_async._cli.batch.tally import Tally
from hailuo_async._cli.output import can_redraw, echo

#: Between two plain lines: a tenth of what has passed, but at least and at most so many seconds. A night is some
#: hundred lines, a minute ten.
_SHORTEST_S, _LONGEST_S = 1.0, 300.0


@attrs.frozen
class Screen:
    """Where progress is shown."""

    show: Callable[[Tally], None]
    """Shows where the batch stands now. It may block, so it belongs on a thread."""
    every_s: float = 0.5
    """Seconds between two calls of ``show``."""


@attrs.define
class Lines:
    """A line when something has changed, for logs and pipes: the longer it takes, the more seldom."""

    _last: Tally | None = attrs.field(default=None, init=False)
    _next_s: float = attrs.field(default=0.0, init=False)

    def show(self, tally: Tally) -> None:
        """Writes where the batch stands now, if that has changed and it is time; the end is always written."""
        if tally == self._last or (tally.elapsed_s < self._next_s and tally.left):
            return
        self._last = tally
        self._next_s = tally.elapsed_s + min(max(_SHORTEST_S, tally.elapsed_s / 10), _LONGEST_S)
        echo(f"{tally.elapsed_s:6.1f} s  {tally.message}")


@contextlib.contextmanager
def open_screen(*, is_quiet: bool = False) -> Iterator[Screen]:
    """A live bar if stderr is a terminal that can show one, and plain lines otherwise. Nothing of it is left open."""
    if is_quiet:
        yield Screen(lambda _: None)
    elif not can_redraw(sys.stderr):
        yield Screen(Lines().show)
    else:
        from hailuo_async._cli.batch.bar import bar, open_live  # here, for Rich takes a while to import

        with open_live() as draw:
            yield Screen(lambda tally: draw(bar(tally)), every_s=0.1)
