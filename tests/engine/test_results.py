"""Saved means there: which file a later run takes for the video, whatever came between."""

from __future__ import annotations

import asyncio
import hashlib
import sqlite3
from pathlib import Path
from typing import Any

import anyio
import pytest

from hailuo_async import AsyncSession, ConfigError, DownloadError, JobError, Record, SessionClosedError, Success, Video
from hailuo_async._io.journal.table import JobTable

from ..support.crash_journal import records_in
from ..support.films import FILM, Films, films
from ..support.service import Line, job, until


@pytest.fixture
def target(tmp_path: Path) -> Path:
    return tmp_path / "cat.mp4"


async def saved(host: Films, path: Path, target: Path) -> Path:
    """One run of a script that makes a video and saves it."""
    async with host.line().session(journal=path) as session:
        return await session.download(await session.generate(job(key="cat")), target)


async def record_of(path: Path) -> Record:
    return (await records_in(path))["cat"]


async def test_a_file_that_took_the_name_meanwhile_is_not_the_video_for_a_later_run(path: Path, target: Path) -> None:
    async with films(slow=True) as host:
        async with host.line().session(journal=path) as session, anyio.create_task_group() as tasks:
            video = await session.generate(job(key="cat"))

            async def fails() -> None:
                with pytest.raises(DownloadError, match="is there already"):
                    await session.download(video, target)

            tasks.start_soon(fails)
            await until(lambda: host.under_way)
            await anyio.Path(target).write_bytes(b"another program's file")
            host.may_go_on.set()
        record = await record_of(path)
        assert (record.saved_to, record.is_wiped) == (None, False)
        with pytest.raises(DownloadError, match="is there already"):
            await saved(host, path, target)
        assert await anyio.Path(target).read_bytes() == b"another program's file"
        assert await saved(host, path, target.with_name("dog.mp4")) == target.with_name("dog.mp4")


async def test_two_sessions_of_one_journal_that_save_a_video_to_one_file_fetch_it_once(
    path: Path, target: Path
) -> None:
    places: list[Path] = []
    async with (
        films(slow=True) as host,
        host.line().session(journal=path) as one,
        host.line().session(journal=path) as other,
    ):
        video = await one.generate(job(key="cat"))

        async def save(session: AsyncSession) -> None:
            places.append(await session.download(video, target))

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(save, one)
            await until(lambda: host.under_way)
            tasks.start_soon(save, other)
            await anyio.sleep(0.1)  # the other finds the file locked by then, or later finds it saved
            host.may_go_on.set()
        assert (places, len(host.asked)) == ([target, target], 1)


async def test_the_time_for_a_download_bounds_its_wait_behind_another_save_of_that_video(target: Path) -> None:
    async with films(slow=True) as host, host.line().session() as session, anyio.create_task_group() as tasks:
        video = await session.generate(job(key="cat"))
        tasks.start_soon(session.download, video, target)
        await until(lambda: host.under_way)
        with pytest.raises(DownloadError, match=r"not whole within 0\.05 s") as caught:
            await session.download(video, target.with_name("dog.mp4"), timeout=0.05)
        assert (caught.value.task_id, caught.value.path) == (video.task_id, str(target.with_name("dog.mp4")))
        assert caught.value.cost == video.cost
        host.may_go_on.set()
    assert await anyio.Path(target).exists()


@pytest.mark.parametrize("content", [b"another program's file", bytes(len(FILM))])
async def test_a_file_that_replaced_the_video_is_not_taken_for_it(content: bytes, path: Path, target: Path) -> None:
    async with films() as host:
        await saved(host, path, target)
        await anyio.Path(target).write_bytes(content)
        with pytest.raises(DownloadError, match="is there already"):
            await saved(host, path, target)
        elsewhere = await saved(host, path, target.with_name("dog.mp4"))
        assert await anyio.Path(elsewhere).read_bytes() == FILM
        assert await anyio.Path(target).read_bytes() == content
        assert (await record_of(path)).saved_to == str(elsewhere)


async def test_a_video_that_got_its_name_just_before_a_kill_is_known_again(
    path: Path, target: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with films() as host:
        with monkeypatch.context() as killed:
            killed.setattr(JobTable, "saved", lambda *_: None)  # as if the process ended before this was written
            await saved(host, path, target)
        assert (await record_of(path)).saved_to is None
        assert await saved(host, path, target) == target
        assert (len(host.asked), (await record_of(path)).saved_to) == (1, str(target))


async def test_the_digest_on_record_is_that_of_the_file(path: Path, target: Path) -> None:
    async with films() as host:
        await saved(host, path, target)
    record = await record_of(path)
    assert (record.saved_bytes, record.saved_sha256) == (len(FILM), hashlib.sha256(FILM).hexdigest())


async def test_a_note_of_an_older_version_without_a_digest_is_not_believed(path: Path, target: Path) -> None:
    async with films() as host:
        await saved(host, path, target)
        await anyio.Path(target).write_bytes(b"another program's file")
        await _forget_digest(path)
        with pytest.raises(DownloadError, match="is there already"):
            await saved(host, path, target)


async def test_what_is_not_a_video_is_refused_with_what_to_give(tmp_path: Path) -> None:
    async with films() as host, host.line().session() as session:
        generation = await session.submit(job(key="cat"))
        video = await generation
        given: dict[object, str] = {
            generation: "not Generation: await the generation first",
            Success(None, "cat", 0, video): "not Success: give the outcome's .video",
            "task-1": r"not str: await session\.attach\(task_id\)",
            None: r"not NoneType: give the Video that generate\(\) returns",
        }
        for wrong, advice in given.items():
            with pytest.raises(TypeError, match=advice):
                await session.download(wrong, tmp_path / "cat.mp4")  # type: ignore[arg-type]
            with pytest.raises(TypeError, match=advice):
                session.open_video(wrong)  # type: ignore[arg-type]
    assert host.asked == []


@pytest.mark.parametrize("wrong", [{"overwrite": "no"}, {"allow_unchecked": 1}, {"key": 5}, {"key": "a\nb"}])
async def test_an_option_of_a_download_that_cannot_be_is_refused_before_anything_is_asked(
    tmp_path: Path, wrong: dict[str, Any]
) -> None:
    async with films() as host, host.line().session() as session:
        video = await session.generate(job())
        with pytest.raises((ConfigError, JobError), match=next(iter(wrong))):
            await session.download(video, tmp_path, **wrong)
        with pytest.raises(ConfigError, match="allow_unchecked"):
            session.open_video(video, allow_unchecked="no")  # type: ignore[arg-type]
        with pytest.raises(ConfigError, match="share_uploads"):
            session.stream([], share_uploads="no")  # type: ignore[arg-type]
    assert host.asked == []


async def test_a_video_made_by_hand_without_resources_is_asked_for(tmp_path: Path) -> None:
    async with films() as host, host.line().session() as session:
        path = await session.download(Video("task-1", None, ()), tmp_path / "cat.mp4")
        assert await anyio.Path(path).read_bytes() == FILM


async def test_all_who_ask_at_once_get_the_same_downloads_and_after_the_close_no_one_does() -> None:
    async with Line().session() as session:
        never, results = Line().session(), session._running_engine().results
        async with never:
            unused = never._running_engine().results
        one, other = await asyncio.gather(results.downloads(), results.downloads())
        assert one is other
    with pytest.raises(SessionClosedError):
        await unused.downloads()
    with pytest.raises(SessionClosedError):
        async with (await results.downloads()).stream("http://127.0.0.1:9/x.mp4"):
            pytest.fail("it was opened")


async def _forget_digest(path: Path) -> None:
    def forget() -> None:
        with sqlite3.connect(path) as connection:
            connection.execute("UPDATE job SET saved_bytes = NULL, saved_sha256 = NULL")
        connection.close()

    await anyio.to_thread.run_sync(forget)
