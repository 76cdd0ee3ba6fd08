"""What is left in a journal: resumed without its jobs, attached to by an error's task id, and saved once."""

from __future__ import annotations

import asyncio
import itertools
import time
from pathlib import Path

import anyio
import pytest

from hailuo_async import (
    AsyncSession,
    DownloadError,
    Failure,
    JournalError,
    JournalState,
    Outcome,
    SessionClosedError,
    SubmissionUnknownError,
    Success,
    TaskExpiredError,
    WaitTimeoutError,
)
from hailuo_async._io.journal.writer import JournalWriter
from hailuo_async._rules.wire import Answer, Request, unknown
from hailuo_async.emulator import DEFAULT_API_KEY, Emulator, FaultRates, Faults, Kind, Service
from hailuo_async.testing import run_virtual
from hailuo_async.testing.in_memory import InMemory

from ..support.crash_journal import bytes_of, count_in, no_room, records_in, states_in, wait_for
from ..support.leaping import Leap
from ..support.service import Line, asked_about, finished, job, jobs, lost, never, refusal, running, told, until
from ..support.streams import resumed

pytestmark = pytest.mark.anyio


async def left_behind(path: Path) -> None:
    """A journal with one job in each state that a session can be left in."""
    line = Line(on_query=never)
    async with line.session(journal=path, max_running=2) as session:
        line.on_query = None
        await session.generate(job("done", key="done"))
        line.on_query = never
        await (await session.submit(job("accepted", key="accepted"))).accepted()
        line.on_post = lost
        with pytest.raises(SubmissionUnknownError):
            await session.generate(job("lost", key="lost"))
        line.on_post = None
        await (await session.submit(job("holds the slot"))).accepted()
        queued = await session.submit(job("queued", key="queued"))
    with pytest.raises(SessionClosedError):
        await queued
    assert set((await states_in(path)).values()) == {
        JournalState.SUCCESS,
        JournalState.ACCEPTED,
        JournalState.UNKNOWN,
        JournalState.INTENDED,
    }


# --- resume -----------------------------------------------------------------------------------------------------------


async def test_everything_unfinished_is_told_without_the_jobs_and_without_a_post(path: Path) -> None:
    await left_behind(path)
    line = Line()
    async with line.session(journal=path) as session:
        found = await resumed(session)
        again = await resumed(session)
    assert line.posts == []
    accepted, lost, queued, keyless = (found[key] for key in ("accepted", "lost", "queued", None))
    assert isinstance(accepted, Success)
    assert isinstance(keyless, Success)
    assert (accepted.job, accepted.video.task_id, keyless.video.task_id) == (None, "task-2", "task-3")
    assert isinstance(lost, Failure)
    assert isinstance(lost.error, SubmissionUnknownError)
    assert isinstance(queued, Failure)
    assert isinstance(queued.error, JournalError)
    assert "job 'queued' was not sent: give the job itself again to send it" in str(queued.error)
    assert sorted(map(str, found)) == ["None", "accepted", "lost", "queued"]
    assert sorted(map(str, again)) == ["lost", "queued"]


async def test_a_journal_in_which_everything_is_finished_resumes_nothing(path: Path) -> None:
    async with Line().session(journal=path) as session:
        await session.generate(job())
        assert await resumed(session) == {}


async def test_leaving_a_resume_takes_nothing_from_a_stream_of_the_same_session(path: Path) -> None:
    line = Line(on_query=never)
    async with line.session(journal=path, max_running=1) as session:
        stream = session.stream(job(name, key=name) for name in ("a", "b"))
        pulling = anyio.Event()
        outcomes: list[Outcome] = []

        async def pull() -> None:
            pulling.set()
            outcomes.extend([outcome async for outcome in stream])

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(pull)
            await wait_for(path, lambda records: {"a", "b"} == set(records) and bool(records["a"].task_id))
            resumed = session.resume()
            with anyio.move_on_after(0.05):
                await anext(resumed)
            await resumed.aclose()
            line.on_query = None
    assert sorted(map(str, [outcome.key for outcome in outcomes])) == ["a", "b"]
    assert all(isinstance(outcome, Success) for outcome in outcomes)


@pytest.mark.slow
async def test_a_resume_follows_what_another_session_works_on(path: Path) -> None:
    line, other = Line(on_query=never), Line()
    async with line.session(journal=path, max_running=1) as session:
        running_there = await session.submit(job("a", key="a"))
        await running_there.accepted()
        queued_there = await session.submit(job("b", key="b"))
        async with other.session(journal=path) as second:
            resuming = asyncio.ensure_future(resumed(second))
            await until(lambda: second._engine and len(second._engine.dispatcher.following) == 2)
            line.on_query = None
            await queued_there
            found = await resuming
    assert all(isinstance(outcome, Success) for outcome in found.values())
    assert sorted(map(str, found)) == ["a", "b"]
    assert (other.posts, other.queries, len(line.posts)) == ([], [], 2)


@pytest.mark.slow
async def test_a_resume_tells_what_another_session_left_unsent(path: Path) -> None:
    line, other = Line(on_query=never), Line()
    async with other.session(journal=path) as second:
        session = line.session(journal=path, max_running=1)
        async with session:
            await (await session.submit(job("a", key="a"))).accepted()
            await session.submit(job("b", key="b"))
            resuming = asyncio.ensure_future(resumed(second))
            await until(lambda: second._engine and len(second._engine.dispatcher.following) == 2)
            await session.aclose()
            found = await resuming
    unsent = found["b"]
    assert isinstance(found["a"], Success)
    assert isinstance(unsent, Failure)
    assert isinstance(unsent.error, JournalError)
    assert other.posts == []


async def test_a_resume_waits_for_a_journal_that_cannot_be_written(path: Path) -> None:
    await left_behind(path)
    async with Line().session(journal=path) as session:
        with no_room(path):
            resuming = asyncio.ensure_future(resumed(session))
            await asyncio.wait([resuming], timeout=0.1)
            assert not resuming.done()
        assert await resuming


async def test_a_post_whose_session_seems_gone_is_in_doubt_under_a_name_until_its_answer_comes(path: Path) -> None:
    line, answering = Line(), anyio.Event()

    async def late(request: Request) -> Answer:
        await answering.wait()
        return line.accept()

    line.on_post = late
    async with line.session(journal=path) as session:
        generation = await session.submit(job())
        found = await wait_for(path, lambda records: JournalState.SENDING in [r.state for r in records.values()])
        (identity,) = found
        other = await JournalWriter.open(path, base_url="http://localhost", now=lambda: time.time() + 30)
        claim = await other.ask(other.jobs.follow, identity)
        await other.aclose()
        assert claim is not None
        assert isinstance(claim.record.error, SubmissionUnknownError)
        assert (claim.record.state, claim.record.error.key) == (JournalState.UNKNOWN, identity)
        answering.set()
        assert (await generation).task_id == "task-1"
    assert await states_in(path) == {identity: JournalState.SUCCESS}


# --- attach -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("journalled", [True, False])
async def test_the_task_id_of_an_error_is_enough_to_wait_for_it_in_another_session(
    leap: Leap, path: Path, journalled: bool
) -> None:
    journal = path if journalled else None
    async with Line(on_query=never).session(journal=journal) as session:
        late = await session.submit(job(key="cat"), timeout=15)
        await late.accepted()
        leap(15)
        with pytest.raises(WaitTimeoutError) as caught:
            await late
        task_id = caught.value.task_id
        generation = await session.submit(job("cut off by the close", key="dog"))
        await generation.accepted()
    with pytest.raises(SessionClosedError) as closed:
        await generation
    assert (task_id, closed.value.task_id) == ("task-1", "task-2")
    line = Line()
    async with line.session(journal=journal) as session:
        for found in (task_id, closed.value.task_id):
            assert found is not None
            assert (await (await session.attach(found))).task_id == found
    assert line.posts == []
    if journalled:
        assert await count_in(path) == {JournalState.SUCCESS: 2}


async def test_a_task_that_was_submitted_elsewhere_is_on_record_from_then_on(path: Path) -> None:
    async with Line(on_query=never).session(journal=path) as session:
        await session.attach("task-7")
    async with Line().session(journal=path) as session:
        found = await resumed(session)
    (outcome,) = found.values()
    assert isinstance(outcome, Success)
    assert outcome.video.task_id == "task-7"
    assert await states_in(path) == {"task:task-7": JournalState.SUCCESS}


# --- Reads never lose a task ------------------------------------------------------------------------------------------


def _unsound(line: Line) -> None:
    """Every way in which a query can go wrong but 429, which makes everything wait, before it is answered."""
    ways = {
        "cut": unknown("the connection was cut"),
        "500": told(500, refusal(500, "broken")),
        "a page": told(404, "<html>no such page"),
        "garbage": told(200, "what"),
        "wrong id": told(200, finished("task-of-somebody-else")),
        "strange": told(200, running("task-1", "levitating")),
        "408": told(408, refusal(408, "Timeout")),
    }
    answers = itertools.chain(ways.values())

    async def answer(request: Request) -> Answer:
        return next(answers, None) or told(200, finished(asked_about(request)))

    line.on_query = answer


async def test_a_query_may_fail_in_every_way_and_the_task_is_delivered(path: Path) -> None:
    line = Line()
    _unsound(line)
    async with line.session(journal=path, poll_interval=(0.001, 0.002)) as session:
        assert (await session.generate(job(key="cat"))).task_id == "task-1"
    assert len(line.queries) == 8


@pytest.mark.slow
def test_of_300_jobs_all_are_delivered_though_3_queries_in_10_fail() -> None:
    ways = {"error_500": 0.05, "cut_before": 0.03, "hang_before": 0.02, "rate_429": 0.03, "cut_after": 0.03}
    spoilt = {"garbage": 0.04, "unknown_status": 0.03, "wrong_task_id": 0.03, "missing_fields": 0.02, "truncated": 0.02}
    service = Service(
        max_running=20,
        requests_per_minute=None,
        generation_s=60,
        faults=Faults(query=FaultRates(**ways, **spoilt)),
        seed=4,
    )

    async def main() -> list[Outcome]:
        session = AsyncSession(api_key=DEFAULT_API_KEY, base_url="http://localhost", transport=InMemory(service))
        async with session:
            return [outcome async for outcome in session.stream(jobs(300))]

    outcomes = run_virtual(main)
    assert sorted(outcome.index for outcome in outcomes if isinstance(outcome, Success)) == list(range(300))
    assert [len(tasks) for tasks in service.ledger.accepted.values()] == [1] * 300
    asked, spoiled = service.ledger.requests[Kind.QUERY], sum(service.ledger.faults.values())
    assert 0.25 < spoiled / asked < 0.35


# --- download ---------------------------------------------------------------------------------------------------------


def emulated(emulator: Emulator, path: Path) -> AsyncSession:
    return AsyncSession(api_key=emulator.api_key, base_url=emulator.url, journal=path, poll_interval=(0.01, 0.05))


async def test_a_video_that_was_saved_is_not_fetched_again(path: Path, tmp_path: Path) -> None:
    target = tmp_path / "cat.mp4"
    async with Emulator(generation_s=0.05, requests_per_minute=None) as emulator:
        for _ in range(2):
            async with emulated(emulator, path) as session:
                async for outcome in session.stream([job(key="cat")]):
                    assert isinstance(outcome, Success)
                    assert await session.download(outcome.video, target) == target
                    assert await session.download(outcome.video, tmp_path / "elsewhere.mp4") == target
        downloads = len(emulator.ledger.of(Kind.DOWNLOAD))
        assert (downloads, emulator.ledger.posts, emulator.ledger.keys_leaked) == (1, 1, 0)
        assert (await records_in(path))["cat"].saved_to == str(target)
        assert b"sig=" not in await bytes_of(path)

        await anyio.Path(target).unlink()
        async with emulated(emulator, path) as session:
            async for outcome in session.stream([job(key="cat")]):
                assert isinstance(outcome, Success)
                assert await session.download(outcome.video, target) == target
        assert await anyio.Path(target).read_bytes()
        assert (len(emulator.ledger.of(Kind.DOWNLOAD)), emulator.ledger.posts) == (2, 1)


async def test_a_url_on_record_that_is_refused_as_old_is_asked_for_anew(path: Path, tmp_path: Path) -> None:
    async with Emulator(generation_s=0.05, requests_per_minute=None, url_lasts_s=3600) as emulator:
        async with emulated(emulator, path) as session:
            await session.generate(job(key="cat"))
        emulator.clock_offset_s += 2 * 3600
        async with emulated(emulator, path) as session:
            video = await session.generate(job(key="cat"))
            assert await session.download(video, tmp_path) == tmp_path / f"{video.task_id}.mp4"
        assert emulator.ledger.posts == 1


async def test_a_saved_video_whose_file_and_result_are_gone_is_said_to_have_expired(path: Path, tmp_path: Path) -> None:
    target = tmp_path / "cat.mp4"
    async with Emulator(generation_s=0.05, requests_per_minute=None) as emulator:
        async with emulated(emulator, path) as session:
            video = await session.generate(job(key="cat"))
            await session.download(video, target)
        await anyio.Path(target).unlink()
        emulator.clock_offset_s += 8 * 24 * 3600
        async with emulated(emulator, path) as session:
            with pytest.raises(TaskExpiredError) as caught:
                await session.download(await session.generate(job(key="cat")), target)
        assert caught.value.task_id == video.task_id
        assert emulator.ledger.posts == 1


async def test_a_video_that_was_saved_may_be_fetched_once_more_if_that_is_asked_for(path: Path, tmp_path: Path) -> None:
    target, elsewhere = tmp_path / "cat.mp4", tmp_path / "elsewhere.mp4"
    async with Emulator(generation_s=0.05, requests_per_minute=None) as emulator, emulated(emulator, path) as session:
        video = await session.generate(job(key="cat"))
        await session.download(video, target)
        assert await session.download(video, elsewhere, overwrite=True) == elsewhere
        assert (await records_in(path))["cat"].saved_to == str(elsewhere)
        assert len(emulator.ledger.of(Kind.DOWNLOAD)) == 2


async def test_a_file_that_is_somebody_elses_is_not_taken_for_the_video(path: Path, tmp_path: Path) -> None:
    target = tmp_path / "cat.mp4"
    await anyio.Path(target).write_bytes(b"a diary")
    async with Emulator(generation_s=0.05, requests_per_minute=None) as emulator, emulated(emulator, path) as session:
        video = await session.generate(job(key="cat"))
        with pytest.raises(DownloadError):
            await session.download(video, target)
        assert (await records_in(path))["cat"].saved_to is None
    assert await anyio.Path(target).read_bytes() == b"a diary"
