"""More hosts than a machine has room for: the real sessions and their journal, on a virtual clock.

Every session has the journal's own code and a connection of its own to one file in memory, behind a line that takes a
round trip each time and lets no session look for nothing, as a server would. ``python -m benchmarks.hosts OPTIONS``
simulates one scenario and prints what it came to, as one line of JSON: a host that dies leaves everything as it was,
so the process ends without tidying up.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import json
import math
import os
import sys
import tempfile
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from concurrent.futures import Executor, Future
from pathlib import Path
from random import Random
from typing import Any, TypeVar

import anyio
import attrs

from benchmarks.cores import in_a_process, on_all_cores
from benchmarks.figures import Figure
from benchmarks.scheduling import ideal_seconds
from benchmarks.targets import LIBRARY, Target
from hailuo_async import AsyncSession, ImageToVideo, Success, Video
from hailuo_async._engine.signal import Signal
from hailuo_async._io.journal import sqlite
from hailuo_async._io.journal.commits import Commits
from hailuo_async._io.journal.database import Parameters, Rows
from hailuo_async._io.journal.records import LEASE_S
from hailuo_async._io.journal.table import JobTable
from hailuo_async._io.journal.writer import JournalWriter
from hailuo_async._io.transport import Transport
from hailuo_async._rules.wire import Answer, Request
from hailuo_async.emulator import Service
from hailuo_async.settings import JournalLocation
from hailuo_async.testing import InMemory, run_virtual

#: To the service and back, and to the database and back.
LATENCY_S, ROUND_TRIP_S = 0.1, 0.002
EPOCH = 1_700_000_000.0

T = TypeVar("T")


@attrs.frozen(kw_only=True)
class Hosts:
    """What is simulated. One session in each process; ``deaths`` of them die, one after another.

    By default a team of 200 on 50 machines, and as many jobs as take a minute: some 25 take a second.
    """

    sessions: int = 200
    slots: int = 100
    requests_per_minute: int = 1000
    jobs: int = 1000
    generation_s: float = 90.0
    deaths: int = 10
    seed: int = 0

    @property
    def name(self) -> str:
        """As it stands in the table."""
        return f"{self.sessions} sessions, {self.slots} slots, {self.jobs:,} jobs, {self.deaths} deaths"


class Server(sqlite.SqliteDatabase):
    """A file that is asked as a server is: no look is free."""

    IS_LOCAL = False
    statements = 0
    """Of all connections, begins and commits included."""

    def execute(self, sql: str, parameters: Parameters | None = None) -> Rows:
        Server.statements += 1
        return super().execute(sql, parameters)

    @contextlib.contextmanager
    def transaction(self) -> Iterator[None]:
        Server.statements += 2
        with super().transaction():
            yield


class Line(Executor):
    """The journal's thread of one session, and its line to the server. A host that died does nothing any more."""

    def __init__(self) -> None:
        self.round_trips = 0
        self.is_dead = False
        self._loop = asyncio.get_running_loop()

    def submit(self, work: Callable[..., T], /, *args: Any, **named: Any) -> Future[T]:
        """Does ``work`` half a round trip from now, and tells of it after the other half.

        For a thread (``benchmarks.processes``), for which the clock stands still, it does that at once.
        """
        future: Future[T] = Future()
        loop = self._loop
        self.round_trips += 1
        if asyncio._get_running_loop() is None:
            _done(future, work, *args, **named)()
            return future

        def arrive() -> None:
            if self.is_dead or not future.set_running_or_notify_cancel():
                return
            loop.call_later(ROUND_TRIP_S / 2, _done(future, work, *args, **named))

        loop.call_later(ROUND_TRIP_S / 2, arrive)
        return future


def _done(future: Future[T], work: Callable[..., T], /, *args: Any, **named: Any) -> Callable[[], None]:
    """Does ``work``. Returns what tells ``future`` of it."""
    try:
        result = work(*args, **named)
    except Exception as error:
        return functools.partial(future.set_exception, error)
    return lambda: future.set_result(result)


@attrs.define(eq=False)
class Host:
    """One session, and the line to the service that dies with it."""

    session: AsyncSession
    line: Line
    transport: Transport
    accepted_at: dict[str, float]
    """When each task was accepted, of all hosts."""
    held: dict[str, ImageToVideo] = attrs.field(factory=dict)
    """Jobs that it was given and has not delivered."""

    async def send(self, request: Request, timeout_s: float) -> Answer:
        """A dead host sends nothing, and hears nothing."""
        answer = await self.transport.send(request, timeout_s)
        if request.method == "POST" and "task_id" in answer.data:
            self.accepted_at[answer.data["task_id"]] = anyio.current_time()
        if self.line.is_dead:
            await anyio.sleep_forever()
        return answer

    async def aclose(self) -> None:
        """Holds nothing."""


@attrs.define(eq=False)
class Night:
    """A simulation under way."""

    hosts: Hosts
    service: Service
    path: Path
    rng: Random
    waiting: deque[ImageToVideo] = attrs.field(factory=deque)
    done: dict[str, float] = attrs.field(factory=dict)
    """When each job was delivered first."""
    lengths_s: list[float] = attrs.field(factory=list)
    noticed_s: list[float] = attrs.field(factory=list)
    """Of each task that ran for a host that died: how long it lay there, ended, before another host delivered it."""
    accepted_at: dict[str, float] = attrs.field(factory=dict)
    alive: list[Host] = attrs.field(factory=list)
    died_at: dict[str, float] = attrs.field(factory=dict)
    all_done: asyncio.Event = attrs.field(factory=asyncio.Event)
    changed: Signal = attrs.field(factory=Signal)
    """Notified when jobs wait again, and when all are done."""

    def make_host(self) -> Host:
        """A session that has not been entered."""
        line = InMemory(self.service, latency_s=LATENCY_S, epoch=EPOCH)
        host = Host(None, self.make_line(), line, self.accepted_at)  # type: ignore[arg-type]
        host.session = AsyncSession(
            api_key=self.service.api_key,
            base_url="https://emulator.invalid",
            journal=self.path,
            transport=host,
            rng=Random(self.rng.random()),
        )

        async def open_journal(place: JournalLocation, *, base_url: str, now: object) -> JournalWriter:
            return await self.open_journal(host.line, base_url)

        host.session._open_journal = open_journal
        return host

    def make_line(self) -> Line:
        """The line of a host to the journal."""
        return Line()

    async def open_journal(self, line: Line, base_url: str) -> JournalWriter:
        """The journal of the host that has that line."""
        return open_file(self.path, base_url, line, f"host {Random(self.rng.random()).random()}")

    async def open(self, host: Host) -> None:
        """Opens its session, whose rules in the journal draw from the seed, as all else does."""
        await host.session.__aenter__()
        engine = host.session._engine
        if engine is not None and engine.team_monitor is not None:
            engine.team_monitor._link._table.row.rng.seed(self.rng.random())

    async def work(self, host: Host) -> None:
        """Streams the jobs that wait, as long as the host lives. No two hosts begin at the same moment."""
        await anyio.sleep(self.rng.random())
        async for outcome in host.session.stream(self._jobs(host)):
            if host.line.is_dead:
                return
            if not isinstance(outcome, Success):
                raise outcome.error
            key = outcome.key or ""
            host.held.pop(key, None)
            if key not in self.done:
                self._note(key, outcome.video)
            if len(self.done) == self.hosts.jobs:
                self.all_done.set()
                self.changed.notify()

    def _note(self, key: str, video: Video) -> None:
        self.done[key] = now = anyio.current_time()
        took_s = video.seconds_taken or 0.0
        self.lengths_s.append(took_s)
        accepted_at, died_at = self.accepted_at.get(video.task_id, 0.0), self.died_at.get(key, 0.0)
        if accepted_at < died_at:
            self.noticed_s.append(now - max(died_at, accepted_at + took_s))

    async def _jobs(self, host: Host) -> AsyncIterator[ImageToVideo]:
        while not self.all_done.is_set():
            if host.line.is_dead:
                await anyio.sleep_forever()
            if not self.waiting:
                await self.changed.wait()
                continue
            job = self.waiting.popleft()
            host.held[job.key or ""] = job
            yield job

    async def die(self, every_s: float) -> None:
        """One host after another is lost for good. Its jobs are given to the others again, the oldest first."""
        for _ in range(self.hosts.deaths):
            await anyio.sleep(every_s)
            await self.lose(self.alive.pop(self.rng.randrange(len(self.alive))))

    async def lose(self, host: Host) -> None:
        """Loses that host, and gives its jobs to the others."""
        if (engine := host.session._engine) is not None:  # in the middle of a POST it would leave a doubt behind
            await engine.submitter.wait_idle(lambda: math.inf)
        host.line.is_dead = True
        left = {key: job for key, job in host.held.items() if key not in self.done}
        self.died_at |= dict.fromkeys(left, anyio.current_time())
        self.waiting.extendleft(reversed(left.values()))
        self.changed.notify()


def open_file(
    path: Path, base_url: str, line: Line, holder: str, kind: Callable[..., Server] = Server
) -> JournalWriter:
    """A session's journal over its line to a file."""

    def now() -> float:
        return EPOCH + asyncio.get_running_loop().time()

    opened = sqlite.open_for_writing(path, base_url, now, 5.0)
    server = kind(opened.path, opened._connection, now)
    server._file_id = opened._file_id
    server.execute("PRAGMA synchronous = OFF")
    table = JobTable(server, holder, LEASE_S)
    return JournalWriter(table, line, Commits(table, line))  # type: ignore[arg-type]


async def simulate_hosts(hosts: Hosts, directory: Path) -> dict[str, float]:
    """What a night came to. The sessions are left as they are."""
    service = Service(
        max_running=hosts.slots,
        requests_per_minute=hosts.requests_per_minute,
        generation_s=hosts.generation_s,
        ledger_entries=0,
        balance=1e12,
        seed=hosts.seed,
    )
    night = Night(hosts, service, directory / "journal.db", Random(hosts.seed))
    for number in range(hosts.jobs):
        night.waiting.append(ImageToVideo("https://example.com/cat.jpg", prompt=f"job {number}", key=f"job {number}"))
    night.alive = [night.make_host() for _ in range(hosts.sessions)]
    everyone = list(night.alive)
    for host in everyone:
        await night.open(host)
    began, trips, statements = anyio.current_time(), sum(host.line.round_trips for host in everyone), Server.statements
    loop = asyncio.get_running_loop()
    tasks = [loop.create_task(night.work(host)) for host in everyone]
    expected_s = hosts.jobs * hosts.generation_s / hosts.slots
    tasks.append(loop.create_task(night.die(expected_s / (hosts.deaths + 2))))
    ended = loop.create_task(night.all_done.wait())
    await asyncio.wait([ended, *tasks], return_when=asyncio.FIRST_COMPLETED)
    while not night.all_done.is_set():
        for task in tasks:
            if task.done() and task.exception() is not None:
                task.result()
        await asyncio.wait([ended], timeout=10.0)
    seconds = anyio.current_time() - began
    ledger = service.ledger
    trips = sum(host.line.round_trips for host in everyone) - trips
    noticed = night.noticed_s
    return {
        "efficiency": ideal_seconds(night.lengths_s, lambda _: hosts.slots, []) / seconds,
        "refused_submits": 1 - ledger.submits_accepted / ledger.posts,
        "paid_twice": float(sum(len(tasks) - 1 for tasks in ledger.accepted.values())),
        "requests_per_job": ledger.requests.total() / hosts.jobs,
        "round_trips_per_s": trips / seconds,
        "statements_per_s": (Server.statements - statements) / seconds,
        "delivered_late_s": max(noticed, default=0.0),
    }


#: Four times the sessions for the same work ask the database for their leases' renewals more, and for nothing else.
MANY = Hosts(sessions=80, slots=40, requests_per_minute=400, jobs=400, deaths=4)
FEW = attrs.evolve(MANY, sessions=20)
SMALL = Hosts(sessions=8, slots=6, requests_per_minute=200, jobs=60, deaths=1)


def measure_hosts(is_quick: bool) -> list[Figure]:
    """Simulates every scenario, each in a process of its own."""
    return on_all_cores(make_figure, [SMALL] if is_quick else [SMALL, FEW, MANY, Hosts()])


def make_figure(hosts: Hosts) -> Figure:
    """What a scenario came to."""
    values = in_a_process("benchmarks.hosts", attrs.asdict(hosts))
    return Figure(subject=LIBRARY, case=hosts.name, values=values)


def hosts_targets(figures: Sequence[Figure]) -> Iterator[Target]:
    """Hosts that die cost little, pay nothing twice, and their tasks are delivered within a lease and a few seconds."""
    for figure in figures:
        yield Target(f"{figure.case}: paid twice", figure.values["paid_twice"], 0.0)
        yield Target(f"{figure.case}: tasks of the dead are late by s", figure.values["delivered_late_s"], 45.0)
        if not figure.case.startswith(f"{SMALL.sessions} sessions"):  # too few jobs for shares to mean much
            yield Target(f"{figure.case}: efficiency", figure.values["efficiency"], 0.95, is_least=True)
            yield Target(f"{figure.case}: submits refused", figure.values["refused_submits"], 0.05)


def main(simulate: Callable[[dict[str, Any], Path], Awaitable[dict[str, float]]]) -> None:
    """Simulates what the command line gives as JSON, in memory, prints what it came to, and ends the process."""
    memory = Path("/dev/shm")
    with contextlib.ExitStack() as stack:
        place = stack.enter_context(tempfile.TemporaryDirectory(dir=memory if memory.is_dir() else None))

        async def night() -> None:
            print(json.dumps(await simulate(json.loads(sys.argv[1]), Path(place))), flush=True)
            stack.close()
            os._exit(0)

        run_virtual(night)


if __name__ == "__main__":
    main(lambda options, place: simulate_hosts(Hosts(**options), place))
