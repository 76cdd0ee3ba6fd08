"""What a team has uploaded: listed, taken away, and left as it was by a stream that shared its images."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Iterator
from typing import Any

import anyio
import pytest

from hailuo_async import ImageToVideo, JobError, RequestRejectedError, ServiceError, Success, Upload
from hailuo_async._rules.catalogue import read_upload, read_uploads
from hailuo_async._rules.wire import Answer, Request, decipher
from hailuo_async.contract import UPLOADS_PATH
from hailuo_async.emulator import Kind

from ..support.service import Line, asked_about, emulated, envelope, finished, never, picture, told, until

PICTURES = [picture(seed=number) for number in range(12)]


def shared_jobs(images: int, each: int = 3) -> Iterator[ImageToVideo]:
    return (
        ImageToVideo(PICTURES[number], prompt=f"{number} {take}") for number in range(images) for take in range(each)
    )


async def test_uploads_are_listed_and_can_be_deleted() -> None:
    async with emulated() as (_, session):
        assert await session.uploads() == ()
        url = await session.upload(PICTURES[0])
        (upload,) = await session.uploads()
        assert (upload.url, upload.size) == (url, len(PICTURES[0]))
        assert upload.created_at is not None
        await session.delete_upload(upload.file_id)
        assert await session.uploads() == ()
        with pytest.raises(RequestRejectedError):
            await session.delete_upload(upload.file_id)


@pytest.mark.parametrize("file_id", ["", None, "a b", b"file-1", ".", ".."])
async def test_what_is_no_id_deletes_nothing_and_is_not_sent(file_id: Any) -> None:
    async with emulated() as (emulator, session):
        with pytest.raises(JobError, match="file_id"):
            await session.delete_upload(file_id)
    assert emulator.ledger.requests[Kind.OTHER] == 0


async def test_a_stream_that_shared_its_images_leaves_none_of_them_on_the_service() -> None:
    async with emulated() as (emulator, session):
        mine = await session.upload(PICTURES[11])
        outcomes = [outcome async for outcome in session.stream(shared_jobs(3), share_uploads=True)]
        assert [type(outcome) for outcome in outcomes] == [Success] * 9
        assert emulator.ledger.requests[Kind.OTHER] == 1 + 3 + 3
        assert [upload.url for upload in await session.uploads()] == [mine]


async def test_a_stream_that_is_left_takes_its_images_away_when_its_last_task_has_ended() -> None:
    async with emulated(generation_s=0.3) as (_, session):
        stream = session.stream(shared_jobs(1, each=4), share_uploads=True)
        await anext(stream)
        await stream.aclose()
        with anyio.fail_after(60):
            while await session.uploads():  # noqa: ASYNC110 (the service has no event for it)
                await anyio.sleep(0.02)


async def test_a_reader_that_is_cancelled_while_its_images_are_taken_away_leaves_none_of_them() -> None:
    deleted, is_asked = list[str](), asyncio.Event()

    async def post(request: Request) -> Answer:
        file_id = f"file-{len(line.posts)}"
        is_upload = request.path == UPLOADS_PATH
        return (
            told(200, envelope({"url": f"https://files.example/{file_id}.png", "file_id": file_id}))
            if is_upload
            else line.accept()
        )

    async def answer(request: Request) -> Answer:
        if request.method == "DELETE" and not is_asked.is_set():
            is_asked.set()
            await anyio.sleep_forever()
        if request.method == "DELETE":
            deleted.append(asked_about(request))
        return told(200, finished(asked_about(request)))

    line = Line(on_post=post, on_query=answer)
    async with line.session() as session:

        async def read() -> None:
            async for _ in session.stream(shared_jobs(2), share_uploads=True):
                pass

        reader = asyncio.create_task(read())
        await is_asked.wait()
        reader.cancel()
        await until(lambda: len(deleted) == 2)


@pytest.mark.slow
async def test_the_eleventh_image_goes_with_its_jobs_and_that_is_said_once(caplog: pytest.LogCaptureFixture) -> None:
    async with emulated() as (emulator, session):
        with caplog.at_level(logging.WARNING, "hailuo_async"):
            outcomes = [outcome async for outcome in session.stream(shared_jobs(12), share_uploads=True)]
        assert [type(outcome) for outcome in outcomes] == [Success] * 36
        assert emulator.ledger.requests[Kind.OTHER] == 10 + 10
        assert await session.uploads() == ()
    assert len([record for record in caplog.records if "no more images are shared" in record.message]) == 1


async def test_a_team_that_holds_ten_already_has_images_go_with_their_jobs(caplog: pytest.LogCaptureFixture) -> None:
    async with emulated(max_files=1) as (_, session):
        await session.upload(PICTURES[0])
        outcomes = [outcome async for outcome in session.stream(shared_jobs(2), share_uploads=True)]
        assert [type(outcome) for outcome in outcomes] == [Success] * 6
        assert len(await session.uploads()) == 1
    assert len([record for record in caplog.records if "no more images are shared" in record.message]) == 1


async def test_two_uploads_run_at_once_and_no_more() -> None:
    running, most = 0, 0

    async def post(request: Request) -> Answer:
        nonlocal running, most
        running += 1
        most = max(most, running)
        await anyio.sleep(0.01)
        running -= 1
        return told(200, envelope({"url": f"https://files.example/{len(line.posts)}.png", "file_id": "f"}))

    line = Line(on_post=post)
    async with line.session() as session:
        await asyncio.gather(*(session.upload(image) for image in PICTURES[:8]))
    assert (len(line.posts), most) == (8, 2)


def upload(**fields: object) -> Upload | None:
    return read_upload({"file_id": "f", **fields})


def test_an_upload_is_read_as_far_as_it_can_be_believed() -> None:
    iso, ms = upload(created_at="2026-08-10T12:00:00Z"), upload(created_at=1_786_363_200_000)
    assert iso is not None
    assert iso == ms
    signed = upload(url="https://files.example/a.png?sig=1")
    assert signed == Upload("f", "https://files.example/a.png?sig=1")
    for nonsense in (None, "soon", float("nan"), 1e300, True, object()):
        assert upload(created_at=nonsense, size=nonsense, url=5) == Upload("f")
    assert read_upload({"file_id": "../x y"}) is None
    assert read_upload({}) is None


@pytest.mark.parametrize("body", [b"{}", b"[]", b'{"code": 0, "data": {}}', b'{"data": {"files": 5}}'])
def test_what_is_no_list_of_uploads_is_none(body: bytes) -> None:
    assert read_uploads(decipher(200, {}, body)) is None


async def test_uploads_that_cannot_be_read_are_an_error() -> None:
    async with emulated() as (emulator, session):
        emulator.service.api_key = "another"
        with pytest.raises(ServiceError):
            await session.uploads()
        with pytest.raises(ServiceError):
            await session.delete_upload("file-1")


async def test_a_source_that_exits_waits_for_no_running_job_though_those_use_uploads() -> None:
    async def post(request: Request) -> Answer:
        if request.path == UPLOADS_PATH:
            return told(200, envelope({"url": "https://files.example/1.png", "file_id": "1"}))
        return line.accept()

    async def source() -> AsyncIterator[ImageToVideo]:
        for each in shared_jobs(2):
            yield each
        await until(lambda: any(request.path == UPLOADS_PATH for request in line.posts))
        raise SystemExit

    line = Line(on_post=post, on_query=never)
    async with line.session() as session:
        with anyio.fail_after(60), pytest.raises(SystemExit):
            async for _ in session.stream(source(), share_uploads=True):
                pass
        await session.aclose(grace=0)
