"""Runs a batch through a session, saves each video as it comes, and tells what became of every job.

Three things go on at once, and none waits for another: jobs are fed to the stream, what comes out of it is saved and
told, and the screen is drawn. What is written goes through a thread, as a pipe or a terminal may take it slowly.
"""

from __future__ import annotations

import contextlib
import math
from collections import Counter
from collections.abc import AsyncGenerator, Callable, Mapping
from pathlib import Path

import anyio
import anyio.to_thread
import attrs
from anyio.streams.memory import MemoryObjectReceiveStream, MemoryObjectSendStream

from hailuo_async._cli.batch.lines import JobResult, Line, failed
from hailuo_async._cli.batch.progress import Screen
from hailuo_async._cli.batch.tally import Tally
from hailuo_async._cli.interrupts import interruptible
from hailuo_async._cli.output import say
from hailuo_async.errors import HailuoError
from hailuo_async.jobs import Job
from hailuo_async.outcomes import Outcome, Success
from hailuo_async.session import AsyncSession

#: Videos fetched at the same time, and videos that may wait for it before no more jobs are given.
_DOWNLOADS, _UNSAVED = 4, 256
#: Jobs given to the stream ahead of their slots. It would take more, but then it would not ask for the next one at
#: once, which is how it is told to stop.
_AHEAD = 8
#: How often it is looked whether a job has got its slot, which nobody tells.
_LOOK_EVERY_S = 0.1
#: What a quit gives the POSTs under way, so that their task ids are known.
_QUIT_GRACE_S = 3.0


class _Stopped(Exception):
    """Raised where jobs come from, so that the stream sends nothing more, and ends when what runs has ended."""


@attrs.define(eq=False)
class Batch:
    """Jobs with keys of their own, the files for their videos, and what has become of them so far.

    It can be asked at any moment, also when a run was broken off. ``told`` is given each line as it comes, on a thread.
    """

    jobs: Mapping[str, Job]
    targets: Mapping[str, Path]
    told: Callable[[Line], None]
    there: Mapping[str, Path] = attrs.field(factory=dict)
    """The files of an earlier run, by the keys of their jobs. Jobs that are not among ``jobs`` have ended with that."""
    max_jobs: int | None = None
    lines: dict[str, Line] = attrs.field(factory=dict, init=False)
    """By the keys of the jobs that have ended."""
    stopped_by: HailuoError | None = attrs.field(default=None, init=False)
    """What every further job would have met."""
    is_interrupted: bool = attrs.field(default=False, init=False)
    elapsed_s: float = attrs.field(default=0.0, init=False)
    _fates: Counter[JobResult] = attrs.field(factory=Counter, init=False)
    _total: int = attrs.field(init=False)
    _given: int = attrs.field(default=0, init=False)
    _ended: int = attrs.field(default=0, init=False)
    _saving: int = attrs.field(default=0, init=False)
    _began_at: float = attrs.field(default=0.0, init=False)
    _downloads: anyio.CapacityLimiter = attrs.field(factory=lambda: anyio.CapacityLimiter(_DOWNLOADS), init=False)
    _woken: anyio.Event = attrs.field(factory=anyio.Event, init=False)
    """Set when there may be room for the next job, or none is to come."""

    @_total.default
    def _count(self) -> int:
        return len(self.jobs.keys() | self.there.keys())

    async def run(self, session: AsyncSession, screen: Screen) -> None:
        """Sends the jobs and saves their videos. Each may be paid for.

        Returns when all is done, or it was interrupted, or stopped by what every further job would have met. After an
        interrupt that did not wait, the session is closed.
        """
        self._began_at = anyio.current_time()
        with anyio.CancelScope() as scope, interruptible(lambda: self._stop(session), scope.cancel):
            async with anyio.create_task_group() as showing:
                showing.start_soon(self._show, session, screen)
                await self._work(session)
                showing.cancel_scope.cancel()
            await self._show_now(session, screen)
        if scope.cancel_called:
            self.is_interrupted = True
            say("hailuo-async: quitting; what runs goes on at the service")
            await session.aclose(_QUIT_GRACE_S)

    def _stop(self, session: AsyncSession) -> None:
        self.is_interrupted = True
        self._woken.set()
        running = session.stats().running
        say(f"hailuo-async: nothing more is sent; {running} running are waited for. Once more to quit at once")

    # --- Jobs in, outcomes out ---

    async def _work(self, session: AsyncSession) -> None:
        send, receive = anyio.create_memory_object_stream[Line](math.inf)
        async with receive, anyio.create_task_group() as telling:
            telling.start_soon(self._tell_all, receive)
            async with send:
                for key in self.there.keys() - self.jobs.keys():
                    self._note(Line(key=key, fate=JobResult.THERE, path=self.there[key]), send)
                await self._stream(session, send)

    async def _stream(self, session: AsyncSession, send: MemoryObjectSendStream[Line]) -> None:
        async with anyio.create_task_group() as saving:
            try:
                stream = session.stream(self._feed(session), max_jobs=self.max_jobs)
                async with contextlib.aclosing(stream) as outcomes:
                    async for outcome in outcomes:
                        self._ended += 1
                        self._woken.set()
                        saving.start_soon(self._finish, session, outcome, send)
            except _Stopped:
                pass
            except HailuoError as error:
                self.stopped_by = error

    async def _feed(self, session: AsyncSession) -> AsyncGenerator[Job]:
        """The jobs, a few ahead of their slots. Lives as long as the stream, so that it can be stopped to the end."""
        for job in self.jobs.values():
            await self._until(lambda: self._has_room(session))
            self._given += 1
            yield job
        await self._until(lambda: self._ended == len(self.jobs))

    def _has_room(self, session: AsyncSession) -> bool:
        return self._given - self._ended - session.stats().running < _AHEAD and self._saving < _UNSAVED

    async def _until(self, holds: Callable[[], bool]) -> None:
        """Returns when it holds. Raises ``_Stopped`` as soon as nothing more is to be sent."""
        while not self.is_interrupted and not holds():
            self._woken = anyio.Event()
            with anyio.move_on_after(_LOOK_EVERY_S):
                await self._woken.wait()
        if self.is_interrupted:
            raise _Stopped

    async def _finish(self, session: AsyncSession, outcome: Outcome, send: MemoryObjectSendStream[Line]) -> None:
        key = outcome.key or ""
        if isinstance(outcome, Success):
            self._note(await self._save(session, key, outcome), send)
        else:
            self._note(failed(key, outcome.error), send)

    async def _save(self, session: AsyncSession, key: str, success: Success) -> Line:
        video = success.video
        self._saving += 1
        try:
            async with self._downloads:
                path = await session.download(video, self.targets[key])
            size = (await anyio.Path(path).stat()).st_size
        except HailuoError as error:
            return failed(key, error)
        finally:
            self._saving -= 1
            self._woken.set()
        fate = JobResult.THERE if key in self.there else JobResult.SAVED
        return Line(key=key, fate=fate, path=path, task_id=video.task_id, seconds_taken=video.seconds_taken, size=size)

    # --- Telling ---

    def _note(self, line: Line, send: MemoryObjectSendStream[Line]) -> None:
        self.lines[line.key] = line
        self._fates[line.fate] += 1
        send.send_nowait(line)

    async def _tell_all(self, receive: MemoryObjectReceiveStream[Line]) -> None:
        async for line in receive:
            await anyio.to_thread.run_sync(self.told, line)

    async def _show(self, session: AsyncSession, screen: Screen) -> None:
        while True:
            await self._show_now(session, screen)
            await anyio.sleep(screen.every_s)

    async def _show_now(self, session: AsyncSession, screen: Screen) -> None:
        self.elapsed_s = anyio.current_time() - self._began_at
        there, unknown = self._fates[JobResult.THERE], self._fates[JobResult.UNKNOWN]
        saved = self._fates[JobResult.SAVED] + there
        tally = Tally.of(
            session.stats(),
            total=self._total,
            saving=self._saving,
            saved=saved,
            there=there,
            failed=len(self.lines) - saved - unknown,
            unknown=unknown,
            elapsed_s=self.elapsed_s,
            is_stopping=self.is_interrupted,
        )
        await anyio.to_thread.run_sync(screen.show, tally)
