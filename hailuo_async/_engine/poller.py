"""Queries the status of all running tasks, in one loop.

``DueTasks`` holds every task by the time at which it is worth a request; the cadence names that time. One loop takes
the due tasks through the gate, and ``InFlight`` bounds the queries without an answer. No task has a loop of its own.

A query may fail in any way, any number of times: the poller repeats it, at growing intervals, until the job's deadline.
Only an answer of the service ends a task: its result, its ``failed``, a 404 (after a grace, as queries may lag behind
submits), or a 401 or 403.
"""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import Callable

import attrs

from hailuo_async import contract
from hailuo_async._engine.clock import running_clock
from hailuo_async._engine.due_tasks import DueTasks
from hailuo_async._engine.gate import Gate
from hailuo_async._engine.in_flight import InFlight
from hailuo_async._engine.notices import APART_S, Notices
from hailuo_async._engine.recording import Recorder
from hailuo_async._engine.session_state import SessionState
from hailuo_async._engine.signal import Signal
from hailuo_async._engine.tracked_job import TrackedJob, WatchedTask
from hailuo_async._engine.workers import Cuttable
from hailuo_async._io.transport import Transport
from hailuo_async._rules.cadence import Cadence
from hailuo_async._rules.lifecycle import Event
from hailuo_async._rules.refusals import build_error
from hailuo_async._rules.reports import Report, Unreadable, read_report
from hailuo_async._rules.wire import Answer, Refusal, Request, Verdict, build_query, unknown
from hailuo_async.errors import HailuoError, TaskExpiredError, TaskFailedError
from hailuo_async.outcomes import Status, Video
from hailuo_async.settings import Settings

logger = logging.getLogger("hailuo_async")

#: A query's answer is a few hundred bytes; a query that takes longer is repeated.
QUERY_TIMEOUT_S = 30.0
#: A task that had to wait for the rate limiter is queried all the same, unless it is now due later than this.
RECONSIDER_S = 0.5
#: The poller does not sleep for less: many tasks that fall due one after the other then wake the loop once.
LEAST_SLEEP_S = 0.01
#: For so long after its acceptance, or when it was seen running, the service may answer 404 about a task: not all of
#: its parts know as much. When an attached task was accepted may not be known, or be told by a clock that is wrong.
NOT_FOUND_GRACE_S = 30.0
#: Answers in a row that say nothing about the task, after which it is asked for by its documented path.
MAX_UNREADABLE = 3
#: Queries of a task that failed in a row, of which its user should know: two minutes, by the default intervals.
MANY_FAILED = 10
#: So long the service keeps a result: the deadline of a task without its own.
RESULT_KEPT_S = contract.RESULT_LIFETIME.total_seconds()


@attrs.define(eq=False)
class Poller:
    """Owns the tasks that run at the service, and the queries in flight."""

    _gate: Gate
    _transport: Transport
    _recorder: Recorder
    _cadence: Cadence
    _settings: Settings
    _session_state: SessionState
    pass_on: Callable[[str], None] = attrs.field(default=lambda _: None, init=False)
    """Gets notices about tasks that are not of this session."""
    expire: Callable[[TrackedJob], None] = attrs.field(default=lambda _: None, init=False)
    """Ends a job whose deadline has passed."""
    _notices: Notices = attrs.field(factory=Notices, init=False)
    _tasks: dict[str, WatchedTask] = attrs.field(factory=dict, init=False)
    _due: DueTasks = attrs.field(factory=DueTasks, init=False)
    _added: Signal = attrs.field(factory=Signal, init=False)
    _in_flight: InFlight = attrs.field(init=False)
    _has_logged_word: bool = attrs.field(default=False, init=False)
    _has_logged_failures: bool = attrs.field(default=False, init=False)
    _now: Callable[[], float] = attrs.field(factory=running_clock, init=False)

    @_in_flight.default
    def _make_in_flight(self) -> InFlight:
        return InFlight(self._session_state.workers.cancel)

    def find(self, task_id: str) -> TrackedJob | None:
        """The tracked job of ``task_id``, if there is one."""
        task = self._tasks.get(task_id)
        return None if task is None else task.job

    def watch_nowait(self, tracked: TrackedJob) -> None:
        """Watches the task of ``tracked`` from now on. One that is attached is asked at once: it may have ended."""
        if tracked.task_id is None:
            raise ValueError("a job without a task id cannot be queried")
        now, is_whole = self._now(), not tracked.is_attached
        expects_notice = is_whole and self._settings.webhook_url is not None
        task = WatchedTask(
            tracked.task_id, tracked.kind, now, is_whole, expects_notice, tracked.query_path, job=tracked
        )
        task.is_noticed = self._notices.came_before(task.task_id)
        tracked.watched = self._tasks[task.task_id] = task
        self._push(task, self._next_due(task, now) if is_whole else now)

    def notice_nowait(self, task_id: str) -> None:
        """Takes a notice that a task may have ended. It is not believed: the task is queried at once, if it runs here.

        At most once a second, and within the rate limit. A notice about any other task is passed on to the team.
        """
        if not self.notice_here_nowait(task_id):
            self.pass_on(task_id)

    def notice_here_nowait(self, task_id: str) -> bool:
        """``notice_nowait``, for a notice that is not passed on. Returns whether the task is of this session."""
        task = self._tasks.get(task_id)
        if task is None:
            kind = self._notices.unwatched(task_id)
            if kind is not None:
                self._cadence.notice_came_late(kind)
            return kind is not None
        if not task.is_noticed:  # else it is about to be asked about
            task.is_noticed = True
            if not task.is_asked:
                self._push(task, self._now())
        return True

    def unwatch_nowait(self, task: WatchedTask, ended_at: float | None = None) -> None:
        """Watches the task no longer: its slot counts as free, and its deadline cannot end it any more.

        If it goes on at the service, that may refuse the next POST, and the slot rules learn from it.
        """
        task.is_watched, task.job.watched = False, None
        task.job.cancel_deadline()
        if self._tasks.get(task.task_id) is task:  # it may have been attached before its POST's answer was read
            del self._tasks[task.task_id]
        self._gate.task_ended(ended_at)

    async def run(self) -> None:
        """Queries until the engine has ended, each query in a task of its own."""
        while True:
            await self._something_is_due()
            await self._in_flight.wait_for_room()
            is_scarce = await self._gate.wait_for_query()
            task = self._pop_worthiest() if is_scarce else self._due.pop_earliest()
            if task is not None:
                task.is_asked, task.was_noticed, task.is_noticed = True, task.is_noticed, False
                sent_at, cuttable = self._gate.acquire_query(), Cuttable()
                asking = self._session_state.start(self._ask(task, sent_at, cuttable), cancel=cuttable.cut)
                self._in_flight.add(asking, sent_at)

    # --- What is due ---

    def _next_due(self, task: WatchedTask, now: float) -> float:
        # The request rate is the whole team's, so all of its running tasks share it.
        running, team = len(self._tasks), self._recorder.team
        running = running if team is None else max(running, team.all_running)
        rate = self._gate.rate_limiter.query_rate(now, self._cadence.turnover(running))
        at, deleted_at = self._cadence.next_due(task, now, rate, running), _deleted_at(task)
        return min(at, deleted_at) if now < deleted_at else at

    def _push(self, task: WatchedTask, due: float) -> None:
        if task.is_noticed:
            task.noticed_at = due = max(self._now(), task.noticed_at + APART_S)
        if self._due.push(task, due):  # only a new first task changes how long the loop sleeps
            self._added.notify()

    async def _something_is_due(self) -> None:
        while (delay_s := self._due.first_at - self._now()) > 0:
            await self._added.wait(max(delay_s, LEAST_SLEEP_S))

    def _pop_worthiest(self) -> WatchedTask | None:
        """The due task that has probably been finished longest.

        ``None`` if even that task is not worth a request any more: while it waited, other answers changed the price.
        """
        now = self._now()
        task = self._due.pop_worthiest(now, lambda task: self._worth(task, now))
        if task is None or not task.is_watched:
            return None
        due_at = self._next_due(task, now)
        if task.is_noticed or due_at <= now + RECONSIDER_S:
            return task
        self._push(task, due_at)
        return None

    def _worth(self, task: WatchedTask, now: float) -> float:
        return math.inf if task.is_noticed else self._cadence.worth(task, now)

    # --- Asking ---

    async def _ask(self, task: WatchedTask, sent_at: float, cuttable: Cuttable) -> None:
        request = build_query(task.task_id, task.path, is_alone=task.asks_alone)
        try:
            answer = await self._query(request, cuttable)
            task.is_asked = False
            self._gate.request_answered(answer, sent_at)
            await self._learn(task, answer, sent_at, is_alone=request.is_alone)
        except Exception as error:
            task.is_asked = False
            logger.exception("a bug cut the reading of an answer short: please report this")
            # The task is paid for: after a bug of ours, too, the poller waits for it until its deadline.
            if task.is_watched:
                self._ask_again(task, f"{type(error).__name__} while its answer was read")
        # A timer for each task would end it without this last query, and takes a hundredth of a job's CPU.
        if task.job.timeout_s is None and task.is_watched and self._now() >= _deleted_at(task):
            self.expire(task.job)

    async def _learn(self, task: WatchedTask, answer: Answer, sent_at: float, *, is_alone: bool) -> None:
        if not task.is_watched:
            return  # its deadline passed meanwhile
        match answer.verdict:
            case Verdict.ACCEPTED | Verdict.UNKNOWN:
                report = read_report(answer, task.task_id, task.job.created_at, is_alone=is_alone)
                await self._handle_report(task, report)
            case Verdict.REFUSED if answer.refusal is Refusal.NOT_FOUND and _is_final(task, answer, sent_at):
                if task.path is None:
                    await self._fail(task, _final_error(answer, task.task_id))
                else:  # the path that the service named may be wrong: the documented one decides
                    task.path = None
                    self._ask_again(task, answer.message)
            case Verdict.REFUSED if _is_final(task, answer, sent_at):
                await self._fail(task, _final_error(answer, task.task_id))
            case Verdict.UNSENT if isinstance(answer.problem, HailuoError):
                self.unwatch_nowait(task)  # the request cannot be made, now or later; the task goes on
                task.job.fail(Event.ABANDON, answer.problem)
            case Verdict.REFUSED | Verdict.UNSENT:
                self._ask_again(task, answer.message)

    async def _query(self, request: Request, cuttable: Cuttable) -> Answer:
        try:
            with cuttable:
                return await self._transport.send(request, QUERY_TIMEOUT_S)
        except asyncio.CancelledError:
            if self._in_flight.is_given_up():
                return unknown("no answer in time, as of many others")
            if not self._session_state.is_open:
                raise
            # By a trace of the caller's aiohttp session, or a hook. The task would never be queried again.
            return unknown("another part of this program cancelled the query: correct that")

    async def _handle_report(self, task: WatchedTask, report: Video | Report | Unreadable) -> None:
        match report:
            case Video():
                await self._succeed(task, report)
            case Unreadable(reason, is_anonymous):
                task.asks_alone = is_anonymous
                if task.failed_queries >= MAX_UNREADABLE:
                    task.path = None  # what the service named may be something else than the task
                self._ask_again(task, reason)
            case Report(status=Status.FAILED):
                facts = {"task_id": task.task_id, "request_id": report.request_id}
                error = TaskFailedError(reason=report.reason, code=report.code, cost=report.cost, **facts)
                await self._fail(task, error)
            case Report(status=status, word=word):
                self._still_running(task, status, word)

    def _still_running(self, task: WatchedTask, status: Status | None, word: str) -> None:
        now = self._now()
        if status is None and not self._has_logged_word:
            self._has_logged_word = True  # once a session: a service that counts in this field would fill the log
            message = "the status %r is unknown; task %s is queried until it ends: please report this word"
            logger.warning(message, word, task.task_id)
        task.failed_queries, task.job.trouble = 0, None
        if status is not None:
            task.job.move(Event.SEE_PENDING if status is Status.PENDING else Event.SEE_PROCESSING)
        self._cadence.still_runs(task, now, is_pending=status is Status.PENDING)
        self._push(task, self._next_due(task, now))

    def _ask_again(self, task: WatchedTask, reason: str) -> None:
        """Repeats a failed query after a growing interval, as its cause may last for a while."""
        now = self._now()
        shortest, longest = self._settings.poll_interval
        delay = min(longest, shortest * 2 ** min(task.failed_queries, 16))
        task.failed_queries += 1
        task.job.trouble = reason
        if task.failed_queries == MANY_FAILED and not self._has_logged_failures:
            self._has_logged_failures = True  # once a session: in an outage, each of its tasks would say the same
            message = (
                "the last %d queries of task %s failed: %s; it is queried all the same: see what the service answers"
            )
            logger.warning(message, MANY_FAILED, task.task_id, reason)
        logger.debug("task %s is queried again in %.1f s: %s", task.task_id, delay, reason)
        self._push(task, now + delay)

    # --- Ends ---

    async def _succeed(self, task: WatchedTask, video: Video) -> None:
        task.job.ended_at = self._learn_end(task, video.seconds_taken)
        self.unwatch_nowait(task, task.job.ended_at)
        await self._recorder.succeeded(task.job, video)
        task.job.succeed(video)

    async def _fail(self, task: WatchedTask, error: HailuoError) -> None:
        self.unwatch_nowait(task, self._learn_end(task, None))
        await self._recorder.failed(task.job, error)
        task.job.fail(Event.FAIL, error)

    def _learn_end(self, task: WatchedTask, reported_s: float | None) -> float:
        """When the task probably ended. Our own duration model learns from it, and those of the team."""
        now, is_noticed = self._now(), task.was_noticed or task.is_noticed
        if task.expects_notice and not is_noticed:
            self._notices.ended_without(task.task_id, task.kind)
        ended_at = self._cadence.ended(task, now, reported_s, is_noticed=is_noticed)
        young_s, at_s = task.asked_at - task.began_at, ended_at - task.began_at
        team, kind = self._recorder.team, task.kind
        if team is not None and task.is_whole and isinstance(kind, tuple) and at_s >= young_s:
            team.ended(kind, young_s, at_s, now - task.watched_at)
        return ended_at


def _deleted_at(task: WatchedTask) -> float:
    """By when the service has deleted the result, in loop time."""
    return task.watched_at + RESULT_KEPT_S


def _is_final(task: WatchedTask, answer: Answer, sent_at: float) -> bool:
    """Whether the refusal of the query that left at ``sent_at`` ends the task. The answer may be read late."""
    if not answer.is_envelope:
        return False  # a proxy may have answered, not the service
    if answer.refusal is Refusal.NOT_FOUND:
        was_seen = task.asked_at > task.watched_at
        return sent_at - (task.asked_at if was_seen else task.job.accepted_at) > NOT_FOUND_GRACE_S
    return answer.refusal is Refusal.AUTHENTICATION


def _final_error(answer: Answer, task_id: str) -> HailuoError:
    if answer.refusal is Refusal.NOT_FOUND:
        return TaskExpiredError(task_id=task_id, request_id=answer.request_id)
    return build_error(answer, task_id)
