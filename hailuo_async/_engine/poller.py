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
from hailuo_async._engine.tracked_job import TrackedJob
from hailuo_async._io.transport import Transport
from hailuo_async._rules.cadence import Cadence, PollState
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
#: For so long after its acceptance the service may answer 404 about a task that is not lost.
NOT_FOUND_GRACE_S = 30.0
#: Answers in a row that say nothing about the task, after which it is asked for by its documented path.
MAX_UNREADABLE = 3
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
    _tasks: dict[str, TrackedJob] = attrs.field(factory=dict, init=False)
    _due: DueTasks = attrs.field(factory=DueTasks, init=False)
    _added: Signal = attrs.field(factory=Signal, init=False)
    _in_flight: InFlight = attrs.field(init=False)
    _has_logged_word: bool = attrs.field(default=False, init=False)
    _now: Callable[[], float] = attrs.field(factory=running_clock, init=False)

    @_in_flight.default
    def _make_in_flight(self) -> InFlight:
        return InFlight(self._session_state.workers.cut)

    def find(self, task_id: str) -> TrackedJob | None:
        """The tracked job of ``task_id``, if there is one."""
        return self._tasks.get(task_id)

    def watch_nowait(self, tracked: TrackedJob, *, ask_now: bool = False) -> None:
        """Watches the task of ``tracked`` from now on; ``ask_now`` if it may have ended long ago."""
        if tracked.task_id is None:
            raise ValueError("a job without a task id cannot be queried")
        now = self._now()
        tracked.poll_state = PollState.new(tracked.task_id, tracked.kind, now, is_whole=not tracked.is_attached)
        tracked.poll_state.expects_notice = self._settings.webhook_url is not None and not tracked.is_attached
        self._tasks[tracked.task_id] = tracked
        tracked.is_noticed = self._notices.came_before(tracked.task_id)
        self._push(tracked, now if ask_now else self._next_due(tracked.poll_state, now))

    def notice_nowait(self, task_id: str) -> None:
        """Takes a notice that a task may have ended. It is not believed: the task is queried at once, if it runs here.

        At most once a second, and within the rate limit. A notice about any other task is passed on to the team.
        """
        if not self.notice_here_nowait(task_id):
            self.pass_on(task_id)

    def notice_here_nowait(self, task_id: str) -> bool:
        """``notice_nowait``, for a notice that is not passed on. Returns whether the task is of this session."""
        tracked = self._tasks.get(task_id)
        if tracked is None:
            kind = self._notices.unwatched(task_id)
            if kind is not None:
                self._cadence.notice_came_late(kind)
            return kind is not None
        if not tracked.is_noticed:  # else it is about to be asked about
            tracked.is_noticed = True
            if not tracked.is_asked:
                self._push(tracked, self._now())
        return True

    def unwatch_nowait(self, tracked: TrackedJob, ended_at: float | None = None) -> None:
        """Watches the task no longer: its slot counts as free, and its deadline cannot end it any more.

        If it goes on at the service, that may refuse the next POST, and the slot rules learn from it.
        """
        tracked.poll_state = None
        tracked.cancel_deadline()
        self._tasks.pop(tracked.task_id or "", None)
        self._gate.task_ended(ended_at)

    async def run(self) -> None:
        """Queries until the engine has ended, each query in a task of its own."""
        while True:
            await self._something_is_due()
            await self._in_flight.wait_for_room()
            is_scarce = await self._gate.wait_for_query()
            tracked = self._pop_worthiest() if is_scarce else self._due.pop_earliest()
            if tracked is not None:
                tracked.is_asked, tracked.was_noticed, tracked.is_noticed = True, tracked.is_noticed, False
                asking = self._ask(tracked, sent_at := self._gate.acquire_query())
                self._in_flight.add(self._session_state.start(asking, cancel=self._session_state.workers.cut), sent_at)

    # --- What is due ---

    def _next_due(self, poll_state: PollState, now: float) -> float:
        # The request rate is the whole team's, so all of its running tasks share it.
        running, team = len(self._tasks), self._recorder.team
        running = running if team is None else max(running, team.all_running)
        rate = self._gate.rate_limiter.query_rate(now, self._cadence.turnover(running))
        at, deleted_at = self._cadence.next_due(poll_state, now, rate, running), _deleted_at(poll_state)
        return min(at, deleted_at) if now < deleted_at else at

    def _push(self, tracked: TrackedJob, due: float) -> None:
        if tracked.is_noticed:
            tracked.noticed_at = due = max(self._now(), tracked.noticed_at + APART_S)
        if self._due.push(tracked, due):  # only a new first task changes how long the loop sleeps
            self._added.notify()

    async def _something_is_due(self) -> None:
        while (delay_s := self._due.first_at - self._now()) > 0:
            await self._added.wait(max(delay_s, LEAST_SLEEP_S))

    def _pop_worthiest(self) -> TrackedJob | None:
        """The due task that has probably been finished longest.

        ``None`` if even that task is not worth a request any more: while it waited, other answers changed the price.
        """
        now = self._now()
        tracked = self._due.pop_worthiest(now, lambda tracked: self._worth(tracked, now))
        if tracked is None or tracked.poll_state is None:
            return None
        due_at = self._next_due(tracked.poll_state, now)
        if tracked.is_noticed or due_at <= now + RECONSIDER_S:
            return tracked
        self._push(tracked, due_at)
        return None

    def _worth(self, tracked: TrackedJob, now: float) -> float:
        if tracked.is_noticed:
            return math.inf
        return 0.0 if tracked.poll_state is None else self._cadence.worth(tracked.poll_state, now)

    # --- Asking ---

    async def _ask(self, tracked: TrackedJob, sent_at: float) -> None:
        request = build_query(tracked.task_id or "", tracked.query_path, is_alone=tracked.asks_alone)
        try:
            answer = await self._query(request)
            tracked.is_asked = False
            self._gate.request_answered(answer, sent_at)
            await self._learn(tracked, answer, is_alone=request.is_alone)
        except Exception as error:
            tracked.is_asked = False
            logger.exception("a bug cut the reading of an answer short: please report this")
            # The task is paid for: after a bug of ours, too, the poller waits for it until its deadline.
            if tracked.poll_state is not None:
                self._ask_again(tracked, tracked.poll_state, f"{type(error).__name__} while its answer was read")
        # A timer for each task would end it without this last query, and takes a hundredth of a job's CPU.
        if tracked.timeout_s is None and tracked.poll_state and self._now() >= _deleted_at(tracked.poll_state):
            self.expire(tracked)

    async def _learn(self, tracked: TrackedJob, answer: Answer, *, is_alone: bool) -> None:
        poll_state = tracked.poll_state
        if poll_state is None:
            return  # its deadline passed meanwhile
        match answer.verdict:
            case Verdict.ACCEPTED | Verdict.UNKNOWN:
                report = read_report(answer, poll_state.task_id, tracked.created_at, is_alone=is_alone)
                await self._handle_report(tracked, poll_state, report)
            case Verdict.REFUSED if answer.refusal is Refusal.NOT_FOUND and self._is_final(tracked, answer):
                if tracked.query_path is None:
                    await self._fail(tracked, poll_state, _final_error(answer, poll_state.task_id))
                else:  # the path that the service named may be wrong: the documented one decides
                    tracked.query_path = None
                    self._ask_again(tracked, poll_state, answer.message)
            case Verdict.REFUSED if self._is_final(tracked, answer):
                await self._fail(tracked, poll_state, _final_error(answer, poll_state.task_id))
            case Verdict.UNSENT if isinstance(answer.problem, HailuoError):
                self.unwatch_nowait(tracked)  # the request cannot be made, now or later; the task goes on
                tracked.fail(Event.ABANDON, answer.problem)
            case Verdict.REFUSED | Verdict.UNSENT:
                self._ask_again(tracked, poll_state, answer.message)

    async def _query(self, request: Request) -> Answer:
        try:
            with self._session_state.workers.cuttable:
                return await self._transport.send(request, QUERY_TIMEOUT_S)
        except asyncio.CancelledError:
            if self._in_flight.is_given_up():
                return unknown("no answer in time, as of many others")
            if not self._session_state.is_open:
                raise
            # By a trace of the caller's aiohttp session, or a hook. The task would never be queried again.
            return unknown("another part of this program cancelled the query: correct that")

    async def _handle_report(self, tracked: TrackedJob, poll_state: PollState, report: Report | Unreadable) -> None:
        match report:
            case Unreadable(reason, is_anonymous):
                tracked.asks_alone = is_anonymous
                if tracked.failed_queries >= MAX_UNREADABLE:
                    tracked.query_path = None  # what the service named may be something else than the task
                self._ask_again(tracked, poll_state, reason)
            case Report(video=Video() as video):
                await self._succeed(tracked, poll_state, video)
            case Report(status=Status.FAILED):
                facts = {"task_id": poll_state.task_id, "request_id": report.request_id}
                error = TaskFailedError(reason=report.reason, code=report.code, cost=report.cost, **facts)
                await self._fail(tracked, poll_state, error)
            case Report(status=status, word=word):
                self._still_running(tracked, poll_state, status, word)

    def _still_running(self, tracked: TrackedJob, poll_state: PollState, status: Status | None, word: str) -> None:
        now = self._now()
        if status is None and not self._has_logged_word:
            self._has_logged_word = True  # once a session: a service that counts in this field would fill the log
            message = "the status %r is unknown; task %s is queried until it ends: please report this word"
            logger.warning(message, word, poll_state.task_id)
        tracked.failed_queries = 0
        if status is not None:
            tracked.move(Event.SEE_PENDING if status is Status.PENDING else Event.SEE_PROCESSING)
        self._cadence.asked(poll_state, now, status is Status.PENDING)
        self._push(tracked, self._next_due(poll_state, now))

    def _ask_again(self, tracked: TrackedJob, poll_state: PollState, reason: str) -> None:
        """Repeats a failed query after a growing interval, as its cause may last for a while."""
        now = self._now()
        shortest, longest = self._settings.poll_interval
        delay = min(longest, shortest * 2 ** min(tracked.failed_queries, 16))
        tracked.failed_queries += 1
        logger.debug("task %s is queried again in %.1f s: %s", poll_state.task_id, delay, reason)
        self._push(tracked, now + delay)

    def _is_final(self, tracked: TrackedJob, answer: Answer) -> bool:
        if not answer.is_envelope:
            return False  # a proxy may have answered, not the service
        if answer.refusal is Refusal.NOT_FOUND:
            return self._now() - tracked.accepted_at > NOT_FOUND_GRACE_S
        return answer.refusal is Refusal.AUTHENTICATION

    # --- Ends ---

    async def _succeed(self, tracked: TrackedJob, poll_state: PollState, video: Video) -> None:
        tracked.ended_at = self._learn_end(tracked, poll_state, video.seconds_taken)
        self.unwatch_nowait(tracked, tracked.ended_at)
        await self._recorder.succeeded(tracked, video)
        tracked.succeed(video)

    async def _fail(self, tracked: TrackedJob, poll_state: PollState, error: HailuoError) -> None:
        self.unwatch_nowait(tracked, self._learn_end(tracked, poll_state, None))
        await self._recorder.failed(tracked, error)
        tracked.fail(Event.FAIL, error)

    def _learn_end(self, tracked: TrackedJob, poll_state: PollState, reported_s: float | None) -> float:
        """When the task probably ended. Our own duration model learns from it, and those of the team."""
        now, is_noticed = self._now(), tracked.was_noticed or tracked.is_noticed
        if poll_state.expects_notice and not is_noticed:
            self._notices.ended_without(poll_state.task_id, poll_state.kind)
        ended_at = self._cadence.ended(poll_state, now, reported_s, is_noticed=is_noticed)
        young_s, at_s = poll_state.asked_at - poll_state.began_at, ended_at - poll_state.began_at
        team, kind = self._recorder.team, poll_state.kind
        if team is not None and poll_state.is_whole and isinstance(kind, tuple) and at_s >= young_s:
            team.ended(kind, young_s, at_s, now - poll_state.accepted_at)
        return ended_at


def _deleted_at(poll_state: PollState) -> float:
    """By when the service has deleted the result, in loop time."""
    return poll_state.accepted_at + RESULT_KEPT_S


def _final_error(answer: Answer, task_id: str) -> HailuoError:
    if answer.refusal is Refusal.NOT_FOUND:
        return TaskExpiredError(task_id=task_id, request_id=answer.request_id)
    return build_error(answer, task_id)
