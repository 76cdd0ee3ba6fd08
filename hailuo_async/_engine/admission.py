"""Takes jobs, and puts each where it belongs: into the queue, to the poller, or straight to its end.

A job passes here once, in its caller's task: its images are looked at in a thread, the journal is asked what it knows
and told what is meant, and then, without an await in between, it is in the engine's hands. A caller that is cancelled
before that has done nothing; after it, the job no longer depends on its caller.
"""

from __future__ import annotations

import functools
import itertools
import logging
import math
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from typing import Any, TypeAlias

import attrs

from hailuo_async._engine.clock import loop_time
from hailuo_async._engine.events import EventEmitter
from hailuo_async._engine.following import AT_WORK, Following
from hailuo_async._engine.gate import Gate
from hailuo_async._engine.inspection import Inspector
from hailuo_async._engine.journaling import JournalRecorder, is_left_unsent
from hailuo_async._engine.keeping import Ask, Keeper, is_sent_from_here, prepare, without_pictures
from hailuo_async._engine.known_by import fail_as_recorded, kind_of, log_goes_on, names_of, withdrawn
from hailuo_async._engine.poller import RESULT_KEPT_S, Poller
from hailuo_async._engine.quota import Money, Payment, Quota
from hailuo_async._engine.shared_uploads import SharedUploads
from hailuo_async._engine.state import EngineState
from hailuo_async._engine.submitter import Submitter
from hailuo_async._engine.tracked_job import Lane, TrackedJob
from hailuo_async._images.frame import Frame
from hailuo_async._io.journal.kept import KeptClaim
from hailuo_async._io.journal.records import Claim, Intent, JournalState, Record
from hailuo_async._rules.identity import DuplicateNumbers
from hailuo_async._rules.lifecycle import Event
from hailuo_async._rules.wire import build_submit
from hailuo_async.errors import HailuoError, QueueFullError, SpendingLimitError, WaitTimeoutError
from hailuo_async.jobs import Job
from hailuo_async.outcomes import Status
from hailuo_async.settings import Settings

logger = logging.getLogger("hailuo_async")

FindFault: TypeAlias = Callable[[], Awaitable[HailuoError | None]]


@attrs.define(eq=False)
class Admission:
    """Owns every job that has not ended, and the count of those that have."""

    _submitter: Submitter
    _poller: Poller
    _gate: Gate
    _recorder: JournalRecorder
    _settings: Settings
    _engine_state: EngineState
    _wall_clock: Callable[[], float]
    _emitter: EventEmitter
    money: Money
    keeper: Keeper | None = None
    """Where the journal keeps whole jobs."""
    _inspector: Inspector = attrs.field(factory=Inspector, init=False)
    following: Following = attrs.field(init=False)
    live: dict[TrackedJob, None] = attrs.field(factory=dict, init=False)
    """Every job that has not ended, in the order of taking."""
    ended: Counter[Status] = attrs.field(factory=Counter, init=False)
    """How many have ended, and how."""
    _by_identity: dict[str, TrackedJob] = attrs.field(factory=dict, init=False)
    _asked: DuplicateNumbers = attrs.field(factory=DuplicateNumbers, init=False)
    """Of the jobs without a key that belong to no stream. One that came to nothing is the same job when asked again."""
    _tickets: Iterator[int] = attrs.field(factory=itertools.count, init=False)
    _preparing: int = attrs.field(default=0, init=False)

    def __attrs_post_init__(self) -> None:
        self.following = Following(self._engine_state, self._dispatch)

    @property
    def queued(self) -> int:
        """Jobs that are looked at, or wait for a slot."""
        return self._preparing + self._submitter.queued

    def check_queue(self) -> None:
        """Raises ``QueueFullError`` when as many jobs wait as may."""
        if self.queued >= self._settings.max_queued:
            raise QueueFullError(max_queued=self._settings.max_queued)

    async def take(
        self,
        job: Job,
        timeout_s: float | None,
        quotas: tuple[Quota, ...],
        asked: DuplicateNumbers | None = None,
        uploads: SharedUploads | None = None,
        find_fault: FindFault | None = None,
        lane: Lane | None = None,
    ) -> TrackedJob:
        """Takes a job: its images are looked at, it is on record, and queued. Cancelling it before that costs nothing.

        ``asked`` counts the jobs without a key of its stream, where it belongs to one, and ``uploads`` knows the images
        that are to be shared there. ``find_fault`` says why the job must not be paid for: then it ends with that,
        unless it is paid for already. Raises ``ImageError``, ``JournalError``, ``JobError`` (its key names another
        job), ``SpendingLimitError`` and ``SessionClosedError``. None of them is paid for.
        """
        asked_at = loop_time()
        self._preparing += 1
        try:
            frames = await self._look_at_images(job, uploads)
            fault = None if find_fault is None else await find_fault()
            payment = Payment(quotas, self.money.prices.estimate(job).high)
            intent = self._recorder.build_intent(job, frames, asked or self._asked, payment.price)
            keeper = None if fault else self.keeper  # what must not be paid for is not kept
            kept, ask = await prepare(self._recorder, keeper, intent, job, frames, is_bounded=lane is None)
            known, claim = await self._intend(intent, ask, is_counted=asked is None)
        finally:
            self._preparing -= 1
        if known is not None:
            known.job = known.job or (job if kept is None else without_pictures(job, kept))
            return self._joined(known)
        tracked = self._new_tracked_job(
            asked_at, timeout_s, job=job, key=job.key, lane=lane, kind=kind_of(job), **names_of(intent)
        )
        tracked.request = request = build_submit(job, frames, self._settings.webhook_url)
        tracked.payment, tracked.fault, tracked.is_heavy = payment, fault, request.is_heavy
        if intent is not None:
            tracked.look, tracked.is_counted = ask, job.key is None and asked is None
        if self.keeper is not None and kept is not None and is_sent_from_here(claim):
            self.keeper.hold(tracked, kept, functools.partial(self._recorder.intend, intent))
        tracked.is_dropped = True  # should it end at once, as it must not be paid for
        self._dispatch(tracked, claim)
        tracked.is_dropped = False
        if isinstance(tracked.error, SpendingLimitError):
            raise tracked.error
        return tracked

    async def _look_at_images(self, job: Job, uploads: SharedUploads | None) -> dict[str, Frame]:
        is_known_again = uploads is not None or self._recorder.need_fingerprints
        frames = await self._inspector.inspect(job, fingerprint=is_known_again)
        self._engine_state.check()
        return frames if uploads is None else await uploads.share(frames)

    def take_up_kept(self, claim: KeptClaim) -> None:
        """Sends a job that another session has left in the journal."""
        record = claim.record
        if self.keeper is None or record.identity in self._by_identity or not self._engine_state.is_open:
            return
        names = {"key": record.key, "identity": record.identity, "fingerprint": record.fingerprint}
        tracked = self._new_tracked_job(loop_time(), None, kind=kind_of(record), **names)
        self.keeper.hold(tracked, claim.job, functools.partial(self.keeper.follow, record.identity))
        tracked.payment.price = record.price
        self._enqueue(tracked)

    async def _intend(
        self, intent: Intent | None, ask: Ask, *, is_counted: bool
    ) -> tuple[TrackedJob | None, Claim | None]:
        """The work that is on its way for this job already, or else what the journal says of it."""
        if intent is None:
            return None, None
        known = self._by_identity.get(intent.identity)
        if known is not None and known.fingerprint == intent.fingerprint:
            return known, None  # not to be asked about: a caller that is cancelled in between would free it
        try:
            claim = await ask()
        except BaseException:
            if is_counted and intent.key is None:
                self._asked.give_back(intent.identity)
            raise
        return self._by_identity.get(intent.identity), claim

    def _joined(self, tracked: TrackedJob) -> TrackedJob:
        """``tracked`` with one more caller: none of them alone can withdraw it."""
        tracked.is_shared, tracked.is_withheld, tracked.is_left, tracked.is_quiet = True, False, False, False
        return tracked

    async def attach(self, task_id: str, timeout_s: float | None, *, is_asked: bool = False) -> TrackedJob:
        """Waits for a task that was submitted elsewhere or earlier. It is not paid for again.

        ``is_asked``: the service is asked about it even if the journal has its video, as its URLs may be old.
        """
        if (known := self._poller.find(task_id)) is not None:
            return self._joined(known)
        self._engine_state.check()
        claim = await self._recorder.adopt(task_id)
        identity = "" if claim is None else claim.record.identity
        known = self._poller.find(task_id) or self._by_identity.get(identity)
        if known is not None:
            return self._joined(known)
        if claim is None or (is_asked and claim.record.state is JournalState.SUCCESS):
            tracked = self._new_tracked_job(loop_time(), timeout_s, identity=identity or None, is_quiet=is_asked)
            tracked.task_id = task_id
            if not is_asked:
                tracked.payment.adopt(None)
            self._wait_for_task(tracked, None)
            return tracked
        return self._adopt(claim, timeout_s)

    async def recall(self, record: Record) -> TrackedJob:
        """Takes up what an earlier session left in the journal. It is not paid for again.

        A job that was never sent ends in a ``JournalError``: without the job itself it cannot be.
        """
        if (known := self._by_identity.get(record.identity)) is not None:
            return self._joined(known)
        if record.task_id is not None and record.state is not JournalState.UNKNOWN:
            return await self.attach(record.task_id, None)
        await self._take_up_if_kept(record)
        if (known := self._by_identity.get(record.identity)) is not None:
            return self._joined(known)
        return self._adopt(Claim(record, ours=False), None)

    async def _take_up_if_kept(self, record: Record) -> None:
        """Takes up a job that the journal keeps whole, and that no session holds."""
        if self.keeper is not None and is_left_unsent(record):
            for claim in await self.keeper.take(1, record.identity):
                self.take_up_kept(claim)

    async def take_over(self, record: Record) -> None:
        """Waits for a task that a dead session left, for whoever asks for it. It is not paid for again."""
        if record.identity not in self._by_identity:
            self._adopt(Claim(record, ours=True), None).is_quiet = True

    async def find(self, key: str) -> TrackedJob:
        """The job of that name, whichever session works on it. Raises ``JobNotFoundError`` and ``JournalError``."""
        if (known := self._by_identity.get(key)) is not None:
            return self._joined(known)
        self._engine_state.check()
        claim = await self._recorder.find(key)
        if is_left_unsent(claim.record):
            await self._take_up_if_kept(claim.record)
            claim = await self._recorder.find(key)  # another session may have taken it up meanwhile
        if (known := self._by_identity.get(key)) is not None:
            return self._joined(known)
        return self._adopt(claim, None, is_quiet=claim.record.state not in AT_WORK)

    def _adopt(self, claim: Claim, timeout_s: float | None, *, is_quiet: bool = False) -> TrackedJob:
        """A work for what is in the journal, and whose job is not at hand."""
        record = claim.record
        facts = {"key": record.key, "identity": record.identity, "kind": kind_of(record), "is_quiet": is_quiet}
        tracked = self._new_tracked_job(loop_time(), timeout_s, **facts)
        look = self._recorder.look if self.keeper is None else self.keeper.follow
        tracked.look = functools.partial(look, record.identity)
        if is_left_unsent(record):
            tracked.fail(Event.ABANDON, self._recorder.not_sent(record.identity))
        else:
            self._dispatch(tracked, claim)
        return tracked

    def withhold(self, tracked: TrackedJob) -> None:
        """Sends a job no more, if it certainly was not accepted. One that may have been is still waited for."""
        if not (tracked.is_shared or tracked.status.is_final):
            tracked.is_withheld = True
            if tracked.status is Status.QUEUED:
                self._drop(tracked, withdrawn())

    def withdraw(self, tracked: TrackedJob) -> None:
        """Its caller leaves: it is withheld, and one that goes on is logged with its task id."""
        if not (tracked.is_shared or tracked.status.is_final):
            tracked.is_left = True
            self.withhold(tracked)
            if tracked.task_id is not None:
                log_goes_on(tracked)

    def follow(self, tracked: TrackedJob) -> None:
        """Another session works on it: its outcome is waited for here, and it is not paid for by us."""
        if tracked.payment.is_reserved:
            tracked.payment.give_back()
        self.following.add(tracked)
        if tracked.seconds_left(loop_time()) <= 0:
            self._expire(tracked)

    # --- Preparing ---

    def _new_tracked_job(self, taken_at: float, timeout_s: float | None, **facts: Any) -> TrackedJob:
        self._engine_state.check()
        tracked = TrackedJob(next(self._tickets), taken_at, timeout_s=timeout_s, **facts)
        tracked.payment = Payment((self.money.quota,))
        self.live[tracked] = None
        tracked.listeners += (self._forget_if_ended, self._emitter.changed, self._go_on)
        if tracked.identity is not None:
            self._by_identity[tracked.identity] = tracked
        if timeout_s is not None:
            tracked.set_deadline(taken_at + timeout_s, self._expire)
        return tracked

    def _go_on(self, tracked: TrackedJob) -> None:
        """Does what follows from a change that ends nothing, whichever room brought it about."""
        if tracked.status.is_final:
            return
        if tracked.status is Status.PENDING and not tracked.is_followed:
            self._watch(tracked)
            if tracked.is_left:
                log_goes_on(tracked)
        elif tracked.status is Status.QUEUED and tracked.is_withheld:
            self._drop(tracked, withdrawn())
        if tracked.seconds_left(loop_time()) <= 0:  # as it may be after a POST, which a deadline does not cut
            self._expire(tracked)

    def _forget_if_ended(self, tracked: TrackedJob) -> None:
        if not tracked.status.is_final:
            return
        self.live.pop(tracked, None)
        self.ended[tracked.status] += not tracked.is_quiet
        if tracked.identity is not None:
            self._by_identity.pop(tracked.identity, None)
            self._release(tracked, tracked.identity)
        has_task = tracked.task_id is not None
        tracked.payment.end(tracked.status, tracked.identity, tracked.cost, has_task=has_task)

    def _release(self, tracked: TrackedJob, identity: str) -> None:
        """What ended without an end on record is free for others; what came to nothing may be asked for again."""
        if self.keeper is not None and self.keeper.is_done_with(tracked):
            self.keeper.drop_nowait(identity)
        elif tracked.status not in (Status.SUCCESS, Status.UNKNOWN):
            self._recorder.release_nowait(tracked)
        if tracked.is_counted and tracked.status not in (Status.SUCCESS, Status.FAILED):
            self._asked.give_back(identity)

    # --- Placing ---

    def _dispatch(self, tracked: TrackedJob, claim: Claim | None) -> None:
        """Puts a job where it belongs by what is on record of it."""
        if claim is None:
            self._enqueue(tracked)
            return
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
                fail_as_recorded(tracked, record)

    def _enqueue(self, tracked: TrackedJob) -> None:
        """Into the queue; a job of ours is paid for from its allowances."""
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
        """It was accepted before, here or elsewhere: it takes a slot at the service, and may have ended long ago.

        ``accepted_at`` is in Unix seconds, where it is known.
        """
        tracked.is_attached = True
        age_s = math.inf if accepted_at is None else max(0.0, self._wall_clock() - accepted_at)
        tracked.accepted_at = loop_time() - age_s
        self._gate.task_adopted()
        if tracked.status is Status.QUEUED:
            tracked.move(Event.ACCEPT)
        else:  # it was seen before, while another session waited for it
            self._watch(tracked)

    def _watch(self, tracked: TrackedJob) -> None:
        if tracked.timeout_s is None:
            tracked.set_deadline(loop_time() + RESULT_KEPT_S, self._expire)
        self._poller.watch_nowait(tracked, ask_now=tracked.is_attached)

    def _deliver(self, tracked: TrackedJob, record: Record) -> None:
        """A video on record is given as it is while its URLs are good, or when it lies on the disk; else asked for."""
        if record.video is not None and (record.saved_to is not None or not record.is_wiped):
            tracked.succeed(record.video)
        else:
            self._wait_for_task(tracked, None)

    # --- Ends ---

    def _expire(self, tracked: TrackedJob) -> None:
        """Its deadline has passed. A POST under way is let finish, so that no task id is lost."""
        if tracked.status is Status.SENDING or tracked.status.is_final:
            return
        timeout_s = RESULT_KEPT_S if tracked.timeout_s is None else tracked.timeout_s
        self._drop(tracked, WaitTimeoutError(timeout_s=timeout_s, task_id=tracked.task_id))

    def _drop(self, tracked: TrackedJob, error: HailuoError) -> None:
        """Nobody waits for it any longer."""
        tracked.is_dropped = True
        if tracked.poll_state is not None:
            self._poller.forget_nowait(tracked)
        else:
            self._submitter.drop_nowait(tracked)
        tracked.fail(Event.ABANDON, error)
