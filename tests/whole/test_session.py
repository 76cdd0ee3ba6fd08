"""The life of a session: opened, used and closed by any task, in any order, and nothing left behind."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import aiohttp
import anyio
import pytest

from hailuo_async import AsyncSession, ConfigError, Resource, SessionClosedError, SubmissionUnknownError, Success, Video
from hailuo_async._engine.results import Results
from hailuo_async._rules.wire import Answer, Request
from hailuo_async.emulator import DEFAULT_API_KEY, Emulator

from ..support.rawserver import Exchange, raw_server
from ..support.service import (
    KEY,
    Line,
    asked_about,
    envelope,
    finished,
    job,
    jobs,
    never,
    no_answer,
    picture,
    taken,
    told,
    until,
)

FAST: dict[str, Any] = {"generation_s": 0.02, "spread": 0.0, "max_running": None, "requests_per_minute": None}


# --- Used when it may not be ------------------------------------------------------------------------------------------


async def uses_of(session: AsyncSession) -> list[BaseException | None]:
    """How every use of a session ends, where none may succeed."""
    video = Video("task-1", None, (Resource("http://localhost/v.mp4"),))
    calls: list[Callable[[], object]] = [
        lambda: session.submit(job()),
        lambda: session.generate(job()),
        lambda: anext(session.stream(jobs(1))),
        lambda: session.attach("task-1"),
        lambda: anext(session.resume()),
        lambda: session.resolve("key", forget=True),
        lambda: session.download(video, "x.mp4"),
        lambda: session.upload(picture()),
        session.account,
    ]
    ends: list[BaseException | None] = []
    for call in calls:
        try:
            await call()  # type: ignore[misc]
        except Exception as error:
            ends.append(error)
        else:
            ends.append(None)
    return ends


async def test_not_entered_it_refuses_everything_and_sends_nothing() -> None:
    line = Line()
    session = line.session()
    assert repr(session) == "<AsyncSession at http://localhost, not entered>"
    ends = await uses_of(session)
    assert {type(end) for end in ends} == {SessionClosedError}
    assert {str(end) for end in ends} == {"the session is not open: use it inside 'async with'; nothing was sent"}
    with pytest.raises(SessionClosedError):
        session.stats()
    assert (line.posts, line.queries) == ([], [])


@pytest.mark.parametrize("timeout", [None, 5.0])
def test_a_stream_that_is_asked_for_where_no_loop_runs_says_that_the_session_is_not_open(timeout: float | None) -> None:
    session = AsyncSession(api_key="key")
    with pytest.raises(SessionClosedError, match="not open"):
        session.stream(jobs(1), timeout=timeout)


def test_a_traceback_with_local_variables_can_show_a_session_that_could_not_be_made() -> None:
    assert repr(AsyncSession.__new__(AsyncSession)) == "<AsyncSession, not made>"


async def test_closed_it_refuses_everything_and_sends_nothing() -> None:
    line = Line()
    async with line.session() as session:
        assert repr(session) == "<AsyncSession at http://localhost, open>"
    assert repr(session) == "<AsyncSession at http://localhost, closed>"
    ends = await uses_of(session)
    assert [end for end in ends if not isinstance(end, SessionClosedError | ConfigError)] == []
    assert (line.posts, line.queries, line.is_closed) == ([], [], True)
    assert session.stats().running == 0


def test_on_another_loop_it_refuses_everything_and_sends_nothing() -> None:
    line = Line()
    with asyncio.Runner() as first, asyncio.Runner() as second:
        session = line.session()
        first.run(session.__aenter__())
        ends = second.run(uses_of(session))
        with pytest.raises(SessionClosedError, match="another event loop"):
            second.run(session.aclose())
        first.run(session.aclose())
    assert {str(end) for end in ends} == {"the session belongs to another event loop; nothing was sent"}
    assert (line.posts, line.queries) == ([], [])


async def test_in_a_thread_without_a_loop_it_refuses_what_needs_no_await_too() -> None:
    line = Line()
    async with line.session() as session:
        for use in (session.stats, lambda: session.notice("task-1")):
            with pytest.raises(SessionClosedError, match="another event loop"):
                await anyio.to_thread.run_sync(use)
    assert (line.posts, line.queries) == ([], [])


async def test_it_can_be_entered_once() -> None:
    session = Line().session()
    async with session:
        with pytest.raises(SessionClosedError, match="once"):
            await session.__aenter__()
    with pytest.raises(SessionClosedError, match="once"):
        await session.__aenter__()


async def test_closed_before_it_was_entered_it_stays_closed() -> None:
    session = Line().session()
    await session.aclose()
    with pytest.raises(SessionClosedError):
        await session.__aenter__()


def test_what_is_no_aiohttp_session_is_refused() -> None:
    with pytest.raises(ConfigError, match="client_session"):
        AsyncSession(api_key="k", client_session=object())  # type: ignore[arg-type]


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # aiohttp will take none any more from 4.0 on
async def test_an_aiohttp_session_with_a_password_of_its_own_is_refused_and_the_password_not_shown() -> None:
    """aiohttp refuses a request that has both its own ``auth`` and our header."""
    async with aiohttp.ClientSession(auth=aiohttp.BasicAuth("me", "hunter2")) as theirs:
        with pytest.raises(ConfigError, match="client_session") as caught:
            AsyncSession(api_key="k", client_session=theirs)
    assert "hunter2" not in f"{caught.value!s} {caught.value!r}"


# --- Opened and closed ------------------------------------------------------------------------------------------------


async def test_it_may_be_opened_and_closed_by_different_tasks() -> None:
    line = Line()
    session = line.session()
    await asyncio.ensure_future(session.__aenter__())
    await asyncio.ensure_future(session.generate(job()))
    await asyncio.ensure_future(session.aclose())
    assert line.is_closed


@pytest.mark.parametrize("rounds", range(4))
async def test_cancelled_while_it_is_entered_it_leaves_nothing_behind(rounds: int) -> None:
    session = AsyncSession(api_key=KEY, base_url="http://localhost")
    entering = asyncio.ensure_future(session.__aenter__())
    for _ in range(rounds):
        await asyncio.sleep(0)
    entering.cancel()
    await asyncio.wait([entering])
    if not entering.cancelled():
        await session.aclose()


async def test_a_part_that_cannot_be_closed_is_logged_and_keeps_no_other_open(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async def fail(_: object) -> None:
        raise LookupError("a bug")

    monkeypatch.setattr(Results, "aclose", fail)
    line = Line()
    async with line.session():
        pass
    assert line.is_closed
    assert "a part of the session could not be closed: please report this" in caplog.text


async def test_it_may_be_closed_many_times_and_by_many_at_once() -> None:
    line = Line(on_query=never)
    async with line.session() as session:
        generation = await session.submit(job())
        await generation.accepted()
        await asyncio.gather(*(session.aclose() for _ in range(5)))
        await session.aclose()
    with pytest.raises(SessionClosedError) as caught:
        await generation
    assert caught.value.task_id == "task-1"


async def test_if_it_is_closed_more_than_once_the_shortest_grace_counts() -> None:
    line = Line(on_post=no_answer)
    async with line.session() as session:
        generation = await session.submit(job())
        await until(lambda: line.posts)
        with anyio.fail_after(60):
            await asyncio.gather(*(session.aclose(grace=grace) for grace in (0.05, 60.0)))
        with pytest.raises(SubmissionUnknownError):
            await generation


@pytest.mark.parametrize("grace", [-1, float("nan"), "10", None])
async def test_a_grace_that_is_no_number_of_seconds_closes_nothing(grace: object) -> None:
    async with Line().session() as session:
        with pytest.raises(ConfigError, match="grace"):
            await session.aclose(grace)  # type: ignore[arg-type]
        await session.generate(job())


async def test_one_that_is_closed_while_it_opens_does_not_open(tmp_path: Path) -> None:
    session = Line().session(journal=tmp_path / "batch.db")
    opening = asyncio.ensure_future(session.__aenter__())
    await asyncio.sleep(0)
    await session.aclose()
    with pytest.raises(SessionClosedError, match="the session is closed"):
        await opening
    with pytest.raises(SessionClosedError):
        await session.submit(job())


async def test_a_caller_of_close_that_is_cancelled_stops_nothing() -> None:
    line = Line(on_post=no_answer)
    async with line.session() as session:
        generation = await session.submit(job())
        await until(lambda: line.posts)
        closing = asyncio.ensure_future(session.aclose(grace=0.1))
        await asyncio.sleep(0)
        closing.cancel()
        await asyncio.wait([closing])
        assert closing.cancelled()
        with pytest.raises(SessionClosedError):
            await session.submit(job())
        with pytest.raises(SubmissionUnknownError):
            await generation
    assert line.is_closed


async def test_everyone_who_waits_when_it_closes_is_answered() -> None:
    line = Line(on_query=never)
    async with line.session(max_running=2) as session:
        tasks = [asyncio.ensure_future(session.generate(each)) for each in jobs(5)]
        await until(lambda: session.stats().queued == 3 and len(line.queries) > 2)
    errors = await asyncio.gather(*tasks, return_exceptions=True)
    assert [(type(error), getattr(error, "task_id", "?")) for error in errors] == [
        (SessionClosedError, "task-1"),
        (SessionClosedError, "task-2"),
        *[(SessionClosedError, None)] * 3,
    ]
    assert session.stats().abandoned == 5
    assert len(line.posts) == 2


async def test_a_body_that_raises_closes_it_and_raises_on() -> None:
    line = Line()
    with pytest.raises(LookupError):
        async with line.session():
            raise LookupError
    assert line.is_closed


# --- The end of a loop ------------------------------------------------------------------------------------------------


def test_three_runs_make_three_posts_for_three_jobs() -> None:
    async def one(url: str, key: str) -> str:
        async with AsyncSession(api_key=key, base_url=url, poll_interval=(0.01, 0.05)) as session:
            return (await session.generate(job())).task_id

    with asyncio.Runner() as serving_loop:

        async def three() -> tuple[set[str], int]:
            async with Emulator(**FAST) as emulator:
                ids = {await asyncio.to_thread(asyncio.run, one(emulator.url, emulator.api_key)) for _ in range(3)}
                return ids, emulator.ledger.posts

        ids, posts = serving_loop.run(three())
    assert (len(ids), posts) == (3, 3)


def test_ctrl_c_closes_it_and_leaves_no_waiter(capfd: pytest.CaptureFixture[str]) -> None:
    line = Line(on_query=never)
    ends: list[BaseException] = []

    async def main() -> None:
        async with line.session() as session:
            generation = await session.submit(job())
            try:
                await until(lambda: line.queries)
                os.kill(os.getpid(), signal.SIGINT)
                await generation
            except BaseException as error:
                ends.append(error)
                raise

    with pytest.raises(KeyboardInterrupt):
        asyncio.run(main())
    assert [type(end) for end in ends] == [asyncio.CancelledError]
    assert line.is_closed
    assert "never retrieved" not in capfd.readouterr().err


def test_a_loop_that_ends_under_it_answers_whoever_waits() -> None:
    """The main task forgets to close it: ``asyncio.run`` cancels what is left."""
    line = Line(on_query=never)
    session = line.session()

    async def main() -> object:
        await session.__aenter__()
        generation = await session.submit(job())
        await generation.accepted()
        return generation

    generation = asyncio.run(main())
    assert getattr(generation, "status", None) == "abandoned"
    assert line.is_closed


def test_a_post_under_way_when_the_loop_ends_is_in_doubt() -> None:
    line = Line(on_post=no_answer)
    session = line.session()

    async def main() -> object:
        await session.__aenter__()
        generation = await session.submit(job())
        await until(lambda: line.posts)
        return generation

    assert getattr(asyncio.run(main()), "status", None) == "unknown"


@pytest.mark.skipif(sys.version_info < (3, 12), reason="asyncio's eager tasks came with Python 3.12")
@pytest.mark.parametrize("has_journal", [False, True])
async def test_on_a_loop_whose_tasks_begin_at_once_each_job_is_paid_for_once(tmp_path: Path, has_journal: bool) -> None:
    loop, journal = asyncio.get_running_loop(), tmp_path / "batch.db" if has_journal else None
    before, at_once = loop.get_task_factory(), getattr(asyncio, "eager_task_factory")  # noqa: B009 (for mypy on 3.11)
    async with Emulator(**FAST | {"max_running": 3}) as emulator:
        loop.set_task_factory(at_once)
        try:
            async with AsyncSession(
                api_key=DEFAULT_API_KEY, base_url=emulator.url, journal=journal, poll_interval=(0.01, 0.1)
            ) as session:
                videos = await asyncio.gather(*map(session.generate, jobs(6)))
                streamed = [outcome async for outcome in session.stream(map(job, "abcdef"))]
        finally:
            loop.set_task_factory(before)
        assert all(isinstance(outcome, Success) for outcome in streamed)
        assert len({video.task_id for video in videos}) == 6
        assert (emulator.ledger.submits_accepted, len(emulator.ledger.accepted)) == (12, 12)


# --- A bug of ours ----------------------------------------------------------------------------------------------------


async def test_a_bug_in_the_engine_wakes_everyone_with_an_error(caplog: pytest.LogCaptureFixture) -> None:
    line = Line(on_query=never)
    async with line.session(max_running=1) as session:
        tasks = [asyncio.ensure_future(session.generate(each)) for each in jobs(3)]
        stream = asyncio.ensure_future(anext(session.stream(jobs(3))))
        await until(lambda: line.queries and session.stats().queued >= 2)
        engine = session._running_engine()
        engine.session_state.start(engine._run_to_the_end(break_down))
        errors = await asyncio.gather(*tasks, stream, return_exceptions=True)
        assert {type(error) for error in errors} <= {SessionClosedError, SubmissionUnknownError}
        with pytest.raises(SessionClosedError, match="engine failed") as caught:
            await session.submit(job())
        assert isinstance(caught.value.__cause__, LookupError)
        assert not session.is_open
    assert [record.getMessage() for record in caplog.records if record.levelno >= logging.ERROR] == [
        "the engine failed"
    ]
    assert len(line.posts) == len(set(line.prompts))


async def break_down() -> None:
    raise LookupError("a bug")


async def test_a_transport_that_raises_leaves_its_job_in_doubt_and_no_other() -> None:
    async def break_once(request: Request) -> Answer:
        if len(line.posts) == 1:
            raise LookupError("a bug")
        return line.accept()

    line = Line(on_post=break_once)
    async with line.session(max_running=1) as session:
        made = await asyncio.gather(*map(session.generate, jobs(3)), return_exceptions=True)
    assert [type(each) for each in made] == [SubmissionUnknownError, Video, Video]
    assert len(line.posts) == 3


async def test_a_bug_while_an_answer_is_read_loses_no_task_and_ends_no_other(caplog: pytest.LogCaptureFixture) -> None:
    async def break_now_and_then(request: Request) -> Answer:
        if len(line.queries) % 2:
            raise LookupError("a bug")
        return told(200, finished(asked_about(request)))

    line = Line(on_query=break_now_and_then)
    async with line.session() as session:
        made = await asyncio.gather(*map(session.generate, jobs(3)))
    assert {video.task_id for video in made} == {"task-1", "task-2", "task-3"}
    assert "please report this" in caplog.text


# --- Side by side -----------------------------------------------------------------------------------------------------


async def test_many_sessions_live_side_by_side() -> None:
    lines = [Line() for _ in range(10)]
    async with contextlib.AsyncExitStack() as stack:
        sessions = [await stack.enter_async_context(line.session(max_running=1)) for line in lines]
        await asyncio.gather(*(session.generate(each) for session in sessions for each in jobs(5)))
    assert [len(line.posts) for line in lines] == [5] * 10


async def test_a_callers_aiohttp_session_is_used_and_left_open() -> None:
    async with Emulator(**FAST) as emulator, aiohttp.ClientSession(headers={"X-Trace": "7"}) as theirs:
        for _ in range(2):
            async with AsyncSession(
                api_key=emulator.api_key, base_url=emulator.url, client_session=theirs, poll_interval=(0.01, 0.05)
            ) as session:
                await session.generate(job())
            assert not theirs.closed
        assert emulator.ledger.posts == 2


# --- What a redirecting, slow or silent service costs -----------------------------------------------------------------


async def test_a_redirected_submit_is_in_doubt_and_the_key_stays_home() -> None:
    async def listen(exchange: Exchange) -> None:
        await exchange.reply(200, taken())

    async with raw_server(listen) as elsewhere:

        async def redirect(exchange: Exchange) -> None:
            await exchange.read_body()
            await exchange.reply(307, {}, {"Location": elsewhere.url})

        async with raw_server(redirect) as server, AsyncSession(api_key=KEY, base_url=server.url) as session:
            with pytest.raises(SubmissionUnknownError):
                await session.generate(job())
        assert len(server.posts) == 1
        assert elsewhere.seen == []


async def test_a_query_url_elsewhere_is_not_asked_at() -> None:
    async def listen(exchange: Exchange) -> None:
        await exchange.reply(404, {})

    async with raw_server(listen) as elsewhere:

        async def serve(exchange: Exchange) -> None:
            await exchange.read_body()
            get_result = {"get_result": {"method": "GET", "url": elsewhere.url + "/api/v1/tasks/task-1"}}
            ended = {
                "task_id": "task-1",
                "status": "success",
                "result": {"resources": [{"url": "https://r.example/v.mp4"}]},
            }
            data = {"task_id": "task-1", "status": "pending", **get_result} if exchange.method == "POST" else ended
            await exchange.reply(200, envelope(data))

        async with (
            raw_server(serve) as server,
            AsyncSession(api_key=KEY, base_url=server.url, poll_interval=(0.01, 0.1)) as session,
        ):
            await session.generate(job())
        assert [exchange.target for exchange in server.seen][1:] == ["/api/v1/tasks/task-1"]
        assert elsewhere.seen == []
