"""Streams: many jobs through one session, pulled as there is room, with outcomes in the order of their ends.

The same small number bounds the stream's jobs that are inspected or wait for a slot, and the outcomes that are not read
yet. The slots bound the jobs that run at the service. So a stream over a million jobs holds only a few of them, and a
slow reader holds everything back.

The feeder, which runs the caller's source, is a task of the engine behind a wall: an exception of the source ends this
stream alone, and is raised where the stream is read. The reader is an async generator that may be left in any way, from
any task: ``break``, an exception, cancellation, or garbage collection. From then on the stream pulls, sends and saves
nothing more; leaving waits only for the source's own cleanup, and not for long. Jobs that were sent go on, as they may
be paid for.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterable, Awaitable, Callable, Coroutine, Iterable
from decimal import Decimal
from typing import Any

import anyio
import attrs

from hailuo_async._engine.admission import FindFault
from hailuo_async._engine.clock import running_clock
from hailuo_async._engine.dispatcher import Dispatcher
from hailuo_async._engine.funds import Funds
from hailuo_async._engine.saving import Saving, Target
from hailuo_async._engine.session_state import SessionState
from hailuo_async._engine.signal import Signal
from hailuo_async._engine.tracked_job import TrackedJob
from hailuo_async._engine.workers import CLEANUP_S
from hailuo_async._io.journal.records import Record
from hailuo_async._rules.refusals import stops_everything
from hailuo_async.errors import HailuoError, JournalError, SessionClosedError, SpendingLimitError
from hailuo_async.outcomes import Failure, Outcome, Status, Success

#: Jobs pulled ahead of their slots, and outcomes ahead of their reader. Enough that a freed slot finds a job ready.
LOOKAHEAD = 16
#: Jobs with a journal: while one commit grants half of them their slots, the other half is pulled for the next one.
LOOKAHEAD_ON_RECORD = 32
#: The longest wait for half of them to leave, in seconds. With few slots that takes an hour, and a job that a session
#: paid for before it died would not be pulled, nor its video delivered, for as long.
GATHER_S = 10.0
#: Videos saved at once, and videos that may wait to be: a slow disk idles no slot, but holds no endless list either.
SAVERS, MAX_UNSAVED = 4, 256

#: A source that takes longer over an item, as one that draws its pictures, holds the loop for one item at a time.
SLOW_ITEM_S = 0.005

_END = object()
_NOTHING = Decimal(0)


@attrs.define(eq=False)
class Stream:
    """One stream: a feeder that pulls items and has each taken, and a reader that yields how they ended."""

    _items: Iterable[Any] | AsyncIterable[Any]
    _take: Callable[[Any, FindFault | None], Awaitable[TrackedJob]]
    """Takes an item; the callable says why it must not be paid for, if so."""
    _waits: Callable[[Any], bool]
    """Whether taking an item waits for anything. One that does not, a job of URLs, needs no task."""
    _dispatcher: Dispatcher
    _session_state: SessionState
    _lookahead: int = LOOKAHEAD
    _saving: Saving | None = None
    """Saves each video before its outcome is yielded. Its exceptions end the stream."""
    _tidy: Callable[[], Coroutine[Any, Any, None]] | None = None
    """Deletes the stream's uploads at the service, once all of its jobs have ended."""
    _funds: Funds | None = None
    """What it may spend; ``None`` without a limit."""
    _savers: anyio.Semaphore = attrs.field(factory=lambda: anyio.Semaphore(SAVERS), init=False)
    _feeder: asyncio.Task[None] | None = attrs.field(default=None, init=False)
    _preparing: dict[asyncio.Task[None], Decimal] = attrs.field(factory=dict, init=False)
    """The prices of the items that are pulled and not taken yet, by their tasks."""
    _waiting: set[TrackedJob] = attrs.field(factory=set, init=False)
    """Jobs that are taken, and not sent."""
    _running: set[TrackedJob] = attrs.field(factory=set, init=False)
    """Jobs that are sent, and not ended."""
    _saves: dict[asyncio.Task[Outcome], anyio.CancelScope] = attrs.field(factory=dict, init=False)
    """A task for each video that is being saved, or waits for that."""
    _unread: deque[Outcome] = attrs.field(factory=deque, init=False)
    _is_fed: bool = attrs.field(default=False, init=False)
    _is_stopped: bool = attrs.field(default=False, init=False)
    _is_left: bool = attrs.field(default=False, init=False)
    """Whether the reader has gone: then no more videos are saved."""
    _error: BaseException | None = attrs.field(default=None, init=False)
    """Raised at the end of the stream, after the outcomes of the running jobs."""
    _arrived: Signal = attrs.field(factory=Signal, init=False)
    """Wakes the reader: an outcome is there, or the stream may be over."""
    _drained: Signal = attrs.field(factory=Signal, init=False)
    """Wakes the feeder: there may be room for another job."""
    _is_gathering: bool = attrs.field(default=False, init=False)
    """Whether the feeder sleeps until there is room for several jobs."""

    # --- Reading ---

    async def outcomes(self) -> AsyncGenerator[Outcome]:
        """Yields each job's outcome as it ends. Raises an error that every job would meet, after the running jobs."""
        try:
            if self._is_stopped:
                return
            self._session_state.check()
            self._feeder = self._session_state.workers.start_foreign(self._feed())
            while True:
                while self._unread:
                    self._wake_feeder()
                    yield self._unread.popleft()
                if self._is_over:
                    break
                await self._arrived.wait()
            if self._tidy is not None and (self._error is None or isinstance(self._error, Exception)):
                await self._tidy()
                self._tidy = None
            if self._error is not None:
                raise self._error
        finally:
            await self._close()

    @property
    def _is_over(self) -> bool:
        """Whether no outcome is to come. ``sys.exit()`` and Ctrl-C do not wait for running jobs, which take minutes."""
        if self._error is not None and not isinstance(self._error, Exception):
            return True
        return self._is_fed and not (self._preparing or self._waiting or self._running or self._saves)

    async def _close(self) -> None:
        """Leaves the stream, and returns when the source has cleaned up, or was given the time for it."""
        self.stop_nowait()
        self._is_left = True
        for scope in self._saves.values():  # a later download resumes from the partial files
            scope.cancel()
        for tracked in list(self._running):
            self._dispatcher.withdraw(tracked)
        if self._tidy is not None:
            with contextlib.suppress(SessionClosedError):
                self._session_state.start(self._tidy())
        if self._feeder is not None and not self._feeder.done():
            await asyncio.wait([self._feeder], timeout=CLEANUP_S)

    def stop_nowait(self) -> None:
        """Pulls nothing more, and withdraws the jobs that were not sent."""
        self._stop_pulling_nowait()
        for tracked in [*self._waiting, *self._running]:
            if tracked.task_id is None:
                self._dispatcher.withhold(tracked)

    def _stop_pulling_nowait(self) -> None:
        if self._is_stopped:
            return
        self._is_stopped = True
        for task in self._preparing:
            task.cancel()
        # A feeder that stops itself sees it: cancelled, it would cut the cleanup of the source short.
        if self._feeder is not None and not self._is_fed and self._feeder is not asyncio.current_task():
            self._feeder.cancel()

    # --- Feeding ---

    async def _feed(self) -> None:
        try:
            if self._saving is not None:
                await self._saving.begin()
            await self._pull()
        except asyncio.CancelledError as error:
            if not self._is_stopped:
                cut_short = SessionClosedError(reason="the stream was cut short: not every job was taken")
                self._stop_with(error if self._session_state.is_open else cut_short)
        except BaseException as error:  # sys.exit() or pytest.fail() in a source must end its reader, not the engine
            self._stop_with(error)
        finally:
            self._is_fed = True
            self._arrived.notify()

    async def _pull(self) -> None:
        async with contextlib.aclosing(_as_async(self._items)) as items:
            await self._wait_for_room()
            index = 0
            while not self._is_stopped and (item := await anext(items, _END)) is not _END:
                price = _NOTHING if self._funds is None else await self._wait_for_money(self._funds, item)
                await self._begin(index, item, price)
                index += 1
                await self._wait_for_room()

    async def _begin(self, index: int, item: Any, price: Decimal) -> None:
        """Has an item taken: in a task of its own, unless it waits for nothing."""
        if not self._waits(item):
            await self._prepare(index, item)
            return
        preparing = self._session_state.start(self._prepare(index, item))
        self._preparing[preparing] = price
        preparing.add_done_callback(self._prepared)

    async def _wait_for_room(self) -> None:
        """Returns when an item may be pulled. A full stream first gathers room for several, which share a commit."""
        if self._ahead >= self._lookahead:
            self._is_gathering = True
            await self._drained.wait(GATHER_S)
            self._is_gathering = False
        while not self._is_stopped and self._is_full:
            await self._drained.wait()

    def _wake_feeder(self) -> None:
        """Wakes the feeder, but while it gathers room only once half of the lookahead is free."""
        if not self._is_gathering or self._ahead <= self._lookahead // 2:
            self._drained.notify()

    async def _wait_for_money(self, funds: Funds, item: Any) -> Decimal:
        """Returns an item's price when it stays within the spending limits, or cannot: what runs may make room.

        An item that was sent before is not held back: its video may be there.
        """
        price = funds.price(item)
        if self._lacks_money(funds, price) and not await funds.knows_as_sent(item):
            while self._lacks_money(funds, price):
                await self._arrived.wait()
        return price

    def _lacks_money(self, funds: Funds, price: Decimal) -> bool:
        has_more_to_come = bool(self._preparing or self._waiting or self._running)
        return has_more_to_come and funds.are_short(price, self._preparing.values())

    @property
    def _is_full(self) -> bool:
        is_behind = len(self._unread) >= LOOKAHEAD or len(self._saves) >= MAX_UNSAVED
        return is_behind or self._ahead >= self._lookahead

    @property
    def _ahead(self) -> int:
        return len(self._preparing) + len(self._waiting)

    async def _prepare(self, index: int, item: Any) -> None:
        try:
            target = None if self._saving is None else self._saving.target(item)
            tracked = await self._take(item, None if target is None else target.find_fault)
        except HailuoError as error:
            if stops_everything(error):
                self._stop_with(error)
            else:
                job = None if isinstance(item, Record) else item  # ``resume`` has no jobs
                self._deliver(Failure(job, getattr(item, "key", None), index, error))
        except asyncio.CancelledError:
            raise
        except BaseException as error:  # a save_as may raise anything
            self._stop_with(error)
        else:
            self._watch(index, tracked, target)

    def _prepared(self, preparing: asyncio.Task[None]) -> None:
        del self._preparing[preparing]
        self._wake_feeder()
        self._arrived.notify()

    def _watch(self, index: int, tracked: TrackedJob, target: Target | None) -> None:
        def on_change(tracked: TrackedJob) -> None:
            if tracked in self._waiting:
                self._waiting.discard(tracked)
                self._wake_feeder()
            self._running.discard(tracked)
            if tracked.status.is_final:
                self._end(index, tracked, target)
                self._arrived.notify()
            elif tracked.status is Status.QUEUED:
                self._waiting.add(tracked)
            else:
                self._running.add(tracked)

        tracked.listeners.append(on_change)
        on_change(tracked)
        if self._is_stopped:  # the stream stopped while the job was taken, too late to cancel that
            self._dispatcher.withhold(tracked)

    # --- Ends ---

    def _end(self, index: int, tracked: TrackedJob, target: Target | None) -> None:
        error = tracked.error
        if tracked.is_withheld and tracked.status is Status.ABANDONED and tracked.task_id is None:
            return  # withdrawn by the stream itself: as if it had not been pulled
        if error is not None and stops_everything(error) and not _concerns_this_job_alone(tracked):
            self._stop_with(error)
            if tracked.task_id is None:
                return  # never sent, like the withdrawn jobs: the stream's own error says why
        if tracked.video is not None:
            self._succeed(Success(tracked.job, tracked.key, index, tracked.video), target)
        elif error is not None:
            self._deliver(Failure(tracked.job, tracked.key, index, error))

    def _succeed(self, success: Success, target: Target | None) -> None:
        if self._saving is None or target is None or self._is_left or not self._session_state.is_open:
            self._deliver(success)
            return
        scope = anyio.CancelScope()  # not task.cancel(), which would cut the shielded end of a download as well
        work = self._save(self._saving, success, target, scope)
        saving = self._session_state.start(work, cancel=lambda _: scope.cancel())
        self._saves[saving] = scope
        saving.add_done_callback(lambda saving: self._saved(success, saving))

    async def _save(self, saving: Saving, success: Success, target: Target, scope: anyio.CancelScope) -> Outcome:
        try:
            with scope:
                async with self._savers:
                    return await saving.save(success, target)
        except Exception as error:
            self._stop_with(error)
        return success

    def _saved(self, success: Success, saving: asyncio.Task[Outcome]) -> None:
        del self._saves[saving]
        self._wake_feeder()
        # If the session closed before the video was saved, the outcome has no path.
        self._deliver(success if saving.cancelled() or saving.exception() is not None else saving.result())

    def _deliver(self, outcome: Outcome) -> None:
        self._unread.append(outcome)
        self._arrived.notify()

    def _stop_with(self, error: BaseException) -> None:
        """Ends the stream with ``error``, after the outcomes of the running jobs. The first error counts."""
        self._error = self._error or error
        if isinstance(error, SpendingLimitError):
            self._stop_pulling_nowait()  # the jobs taken before it have reserved their price, and may be sent
        else:
            self.stop_nowait()


async def _as_async(items: Iterable[Any] | AsyncIterable[Any]) -> AsyncGenerator[Any]:
    if not isinstance(items, AsyncIterable):
        now = running_clock()
        asked_at = now()
        for item in items:
            if now() - asked_at > SLOW_ITEM_S:
                await asyncio.sleep(0)
            yield item
            asked_at = now()
        return
    try:
        async for item in items:
            yield item
    finally:
        if isinstance(items, AsyncGenerator):
            await items.aclose()


def _concerns_this_job_alone(tracked: TrackedJob) -> bool:
    """Whether the job's record ends this job alone: it was left there unsent, or removed meanwhile.

    A journal that fails ends a job in another way: it refuses the POST, or fails before the job is taken.
    """
    return isinstance(tracked.error, JournalError) and tracked.status is Status.ABANDONED
