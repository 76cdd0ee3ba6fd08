"""Sends jobs, each at most once unless it certainly was not accepted.

One queue, first come first served; one loop that draws from it when the gate opens; one task for each POST under way.
No caller owns a POST, so no caller's cancellation can tear one. Before the POST counts as sent, the submitter decides
whether it may leave: the journal has it on record, no other session took the job over, and a caller still wants it.

``decipher`` reads the answer; this table says what follows:

    accepted        the task id is kept, recorded, and given to the poller
    refused         429: back to where it was in the queue, the gate knows when to go on. 401, 402: this job and all
                    that wait end unsent. Any other refusal: this job ends
    unsent          back to where it was in the queue, while there is time
    unknown         the job ends as ``SubmissionUnknownError``; it is sent again only with ``on_unknown="resubmit"``

A POST that is torn, because the session is closed and its grace is over, is unknown too, unless its body was not begun.
"""

from __future__ import annotations

import asyncio
import copy
import itertools
import logging
from collections.abc import Callable

import attrs

from hailuo_async._engine.clock import running_clock, wall_clock
from hailuo_async._engine.events import EventEmitter
from hailuo_async._engine.gate import Gate
from hailuo_async._engine.queue import SubmitQueue
from hailuo_async._engine.recording import Recorder
from hailuo_async._engine.session_state import SessionState
from hailuo_async._engine.signal import Signal
from hailuo_async._engine.tracked_job import TrackedJob
from hailuo_async._engine.workers import Cuttable
from hailuo_async._io.journal.records import Permit
from hailuo_async._io.transport import Transport, was_begun
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
from hailuo_async.outcomes import Status

logger = logging.getLogger("hailuo_async")

#: Seconds to wait for the answer to a POST, beside the time that its body needs.
ANSWER_TIMEOUT_S = 60.0
#: An upload slower than this has stalled: 26 MB of base64 get seven minutes.
SLOWEST_UPLOAD_BYTES_PER_S = 64 * 1024
#: A job's deadline shortens the wait for its POST's answer, but not below this: giving up early leaves a doubt.
SHORTEST_ANSWER_TIMEOUT_S = 10.0
#: A job without a deadline of its own ends after so many seconds in which the service could not be reached.
UNREACHABLE_FOR_S = 300.0
#: POSTs begun in one loop iteration. Three hundred at once, each with its connection, held the loop for over 30 ms.
MAX_AT_ONCE = 16
#: How often one job is sent again after a doubt, with ``on_unknown="resubmit"``. Each POST may be paid for.
MAX_RESUBMITS = 3

_TORN = unknown("the session was closed before the answer came")
#: By a trace of the caller's aiohttp session, or a hook. It may happen again at once: the gate waits between tries.
_CUT_BY_OTHERS = unsent("another part of this program cancelled the request before it was sent: correct that")
_NOT_BEGUN = unsent("the session was closed before it was sent", ConnectionAbortedError())


@attrs.define(eq=False)
class Submitter:
    """Owns the queue, and the POSTs under way."""

    _gate: Gate
    _transport: Transport
    _recorder: Recorder
    _origin: str
    _resubmits: bool
    _emitter: EventEmitter
    _session_state: SessionState
    follow: Callable[[TrackedJob], None] = attrs.field(default=lambda _: None, init=False)
    """Gets each job that another session took over before its POST."""
    _queue: SubmitQueue = attrs.field(factory=SubmitQueue, init=False)
    _filled: Signal = attrs.field(factory=Signal, init=False)
    under_way: int = attrs.field(default=0, init=False)
    """Jobs whose POST was sent, or is about to be."""
    landed: Signal = attrs.field(factory=Signal, init=False)
    """Notified when ``under_way`` falls."""
    _now: Callable[[], float] = attrs.field(factory=running_clock, init=False)

    @property
    def queued(self) -> int:
        """Jobs that wait for a slot."""
        return len(self._queue)

    @property
    def standing(self) -> int:
        """Jobs that wait for a slot, of each stream only the one that is sent next."""
        return self._queue.standing

    def put_nowait(self, tracked: TrackedJob) -> None:
        """Puts a job into the queue."""
        self._queue.put(tracked)
        self._filled.notify()
        if self._recorder.team is not None:
            self._recorder.team.line.stand()

    @property
    def waits_since(self) -> float | None:
        """Since when the first job waits, in loop time, if only the limits of a team keep it from leaving."""
        first = self._queue.first()
        return None if first is None or not self._gate.is_open_here(first.is_heavy) else first.waits_since

    def drop_nowait(self, tracked: TrackedJob) -> None:
        """Takes a job out of the queue, if it is there. It was not sent, and costs nothing."""
        if self._queue.take(tracked):
            self._gate.wake()  # the next one may need less

    def drop_all_nowait(self, event: Event, build: Callable[[], HailuoError]) -> None:
        """Ends every job that has not been sent, each with an error of its own. In a journal they stay intended."""
        for tracked in self._queue.take_all():
            if not tracked.status.is_final:  # a stream that ends with one job withdraws its other jobs itself
                tracked.fail(event, build())

    async def run(self) -> None:
        """Draws from the queue, and sends each job in a task of its own, until the engine has ended."""
        for sent in itertools.count(1):
            while not self._queue:
                await self._filled.wait()
            await self._gate.wait_for_submit(self._is_first_heavy)
            if (first := self._queue.first()) is not None:
                self._send_nowait(first)
            if sent % MAX_AT_ONCE == 0:
                await asyncio.sleep(0)

    def _is_first_heavy(self) -> bool:
        first = self._queue.first()
        return first is not None and first.is_heavy

    async def wait_idle(self, until: Callable[[], float]) -> None:
        """Returns when no POST is under way, or at the loop's time ``until``, which may change at each ``landed``."""
        while self.under_way and (left_s := until() - self._now()) > 0:
            await self.landed.wait(left_s)

    def _send_nowait(self, tracked: TrackedJob) -> None:
        self._queue.take(tracked)
        acquired_at = self._gate.acquire_submit(tracked.is_heavy)
        self.under_way += 1
        # An engine that ends cuts the POST only before its answer is there: an answer is always put on record.
        cuttable = Cuttable()
        self._session_state.start(self._send(tracked, acquired_at, cuttable), cancel=cuttable.cut)

    async def _send(self, tracked: TrackedJob, acquired_at: float, cuttable: Cuttable) -> None:
        posted_at, may_post = wall_clock(), False
        may_go_on = self._recorder.ownership_check()
        permit = Permit.GRANTED if may_go_on is None else Permit.LATER  # until a journal has answered
        try:
            if may_go_on is not None:  # with a journal
                with cuttable:
                    permit = await self._recorder.sending(tracked, posted_at)
            may_post = await self._may_post(tracked, permit)
            if may_post and tracked.request is not None:
                request = tracked.request if may_go_on is None else attrs.evolve(tracked.request, may_go_on=may_go_on)
                await self._post(tracked, request, acquired_at, posted_at, cuttable)
        except JournalError as error:
            await self._not_permitted(tracked, error)
        except Exception:
            logger.exception("a bug ended the sending of job %s: please report this", tracked.name)
            self._doubt_nowait(tracked)
        finally:
            if not may_post and permit is Permit.LATER and self._recorder.team is not None:
                self._gate.submit_not_granted(tracked.is_heavy)  # the team holds nothing for it
            elif not may_post:
                self._gate.submit_withdrawn(acquired_at, tracked.is_heavy)
            self.under_way -= 1
            self.landed.notify()

    # --- Before the POST ---

    async def _may_post(self, tracked: TrackedJob, permit: Permit) -> bool:
        """Whether the POST may leave: it is on record, no other session took the job over, and it is still wanted.

        The job stays queued meanwhile: a caller that leaves, a deadline and a close still cost nothing.
        """
        if tracked.status.is_final:
            if permit is Permit.GRANTED:  # the journal counts it as sent: without this note a later run would doubt it
                await self._recorder.withdrawn(tracked)
        elif permit is Permit.LATER:
            self.put_nowait(tracked)
        elif permit is Permit.TAKEN:
            self.follow(tracked)
        elif not self._session_state.is_open:
            await self._recorder.unsent(tracked)
            if not tracked.status.is_final:  # its caller may have left while that was written
                tracked.fail(Event.ABANDON, self._session_state.error())
        else:
            return True
        return False

    async def _not_permitted(self, tracked: TrackedJob, error: JournalError) -> None:
        """Puts the job back into the queue after an outage of the journal; any other error of the journal ends it."""
        if tracked.status.is_final:  # the permit may be on record, and is taken back: then it is no longer ours
            self._recorder.let_go_nowait(tracked)
        elif not error.is_outage:
            await self._give_up(tracked, error)
        elif self._session_state.is_open:
            self.put_nowait(tracked)
        else:
            tracked.fail(Event.ABANDON, self._session_state.error())

    # --- The POST, and what follows from its answer ---

    async def _post(
        self, tracked: TrackedJob, request: Request, acquired_at: float, posted_at: float, cuttable: Cuttable
    ) -> None:
        tracked.sent_at, answer = acquired_at, _TORN
        tracked.attempts += 1
        tracked.move(Event.SEND)
        timeout_s = _answer_timeout_s(request, tracked.seconds_left(self._now()))
        try:
            with cuttable:
                answer = await self._transport.send(request, timeout_s)
        except asyncio.CancelledError as cancellation:
            if not was_begun(cancellation):
                answer = _CUT_BY_OTHERS if self._session_state.is_open else _NOT_BEGUN
            raise
        except Exception as error:  # from a caller's own transport, which does not say how far the POST came
            logger.exception("the transport raised: correct it, as a transport must return an answer instead")
            answer = unknown(f"the transport raised {type(error).__name__}")
        finally:
            # Every await in here is shielded and bounded by the recorder: a torn POST is settled like any other.
            await self._settle(tracked, answer, posted_at)

    async def _settle(self, tracked: TrackedJob, answer: Answer, posted_at: float) -> None:
        answer = read_submit(answer)
        self._gate.submit_answered(answer, tracked.sent_at, tracked.is_heavy)
        match answer.verdict:
            case Verdict.ACCEPTED:
                await self._accept(tracked, answer)
            case Verdict.REFUSED:
                await self._refuse(tracked, answer)
            case Verdict.UNSENT:
                await self._retry(tracked, answer)
            case Verdict.UNKNOWN:
                await self._doubt(tracked, answer, posted_at)

    async def _accept(self, tracked: TrackedJob, answer: Answer) -> None:
        tracked.task_id, tracked.trouble = answer.task_id, None
        tracked.request = None  # never sent again: what it holds in memory, as the PNG of a PIL image, may go
        tracked.query_path = read_query_path(answer.data, self._origin)
        tracked.created_at = answer.rate_headers.date
        await self._recorder.accepted(tracked, wall_clock())
        tracked.accepted_at = self._now()
        tracked.move(Event.ACCEPT)

    async def _refuse(self, tracked: TrackedJob, answer: Answer) -> None:
        self._emitter.refused(tracked, answer)
        tracked.trouble = None  # a refusal is an answer
        if answer.refusal in (Refusal.REQUEST_RATE, Refusal.RUNNING_LIMIT):
            await self._wait_again(tracked)
        else:
            await self._give_up(tracked, build_error(answer))

    async def _retry(self, tracked: TrackedJob, answer: Answer) -> None:
        self._emitter.refused(tracked, answer)
        problem, tracked.trouble = answer.problem, answer.message
        if isinstance(problem, HailuoError) and not (isinstance(problem, JournalError) and problem.is_outage):
            await self._give_up(tracked, problem)
        elif problem is None and tracked.timeout_s is None and self._unreachable_s(tracked) >= UNREACHABLE_FOR_S:
            await self._give_up(tracked, ServiceUnavailableError(message=answer.message))
        else:
            await self._wait_again(tracked)

    def _unreachable_s(self, tracked: TrackedJob) -> float:
        """For how long its POSTs have failed. While it waited for a slot, others may have reached the service."""
        now = self._now()
        tracked.unsent_since = max(min(now, tracked.unsent_since), self._gate.unreachable_since)
        return now - tracked.unsent_since

    async def _doubt(self, tracked: TrackedJob, answer: Answer, posted_at: float) -> None:
        error = SubmissionUnknownError(
            reason=answer.message,
            key=tracked.key or tracked.identity,
            sent_at=posted_at,
            task_id=answer.task_id,
            request_id=answer.request_id,
        )
        # A task that the service named exists: another POST would pay twice, even with on_unknown="resubmit".
        may_repeat = self._resubmits and tracked.resubmits < MAX_RESUBMITS and answer.task_id is None
        if may_repeat and tracked.payment.reserve_again():
            tracked.resubmits += 1
            tracked.doubt = error
            message = "job %s is sent again, and may be paid for twice: %s; on_unknown='raise' would let you decide"
            logger.warning(message, tracked.name, answer.message)
            await self._recorder.sent_again(tracked)
            self._put_back(tracked)
            return
        advice = "attach() waits for that task" if answer.task_id else "look on the service's dashboard"
        logger.warning("%s: %s before you send it again", error, advice)
        await self._recorder.unknown(tracked, error)
        tracked.fail(Event.DOUBT, error)

    def _doubt_nowait(self, tracked: TrackedJob) -> None:
        """Ends a job after a bug in its sending. Its status says whether the POST may have left."""
        if tracked.status is Status.SENDING:
            reason = "this library failed while the answer was read: please report this"
            tracked.fail(Event.DOUBT, SubmissionUnknownError(reason=reason, key=tracked.key or tracked.identity))
        elif tracked.status is Status.QUEUED:
            tracked.fail(Event.ABANDON, SessionClosedError(reason="this library failed before it was sent"))

    async def _wait_again(self, tracked: TrackedJob) -> None:
        await self._recorder.unsent(tracked)
        self._put_back(tracked)

    def _put_back(self, tracked: TrackedJob) -> None:
        self.put_nowait(tracked)  # before the change: its listeners may take the job out of the queue again
        tracked.move(Event.WAIT_AGAIN)

    async def _give_up(self, tracked: TrackedJob, error: HailuoError) -> None:
        if tracked.doubt is None:
            await self._recorder.refused(tracked, error)
        else:
            await self._recorder.back_in_doubt(tracked, tracked.doubt)
        if not tracked.status.is_final:  # while that was written, a job that was not sent may have been given up
            tracked.fail(Event.REFUSE, error)
        if stops_everything(error) and self.queued:
            message = "nothing more is sent: %s; %d queued jobs end unsent: correct the cause, and give them again"
            logger.warning(message, error, self.queued)
            self.drop_all_nowait(Event.REFUSE, lambda: copy.copy(error))


def _answer_timeout_s(request: Request, left_s: float) -> float:
    """Seconds for the whole exchange: the time for the upload and the answer, or the job's deadline if sooner."""
    longest = ANSWER_TIMEOUT_S + request.length / SLOWEST_UPLOAD_BYTES_PER_S
    return min(longest, max(left_s, SHORTEST_ANSWER_TIMEOUT_S))
