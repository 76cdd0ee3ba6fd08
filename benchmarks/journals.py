"""Where the journal of a life lies: in no place, in a file, or on a server that is simulated with all its outages."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import sqlite3
from collections.abc import Callable, Coroutine, Iterator, Mapping
from concurrent.futures import Future
from contextvars import Context
from decimal import Decimal
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING, Any, TypeVar

import anyio
import attrs

from benchmarks.hosts import Line, Server, open_file
from benchmarks.processes import outside
from hailuo_async._io.journal import database
from hailuo_async._io.journal.writer import JournalWriter
from hailuo_async.errors import JournalError
from hailuo_async.money import from_nanos

if TYPE_CHECKING:
    from tests.support.virtual_line import VirtualLine
    from tests.support.virtual_postgres import VirtualServer

T = TypeVar("T")

#: By how much a clock is set.
_CLOCK_STEPS_S = (-600.0, 600.0, -40.0, -10.0, 10.0, 40.0)
Rows = Mapping[str, Mapping[str, Any]]
_COLUMNS = ("identity", "state", "task_id", "holder", "lease_until", "price", "cost", "cost_before", "error")
_ROWS = f"SELECT {', '.join(_COLUMNS)} FROM job"


class Place:
    """Where the journal lies. This one is for a session without a journal."""

    is_shared = False
    takes_pictures = True
    """Whether jobs may have pictures, and not only their URLs."""
    befall: Callable[[Line], None] = staticmethod(lambda _: None)
    """Called with the line of each request that is on its way: a moment at which a process may be struck."""

    @property
    def location(self) -> str | None:
        """As a session takes it."""
        return None

    def make_line(self) -> Line:
        """A session's line to it."""
        return Line()

    async def open(self, line: Line, base_url: str, holder: str) -> JournalWriter:
        """The journal of the session with that line."""
        raise NotImplementedError

    def trouble(self, line: Line) -> bool:
        """Something befalls it, or the line. Returns whether a doubt may be left behind."""
        return False

    def heal(self) -> None:
        """Ends all troubles."""

    def hang_up(self, line: Line) -> None:
        """Notes that the process at the other end of the line was killed."""

    def select(self, sql: str) -> list[Any]:
        """What is committed."""
        return []

    def close(self) -> None:
        """Takes it away."""

    def rows(self) -> Rows:
        """Its jobs, by their identity."""
        return {row[0]: dict(zip(_COLUMNS, row, strict=True)) for row in self.select(_ROWS)}

    def spent(self) -> Decimal:
        """What all its jobs have cost, in USD, also those that were taken out of it."""
        [(spent,)] = self.select(database._SPENT)
        return (from_nanos(spent) or Decimal(0)) + self.spent_on_removed()

    def spent_on_removed(self) -> Decimal:
        """What the jobs have cost that were taken out of it, in USD."""
        [(removed,)] = self.select("SELECT forgotten FROM journal")
        return from_nanos(removed) or Decimal(0)


class _ErringFile(Server):
    """A file on a disk that errs: no transaction begins, or the answer to half of the commits is lost."""

    def __init__(self, place: FileJournal, path: Path, opened: sqlite3.Connection, now: Callable[[], float]) -> None:
        super().__init__(path, opened, lambda: now() + place.offset_s)
        self._place = place

    @contextlib.contextmanager
    def transaction(self) -> Iterator[None]:
        self._fail_if(self._place.fault in ("SQLITE_FULL", "SQLITE_BUSY"))
        with super().transaction():
            yield
        self._fail_if(self._place.fault == "SQLITE_IOERR" and self._place.rng.random() < 0.5)

    def _fail_if(self, errs: bool) -> None:
        if errs:
            error = sqlite3.OperationalError("the disk errs")
            error.sqlite_errorname = self._place.fault or ""
            raise error


class _FileLine(Line):
    """A session's line to a file: its process may be struck with its work on the way."""

    def __init__(self, place: FileJournal) -> None:
        super().__init__()
        self._place = place

    def submit(self, work: Callable[..., T], /, *args: Any, **named: Any) -> Future[T]:
        future = super().submit(work, *args, **named)
        self._place.befall(self)
        return future


@attrs.define(eq=False, slots=False)
class FileJournal(Place):
    """A file that all sessions share."""

    path: Path
    rng: Random
    fault: str | None = attrs.field(default=None, init=False)
    """What is wrong with the disk."""
    offset_s: float = attrs.field(default=0.0, init=False)
    """How far the machine's clock has been set forward."""
    _heals: asyncio.TimerHandle | None = attrs.field(default=None, init=False)
    is_shared = True

    @property
    def location(self) -> str | None:
        return str(self.path)

    def make_line(self) -> Line:
        return _FileLine(self)

    async def open(self, line: Line, base_url: str, holder: str) -> JournalWriter:
        return open_file(self.path, base_url, line, holder, functools.partial(_ErringFile, self))

    def trouble(self, line: Line) -> bool:
        if self.rng.random() < 0.2:
            self.offset_s += self.rng.choice(_CLOCK_STEPS_S)
        self.heal()
        self.fault = self.rng.choice(("SQLITE_FULL", "SQLITE_BUSY", "SQLITE_IOERR"))
        for_s = self.rng.choice((0.1, 3.0, 10.0, 60.0))
        self._heals = asyncio.get_running_loop().call_later(for_s, self.heal, context=Context())
        return True

    def heal(self) -> None:
        self.fault = None
        if self._heals is not None:
            self._heals.cancel()

    def select(self, sql: str) -> list[Any]:
        if not self.path.exists():
            return []
        with contextlib.closing(sqlite3.connect(self.path)) as connection:
            return connection.execute(sql).fetchall()


#: For so long a session is cut off, and longer than its leases; and the server is down.
_CUT_OFF_S, _DOWN_S = 40.0, 15.0


@attrs.define(eq=False, slots=False)
class ServerJournal(Place):
    """A PostgreSQL server, simulated."""

    rng: Random
    fails_over: bool
    """Whether a standby may take over that lacks the last commits. Then no process may be killed as well.

    None takes over that lacks commits of a session that has closed meanwhile.
    """
    cut_rate: float = attrs.field(default=0.0, init=False)
    """How often a line is cut while something is on its way: that arrives or not, and its answer is lost."""
    server: VirtualServer = attrs.field(init=False)
    _lines: list[VirtualLine] = attrs.field(factory=list, init=False)
    _troubles: set[asyncio.Task[None]] = attrs.field(factory=set, init=False)
    is_shared = True
    takes_pictures = False  # they would be read over the line while the clock stands still

    def __attrs_post_init__(self) -> None:
        from tests.support.virtual_postgres import VirtualServer  # psycopg is for those who develop

        offset_s = self.rng.uniform(-100.0, 100.0)
        self.cut_rate = self.rng.choice((0.0, 0.0, 0.003, 0.03))
        self.server = VirtualServer(Random(self.rng.random()), offset_s=offset_s, notice_s=self._notice_s)

    @property
    def location(self) -> str | None:
        return "postgresql://virtual/server"

    def _notice_s(self) -> float | None:
        """How long a notice takes: some are late, some are lost."""
        drawn = self.rng.random()
        return None if drawn < 0.05 else 0.005 if drawn > 0.1 else self.rng.uniform(0.0, 2.0)

    def make_line(self) -> Line:
        from tests.support.virtual_line import VirtualLine

        def half_s() -> float:
            self.befall(line)
            if self.rng.random() < self.cut_rate:
                line.cut()
            return 0.005 * (1 + self.rng.expovariate(2.0))

        line = VirtualLine(self.server, Random(self.rng.random()), half_s)
        self._lines.append(line)
        return line

    async def open(self, line: Line, base_url: str, holder: str) -> JournalWriter:
        from psycopg import OperationalError

        from tests.support.virtual_line import open_journal

        try:
            return await open_journal(line, holder)  # type: ignore[arg-type]
        except OperationalError as error:
            raise JournalError(path="a server", reason=str(error)) from error

    def trouble(self, line: Line) -> bool:
        kinds: list[Callable[[VirtualLine], Coroutine[Any, Any, None]]] = [self._cut, self._cut_off, self._go_down]
        kinds += [self._set_clock, self._fail_over if self.fails_over else self._cut]
        kind = self.rng.choice(kinds)
        self._troubles.add(outside(kind(line)))  # type: ignore[arg-type]
        return kind not in (self._cut, self._set_clock)

    async def _cut(self, line: VirtualLine) -> None:
        line.cut()

    async def _cut_off(self, line: VirtualLine) -> None:
        await line.cut_off(_CUT_OFF_S)

    async def _go_down(self, _: VirtualLine) -> None:
        self.server.stop()
        await anyio.sleep(self.rng.uniform(0.5, _DOWN_S))
        self.server.start()

    async def _fail_over(self, line: VirtualLine) -> None:
        copied, closed = self.server.copy(), self._closed
        await anyio.sleep(self.rng.uniform(0.01, 2.0))
        self.server.stop()
        if self._closed == closed:  # else it may have lost what no session knows any more
            self.server.fail_over(copied)
            self.server.offset_s += self.rng.choice((0.0, 0.0, -600.0, 600.0))
        await self._go_down(line)

    @property
    def _closed(self) -> int:
        """How many sessions have closed their journal."""
        return sum(line.is_shut for line in self._lines)

    async def _set_clock(self, _: VirtualLine) -> None:
        self.server.offset_s += self.rng.choice(_CLOCK_STEPS_S)

    def heal(self) -> None:
        self.cut_rate = 0.0
        for trouble in self._troubles:
            trouble.cancel()
        self.server.start()
        for line in self._lines:
            line._passable.set()

    def hang_up(self, line: Line) -> None:
        line.die()  # type: ignore[attr-defined]

    def select(self, sql: str) -> list[Any]:
        return self.server.select(sql)

    def close(self) -> None:
        self.server.close()
