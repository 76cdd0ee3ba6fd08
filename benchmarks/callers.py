"""What the callers of a session do, at random: they ask for videos in every way, and leave at any moment."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path
from random import Random
from typing import Any

import anyio
import attrs

from benchmarks.books import Books
from benchmarks.journals import Place, Rows
from hailuo_async import AsyncSession, HailuoError, ImageToVideo, JobError, Outcome, Success
from hailuo_async._engine.outcome_stream import OutcomeStream
from hailuo_async._images.frame import inspect_image
from hailuo_async._rules.identity import build_fingerprint
from hailuo_async.hooks import Accepted, Queued, Refused, Sent, SessionEvent

#: After so long a caller leaves; the last waits for its end.
PATIENCE_S = (0.0, 0.001, 0.1, 1.0, 10.0, 60.0, 300.0, None)


class SourceError(Exception):
    """Raised by a source of jobs."""


@attrs.define(eq=False)
class Callers:
    """Chooses what is called, and holds each answer against the books."""

    books: Books
    rng: Random
    jobs: list[ImageToVideo]
    """All jobs that there are, by their keys. Without a journal each is asked for once."""
    is_young: Callable[[str], bool]
    """Whether the service may say that it does not know a task yet."""
    directory: Path
    """Where videos are saved."""
    place: Place

    async def call(self, session: AsyncSession) -> None:
        """Makes one call, and hears what comes of it."""
        calls: dict[Callable[[AsyncSession], Awaitable[None]], float] = {
            self._generate: 5,
            self._submit: 4,
            self._stream: 4,
            self._attach: 2,
            self._download: 2,
            self._hint: 2,
            self._look: 0.5,
        }
        if self.place.is_shared:
            calls |= {self._find: 3, self._resume: 0.5, self._decide: 4}
        [call] = self.rng.choices(list(calls), list(calls.values()))
        try:
            await call(session)
        except HailuoError as error:
            self.books.failed(error)

    async def end_all(self, session: AsyncSession) -> None:
        """Waits for all that is on record, as the last one to do so."""
        async with contextlib.aclosing(session.resume()) as outcomes:
            async for outcome in outcomes:
                self._read(outcome)

    # --- Jobs ---

    def _jobs(self, count: int) -> list[ImageToVideo]:
        if self.place.is_shared:
            jobs = self.rng.sample(self.jobs, min(count, len(self.jobs)))
            return [_edited(job) if self.rng.random() < 0.05 else job for job in jobs]
        return [self.jobs.pop() for _ in range(min(count, len(self.jobs)))]

    def _withdraw(self, jobs: list[ImageToVideo]) -> None:
        self.books.withdrawn.update(job.prompt or "" for job in jobs)

    @contextlib.contextmanager
    def _wanted(self, jobs: list[ImageToVideo]) -> Iterator[None]:
        """Notes, in the end, that no caller wants the jobs any more, if no other asks for them."""
        try:
            yield
        finally:
            if not self.place.is_shared:
                self.books.left((job.prompt or "" for job in jobs), anyio.current_time())

    async def _generate(self, session: AsyncSession) -> None:
        for job in self._jobs(1):
            patience_s = self.rng.choice(PATIENCE_S)
            if patience_s is not None:
                self._withdraw([job])
            with self._wanted([job]), anyio.move_on_after(patience_s):
                video = await session.generate(job, timeout=self.rng.choice((None, None, 50.0, 300.0)))
                self.books.heard(job.prompt, video)

    async def _submit(self, session: AsyncSession) -> None:
        for job in self._jobs(1):
            timeout = self.rng.choice((None, None, None, 100.0))
            generation = await session.submit(job, timeout=timeout)
            if session._settings.keep_jobs and timeout is None and session._settings.timeout is None:
                self.books.promised.add(job.key or "")
            match self.rng.randrange(4):
                case 0:
                    self.books.heard(job.prompt, await generation)
                case 1:
                    task_id = await generation.accepted()
                    self.books.told.add(task_id)
                    self.books.heard(job.prompt, await (await session.attach(task_id)))
                case 2:
                    with anyio.move_on_after(self.rng.choice(PATIENCE_S)):
                        async for _ in generation.updates():
                            pass

    async def _stream(self, session: AsyncSession) -> None:
        jobs = self._jobs(self.rng.randrange(1, 12))
        self._withdraw(jobs)
        rng = self.rng
        options = self._options()
        if not self.place.is_shared:
            self.books.limit((job.prompt or "" for job in jobs), options["max_jobs"], options["max_cost"])
        stream = session.stream(jobs if rng.random() < 0.5 else self._source(jobs), **options)
        read = 0
        leaves_after, stops = rng.randrange(16), rng.random() < 0.5
        may_fail, hooked = contextlib.suppress(SourceError), self._stopping_hook(session, stream, jobs)
        with self._wanted(jobs), hooked, may_fail, anyio.move_on_after(rng.choice(PATIENCE_S)):
            self._stop_later(stream, jobs)
            async with contextlib.aclosing(stream):
                async for outcome in stream:
                    self._read(outcome)
                    read += 1
                    if read == leaves_after and stops:
                        self._stop(stream, jobs)
                    elif read == leaves_after:
                        break
                    if rng.random() < 0.1:
                        await anyio.sleep(rng.choice((0.1, 50.0)))

    async def _source(self, jobs: list[ImageToVideo]) -> AsyncIterator[ImageToVideo]:
        """Jobs that come one by one; some come twice, if they are asked for more than once anyway."""
        pause_s, fails = self.rng.choice((0.0, 0.1, 30.0)), self.rng.random() < 0.2
        again = self.rng.sample(jobs, len(jobs) // 4) if self.place.is_shared else []
        for job in [*jobs, *again]:
            await anyio.sleep(pause_s)
            yield job
        if fails:
            raise SourceError

    def _stop_later(self, stream: OutcomeStream, jobs: list[ImageToVideo]) -> None:
        """Lets another task stop the stream, whether it runs then or has ended."""
        if self.rng.random() < 0.2:
            asyncio.get_running_loop().call_later(self.rng.choice((0.0, 1.0, 60.0)), self._stop, stream, jobs)

    @contextlib.contextmanager
    def _stopping_hook(self, session: AsyncSession, stream: OutcomeStream, jobs: list[ImageToVideo]) -> Iterator[None]:
        """Has the stream stopped by a hook, in the middle of what the session does."""
        kind = self.rng.choice((*[None] * 6, Queued, Sent, Refused, Accepted))

        def stop(event: SessionEvent) -> None:
            if kind is not None and isinstance(event, kind) and event.job in jobs:
                self._stop(stream, jobs)

        session.hooks.append(stop)
        try:
            yield
        finally:
            session.hooks.remove(stop)

    def _stop(self, stream: OutcomeStream, jobs: list[ImageToVideo]) -> None:
        stream.stop()
        if not self.place.is_shared:
            self.books.left((job.prompt or "" for job in jobs), anyio.current_time())

    def _options(self) -> dict[str, Any]:
        rng = self.rng
        return {
            "timeout": rng.choice((None, None, 200.0)),
            "max_jobs": rng.choice((None, None, 5)),
            "max_cost": rng.choice((None, None, "3.0")),
            "share_uploads": rng.random() < 0.5,
            "save_to": rng.choice((None, self.directory)),
        }

    def _read(self, outcome: Outcome) -> None:
        if isinstance(outcome, Success):
            self.books.heard(None if outcome.job is None else outcome.job.prompt, outcome.video)
            if outcome.path is not None:
                self.books.saved(outcome.path, outcome.video.task_id)
        else:
            self.books.failed(outcome.error)

    # --- What is on record ---

    async def _find(self, session: AsyncSession) -> None:
        key = self.rng.choice(self.jobs).key or ""
        with anyio.move_on_after(self.rng.choice(PATIENCE_S)):
            self.books.heard(key, await (await session.find(key)))

    async def _resume(self, session: AsyncSession) -> None:
        with anyio.move_on_after(self.rng.choice(PATIENCE_S)):
            async with contextlib.aclosing(session.resume()) as outcomes:
                async for outcome in outcomes:
                    self._read(outcome)

    async def _decide(self, session: AsyncSession) -> None:
        """Decides on a job in doubt, or that has ended, as its owner who has looked at journal and dashboard."""
        rows = self.place.rows()
        if self.rng.random() < 0.2:
            await self._decide_oddly(session, rows)
            return
        doubts = [key for key, row in rows.items() if row["state"] == "unknown"]
        ends = [key for key, row in rows.items() if row["state"] in ("failed", "success")]
        keys = doubts if doubts and self.rng.random() < 0.8 else ends
        jobs = [job for job in self.jobs if job.key in keys]
        if not jobs:
            return
        job = self.rng.choice(jobs)
        key = job.key or ""
        tasks = self.books.service.ledger.accepted.get(key, [])
        known = [task for task in tasks if task not in self.books.given_up and not self.is_young(task)]
        if key in doubts and known and self.rng.random() < 0.6:
            await session.resolve(key, task_id=known[-1])
        else:
            await self._pay_again(session, job)

    async def _decide_oddly(self, session: AsyncSession, rows: Rows) -> None:
        """Decides on any job, at any moment. The journal refuses what does not fit how the job stands."""
        job = self.rng.choice(self.jobs)
        others = [rows[other.key or ""]["task_id"] for other in self.jobs if other is not job and other.key in rows]
        tasks = [task_id for task_id in others if task_id is not None]
        if tasks and self.rng.random() < 0.3:
            await session.resolve(job.key or "", task_id=self.rng.choice(tasks))
        else:
            await self._pay_again(session, job)

    async def _pay_again(self, session: AsyncSession, job: ImageToVideo) -> None:
        key, forget = job.key or "", self.rng.random() < 0.5
        self.books.counts["decisions"] += 1
        self._withdraw([job])
        take_back = self.books.decide(key, forget=forget)
        try:
            await session.resolve(key, forget=forget, resubmit=not forget)
        except JobError:
            take_back()
            raise
        self.books.decide(key, forget=forget)
        if self.rng.random() < 0.7:
            with anyio.move_on_after(self.rng.choice(PATIENCE_S)):
                self.books.heard(key, await session.generate(job))

    # --- Tasks, hints and the rest ---

    async def _attach(self, session: AsyncSession) -> None:
        with anyio.move_on_after(self.rng.choice(PATIENCE_S)):
            self.books.heard(None, await (await session.attach(self._some_task())))

    async def _download(self, session: AsyncSession) -> None:
        """Saves a video that a caller of any session has got, perhaps long ago."""
        if self.books.videos:
            video = self.rng.choice(self.books.videos)
            with anyio.move_on_after(self.rng.choice(PATIENCE_S)):
                path = await session.download(video, self.directory, overwrite=self.rng.random() < 0.3)
                self.books.saved(path, video.task_id)

    def _some_task(self) -> str:
        tasks = [task for tasks in self.books.service.ledger.accepted.values() for task in tasks]
        tasks = [task for task in tasks if not self.is_young(task)]
        return self.rng.choice(tasks) if tasks and self.rng.random() < 0.8 else f"task-{self.rng.randrange(5)}"

    async def _hint(self, session: AsyncSession) -> None:
        for _ in range(self.rng.choice((1, 3, 100))):
            session.notice(self._some_task())

    async def _look(self, session: AsyncSession) -> None:
        session.stats()
        with anyio.move_on_after(self.rng.choice(PATIENCE_S)):
            await session.account()


def _edited(job: ImageToVideo) -> ImageToVideo:
    return attrs.evolve(job, duration=10)


def fingerprints(job: ImageToVideo) -> list[str]:
    """Those of a job as it is and as it is edited: they begin its names in the journal, if it has no key."""
    frames = {field: inspect_image(field, source, fingerprint=True) for field, source in job.frames.items()}
    return [build_fingerprint(asked, frames) for asked in (job, _edited(job))]
