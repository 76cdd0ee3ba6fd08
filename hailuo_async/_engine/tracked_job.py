"""One job on its way through the engine: everything that is known of it, and everyone who waits for it.

Invariants. ``status`` changes only through ``move``, by the table of ``_rules/lifecycle``. ``history`` holds every
status it ever had, in order, so that a slow reader misses none. A job that is final has exactly one of ``video`` and
``error``, set before any waiter is woken. Listeners hear each change at once, in the order in which they were added; if
one of them changes the job again, the others hear only the later change.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Awaitable, Callable, Hashable
from decimal import Decimal

import attrs

from hailuo_async._engine.quota import Payment
from hailuo_async._engine.signal import Signal
from hailuo_async._io.journal.records import Claim
from hailuo_async._rules.cadence import PollState
from hailuo_async._rules.lifecycle import Event, next_status
from hailuo_async._rules.wire import Request
from hailuo_async.errors import HailuoError, SubmissionUnknownError, TaskFailedError
from hailuo_async.jobs import Job
from hailuo_async.outcomes import Status, Video


@attrs.define(eq=False)
class Lane:
    """The jobs of one stream that wait for a slot, in order."""

    first: TrackedJob | None = attrs.field(default=None, init=False)
    """The one that stands in the queue."""
    others: list[tuple[int, TrackedJob]] = attrs.field(factory=list, init=False)
    """A heap by their numbers."""


@attrs.define(eq=False)
class TrackedJob:
    """A job, or a task without its job (attached), from the moment it was taken to its end."""

    ticket: int
    """Its number in the session, in the order of taking."""
    taken_at: float = 0.0
    """When the session was given it, in loop time."""
    job: Job | None = None
    key: str | None = None
    identity: str | None = None
    """What the journal knows it by."""
    fingerprint: str | None = None
    """What it asks, down to its images; ``None`` without a journal, or without the job."""
    look: Callable[[], Awaitable[Claim | None]] | None = attrs.field(default=None, repr=False)
    """Asks the journal how it stands, and for leave to work on it."""
    request: Request | None = attrs.field(default=None, repr=False)
    is_heavy: bool = False
    is_kept: bool = False
    """Whether all that is sent for it is in the journal, so that other sessions can send it, too."""
    is_dropped: bool = False
    """Whether it is not wanted any more, by anybody: then it is not kept either."""
    """Whether sending it reads images."""
    timeout_s: float | None = None
    kind: Hashable = None
    """Tasks of one kind take about as long: the same model, duration and resolution."""
    payment: Payment = attrs.field(factory=Payment)
    """What it may be paid from."""
    lane: Lane | None = None
    """The jobs of its stream, of which one stands in the queue at a time."""
    is_quiet: bool = False
    """Whether only the URL of a finished video is asked for anew: that is no job, and no news."""
    listeners: list[Callable[[TrackedJob], None]] = attrs.field(factory=list, repr=False)
    """Called after each change, at once. They must not raise."""

    status: Status = attrs.field(default=Status.QUEUED, init=False)
    history: list[Status] = attrs.field(factory=lambda: [Status.QUEUED], init=False)
    place: float | None = attrs.field(default=None, init=False)
    """Since when it stands in the queue, in loop time: the first is sent next. One that was refused keeps its place."""
    is_followed: bool = attrs.field(default=False, init=False)
    """Whether another session works on it."""
    task_id: str | None = attrs.field(default=None, init=False)
    attempts: int = attrs.field(default=0, init=False)
    """POSTs of it, the one under way included."""
    sent_at: float = attrs.field(default=-math.inf, init=False)
    """When the last of them began, in loop time."""
    is_attached: bool = attrs.field(default=False, init=False)
    """Whether it was submitted elsewhere or earlier, and is only waited for here."""
    accepted_at: float = attrs.field(default=-math.inf, init=False)
    """When the service took it, in loop time; if that is not known, long ago."""
    ended_at: float | None = attrs.field(default=None, init=False)
    """When its video probably was there, in loop time."""
    query_path: str | None = attrs.field(default=None, init=False)
    created_at: float | None = attrs.field(default=None, init=False)
    video: Video | None = attrs.field(default=None, init=False)
    error: HailuoError | None = attrs.field(default=None, init=False)

    poll_state: PollState | None = attrs.field(default=None, init=False)
    is_counted: bool = attrs.field(default=False, init=False)
    """Whether its identity is a number of the session's own count, to be given back if it comes to nothing."""
    is_shared: bool = attrs.field(default=False, init=False)
    """Whether it was asked for again under its key, so that more than one caller waits for it."""
    is_withheld: bool = attrs.field(default=False, init=False)
    """Whether it is not sent again, should its POST turn out not to have been accepted."""
    is_left: bool = attrs.field(default=False, init=False)
    """Whether its caller no longer waits for it."""
    fault: HailuoError | None = attrs.field(default=None, init=False)
    """Why it must not be paid for: it ends with this instead of waiting for a slot."""
    is_noticed: bool = attrs.field(default=False, init=False)
    """Whether it was announced to have ended, and no query has left since."""
    noticed_at: float = attrs.field(default=-math.inf, init=False)
    """When it was last asked about early, in loop time."""
    is_announced: bool = attrs.field(default=False, init=False)
    """Whether the last query about it left because it was announced to have ended."""
    is_asked: bool = attrs.field(default=False, init=False)
    """Whether a query about it is under way, or about to be."""
    due_tick: int = attrs.field(default=-1, init=False)
    """The one entry among those of ``DueTasks`` that counts."""
    failed_queries: int = attrs.field(default=0, init=False)
    """Queries in a row that said nothing."""
    asks_alone: bool = attrs.field(default=False, init=False)
    """Whether its next query goes over a connection of its own: the last answer named no task, and may be another's."""
    resubmits: int = attrs.field(default=0, init=False)
    doubt: SubmissionUnknownError | None = attrs.field(default=None, init=False, repr=False)
    """What became of an earlier POST of it: that one may be paid for, whatever becomes of the next."""
    unsent_since: float | None = attrs.field(default=None, init=False)
    _deadline: asyncio.TimerHandle | None = attrs.field(default=None, init=False, repr=False)
    _changed: Signal = attrs.field(factory=Signal, init=False, repr=False)
    _ended: Signal = attrs.field(factory=Signal, init=False, repr=False)

    @property
    def name(self) -> str:
        """How a log names it."""
        return repr(self.key) if self.key is not None else f"#{self.ticket}"

    @property
    def cost(self) -> Decimal | None:
        """What the service says that it cost, in USD, once it has ended."""
        if self.video is not None:
            return self.video.cost
        return self.error.cost if isinstance(self.error, TaskFailedError) else None

    def move(self, event: Event) -> None:
        """Takes the step that ``event`` asks for, wakes everyone who waits, and calls the listeners."""
        status = next_status(self.status, event)
        if status is not self.status:
            self.status = status
            self.history.append(status)
            self._report(status)

    def succeed(self, video: Video) -> None:
        """Ends it with its video."""
        self.video = video
        self._end(Event.SUCCEED)

    def fail(self, event: Event, error: HailuoError) -> None:
        """Ends it with an error, which from here on carries the task id if there is one. A doubt outlives all else."""
        if self.doubt is not None and self.task_id is None:
            self.doubt.__cause__ = error
            event, error = Event.DOUBT, self.doubt
        error.task_id = error.task_id or self.task_id
        self.error = error
        self._end(event)

    def _end(self, event: Event) -> None:
        self.request = None
        self.cancel_deadline()
        self.move(event)

    def set_deadline(self, at: float, expire: Callable[[TrackedJob], None]) -> None:
        """``expire`` is called with it at the loop's time ``at``, unless it has ended by then."""
        self.cancel_deadline()
        self._deadline = asyncio.get_running_loop().call_at(at, expire, self)

    def cancel_deadline(self) -> None:
        """Lets it take as long as it takes."""
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    def seconds_left(self, now: float) -> float:
        """Until its deadline; infinite without one."""
        return math.inf if self._deadline is None else self._deadline.when() - now

    async def changed(self) -> None:
        """Returns at the next change. Cancelling it cancels only this wait."""
        await self._changed.wait()

    async def ended(self) -> None:
        """Returns when its status is final. Cancelling it cancels only this wait."""
        if not self.status.is_final:
            await self._ended.wait()

    def _report(self, status: Status) -> None:
        self._changed.notify()
        if status.is_final:
            self._ended.notify()
        for listener in self.listeners:
            listener(self)
            if self.status is not status:
                return  # that listener changed it again, and with that all of them were called
