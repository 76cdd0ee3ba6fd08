"""Takes jobs, and gives each to the queue, to the poller, or straight to its end.

A job passes here once, in its caller's task: a thread inspects its images, the journal claims the job and returns its
record, and then, without an await in between, the engine owns it. A caller that is cancelled before that has done
nothing; after it, the job no longer depends on its caller.
"""

from __future__ import annotations

import functools
import itertools
import math
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from typing import Any, TypeAlias

import attrs

from hailuo_async._engine.clock import running_clock
from hailuo_async._engine.events import EventEmitter
from hailuo_async._engine.following import AT_WORK, Following
from hailuo_async._engine.gate import Gate
from hailuo_async._engine.inspection import Inspector
from hailuo_async._engine.keeping import Ask, Keeper, is_sent_from_here, prepare, without_pictures
from hailuo_async._engine.poller import RESULT_KEPT_S, Poller
from hailuo_async._engine.quota import Money, Payment, Quota
from hailuo_async._engine.recording import Recorder, is_left_unsent
from hailuo_async._engine.session_state import SessionState
from hailuo_async._engine.shared_uploads import SharedUploads
from hailuo_async._engine.submitter import Submitter
from hailuo_async._engine.tracked_job import Lane, TrackedJob, kind_of
from hailuo_async._images.frame import Frame
from hailuo_async._io.journal.kept import KeptClaim
from hailuo_async._io.journal.records import Claim, Intent, JournalState, Record
from hailuo_async._rules.identity import DuplicateNumbers
from hailuo_async._rules.lifecycle import Event
from hailuo_async._rules.wire import build_submit
from hailuo_async.errors import HailuoError, QueueFullError, SessionClosedError, SpendingLimitError, WaitTimeoutError
from hailuo_async.jobs import Job
from hailuo_async.outcomes import Status
from hailuo_async.settings import Settings

_WITHDRAWN = "the caller left before the job was sent; it cost nothing"

FindFault: TypeAlias = Callable[[], Awaitable[HailuoError | None]]


@attrs.define(eq=False)
class Admission:
    """Owns every job that has not ended, and the count of those that have."""

    _submitter: Submitter
    _poller: Poller
    _gate: Gate
    _recorder: Recorder
    _settings: Settings
    _session_state: SessionState
    _wall_clock: Callable[[], float]
    _emitter: EventEmitter
    money: Money
    keeper: Keeper | None = None
    """Where the journal keeps whole jobs."""
    _inspector: Inspector = attrs.field(factory=Inspector, init=False)
    following: Following = attrs.field(init=False)
    _listeners: tuple[Callable[[TrackedJob], None], ...] = attrs.field(init=False)
    live: dict[TrackedJob, None] = attrs.field(factory=dict, init=False)
    """Every job that has not ended, in the order of taking."""
    ended: Counter[Status] = attrs.field(factory=Counter, init=False)
    """Counts of the jobs that have ended, by their last status."""
    _by_identity: dict[str, TrackedJob] = attrs.field(factory=dict, init=False)
    _duplicates: DuplicateNumbers = attrs.field(factory=DuplicateNumbers, init=False)
    """Numbers of the jobs without a key outside streams. A job that failed keeps its number when it is given again."""
    _numbers: Iterator[int] = attrs.field(factory=itertools.count, init=False)
    _preparing: int = attrs.field(default=0, init=False)
    _now: Callable[[], float] = attrs.field(factory=running_clock, init=False)

    def __attrs_post_init__(self) -> None:
        self.following = Following(self._session_state, self._recorder.path, self._dispatch)
        self._listeners = (self._forget_if_ended, self._emitter.changed, self._go_on)
        if self.keeper is not None:
            self.keeper.on_taken = self.take_over_kept

    @property
    def queued(self) -> int:
        """Jobs whose images are inspected, or that wait for a slot."""
        return self._preparing + self._submitter.queued

    def check_queue(self) -> None:
        """Raises ``QueueFullError`` if the queue is full."""
        if self.queued >= self._settings.max_queued:
            raise QueueFullError(max_queued=self._settings.max_queued)

    async def take(
        self,
        job: Job,
        timeout_s: float | None,
        quotas: tuple[Quota, ...],
        duplicates: DuplicateNumbers | None = None,
        uploads: SharedUploads | None = None,
        find_fault: FindFault | None = None,
        lane: Lane | None = None,
    ) -> TrackedJob:
        """Takes a job: inspects its images, puts it on record, and queues it. Cancelled before that, it costs nothing.

        Of a stream: ``duplicates`` numbers its jobs without a key, ``uploads`` has its shared images. ``find_fault``
        says why the job must not be paid for: then it ends with that error, unless it is paid for already. Raises
        ``ImageError``, ``JournalError``, ``JobError`` (its key names another job), ``SpendingLimitError`` and
        ``SessionClosedError``: in all these cases nothing is paid for.
        """
        asked_at = self._now()
        self._preparing += 1
        try:
            frames = await self._look_at_images(job, uploads)
            fault = None if find_fault is None else await find_fault()
            payment = Payment(quotas, self.money.prices.estimate(job).high)
            intent = self._recorder.build_intent(job, frames, duplicates or self._duplicates, payment.price)
            keeper = None if fault else self.keeper  # what must not be paid for is not kept
            kept, ask = await prepare(self._recorder, keeper, intent, job, frames, is_single=lane is None)
            known, claim = await self._intend(intent, ask, is_counted=duplicates is None)
        finally:
            self._preparing -= 1
        if known is not None:
            known.job = known.job or (job if kept is None else without_pictures(job, kept))
            return self._joined(known)
        names = {} if intent is None else {"identity": intent.identity, "fingerprint": intent.fingerprint}
        facts: dict[str, Any] = {"key": job.key, "lane": lane, "kind": kind_of(job), **names}
        tracked = self._new_tracked_job(asked_at, timeout_s, payment, job=job, **facts)
        tracked.request = request = build_submit(job, frames, self._settings.webhook_url)
        tracked.fault, tracked.is_heavy = fault, request.is_heavy
        if intent is not None:
            tracked.look, tracked.is_counted = ask, job.key is None and duplicates is None
        if self.keeper is not None and kept is not None and is_sent_from_here(claim):
            self.keeper.use_kept(tracked, kept, functools.partial(self._recorder.intend, intent))
        tracked.is_dropped = True  # should it end at once, as it must not be paid for
        self._dispatch(tracked, claim)
        tracked.is_dropped = False
        if isinstance(tracked.error, SpendingLimitError):
            raise tracked.error
        return tracked

    async def _look_at_images(self, job: Job, uploads: SharedUploads | None) -> dict[str, Frame]:
        is_known_again = uploads is not None or self._recorder.has_journal
        frames = await self._inspector.inspect(job, fingerprint=is_known_again)
        self._session_state.check()
        return frames if uploads is None else await uploads.share(frames)

    def take_over_kept(self, claim: KeptClaim) -> None:
        """Sends a job that another session has left in the journal, also for callers who follow it in this session."""
        record = claim.record
        tracked = self._by_identity.get(record.identity)
        if self.keeper is None or not self._session_state.is_open or (tracked and not tracked.is_followed):
            return
        if tracked is None:
            names = {"key": record.key, "identity": record.identity, "fingerprint": record.fingerprint}
            tracked = self._new_tracked_job(self._now(), None, None, kind=kind_of(record), **names)
        if claim.job.asked_at is not None:  # it has its place in the line since then, whichever session it was given to
            tracked.taken_at = min(tracked.taken_at, self._now() - (self._wall_clock() - claim.job.asked_at))
        self.keeper.use_kept(tracked, claim.job, functools.partial(self.keeper.look, record.identity))
        tracked.payment.price = tracked.payment.price or record.price
        self.following.end(tracked, Claim(record, ours=True))

    async def _intend(
        self, intent: Intent | None, ask: Ask, *, is_counted: bool
    ) -> tuple[TrackedJob | None, Claim | None]:
        """The tracked job, if the session works on this job already, or else its record in the journal."""
        if intent is None:
            return None, None
        known = self._by_identity.get(intent.identity)
        if known is not None and known.fingerprint == intent.fingerprint:
            return known, None  # no question to the journal: a caller cancelled in between would free the claim
        try:
            claim = await ask()
        except BaseException:
            if is_counted and intent.key is None:
                self._duplicates.give_back(intent.identity)
            raise
        return self._by_identity.get(intent.identity), claim

    def _joined(self, tracked: TrackedJob) -> TrackedJob:
        """``tracked`` with one more caller: no caller alone can withdraw it."""
        tracked.is_shared, tracked.is_withheld, tracked.is_left, tracked.is_quiet = True, False, False, False
        return tracked

    async def attach(self, task_id: str, timeout_s: float | None, *, is_refresh: bool = False) -> TrackedJob:
        """Waits for a task that was submitted elsewhere or earlier. It is not paid for again.

        ``is_refresh``: queries the service even if the journal has the video, as its URLs may have expired.
        """
        if (known := self._poller.find(task_id)) is not None:
            return self._joined(known)
        self._session_state.check()
        claim = await self._recorder.adopt(task_id)
        identity = "" if claim is None else claim.record.identity
        known = self._poller.find(task_id) or self._by_identity.get(identity)
        if known is not None:
            return self._joined(known)
        if claim is None or (is_refresh and claim.record.state is JournalState.SUCCESS):
            tracked = self._new_tracked_job(self._now(), timeout_s, identity=identity or None, is_quiet=is_refresh)
            tracked.task_id = task_id
            if not is_refresh:
                tracked.payment.adopt(None)
            self._wait_for_task(tracked, None)
            return tracked
        return self._adopt(claim, timeout_s)

    async def recall(self, record: Record) -> TrackedJob:
        """Goes on with a job that an earlier session left in the journal. It is not paid for again.

        A job that was never sent ends in a ``JournalError``: the record has no images, so it cannot be sent.
        """
        if (known := self._by_identity.get(record.identity)) is not None:
            return self._joined(known)
        if record.task_id is not None and record.state is not JournalState.UNKNOWN:
            return await self.attach(record.task_id, None)
        if self.keeper is not None and is_left_unsent(record):
            return await self.find(record.identity)  # the keeper may have taken it over since, and it may have ended
        return self._adopt(Claim(record, ours=False), None)

    async def take_over(self, record: Record) -> None:
        """Waits for a task that a dead session left, in case a caller asks for it. It is not paid for again."""
        tracked, claim = self._by_identity.get(record.identity), Claim(record, ours=True)
        if tracked is None:
            self._adopt(claim, None).is_quiet = True
        elif tracked.is_followed:
            self.following.end(tracked, claim)

    async def find(self, key: str) -> TrackedJob:
        """The job of that key, in any session. Raises ``JobNotFoundError`` and ``JournalError``."""
        if (known := self._by_identity.get(key)) is not None:
            return self._joined(known)
        self._session_state.check()
        claim = await self._recorder.find(key)
        if self.keeper is not None and is_left_unsent(claim.record):
            await self.keeper.take_one(key)
            claim = await self._recorder.find(key)  # another session may have taken it over meanwhile
        if (known := self._by_identity.get(key)) is not None:
            return self._joined(known)
        return self._adopt(claim, None, is_quiet=claim.record.state not in AT_WORK)

    def _adopt(self, claim: Claim, timeout_s: float | None, *, is_quiet: bool = False) -> TrackedJob:
        """A tracked job for a record of the journal, without the job itself."""
        record = claim.record
        facts: dict[str, Any] = {"key": record.key, "identity": record.identity, "kind": kind_of(record)}
        tracked = self._new_tracked_job(self._now(), timeout_s, is_quiet=is_quiet, **facts)
        look = self._recorder.look if self.keeper is None else self.keeper.look
        tracked.look = functools.partial(look, record.identity)
        if is_left_unsent(record):
            tracked.fail(Event.ABANDON, self._recorder.not_sent(record.identity))
        else:
            self._dispatch(tracked, claim)
        return tracked

    def withhold(self, tracked: TrackedJob) -> None:
        """Sends a job no more. If it may have been accepted, the session still waits for it."""
        if not (tracked.is_shared or tracked.status.is_final):
            tracked.is_withheld = True
            if tracked.status is Status.QUEUED:
                self._drop(tracked, SessionClosedError(reason=_WITHDRAWN))

    def withdraw(self, tracked: TrackedJob) -> None:
        """Withholds a job whose caller leaves, and logs the task id of one that goes on."""
        if not (tracked.is_shared or tracked.status.is_final):
            tracked.is_left = True
            self.withhold(tracked)
            if tracked.task_id is not None:
                tracked.log_that_it_goes_on()

    def follow(self, tracked: TrackedJob) -> None:
        """Waits for the outcome of a job that another session works on and pays for."""
        if tracked.payment.is_reserved:
            tracked.payment.give_back()
        self.following.add(tracked)
        if tracked.is_overdue(self._now()):
            self._expire(tracked)

    # --- Preparing ---

    def _new_tracked_job(
        self, taken_at: float, timeout_s: float | None, payment: Payment | None = None, **facts: Any
    ) -> TrackedJob:
        self._session_state.check()
        payment = payment or Payment((self.money.quota,))
        tracked = TrackedJob(next(self._numbers), taken_at, timeout_s=timeout_s, payment=payment, **facts)
        self.live[tracked] = None
        tracked.listeners += self._listeners
        if tracked.identity is not None:
            self._by_identity[tracked.identity] = tracked
        if timeout_s is not None:
            tracked.set_deadline(taken_at + timeout_s, self._expire)
        return tracked

    def _go_on(self, tracked: TrackedJob) -> None:
        """Acts on a change that does not end the job, no matter which part of the engine made it."""
        if tracked.status.is_final:
            return
        if tracked.status is Status.PENDING and not tracked.is_followed:
            self._watch(tracked)
            if tracked.is_left:
                tracked.log_that_it_goes_on()
        elif tracked.status is Status.QUEUED and tracked.is_withheld:
            self._drop(tracked, SessionClosedError(reason=_WITHDRAWN))
        if tracked.is_overdue(self._now()):  # a deadline does not cut a POST, so it may have passed
            self._expire(tracked)

    def _forget_if_ended(self, tracked: TrackedJob) -> None:
        if not tracked.status.is_final:
            return
        self.live.pop(tracked, None)
        self.ended[tracked.status] += not tracked.is_quiet
        if tracked.identity is not None:
            self._by_identity.pop(tracked.identity, None)
            self._release(tracked, tracked.identity)
        tracked.payment.end(tracked.status, tracked.identity, tracked.cost, has_task=tracked.task_id is not None)

    def _release(self, tracked: TrackedJob, identity: str) -> None:
        """Frees a job whose end is not on record for other sessions, and the number of one that made no video."""
        is_dropped = self.keeper is not None and self.keeper.end_nowait(tracked, identity)
        if not is_dropped and tracked.status not in (Status.SUCCESS, Status.UNKNOWN):
            self._recorder.release_nowait(tracked)
        if tracked.is_counted and tracked.status not in (Status.SUCCESS, Status.FAILED):
            self._duplicates.give_back(identity)

    def _dispatch(self, tracked: TrackedJob, claim: Claim | None) -> None:
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
                self._enqueue(tracked)
            case JournalState.ACCEPTED if claim.ours:
                self._wait_for_task(tracked, record.accepted_at)
            case state if state in AT_WORK:
                self.follow(tracked)
            case JournalState.SUCCESS:
                self._deliver(tracked, record)
            case _:
                tracked.fail_as_recorded(record)

    def _enqueue(self, tracked: TrackedJob) -> None:
        """Reserves the job's price in its quotas, and queues it."""
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

    def _wait_for_task(self, tracked: TrackedJob, accepted_at: float | None) -> None:
        """Watches a task that was accepted before: it takes a slot at the service, and may have ended long ago.

        ``accepted_at`` is in Unix seconds, ``None`` if unknown.
        """
        tracked.is_attached = True
        age_s = math.inf if accepted_at is None else max(0.0, self._wall_clock() - accepted_at)
        tracked.accepted_at = self._now() - age_s
        self._gate.task_adopted()
        if tracked.status is Status.QUEUED:
            tracked.move(Event.ACCEPT)
        else:  # its status is known from the time when another session worked on it
            self._watch(tracked)

    def _watch(self, tracked: TrackedJob) -> None:
        if tracked.timeout_s is None:
            tracked.set_deadline(self._now() + RESULT_KEPT_S, self._expire)
        self._poller.watch_nowait(tracked, ask_now=tracked.is_attached)

    def _deliver(self, tracked: TrackedJob, record: Record) -> None:
        """Delivers the video on record if its URLs are valid or its file is on the disk, or else queries the task."""
        if record.video is not None and (record.saved_to is not None or not record.is_wiped):
            tracked.succeed(record.video)
        else:
            self._wait_for_task(tracked, None)

    # --- Ends ---

    def _expire(self, tracked: TrackedJob) -> None:
        """Ends a job whose deadline has passed. A POST under way may finish first, so that no task id is lost."""
        if tracked.status is Status.SENDING or tracked.status.is_final:
            return
        timeout_s = RESULT_KEPT_S if tracked.timeout_s is None else tracked.timeout_s
        self._drop(tracked, WaitTimeoutError(timeout_s=timeout_s, task_id=tracked.task_id))

    def _drop(self, tracked: TrackedJob, error: HailuoError) -> None:
        """Takes a job out of the queue or the poller, and ends it with ``error``."""
        tracked.is_dropped = True
        if tracked.poll_state is not None:
            self._poller.forget_nowait(tracked)
        else:
            self._submitter.drop_nowait(tracked)
        tracked.fail(Event.ABANDON, error)
