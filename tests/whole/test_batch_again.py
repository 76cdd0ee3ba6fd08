"""A batch run again with its journal: it pays only for what is missing, and for nothing in doubt."""

from __future__ import annotations

import contextlib
import sqlite3
from pathlib import Path
from typing import Any

import anyio
import pytest

from hailuo_async import (
    AuthenticationError,
    Failure,
    ImageToVideo,
    InsufficientBalanceError,
    Job,
    JobError,
    JournalState,
    Outcome,
    RequestRejectedError,
    SpendingLimitError,
    SubmissionUnknownError,
    Success,
    TaskExpiredError,
    WaitTimeoutError,
)
from hailuo_async._rules.wire import Answer, Request, unknown

from ..support.crash_journal import by_prompt, in_short, keyed, no_room, run_batch, states_in, wait_for
from ..support.service import (
    Line,
    asked_about,
    failed,
    finished,
    job,
    lost,
    never,
    no_such_key,
    picture,
    refusal,
    running,
    told,
)
from ..support.streams import read_into

pytestmark = pytest.mark.anyio


# --- A batch run again ------------------------------------------------------------------------------------------------


async def test_a_batch_run_again_pays_only_for_what_is_missing(path: Path) -> None:
    line = Line()
    jobs = keyed("done", "failed", "refused", "lost", "running")
    line.on_post = by_prompt(line, {"refused": told(422, refusal(422, "no")), "lost": unknown("cut")})

    async def report(request: Request) -> Answer:
        reports = {"task-1": finished("task-1"), "task-2": failed("task-2"), "task-3": running("task-3")}
        return told(200, reports[asked_about(request)])

    line.on_query = report
    async with line.session(journal=path) as session:
        stream = session.stream(jobs)
        first = [await anext(stream) for _ in range(4)]
        await wait_for(path, lambda records: records["running"].state is JournalState.ACCEPTED)
        await stream.aclose()
    assert len(line.posts) == 5

    again = Line()
    again.on_post = by_prompt(again, {"refused": told(200, {"code": 0, "data": {"task_id": "task-9"}})})
    second = await run_batch(again, path, jobs)
    assert in_short(second) == ["task-1", "TaskFailedError", "task-9", "SubmissionUnknownError", "task-3"]
    assert again.prompts == ["refused"]
    assert sorted({asked_about(request) for request in again.queries}) == ["task-3", "task-9"]
    assert [outcome.job for outcome in second] == jobs
    told_first = {outcome.key: outcome for outcome in first}
    told_again = {outcome.key: outcome for outcome in second}
    done, done_again = told_first["done"], told_again["done"]
    assert isinstance(done, Success)
    assert isinstance(done_again, Success)
    assert done_again.video == done.video
    for key in ("failed", "lost"):
        before, after = told_first[key], told_again[key]
        assert isinstance(before, Failure)
        assert isinstance(after, Failure)
        assert str(after.error) == str(before.error)
        assert after.error.task_id == before.error.task_id

    third = await run_batch(Line(), path, jobs)
    assert in_short(third) == in_short(second)


async def test_the_same_job_twice_is_two_tasks_and_none_on_the_second_run(path: Path) -> None:
    line = Line()
    first = await run_batch(line, path, [job(), job(), job("a dog")])
    assert sorted(str(task) for task in in_short(first)) == ["task-1", "task-2", "task-3"]
    queries = len(line.queries)
    second = await run_batch(line, path, [job(), job(), job("a dog")])
    assert sorted(map(str, in_short(second))) == ["task-1", "task-2", "task-3"]
    assert (len(line.posts), len(line.queries)) == (3, queries)
    third = await run_batch(line, path, [job(), job(), job()])
    assert len(line.posts) == 4
    assert len({str(task) for task in in_short(third)}) == 3


async def test_a_batch_streamed_again_in_the_same_session_pays_for_nothing(path: Path) -> None:
    line = Line()
    async with line.session(journal=path) as session:
        for _ in range(2):
            outcomes = [outcome async for outcome in session.stream([job(), job(), job("a dog")])]
            assert sorted(map(str, in_short(outcomes))) == ["task-1", "task-2", "task-3"]
    assert len(line.posts) == 3


async def test_an_image_is_known_by_its_content_wherever_it_lies(path: Path, tmp_path: Path) -> None:
    line, content, file = Line(), picture(), tmp_path / "cat.png"
    await anyio.Path(file).write_bytes(content)
    await run_batch(line, path, [ImageToVideo(file, prompt="a cat")])
    await run_batch(line, path, [ImageToVideo(content, prompt="a cat")])
    assert len(line.posts) == 1
    await anyio.Path(file).write_bytes(picture(seed=6))
    await run_batch(line, path, [ImageToVideo(file, prompt="a cat")])
    assert len(line.posts) == 2


async def test_submits_of_one_session_that_ask_for_the_same_are_two_tasks(path: Path) -> None:
    line = Line()
    for posts in (2, 2):
        async with line.session(journal=path) as session:
            videos = [await session.generate(job()) for _ in range(2)]
        assert [video.task_id for video in videos] == ["task-1", "task-2"]
        assert len(line.posts) == posts


async def test_a_submit_that_came_to_nothing_is_the_same_job_when_made_again(path: Path) -> None:
    line = Line()
    line.on_post = by_prompt(line, {"a cat": told(422, refusal(422, "no"))})
    async with line.session(journal=path) as session:
        with pytest.raises(RequestRejectedError):
            await session.generate(job())
        line.on_post = lost
        for _ in range(2):  # in doubt, and not sent again until that is resolved
            with pytest.raises(SubmissionUnknownError) as caught:
                await session.generate(job())
        assert len(line.posts) == 2
        assert caught.value.key is not None
        await session.resolve(caught.value.key, resubmit=True)
        line.on_post, line.on_query = None, never
        with pytest.raises(WaitTimeoutError):
            await session.generate(job(), timeout=0.05)
        line.on_query = None
        assert (await session.generate(job())).task_id == "task-1"
    assert len(line.posts) == 3
    assert list(await states_in(path)) == [caught.value.key]


async def test_a_submit_that_did_not_wait_for_the_journal_is_not_counted(path: Path) -> None:
    line = Line()
    async with line.session(journal=path) as session:
        await session.generate(job("something else"))
        with await anyio.to_thread.run_sync(no_room, path), anyio.move_on_after(0.1) as waiting:
            await session.submit(job())
        assert waiting.cancelled_caught
        await session.generate(job())
    assert [identity[-2:] for identity in await states_in(path)] == ["#0", "#0"]


# --- Videos that were there before ------------------------------------------------------------------------------------


async def put_back(path: Path, seconds: float) -> None:
    """Makes what the journal knows of its jobs older."""

    def change() -> None:
        with contextlib.closing(sqlite3.connect(path)) as connection, connection:
            connection.execute("UPDATE job SET useful_until = useful_until - ?", (seconds,))

    await anyio.to_thread.run_sync(change)


async def test_a_video_whose_urls_have_expired_is_asked_for_again(path: Path) -> None:
    line = Line()
    first = await run_batch(line, path, keyed("cat"))
    await put_back(path, 8 * 24 * 3600)
    again = Line()
    second = await run_batch(again, path, keyed("cat"))
    assert second == first
    assert (len(again.posts), len(again.queries)) == (0, 1)


async def test_a_result_that_has_expired_is_said_to_be_so(path: Path) -> None:
    async def gone(request: Request) -> Answer:
        return told(404, refusal(404, "Resource not found: no such task"))

    await run_batch(Line(), path, keyed("cat"))
    await put_back(path, 8 * 24 * 3600)
    for _ in range(2):
        again = Line(on_query=gone)
        (outcome,) = await run_batch(again, path, keyed("cat"))
        assert isinstance(outcome, Failure)
        assert isinstance(outcome.error, TaskExpiredError)
        assert outcome.error.task_id == "task-1"
        assert again.posts == []


async def test_a_task_accepted_a_moment_ago_may_be_unknown_to_the_service_for_a_while(path: Path) -> None:
    async with Line(on_query=never).session(journal=path) as session:
        await (await session.submit(*keyed("cat"))).accepted()
    answers = iter([told(404, refusal(404, "Resource not found: no such task"))] * 3)

    async def lag(request: Request) -> Answer:
        return next(answers, None) or told(200, finished(asked_about(request)))

    assert in_short(await run_batch(Line(on_query=lag), path, keyed("cat"))) == ["task-1"]


async def test_a_key_that_was_not_valid_does_not_end_a_task_that_was_paid_for(path: Path) -> None:
    with pytest.raises(AuthenticationError):
        await run_batch(Line(on_query=no_such_key), path, keyed("cat"))
    assert await states_in(path) == {"cat": JournalState.ACCEPTED}
    again = Line()
    assert in_short(await run_batch(again, path, keyed("cat"))) == ["task-1"]
    assert again.posts == []


# --- What is in doubt -------------------------------------------------------------------------------------------------


async def in_doubt(path: Path, asked: Job) -> str:
    """A job whose answer was lost. Returns what to resolve it by."""
    (outcome,) = await run_batch(Line(on_post=lost), path, [asked])
    assert isinstance(outcome, Failure)
    assert isinstance(outcome.error, SubmissionUnknownError)
    assert outcome.error.key is not None
    return outcome.error.key


@pytest.mark.parametrize("asked", [job(key="cat"), job()], ids=["keyed", "without a key"])
@pytest.mark.parametrize(
    ("word", "posts", "task"),
    [({"resubmit": True}, 1, "task-1"), ({"task_id": "task-7"}, 0, "task-7"), ({"forget": True}, 1, "task-1")],
)
async def test_a_doubt_waits_for_its_owners_word(
    path: Path, asked: Job, word: dict[str, Any], posts: int, task: str
) -> None:
    key = await in_doubt(path, asked)
    line = Line()
    async with line.session(journal=path) as session:
        before = [outcome async for outcome in session.stream([asked])]
        assert in_short(before) == ["SubmissionUnknownError"]
        await session.resolve(key, **word)
        after = [outcome async for outcome in session.stream([asked])]
    assert in_short(after) == [task]
    assert len(line.posts) == posts
    assert in_short(await run_batch(line, path, [asked])) == [task]
    assert len(line.posts) == posts


@pytest.mark.parametrize(
    "word", [{}, {"resubmit": True, "forget": True}, {"task_id": ""}, {"task_id": "two words"}, {"task_id": 7}]
)
async def test_a_word_that_cannot_be_meant_is_refused(path: Path, word: dict[str, Any]) -> None:
    key = await in_doubt(path, job(key="cat"))
    async with Line().session(journal=path) as session:
        with pytest.raises(JobError):
            await session.resolve(key, **word)
        with pytest.raises(JobError, match="must name a job in this journal"):
            await session.resolve("dog", forget=True)
    assert await states_in(path) == {"cat": JournalState.UNKNOWN}


# --- Money ------------------------------------------------------------------------------------------------------------


async def test_what_is_known_already_does_not_count_against_max_jobs(path: Path) -> None:
    names = [f"job-{number}" for number in range(6)]
    line, paid = Line(), []
    for limit in (2, 3):
        with pytest.raises(SpendingLimitError):
            await run_batch(line, path, keyed(*names), max_jobs=limit)
        paid.append(len(line.posts))
    outcomes = await run_batch(line, path, keyed(*names), max_jobs=1)
    assert paid == [2, 5]
    assert len({str(task) for task in in_short(outcomes)}) == 6
    assert len(line.posts) == 6


async def test_a_stream_has_a_limit_of_its_own(path: Path) -> None:
    line, seen = Line(), list[Outcome]()
    async with line.session(journal=path, max_jobs=5) as session:
        for limit, count in ((2, 2), (None, 5)):
            stream = session.stream(keyed("a", "b", "c", "d", "e", "f"), max_jobs=limit)
            with pytest.raises(SpendingLimitError) as caught:
                await read_into(seen, stream)
            assert caught.value.max_jobs == (limit or 5)
            assert len(line.posts) == count
    assert sorted(str(outcome.key) for outcome in seen) == ["a", "a", "b", "b", "c", "d", "e"]


async def test_an_empty_balance_leaves_the_queue_unsent_and_a_later_run_goes_on(path: Path) -> None:
    names = [f"job-{number}" for number in range(8)]
    line = Line()

    async def poor_after_two(request: Request) -> Answer:
        return line.accept() if len(line.posts) <= 2 else told(402, refusal(402, "insufficient balance: 0 USD"))

    line.on_post = poor_after_two
    seen = list[Outcome]()
    async with line.session(journal=path, max_running=3) as session:
        with pytest.raises(InsufficientBalanceError):
            await read_into(seen, session.stream(keyed(*names)))
    assert sorted(map(str, in_short(seen))) == ["task-1", "task-2"]
    states = list((await states_in(path)).values())
    assert states.count(JournalState.SUCCESS) == 2
    assert set(states) == {JournalState.SUCCESS, JournalState.REFUSED, JournalState.INTENDED}
    sent = len(line.posts)
    line.on_post = None
    outcomes = await run_batch(line, path, keyed(*names))
    assert all(isinstance(outcome, Success) for outcome in outcomes)
    assert len(line.posts) == sent + 6
