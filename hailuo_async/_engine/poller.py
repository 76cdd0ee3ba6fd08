"""Asks where the tasks stand: one poller for all of them.

A heap holds every task by the time at which it is worth a request; the cadence names that time. One loop takes what is
due through the gate, and a semaphore bounds the queries in flight. No task has a loop of its own.

A query may fail in any way, any number of times: it is asked again, at growing intervals, until the job's own deadline.
Only the service's own word ends a task: its result, its ``failed``, a 404 (after a grace, as the service may lag behind
its own submit), or a 401 or 403.
"""

from __future__ import annotations

import contextlib
import heapq
import itertools
import logging
import math
from collections.abc import Iterator

import anyio
import attrs
from anyio.abc import TaskGroup

from hailuo_async._edges.http import Transport
from hailuo_async._engine.books import Books
from hailuo_async._engine.clock import loop_time
from hailuo_async._engine.gate import Gate
from hailuo_async._engine.work import Work
from hailuo_async._rules.cadence import Cadence, Watched
from hailuo_async._rules.lifecycle import Event
from hailuo_async._rules.refusals import build_error
from hailuo_async._rules.reports import Report, Unreadable, read_report
from hailuo_async._rules.wire import Answer, Refusal, Verdict, build_query
from hailuo_async.errors import HailuoError, SessionClosedError, TaskExpiredError, TaskFailedError
from hailuo_async.outcomes import Status, Video

logger = logging.getLogger("hailuo_async")

#: A query's answer is a few hundred bytes; one that takes longer is asked for again.
QUERY_TIMEOUT_S = 30.0
#: Queries in flight at once. The budget allows far fewer a second; this bounds what a stalling service can hold.
MAX_QUERIES = 32
#: A task that had to wait for the budget is asked about all the same, unless it now is due later than this.
RECONSIDER_S = 0.5
#: For so long after its acceptance a task may be unknown to the service without being lost.
NOT_FOUND_GRACE_S = 30.0
#: How long a task may take without a deadline of its own: after that its result would be gone (docs: 24 hours).
RESULT_KEPT_S = 24 * 3600.0


@attrs.define(eq=False)
class Poller:
    """Owns the tasks that run at the service, and the queries in flight."""

    _gate: Gate
    _transport: Transport
    _books: Books
    _cadence: Cadence
    _interval_s: tuple[float, float]
    _tasks: dict[str, Work] = attrs.field(factory=dict, init=False)
    _due: list[tuple[float, int, Work]] = attrs.field(factory=list, init=False)
    """A heap. What has ended meanwhile stays in it until it comes up."""
    _ticks: Iterator[int] = attrs.field(factory=itertools.count, init=False)
    _added: anyio.Event = attrs.field(factory=anyio.Event, init=False)
    _in_flight: anyio.Semaphore = attrs.field(
        factory=lambda: anyio.Semaphore(MAX_QUERIES, fast_acquire=True), init=False
    )
    _told_words: set[str] = attrs.field(factory=set, init=False)

    @property
    def running(self) -> int:
        """Tasks that are waited for."""
        return len(self._tasks)

    def find(self, task_id: str) -> Work | None:
        """The work that waits for ``task_id``, if there is one."""
        return self._tasks.get(task_id)

    def watch_nowait(self, work: Work, *, ask_now: bool = False) -> None:
        """Waits for the task of ``work`` from now on; ``ask_now`` if it may have ended long ago."""
        if work.task_id is None:
            raise ValueError("a job without a task id cannot be asked about")
        now = loop_time()
        work.watched = Watched.new(work.task_id, work.kind, now, is_whole=not work.is_attached)
        self._tasks[work.task_id] = work
        self._push(work, now if ask_now else self._next_due(work.watched, now))

    def forget_nowait(self, work: Work) -> None:
        """Waits for it no longer. The task goes on at the service; its slot counts as free here."""
        self._unwatch(work, None)

    async def run(self, tasks: TaskGroup) -> None:
        """Asks until the gate is closed for good, each query in a task of its own."""
        with contextlib.suppress(SessionClosedError):
            while True:
                await self._something_is_due()
                await self._in_flight.acquire()
                is_scarce = await self._gate.wait_for_query()
                work = self._pop_worthiest() if is_scarce else self._pop_earliest()
                if work is None:
                    self._in_flight.release()
                else:
                    tasks.start_soon(self._ask, work, self._gate.take_query())

    # --- What is due ---

    def _next_due(self, watched: Watched, now: float) -> float:
        running = len(self._tasks)
        rate = self._gate.budget.query_rate(now, self._cadence.turnover(running))
        return self._cadence.next_due(watched, now, rate, running)

    def _push(self, work: Work, due: float) -> None:
        heapq.heappush(self._due, (due, next(self._ticks), work))
        if self._due[0][2] is work:  # what comes later than the first needs no look
            self._added.set()

    async def _something_is_due(self) -> None:
        while not self._due or self._due[0][0] > loop_time():
            self._added = anyio.Event()
            delay = self._due[0][0] - loop_time() if self._due else math.inf
            with anyio.move_on_after(delay):
                await self._added.wait()

    def _pop_earliest(self) -> Work | None:
        _, _, work = heapq.heappop(self._due)
        return work if work.watched is not None else None

    def _pop_worthiest(self) -> Work | None:
        """Of all that are due, the one that has probably been finished longest. The others stay due.

        None, if even that one is not worth a request any more: while it waited, what others showed has moved the price.
        """
        now = loop_time()
        due: list[tuple[float, Watched, Work]] = []
        while self._due and self._due[0][0] <= now:
            at, _, work = heapq.heappop(self._due)
            if work.watched is not None:
                due.append((at, work.watched, work))
        if not due:
            return None
        best = max(due, key=lambda entry: self._cadence.worth(entry[1], now))
        for at, _, work in due:
            if work is not best[2]:
                self._push(work, at)
        due_at = self._next_due(best[1], now)
        if due_at <= now + RECONSIDER_S:
            return best[2]
        self._push(best[2], due_at)
        return None

    # --- Asking ---

    async def _ask(self, work: Work, sent_at: float) -> None:
        try:
            answer = await self._transport.send(build_query(work.task_id or "", work.query_path), QUERY_TIMEOUT_S)
        finally:
            self._in_flight.release()
        self._gate.request_answered(answer, sent_at)
        watched = work.watched
        if watched is None:
            return  # its deadline passed meanwhile
        match answer.verdict:
            case Verdict.ACCEPTED:
                await self._heed(work, watched, read_report(answer, watched.task_id, work.created_at))
            case Verdict.REFUSED if self._is_final(work, answer):
                await self._fail(work, watched, _final_error(answer, watched.task_id))
            case _:
                self._ask_again(work, watched, answer.message)

    async def _heed(self, work: Work, watched: Watched, report: Report | Unreadable) -> None:
        match report:
            case Unreadable(reason):
                self._ask_again(work, watched, reason)
            case Report(video=Video() as video):
                await self._succeed(work, watched, video)
            case Report(status=Status.FAILED, reason=reason):
                await self._fail(work, watched, TaskFailedError(reason=reason, task_id=watched.task_id))
            case Report(status=status, word=word):
                self._still_running(work, watched, status, word)

    def _still_running(self, work: Work, watched: Watched, status: Status | None, word: str) -> None:
        now = loop_time()
        if status is None and word not in self._told_words:
            self._told_words.add(word)
            words = "nobody knows what the status %r means; task %s is waited for: please report this word"
            logger.warning(words, word, watched.task_id)
        work.failed_queries = 0
        if status is not None:
            work.move(Event.SEE_PENDING if status is Status.PENDING else Event.SEE_PROCESSING)
        self._cadence.asked(watched, now, status is Status.PENDING)
        self._push(work, self._next_due(watched, now))

    def _ask_again(self, work: Work, watched: Watched, reason: str) -> None:
        """At growing intervals, from the shortest to the longest: what failed once may fail for a while."""
        now = loop_time()
        shortest, longest = self._interval_s
        delay = min(longest, shortest * 2 ** min(work.failed_queries, 16))
        work.failed_queries += 1
        logger.debug("task %s is asked again in %.1f s: %s", watched.task_id, delay, reason)
        self._push(work, now + delay)

    def _is_final(self, work: Work, answer: Answer) -> bool:
        if not answer.is_envelope:
            return False  # a proxy's page is not the service's word
        if answer.refusal is Refusal.NOT_FOUND:
            return loop_time() - work.accepted_at > NOT_FOUND_GRACE_S
        return answer.refusal is Refusal.AUTHENTICATION

    # --- Ends ---

    async def _succeed(self, work: Work, watched: Watched, video: Video) -> None:
        work.ended_at = self._cadence.ended(watched, loop_time(), video.seconds_taken)
        self._unwatch(work, work.ended_at)
        await self._books.succeeded(work, video)
        work.succeed(video)

    async def _fail(self, work: Work, watched: Watched, error: HailuoError) -> None:
        self._unwatch(work, self._cadence.ended(watched, loop_time(), None))
        await self._books.failed(work, error)
        work.fail(Event.FAIL, error)

    def _unwatch(self, work: Work, ended_at: float | None) -> None:
        """From here on its end is certain: its slot is free, and no deadline can come between."""
        work.watched = None
        work.cancel_deadline()
        self._tasks.pop(work.task_id or "", None)
        self._gate.task_ended(ended_at)


def _final_error(answer: Answer, task_id: str) -> HailuoError:
    if answer.refusal is Refusal.NOT_FOUND:
        return TaskExpiredError(task_id=task_id)
    return build_error(answer, task_id)
