"""The engine's own state of a job: its facts, its waiters and its listeners; and of a task that is watched.

Invariants. ``status`` changes only through ``move``, by the table of ``_rules/lifecycle``. ``history`` holds every
status in order, so that a slow reader misses no change. A final job has exactly one of ``video`` and ``error``, set
before any waiter wakes. ``move`` calls the listeners at once, in the order in which they were added; if one of them
changes the job again, the others get only the later change.
"""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import Awaitable, Callable, Hashable
from decimal import Decimal
from typing import TypeAlias

import attrs

from hailuo_async._engine.clock import loop_time
from hailuo_async._engine.signal import Signal
from hailuo_async._engine.spending_limit import Payment
from hailuo_async._io.journal.records import Claim, JournalState, Record
from hailuo_async._rules.cadence import PollState
from hailuo_async._rules.lifecycle import Event, next_status
from hailuo_async._rules.wire import Request
from hailuo_async.errors import HailuoError, SubmissionUnknownError, TaskFailedError, WaitTimeoutError
from hailuo_async.jobs import Job
from hailuo_async.outcomes import Status, Video

logger = logging.getLogger("hailuo_async")

TryClaim: TypeAlias = Callable[[], Awaitable[Claim | None]]
"""Reads a job's record in the journal, and claims the job if no other session works on it."""


@attrs.define(eq=False)
class Lane:
    """The jobs of one stream that wait for a slot, in order."""

    first: TrackedJob | None = attrs.field(default=None, init=False)
    """The job that stands in the queue."""
    others: list[tuple[bool, int, TrackedJob]] = attrs.field(factory=list, init=False)
    """A heap: those left unsent by an earlier session first, then by number."""


@attrs.define(eq=False)
class TrackedJob:
    """A job, or a task without its job (attached), from the moment it was taken to its end."""

    # --- What was asked for ---

    number: int
    """The job's number in the session, in the order of taking."""
    taken_at: float = 0.0
    """When a caller first gave it to a session, this one or another, in loop time."""
    job: Job | None = None
    key: str | None = None
    identity: str | None = None
    """The job's name in the journal."""
    fingerprint: str | None = None
    """A digest of everything that it asks, images included; ``None`` without a journal, or without the job."""
    kind: Hashable = None
    """Tasks of one kind take about as long: the same model, duration and resolution."""
    timeout_s: float | None = None
    payment: Payment = attrs.field(factory=Payment)
    """Its share of the spending limits."""
    lane: Lane | None = None
    """The jobs of its stream, one of which stands in the queue at a time."""
    try_claim: TryClaim | None = attrs.field(default=None, repr=False)
    listeners: list[Callable[[TrackedJob], None]] = attrs.field(factory=list, repr=False)
    """Called at once after each change. They must not raise."""

    # --- Where it stands ---

    status: Status = Status.QUEUED
    history: list[Status] = attrs.field(factory=lambda: [Status.QUEUED], init=False)
    task_id: str | None = None
    created_at: float | None = None
    """When the service made its task, in Unix seconds by the service's clock."""
    ended_at: float | None = None
    """When its task probably ended, in loop time."""
    video: Video | None = None
    error: HailuoError | None = None
    _deadline: asyncio.TimerHandle | None = attrs.field(default=None, init=False, repr=False)
    _changed: Signal = attrs.field(factory=Signal, init=False, repr=False)
    _ended: Signal = attrs.field(factory=Signal, init=False, repr=False)

    # --- Who works on it, and who wants it ---

    is_followed: bool = False
    """Whether another session works on it."""
    is_attached: bool = False
    """Whether it was submitted elsewhere or earlier, so that the session only waits for it."""
    is_quiet: bool = False
    """Whether it causes no events and is not counted: no caller waits for it, or only for a finished video's URL."""
    is_shared: bool = False
    """Whether more than one caller waits for it: no caller alone can withdraw it."""
    is_withheld: bool = False
    """Whether it is never sent again, even if its POST certainly was not accepted."""
    caller_left: bool = False
    """Whether its caller no longer waits for it."""
    is_kept: bool = False
    """Whether the journal has all of its content, so that other sessions can send it, too."""
    is_dropped: bool = False
    """Whether no caller in any session wants it any more: then the journal drops its content."""
    fault: HailuoError | None = None
    """Why it must not be paid for: the job ends with this instead of waiting for a slot."""

    # --- Its requests ---

    trouble: str | None = None
    """Why its last request, a POST or a query, came to nothing; ``None`` if it did not."""
    waits_since: float | None = None
    """Since when it counts as waiting for a slot, in loop time; ``None`` while it is behind the first of its lane."""
    was_left: bool = False
    """Whether an earlier session had entered it in the journal, and left it unsent."""
    request: Request | None = attrs.field(default=None, repr=False)
    is_heavy: bool = False
    """Whether its POST reads images while it is sent."""
    attempts: int = 0
    """The number of its POSTs, the one under way included."""
    sent_at: float = -math.inf
    """When the last POST began, in loop time."""
    attempt_at: float | None = None
    """When its last POST was put on record, in Unix seconds: the journal's name for that attempt."""
    resubmits: int = 0
    doubt: SubmissionUnknownError | None = attrs.field(default=None, init=False, repr=False)
    """The error of an earlier POST, which may be paid for even if the next one is refused."""
    is_back_in_doubt: bool = False
    """Whether it ended in that doubt: it was not sent again, or its last POST certainly was not accepted."""
    unsent_since: float = math.inf
    """Since when none of its POSTs has reached the service, in loop time."""
    accepted_at: float = -math.inf
    """When the service accepted it, in loop time; minus infinity if that is not known."""

    # --- Its queries ---

    query_path: str | None = None
    """Where the service said that its task can be queried."""
    watched: WatchedTask | None = None
    """Its task, while the poller watches it."""

    @property
    def name(self) -> str:
        """The job's name in logs."""
        return repr(self.key) if self.key is not None else f"#{self.number}"

    @property
    def cost(self) -> Decimal | None:
        """The amount that the service billed, in USD, once the job has ended."""
        if self.video is not None:
            return self.video.cost
        return self.error.cost if isinstance(self.error, TaskFailedError) else None

    def move(self, event: Event) -> None:
        """Changes the status by ``event``, wakes all waiters, and calls the listeners."""
        status = next_status(self.status, event)
        if status is not self.status:
            self.status = status
            self.history.append(status)
            self._report(status)

    def succeed(self, video: Video) -> None:
        """Ends the job with its video."""
        self.video = video
        self._end(Event.SUCCEED)

    def fail(self, event: Event, error: HailuoError) -> None:
        """Ends the job with an error, to which it adds the task id if there is one.

        A doubt wins: if an earlier POST may have been accepted, the job ends as unknown, with ``error`` as the cause;
        but a later doubt that names a task is not hidden behind it.
        """
        names_task = event is Event.DOUBT and error.task_id is not None
        if self.doubt is not None and self.task_id is None and not names_task:
            if event is not Event.DOUBT:
                self.is_back_in_doubt = True
                self.payment.give_back_last()
            self.doubt.__cause__ = error
            event, error = Event.DOUBT, self.doubt
        error.task_id = error.task_id or self.task_id
        self.error = error
        self._end(event)

    def fail_as_recorded(self, record: Record) -> None:
        """Ends the job as the journal says: in doubt, refused, or given up by the service."""
        reason = "the journal says so"
        if record.state is JournalState.UNKNOWN:
            self.fail(Event.DOUBT, record.error or SubmissionUnknownError(reason=reason, key=self.key or self.identity))
        else:
            event = Event.REFUSE if record.state is JournalState.REFUSED else Event.FAIL
            self.fail(event, record.error or TaskFailedError(reason=reason))

    def join(self) -> TrackedJob:
        """Adds one more caller, and returns the job: no caller alone can withdraw it any more."""
        self.is_shared, self.is_withheld, self.caller_left, self.is_quiet = True, False, False, False
        return self

    @property
    def is_heard_by_none(self) -> bool:
        """Whether its end reaches no caller, stream or journal, and its task was neither attached nor logged before."""
        is_heard = self.lane is not None or self._ended.is_awaited or self._changed.is_awaited
        return not (is_heard or self.identity is not None or self.is_attached or self.caller_left)

    def log_that_it_goes_on(self, why: str = "its caller has left") -> None:
        """Logs the task id of a job for which no caller waits any more."""
        level = logging.WARNING if self.identity is None else logging.INFO  # a journal keeps the id anyway
        message = "job %s goes on as task %s, which is paid for, though %s: attach() waits for it"
        logger.log(level, message, self.name, self.task_id, why)

    def _end(self, event: Event) -> None:
        self.request = None
        self.cancel_deadline()
        self.move(event)

    def set_deadline(self, at: float, expire: Callable[[TrackedJob], None]) -> None:
        """Has ``expire`` called with the job at the loop time ``at``, unless the job has ended by then."""
        self.cancel_deadline()
        self._deadline = asyncio.get_running_loop().call_at(at, expire, self)

    def cancel_deadline(self) -> None:
        """Removes the deadline."""
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    def seconds_left(self, now: float) -> float:
        """Seconds until its deadline; infinite without one."""
        return math.inf if self._deadline is None else self._deadline.when() - now

    def is_overdue(self, now: float) -> bool:
        """Whether its deadline has passed."""
        return self.seconds_left(now) <= 0

    async def changed(self) -> None:
        """Returns at the next change. Cancelling the call cancels only this wait."""
        await self._changed.wait()

    async def ended(self, until: float = math.inf) -> None:
        """Returns when the status is final, or at the loop time ``until`` if more than one caller waits for it.

        A POST under way may finish first, so that no task id is lost. Cancelling the call cancels only this wait.
        """
        if not self.status.is_final:
            await self._ended.wait(until if until == math.inf else until - loop_time())
        while not (self.status.is_final or (self.is_shared and self.status is not Status.SENDING)):
            await self._changed.wait()

    def out_of_time(self, timeout_s: float) -> WaitTimeoutError:
        """The error for a caller who has waited for ``timeout_s`` seconds."""
        return WaitTimeoutError(timeout_s=timeout_s, task_id=self.task_id, reason=self.trouble)

    def _report(self, status: Status) -> None:
        self._changed.notify()
        if status.is_final:
            self._ended.notify()
        for listener in self.listeners:
            listener(self)
            if self.status is not status:
                return  # the listener changed the job again, and that change has called all listeners


@attrs.define(eq=False)
class WatchedTask(PollState):
    """A task that the poller watches, from acceptance to its end. Only the poller uses it."""

    job: TrackedJob = attrs.field(kw_only=True)
    path: str | None = None
    """Where it is queried; ``None`` for the documented path."""
    failed_queries: int = 0
    """Queries in a row whose answers said nothing about the task."""
    asks_alone: bool = False
    """Whether its next query needs a new connection: the last answer named no task, and may be another query's."""
    is_asked: bool = False
    """Whether a query for it is under way, or about to be."""
    is_watched: bool = True
    """Whether the poller still watches it."""
    due_tick: int = -1
    """The number of its valid entry in ``DueTasks``."""
    is_noticed: bool = False
    """Whether a notice of its end came, and no query has left since."""
    noticed_at: float = -math.inf
    """When a notice last caused an early query, in loop time."""
    was_noticed: bool = False
    """Whether the last query left because of a notice."""


def kind_of(asked: Job | Record) -> Hashable:
    """The kind of a job or a record: tasks of the same model, duration and resolution take about equally long."""
    if isinstance(asked, Record):
        return (asked.model, asked.facts.get("duration"), asked.facts.get("resolution"))
    return (asked.model, asked.duration, asked.resolution)
