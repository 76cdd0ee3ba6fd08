"""The handle that a caller holds on a job."""

from __future__ import annotations

import asyncio
import copy
from collections.abc import AsyncGenerator, Generator

from hailuo_async._engine.tracked_job import TrackedJob
from hailuo_async.errors import HailuoError, SessionClosedError
from hailuo_async.jobs import Job
from hailuo_async.outcomes import Status, Video


class Generation:
    """A job that a session has taken: await it for its ``Video``, or look where it stands.

    Any number of tasks may wait for one generation. Cancelling one of them cancels only that wait: the job goes on, as
    it may be paid for already. It lives on the loop of its session; looking at its attributes is free everywhere.
    """

    __slots__ = ("_loop", "_work")

    def __init__(self, tracked: TrackedJob, loop: asyncio.AbstractEventLoop) -> None:
        self._work = tracked
        self._loop = loop

    def __repr__(self) -> str:
        return f"<Generation {self._work.name} {self.status}{f' task {self.task_id}' if self.task_id else ''}>"

    @property
    def job(self) -> Job | None:
        """What was asked for; ``None`` for a task that was attached without it."""
        return self._work.job

    @property
    def key(self) -> str | None:
        """The caller's own name for the job."""
        return self._work.key

    @property
    def status(self) -> Status:
        """Where it stands, as far as it is known."""
        return self._work.status

    @property
    def task_id(self) -> str | None:
        """The service's name for the task, once it was accepted."""
        return self._work.task_id

    def __await__(self) -> Generator[object, None, Video]:
        """Its ``Video``. Raises the ``HailuoError`` that it ended in, with its ``task_id`` if it was accepted."""
        return self._video().__await__()

    async def _video(self) -> Video:
        tracked = self._here()
        await tracked.ended()
        if tracked.video is None:
            raise _own_copy(tracked.error)
        return tracked.video

    async def accepted(self) -> str:
        """The task id, as soon as the service has accepted the job. Raises what it ended in if it never was.

        Cancelling it cancels only this wait.
        """
        tracked = self._here()
        while tracked.status in (Status.QUEUED, Status.SENDING):
            await tracked.changed()
        if tracked.task_id is None:
            raise _own_copy(tracked.error)
        return tracked.task_id

    async def updates(self) -> AsyncGenerator[Status]:
        """Its status now, and then every change, up to the final one. A slow reader misses none."""
        tracked = self._here()
        seen = len(tracked.history) - 1
        while True:
            while seen < len(tracked.history):
                status = tracked.history[seen]
                seen += 1
                yield status
                if status.is_final:
                    return
            await tracked.changed()

    def _here(self) -> TrackedJob:
        if asyncio.get_running_loop() is not self._loop:
            raise SessionClosedError(reason="this generation belongs to another event loop", task_id=self.task_id)
        return self._work


def _own_copy(error: HailuoError | None) -> HailuoError:
    """Each waiter raises an error of its own: one that is shared would gather the tracebacks of all of them."""
    if error is None:
        raise RuntimeError("a generation ended without a video and without an error")
    own = copy.copy(error)
    own.__cause__ = error.__cause__
    return own
