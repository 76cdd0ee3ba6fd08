"""What growth is measured on, in processes of their own: ``python -m benchmarks.workloads NAME OPTIONS``.

Each works against the server at ``base_url`` and prints what it came to, as one line of JSON. A few jobs go first, in a
session of their own, so that what a process does once is not counted as the cost of jobs.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import anyio
import attrs

from hailuo_async import AsyncSession, Failure, ImageToVideo

WARM_UP_JOBS = 10
#: Over a million jobs, so many run at once: the server has no limit, and a million might.
MAX_RUNNING = 100


@attrs.define
class Meter:
    """Wall, CPU and the first outcome of a run, from its making on."""

    _wall: float = attrs.field(factory=time.perf_counter)
    _cpu: float = attrs.field(factory=time.process_time)
    first_s: float = 0.0

    def outcome(self) -> None:
        """An outcome is here; the first one counts."""
        self.first_s = self.first_s or time.perf_counter() - self._wall

    def read(self, jobs: int) -> dict[str, float]:
        """The run is over, after so many jobs."""
        wall_s, cpu_s = time.perf_counter() - self._wall, time.process_time() - self._cpu
        return {
            "cpu_ms_per_job": 1000 * cpu_s / jobs,
            "wall_s": wall_s,
            "first_outcome_s": self.first_s,
            "peak_rss_mb": _peak_rss_mb(),
        }


async def stream(base_url: str, jobs: int, has_journal: bool = False) -> dict[str, float]:
    """One stream over so many jobs, read to its end."""
    with _journal(has_journal) as journal:
        meter = Meter()
        async with _session(base_url, journal) as session:
            async for outcome in session.stream(_jobs(jobs)):
                if isinstance(outcome, Failure):
                    raise outcome.error
                meter.outcome()
        return meter.read(jobs)


async def callers(base_url: str, jobs: int, has_journal: bool = False) -> dict[str, float]:
    """As many tasks as jobs: each submits one, and waits for it."""

    async def call(job: ImageToVideo) -> None:
        await (await session.submit(job))
        meter.outcome()

    with _journal(has_journal) as journal:
        meter = Meter()
        async with _session(base_url, journal) as session, anyio.create_task_group() as tasks:
            for job in _jobs(jobs):
                tasks.start_soon(call, job)
        return meter.read(jobs)


async def million(base_url: str, jobs: int) -> dict[str, float]:
    """A stream over a million jobs that is left after so many outcomes."""
    pulled = 0

    def counted() -> Iterator[ImageToVideo]:
        nonlocal pulled
        for job in _jobs(1_000_000):
            pulled += 1
            yield job

    meter, told, ahead, early_mb = Meter(), 0, 0, 0.0
    session = AsyncSession(api_key="key", base_url=base_url, max_running=MAX_RUNNING)
    async with session, contextlib.aclosing(session.stream(counted())) as outcomes:
        async for _ in outcomes:
            meter.outcome()
            told += 1
            ahead = max(ahead, pulled - told)
            early_mb = early_mb or (_peak_rss_mb() if 10 * told >= jobs else 0.0)
            if told == jobs:
                break
    read = meter.read(jobs)
    return {**read, "pulled_ahead": ahead, "grown_mb": read["peak_rss_mb"] - early_mb}


def _session(base_url: str, journal: Path | None) -> AsyncSession:
    return AsyncSession(api_key="key", base_url=base_url, journal=journal)


@contextlib.contextmanager
def _journal(is_wanted: bool) -> Iterator[Path | None]:
    with tempfile.TemporaryDirectory() as directory:
        yield Path(directory, "journal.db") if is_wanted else None


def _jobs(count: int) -> Iterator[ImageToVideo]:
    for number in range(count):
        yield ImageToVideo("https://example.com/cat.jpg", prompt=f"job {number}")


def _peak_rss_mb() -> float:
    """The most that this process ever held. Not ``ru_maxrss``: a fresh process inherits that from who began it."""
    status = Path("/proc/self/status").read_text("ascii")
    return int(status.partition("VmHWM:")[2].split()[0]) / 1024


async def _main(name: str, options: dict[str, object]) -> None:
    await stream(str(options["base_url"]), WARM_UP_JOBS, "has_journal" in options)
    workload = {"stream": stream, "callers": callers, "million": million}[name]
    print(json.dumps(await workload(**options)))  # type: ignore[arg-type]


if __name__ == "__main__":
    logging.disable(logging.WARNING)  # a stream over a million jobs is left on purpose, while some run
    asyncio.run(_main(sys.argv[1], json.loads(sys.argv[2])))
