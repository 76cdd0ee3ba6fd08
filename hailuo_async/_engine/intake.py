"""Takes jobs, and puts each where it belongs: into the queue, to the poller, or straight to its end.

A job passes here once, in its caller's task: its images are looked at in a thread, the journal is asked what it knows
and told what is meant, and then, without an await in between, it is in the engine's hands. A caller that is cancelled
before that has done nothing; after it, the job no longer depends on its caller.
"""

from __future__ import annotations

import contextlib
import functools
import itertools
import logging
import math
from collections import Counter
from collections.abc import Callable, Hashable, Iterator
from typing import Any

import anyio
import anyio.to_thread
import attrs

from hailuo_async._edges.records import Claim, Intent, JournalState, Record
from hailuo_async._engine.books import Books, is_left_unsent
from hailuo_async._engine.clock import loop_time
from hailuo_async._engine.gate import Gate
from hailuo_async._engine.life import Life
from hailuo_async._engine.news import News
from hailuo_async._engine.poller import RESULT_KEPT_S, Poller
from hailuo_async._engine.spending import Allowance, give_back, spend
from hailuo_async._engine.submitter import Submitter
from hailuo_async._engine.uploads import SharedUploads
from hailuo_async._engine.work import Work
from hailuo_async._rules.identity import Occurrences, build_facts
from hailuo_async._rules.lifecycle import Event
from hailuo_async._rules.wire import build_submit
from hailuo_async.errors import (
    HailuoError,
    QueueFullError,
    SessionClosedError,
    SpendingLimitError,
    SubmissionUnknownError,
    TaskFailedError,
    WaitTimeoutError,
)
from hailuo_async.images import Frame, look_at
from hailuo_async.jobs import Job
from hailuo_async.outcomes import Status

logger = logging.getLogger("hailuo_async")

#: Images looked at at the same time. More threads than disks and cores help nobody.
LOOKING_THREADS = 4
#: Images made to fit at the same time: the largest takes a gigabyte while it is decoded.
FITTING_THREADS = 1
#: How often a job that another session works on is looked up, in seconds.
FOLLOW_EVERY_S = 1.0

#: What another session may be doing with a job.
_AT_WORK = (JournalState.INTENDED, JournalState.SENDING, JournalState.ACCEPTED)


@attrs.define(eq=False)
class Intake:
    """Owns every job that has not ended, and the count of those that have."""

    _submitter: Submitter
    _poller: Poller
    _gate: Gate
    _books: Books
    _max_queued: int
    _life: Life
    _wall_clock: Callable[[], float]
    _news: News
    _threads: anyio.CapacityLimiter = attrs.field(factory=lambda: anyio.CapacityLimiter(LOOKING_THREADS), init=False)
    _fitting: anyio.CapacityLimiter = attrs.field(factory=lambda: anyio.CapacityLimiter(FITTING_THREADS), init=False)
    live: dict[Work, None] = attrs.field(factory=dict, init=False)
    """Every job that has not ended, in the order of taking."""
    ended: Counter[Status] = attrs.field(factory=Counter, init=False)
    """How many have ended, and how."""
    _by_identity: dict[str, Work] = attrs.field(factory=dict, init=False)
    _asked: Occurrences = attrs.field(factory=Occurrences, init=False)
    """Of the jobs without a key that belong to no stream. One that came to nothing is the same job when asked again."""
    _tickets: Iterator[int] = attrs.field(factory=itertools.count, init=False)
    _preparing: int = attrs.field(default=0, init=False)

    @property
    def queued(self) -> int:
        """Jobs that are looked at, or wait for a slot."""
        return self._preparing + self._submitter.queued

    def check_queue(self) -> None:
        """Raises ``QueueFullError`` when as many jobs wait as may."""
        if self.queued >= self._max_queued:
            raise QueueFullError(max_queued=self._max_queued)

    async def take(
        self,
        job: Job,
        timeout_s: float | None,
        allowances: tuple[Allowance, ...],
        asked: Occurrences | None = None,
        uploads: SharedUploads | None = None,
    ) -> Work:
        """Takes a job: its images are looked at, it is on record, and queued. Cancelling it before that costs nothing.

        ``asked`` counts the jobs without a key of its stream, where it belongs to one, and ``uploads`` knows the images
        that are to be shared there. Raises ``ImageError``, ``JournalError``, ``JobError`` (its key names another job),
        ``SpendingLimitError`` and ``SessionClosedError``. None of them is paid for.
        """
        asked_at = loop_time()
        self._preparing += 1
        try:
            frames = await self._look_at(job, needs_fingerprints=uploads is not None or self._books.need_fingerprints)
            self._life.check()
            frames = frames if uploads is None else await uploads.share(frames)
            intent = self._books.build_intent(job, frames, asked or self._asked)
            known, claim = await self._intend(intent, is_counted=asked is None)
        finally:
            self._preparing -= 1
        if known is not None:
            known.job = known.job or job
            return self._joined(known)
        work = self._new_work(asked_at, timeout_s, job=job, key=job.key, kind=_kind(job), **_names(intent))
        work.request, work.allowances = build_submit(job, frames), allowances
        work.look = functools.partial(self._books.intend, intent)
        work.is_counted = intent is not None and job.key is None and asked is None
        self._place(work, claim)
        if isinstance(work.error, SpendingLimitError):
            raise work.error
        return work

    async def _intend(self, intent: Intent | None, *, is_counted: bool) -> tuple[Work | None, Claim | None]:
        """The work that is on its way for this job already, or else what the journal says of it."""
        if intent is None:
            return None, None
        known = self._by_identity.get(intent.identity)
        if known is not None and known.fingerprint == intent.fingerprint:
            return known, None  # not to be asked about: a caller that is cancelled in between would free it
        try:
            claim = await self._books.intend(intent)
        except BaseException:
            if is_counted and intent.key is None:
                self._asked.give_back(intent.identity)
            raise
        return self._by_identity.get(intent.identity), claim

    def _joined(self, work: Work) -> Work:
        """``work`` with one more caller: none of them alone can withdraw it."""
        work.is_shared, work.is_withdrawn, work.is_quiet = True, False, False
        return work

    async def attach(self, task_id: str, timeout_s: float | None, *, is_asked: bool = False) -> Work:
        """Waits for a task that was submitted elsewhere or earlier. It is not paid for again.

        ``is_asked``: the service is asked about it even if the journal has its video, as its URLs may be old.
        """
        known = self._poller.find(task_id)
        if known is not None:
            return self._joined(known)
        self._life.check()
        claim = await self._books.adopt(task_id)
        identity = "" if claim is None else claim.record.identity
        known = self._poller.find(task_id) or self._by_identity.get(identity)
        if known is not None:
            return self._joined(known)
        if claim is None or (is_asked and claim.record.state is JournalState.SUCCESS):
            work = self._new_work(loop_time(), timeout_s, identity=identity or None, is_quiet=is_asked)
            work.task_id = task_id
            self._wait_for_task(work, None)
            return work
        return self._take_up(claim, timeout_s)

    async def recall(self, record: Record) -> Work:
        """Takes up what an earlier session left in the journal. It is not paid for again.

        A job that was never sent ends in a ``JournalError``: without the job itself it cannot be.
        """
        known = self._by_identity.get(record.identity)
        if known is not None:
            return self._joined(known)
        if record.task_id is not None:
            return await self.attach(record.task_id, None)
        return self._take_up(Claim(record, ours=False), None)

    def _take_up(self, claim: Claim, timeout_s: float | None) -> Work:
        """A work for what is in the journal, and whose job is not at hand."""
        record = claim.record
        now, names = loop_time(), {"key": record.key, "identity": record.identity}
        work = self._new_work(now, timeout_s, kind=_kind(record), **names)
        work.look = functools.partial(self._books.look, record.identity)
        if is_left_unsent(record):
            work.fail(Event.ABANDON, self._books.not_sent(record.identity))
        else:
            self._place(work, claim)
        return work

    def withdraw(self, work: Work) -> None:
        """Takes a job back, as long as it certainly was not accepted. One that may have been goes on."""
        if work.is_shared or work.status.is_final:
            return
        work.is_withdrawn = True
        if work.status is Status.QUEUED:
            self._drop(work, _withdrawn())
        elif work.task_id is not None:
            _log_goes_on(work)

    def landed(self, work: Work) -> None:
        """The submitter is done with a POST: it was accepted, or waits again, unless nobody wants it any more."""
        if work.task_id is not None:
            self._watch(work, ask_now=False)
            if work.is_withdrawn:
                _log_goes_on(work)
        elif work.is_withdrawn:
            self._drop(work, _withdrawn())
        if work.seconds_left(loop_time()) <= 0:
            self._expire(work)

    def follow(self, work: Work) -> None:
        """Another session works on it: its outcome is waited for here, and it is not paid for by us."""
        if work.is_paid_from:
            work.is_paid_from = False
            give_back(work.allowances)
        with contextlib.suppress(SessionClosedError):  # then it ends with all the others
            self._life.start_soon(functools.partial(self._follow, work))

    def taken(self, work: Work) -> None:
        """Another session took it over before its POST, which was not made."""
        self.follow(work)
        self.landed(work)

    # --- Preparing ---

    async def _look_at(self, job: Job, *, needs_fingerprints: bool) -> dict[str, Frame]:
        frames = {}
        for field, source in job.frames.items():
            look = functools.partial(look_at, field, source, fingerprint=needs_fingerprints, fit=job.fit)
            is_short = isinstance(source, str) and source[:5].lower() != "data:"
            threads = self._fitting if job.fit else self._threads
            frames[field] = frame = look() if is_short else await anyio.to_thread.run_sync(look, limiter=threads)
            if frame.changes:
                logger.info("%s (%s) was made to fit: %s", field, frame.name, "; ".join(frame.changes))
        return frames

    def _new_work(self, taken_at: float, timeout_s: float | None, **facts: Any) -> Work:
        self._life.check()
        work = Work(next(self._tickets), taken_at, timeout_s=timeout_s, **facts)
        self.live[work] = None
        work.listeners += (self._forget_if_ended, self._news.changed)
        if work.identity is not None:
            self._by_identity[work.identity] = work
        if timeout_s is not None:
            work.set_deadline(taken_at + timeout_s, self._expire)
        return work

    def _forget_if_ended(self, work: Work) -> None:
        if not work.status.is_final:
            return
        self.live.pop(work, None)
        self.ended[work.status] += not work.is_quiet
        if work.identity is not None:
            self._by_identity.pop(work.identity, None)
            self._let_go(work, work.identity)
        if work.is_paid_from and work.task_id is None and work.status is not Status.UNKNOWN:
            give_back(work.allowances)

    def _let_go(self, work: Work, identity: str) -> None:
        """What ended without an end on record is free for others; what came to nothing may be asked for again."""
        if work.status not in (Status.SUCCESS, Status.UNKNOWN):
            self._books.let_go_nowait(work)
        if work.is_counted and work.status not in (Status.SUCCESS, Status.FAILED):
            self._asked.give_back(identity)

    # --- Placing ---

    def _place(self, work: Work, claim: Claim | None) -> None:
        """Puts a job where it belongs by what is on record of it."""
        if claim is None:
            self._enqueue(work)
            return
        record = claim.record
        work.task_id = record.task_id
        match record.state:
            case JournalState.INTENDED if claim.ours:
                self._enqueue(work)
            case JournalState.ACCEPTED if claim.ours:
                self._wait_for_task(work, record.accepted_at)
            case state if state in _AT_WORK:
                self.follow(work)
            case JournalState.SUCCESS:
                self._deliver(work, record)
            case JournalState.UNKNOWN:
                doubt = SubmissionUnknownError(reason="the journal says so", key=work.key or work.identity)
                work.fail(Event.DOUBT, record.error or doubt)
            case _:
                work.fail(Event.FAIL, record.error or TaskFailedError(reason="the journal says so"))

    def _enqueue(self, work: Work) -> None:
        """Into the queue; a job of ours is paid for from its allowances."""
        try:
            spend(work.allowances)
        except SpendingLimitError as error:
            work.fail(Event.ABANDON, error)
        else:
            work.is_paid_from = True
            self._submitter.put_nowait(work)
            self._news.queued(work)

    def _wait_for_task(self, work: Work, accepted_at: float | None) -> None:
        """It was accepted before, here or elsewhere: it takes a slot at the service, and may have ended long ago.

        ``accepted_at`` is in Unix seconds, where it is known.
        """
        work.is_attached = True
        age_s = math.inf if accepted_at is None else max(0.0, self._wall_clock() - accepted_at)
        work.accepted_at = loop_time() - age_s
        work.move(Event.ACCEPT)
        self._gate.task_adopted()
        self._watch(work, ask_now=True)

    def _watch(self, work: Work, *, ask_now: bool) -> None:
        if work.timeout_s is None:
            work.set_deadline(loop_time() + RESULT_KEPT_S, self._expire)
        self._poller.watch_nowait(work, ask_now=ask_now)

    def _deliver(self, work: Work, record: Record) -> None:
        """A video on record is given as it is while its URLs are good, or when it lies on the disk; else asked for."""
        if record.video is not None and (record.saved_to is not None or not record.is_wiped):
            work.succeed(record.video)
        else:
            self._wait_for_task(work, None)

    async def _follow(self, work: Work) -> None:
        """Looks at it until it has ended, or the other session has: then its place is taken here."""
        while not work.status.is_final and work.look is not None:
            await anyio.sleep(FOLLOW_EVERY_S)
            try:
                claim = await work.look()
            except HailuoError as error:
                work.fail(Event.ABANDON, error)
                return
            if claim is not None and (claim.ours or claim.record.state not in _AT_WORK) and not work.status.is_final:
                self._place(work, claim)
                return

    # --- Ends ---

    def _expire(self, work: Work) -> None:
        """Its deadline has passed. A POST under way is let finish, so that no task id is lost."""
        if work.status is Status.SENDING or work.status.is_final:
            return
        timeout_s = RESULT_KEPT_S if work.timeout_s is None else work.timeout_s
        self._drop(work, WaitTimeoutError(timeout_s=timeout_s, task_id=work.task_id))

    def _drop(self, work: Work, error: HailuoError) -> None:
        """Nobody waits for it any longer."""
        if work.watched is not None:
            self._poller.forget_nowait(work)
        else:
            self._submitter.drop_nowait(work)
        work.fail(Event.ABANDON, error)


def _names(intent: Intent | None) -> dict[str, str]:
    """By what the journal knows a job."""
    return {} if intent is None else {"identity": intent.identity, "fingerprint": intent.fingerprint}


def _log_goes_on(work: Work) -> None:
    logger.info("nobody waits for job %s any more; it goes on as task %s", work.name, work.task_id)


def _withdrawn() -> SessionClosedError:
    return SessionClosedError(reason="its caller left before it was sent; it cost nothing")


def _kind(asked: Job | Record) -> Hashable:
    """Tasks of one kind take about as long: what makes one of a job, or of what the journal knows of it."""
    facts = asked.facts if isinstance(asked, Record) else build_facts(asked)
    return (asked.model, facts.get("duration"), facts.get("resolution"))
