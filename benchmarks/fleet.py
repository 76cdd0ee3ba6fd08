"""Several processes with one journal: whether they fill the team's limits as one process would, and share them evenly.

``python -m benchmarks.fleet OPTIONS`` is one of the processes: a session that streams its share of the jobs as soon as
a line comes on its standard input, and then prints when each was done, as one line of JSON.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import anyio
import anyio.to_thread
import attrs
import cattrs.preconf.json  # noqa: F401 (a process imports it once, in any case: that is not counted)

from benchmarks.figures import Figure
from benchmarks.scheduling import ideal_seconds
from benchmarks.targets import LIBRARY, Target
from hailuo_async import AsyncSession, ImageToVideo, Success
from hailuo_async.emulator import DEFAULT_API_KEY, Emulator, Kind

JOBS = 96
#: A process is stuck when it takes so many times what an all-knowing scheduler needs.
PATIENCE = 6.0
_ROOT = Path(__file__).parents[1]


@attrs.frozen
class Fleet:
    """What the processes work against."""

    limit: int
    generation_s: float
    requests_per_minute: int | None = None
    jobs: int = JOBS

    @property
    def name(self) -> str:
        """As it stands in the table."""
        requests = "" if self.requests_per_minute is None else f", {self.requests_per_minute} requests a minute"
        return f"limit {self.limit}, {self.generation_s:g} s{requests}"


FLEETS = (Fleet(3, 4.0), Fleet(12, 6.0), Fleet(3, 4.0, 100), Fleet(12, 6.0, 300))
PROCESSES = (1, 8)


@attrs.frozen
class Done:
    """What one process came to."""

    at: Sequence[float]
    """When each of its jobs was done, by the machine's monotonic clock."""
    lengths_s: Sequence[float]
    cpu_s: float


def measure_fleet(is_quick: bool) -> list[Figure]:
    """Every fleet with one process and with several, on journals in files and on a PostgreSQL server."""
    if is_quick:
        return _side_by_side([attrs.evolve(fleet, jobs=24) for fleet in FLEETS[:2]], (1, 4), None)
    with server_of_its_own() as new_journal:
        return [
            figure
            for two in (FLEETS[::2], FLEETS[1::2])  # both take as long
            for figure in _side_by_side(two, PROCESSES, new_journal)
        ]


@contextlib.contextmanager
def server_of_its_own() -> Iterator[Callable[[], str]]:
    """A server of its own. Yields what makes an empty journal there, and returns its DSN."""
    from tests.support.postgres import Postgres  # which needs its wheel

    server = Postgres.make()
    try:
        yield lambda: server.dsn(server.new_schema())
    finally:
        server.remove()


def _side_by_side(
    fleets: Sequence[Fleet], processes: Sequence[int], new_journal: Callable[[], str] | None
) -> list[Figure]:
    """All fleets and numbers of processes at once, on both engines: what else the machine does concerns all alike.

    Each has a service of its own. They wait for tasks nearly all the time.
    """
    makers: list[Callable[[], str | None]] = [lambda: None, *([] if new_journal is None else [new_journal])]
    each = [(fleet, number, make()) for fleet in fleets for make in makers for number in processes]

    async def all_at_once() -> list[Figure]:
        barrier = asyncio.Barrier(len(each))
        return await asyncio.gather(*(_figure(*options, barrier) for options in each))

    return asyncio.run(all_at_once())


def make_figure(fleet: Fleet, processes: int, journal: str | None = None) -> Figure:
    """Lets so many processes work. Without ``journal``, a DSN, theirs is a file."""
    return asyncio.run(_figure(fleet, processes, journal, asyncio.Barrier(1)))


async def _figure(fleet: Fleet, processes: int, journal: str | None, barrier: asyncio.Barrier) -> Figure:
    with tempfile.TemporaryDirectory() as directory:
        path = journal or str(Path(directory, "journal.db"))
        values = await _values(fleet, processes, path, barrier)
    kind = "a file" if journal is None else "PostgreSQL"
    return Figure(subject=LIBRARY, case=f"{fleet.name}: {_counted(processes)} on {kind}", values=values)


def _counted(processes: int) -> str:
    return f"{processes} process{'es' if processes > 1 else ''}"


async def _values(fleet: Fleet, processes: int, journal: str, barrier: asyncio.Barrier) -> dict[str, float]:
    emulator = Emulator(
        max_running=fleet.limit,
        generation_s=fleet.generation_s,
        requests_per_minute=fleet.requests_per_minute,
        render=False,
        balance=1e9,
    )
    async with emulator:
        began, done = await _work(emulator.url, fleet, processes, journal, barrier)
    lengths = [length_s for each in done for length_s in each.lengths_s]
    ideal_s = ideal_seconds(lengths, lambda _: fleet.limit, [])
    ended = max(at for each in done for at in each.at)
    ledger = emulator.ledger
    limited = sum(entry.status == 429 for entry in ledger.of(Kind.QUERY))
    return {
        "efficiency": ideal_s / (ended - began),
        "refused_submits": 1 - ledger.submits_accepted / ledger.posts,
        "queries_refused": float(limited),
        "evenness": jain([sum(at <= (began + ended) / 2 for at in each.at) for each in done]),
        "requests_per_job": sum(ledger.requests.values()) / fleet.jobs,
        "cpu_s": sum(each.cpu_s for each in done),
    }


async def _work(
    url: str, fleet: Fleet, processes: int, journal: str, barrier: asyncio.Barrier
) -> tuple[float, list[Done]]:
    async with contextlib.AsyncExitStack() as stack:
        options = [(url, journal, f"{number} of {processes}", fleet.jobs // processes) for number in range(processes)]
        children = [await stack.enter_async_context(started("benchmarks.fleet", each)) for each in options]
        for child in children:
            await read_line(child)
        await barrier.wait()
        began = time.monotonic()
        for child in children:
            assert child.stdin is not None
            child.stdin.write(b"begin\n")
        patience_s = PATIENCE * fleet.jobs * fleet.generation_s / fleet.limit + 60
        with anyio.fail_after(patience_s):
            done = [Done(**json.loads(await read_line(child))) for child in children]
            for child in children:
                await child.wait()
    return began, done


@contextlib.asynccontextmanager
async def started(module: str, options: Sequence[Any]) -> AsyncIterator[asyncio.subprocess.Process]:
    """A process that runs a module with these options, and is killed if it has not ended by itself."""
    command = (sys.executable, "-m", module, json.dumps(options))
    child = await asyncio.create_subprocess_exec(*command, cwd=_ROOT, stdin=-1, stdout=-1, limit=1 << 24)
    try:
        yield child
    finally:
        if child.returncode is None:
            child.kill()
            await child.wait()


async def read_line(child: asyncio.subprocess.Process) -> bytes:
    """The next line that it prints."""
    assert child.stdout is not None
    line = await child.stdout.readline()
    if not line:
        raise RuntimeError("a process of the fleet ended before its work was done: see above")
    return line


def jain(shares: Sequence[float]) -> float:
    """How evenly something is shared: 1 when all have the same, 1 / n when one of n has it all (Jain, 1984)."""
    squares = len(shares) * sum(share * share for share in shares)
    return sum(shares) ** 2 / squares if squares else 1.0


def fleet_targets(figures: Sequence[Figure]) -> Iterator[Target]:
    """Several processes do as well as one, are refused as seldom, and each gets its share."""
    alone = {_kind(figure): figure.values for figure in figures if ": 1 process " in figure.case}
    for figure in figures:
        fleet = _kind(figure)
        if fleet in alone and ": 1 process " not in figure.case:
            lost = alone[fleet]["efficiency"] - figure.values["efficiency"]
            yield Target(f"{figure.case}: efficiency lost beside one process", lost, 0.03)
            yield Target(f"{figure.case}: submits refused", figure.values["refused_submits"], 0.05)
            yield Target(f"{figure.case}: queries refused", figure.values["queries_refused"], 0.0)
            yield Target(f"{figure.case}: evenness (Jain's index)", figure.values["evenness"], 0.95, is_least=True)
            yield Target(f"{figure.case}: CPU over that of one", figure.values["cpu_s"] / alone[fleet]["cpu_s"], 2.0)


def _kind(figure: Figure) -> tuple[str, str]:
    """The fleet, and the engine of its journal."""
    fleet, _, processes = figure.case.partition(":")
    return fleet, processes.partition(" on ")[2]


# --- One of the processes --------------------------------------------------------------------------------------------


async def work(url: str, journal: str, name: str, jobs: int) -> None:
    """A session that streams ``jobs`` jobs on a signal."""
    async with AsyncSession(api_key=DEFAULT_API_KEY, base_url=url, journal=journal) as session:
        print("ready", flush=True)
        await anyio.to_thread.run_sync(sys.stdin.readline)
        cpu_s, at, lengths_s = time.process_time(), list[float](), list[float]()
        async for outcome in session.stream(_jobs(name, jobs)):
            if not isinstance(outcome, Success):
                raise outcome.error
            at.append(time.monotonic())
            lengths_s.append(outcome.video.seconds_taken or 0.0)
        cpu_s = time.process_time() - cpu_s
    print(json.dumps({"at": at, "lengths_s": lengths_s, "cpu_s": cpu_s}), flush=True)


def _jobs(name: str, jobs: int) -> Iterator[ImageToVideo]:
    for number in range(jobs):
        yield ImageToVideo("https://example.com/cat.jpg", prompt=f"{name}: job {number}")


if __name__ == "__main__":
    asyncio.run(work(*json.loads(sys.argv[1])))
