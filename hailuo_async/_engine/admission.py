"""Takes jobs: new ones, tasks that were submitted elsewhere, and what earlier sessions left in the journal.

A new job passes here once, in its caller's task: a thread inspects its images, the journal claims the job and returns
its record, and then, without an await in between, the ``Dispatcher`` owns it. A caller that is cancelled before that
has done nothing; after it, the job no longer depends on its caller. A job that the session works on already is not
taken twice: its callers share it.
"""

from __future__ import annotations

import functools
import itertools
import logging
from collections.abc import Awaitable, Callable, Iterator
from typing import TypeAlias

import anyio.to_thread
import attrs
from anyio import CapacityLimiter

from hailuo_async._engine.clock import running_clock, wall_clock
from hailuo_async._engine.dispatcher import Dispatcher
from hailuo_async._engine.following import AT_WORK
from hailuo_async._engine.keeping import Keeper, is_sent_from_here, prepare, without_pictures
from hailuo_async._engine.poller import Poller
from hailuo_async._engine.recording import Recorder, is_left_unsent
from hailuo_async._engine.session_state import SessionState
from hailuo_async._engine.shared_uploads import SharedUploads
from hailuo_async._engine.spending_limit import Money, Payment, SpendingLimit
from hailuo_async._engine.tracked_job import Lane, TrackedJob, kind_of
from hailuo_async._images.frame import Frame, inspect_image, url_frame
from hailuo_async._images.source import is_web_url
from hailuo_async._io.journal.kept import KeptClaim, KeptJob
from hailuo_async._io.journal.records import Claim, JournalState, Record
from hailuo_async._rules.identity import DuplicateNumbers, is_name
from hailuo_async._rules.lifecycle import Event
from hailuo_async._rules.wire import build_submit
from hailuo_async.errors import HailuoError, JournalError, QueueFullError, SpendingLimitError
from hailuo_async.jobs import Job
from hailuo_async.outcomes import Status
from hailuo_async.settings import Settings

logger = logging.getLogger("hailuo_async")

#: Images inspected at the same time. More threads than disks and cores do not help.
INSPECTING_THREADS = 4
#: Images made to fit at the same time: the largest takes a gigabyte while it is decoded.
FITTING_THREADS = 1

FindFault: TypeAlias = Callable[[], Awaitable[HailuoError | None]]
"""Finds out why a job must not be paid for, if there is a reason."""


@attrs.frozen(kw_only=True, eq=False)
class Terms:
    """On which terms a job is taken. The jobs of one stream have the same."""

    timeout_s: float | None = None
    """Seconds until its deadline."""
    limits: tuple[SpendingLimit, ...] = ()
    """The session's own, and then others."""
    duplicates: DuplicateNumbers = attrs.field(factory=DuplicateNumbers)
    """Numbers jobs without a key."""
    lane: Lane | None = None
    """Of a stream: its jobs that wait for a slot."""
    uploads: SharedUploads | None = None
    """Of a stream: the images that its jobs share."""

    @property
    def is_single(self) -> bool:
        """Whether they are those of a job outside streams."""
        return self.lane is None


@attrs.define(eq=False)
class Admission:
    """Takes each job for one caller more."""

    _dispatcher: Dispatcher
    _poller: Poller
    _recorder: Recorder
    _settings: Settings
    _session_state: SessionState
    money: Money
    keeper: Keeper | None = None
    """Where the journal keeps whole jobs."""
    _inspecting: CapacityLimiter = attrs.field(factory=lambda: CapacityLimiter(INSPECTING_THREADS), init=False)
    _fitting: CapacityLimiter = attrs.field(factory=lambda: CapacityLimiter(FITTING_THREADS), init=False)
    _duplicates: DuplicateNumbers = attrs.field(factory=DuplicateNumbers, init=False)
    """Of the jobs outside streams. A job that failed keeps its number when it is given again."""
    _numbers: Iterator[int] = attrs.field(factory=itertools.count, init=False)
    _preparing: int = attrs.field(default=0, init=False)
    """Jobs whose images are inspected, or that are entered in the journal."""
    _now: Callable[[], float] = attrs.field(factory=running_clock, init=False)

    def __attrs_post_init__(self) -> None:
        if self.keeper is not None:
            self.keeper.on_taken = self.take_over_kept

    @property
    def queued(self) -> int:
        """Jobs whose images are inspected, or that wait for a slot."""
        return self._preparing + self._dispatcher.queued

    # --- New jobs ---

    async def submit(self, job: Job, timeout_s: float | None) -> TrackedJob:
        """Takes a job outside streams. Raises ``QueueFullError`` if too many wait, and what ``take`` raises."""
        if self.queued >= self._settings.max_queued:
            raise QueueFullError(max_queued=self._settings.max_queued)
        return await self.take(job, Terms(timeout_s=timeout_s, limits=(self.money.limit,), duplicates=self._duplicates))

    async def take(self, job: Job, terms: Terms, find_fault: FindFault | None = None) -> TrackedJob:
        """Takes a job: inspects its images, puts it on record, and queues it. Cancelled before that, it costs nothing.

        ``find_fault`` says why the job must not be paid for: then it ends with that error, unless it is paid for
        already. Raises ``ImageError``, ``JournalError``, ``JobError`` (its key names another job),
        ``SpendingLimitError`` and ``SessionClosedError``: in all these cases nothing is paid for.
        """
        tracked = self._new_tracked_job(terms.timeout_s, Payment(terms.limits, self.money.prices.estimate(job).high))
        tracked.job, tracked.key, tracked.kind, tracked.lane = job, job.key, kind_of(job), terms.lane
        self._preparing += 1
        try:
            frames = await self._inspect(job, terms.uploads)
            tracked.fault = None if find_fault is None else await find_fault()
            tracked.request = build_submit(job, frames, self._settings.webhook_url)
            tracked.is_heavy = tracked.request.is_heavy
            claim, kept = await self._enter(tracked, job, frames, terms)
        finally:
            self._preparing -= 1
        known = self._dispatcher.find(tracked.identity)
        if known is None:
            self._begin(tracked, claim)
        else:
            known.job = known.job or (job if kept is None else without_pictures(job, kept))
            self._dispatcher.prolong(known, terms.timeout_s)
            _let_send(known, tracked)
            tracked = self._join(known, claim)
        if terms.uploads is not None:
            terms.uploads.hold(tracked)
        return tracked

    async def _inspect(self, job: Job, uploads: SharedUploads | None) -> dict[str, Frame]:
        is_known_again = uploads is not None or self._recorder.has_journal
        frames = {}
        for field, source in job.frames.items():
            if is_web_url(source):  # the job has checked its shape, and nothing is read of it
                frames[field] = url_frame(source, fingerprint=is_known_again)
                continue
            inspect = functools.partial(inspect_image, field, source, fingerprint=is_known_again, fit=job.fit)
            threads = self._fitting if job.fit else self._inspecting
            frames[field] = frame = await anyio.to_thread.run_sync(inspect, limiter=threads)
            if frame.changes:
                logger.info("%s (%s) was made to fit: %s", field, frame.name, "; ".join(frame.changes))
        self._session_state.check()
        return frames if uploads is None else await uploads.share(frames)

    async def _enter(
        self, tracked: TrackedJob, job: Job, frames: dict[str, Frame], terms: Terms
    ) -> tuple[Claim | None, KeptJob | None]:
        """Enters a job in the journal, if there is one. Returns the claim, and what the journal keeps of the job."""
        intent = self._recorder.build_intent(job, frames, terms.duplicates, tracked.payment.price)
        if intent is None:
            return None, None
        keeper = None if tracked.fault else self.keeper  # what must not be paid for is not kept
        kept, try_claim = await prepare(self._recorder, keeper, intent, job, frames, is_single=terms.is_single)
        tracked.identity, tracked.fingerprint, tracked.try_claim = intent.identity, intent.fingerprint, try_claim
        known = self._dispatcher.find(intent.identity)
        if known is not None and known.fingerprint == intent.fingerprint:
            return None, kept  # no question to the journal: a caller cancelled in between would free the claim
        give_number_back = terms.is_single and job.key is None
        try:
            claim = await try_claim()
        except BaseException as error:
            if give_number_back:
                terms.duplicates.give_back(intent.identity)
            if isinstance(error, JournalError):
                self._session_state.check()  # the journal was closed together with its session
            raise
        if give_number_back:
            tracked.listeners.append(functools.partial(_give_number_back, terms.duplicates))
        if keeper is not None and kept is not None and is_sent_from_here(claim):
            keeper.use_kept(tracked, kept, functools.partial(self._recorder.intend, intent))
        return claim, kept

    def _begin(self, tracked: TrackedJob, claim: Claim | None) -> None:
        self._dispatcher.add(tracked)
        tracked.is_dropped = True  # should it end at once, as it must not be paid for
        self._dispatcher.dispatch(tracked, claim)
        tracked.is_dropped = False
        if isinstance(tracked.error, SpendingLimitError):
            raise tracked.error

    def _join(self, known: TrackedJob, claim: Claim | None) -> TrackedJob:
        """Adds a caller to a job that the session has already, with what the journal has just said of it."""
        if known.is_followed and claim is not None and claim.ours:  # its session has left it, which was not noticed yet
            self._dispatcher.following.end(known, claim)
        return known.join()

    # --- Tasks, and jobs on record ---

    async def attach(self, task_id: str, timeout_s: float | None, *, is_refresh: bool = False) -> TrackedJob:
        """Waits for a task that was submitted elsewhere or earlier. It is not paid for again.

        ``is_refresh``: queries the service even if the journal has the video, as its URLs may have expired.
        """
        claim, known = None, self._poller.find(task_id)
        if known is None:
            self._session_state.check()
            claim = await self._recorder.adopt(task_id)
            identity = None if claim is None else claim.record.identity
            known = self._poller.find(task_id) or self._dispatcher.find(identity)
        if known is not None:
            if not is_refresh:
                self._dispatcher.prolong(known, timeout_s)
            return self._join(known, claim)
        if claim is not None and not (is_refresh and claim.record.state is JournalState.SUCCESS):
            return self._adopt(claim, timeout_s)
        tracked = self._new_tracked_job(timeout_s)
        tracked.identity, tracked.task_id, tracked.is_quiet = identity, task_id, is_refresh
        if not is_refresh:
            tracked.payment.adopt_task(task_id)
        self._dispatcher.add(tracked)
        self._dispatcher.wait_for_task(tracked, None)
        return tracked

    async def recall(self, record: Record) -> TrackedJob:
        """Goes on with a job that an earlier session left in the journal. It is not paid for again.

        A job that was never sent ends in a ``JournalError``: the record has no images, so it cannot be sent.
        """
        if (known := self._dispatcher.find(record.identity)) is not None:
            self._dispatcher.prolong(known, None)
            return known.join()
        if record.task_id is not None and record.state is not JournalState.UNKNOWN:
            return await self.attach(record.task_id, None)
        if self.keeper is not None and is_left_unsent(record):
            return await self.find(record.identity, sends=True)  # it may have been taken over since, and have ended
        return self._adopt(Claim(record, ours=False))

    async def find(self, key: str, *, sends: bool = False) -> TrackedJob:
        """The job of that key, in any session. Raises ``JobNotFoundError`` and ``JournalError``.

        ``sends``: a kept job that was left unsent is sent even if the service would most likely refuse it.
        """
        if is_name(key) and (known := self._dispatcher.find(key)) is not None:
            return known.join()
        self._session_state.check()
        claim = await self._recorder.find(key)
        waits = False
        if self.keeper is not None and is_left_unsent(claim.record):
            waits = not sends and await self.keeper.holds_back(key)
            if not waits:
                await self.keeper.take_one(key)
                claim = await self._recorder.find(key)  # another session may have taken it over meanwhile
        if (known := self._dispatcher.find(key)) is not None:
            return self._join(known, claim)
        return self._adopt(claim, is_quiet=claim.record.state not in AT_WORK, waits=waits)

    def resolve(self, record: Record) -> None:
        """Notes that a job that was in doubt has led to a task, for which this session may wait already."""
        tracked = self._poller.find(record.task_id or "")
        if tracked is None:
            if record.state in (JournalState.SUCCESS, JournalState.FAILED):
                self.money.limit.resolve(record)
        elif self._dispatcher.find(record.identity) is None:
            self._dispatcher.resolve(tracked, record)

    async def take_over(self, record: Record) -> None:
        """Waits for a task that a dead session left, in case a caller asks for it. It is not paid for again."""
        tracked, claim = self._dispatcher.find(record.identity), Claim(record, ours=True)
        if tracked is None:
            self._adopt(claim, is_quiet=True)
        elif tracked.is_followed:
            self._dispatcher.following.end(tracked, claim)

    def take_over_kept(self, claim: KeptClaim) -> None:
        """Sends a job that another session has left in the journal, also for callers who follow it in this session."""
        record = claim.record
        tracked = self._dispatcher.find(record.identity)
        if self.keeper is None or not self._session_state.is_open or (tracked and not tracked.is_followed):
            return
        if tracked is None:
            tracked = self._new_tracked_job(record=record)
            tracked.fingerprint = record.fingerprint
            self._dispatcher.add(tracked)
        if claim.job.asked_at is not None:  # it waits since then, whichever session it was given to
            tracked.taken_at = min(tracked.taken_at, self._now() - (wall_clock() - claim.job.asked_at))
        self.keeper.use_kept(tracked, claim.job, functools.partial(self.keeper.try_claim, record.identity))
        tracked.payment.price = tracked.payment.price or record.price
        self._dispatcher.following.end(tracked, Claim(record, ours=True))

    def _adopt(
        self, claim: Claim, timeout_s: float | None = None, *, is_quiet: bool = False, waits: bool = False
    ) -> TrackedJob:
        """A tracked job for a record of the journal, without the job itself. ``waits``: one that is unsent will be."""
        record = claim.record
        tracked = self._new_tracked_job(timeout_s, record=record)
        try_claim = self._recorder.try_claim if self.keeper is None else self.keeper.try_claim
        tracked.try_claim, tracked.is_quiet = functools.partial(try_claim, record.identity), is_quiet
        self._dispatcher.add(tracked)
        if is_left_unsent(record) and not waits:
            tracked.fail(Event.ABANDON, self._recorder.not_sent(record.identity))
        else:
            self._dispatcher.dispatch(tracked, claim)
        return tracked

    def _new_tracked_job(
        self, timeout_s: float | None = None, payment: Payment | None = None, record: Record | None = None
    ) -> TrackedJob:
        payment = payment or Payment((self.money.limit,))
        tracked = TrackedJob(next(self._numbers), self._now(), timeout_s=timeout_s, payment=payment)
        if record is not None:
            tracked.key, tracked.identity, tracked.kind = record.key, record.identity, kind_of(record)
        return tracked


def _let_send(known: TrackedJob, given: TrackedJob) -> None:
    """Has a job that was only followed be sent from here if its session leaves it: now it is given itself."""
    if known.is_followed and known.request is None:
        known.try_claim, known.fingerprint = given.try_claim, given.fingerprint
        known.request, known.is_heavy, known.is_kept = given.request, given.is_heavy, given.is_kept
        known.fault, known.payment.price = given.fault, known.payment.price or given.payment.price


def _give_number_back(duplicates: DuplicateNumbers, tracked: TrackedJob) -> None:
    """Frees the number of a job that has ended without a task: the next such job is the same one again."""
    is_over = tracked.status in (Status.REFUSED, Status.UNKNOWN, Status.ABANDONED)
    if is_over and tracked.identity is not None:
        duplicates.give_back(tracked.identity)
