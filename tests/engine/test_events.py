"""Events: what a session tells of its jobs, each fact once."""

from __future__ import annotations

import asyncio
import re
from collections import defaultdict
from pathlib import Path
from typing import Any

import anyio
import attrs
import pytest

from hailuo_async import (
    Accepted,
    AsyncSession,
    Downloaded,
    Ended,
    GateClosed,
    Hooks,
    InsufficientBalanceError,
    JobEvent,
    Queued,
    Refused,
    RequestRejectedError,
    Sent,
    SessionClosedError,
    SessionEvent,
    Status,
    StatusSeen,
    SubmissionUnknownError,
    TaskFailedError,
    Video,
    WaitTimeoutError,
)
from hailuo_async._engine.events import EventEmitter
from hailuo_async._rules.wire import Answer, Request, unknown, unsent
from hailuo_async.emulator import DEFAULT_API_KEY, FaultRates, Faults, Service
from hailuo_async.testing import run_virtual
from hailuo_async.testing.in_memory import InMemory

from ..support.listening import JOB, line_that, of_the_job, told_of
from ..support.service import (
    CONCURRENT,
    KEY,
    TOO_MANY,
    Line,
    emulated,
    failed,
    finished,
    job,
    jobs,
    never,
    refusal,
    running,
    told,
)

pytestmark = pytest.mark.anyio


def test_a_job_that_succeeds_is_told_of_from_its_queueing_to_its_video() -> None:
    async def work_for_10_s(request: Request) -> Answer:
        is_done = anyio.current_time() >= 10
        return told(
            200, finished() if is_done else running(status="pending" if len(line.queries) == 1 else "processing")
        )

    line = line_that(on_query=work_for_10_s)
    *events, seen, ended = told_of(line, poll_interval=(2.0, 2.0))
    assert events == [
        Queued(**of_the_job(0.0)),
        Sent(**of_the_job(0.0), attempt=1, doubts=0),
        Accepted(**of_the_job(1.0, "task-1"), attempt=1, answered_s=1.0),
    ]
    assert isinstance(seen, StatusSeen)
    assert seen == StatusSeen(**of_the_job(seen.at, "task-1"), status=Status.PROCESSING, ran_s=seen.at - 1)
    assert isinstance(ended, Ended)
    assert isinstance(ended.video, Video)
    assert ended.late_s is not None
    assert 0 < ended.late_s <= 2
    assert ended == Ended(
        **of_the_job(ended.at, "task-1"),
        status=Status.SUCCESS,
        video=ended.video,
        error=None,
        ran_s=ended.at - 1,
        late_s=ended.late_s,
    )
    assert len(line.queries) > 3  # it was seen to be pending, and processing again and again


@pytest.mark.slow
def test_how_late_the_end_was_noticed_goes_by_the_services_own_word() -> None:
    async def work_for_90_s(request: Request) -> Answer:
        if anyio.current_time() < 91:
            return told(200, running())
        return told(200, {"data": {**finished()["data"], "duration": 90_000}})

    ended = told_of(line_that(on_query=work_for_90_s))[-1]
    assert isinstance(ended, Ended)
    assert ended.late_s == pytest.approx(ended.at - 91)


@pytest.mark.parametrize(("content", "reason"), [(CONCURRENT, "running_limit"), (TOO_MANY, "request_rate")])
def test_a_job_refused_for_want_of_room_and_sent_again_is_two_posts_and_one_refusal(
    content: dict[str, Any], reason: str
) -> None:
    events = [event for event in told_of(line_that((429, content))) if not isinstance(event, GateClosed)]
    assert events[:3] == [
        Queued(**of_the_job(0.0)),
        Sent(**of_the_job(0.0), attempt=1, doubts=0),
        Refused(**of_the_job(1.0), attempt=1, reason=reason, message=content["message"], answered_s=1.0),
    ]
    again, accepted, ended = events[3:]
    assert again == Sent(**of_the_job(again.at), attempt=2, doubts=0)
    assert accepted == Accepted(**of_the_job(again.at + 1, "task-1"), attempt=2, answered_s=1.0)
    assert isinstance(ended, Ended)


@pytest.mark.parametrize(
    ("status", "reason", "kind"), [(422, "rejected", RequestRejectedError), (402, "balance", InsufficientBalanceError)]
)
def test_a_job_that_is_refused_for_good_ends_with_it(status: int, reason: str, kind: type[Exception]) -> None:
    *_, sent, refused, ended = told_of(line_that((status, refusal(status, "no"))))
    assert sent == Sent(**of_the_job(0.0), attempt=1, doubts=0)
    assert refused == Refused(**of_the_job(1.0), attempt=1, reason=reason, message="no", answered_s=1.0)
    assert isinstance(ended, Ended)
    assert isinstance(ended.error, kind)
    assert ended == Ended(
        **of_the_job(1.0), status=Status.REFUSED, video=None, error=ended.error, ran_s=None, late_s=None
    )


def test_a_post_that_could_not_be_made_was_not_sent_and_closes_the_gate() -> None:
    events = told_of(line_that(unsent("cannot connect"), unsent("cannot connect")))
    assert [type(event) for event in events] == [
        Queued,
        *(Sent, GateClosed, Refused, Sent, GateClosed, Refused, Sent),
        Accepted,
        Ended,
    ]
    refused = next(event for event in events if isinstance(event, Refused))
    assert (refused.reason, refused.message) == ("not_sent", "cannot connect")
    first, second = (event for event in events if isinstance(event, GateClosed))
    assert first == GateClosed(at=1.0, reason="unreachable", seconds=first.seconds)
    assert 0.25 <= first.seconds <= 0.5 <= second.seconds <= 1
    sent = [event.at for event in events if isinstance(event, Sent)]
    assert sent[1] == pytest.approx(1 + first.seconds)


def test_a_gate_that_a_429_closes_is_told_of_once_and_for_how_long() -> None:
    async def refuse_four(request: Request) -> Answer:
        return told(429, TOO_MANY, {"Retry-After": "7"}) if len(line.posts) <= 3 else line.accept()

    async def three(session: AsyncSession) -> None:
        await asyncio.gather(*map(session.generate, jobs(3)))

    line = Line(on_post=refuse_four)
    closed = [event for event in told_of(line, three) if isinstance(event, GateClosed)]
    assert closed == [GateClosed(at=0.0, reason="request_rate", seconds=7.0)]


def test_a_lost_answer_is_told_of_as_the_jobs_end() -> None:
    sent, ended = told_of(line_that(unknown("cut")))[1:]
    assert isinstance(sent, Sent)
    assert isinstance(ended, Ended)
    assert isinstance(ended.error, SubmissionUnknownError)
    assert (ended.status, ended.at) == (Status.UNKNOWN, 1.0)


def test_a_job_that_is_sent_again_after_a_doubt_says_so() -> None:
    events = told_of(line_that(unknown("cut")), on_unknown="resubmit")
    assert [(event.attempt, event.doubts) for event in events if isinstance(event, Sent)] == [(1, 0), (2, 1)]
    assert [type(event) for event in events] == [Queued, Sent, Sent, Accepted, Ended]


def test_a_task_of_elsewhere_is_neither_queued_nor_sent() -> None:
    async def attach(session: AsyncSession) -> None:
        generation = await session.attach("task-7")
        with pytest.raises(TaskFailedError):
            await generation

    async def give_up(request: Request) -> Answer:
        return told(200, failed("task-7"))

    accepted, ended = told_of(Line(on_query=give_up), attach)
    facts: dict[str, Any] = {"number": 0, "job": None, "key": None, "task_id": "task-7"}
    assert accepted == Accepted(**facts, at=0.0, waited_s=0.0, attempt=0, answered_s=None)
    assert isinstance(ended, Ended)
    assert (ended.status, ended.ran_s, ended.late_s) == (Status.FAILED, None, None)


def test_a_deadline_that_passes_is_told_as_any_other_end() -> None:
    ended = told_of(line_that(on_query=never), timeout=50)[-1]
    assert isinstance(ended, Ended)
    assert isinstance(ended.error, WaitTimeoutError)
    assert (ended.at, ended.ran_s, ended.status) == (50, 49, Status.ABANDONED)


def test_what_is_queued_when_another_meets_a_402_ends_without_having_been_sent() -> None:
    async def three(session: AsyncSession) -> None:
        await asyncio.gather(*map(session.generate, jobs(3)), return_exceptions=True)

    events = told_of(line_that((402, refusal(402, "empty"))), three, max_running=1)
    by_job = [[type(event) for event in events if getattr(event, "number", None) == number] for number in range(3)]
    assert by_job == [[Queued, Sent, Refused, Ended], [Queued, Ended], [Queued, Ended]]


def test_a_session_that_closes_ends_every_job_and_tells_of_it() -> None:
    async def leave(session: AsyncSession) -> None:
        for each in jobs(3):
            await session.submit(each)

    ends = [event for event in told_of(Line(), leave, max_running=1) if isinstance(event, Ended)]
    assert sorted(event.number for event in ends) == [0, 1, 2]
    assert {type(event.error) for event in ends} == {SessionClosedError}


async def test_a_video_that_the_journal_has_is_told_of_by_its_end_alone(tmp_path: Path) -> None:
    events: list[SessionEvent] = []
    for _ in range(2):
        async with Line().session(journal=tmp_path / "batch.db") as session:
            session.hooks.append(events.append)
            await session.generate(JOB)
    *first, ended, found = events
    assert [type(event) for event in first] == [Queued, Sent, Accepted]
    assert isinstance(ended, Ended)
    assert isinstance(found, Ended)
    assert (found.video, found.ran_s, found.late_s) == (ended.video, None, None)


async def test_a_download_is_told_of_once_with_its_file_and_its_size(tmp_path: Path) -> None:
    events: list[SessionEvent] = []
    async with emulated() as (_, session):
        video = await session.generate(job())
        session.hooks.append(events.append)
        path = await session.download(video, tmp_path / "cat.mp4", key="mine")
    (event,) = events
    assert isinstance(event, Downloaded)
    assert event == Downloaded(
        at=event.at, task_id=video.task_id, key="mine", path=path, bytes=4096, took_s=event.took_s
    )
    assert 0 < event.took_s < 30


async def test_a_file_that_was_taken_away_at_once_harms_nobody(tmp_path: Path) -> None:
    listeners, events = Hooks(), list[SessionEvent]()
    listeners.append(events.append)
    video = Video("task-1", None, ())
    await EventEmitter(listeners).downloaded(video, None, tmp_path / "gone.mp4", 0.0)
    assert events == []


@pytest.mark.slow
def test_whatever_goes_wrong_each_jobs_events_make_a_whole_life() -> None:
    """Queued, posts that came to nothing, at most one acceptance, and one end; nothing is told twice."""
    rates = FaultRates(refuse=0.05, rate_429=0.05, cut_after=0.1, error_500=0.1, garbage=0.1)
    query = FaultRates(cut_before=0.1, garbage=0.1, unknown_status=0.1, error_500=0.1)
    service = Service(generation_s=60, fail_rate=0.1, faults=Faults(submit=rates, query=query), seed=4)
    lives: defaultdict[int, str] = defaultdict(str)

    def note(event: SessionEvent) -> None:
        if isinstance(event, JobEvent):
            lives[event.number] += type(event).__name__[:2]

    async def main() -> dict[Status, int]:
        session = AsyncSession(api_key=DEFAULT_API_KEY, base_url="http://localhost", transport=InMemory(service))
        session.hooks.append(note)
        async with session:
            _ = [outcome async for outcome in session.stream(jobs(200))]
            stats = session.stats()
            return {Status.SUCCESS: stats.succeeded, Status.UNKNOWN: stats.unknown, Status.REFUSED: stats.refused}

    ended = run_virtual(main)
    assert len(lives) == 200
    assert min(ended.values()) > 3
    assert {life for life in lives.values() if not re.fullmatch("Qu(SeRe)*(Se(Ac(St)?)?)?En", life)} == set()
    assert sum(life.count("Se") for life in lives.values()) == service.ledger.posts


def test_what_goes_into_a_log_holds_no_prompt_no_key_and_no_signature() -> None:
    events = told_of(line_that((429, CONCURRENT)))
    assert len(events) == 6
    shown = "".join(map(repr, events))
    assert "task-1.mp4?…" in shown
    assert [secret for secret in (str(JOB.prompt), KEY, "sig=") if secret in shown] == []


def test_an_event_cannot_be_changed() -> None:
    event = GateClosed(at=0.0, reason="unreachable", seconds=1.0)
    with pytest.raises(attrs.exceptions.FrozenInstanceError):
        event.seconds = 2.0  # type: ignore[misc]


@pytest.mark.slow
async def test_a_url_that_is_asked_for_anew_is_no_job_and_told_to_nobody(tmp_path: Path) -> None:
    events: list[SessionEvent] = []
    async with emulated(url_lasts_s=60.0) as (emulator, session):
        session.hooks.append(events.append)
        video = await session.generate(job())
        emulator.clock_offset_s += 61.0
        await session.download(video, tmp_path / "cat.mp4")
        assert session.stats().succeeded == 1
    assert [type(event) for event in events if isinstance(event, Accepted | Ended)] == [Accepted, Ended]
