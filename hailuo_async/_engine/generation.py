"""``Generation``: a caller's handle on a job."""

from __future__ import annotations

import asyncio
import copy
import math
import os
from collections.abc import AsyncGenerator, Generator
from typing import TYPE_CHECKING

import attrs

from hailuo_async._engine.clock import loop_time, running_loop
from hailuo_async.errors import HailuoError, SessionClosedError
from hailuo_async.jobs import Job
from hailuo_async.outcomes import Status, Video

if TYPE_CHECKING:
    from hailuo_async._engine.tracked_job import TrackedJob


_FORKED = (
    "this generation belongs to the process that submitted it: wait for it there, or attach its task in a session here"
)


@attrs.frozen
class Wait:
    """How long one caller waits for a job, from now on."""

    timeout_s: float | None = None
    until: float = attrs.field(init=False)
    """In loop time."""

    @until.default
    def _until(self) -> float:
        return math.inf if self.timeout_s is None else loop_time() + self.timeout_s


class Generation:
    """A job that a session has taken: await it for its ``Video``, or read its status.

    Any number of asyncio tasks may wait for one generation. Cancelling one of them cancels only that wait: the job goes
    on, as it may be paid for already. Waiting needs the session's loop; the attributes can be read anywhere.
    """

    __slots__ = ("_loop", "_pid", "_tracked", "_wait")

    def __init__(self, tracked: TrackedJob, wait: Wait | None = None) -> None:
        self._tracked, self._wait = tracked, wait
        self._loop = asyncio.get_running_loop()
        self._pid = os.getpid()

    def __repr__(self) -> str:
        return f"<Generation {self._tracked.name} {self.status}{f' task {self.task_id}' if self.task_id else ''}>"

    @property
    def job(self) -> Job | None:
        """The job; ``None`` for a task that was attached without it."""
        return self._tracked.job

    @property
    def key(self) -> str | None:
        """The caller's own name for the job."""
        return self._tracked.key

    @property
    def status(self) -> Status:
        """The last known status."""
        return self._tracked.status

    @property
    def task_id(self) -> str | None:
        """The service's name for the task, once it was accepted."""
        return self._tracked.task_id

    def __await__(self) -> Generator[object, None, Video]:
        """Waits for the ``Video``. Raises the job's ``HailuoError`` if it ends without one, with its ``task_id``."""
        return video_of(self._tracked_here(), self._wait).__await__()

    async def accepted(self) -> str:
        """The task id, as soon as the service has accepted the job. Raises the job's error if it ends without one.

        Cancelling the call cancels only this wait.
        """
        tracked = self._tracked_here()
        while tracked.status in (Status.QUEUED, Status.SENDING):
            await tracked.changed()
        if tracked.task_id is None:
            raise _own_copy(tracked.error)
        return tracked.task_id

    async def updates(self) -> AsyncGenerator[Status]:
        """Yields the present status, and then every change up to the final one. A slow reader misses no change.

        Raises no error of the job's: that is for those who await the generation. Left or cancelled, the job goes on.
        """
        tracked = self._tracked_here()
        seen = len(tracked.history) - 1
        while True:
            while seen < len(tracked.history):
                status = tracked.history[seen]
                seen += 1
                yield status
                if status.is_final:
                    return
            await tracked.changed()

    def _tracked_here(self) -> TrackedJob:
        if running_loop() is not self._loop:
            raise SessionClosedError(reason="this generation belongs to another event loop", task_id=self.task_id)
        if os.getpid() != self._pid and not self.status.is_final:  # no thread of the parent's is here, nor its news
            raise SessionClosedError(reason=_FORKED, task_id=self.task_id)
        return self._tracked


async def video_of(tracked: TrackedJob, wait: Wait | None = None) -> Video:
    """Waits for a job's video. Raises the error that it ended in. Cancelling the call cancels only this wait.

    Raises ``WaitTimeoutError`` at the end of ``wait`` if the job goes on for other callers.
    """
    await tracked.ended(math.inf if wait is None else wait.until)
    if tracked.video is not None:
        return tracked.video
    if tracked.error is None and wait is not None and wait.timeout_s is not None:
        raise tracked.out_of_time(wait.timeout_s)
    raise _own_copy(tracked.error)


def _own_copy(error: HailuoError | None) -> HailuoError:
    """A copy of ``error`` for one waiter: a shared one would collect the tracebacks of all waiters."""
    if error is None:
        raise RuntimeError("a generation ended without a video and without an error")
    own = copy.copy(error)
    own.__cause__ = error.__cause__
    return own
