"""Submits: one POST a job whatever happens to it, and three outcomes that are never mixed up."""

from __future__ import annotations

import asyncio
import io
import math
import weakref
from pathlib import Path
from typing import Any, Literal

import anyio
import anyio.to_thread
import pytest

from hailuo_async import (
    AsyncSession,
    AuthenticationError,
    GateClosed,
    HailuoError,
    ImageError,
    ImageToVideo,
    InsufficientBalanceError,
    JournalError,
    ProtocolError,
    RequestRejectedError,
    ServiceUnavailableError,
    SessionClosedError,
    SessionEvent,
    Status,
    SubmissionUnknownError,
    WaitTimeoutError,
)
from hailuo_async._engine.gate import MAX_HEAVY
from hailuo_async._engine.recording import Recorder
from hailuo_async._engine.session_state import SessionState
from hailuo_async._engine.submitter import (
    ANSWER_TIMEOUT_S,
    MAX_AT_ONCE,
    MAX_RESUBMITS,
    SHORTEST_ANSWER_TIMEOUT_S,
    SLOWEST_UPLOAD_BYTES_PER_S,
    UNREACHABLE_FOR_S,
    Submitter,
    _answer_timeout_s,
)
from hailuo_async._engine.tracked_job import TrackedJob
from hailuo_async._io.journal.records import Permit
from hailuo_async._io.transport import note_not_begun
from hailuo_async._rules.lifecycle import Event
from hailuo_async._rules.wire import Answer, Part, Request, unknown, unsent
from hailuo_async.emulator import Fault, FaultRates, Faults, Kind
from hailuo_async.testing import run_virtual

from ..support.edge import closed_port
from ..support.service import (
    CONCURRENT,
    TOO_MANY,
    Line,
    emulated,
    finished,
    job,
    jobs,
    lost,
    never,
    no_answer,
    picture,
    prompt_of,
    refusal,
    running,
    settle,
    taken,
    told,
    until,
)

DOUBTFUL = [
    Fault.ERROR_500,
    Fault.CUT_BEFORE,
    Fault.ERROR_500_AFTER,
    Fault.CUT_AFTER,
    Fault.GARBAGE,
    Fault.TRUNCATED,
    Fault.MISSING_FIELDS,
]


async def error_of(session: AsyncSession, **options: float) -> HailuoError:
    """What a job ends in that must not end in a video."""
    with pytest.raises(HailuoError) as caught:
        await session.generate(job(), **options)
    return caught.value


async def test_an_accepted_job_holds_no_picture_that_was_made_to_be_sent() -> None:
    """What was read from a file object, or encoded from a PIL image, lies in memory until then."""
    sent = list[weakref.ref[Request]]()

    async def accept(request: Request) -> Answer:
        sent.append(weakref.ref(request))
        line.posts.clear()
        return line.accept()

    line = Line(on_post=accept)
    async with line.session(poll_interval=(60.0, 60.0)) as session:
        generation = await session.submit(ImageToVideo(io.BytesIO(picture())))
        assert await generation.accepted() == "task-1"
        assert [request() for request in sent] == [None]


# --- One POST a job ---------------------------------------------------------------------------------------------------


async def test_one_turn_of_the_loop_begins_few_posts_however_many_may_leave() -> None:
    """Each begins a connection: hundreds in one turn would hold the loop. The first batch shows that there is room."""
    turn, begun, count = 0, list[int](), 5 * MAX_AT_ONCE

    async def note(request: Request) -> Answer:
        begun.append(turn)
        return line.accept()

    async def count_turns() -> None:
        nonlocal turn
        while True:
            turn += 1
            await asyncio.sleep(0)

    line = Line(on_post=note)
    async with line.session(poll_interval=(0.01, 0.01)) as session:
        proving = [await session.submit(each) for each in jobs(count)]
        for generation in proving:
            await generation.accepted()
        for generation in proving:
            await generation
        begun.clear()
        generations = [await session.submit(each) for each in jobs(count)]
        counting = asyncio.ensure_future(count_turns())
        for generation in generations:
            await generation.accepted()
        counting.cancel()
    assert len(begun) == count
    assert max(map(begun.count, begun)) <= MAX_AT_ONCE


@pytest.mark.usefixtures("trusted")
@pytest.mark.parametrize("fault", DOUBTFUL)
@pytest.mark.parametrize("tls", [False, True], ids=["http", "https"])
async def test_a_doubt_is_reported_and_never_sent_again(fault: Fault, tls: bool) -> None:
    async with emulated(tls=tls) as (emulator, session):
        emulator.next_fault(Kind.SUBMIT, fault)
        with pytest.raises(SubmissionUnknownError) as caught:
            await session.generate(job(key="mine"))
        await session.generate(job("the next"))
        assert emulator.ledger.posts == 2
        assert (session.stats().unknown, session.stats().succeeded) == (1, 1)
    error = caught.value
    assert (error.key, error.task_id) == ("mine", None)
    assert error.reason
    assert error.sent_at is not None
    assert abs(error.sent_at - emulator.ledger.of(Kind.SUBMIT)[0].at) < 5


@pytest.mark.parametrize("status", [400, 402, 404, 409, 422, 429, 500])
@pytest.mark.parametrize("on_unknown", ["raise", "resubmit"])
def test_an_answer_that_refuses_and_names_a_task_is_a_doubt_that_names_it(
    status: int, on_unknown: Literal["raise", "resubmit"]
) -> None:
    """To send the job again would pay for it twice, even where the session was told to resubmit."""
    body = {**refusal(status, "no"), "data": {"task_id": "task-7"}, "request_id": "r"}

    async def main() -> tuple[SubmissionUnknownError, int, str]:
        async def refuse(request: Request) -> Answer:
            return told(status, body, {"X-Request-ID": "req-1"})

        line = Line(on_post=refuse)
        async with line.session(on_unknown=on_unknown) as session:
            with pytest.raises(SubmissionUnknownError) as caught:
                await session.generate(job(key="mine"))
            assert caught.value.task_id is not None
            video = await (await session.attach(caught.value.task_id))
        return caught.value, len(line.posts), video.task_id

    error, posts, task_id = run_virtual(main)
    assert (error.task_id, error.request_id, error.key, posts, task_id) == ("task-7", "req-1", "mine", 1, "task-7")


def test_a_200_whose_code_is_not_0_is_a_doubt_with_the_services_words() -> None:
    async def main() -> tuple[str, str | None, int]:
        async def fail(request: Request) -> Answer:
            return told(200, {"code": 1001, "message": "internal trouble", "data": None})

        line = Line(on_post=fail)
        async with line.session() as session:
            with pytest.raises(SubmissionUnknownError) as caught:
                await session.generate(job())
        return caught.value.reason, caught.value.task_id, len(line.posts)

    assert run_virtual(main) == ("HTTP 200 with code 1001: internal trouble", None, 1)


async def test_strange_fields_and_a_strange_status_of_an_acceptance_lose_no_task() -> None:
    async with emulated() as (emulator, session):
        for fault in (Fault.EXTRA_FIELDS, Fault.UNKNOWN_STATUS):
            emulator.next_fault(Kind.SUBMIT, fault)
            assert (await session.generate(job())).url
        assert emulator.ledger.posts == 2


@pytest.mark.slow
async def test_a_service_that_fails_after_accepting_every_third_is_paid_once_for_each_job() -> None:
    """What is accepted is delivered or named as unknown; nothing is paid for twice."""
    rates = FaultRates(cut_after=0.2, error_500_after=0.15, cut_before=0.1, garbage=0.1, refuse=0.1)
    async with emulated(faults=Faults(submit=rates), seed=7) as (emulator, session):
        made = await asyncio.gather(*(session.generate(each) for each in jobs(60)), return_exceptions=True)
        ledger = emulator.ledger
    kinds = {
        kind: sum(isinstance(each, kind) for each in made) for kind in (SubmissionUnknownError, RequestRejectedError)
    }
    assert ledger.posts == 60
    assert max(len(ids) for ids in ledger.accepted.values()) == 1
    delivered = {each.task_id for each in made if not isinstance(each, BaseException)}
    accepted = {ids[0] for ids in ledger.accepted.values()}
    assert delivered <= accepted
    assert len(accepted - delivered) <= kinds[SubmissionUnknownError]
    assert len(delivered) + sum(kinds.values()) == 60


@pytest.mark.parametrize(("task_id", "known_as"), [(4711, "4711"), ("a/b?c", "a/b?c"), ("x" * 256, "x" * 256)])
async def test_whatever_a_task_id_looks_like_it_is_asked_about(task_id: object, known_as: str) -> None:
    async def accept(request: Request) -> Answer:
        return told(200, taken(task_id))

    async def finish(request: Request) -> Answer:
        return told(200, {"data": {"status": "success", "result": {"resources": [{"url": "https://r.example/v"}]}}})

    async with Line(on_post=accept, on_query=finish).session() as session:
        assert (await session.generate(job())).task_id == known_as


@pytest.mark.parametrize("task_id", [None, "", True, 1.5, [], "a b", "a\nb", "x" * 257])
async def test_an_acceptance_without_a_task_id_is_a_doubt(task_id: object) -> None:
    async def accept(request: Request) -> Answer:
        return told(200, taken(task_id))

    async with Line(on_post=accept).session() as session:
        error = await error_of(session)
    assert isinstance(error, SubmissionUnknownError)
    assert error.reason == "the service accepted the job without a task id"


# --- Refused ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (400, RequestRejectedError),
        (404, RequestRejectedError),
        (413, RequestRejectedError),
        (422, RequestRejectedError),
    ],
)
async def test_a_certain_refusal_is_that_jobs_own_error(status: int, kind: type[HailuoError]) -> None:
    async def refuse(request: Request) -> Answer:
        return told(status, refusal(status, "Invalid format: no")) if prompt_of(request) == "bad" else line.accept()

    line = Line(on_post=refuse)
    async with line.session() as session:
        bad, good = await asyncio.gather(
            session.generate(job("bad")), session.generate(job("good")), return_exceptions=True
        )
    assert type(bad) is kind
    assert str(bad) == f"{status} Invalid format: no"
    assert not isinstance(good, BaseException)
    assert len(line.posts) == 2


async def test_a_refusal_that_is_no_envelope_is_a_protocol_error() -> None:
    async def refuse(request: Request) -> Answer:
        return told(403, [])

    async with Line(on_post=refuse).session() as session:
        assert type(await error_of(session)) is ProtocolError


@pytest.mark.parametrize("content", [CONCURRENT, TOO_MANY], ids=["running", "requests"])
def test_a_429_of_either_kind_waits_and_goes_on(content: object) -> None:
    async def main() -> tuple[int, list[str | None]]:
        async def refuse_at_first(request: Request) -> Answer:
            return told(429, content, {"Retry-After": "7"}) if len(line.posts) <= 4 else line.accept()

        line = Line(on_post=refuse_at_first)
        async with line.session() as session:
            await asyncio.gather(*(session.generate(each) for each in jobs(3)))
            return session.stats().refusals, line.prompts[-3:]

    refusals, sent = run_virtual(main)
    assert refusals == 4
    assert sorted(sent, key=str) == ["job 0", "job 1", "job 2"]


def test_a_job_refused_for_want_of_room_goes_back_to_its_own_place() -> None:
    async def main() -> list[str | None]:
        async def refuse_the_first_once(request: Request) -> Answer:
            return told(429, CONCURRENT) if len(line.posts) == 1 else line.accept()

        line = Line(on_post=refuse_the_first_once)
        async with line.session(max_running=1) as session:
            await asyncio.gather(*(session.generate(each) for each in jobs(4)))
        return line.prompts

    assert run_virtual(main) == ["job 0", "job 0", "job 1", "job 2", "job 3"]


@pytest.mark.parametrize(
    ("status", "message", "kind"),
    [(401, "Authentication failed", AuthenticationError), (402, "insufficient balance", InsufficientBalanceError)],
)
async def test_what_every_job_would_meet_ends_the_queued_unsent_and_leaves_the_session_usable(
    status: int, message: str, kind: type[HailuoError]
) -> None:
    async def refuse(request: Request) -> Answer:
        return told(status, refusal(status, message))

    line = Line(on_post=refuse)
    async with line.session(max_running=1) as session:
        generations = [await session.submit(each) for each in jobs(5)]
        errors = await asyncio.gather(*generations, return_exceptions=True)
        assert [type(error) for error in errors] == [kind] * 5
        assert len({id(error) for error in errors}) == 5
        assert {generation.status for generation in generations} == {Status.REFUSED}
        assert len(line.posts) == 1
        line.on_post = None
        assert await session.generate(job())


async def test_402_lets_what_runs_finish() -> None:
    async with emulated(balance=0.7, price_per_s=0.05, generation_s=0.2) as (_, session):
        made = await asyncio.gather(*(session.generate(each) for each in jobs(4)), return_exceptions=True)
    assert sum(isinstance(each, InsufficientBalanceError) for each in made) == 2
    assert sum(not isinstance(each, BaseException) for each in made) == 2


async def test_a_job_of_urls_waits_for_no_upload_once_the_one_before_it_is_withdrawn() -> None:
    async def post(request: Request) -> Answer:
        if request.is_heavy:
            await anyio.sleep_forever()
        return line.accept()

    line = Line(on_post=post, on_query=never)
    async with line.session() as session:
        for each in jobs(60):  # so many slots are found that uploads alone are short
            await session.submit(each)
        await until(lambda: len(line.posts) == 60)
        heavy = [asyncio.create_task(session.generate(ImageToVideo(picture(301, 301)))) for _ in range(MAX_HEAVY + 1)]
        await until(lambda: len(line.posts) == 60 + MAX_HEAVY and session._running_engine().submitter.queued == 1)
        light = await session.submit(job("light"))
        for task in heavy:
            task.cancel()
        with anyio.fail_after(30):
            await light.accepted()
        await session.aclose(grace=0)
    assert len(line.posts) == 60 + MAX_HEAVY + 1


# --- Unsent -----------------------------------------------------------------------------------------------------------


def test_what_was_never_sent_is_sent_again_until_it_is() -> None:
    async def main() -> tuple[int, float]:
        async def fail_at_first(request: Request) -> Answer:
            return unsent("cannot connect") if anyio.current_time() < 200 else line.accept()

        line = Line(on_post=fail_at_first)
        async with line.session() as session:
            await session.generate(job())
            return len(line.posts), anyio.current_time()

    posts, took_s = run_virtual(main)
    assert 10 <= posts <= 25
    assert took_s < 240


def test_a_service_that_cannot_be_reached_ends_the_job_at_its_deadline_without_a_task_id() -> None:
    async def main() -> tuple[HailuoError, float]:
        async def fail(request: Request) -> Answer:
            return unsent("cannot connect")

        async with Line(on_post=fail).session() as session:
            return await error_of(session, timeout=2 * UNREACHABLE_FOR_S), anyio.current_time()

    error, at = run_virtual(main)
    assert isinstance(error, WaitTimeoutError)
    assert (error.task_id, error.reason, at) == (None, "cannot connect", 600)
    assert str(error) == "no video within 600 s; it was never sent: cannot connect"


def test_without_a_deadline_it_is_given_up_after_a_while() -> None:
    async def main() -> tuple[HailuoError, float]:
        async def fail(request: Request) -> Answer:
            return unsent("cannot connect")

        async with Line(on_post=fail).session() as session:
            return await error_of(session), anyio.current_time()

    error, at = run_virtual(main)
    assert (type(error), str(error)) == (ServiceUnavailableError, "cannot connect")
    assert UNREACHABLE_FOR_S <= at < UNREACHABLE_FOR_S + 31


def test_two_failures_with_a_service_that_answers_between_them_end_no_job() -> None:
    async def main() -> int:
        async def fail(request: Request) -> Answer:
            return unsent("cannot connect")

        async def answer(request: Request) -> Answer:
            return told(200, running("other") if anyio.current_time() < 2 * UNREACHABLE_FOR_S else finished("other"))

        line = Line(on_post=fail, on_query=answer)
        async with line.session(max_running=1, poll_interval=(1, 10)) as session:
            waits = await session.submit(job())
            await until(lambda: line.posts)
            other = await session.attach("other")  # it takes the slot
            line.posts.clear()
            await other
            await until(lambda: line.posts)
            line.on_post = line.on_query = None
            await waits
            return len(line.posts)

    assert run_virtual(main) == 2


async def test_a_refused_port_is_waited_for_and_nothing_leaks() -> None:
    async with AsyncSession(api_key="k", base_url=f"http://127.0.0.1:{closed_port()}") as session:
        error = await error_of(session, timeout=0.3)
    assert (type(error), error.task_id) == (WaitTimeoutError, None)


@pytest.mark.slow
async def test_an_image_that_has_gone_since_it_was_looked_at_ends_its_job_and_is_not_sent(tmp_path: Path) -> None:
    path = tmp_path / "cat.png"
    await anyio.Path(path).write_bytes(picture())
    async with emulated(max_running=0) as (emulator, session):
        generation = await session.submit(ImageToVideo(path))
        await until(lambda: emulator.ledger.posts)
        await anyio.Path(path).unlink()
        emulator.service.max_running = 1
        with pytest.raises(ImageError):
            await generation
        assert generation.status is Status.REFUSED
        assert emulator.ledger.submits_accepted == 0


async def test_a_job_whose_picture_the_journal_cannot_give_just_then_is_sent_when_it_can() -> None:
    async def be_away_once(request: Request) -> Answer:
        away = JournalError(path="batch.db", reason="it is locked", is_outage=True)
        return unsent("it is locked", away) if len(line.posts) == 1 else line.accept()

    line = Line(on_post=be_away_once)
    async with line.session() as session:
        assert (await session.generate(job())).task_id == "task-1"
    assert len(line.posts) == 2


async def test_a_429_while_requests_are_left_shows_how_many_tasks_may_run() -> None:
    async def refuse_the_second(request: Request) -> Answer:
        left = {"X-RateLimit-Limit": "100", "X-RateLimit-Remaining": "50"}
        return line.accept() if len(line.posts) == 1 else told(429, refusal(429, "Rate limit exceeded"), left)

    line = Line(on_post=refuse_the_second, on_query=never)
    async with line.session() as session:
        await (await session.submit(job("runs"))).accepted()
        await session.submit(job("waits"))
        await until(lambda: len(line.posts) == 2)
        await settle()
        assert session.stats().limit == 1


@pytest.mark.parametrize(
    ("length", "left_s", "timeout_s"),
    [
        (0, math.inf, ANSWER_TIMEOUT_S),
        (SLOWEST_UPLOAD_BYTES_PER_S * 100, math.inf, ANSWER_TIMEOUT_S + 100),
        (0, 30.0, 30.0),
        (0, 1.0, SHORTEST_ANSWER_TIMEOUT_S),
    ],
)
def test_the_answer_to_a_post_is_waited_for_by_its_size_and_never_too_short(
    length: int, left_s: float, timeout_s: float
) -> None:
    assert _answer_timeout_s(Request("POST", "/", (Part(length, lambda: iter(())),)), left_s) == timeout_s


# --- Sent again on demand ---------------------------------------------------------------------------------------------


async def test_resubmitting_is_bounded_and_ends_in_the_doubt() -> None:
    line = Line(on_post=lost)
    async with line.session(on_unknown="resubmit") as session:
        error = await error_of(session)
        assert session.stats().unknown == 1
    assert isinstance(error, SubmissionUnknownError)
    assert len(line.posts) == 1 + MAX_RESUBMITS


async def test_resubmitting_ends_with_the_first_acceptance() -> None:
    async def lose_one(request: Request) -> Answer:
        return unknown("cut") if len(line.posts) == 1 else line.accept()

    line = Line(on_post=lose_one)
    async with line.session(on_unknown="resubmit") as session:
        assert (await session.generate(job())).task_id == "task-1"
    assert len(line.posts) == 2


async def test_a_job_in_doubt_stays_in_doubt_whatever_becomes_of_the_next_post() -> None:
    """The first POST may be paid for: to say that the job was refused would be a lie."""

    async def lose_then_refuse(request: Request) -> Answer:
        return unknown("cut") if len(line.posts) == 1 else told(422, refusal(422, "Value out of range: no"))

    line = Line(on_post=lose_then_refuse)
    async with line.session(on_unknown="resubmit", max_jobs=1) as session:
        error = await error_of(session)
        assert session.stats().unknown == 1
        assert type(await error_of(session)).__name__ == "SpendingLimitError"
    assert isinstance(error, SubmissionUnknownError)
    assert (error.reason, type(error.__cause__)) == ("cut", RequestRejectedError)


async def test_a_job_in_doubt_that_waits_to_be_sent_again_is_not_called_unsent_when_the_session_closes() -> None:
    async def lose_then_refuse(request: Request) -> Answer:
        return unknown("cut") if len(line.posts) == 1 else told(429, TOO_MANY, {"Retry-After": "60"})

    line = Line(on_post=lose_then_refuse)
    async with line.session(on_unknown="resubmit") as session:
        generation = await session.submit(job())
        await until(lambda: len(line.posts) == 2)
    with pytest.raises(SubmissionUnknownError) as caught:
        await generation
    assert isinstance(caught.value.__cause__, SessionClosedError)
    assert generation.status is Status.UNKNOWN


# --- The session's end ------------------------------------------------------------------------------------------------


async def test_a_post_that_the_grace_did_not_suffice_for_is_in_doubt() -> None:
    for on_unknown in ("raise", "resubmit"):
        line = Line(on_post=no_answer)
        async with line.session(on_unknown=on_unknown) as session:
            generation = await session.submit(job(key="torn"))
            await until(lambda: line.posts)  # noqa: B023
            await session.aclose(grace=0.05)
            with pytest.raises(SubmissionUnknownError) as caught:
                await generation
        assert (caught.value.key, generation.status) == ("torn", Status.UNKNOWN)
        assert len(line.posts) == 1


async def test_a_post_that_was_not_begun_when_the_grace_was_over_is_no_doubt() -> None:
    async def connect(request: Request) -> Answer:
        try:
            await anyio.sleep_forever()
        except asyncio.CancelledError as cancellation:
            note_not_begun(cancellation)
            raise
        raise AssertionError

    line, events = Line(on_post=connect), list[SessionEvent]()
    async with line.session() as session:
        session.hooks.append(events.append)
        generation = await session.submit(job(key="cat"))
        await until(lambda: line.posts)
        await session.aclose(grace=0)
        with pytest.raises(SessionClosedError):
            await generation
    assert (generation.status, len(line.posts)) == (Status.ABANDONED, 1)
    assert not any(isinstance(event, GateClosed) for event in events)


async def test_a_post_that_ends_within_the_grace_keeps_its_task_id() -> None:
    may_answer = anyio.Event()

    async def answer_late(request: Request) -> Answer:
        await may_answer.wait()
        return line.accept()

    line = Line(on_post=answer_late)
    async with line.session(max_running=1) as session:
        sent, queued = await session.submit(job("sent")), await session.submit(job("queued"))
        await until(lambda: line.posts)
        closing = asyncio.ensure_future(session.aclose())
        await asyncio.sleep(0.02)
        assert not closing.done()
        may_answer.set()
        await closing
    ends = await asyncio.gather(sent, queued, return_exceptions=True)
    assert [(type(end), getattr(end, "task_id", "?")) for end in ends] == [
        (SessionClosedError, "task-1"),
        (SessionClosedError, None),
    ]
    assert line.prompts == ["sent"]


def test_a_post_that_a_trace_or_a_hook_of_the_caller_cancels_before_it_begins_is_not_tried_again_at_once(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def refuse_to_begin(request: Request) -> Answer:
        if len(line.posts) <= 5:
            cancellation = asyncio.CancelledError()
            note_not_begun(cancellation)
            raise cancellation
        return line.accept()

    line = Line(on_post=refuse_to_begin)

    async def main() -> float:
        async with line.session() as session:
            began_at = asyncio.get_running_loop().time()
            await session.generate(job())
            return asyncio.get_running_loop().time() - began_at

    assert run_virtual(main) > 4
    assert len(line.posts) == 6
    assert "another part of this program cancelled the request before it was sent: correct that" in caplog.text


async def test_a_caller_that_leaves_as_a_closed_session_takes_its_permit_back_is_no_bug() -> None:
    class Leaves(Recorder):
        async def unsent(self, tracked: TrackedJob) -> None:
            tracked.fail(Event.ABANDON, WaitTimeoutError(timeout_s=1.0))

    state = SessionState()
    state.end("the session is closed")
    nothing: Any = None
    submitter = Submitter(nothing, nothing, Leaves(), "", False, nothing, state)
    tracked = TrackedJob(0)
    assert not await submitter._may_post(tracked, Permit.GRANTED)
    assert isinstance(tracked.error, WaitTimeoutError)
