"""The commits of a journal: writes that are requested on the loop, and made in groups on the journal's thread.

All state here belongs to the loop, the connection to the thread. They share only the batch of the commit under way. A
commit costs some 0.3 ms of CPU beside its writes, half of it in the kernel (CPython 3.11, ext4), and a loop iteration 2
microseconds: so each commit gathers the writes of ``_GATHERED`` iterations. One that an outage prevents is tried again,
with the same writes.
"""

from __future__ import annotations

import asyncio
import copy
import functools
import logging
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, TypeAlias, TypeVar

import attrs

from hailuo_async._io.journal.records import LEASE_S
from hailuo_async._io.journal.rows import Later
from hailuo_async._io.journal.table import JobTable
from hailuo_async.errors import JournalError

#: For how long callers wait for an outage to end: as long as for a service that cannot be reached.
PATIENCE_S = 300.0
#: The same, before a POST, which can be tried again later, and for facts, which are written later by themselves.
SHORT_PATIENCE_S = 5.0
#: For how long a close waits for an outage to end if the session knows what no other does: as long as the others wait.
LAST_PATIENCE_S = LEASE_S
#: Loop iterations from the first write of a commit to its begin. An acceptance makes room for the next POST, whose task
#: asks for its grant two iterations later; a job that was put on record asks for it in the third.
_GATHERED = 4
#: Between two tries of a commit in an outage: at first, and at most.
_FIRST_RETRY_S, _LAST_RETRY_S = 0.05, 1.0

T = TypeVar("T")

Work: TypeAlias = Callable[[JobTable], Any]

logger = logging.getLogger("hailuo_async")


@attrs.define(eq=False)
class _Write:
    """One requested write, the caller that waits for it, and the write that undoes it if the caller no longer does."""

    work: Work
    undo: Work | None
    answer: asyncio.Future[Any]
    give_up_at: float
    """Until when its caller waits for an outage to end, in loop time."""
    is_fact: bool
    """Whether it is still written when its caller has given up: it is owed then."""
    on_settled: Callable[[object], None] | None = None
    """Called with the answer at once, before any waiting task runs."""
    is_owed: bool = False
    """Whether it must be written although no caller waits for it."""
    _timer: asyncio.TimerHandle | None = None

    def wait_until(self, give_up: Callable[[_Write], None]) -> None:
        """Calls ``give_up`` when its caller has waited long enough. Only needed in an outage."""
        if self._timer is None and not self.answer.done():
            self._timer = asyncio.get_running_loop().call_at(self.give_up_at, give_up, self)

    def time_is_up(self) -> None:
        """Notes that the time of ``wait_until`` has come: another outage ends the wait of its caller at once."""
        self._timer = None

    @property
    def is_note(self) -> bool:
        """Whether a caller wants it written, as that a job was accepted, or that one is not sent after all."""
        return self.is_fact and (self.is_owed or not self.answer.cancelled())

    @property
    def is_given_up(self) -> bool:
        """Whether it need not be made: its caller waited long enough. What a cancelled caller asked for is made."""
        return not self.is_fact and self.answer.done() and not self.answer.cancelled()

    def turn_into_undo(self) -> None:
        """Replaces the write by its undo: a commit whose answer was lost may have been made."""
        if self.undo is not None:
            self.work, self.undo, self.is_fact = self.undo, None, True

    def settle(self, result: object) -> bool:
        """Gives its caller the answer. Returns whether that caller still waits."""
        if self._timer is not None:
            self._timer.cancel()
        if self.answer.done():
            return False
        if self.on_settled is not None:
            self.answer.cancel()
            self.on_settled(result)
        elif isinstance(result, Raised):
            self.answer.set_exception(result.error)
        else:
            self.answer.set_result(result)
        return True


@attrs.frozen
class Raised:
    """A write that failed by itself, without harm to the others of its batch."""

    error: Exception


@attrs.frozen
class FirstWork:
    """The first work of a commit, the work that undoes it, and the callable that gets its result."""

    prepare: Callable[[], None]
    """Called on the thread before the transaction begins; reads only."""
    work: Work
    undo: Work
    on_settled: Callable[[object], None]


@attrs.define(eq=False)
class Commits:
    """The writes of a session, on their way to the disk."""

    _table: JobTable
    _thread: ThreadPoolExecutor
    _patience_s: float = PATIENCE_S
    _loop: asyncio.AbstractEventLoop = attrs.field(factory=asyncio.get_running_loop, init=False)
    _pending: list[_Write] = attrs.field(factory=list, init=False)
    _committing: asyncio.Future[list[Any]] | None = attrs.field(default=None, init=False)
    _outage: BaseException | None = attrs.field(default=None, init=False)
    """Why the last commit could not be made, if that may pass."""
    _retry_s: float = attrs.field(default=_FIRST_RETRY_S, init=False)
    _is_due: bool = attrs.field(default=False, init=False)
    """Whether a commit begins within a few loop iterations."""
    _alone: int = attrs.field(default=0, init=False)
    """How many of the pending writes get a commit each, as one of them made the commit of all fail."""
    lost: int = attrs.field(default=0, init=False)
    """How many notes on jobs could not be written, not even at the close."""
    first: Callable[[], FirstWork | None] = attrs.field(default=lambda: None, init=False)
    """Gives the work that each commit begins with."""
    on_busy: Callable[[], None] = attrs.field(default=lambda: None, init=False)
    """Called before the thread makes a commit."""
    on_idle: Callable[[], None] = attrs.field(default=lambda: None, init=False)
    """Called when no commit is under way any more."""
    on_failure: Callable[[], None] = attrs.field(default=lambda: None, init=False)
    """Called on the thread, when a transaction was taken back."""
    _is_closed: bool = attrs.field(default=False, init=False)
    _has_lost_callers: bool = attrs.field(default=False, init=False)
    """Whether a caller of a pending write may have left."""
    _has_logged: bool = attrs.field(default=False, init=False)
    """Whether it was logged that a listener raised."""

    @property
    def is_under_way(self) -> bool:
        """Whether the thread makes a commit."""
        return self._committing is not None

    def undo(self, undo: Work | None, result: object) -> None:
        """Takes back what ``result`` says was granted: its caller does not use it."""
        was_granted = bool(result) and not isinstance(result, Raised)
        if undo is not None and was_granted and not self._is_closed:
            self.put(undo, is_fact=True).cancel()  # if it fails, a lease runs out or a doubt is raised

    def put(
        self,
        work: Callable[[JobTable], T],
        undo: Work | None = None,
        patience_s: float = PATIENCE_S,
        *,
        is_fact: bool = False,
        is_owed: bool = False,
        soon_s: float = 0.0,
    ) -> asyncio.Future[T]:
        """The result of ``work``, once it is durable. ``undo`` takes it back if the caller no longer waits then.

        If no other write makes a commit within ``soon_s``, one is made for it.
        """
        if soon_s:
            self._loop.call_later(soon_s, self.commit_soon)
        else:
            self.commit_soon()
        give_up_at = self._loop.time() + min(patience_s, self._patience_s)
        write = _Write(work, undo, self._loop.create_future(), give_up_at, is_fact, is_owed=is_owed)
        self._pending.append(write)
        if self._outage is not None:
            write.wait_until(self._give_up)
            self._loop.call_soon(self._retry)  # it may be over
        return write.answer

    def caller_left(self) -> None:
        """Has the next commit undo, not make, the writes of callers that left: another may ask for the same again."""
        self._has_lost_callers = True

    def _undo_first(self, left: Sequence[tuple[_Write, object]]) -> None:
        """``undo``, ahead of the other pending writes: one of those may ask for the same grant again."""
        waiting, self._pending = self._pending, []
        for write, result in left:
            self.undo(write.undo, result)
        self._pending += waiting

    def commit_soon(self) -> None:
        """Has a commit begin soon, or after the one under way, with the work that ``first`` gives then."""
        is_retried = self._outage is not None and self._pending
        if self._committing is not None or self._is_due or is_retried or self._is_closed:
            return
        self._is_due = True
        self._commit_after(_GATHERED)

    def _commit_after(self, iterations: int) -> None:
        if iterations:
            self._loop.call_soon(self._commit_after, iterations - 1)
            return
        self._is_due = False
        if self._committing is None and not self._is_closed:
            self._commit()

    def _add_first(self) -> Callable[[], None] | None:
        """Adds the work that the next commit begins with, and returns what prepares it.

        What is owed goes before even that: it may free the very job that this work asks for.
        """
        first = None if self._alone or self._is_closed else self.first()
        if first is None:
            return None
        give_up_at = self._loop.time() + min(SHORT_PATIENCE_S, self._patience_s)
        write = _Write(first.work, first.undo, self._loop.create_future(), give_up_at, False, first.on_settled)
        owed = [place for place, each in enumerate(self._pending, 1) if each.is_fact and each.answer.done()]
        self._pending.insert(max(owed, default=0), write)
        return first.prepare

    def _commit(self) -> None:
        if self._has_lost_callers:
            self._has_lost_callers = False
            self._undo_left()
        prepare = self._add_first()
        size = 1 if self._alone else len(self._pending)
        batch, self._pending = self._pending[:size], self._pending[size:]
        if not batch:
            return  # nothing is pending, or the close took it
        self._alone = max(0, self._alone - 1)
        works = [write.work for write in batch]
        self.on_busy()
        self._committing = self._loop.run_in_executor(
            self._thread, _apply, self._table, prepare, works, self.on_failure
        )
        self._committing.add_done_callback(functools.partial(self._deliver, batch))

    def _deliver(self, batch: Sequence[_Write], committed: asyncio.Future[list[Any]]) -> None:
        self._committing = None
        fault = committed.exception()
        if fault is None:
            self._outage, self._retry_s = None, _FIRST_RETRY_S
        elif not self._is_closed and self._try_again(batch, fault):
            return
        results = [self._failed_with(fault) for _ in batch] if fault is not None else committed.result()
        left = []
        for write, result in zip(batch, results, strict=True):
            self.lost += fault is not None and write.is_note
            try:
                if not write.settle(result):
                    left.append((write, result))
            except Exception:  # of a listener: the callers behind it are answered, and later commits are made
                self._log_bug()
        if left:
            self._undo_first(left)
        if self._committing is None:
            self.commit_soon()
            self.on_idle()

    def _log_bug(self) -> None:
        if not self._has_logged:
            self._has_logged = True
            logger.exception("a bug in the answer to a commit of the journal, which goes on: please report this")

    def _try_again(self, batch: Sequence[_Write], fault: BaseException) -> bool:
        """Whether the writes of a commit that failed are made again: if that may help, they go back to the head."""
        if self._table.database.is_outage(fault):
            self._pending[:0] = batch
            self._undo_left()
            self._outage = fault
            for write in self._pending:
                write.wait_until(self._give_up)
            self._loop.call_later(self._retry_s, self._retry)
            self._retry_s = min(2 * self._retry_s, _LAST_RETRY_S)
            return True
        if len(batch) == 1:
            return False
        self._pending[:0] = batch
        self._alone = len(batch)
        self._commit()
        return True

    def _undo_left(self) -> None:
        """Turns writes that no caller waits for into undos: made again, they could block a later attempt."""
        for write in self._pending:
            if write.answer.done():
                write.turn_into_undo()
        self._pending = [write for write in self._pending if not write.is_given_up]

    def _retry(self) -> None:
        if self._committing is None and not self._is_closed:
            self._commit()

    def _give_up(self, write: _Write) -> None:
        """Ends the wait of a caller. Its write is undone, or not made any more, unless that is a fact."""
        write.time_is_up()
        if self._outage is not None:  # else it is over, and the next commit has the write
            write.settle(self._failed_with(self._outage))
            self._has_lost_callers = True

    def _failed_with(self, fault: BaseException) -> Raised:
        """An error of its own for each caller: one that is raised twice gathers the tracebacks of both."""
        database = self._table.database
        error = copy.copy(fault) if isinstance(fault, JournalError) else database.explain(fault)
        error.is_outage = database.is_outage(fault)
        error.__cause__ = fault
        return Raised(error)

    # --- The end ---

    async def settled(self) -> None:
        """Makes the pending writes, and the undos that follow from them; gives up when an outage lasts too long.

        A server that is silent in the middle of a commit is given up as well, sooner if there is nothing to be said.
        """
        began_at, has_to_assert, has_said = self._loop.time(), self._table.has_to_assert, False
        if has_to_assert:
            self.put(lambda _: None).cancel()  # it asserts all if the journal has to be connected to anew
        if self._outage is not None:
            self._table.database.hurry()
        while True:
            knows_more = has_to_assert or self._has_notes
            if self._outage is not None and knows_more and not has_said:
                error, has_said = self._table.database.explain(self._outage), True
                logger.warning("%s; the close waits up to %g s, to write what became of jobs", error, LAST_PATIENCE_S)
            patience_s = min(LAST_PATIENCE_S, self._patience_s) if knows_more else 0.0
            left_s = began_at + patience_s - self._loop.time()
            if self._committing is None and self._outage is None and self._pending:
                self._commit()
            if (committing := self._committing) is not None:
                await asyncio.wait([committing], timeout=max(0.0, left_s))
                if not committing.done():
                    self._table.database.hurry()
                    await asyncio.wait([committing])
            elif self._outage is not None and knows_more and left_s > 0:
                await asyncio.sleep(_FIRST_RETRY_S)
            else:
                return

    @property
    def _has_notes(self) -> bool:
        """Whether notes on jobs wait to be written."""
        return any(write.is_note for write in self._pending)

    def close(self, close: Callable[[], None] | None = None) -> Future[None]:
        """Gives the thread its last work, after every pending write, also of callers that were cancelled."""
        self._alone = 0
        self._table.database.hurry(is_last_try=True)
        self._commit()
        self._is_closed = True
        closing = self._thread.submit(close or self._table.close)
        self._thread.shutdown(wait=False)
        return closing


def _apply(
    table: JobTable, prepare: Callable[[], None] | None, works: Sequence[Work], on_failure: Callable[[], None]
) -> list[Any]:
    try:
        if prepare is not None:
            prepare()
        with table.transaction():
            results = [_attempt(table, work) for work in works]
        return [result.outcome() if isinstance(result, Later) else result for result in results]
    except BaseException:
        on_failure()
        raise


def _attempt(table: JobTable, work: Work) -> Any:
    try:
        return work(table)
    except table.database.FAULTS:
        raise
    except Exception as error:
        return Raised(error)
