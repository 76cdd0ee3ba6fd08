"""Those who wait for a job: any number of them, cancelled at any moment, and none of them owns its POST."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from pathlib import Path
from random import Random

import anyio
import pytest

from hailuo_async import (
    AsyncSession,
    HailuoError,
    ImageToVideo,
    SessionClosedError,
    Status,
    SubmissionUnknownError,
    TaskFailedError,
    Video,
)
from hailuo_async._rules.wire import Answer, Request
from hailuo_async.emulator import DEFAULT_API_KEY, Emulator, FaultRates, Faults, Kind, Service
from hailuo_async.testing import run_virtual
from hailuo_async.testing.in_memory import InMemory

from ..support.service import (
    CONCURRENT,
    Line,
    asked_about,
    failed,
    finished,
    job,
    jobs,
    lost,
    never,
    no_answer,
    picture,
    running,
    told,
    until,
)


@pytest.fixture
def info(caplog: pytest.LogCaptureFixture) -> pytest.LogCaptureFixture:
    caplog.set_level("INFO", "hailuo_async")
    return caplog


async def give_up(task: asyncio.Future[Video]) -> None:
    """Cancels a caller, and sees it off."""
    task.cancel()
    await asyncio.wait([task])
    assert task.cancelled()


# --- Waiting ----------------------------------------------------------------------------------------------------------


async def test_any_number_may_wait_and_those_who_leave_disturb_nobody() -> None:
    may_finish = False

    async def finish(request: Request) -> Answer:
        return told(200, finished() if may_finish else running())

    line = Line(on_query=finish)
    async with line.session() as session:
        generation = await session.submit(job())
        waiters = [asyncio.ensure_future(_wait(generation)) for _ in range(50)]
        await until(lambda: line.queries)
        for waiter in waiters[::3]:
            await give_up(waiter)
        may_finish = True
        videos = await asyncio.gather(*waiters, return_exceptions=True)
        kept = [video for video in videos if not isinstance(video, BaseException)]
        assert len(kept) == 50 - 17
        assert kept == [await generation] * len(kept)
    assert len(line.posts) == 1
    assert await generation == kept[0]  # a video is there for good


async def _wait(generation: object) -> Video:
    video: Video = await generation  # type: ignore[misc]
    return video


async def test_each_waiter_raises_an_error_of_its_own() -> None:
    async def fail(request: Request) -> Answer:
        return told(200, failed())

    async with Line(on_query=fail).session() as session:
        generation = await session.submit(job())
        errors = await asyncio.gather(*(_wait(generation) for _ in range(5)), return_exceptions=True)
    assert {(type(error), str(error)) for error in errors} == {
        (TaskFailedError, "the service gave the task up: the model gave up (task task-1)")
    }
    assert len({id(error) for error in errors}) == 5


async def test_a_handle_tells_where_the_job_stands() -> None:
    line = Line(on_query=never)
    async with line.session(max_running=1) as session:
        first, second = await session.submit(job(key="one")), await session.submit(job("two"))
        assert (first.job, first.key, second.key) == (job(key="one"), "one", None)
        assert await first.accepted() == first.task_id == "task-1"
        assert (first.status, second.status, second.task_id) == (Status.PENDING, Status.QUEUED, None)
        assert repr(first) == "<Generation 'one' pending task task-1>"
        assert repr(second) == "<Generation #1 queued>"
    assert (first.status, second.status) == (Status.ABANDONED, Status.ABANDONED)
    assert await first.accepted() == "task-1"
    with pytest.raises(SessionClosedError):
        await second.accepted()


async def test_waiting_for_the_acceptance_of_a_job_in_doubt_raises_the_doubt() -> None:
    async with Line(on_post=lost).session() as session:
        with pytest.raises(SubmissionUnknownError):
            await (await session.submit(job())).accepted()


def test_a_generation_belongs_to_the_loop_of_its_session() -> None:
    async def make() -> object:
        async with Line().session() as session:
            generation = await session.submit(job())
            await generation
            return generation

    generation = asyncio.run(make())
    with pytest.raises(SessionClosedError, match="another event loop") as caught:
        asyncio.run(_wait(generation))
    assert caught.value.task_id == "task-1"


# --- generate(), cancelled --------------------------------------------------------------------------------------------


async def test_cancelled_while_its_image_is_looked_at_nothing_was_sent(tmp_path: Path) -> None:
    line = Line()
    path = tmp_path / "cat.png"
    await anyio.Path(path).write_bytes(picture(1000, 1000))
    async with line.session() as session:
        task = asyncio.ensure_future(session.generate(ImageToVideo(path)))
        await asyncio.sleep(0)
        assert session.stats().queued == 1
        await give_up(task)
        await until(lambda: session.stats().queued == 0)
    assert line.posts == []


async def test_cancelled_in_the_queue_it_is_withdrawn_and_leaves_no_hole() -> None:
    line = Line(on_query=never)
    async with line.session(max_running=1) as session:
        tasks = [asyncio.ensure_future(session.generate(each)) for each in jobs(4)]
        await until(lambda: line.queries)
        assert session.stats().queued == 3
        await give_up(tasks[1])
        assert (session.stats().queued, session.stats().abandoned) == (2, 1)
        line.on_query = None
        await asyncio.gather(tasks[0], *tasks[2:])
    assert line.prompts == ["job 0", "job 2", "job 3"]


async def test_cancelled_while_its_post_is_under_way_the_post_is_let_finish_and_its_id_is_logged(
    info: pytest.LogCaptureFixture,
) -> None:
    may_answer = anyio.Event()

    async def answer_late(request: Request) -> Answer:
        await may_answer.wait()
        return line.accept()

    line = Line(on_post=answer_late)
    async with line.session() as session:
        task = asyncio.ensure_future(session.generate(job(key="mine")))
        await until(lambda: line.posts)
        await give_up(task)
        assert "task-1" not in info.text
        may_answer.set()
        await until(lambda: session.stats().succeeded)
    assert [line for line in info.text.splitlines() if "job 'mine' goes on as task task-1" in line]
    assert len(line.posts) == 1


async def test_cancelled_while_its_post_is_under_way_and_then_refused_for_want_of_room_it_is_not_sent_again() -> None:
    may_answer = anyio.Event()

    async def refuse_late(request: Request) -> Answer:
        await may_answer.wait()
        return told(429, CONCURRENT)

    line = Line(on_post=refuse_late)
    async with line.session() as session:
        task = asyncio.ensure_future(session.generate(job()))
        await until(lambda: line.posts)
        await give_up(task)
        may_answer.set()
        await until(lambda: session.stats().abandoned)
        assert (session.stats().queued, session.stats().running) == (0, 0)
    assert len(line.posts) == 1


async def test_cancelled_while_its_task_runs_the_id_is_logged_and_the_task_is_still_followed(
    info: pytest.LogCaptureFixture,
) -> None:
    line = Line(on_query=never)
    async with line.session() as session:
        task = asyncio.ensure_future(session.generate(job()))
        await until(lambda: line.queries)
        await give_up(task)
        assert "goes on as task task-1" in info.text
        line.on_query = None
        await until(lambda: session.stats().succeeded)


@pytest.mark.parametrize("is_journalled", [False, True])
async def test_a_task_that_runs_when_its_session_ends_is_logged_unless_a_journal_or_a_caller_has_its_id(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, *, is_journalled: bool
) -> None:
    line = Line(on_query=never)
    async with line.session(journal=tmp_path / "batch.db" if is_journalled else None) as session:
        await (await session.submit(job())).accepted()
        await session.attach("task-of-another")
        waited_for = asyncio.ensure_future(session.generate(job()))
        await until(lambda: len(line.posts) == 2)
    with pytest.raises(SessionClosedError, match="task-2"):
        await waited_for
    told = [record.getMessage() for record in caplog.records if "goes on as task" in record.getMessage()]
    assert [("task-1" in text, "attach() waits for it" in text) for text in told] == [(True, True)][is_journalled:]


async def test_a_post_that_a_closing_session_cannot_wait_for_is_logged_as_a_doubt(
    caplog: pytest.LogCaptureFixture,
) -> None:
    line = Line(on_post=no_answer)
    async with line.session() as session:
        await session.submit(job(key="mine"))
        await until(lambda: line.posts)
        await session.aclose(0)
    (told,) = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    assert told.startswith("job 'mine' may have been accepted and paid for")


async def test_a_submitted_job_does_not_depend_on_who_waits_for_it() -> None:
    line = Line(on_query=never)
    async with line.session(max_running=1) as session:
        generations = [await session.submit(each) for each in jobs(2)]
        for generation in generations:
            waiter = asyncio.ensure_future(_wait(generation))
            await asyncio.sleep(0)
            await give_up(waiter)
        line.on_query = None
        for generation in generations:
            await generation
    assert len(line.posts) == 2


# --- A third of all callers, cancelled at any moment ------------------------------------------------------------------


async def _some_leave(session: AsyncSession, count: int, rng: Random, longest_s: float) -> list[object]:
    """Hundreds of callers, a third of whom give up at some time: how each of them ended."""

    async def call(each: ImageToVideo, leaves_after_s: float | None) -> Video:
        async with asyncio.timeout(leaves_after_s):
            return await session.generate(each)

    leaves = [rng.uniform(0, longest_s) if rng.random() < 1 / 3 else None for _ in range(count)]
    calls = [call(each, after_s) for each, after_s in zip(jobs(count), leaves, strict=True)]
    ends: list[object] = list(await asyncio.gather(*calls, return_exceptions=True))
    assert all(isinstance(end, Video) for end, after_s in zip(ends, leaves, strict=True) if after_s is None)
    assert all(isinstance(end, Video | TimeoutError) for end in ends)
    return ends


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(4))
def test_a_third_of_the_callers_leaves_at_random_times(seed: int) -> None:
    faults = Faults(query=FaultRates(error_500=0.05, cut_before=0.05, garbage=0.05, wrong_task_id=0.05))
    service = Service(generation_s=40, max_running=20, requests_per_minute=None, faults=faults, seed=seed)

    async def main() -> list[object]:
        transport = InMemory(service, latency_s=0.2)
        async with AsyncSession(api_key=DEFAULT_API_KEY, base_url="http://localhost", transport=transport) as session:
            ends = await _some_leave(session, 150, Random(seed), 400)
            assert session.stats().queued == 0
            return ends

    ends = run_virtual(main)
    assert max(len(ids) for ids in service.ledger.accepted.values()) == 1
    delivered = {end.task_id for end in ends if isinstance(end, Video)}
    assert delivered <= {ids[0] for ids in service.ledger.accepted.values()}
    assert service.ledger.posts - service.ledger.statuses[Kind.SUBMIT, 429] == service.ledger.submits_accepted


@pytest.mark.slow
async def test_a_third_of_300_callers_leaves_on_a_socket() -> None:
    faults = Faults(query=FaultRates(error_500=0.1, cut_before=0.1))
    async with (
        Emulator(generation_s=0.3, max_running=None, requests_per_minute=None, faults=faults) as emulator,
        AsyncSession(api_key=emulator.api_key, base_url=emulator.url, poll_interval=(0.05, 0.3)) as session,
    ):
        ends = await _some_leave(session, 300, Random(1), 1.0)
        assert session.stats().queued == 0
    assert len(ends) == 300
    assert max(len(ids) for ids in emulator.ledger.accepted.values()) == 1
    assert emulator.ledger.posts == emulator.ledger.submits_accepted


# --- Waiting for images -----------------------------------------------------------------------------------------------


def _threads() -> Iterator[str]:
    return (thread.name for thread in threading.enumerate())


async def test_images_are_looked_at_in_few_threads_however_many_jobs_come(tmp_path: Path) -> None:
    path = tmp_path / "cat.png"
    await anyio.Path(path).write_bytes(picture())
    line = Line()
    async with line.session() as session:
        await asyncio.gather(*(session.generate(ImageToVideo(path, prompt=f"{number}")) for number in range(40)))
        assert sum("AnyIO worker" in name for name in _threads()) <= 8
    assert len(line.posts) == 40


async def test_an_error_of_one_job_is_told_to_its_own_waiters_alone() -> None:
    async def fail_one(request: Request) -> Answer:
        return told(200, failed("task-2") if asked_about(request) == "task-2" else finished(asked_about(request)))

    async with Line(on_query=fail_one).session() as session:
        generations = [await session.submit(each) for each in jobs(3)]
        ends = await asyncio.gather(*map(_wait, generations), return_exceptions=True)
    assert [isinstance(end, HailuoError) for end in ends] == [
        generation.task_id == "task-2" for generation in generations
    ]
