"""``save_to``: videos saved as part of the stream, by themselves: no slot waits for a disk, and no video is lost."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import anyio
import pytest

from hailuo_async import AuthenticationError, DownloadError, Failure, Outcome, Success, TaskExpiredError
from hailuo_async._engine.admission import Terms
from hailuo_async._engine.saving import Saving, Target
from hailuo_async._engine.stream import LOOKAHEAD, MAX_UNSAVED, SAVERS, Stream
from hailuo_async._engine.tracked_job import TrackedJob
from hailuo_async._rules.wire import Answer, Request
from hailuo_async.emulator import Kind
from hailuo_async.jobs import Job

from ..support.crash_journal import records_in
from ..support.films import FILM, films, in_short, names_in, read
from ..support.rawserver import Exchange, raw_server
from ..support.service import Line, emulated, finished, job, jobs, refusal, told, until
from ..support.streams import Source, read_into

# --- What is saved, and where -----------------------------------------------------------------------------------------


async def test_each_video_is_saved_before_it_is_told_by_its_key_or_its_task(tmp_path: Path) -> None:
    directory, task_ids = tmp_path / "of" / "tonight", {}
    async with films() as host, host.line().session(max_running=1) as session:
        async for outcome in session.stream([job("1", key="cat"), job("2"), job("3", key="a/b")], save_to=directory):
            assert isinstance(outcome, Success)
            assert outcome.path is not None
            assert await anyio.Path(outcome.path).read_bytes() == FILM
            task_ids[outcome.key] = outcome.video.task_id
    names = names_in(directory)
    assert names[1:] == ["cat.mp4", f"{task_ids[None]}.mp4"]
    assert names[0].startswith("a_b-")


async def test_without_save_to_nothing_is_fetched_and_no_path_is_told() -> None:
    async with films() as host, host.line().session() as session:
        outcomes = [outcome async for outcome in session.stream(jobs(3))]
        assert [outcome.path for outcome in outcomes if isinstance(outcome, Success)] == [None] * 3
        assert host.asked == []


async def test_a_file_that_exists_is_left_alone_and_its_job_is_not_paid_for(tmp_path: Path) -> None:
    theirs = anyio.Path(tmp_path / "cat.mp4")
    await theirs.write_bytes(b"somebody's")
    async with films() as host:
        line = host.line()
        async with line.session(max_running=1) as session:
            outcomes = await read(session, [job("1", key="cat"), job("2", key="dog")], tmp_path)
    assert in_short(outcomes, tmp_path) == ["DownloadError None", "dog.mp4"]
    assert line.prompts == ["2"]
    assert await theirs.read_bytes() == b"somebody's"
    assert isinstance(outcomes[0], Failure)
    assert (outcomes[0].job, outcomes[0].key) == (job("1", key="cat"), "cat")


async def test_where_no_directory_can_be_no_job_is_pulled(tmp_path: Path) -> None:
    await anyio.Path(tmp_path / "file").write_bytes(b"")
    source, line = Source(), Line()
    async with line.session() as session:
        for directory in (tmp_path / "file", tmp_path / "file" / "videos", tmp_path / "\ud800"):
            with pytest.raises(DownloadError, match="cannot hold videos") as caught:
                await read(session, source, directory)
            assert caught.value.path == str(directory)
    assert (source.pulled, line.posts) == (0, [])


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
async def test_where_nothing_may_be_written_no_job_is_pulled(tmp_path: Path) -> None:
    await anyio.Path(tmp_path).chmod(0o500)
    source = Source()
    async with Line().session() as session:
        with pytest.raises(DownloadError, match="Permission denied"):
            await read(session, source, tmp_path)
    assert source.pulled == 0


async def test_a_directory_that_is_lost_meanwhile_fails_what_comes_with_its_task(tmp_path: Path) -> None:
    line, directory = Line(), anyio.Path(tmp_path / "videos")

    async def lose_it(request: Request) -> Answer:
        await directory.rmdir()
        await directory.write_bytes(b"somebody's")
        return line.accept()

    line.on_post = lose_it
    async with line.session() as session:
        outcomes = await read(session, jobs(1), Path(directory))
    assert in_short(outcomes, tmp_path) == ["DownloadError task-1"]
    assert await directory.read_bytes() == b"somebody's"


async def test_a_job_that_fails_is_told_as_ever(tmp_path: Path) -> None:
    async with emulated(fail_rate=1.0) as (emulator, session):
        outcomes = await read(session, jobs(2), tmp_path)
        assert [type(outcome) for outcome in outcomes] == [Failure] * 2
        assert emulator.ledger.of(Kind.DOWNLOAD) == []


async def test_a_result_that_has_expired_is_said_so(tmp_path: Path) -> None:
    async def gone(exchange: Exchange) -> None:
        await exchange.reply(403, {})

    async with raw_server(gone) as server:
        line = Line()

        async def finish_once(request: Request) -> Answer:
            is_first = len(line.queries) == 1
            url = f"{server.url}/task-1.mp4?sig=secret"
            return told(200, finished(url=url)) if is_first else told(404, refusal(404, "Resource not found: task"))

        line.on_query = finish_once
        async with line.session() as session:
            [outcome] = await read(session, jobs(1), tmp_path)
    assert isinstance(outcome, Failure)
    assert isinstance(outcome.error, TaskExpiredError)
    assert outcome.error.task_id == "task-1"
    assert (len(server.seen), len(line.queries)) == (1, 2)


@pytest.mark.slow
async def test_a_result_that_is_cut_short_is_gone_on_with(tmp_path: Path) -> None:
    async with emulated(video_size=600_000) as (emulator, session):
        for _ in range(2):
            emulator.next_fault(Kind.DOWNLOAD, "truncated")
        outcomes = await read(session, jobs(1), tmp_path)
        entries = emulator.ledger.of(Kind.DOWNLOAD)
        assert isinstance(outcomes[0], Success)
        assert outcomes[0].path is not None
        assert (await anyio.Path(outcomes[0].path).stat()).st_size == 600_000
        assert len(entries) == 3
        assert emulator.ledger.keys_leaked == 0


async def test_a_bug_in_saving_ends_the_stream_and_no_video_is_lost_by_it(tmp_path: Path) -> None:
    class Broken(Saving):
        async def save(self, success: Success, target: Target) -> Outcome:
            raise LookupError("a bug")

    told_of: list[Outcome] = []
    async with Line().session() as session:
        engine = session._running_engine()
        saving = Broken(engine.results, tmp_path, None, has_journal=False)

        async def take(item: Job, find_fault: object) -> TrackedJob:
            return await engine.admission.take(item, Terms())

        stream = Stream(jobs(2), take, lambda _: True, engine.dispatcher, engine.session_state, saving=saving)
        with pytest.raises(LookupError, match="a bug"):
            await read_into(told_of, stream.outcomes())
    assert {outcome.path for outcome in told_of if isinstance(outcome, Success)} == {None}


# --- By itself --------------------------------------------------------------------------------------------------------


@pytest.mark.slow
async def test_while_nothing_can_be_saved_every_slot_is_filled_again(tmp_path: Path) -> None:
    async with films(slow=True) as host:
        line = host.line()
        async with line.session(max_running=2) as session:
            reading = asyncio.ensure_future(read(session, jobs(30), tmp_path))
            await until(lambda: len(line.posts) == 30 and session.stats().succeeded == 30)
            await until(lambda: len(host.under_way) == SAVERS)
            assert not reading.done()
            host.may_go_on.set()
            assert len(await reading) == 30
    assert len(names_in(tmp_path)) == 30


@pytest.mark.slow
async def test_no_more_than_a_few_are_saved_at_once(tmp_path: Path) -> None:
    async with films(slow=True) as host, host.line().session() as session:
        reading = asyncio.ensure_future(read(session, jobs(20), tmp_path))
        await until(lambda: session.stats().succeeded == 20 and len(host.under_way) == SAVERS)
        await anyio.sleep(0.05)  # long enough for a fifth to begin, if one would
        assert len(host.asked) == SAVERS
        host.may_go_on.set()
        await reading
        assert len(host.asked) == 20


@pytest.mark.slow
async def test_no_more_is_pulled_while_very_many_wait_to_be_saved(tmp_path: Path) -> None:
    source = Source()
    async with films(slow=True) as host, host.line().session(max_running=8) as session:
        stream = session.stream(source, save_to=tmp_path)
        reading = asyncio.ensure_future(anext(stream))
        await until(lambda: session.stats().succeeded >= MAX_UNSAVED and not session.stats().running)
        await anyio.sleep(0.05)  # long enough for more to be pulled, if more would
        assert MAX_UNSAVED <= source.pulled <= MAX_UNSAVED + LOOKAHEAD + 8
        assert session.stats().succeeded == source.pulled
        reading.cancel()
        await asyncio.wait([reading])


async def test_an_error_that_ends_the_stream_waits_until_what_came_is_saved(tmp_path: Path) -> None:
    told_of: list[Outcome] = []
    async with films(slow=True) as host:
        line = host.line()

        async def refuse_the_second(request: Request) -> Answer:
            if len(line.posts) == 1:
                return line.accept()
            await until(lambda: host.under_way)
            return told(401, refusal(401, "Authentication failed: the key was revoked"))

        line.on_post = refuse_the_second
        async with line.session(max_running=1) as session:
            reading = asyncio.ensure_future(read_into(told_of, session.stream(jobs(5), save_to=tmp_path)))
            await until(lambda: session.stats().refused)
            host.may_go_on.set()
            with pytest.raises(AuthenticationError):
                await reading
    assert in_short(told_of, tmp_path) == ["task-1.mp4"]


@pytest.mark.slow
async def test_a_reader_that_is_slow_holds_back_a_stream_that_saves(tmp_path: Path) -> None:
    source = Source()
    async with films() as host, host.line().session(max_running=2) as session:
        stream = session.stream(source, save_to=tmp_path)
        await anext(stream)
        await until(lambda: session.stats().succeeded == source.pulled)
        assert source.pulled <= 3 * LOOKAHEAD + MAX_UNSAVED
        await stream.aclose()


# --- With a journal ---------------------------------------------------------------------------------------------------


async def test_a_second_run_fetches_nothing_again_and_tells_where_each_video_lies(tmp_path: Path) -> None:
    path, items = tmp_path / "batch.db", [job("1", key="cat"), job("2"), job("2")]
    async with films() as host:
        line = host.line()
        runs = []
        for directory in (tmp_path / "first", tmp_path / "second"):
            async with line.session(journal=path) as session:
                runs.append(await read(session, items, directory))
        assert (len(line.posts), len(host.asked)) == (3, 3)
    first, second = ([outcome.path for outcome in run if isinstance(outcome, Success)] for run in runs)
    assert second == first
    assert names_in(tmp_path / "second") == []
    saved = {record.saved_to for record in (await records_in(path)).values()}
    assert saved == {str(place) for place in first}


async def test_a_video_that_was_taken_away_is_fetched_again_and_not_paid_for_again(tmp_path: Path) -> None:
    path = tmp_path / "batch.db"
    async with films() as host:
        line = host.line()
        for _ in range(2):
            async with line.session(journal=path) as session:
                assert in_short(await read(session, [job(key="cat")], tmp_path), tmp_path) == ["cat.mp4"]
            await anyio.Path(tmp_path / "cat.mp4").unlink()
        assert (len(line.posts), len(host.asked)) == (1, 2)


async def test_a_job_that_is_twice_in_a_stream_is_fetched_once_and_told_twice(tmp_path: Path) -> None:
    async with films() as host:
        line = host.line()
        async with line.session(journal=tmp_path / "batch.db") as session:
            outcomes = await read(session, [job(key="cat"), job(key="cat")], tmp_path / "videos")
        assert in_short(outcomes, tmp_path / "videos") == ["cat.mp4"] * 2
        assert (len(line.posts), len(host.asked)) == (1, 1)


async def test_of_a_video_that_is_asked_for_twice_at_once_one_file_is_made(tmp_path: Path) -> None:
    async with films() as host, host.line().session(journal=tmp_path / "batch.db") as session:
        video = await session.generate(job())
        both = await asyncio.gather(*(session.download(video, tmp_path / f"{number}.mp4") for number in range(2)))
        assert both == [tmp_path / "0.mp4"] * 2
        assert host.asked == ["/task-1.mp4"]
