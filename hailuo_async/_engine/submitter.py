"""Sends jobs, each at most once unless it certainly was not accepted.

One queue, first come first served; one loop that draws from it when the gate opens; one task for each POST under way.
Nobody who waits for a job owns its POST, so nobody's cancellation can tear one.

What an answer means was decided by ``decipher``; what follows from it is this table:

    accepted        the task id is kept, recorded, and handed to the poller
    refused         429: back to the head of the queue, the gate knows when to go on. 401, 402: this job and all that
                    wait end unsent. Anything else: this job ends
    unsent          back to the head of the queue, while there is time
    unknown         the job ends as ``SubmissionUnknownError``; sent again only if the session was told to

A POST that is torn, because the session is closed and its grace is over, is unknown too.
"""

from __future__ import annotations

import contextlib
import copy
import heapq
import logging
import operator
from collections.abc import Callable

import anyio
import attrs
from anyio.abc import TaskGroup

from hailuo_async._engine.clock import loop_time
from hailuo_async._engine.events import EventEmitter
from hailuo_async._engine.gate import Gate
from hailuo_async._engine.journaling import JournalRecorder
from hailuo_async._engine.tracked_job import TrackedJob
from hailuo_async._io.http import Transport
from hailuo_async._rules.lifecycle import Event
from hailuo_async._rules.refusals import build_error, stops_everything
from hailuo_async._rules.wire import Answer, Refusal, Request, Verdict, read_query_path, read_submit, unknown, unsent
from hailuo_async.errors import (
    HailuoError,
    JournalError,
    ServiceUnavailableError,
    SessionClosedError,
    SubmissionUnknownError,
)

logger = logging.getLogger("hailuo_async")

#: How long an answer to a POST is waited for, beside the time that its body needs.
ANSWER_TIMEOUT_S = 60.0
#: An upload slower than this has stalled: 26 MB of base64 get seven minutes.
SLOWEST_UPLOAD_BYTES_PER_S = 64 * 1024
#: A job's deadline shortens the wait for its POST's answer, but not below this: giving up early leaves a doubt.
SHORTEST_ANSWER_TIMEOUT_S = 10.0
#: Without a deadline of its own, a job is given up when the service could not be reached for so long.
UNREACHABLE_FOR_S = 300.0
#: How often one job is sent again after a doubt, where the session was told to. Each time may be paid for.
MOST_RESUBMITS = 3

_NOT_SENT = unsent("the session was closed before it was sent")
_TORN = unknown("the session was closed before the answer came")
_TAKEN = unsent("another session works on it", RuntimeError("taken over"))


def _nobody(tracked: TrackedJob) -> None:
    """Until the intake listens."""


@attrs.define(eq=False)
class Submitter:
    """Owns the queue, and the POSTs under way."""

    _gate: Gate
    _transport: Transport
    _recorder: JournalRecorder
    _origin: str
    _resubmits: bool
    _wall_clock: Callable[[], float]
    _emitter: EventEmitter
    on_landed: Callable[[TrackedJob], None] = attrs.field(default=_nobody, init=False)
    """Told of each job whose POST was accepted, or has to be made again."""
    on_taken: Callable[[TrackedJob], None] = attrs.field(default=_nobody, init=False)
    """Told of each job that another session took over before its POST."""
    _queue: list[tuple[int, TrackedJob]] = attrs.field(factory=list, init=False)
    """A heap by ticket: a job that was refused for want of room goes back to its own place."""
    _filled: anyio.Event = attrs.field(factory=anyio.Event, init=False)
    _under_way: int = attrs.field(default=0, init=False)
    _all_landed: anyio.Event = attrs.field(factory=anyio.Event, init=False)

    @property
    def queued(self) -> int:
        """Jobs that wait for a slot."""
        return len(self._queue)

    def put_nowait(self, tracked: TrackedJob) -> None:
        """Puts a job into the queue, at the place of its ticket."""
        heapq.heappush(self._queue, (tracked.ticket, tracked))
        self._filled.set()

    def drop_nowait(self, tracked: TrackedJob) -> None:
        """Takes a job out of the queue, if it is in it. It was not sent, and costs nothing."""
        if (tracked.ticket, tracked) in self._queue:
            self._queue.remove((tracked.ticket, tracked))
            heapq.heapify(self._queue)

    def drop_all_nowait(self, event: Event, build: Callable[[], HailuoError]) -> None:
        """Ends every job that has not been sent, each with an error of its own. In a journal they stay intended."""
        queue, self._queue = self._queue, []
        for _, tracked in sorted(queue, key=operator.itemgetter(0)):
            if not tracked.status.is_final:  # a stream that ends with one of them takes back the others itself
                tracked.fail(event, build())

    async def run(self, tasks: TaskGroup) -> None:
        """Draws from the queue until the gate is closed for good, and sends each job in a task of its own."""
        with contextlib.suppress(SessionClosedError):
            while True:
                while not self._queue:
                    self._filled = anyio.Event()
                    await self._filled.wait()
                is_heavy = self._queue[0][1].is_heavy
                await self._gate.wait_for_submit(is_heavy)
                if self._queue and self._queue[0][1].is_heavy == is_heavy:
                    _, tracked = heapq.heappop(self._queue)
                    self._send_nowait(tracked, tasks)

    async def landed(self) -> None:
        """Returns when no POST is under way."""
        while self._under_way:
            self._all_landed = anyio.Event()
            await self._all_landed.wait()

    def _send_nowait(self, tracked: TrackedJob, tasks: TaskGroup) -> None:
        tracked.sent_at = self._gate.acquire_submit(tracked.is_heavy)
        tracked.attempts += 1
        self._under_way += 1
        tracked.move(Event.SEND)
        tasks.start_soon(self._send, tracked)

    async def _send(self, tracked: TrackedJob) -> None:
        answer, posted_at = _NOT_SENT, self._wall_clock()
        try:
            if not await self._recorder.sending(tracked, posted_at):
                answer = _TAKEN
            elif tracked.request is not None:
                answer = _TORN
                answer = await self._transport.send(tracked.request, _answer_timeout_s(tracked, tracked.request))
        except JournalError as error:
            answer = unsent(str(error), error)
        finally:
            # Every await in here is shielded and bounded by the books: a cancelled POST is settled like any other.
            await self._settle(tracked, answer, posted_at)
            self._under_way -= 1
            if not self._under_way:
                self._all_landed.set()

    async def _settle(self, tracked: TrackedJob, answer: Answer, posted_at: float) -> None:
        answer = read_submit(answer)
        self._gate.submit_answered(answer, tracked.sent_at, tracked.is_heavy)
        if answer.verdict in (Verdict.REFUSED, Verdict.UNSENT):
            self._emitter.refused(tracked, answer)
        match answer.verdict:
            case Verdict.ACCEPTED:
                await self._accept(tracked, answer)
            case Verdict.REFUSED:
                await self._refuse(tracked, answer)
            case Verdict.UNSENT if answer is _TAKEN:
                tracked.move(Event.WAIT_AGAIN)
                self.on_taken(tracked)
            case Verdict.UNSENT:
                await self._retry(tracked, answer)
            case Verdict.UNKNOWN:
                await self._doubt(tracked, answer, posted_at)

    async def _accept(self, tracked: TrackedJob, answer: Answer) -> None:
        tracked.task_id = answer.task_id
        tracked.query_path = read_query_path(answer.data, self._origin)
        tracked.created_at = answer.hints.date
        await self._recorder.accepted(tracked, self._wall_clock())
        tracked.accepted_at = loop_time()
        tracked.move(Event.ACCEPT)
        self.on_landed(tracked)

    async def _refuse(self, tracked: TrackedJob, answer: Answer) -> None:
        tracked.unsent_since = None
        if answer.refusal in (Refusal.REQUEST_RATE, Refusal.RUNNING_LIMIT):
            await self._wait_again(tracked)
        else:
            await self._give_up(tracked, build_error(answer))

    async def _retry(self, tracked: TrackedJob, answer: Answer) -> None:
        now = loop_time()
        tracked.unsent_since = now if tracked.unsent_since is None else tracked.unsent_since
        if isinstance(answer.problem, HailuoError):
            await self._give_up(tracked, answer.problem)
        elif tracked.timeout_s is None and now - tracked.unsent_since >= UNREACHABLE_FOR_S:
            await self._give_up(tracked, ServiceUnavailableError(message=answer.message))
        else:
            await self._wait_again(tracked)

    async def _doubt(self, tracked: TrackedJob, answer: Answer, posted_at: float) -> None:
        error = SubmissionUnknownError(
            reason=answer.message,
            key=tracked.key or tracked.identity,
            sent_at=posted_at,
            task_id=answer.task_id,
            request_id=answer.request_id,
        )
        # A task that the service named is there: to send the job again would pay for it twice, whoever asked for it.
        if self._resubmits and tracked.resubmits < MOST_RESUBMITS and answer.task_id is None:
            tracked.resubmits += 1
            tracked.doubt = error
            words = "job %s is sent again, and may be paid for twice: %s; on_unknown='raise' would let you decide"
            logger.warning(words, tracked.name, answer.message)
            await self._wait_again(tracked)
            return
        advice = "attach() tells what became of it" if answer.task_id else "look on the service's dashboard"
        logger.warning("%s: %s before you send it again", error, advice)
        await self._recorder.unknown(tracked, error)
        tracked.fail(Event.DOUBT, error)

    async def _wait_again(self, tracked: TrackedJob) -> None:
        await self._recorder.unsent(tracked)
        tracked.move(Event.WAIT_AGAIN)
        self.put_nowait(tracked)
        self.on_landed(tracked)

    async def _give_up(self, tracked: TrackedJob, error: HailuoError) -> None:
        if tracked.doubt is None:
            await self._recorder.refused(tracked, error)
        else:
            await self._recorder.unknown(tracked, tracked.doubt)
        tracked.fail(Event.REFUSE, error)
        if stops_everything(error) and self._queue:
            words = "nothing more is sent: %s; %d queued jobs end unsent: put that right, and give them again"
            logger.warning(words, error, self.queued)
            self.drop_all_nowait(Event.REFUSE, lambda: copy.copy(error))


def _answer_timeout_s(tracked: TrackedJob, request: Request) -> float:
    """Seconds for the whole exchange: as long as the upload may take, and the job's deadline if that comes sooner."""
    longest = ANSWER_TIMEOUT_S + request.length / SLOWEST_UPLOAD_BYTES_PER_S
    return min(longest, max(tracked.seconds_left(loop_time()), SHORTEST_ANSWER_TIMEOUT_S))
