"""Gives each job to the queue, to the poller, or straight to its end; and takes it out again if it is not wanted.

A job comes here from ``Admission``, with its record in the journal if there is one, and is owned here until it ends.
Other rooms change its status, and each change is acted on here, whichever room made it.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable

import attrs

from hailuo_async._engine.clock import running_clock, wall_clock
from hailuo_async._engine.events import EventEmitter
from hailuo_async._engine.following import AT_WORK, Following
from hailuo_async._engine.gate import Gate
from hailuo_async._engine.keeping import Keeper, is_sent_from_here
from hailuo_async._engine.poller import RESULT_KEPT_S, Poller
from hailuo_async._engine.recording import Recorder
from hailuo_async._engine.session_state import SessionState
from hailuo_async._engine.submitter import Submitter
from hailuo_async._engine.tracked_job import TrackedJob
from hailuo_async._io.journal.records import Claim, JournalState, Record
from hailuo_async._rules.lifecycle import Event
from hailuo_async.errors import (
    AuthenticationError,
    HailuoError,
    SessionClosedError,
    SpendingLimitError,
)
from hailuo_async.outcomes import Status

_WITHDRAWN = "the caller left before the job was sent; it cost nothing"


@attrs.define(eq=False)
class Dispatcher:
    """Owns every job that has not ended, and the count of those that have."""

    _submitter: Submitter
    _poller: Poller
    _gate: Gate
    _recorder: Recorder
    _session_state: SessionState
    _emitter: EventEmitter
    _keeper: Keeper | None = None
    following: Following = attrs.field(init=False)
    _listeners: tuple[Callable[[TrackedJob], None], ...] = attrs.field(init=False)
    live: dict[TrackedJob, None] = attrs.field(factory=dict, init=False)
    """Every job that has not ended, in the order of taking."""
    ended: Counter[Status] = attrs.field(factory=Counter, init=False)
    """Counts of the jobs that have ended, by their last status."""
    _by_identity: dict[str, TrackedJob] = attrs.field(factory=dict, init=False)
    _now: Callable[[], float] = attrs.field(factory=running_clock, init=False)

    def __attrs_post_init__(self) -> None:
        self.following = Following(self._session_state, self._recorder.path, self.dispatch, self._give_back)
        self._listeners = (self._forget_if_ended, self._emitter.changed, self._go_on)
        self._poller.expire, self._submitter.follow = self._expire, self.follow

    @property
    def queued(self) -> int:
        """Jobs that wait for a slot."""
        return self._submitter.queued

    def find(self, identity: str | None) -> TrackedJob | None:
        """The job of that name in the journal, if this session has it and it has not ended."""
        return None if identity is None else self._by_identity.get(identity)

    # --- Where it goes ---

    def add(self, tracked: TrackedJob) -> None:
        """Owns one more job, for ``dispatch``. Raises ``SessionClosedError``."""
        self._session_state.check()
        self.live[tracked] = None
        tracked.listeners += self._listeners
        if tracked.identity is not None:
            self._by_identity[tracked.identity] = tracked
        if tracked.timeout_s is not None:
            tracked.set_deadline(tracked.taken_at + tracked.timeout_s, self._expire)

    def prolong(self, tracked: TrackedJob, timeout_s: float | None) -> None:
        """Has a job live on for one more caller, who waits for it so long; ``None``: without limit."""
        if timeout_s is None or tracked.timeout_s is None:
            tracked.timeout_s = None
            tracked.cancel_deadline()
        elif timeout_s > tracked.seconds_left(self._now()):
            tracked.timeout_s = timeout_s
            tracked.set_deadline(self._now() + timeout_s, self._expire)

    def resolve(self, tracked: TrackedJob, record: Record) -> None:
        """Notes that the task of a job without a record of its own is that of a job that was in doubt."""
        self._by_identity.pop(tracked.identity or "", None)
        tracked.key, tracked.identity = record.key, record.identity
        self._by_identity[record.identity] = tracked
        tracked.payment.give_back()
        tracked.payment.adopt(record)

    def dispatch(self, tracked: TrackedJob, claim: Claim | None) -> None:
        """Queues, watches, follows or ends a job, by its record in the journal."""
        if claim is None:
            self._enqueue(tracked)
            return
        # The record is what was paid for. So all states but the first end or continue the job without a POST.
        record = claim.record
        tracked.task_id = record.task_id
        tracked.payment.adopt(record)
        match record.state:
            case JournalState.INTENDED if claim.ours:
                tracked.was_left = claim.was_left
                self._enqueue(tracked)
            case JournalState.ACCEPTED if claim.ours:
                self.wait_for_task(tracked, record.accepted_at)
            case state if state in AT_WORK:
                self.follow(tracked)
                if state is JournalState.ACCEPTED:
                    self.following.accept(tracked, record.task_id)
            case JournalState.SUCCESS:
                self._deliver(tracked, record)
            case _:
                tracked.fail_as_recorded(record)

    def _enqueue(self, tracked: TrackedJob) -> None:
        """Reserves the job's price in its spending limits, and queues it."""
        if tracked.fault is not None:
            tracked.fail(Event.ABANDON, tracked.fault)
            return
        try:
            tracked.payment.reserve()
        except SpendingLimitError as error:
            tracked.fail(Event.ABANDON, error)
        else:
            self._submitter.put_nowait(tracked)
            self._emitter.queued(tracked)

    def wait_for_task(self, tracked: TrackedJob, accepted_at: float | None) -> None:
        """Watches a task that was accepted before: it takes a slot at the service, and may have ended long ago.

        ``accepted_at`` is in Unix seconds, ``None`` if unknown.
        """
        tracked.is_attached = True
        age_s = math.inf if accepted_at is None else max(0.0, wall_clock() - accepted_at)
        tracked.accepted_at = self._now() - age_s
        self._gate.task_adopted()
        if tracked.status is Status.QUEUED:
            tracked.move(Event.ACCEPT)
        else:  # its status is known from the time when another session worked on it
            self._poller.watch_nowait(tracked)

    def follow(self, tracked: TrackedJob) -> None:
        """Waits for the outcome of a job that another session works on and pays for."""
        if tracked.payment.is_reserved and tracked.doubt is None:  # else POSTs of this session may be paid for
            tracked.payment.give_back()
        self.following.add(tracked)

    def _deliver(self, tracked: TrackedJob, record: Record) -> None:
        """Delivers the video on record if its URLs are valid or its file is on the disk, or else queries the task."""
        if record.video is not None and (record.saved_to is not None or not record.is_wiped):
            tracked.succeed(record.video)
        else:
            self.wait_for_task(tracked, None)

    # --- Who no longer wants it ---

    def withhold(self, tracked: TrackedJob) -> None:
        """Sends a job no more. If it may have been accepted, the session still waits for it."""
        if not (tracked.is_shared or tracked.status.is_final):
            tracked.is_withheld = True
            if tracked.status is Status.QUEUED:
                self._drop(tracked, SessionClosedError(reason=_WITHDRAWN))

    def withdraw(self, tracked: TrackedJob) -> None:
        """Withholds a job whose caller leaves, and logs the task id of one that goes on."""
        if not (tracked.is_shared or tracked.status.is_final):
            tracked.caller_left = True
            self.withhold(tracked)
            if tracked.task_id is not None:
                tracked.log_that_it_goes_on()

    # --- Its changes, and its end ---

    def _go_on(self, tracked: TrackedJob) -> None:
        """Acts on a change that does not end the job, no matter which part of the engine made it."""
        if tracked.status.is_final or tracked.status is Status.SENDING:
            return
        if tracked.status is Status.PENDING and not tracked.is_followed:
            self._poller.watch_nowait(tracked)
            if tracked.caller_left:
                tracked.log_that_it_goes_on()
        elif tracked.is_withheld and tracked.status is Status.QUEUED:
            self._drop(tracked, SessionClosedError(reason=_WITHDRAWN))
        if tracked.is_overdue(self._now()):  # a deadline does not cut a POST, so it may have passed
            self._expire(tracked)

    def _expire(self, tracked: TrackedJob) -> None:
        """Ends a job whose deadline has passed. A POST under way may finish first, so that no task id is lost."""
        if tracked.status is Status.SENDING or tracked.status.is_final:
            return
        self._drop(tracked, tracked.out_of_time(RESULT_KEPT_S if tracked.timeout_s is None else tracked.timeout_s))

    def _drop(self, tracked: TrackedJob, error: HailuoError) -> None:
        """Takes a job out of the queue or the poller, and ends it with ``error``."""
        tracked.is_dropped = True
        if tracked.watched is not None:
            self._poller.unwatch_nowait(tracked.watched)
        else:
            self._submitter.drop_nowait(tracked)
        tracked.fail(Event.ABANDON, error)

    def _forget_if_ended(self, tracked: TrackedJob) -> None:
        if not tracked.status.is_final:
            return
        self.live.pop(tracked, None)
        self.ended[tracked.status] += not tracked.is_quiet
        if tracked.identity is not None:
            self._by_identity.pop(tracked.identity, None)
            self._release(tracked, tracked.identity)
        self._count_payment(tracked)

    def _count_payment(self, tracked: TrackedJob) -> None:
        task_id = tracked.task_id if tracked.error is None else tracked.error.task_id  # a doubt may name a task
        has_ended = tracked.status in (Status.SUCCESS, Status.FAILED)
        if has_ended and not isinstance(tracked.error, AuthenticationError):  # which says nothing about the task
            tracked.payment.settle(tracked.cost, task_id)
        elif tracked.status is Status.UNKNOWN or task_id is not None or (tracked.is_followed and tracked.is_dropped):
            tracked.payment.keep(tracked.identity or task_id)
        else:
            tracked.payment.give_back()

    def _release(self, tracked: TrackedJob, identity: str) -> None:
        """Frees a job whose end is not on record for other sessions."""
        if tracked.is_back_in_doubt and tracked.doubt is not None:
            self._recorder.back_in_doubt_nowait(tracked, tracked.doubt)
            return
        is_dropped = self._keeper is not None and self._keeper.end_nowait(tracked, identity)
        if not is_dropped and tracked.status not in (Status.SUCCESS, Status.UNKNOWN):
            self._recorder.release_nowait(tracked)

    def _give_back(self, tracked: TrackedJob, claim: Claim) -> None:
        """Frees a job that was claimed just after its end, unless this session has it again.

        Its owner may have forgotten it meanwhile: then the claim has entered it anew, and another keeper would send it.
        """
        if tracked.identity is None or tracked.identity in self._by_identity:
            return
        if self._keeper is not None and is_sent_from_here(claim) and not claim.was_left:
            self._keeper.drop_nowait(tracked.identity)
        else:
            self._recorder.release_nowait(tracked)
