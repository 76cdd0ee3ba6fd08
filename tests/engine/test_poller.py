"""Queries: they may fail in any way, any number of times, and no task is lost over it."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from itertools import pairwise
from typing import Any

import aiohttp
import anyio
import pytest

from hailuo_async import (
    AsyncSession,
    AuthenticationError,
    ConfigError,
    HailuoError,
    JobError,
    Status,
    TaskExpiredError,
    TaskFailedError,
    Video,
    WaitTimeoutError,
)
from hailuo_async._engine.in_flight import MAX_QUERIES
from hailuo_async._engine.poller import NOT_FOUND_GRACE_S, RESULT_KEPT_S
from hailuo_async._rules.wire import Answer, Request, unknown, unsent
from hailuo_async.emulator import DEFAULT_API_KEY, Emulator, Fault, FaultRates, Faults, Kind, Service
from hailuo_async.testing import run_virtual
from hailuo_async.testing.in_memory import InMemory

from ..support.service import (
    Line,
    asked_about,
    envelope,
    failed,
    finished,
    job,
    jobs,
    never,
    refusal,
    running,
    told,
    until,
)

NOT_FOUND = refusal(404, "Resource not found")
QUERY_FAULTS = [
    Fault.ERROR_500,
    Fault.REFUSE,
    Fault.RATE_429,
    Fault.CUT_BEFORE,
    Fault.CUT_AFTER,
    Fault.ERROR_500_AFTER,
    Fault.GARBAGE,
    Fault.TRUNCATED,
    Fault.UNKNOWN_STATUS,
    Fault.MISSING_FIELDS,
    Fault.EXTRA_FIELDS,
    Fault.WRONG_TASK_ID,
]


def over(service: Service, **settings: Any) -> AsyncSession:
    """A session on an emulated service, on the virtual clock."""
    transport = InMemory(service)
    return AsyncSession(api_key=DEFAULT_API_KEY, base_url="http://localhost", transport=transport, **settings)


# --- Failing ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("fault", [*QUERY_FAULTS, Fault.HANG, Fault.HANG_BEFORE])
def test_queries_that_fail_forty_times_in_one_way_lose_nothing(fault: Fault) -> None:
    service = Service(generation_s=20, requests_per_minute=None)

    async def main() -> Video:
        for _ in range(40):
            service.next_fault(Kind.QUERY, fault)
        async with over(service) as session:
            return await session.generate(job())

    video = run_virtual(main)
    assert [video.task_id] == service.ledger.accepted["a cat"]
    assert service.ledger.posts == 1
    assert service.ledger.faults[Kind.QUERY, fault] > 5


@pytest.mark.slow
def test_hundreds_of_jobs_are_delivered_while_a_third_of_all_queries_fails_in_every_way() -> None:
    rates = FaultRates(**{fault.value: 0.3 / len(QUERY_FAULTS) for fault in QUERY_FAULTS})
    service = Service(generation_s=60, max_running=30, requests_per_minute=None, faults=Faults(query=rates), seed=3)

    async def main() -> set[str]:
        async with over(service) as session:
            return {video.task_id for video in await asyncio.gather(*map(session.generate, jobs(300)))}

    assert run_virtual(main) == {ids[0] for ids in service.ledger.accepted.values()}
    assert service.ledger.posts == service.ledger.submits_accepted + service.ledger.statuses[Kind.SUBMIT, 429]


@pytest.mark.slow
async def test_on_a_socket_too_every_job_is_delivered_while_queries_fail() -> None:
    rates = FaultRates(cut_before=0.1, cut_after=0.1, truncated=0.05, garbage=0.05, error_500=0.05, wrong_task_id=0.05)
    async with (
        Emulator(generation_s=0.1, max_running=None, requests_per_minute=None, faults=Faults(query=rates)) as there,
        AsyncSession(api_key=there.api_key, base_url=there.url, poll_interval=(0.01, 0.1)) as session,
    ):
        videos = await asyncio.gather(*map(session.generate, jobs(30)))
    assert len({video.task_id for video in videos}) == there.ledger.posts == 30


@pytest.mark.parametrize(
    "useless",
    [
        told(200, finished("another-task")),
        told(200, envelope({"status": 7, "task_id": "task-1"})),
        told(200, envelope({"task_id": "task-1"})),
        told(200, envelope({"status": "success", "task_id": "task-1"})),
        told(200, envelope({"status": "success", "task_id": "task-1", "result": {"resources": []}})),
        told(
            200, envelope({"status": "success", "task_id": "task-1", "result": {"resources": [{"url": "file:///x"}]}})
        ),
        told(401, []),
        told(404, "a proxy's page"),
        told(404, NOT_FOUND),
        told(402, refusal(402, "insufficient balance")),
        told(422, refusal(422, "Invalid format")),
        told(500, finished()),
        unknown("cut"),
        unsent("cannot connect"),
    ],
    ids=str,
)
def test_an_answer_that_says_nothing_of_the_task_is_asked_for_again(useless: Answer) -> None:
    async def main() -> tuple[str, int]:
        async def answer(request: Request) -> Answer:
            return useless if len(line.queries) <= 3 else told(200, finished(asked_about(request)))

        line = Line(on_query=answer)
        async with line.session() as session:
            return (await session.generate(job())).task_id, len(line.queries)

    assert run_virtual(main) == ("task-1", 4)


def test_a_status_that_nobody_knows_is_waited_for_and_told_once(caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> None:
        async def answer(request: Request) -> Answer:
            task_id = asked_about(request)
            return told(200, running(task_id, "levitating") if len(line.queries) <= 9 else finished(task_id))

        line = Line(on_query=answer)
        async with line.session() as session:
            await asyncio.gather(*map(session.generate, jobs(3)))

    run_virtual(main)
    assert [record.levelname for record in caplog.records if "levitating" in record.getMessage()] == ["WARNING"]


def test_an_answer_that_names_no_task_is_asked_for_again_on_a_connection_of_its_own() -> None:
    async def main() -> tuple[str, list[bool]]:
        async def answer(request: Request) -> Answer:
            anonymous = finished()
            del anonymous["data"]["task_id"]
            return told(200, anonymous)

        line = Line(on_query=answer)
        async with line.session() as session:
            video = await session.generate(job())
        return video.task_id, [query.is_alone for query in line.queries]

    assert run_virtual(main) == ("task-1", [False, True])


def test_words_of_status_that_nobody_knows_are_told_once_a_session_and_not_kept(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def main() -> None:
        async def count_up(request: Request) -> Answer:
            count = len(line.queries)
            return told(200, running(asked_about(request), f"{count} %") if count < 90 else finished())

        line = Line(on_query=count_up)
        async with line.session() as session:
            await session.generate(job())

    run_virtual(main)
    (warning,) = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    assert warning.startswith("the status '1 %' is unknown")


async def test_a_client_session_that_is_closed_meanwhile_ends_every_wait_with_the_reason() -> None:
    async with Emulator(generation_s=60) as emulator, aiohttp.ClientSession() as theirs:
        session = AsyncSession(
            api_key=emulator.api_key, base_url=emulator.url, client_session=theirs, poll_interval=(0.01, 0.1)
        )
        async with session:
            running_one = await session.submit(job())
            task_id = await running_one.accepted()
            await theirs.close()
            with pytest.raises(ConfigError, match="client_session") as caught:
                await running_one
            assert caught.value.task_id == task_id
            with pytest.raises(ConfigError, match="client_session"):
                await session.generate(job())


def test_failing_queries_are_asked_again_at_growing_intervals() -> None:
    async def main() -> list[float]:
        times = []

        async def fail(request: Request) -> Answer:
            times.append(anyio.current_time())
            return unknown("cut") if len(times) < 12 else told(200, finished())

        async with Line(on_query=fail).session(poll_interval=(1, 30)) as session:
            await session.generate(job())
        return times

    times = run_virtual(main)
    gaps = [round(later - earlier, 3) for earlier, later in pairwise(times)]
    assert gaps == [1, 2, 4, 8, 16, 30, 30, 30, 30, 30, 30]


# --- The service's own word -------------------------------------------------------------------------------------------


def test_a_task_that_failed_carries_the_services_reason() -> None:
    async def main() -> HailuoError:
        async def fail(request: Request) -> Answer:
            return told(200, failed(asked_about(request), "unsafe\npicture"))

        async with Line(on_query=fail).session() as session:
            with pytest.raises(TaskFailedError) as caught:
                await session.generate(job())
            assert session.stats().failed == 1
            return caught.value

    assert str(run_virtual(main)) == "the service gave the task up: unsafe picture (task task-1)"


@pytest.mark.parametrize("status", [401, 403])
def test_a_key_that_is_no_longer_valid_ends_the_wait_with_the_task_id(status: int) -> None:
    async def main() -> HailuoError:
        async def refuse(request: Request) -> Answer:
            return told(status, refusal(status, "Authentication failed"))

        async with Line(on_query=refuse).session() as session:
            with pytest.raises(AuthenticationError) as caught:
                await session.generate(job())
            return caught.value

    assert run_virtual(main).task_id == "task-1"


def test_a_404_ends_a_task_of_ours_only_after_a_grace() -> None:
    async def main() -> tuple[str | None, float]:
        async def refuse(request: Request) -> Answer:
            return told(404, NOT_FOUND)

        async with Line(on_query=refuse).session() as session:
            with pytest.raises(TaskExpiredError) as caught:
                await session.generate(job())
            return caught.value.task_id, anyio.current_time()

    task_id, at = run_virtual(main)
    assert task_id == "task-1"
    assert NOT_FOUND_GRACE_S < at < NOT_FOUND_GRACE_S + 5


def test_a_404_ends_no_attached_task_that_was_just_seen_running() -> None:
    """One part of the service may know it before the others, and when it was accepted is not known."""

    async def lag(request: Request) -> Answer:
        await anyio.sleep(0.1)
        answers = (told(200, running()), told(404, NOT_FOUND), told(404, NOT_FOUND), told(200, finished()))
        return answers[len(line.queries) - 1]

    line = Line(on_query=lag)

    async def main() -> Video:
        async with line.session(poll_interval=(5, 5)) as session:
            return await (await session.attach("task-1"))

    assert run_virtual(main).task_id == "task-1"


def test_a_404_that_is_read_late_ends_no_task_that_was_young_when_it_was_asked_about() -> None:
    """Its process was stopped meanwhile."""

    async def lie_unread(request: Request) -> Answer:
        await anyio.sleep(NOT_FOUND_GRACE_S)
        return told(404, NOT_FOUND) if len(line.queries) == 1 else told(200, finished())

    line = Line(on_query=lie_unread)

    async def main() -> Video:
        async with line.session(poll_interval=(5, 5)) as session:
            return await session.generate(job())

    assert run_virtual(main).task_id == "task-1"


async def test_a_404_ends_an_attached_task_at_once() -> None:
    async def refuse(request: Request) -> Answer:
        return told(404, NOT_FOUND)

    line = Line(on_query=refuse)
    async with line.session() as session:
        with pytest.raises(TaskExpiredError) as caught:
            await (await session.attach("long-gone"))
    assert (caught.value.task_id, len(line.queries)) == ("long-gone", 1)


# --- Deadlines --------------------------------------------------------------------------------------------------------


def test_at_its_deadline_a_job_ends_with_its_task_id_and_goes_on_at_the_service() -> None:
    service = Service(generation_s=300, spread=0)

    async def main() -> tuple[float, str, str]:
        async with over(service) as session:
            with pytest.raises(WaitTimeoutError) as caught:
                await session.generate(job(), timeout=100)
            at = anyio.current_time()
            assert session.stats().running == 0
        assert caught.value.task_id is not None
        async with over(service) as another:
            video = await (await another.attach(caught.value.task_id))
        return at, caught.value.task_id, video.task_id

    at, task_id, delivered = run_virtual(main)
    assert (at, delivered) == (100, task_id)
    assert service.ledger.posts == 1


def test_a_deadline_says_why_the_last_query_failed_unless_a_later_one_did_not() -> None:
    async def main() -> list[str | None]:
        async def fail_until_told(request: Request) -> Answer:
            return told(200, running(asked_about(request))) if anyio.current_time() > 15 else unknown("cut off")

        async with Line(on_query=fail_until_told).session() as session:
            generation = await session.submit(job(), timeout=10)
            errors = await asyncio.gather(generation, session.generate(job(), timeout=20), return_exceptions=True)
        return [error.reason for error in errors if isinstance(error, WaitTimeoutError)]

    assert run_virtual(main) == ["cut off", None]


def test_a_sessions_timeout_is_every_jobs_unless_it_has_its_own() -> None:
    async def main() -> list[float]:
        async def ended_at(session: AsyncSession, **options: float) -> float:
            with contextlib.suppress(WaitTimeoutError):
                await session.generate(job(), **options)
            return anyio.current_time()

        async with Line(on_query=never).session(timeout=50) as session:
            return list(await asyncio.gather(ended_at(session), ended_at(session, timeout=20)))

    assert run_virtual(main) == pytest.approx([50, 20])


def test_a_deadline_that_passes_during_the_post_waits_for_the_task_id() -> None:
    async def main() -> tuple[float, str | None]:
        async def accept_late(request: Request) -> Answer:
            await anyio.sleep(20)
            return line.accept()

        line = Line(on_post=accept_late)
        async with line.session() as session:
            with pytest.raises(WaitTimeoutError) as caught:
                await session.generate(job(), timeout=10)
            return anyio.current_time(), caught.value.task_id

    assert run_virtual(main) == (20, "task-1")


def test_a_deadline_passes_while_the_query_is_under_way_and_its_answer_counts_no_more(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def main() -> float:
        async def hang(request: Request) -> Answer:
            await anyio.sleep(20)
            return told(200, finished())

        async with Line(on_query=hang).session() as session:
            with pytest.raises(WaitTimeoutError):
                await session.generate(job(), timeout=10)
            ended_at = anyio.current_time()
            await anyio.sleep(20)
            assert session.stats().running == 0
            return ended_at

    assert run_virtual(main) == 10
    assert "please report this" not in caplog.text


def test_without_a_deadline_a_task_is_waited_for_as_long_as_its_result_is_kept() -> None:
    async def main() -> tuple[float, int]:
        line = Line(on_query=never)
        async with line.session(poll_interval=(1, 600)) as session:
            with pytest.raises(WaitTimeoutError) as caught:
                await session.generate(job())
            assert caught.value.task_id == "task-1"
            return anyio.current_time(), len(line.queries)

    at, queries = run_virtual(main)
    assert at == RESULT_KEPT_S == 7 * 24 * 3600
    assert queries < 1500


def test_the_last_query_of_a_task_without_a_deadline_comes_as_its_result_is_deleted_and_its_answer_counts() -> None:
    async def main() -> float:
        async def end_late(request: Request) -> Answer:
            is_there = anyio.current_time() >= RESULT_KEPT_S
            return told(200, (finished if is_there else running)(asked_about(request)))

        async with Line(on_query=end_late).session(poll_interval=(1, 600)) as session:
            await session.generate(job())
            return anyio.current_time()

    assert run_virtual(main) == RESULT_KEPT_S


def test_a_task_without_a_deadline_is_given_up_soon_after_its_result_is_deleted_if_no_query_succeeds() -> None:
    async def main() -> float:
        async def fail(request: Request) -> Answer:
            return unknown("cut off")

        async with Line(on_query=fail).session(poll_interval=(1, 600)) as session:
            with pytest.raises(WaitTimeoutError):
                await session.generate(job())
            return anyio.current_time()

    assert RESULT_KEPT_S <= run_virtual(main) <= RESULT_KEPT_S + 600


def test_a_longer_deadline_than_a_result_is_kept_holds_and_takes_few_more_queries() -> None:
    async def main() -> tuple[float, int]:
        line = Line(on_query=never)
        async with line.session(poll_interval=(1, 600)) as session:
            with pytest.raises(WaitTimeoutError):
                await session.generate(job(), timeout=2 * RESULT_KEPT_S)
            return anyio.current_time(), len(line.queries)

    at, queries = run_virtual(main)
    assert at == 2 * RESULT_KEPT_S
    assert queries < 3000


# --- Attached ---------------------------------------------------------------------------------------------------------


async def test_a_query_that_a_trace_or_a_hook_of_the_caller_cancels_is_made_again() -> None:
    async def answer(request: Request) -> Answer:
        if len(line.queries) <= 2:
            raise asyncio.CancelledError
        return told(200, finished(asked_about(request)))

    line = Line(on_query=answer)
    async with line.session() as session:
        assert (await session.generate(job())).task_id == "task-1"
    assert len(line.queries) == 3


@pytest.mark.parametrize("answer", [(404, refusal(404, "Resource not found")), (200, envelope({"files": []}))])
def test_a_path_that_the_service_named_and_that_leads_nowhere_loses_no_task(answer: tuple[int, object]) -> None:
    named = "/api/v1/media/files/task-1"

    async def take(request: Request) -> Answer:
        found = envelope({"status": "pending", "task_id": "task-1", "get_result": {"url": f"http://localhost{named}"}})
        return told(200, found)

    async def tell(request: Request) -> Answer:
        return told(*answer) if request.path == named else told(200, finished(asked_about(request)))

    line = Line(on_post=take, on_query=tell)

    async def main() -> str:
        async with line.session() as session:
            return (await session.generate(job())).task_id

    assert run_virtual(main) == "task-1"
    assert [request.path for request in line.queries[-2:]] == [named, "/api/v1/tasks/task-1"]


async def test_an_attached_task_is_delivered_and_not_paid_for() -> None:
    line = Line()
    async with line.session() as session:
        generation = await session.attach("task-9")
        assert (generation.job, generation.task_id, await generation.accepted()) == (None, "task-9", "task-9")
        assert (await generation).task_id == "task-9"
    assert line.posts == []


async def test_attaching_to_a_task_that_is_waited_for_already_shares_the_wait() -> None:
    may_finish = False

    async def finish(request: Request) -> Answer:
        return told(200, finished() if may_finish else running())

    async with Line(on_query=finish).session() as session:
        ours = await session.submit(job())
        attached = await session.attach(await ours.accepted())
        may_finish = True
        assert await attached == await ours
        assert (attached.job, session.stats().succeeded) == (job(), 1)


@pytest.mark.parametrize("task_id", ["", "a b", "x" * 257, "a\nb", None, 7])
async def test_what_cannot_be_a_task_id_is_not_asked_about(task_id: str) -> None:
    line = Line()
    async with line.session() as session:
        with pytest.raises(JobError):
            await session.attach(task_id)
    assert line.queries == []


async def test_a_url_to_ask_at_is_followed_on_the_jobs_own_origin_alone() -> None:
    urls = iter(
        [
            "http://localhost/api/v2/tasks/task-1?x=1",
            "http://localhost.evil.example/tasks/task-1",
            "https://localhost/tasks/task-1",
            "http://localhost@evil.example/tasks/task-1",
            "//evil.example/x",
            7,
        ]
    )

    async def accept(request: Request) -> Answer:
        data = {"status": "pending", "task_id": "task-1", "get_result": {"method": "GET", "url": next(urls)}}
        return told(200, envelope(data))

    async def finish(request: Request) -> Answer:
        return told(200, finished())

    line = Line(on_post=accept, on_query=finish)
    async with line.session() as session:
        for _ in range(6):
            await session.generate(job())
    assert [request.path for request in line.queries] == ["/api/v2/tasks/task-1?x=1"] + ["/api/v1/tasks/task-1"] * 5


# --- Bounds -----------------------------------------------------------------------------------------------------------


async def test_a_service_that_stalls_holds_a_bounded_number_of_queries() -> None:
    under_way = most = 0
    may_answer = anyio.Event()

    async def stall(request: Request) -> Answer:
        nonlocal under_way, most
        under_way += 1
        most = max(most, under_way)
        await may_answer.wait()
        under_way -= 1
        return told(200, finished(asked_about(request)))

    async with Line(on_query=stall).session() as session:
        waiting = [asyncio.ensure_future(session.generate(each)) for each in jobs(60)]
        await until(lambda: session.stats().running == 60)
        await until(lambda: under_way == MAX_QUERIES)
        may_answer.set()
        await asyncio.gather(*waiting)
    assert most == MAX_QUERIES


async def test_status_runs_one_way_and_updates_miss_nothing() -> None:
    words = iter(["pending", "queued", "processing", "pending", "RUNNING", "Succeeded"])

    async def answer(request: Request) -> Answer:
        word = next(words)
        return told(200, finished() if word == "Succeeded" else running(status=word))

    async def read(updates: AsyncIterator[Status]) -> list[Status]:
        return [status async for status in updates]

    async with Line(on_query=answer).session() as session:
        generation = await session.submit(job())
        seen = asyncio.ensure_future(read(generation.updates()))
        await asyncio.sleep(0)
        await generation
        assert (await seen)[-4:] == [Status.SENDING, Status.PENDING, Status.PROCESSING, Status.SUCCESS]
        assert await read(generation.updates()) == [Status.SUCCESS]
