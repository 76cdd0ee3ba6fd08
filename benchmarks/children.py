"""What a soak runs in processes of their own: ``python -m benchmarks.children NAME OPTIONS``.

Each exchanges lines of JSON with its parent, on its standard input and output, and ends when its input does.
One that comes to nothing for too long ends itself, and says on its standard error where it was.
"""

from __future__ import annotations

import asyncio
import contextlib
import faulthandler
import gc
import json
import logging
import os
import resource
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from random import Random
from typing import Any

import anyio
import attrs

from hailuo_async import AsyncSession, HailuoError, ImageToVideo, JournalError, Outcome, SubmissionUnknownError, Success
from hailuo_async.emulator import DEFAULT_API_KEY, Emulator, FaultRates, Faults

#: Bytes of each film of the emulator.
VIDEO_BYTES = 100_000
#: Pictures that all jobs share.
PICTURES = 3
#: Jobs in each burst of the long-lived session: half of them called for one by one, half of them as a stream.
BURST = 40
#: Tasks that the service works on at once.
SLOTS = 8
#: Jobs that each process of a team submits.
SUBMITTED = 25
#: After so long without an end, a program is stuck.
STUCK_S = 120.0

#: Everything that goes wrong but silence: to wait for an answer that never comes takes a minute each time.
FAULTS = Faults(
    submit=FaultRates(
        error_500=0.01,
        cut_before=0.02,
        error_500_after=0.02,
        cut_after=0.02,
        garbage=0.01,
        truncated=0.01,
        missing_fields=0.01,
        extra_fields=0.05,
    ),
    query=FaultRates(
        error_500=0.02,
        cut_before=0.02,
        cut_after=0.02,
        garbage=0.02,
        truncated=0.02,
        unknown_status=0.02,
        wrong_task_id=0.02,
        extra_fields=0.05,
    ),
    download=FaultRates(error_500=0.05, cut=0.05, truncated=0.1),
)


@attrs.frozen
class Told:
    """How a job ended: ``success``, ``unknown`` or ``failure``, its task, and where its video lies."""

    word: str
    task_id: str | None = None
    path: str | None = None


@attrs.frozen
class Size:
    """A process at rest. ``memory_mb`` is what it holds, not the most that it ever held."""

    memory_mb: float
    tasks: int
    files: int


async def service(seed: int, errs: bool = True) -> None:
    """The emulator. To a line that gives the beginning of a prompt, it says which tasks were paid for under each."""
    async with Emulator(
        generation_s=0.25,
        spread=0.8,
        max_running=SLOTS,
        requests_per_minute=None,
        balance=1e12,
        video_size=VIDEO_BYTES,
        faults=FAULTS if errs else Faults(),
        ledger_entries=0,
        seed=seed,
    ) as emulator:
        _say(emulator.url)
        async for start in _heard():
            paid = emulator.ledger.accepted.items()
            _say({prompt: tasks for prompt, tasks in paid if prompt is not None and prompt.startswith(start)})


async def batch(base_url: str, home: str, prompts: list[str], seed: int) -> None:
    """A batch with a journal that is cut short at random, and begun again, until it comes to its end.

    It says ``true`` when it begins, and at the end how often it was cut short and how each job ended.
    """
    rng, cancels = Random(seed), 0
    async with _session(base_url, home) as session:
        _say(True)
        while True:
            told = dict[str, Told]()
            with anyio.move_on_after(rng.uniform(0.0, 0.6) * (cancels + 1)) as patience:
                await _read(session, _jobs(prompts, home), home, told, shares=rng.random() < 0.5)
            if not patience.cancelled_caught:
                break
            cancels += 1
    _say({"cancels": cancels, "told": {prompt: attrs.astuple(each) for prompt, each in told.items()}})


async def member(base_url: str, journal: str, picture: str, prefix: str, seed: int) -> None:
    """One of a team, which submits jobs and says the key of each whose submit has returned. It does not end."""
    rng, content = Random(seed), await anyio.Path(picture).read_bytes()
    async with _opened(base_url, journal) as session:
        for number in range(SUBMITTED):
            key = f"{prefix}-{number}"
            await session.submit(ImageToVideo(content + b"%d" % (number % 5), prompt=key, key=key))
            _say(key)
            await anyio.sleep(rng.uniform(0.0, 0.1))
        await anyio.sleep_forever()


async def heir(base_url: str, journal: str) -> None:
    """Ends what a team has left, and says how many outcomes there were."""
    count = 0
    async with _opened(base_url, journal) as session:
        async for _ in session.resume():
            count += 1
            faulthandler.dump_traceback_later(STUCK_S, exit=True)
    _say(count)


@contextlib.asynccontextmanager
async def _opened(base_url: str, journal: str) -> AsyncIterator[AsyncSession]:
    """A session that keeps jobs. While the journal's server is away, none can open."""
    options: dict[str, Any] = {"journal": journal, "keep_jobs": True, "poll_interval": (0.05, 0.5)}
    async with contextlib.AsyncExitStack() as stack:
        while True:
            with contextlib.suppress(JournalError):
                session = AsyncSession(api_key=DEFAULT_API_KEY, base_url=base_url, **options)
                await stack.enter_async_context(session)
                break
            await anyio.sleep(0.1)
        yield session


async def steady(base_url: str, home: str, seed: int) -> None:
    """A session that lives long. To each line, a name, it makes a burst of jobs, and says its size when all is over."""
    rng = Random(seed)
    async with _session(base_url, home) as session:
        async for name in _heard():
            jobs = _jobs([f"{name} steady {number}" for number in range(BURST)], home)
            async with anyio.create_task_group() as tasks:
                for job in jobs[::2]:
                    tasks.start_soon(_call, session, job, rng.uniform(0.0, 4.0))
                with anyio.move_on_after(rng.uniform(1.0, 4.0)):
                    await _read(session, jobs[1::2], home, {}, shares=True)
            while session.stats().running or session.stats().queued:  # noqa: ASYNC110 (no event tells of rest)
                await anyio.sleep(0.02)
            _say(attrs.astuple(_size()))


def _session(base_url: str, home: str) -> AsyncSession:
    journal = Path(home, "journal.db")
    return AsyncSession(api_key=DEFAULT_API_KEY, base_url=base_url, journal=journal, poll_interval=(0.02, 0.2))


def _jobs(prompts: list[str], home: str) -> list[ImageToVideo]:
    """The same at each run. Every second pair has keys; the pictures lie beside the home."""
    return [
        ImageToVideo(Path(home, f"../{number % PICTURES}.png"), prompt=prompt, key=prompt if number & 2 else None)
        for number, prompt in enumerate(prompts)
    ]


async def _read(
    session: AsyncSession, jobs: list[ImageToVideo], home: str, told: dict[str, Told], *, shares: bool
) -> None:
    stream = session.stream(jobs, save_to=Path(home, "videos"), share_uploads=shares)
    async with contextlib.aclosing(stream) as outcomes:
        async for outcome in outcomes:
            prompt = outcome.job.prompt if outcome.job is not None else None
            told[prompt or ""] = _told(outcome)


def _told(outcome: Outcome) -> Told:
    if isinstance(outcome, Success):
        return Told("success", outcome.video.task_id, str(outcome.path))
    if isinstance(outcome.error, SubmissionUnknownError):
        return Told("unknown")
    print(f"{outcome.job} failed: {outcome.error!r}", file=sys.stderr)
    return Told("failure", outcome.error.task_id)


async def _call(session: AsyncSession, job: ImageToVideo, patience_s: float) -> None:
    with anyio.move_on_after(patience_s), contextlib.suppress(HailuoError):
        await session.generate(job)


def _size() -> Size:
    gc.collect()
    pages = int(Path("/proc/self/statm").read_text("ascii").split()[1])
    files = len(os.listdir("/proc/self/fd"))
    return Size(pages * resource.getpagesize() / 2**20, len(asyncio.all_tasks()), files)


def _say(words: object) -> None:
    print(json.dumps(words), flush=True)


async def _heard() -> AsyncIterator[Any]:
    while line := await anyio.to_thread.run_sync(sys.stdin.readline):
        faulthandler.dump_traceback_later(STUCK_S, exit=True)
        yield json.loads(line)


if __name__ == "__main__":
    faulthandler.dump_traceback_later(STUCK_S, exit=True)
    logging.disable(logging.WARNING)  # what goes wrong here is meant to
    programs = {"service": service, "batch": batch, "steady": steady, "member": member, "heir": heir}
    program = programs[sys.argv[1]]
    asyncio.run(program(**json.loads(sys.argv[2])))  # type: ignore[operator]
