"""The journal's thread of a session, and its line to a ``VirtualServer``, both on the virtual clock.

Whatever the thread waits for takes the time of the loop. Only one thread of all runs at a time, that of the loop
included, so that all takes the same course each time.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import threading
from collections import deque
from collections.abc import Callable, Coroutine, Iterator, Mapping
from concurrent.futures import Future
from random import Random
from types import SimpleNamespace
from typing import Any, TypeVar

import attrs
import psycopg
from psycopg.pq import TransactionStatus

from benchmarks.hosts import Line
from benchmarks.processes import outside
from hailuo_async._io.journal import postgres_connection
from hailuo_async._io.journal.asserting import AssertingTable
from hailuo_async._io.journal.commits import Commits
from hailuo_async._io.journal.postgres import PostgresDatabase
from hailuo_async._io.journal.postgres_connection import HURRIED_S
from hailuo_async._io.journal.records import LEASE_S
from hailuo_async._io.journal.writer import JournalWriter
from hailuo_async.settings import Dsn

from .virtual_postgres import Answer, Backend, Statement, VirtualServer

T = TypeVar("T")

_ANSWER_S, _CONNECT_S, _LOOK_S = 12.0, 10.0, 0.5


class VirtualLine(Line):
    """A session's thread and its line. ``half_s`` tells how long one way takes."""

    def __init__(self, server: VirtualServer, rng: Random, half_s: Callable[[], float]) -> None:
        super().__init__()
        self.server, self.rng, self.half_s = server, rng, half_s
        self.loop = asyncio.get_running_loop()
        self.commits: list[float] = []
        """When each was asked for, in loop time."""
        self._connection: Connection | None = None
        self._passable = asyncio.Event()
        self._passable.set()
        self._works = deque[tuple[Future[Any], Callable[[], Any]]]()
        self._is_busy = False
        self.is_shut = False
        """Whether its session has closed the journal, and all is committed."""
        self._asked: Coroutine[Any, Any, Any] | None = None
        self._answer: Callable[[], Any] = lambda: None
        self._withheld: list[Callable[[], Any]] = []
        self._go, self._back = threading.Semaphore(0), threading.Semaphore(0)

    @property
    def is_passable(self) -> bool:
        """Whether anything comes through."""
        return self._passable.is_set()

    # --- The thread ---

    def submit(self, work: Callable[..., T], /, *args: Any, **named: Any) -> Future[T]:
        """Does ``work`` after what was submitted before."""
        future: Future[T] = Future()
        self._works.append((future, lambda: work(*args, **named)))
        if not self._is_busy:
            self._is_busy = True
            self.loop.call_soon(self._next)
        return future

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Notes the end. Each work has a thread of its own, which ends with it."""
        self.is_shut = wait

    def _next(self) -> None:
        self._is_busy = bool(self._works)
        if self._is_busy:
            future, work = self._works.popleft()
            if future.set_running_or_notify_cancel():
                thread = threading.Thread(target=self._work, args=(future, work))
                thread.start()
                self._resume(thread)
            else:
                self._next()

    def _work(self, future: Future[Any], work: Callable[[], Any]) -> None:
        self._go.acquire()
        try:
            result = work()
            self._answer = lambda: future.set_result(result)
        except BaseException as error:
            self._answer = lambda caught=error: future.set_exception(caught)  # type: ignore[misc]
        self._asked = None
        self._back.release()

    def wait(self, asked: Coroutine[Any, Any, T]) -> T:
        """The result of ``asked``, which runs on the loop. Called on the thread."""
        self._asked = asked
        self._back.release()
        self._go.acquire()
        answer: T = self._answer()
        return answer

    def _resume(self, thread: threading.Thread) -> None:
        """Runs the thread until it waits, or its work is done."""
        self._go.release()
        self._back.acquire()
        if (asked := self._asked) is not None:
            task = self.loop.create_task(asked)
            task.add_done_callback(lambda done: self._arrived(thread, done))
            return
        thread.join()
        if self.is_dead:
            self._withheld.append(self._answer)
        else:
            self._answer()
            self._next()

    def rise(self) -> None:
        """Has a host that died go on."""
        self.is_dead = False
        for answer in self._withheld:
            answer()
        if self._withheld:
            self._withheld.clear()
            self._next()

    def _arrived(self, thread: threading.Thread, done: asyncio.Task[Any]) -> None:
        self._answer = done.result
        self._resume(thread)

    # --- The line ---

    def connect(self, *_: object, hurries: Callable[[], bool], **__: object) -> postgres_connection.Connection:
        """A connection, as ``postgres_connection.connect`` makes one."""
        self.wait(self._connected(hurries))
        self._connection = Connection(self, self.server.started_at, self.server.name, hurries)
        self._connection.hear_of(self.server)
        return self._connection  # type: ignore[return-value]

    async def _connected(self, hurries: Callable[[], bool]) -> None:
        way = asyncio.ensure_future(self._way())
        if not await in_time(way, way, longest_s=lambda: HURRIED_S if hurries() else _CONNECT_S):
            way.cancel()
            raise psycopg.OperationalError("timeout expired")
        way.result()
        for _ in range(3):
            await asyncio.sleep(self.half_s())
        if self.server.is_down:
            raise psycopg.OperationalError("connection refused")

    async def _way(self) -> None:
        """Takes one way, once something comes through."""
        if self.is_dead:
            raise psycopg.OperationalError("the host died")
        await self._passable.wait()
        await asyncio.sleep(self.half_s())

    def cut(self) -> None:
        """Cuts the connection. It is made again."""
        if self._connection is not None:
            self._connection.cut.set()

    def die(self) -> None:
        """The host dies: its kernel closes the connection, half a round trip from now."""
        if self._connection is not None:
            self.loop.call_later(self.half_s(), self.server.drop, self._connection._backend)

    async def cut_off(self, for_s: float) -> None:
        """Lets nothing through for a time; what was on its way may arrive after that."""
        self._passable.clear()
        await asyncio.sleep(for_s)
        self._passable.set()


@attrs.define(eq=False)
class Connection:
    """What ``PostgresDatabase`` uses of psycopg's."""

    _line: VirtualLine
    up_since: float
    server: str
    is_hurried: Callable[[], bool]
    silence: str = attrs.field(default="", init=False)
    cut: asyncio.Event = attrs.field(factory=asyncio.Event, init=False)
    closed: bool = attrs.field(default=False, init=False)
    _backend: Backend = attrs.field(init=False)
    _pipeline: list[Statement] | None = attrs.field(default=None, init=False)
    _arrived: deque[SimpleNamespace] = attrs.field(factory=deque, init=False)
    _bell: tuple[int, int] = attrs.field(factory=os.pipe, init=False)

    def hear_of(self, server: VirtualServer) -> None:
        """Begins to hear."""
        self._backend = server.connect(self._hear)

    def _hear(self, topic: str, sender: int) -> None:
        if not self.closed and not self.cut.is_set() and self._line.is_passable:
            self._arrived.append(SimpleNamespace(extra=topic.encode(), be_pid=sender))
            os.write(self._bell[1], b"!")

    # --- As psycopg has it ---

    def execute(self, sql: bytes, given: Mapping[str, object] | None = None) -> Answer:
        answer = Answer()
        statement = (sql.decode(), given or {}, answer)
        if sql == b"COMMIT":
            self._line.commits.append(self._line.loop.time())
        if self._pipeline is None:
            self._exchange([statement])
        else:
            self._pipeline.append(statement)
        return answer

    @contextlib.contextmanager
    def pipeline(self) -> Iterator[Connection]:
        self._pipeline = []
        try:
            yield self
            self.sync()
        finally:
            self._pipeline = None

    def send_all(self) -> None:
        """A statement leaves whole, with the others."""

    def sync(self) -> None:
        if self._pipeline:
            pipeline, self._pipeline = self._pipeline, []
            self._exchange(pipeline)

    def _exchange(self, statements: list[Statement]) -> None:
        if self.closed:
            raise psycopg.OperationalError("the connection is closed")
        try:
            self._line.wait(self._answered(statements))
        except psycopg.OperationalError:
            if self.cut.is_set() or self._backend.is_gone:
                self.close()
            raise

    async def _answered(self, statements: list[Statement]) -> None:
        """The round trip of ``statements``, unless the connection is cut meanwhile, or nothing comes back in time."""
        trip = outside(self._round_trip(statements))
        cut = asyncio.ensure_future(self.cut.wait())
        if not await in_time(trip, cut, longest_s=lambda: HURRIED_S if self.is_hurried() else _ANSWER_S):
            self.silence = "no answer"
        cut.cancel()
        if trip.done() and not self.cut.is_set():
            return trip.result()
        self.cut.set()
        if self._line.rng.random() < 0.5:
            trip.cancel()
        trip.add_done_callback(self._forget)
        raise psycopg.OperationalError("the connection was cut")

    async def _round_trip(self, statements: list[Statement]) -> None:
        await self._line._way()
        try:
            await self._line.server.serve(self._backend, statements)
        finally:
            await self._line._way()

    def _forget(self, trip: asyncio.Future[None]) -> None:
        self._line.server.drop(self._backend)
        if not trip.cancelled():
            trip.exception()

    def add_notify_handler(self, handler: Callable[[Any], None]) -> None:
        """Does nothing: ``PostgresDatabase`` takes each notice that has arrived itself."""

    @property
    def info(self) -> SimpleNamespace:
        status = TransactionStatus.UNKNOWN if self.closed else self._backend.status
        return SimpleNamespace(transaction_status=status, backend_pid=self._backend.pid)

    @property
    def pgconn(self) -> Connection:
        return self

    def consume_input(self) -> None:
        if self.cut.is_set():
            self.close()
            raise psycopg.OperationalError("the connection was cut")

    def notifies(self) -> SimpleNamespace | None:
        if not self._arrived:
            return None
        os.read(self._bell[0], 1)
        return self._arrived.popleft()

    def fileno(self) -> int:
        return self._bell[0]

    def close(self) -> None:
        if not self.closed:
            self.closed = True
            self._arrived.clear()
            for number in self._bell:
                os.close(number)
            if not self.cut.is_set():
                self._line.loop.call_later(self._line.half_s(), self._line.server.drop, self._backend)


async def in_time(*awaited: asyncio.Future[Any], longest_s: Callable[[], float]) -> bool:
    """Waits for the first of them, as long as ``longest_s`` says meanwhile. Whether one came."""
    loop = asyncio.get_running_loop()
    began_at, done = loop.time(), set[asyncio.Future[Any]]()
    while not done and (left_s := began_at + longest_s() - loop.time()) > 0:
        done, _ = await asyncio.wait(awaited, timeout=min(_LOOK_S, left_s), return_when=asyncio.FIRST_COMPLETED)
    return bool(done)


async def open_journal(line: VirtualLine, holder: str) -> JournalWriter:
    """A session's journal over its line."""
    loop = asyncio.get_running_loop()
    database = PostgresDatabase(Dsn("postgresql://virtual/server"), connect=line.connect)
    table = await loop.run_in_executor(line, _opened, database, holder)
    return JournalWriter(table, line, Commits(table, line))  # type: ignore[arg-type]


def _opened(database: PostgresDatabase, holder: str) -> AssertingTable:
    database.notifications()
    table = AssertingTable(database, holder, LEASE_S)
    with table.transaction():
        table.wipe_expired()
    return table
