"""Bodies on their way out: exact to the byte, read in pieces, and given up cleanly whatever happens on the way."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import os
import ssl
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, cast

import anyio
import anyio.to_thread
import attrs
import PIL.Image
import pytest
from aiohttp.abc import AbstractStreamWriter
from anyio import CapacityLimiter

from hailuo_async import FirstLastFrameToVideo, ImageError, ImageToVideo
from hailuo_async._images.frame import inspect_image
from hailuo_async._io.http import LAST_LOOK_S, _Body
from hailuo_async._rules.wire import Part, Refusal, Request, Verdict, build_upload
from hailuo_async.errors import SessionClosedError
from hailuo_async.jobs import Job

from ..support.edge import accept, answer_of
from ..support.https import over_both
from ..support.leaping import Leap
from ..support.rawserver import Exchange, raw_server
from ..support.service import envelope, job, line_to, picture, refusal, request_for, settle, until

PNG = picture()
LARGE = picture(1000, 1000)
JPEG = picture(400, 500, "JPEG")


async def body_of(asked: Job) -> dict[str, Any]:
    """What a server reads of a job's POST, whose length must be what its head says."""
    request = await anyio.to_thread.run_sync(request_for, asked)
    answer, server = await answer_of(accept, request)
    (post,) = server.seen
    assert answer.verdict is Verdict.ACCEPTED
    assert len(post.body) == request.length == int(post.headers["content-length"])
    assert "transfer-encoding" not in post.headers
    body: dict[str, Any] = json.loads(post.body)
    return body


def data_url(kind: str, content: bytes) -> str:
    return f"data:image/{kind};base64,{base64.b64encode(content).decode()}"


# --- Exact ------------------------------------------------------------------------------------------------------------


async def test_a_file_arrives_as_it_lies_on_the_disk(tmp_path: Path) -> None:
    path = tmp_path / "misnamed.txt"
    await anyio.Path(path).write_bytes(LARGE)
    body = await body_of(ImageToVideo(path, prompt="ein Käfer 🐞"))
    assert body == {"first_frame_image": data_url("png", LARGE), "prompt": "ein Käfer 🐞"}


@pytest.mark.parametrize("short", [0, 1, 2], ids=lambda short: f"padded {short}")
async def test_bytes_of_every_length_arrive_as_they_are(short: int) -> None:
    content = JPEG + b"\0" * ((-len(JPEG) + short) % 3)
    assert await body_of(ImageToVideo(content)) == {"first_frame_image": data_url("jpeg", content)}


async def test_a_data_url_arrives_as_it_was_given() -> None:
    assert await body_of(ImageToVideo(data_url("png", PNG))) == {"first_frame_image": data_url("png", PNG)}


async def test_a_pil_image_arrives_with_its_own_pixels() -> None:
    image = PIL.Image.new("RGB", (400, 320), (200, 30, 7))
    sent = (await body_of(ImageToVideo(image)))["first_frame_image"]
    head, _, content = sent.partition(",")
    found = inspect_image("image", sent)
    assert head == f"data:{found.mime};base64"
    assert (found.width, found.height, found.size) == (400, 320, len(base64.b64decode(content)))


async def test_both_frames_arrive_each_in_its_own_field() -> None:
    body = await body_of(FirstLastFrameToVideo(PNG, first_frame_image=JPEG, prompt="turn", duration=10))
    assert body == {
        "last_frame_image": data_url("png", PNG),
        "first_frame_image": data_url("jpeg", JPEG),
        "prompt": "turn",
        "duration": 10,
    }


@over_both
async def test_many_large_bodies_at_once_arrive_whole(tls: ssl.SSLContext | None) -> None:
    request = await anyio.to_thread.run_sync(request_for, ImageToVideo(LARGE))
    async with raw_server(accept, tls) as server, line_to(server.url) as line:
        answers = await asyncio.gather(*(line.send(request, 20) for _ in range(6)))
    assert [answer.verdict for answer in answers] == [Verdict.ACCEPTED] * 6
    assert {len(post.body) for post in server.posts} == {request.length}


async def test_an_upload_is_one_multipart_field_with_the_image_itself() -> None:
    async def keep(exchange: Exchange) -> None:
        await exchange.read_body()
        await exchange.reply(200, envelope({"url": "https://files.example/1"}))

    frame = await anyio.to_thread.run_sync(inspect_image, "image", JPEG)
    _, server = await answer_of(keep, build_upload(frame, "b0undary"))
    (post,) = server.seen
    assert post.headers["content-type"] == "multipart/form-data; boundary=b0undary"
    assert post.body == (
        b'--b0undary\r\nContent-Disposition: form-data; name="file"; filename="image.jpeg"\r\n'
        b"Content-Type: image/jpeg\r\n\r\n" + JPEG + b"\r\n--b0undary--\r\n"
    )


# --- Gone, or changed, after the check --------------------------------------------------------------------------------


def remove(path: Path) -> None:
    path.unlink()


def truncate(path: Path) -> None:
    path.write_bytes(LARGE[:-1])


def grow(path: Path) -> None:
    path.write_bytes(LARGE + b"\0")


def make_a_directory(path: Path) -> None:
    path.unlink()
    path.mkdir()


@pytest.mark.parametrize("change", [remove, truncate, grow, make_a_directory])
async def test_a_file_that_changes_before_it_is_sent_is_never_accepted(
    tmp_path: Path, change: Callable[[Path], None]
) -> None:
    path = tmp_path / "cat.png"
    path.write_bytes(LARGE)
    request = await anyio.to_thread.run_sync(request_for, ImageToVideo(path))
    change(path)
    answer, server = await answer_of(accept, request)
    assert answer.verdict is Verdict.UNSENT
    assert isinstance(answer.problem, ImageError)
    assert answer.problem.field == "first_frame_image"
    assert server.seen == []


async def test_a_file_that_is_cut_while_it_is_sent_is_never_accepted_whole(tmp_path: Path) -> None:
    """The head and a part of the body have left, but no service accepts half a body: certainly not accepted."""
    path = tmp_path / "cat.png"
    path.write_bytes(LARGE)
    bodies, is_cut = [], threading.Event()

    async def cut_the_file(exchange: Exchange) -> None:
        await exchange.reader.readexactly(1000)
        path.write_bytes(LARGE[: len(LARGE) // 2])
        is_cut.set()
        bodies.append(await exchange.reader.read())

    request = await anyio.to_thread.run_sync(request_for, ImageToVideo(path))
    slowly = [_Paused(part, is_cut) if isinstance(part, Part) else part for part in request.body]
    paused = attrs.evolve(request, body=tuple(each.part() if isinstance(each, _Paused) else each for each in slowly))
    async with raw_server(cut_the_file) as server, line_to(server.url) as line:
        answer = await line.send(paused, 60)
    assert (answer.verdict, type(answer.problem)) == (Verdict.UNSENT, ImageError)
    assert len(server.seen) == 1


@attrs.define
class _Paused:
    """A part that is read on after its first piece only when the test says so."""

    of: Part
    until: threading.Event

    def part(self) -> Part:
        return attrs.evolve(self.of, pieces=self.pieces)

    def pieces(self) -> Iterator[bytes]:
        for number, piece in enumerate(self.of.pieces()):
            if number == 1:
                self.until.wait(60)
            yield piece


# --- Given up while it is read ----------------------------------------------------------------------------------------


@attrs.define
class Slow:
    """A part of a body whose second piece comes only when the test says so."""

    may_go_on: threading.Event = attrs.field(factory=threading.Event)
    reads: int = 0
    closed: int = 0

    def request(self) -> Request:
        return Request("POST", "/api/v1/x/y/async", (b'{"image":"', Part(2 * 2**18, self.pieces), b'"}'))

    def pieces(self) -> Iterator[bytes]:
        try:
            for _ in range(2):
                self.reads += 1
                if self.reads == 2:
                    assert self.may_go_on.wait(60)
                yield b"x" * 2**18
        finally:
            self.closed += 1


@asynccontextmanager
async def slow_part() -> AsyncIterator[Slow]:
    slow = Slow()
    try:
        yield slow
    finally:
        slow.may_go_on.set()
        await until(lambda: slow.closed)


async def test_a_413_that_comes_while_an_image_is_read_is_a_refusal() -> None:
    async with slow_part() as slow:

        async def refuse_early(exchange: Exchange) -> None:
            await until(lambda: slow.reads == 2)
            await exchange.reply(413, refusal(413, "body too large"))
            await exchange.reader.read()

        answer, _ = await answer_of(refuse_early, slow.request())
    assert (answer.verdict, answer.refusal) == (Verdict.REFUSED, Refusal.REJECTED)
    assert slow.closed == 1


@over_both
@pytest.mark.parametrize("status", [413, 429])
async def test_a_refusal_that_comes_while_the_body_streams_is_heard(status: int, tls: ssl.SSLContext | None) -> None:
    async def refuse_early(exchange: Exchange) -> None:
        await exchange.reply(status, refusal(status, "no"), {"Connection": "close"})
        await exchange.reader.read()

    request = await anyio.to_thread.run_sync(request_for, ImageToVideo(LARGE))
    answer, _ = await answer_of(refuse_early, request, tls=tls)
    assert answer.verdict is Verdict.REFUSED


async def test_a_time_out_while_an_image_is_read_leaves_nothing_open(leap: Leap) -> None:
    async def say_nothing(exchange: Exchange) -> None:
        await until(lambda: slow.reads == 2)
        leap(60)
        await settle()
        leap(LAST_LOOK_S)
        await exchange.reader.read()

    async with slow_part() as slow:
        answer, _ = await answer_of(say_nothing, slow.request(), timeout_s=60)
    assert (answer.verdict, slow.closed) == (Verdict.UNKNOWN, 1)


@over_both
@pytest.mark.parametrize("natively", [True, False])
async def test_cancelled_while_an_image_is_read_it_ends_as_cancelled(
    natively: bool, tls: ssl.SSLContext | None
) -> None:
    async def say_nothing(exchange: Exchange) -> None:
        await exchange.reader.read()

    async with slow_part() as slow, raw_server(say_nothing, tls) as server, line_to(server.url) as line:
        scope = anyio.CancelScope()

        async def send() -> None:
            with scope:
                await line.send(slow.request(), 60)

        task = asyncio.ensure_future(send())
        await until(lambda: slow.reads == 2)
        if natively:
            task.cancel()
        else:
            scope.cancel()
        await asyncio.wait([task])
        assert task.cancelled() is natively
        assert scope.cancelled_caught is not natively


async def test_a_refused_connection_closes_what_was_opened() -> None:
    async with slow_part() as slow:
        slow.may_go_on.set()
        async with line_to("http://127.0.0.1:1") as line:
            answer = await line.send(slow.request(), 60)
        assert (answer.verdict, slow.closed) == (Verdict.UNSENT, 1)


async def test_a_job_of_urls_reads_nothing_in_threads() -> None:
    assert not request_for(job()).is_heavy


# --- A leave that lapses ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("pieces", [0, 3], ids=["before the first byte", "in the middle"])
async def test_once_its_permit_has_lapsed_no_more_of_a_job_leaves_and_it_was_certainly_not_accepted(
    pieces: int,
) -> None:
    request = await anyio.to_thread.run_sync(request_for, ImageToVideo(LARGE))
    left = iter([True] * pieces)
    request = attrs.evolve(request, may_go_on=lambda: next(left, False))
    accepted = []

    async def accept_what_is_whole(exchange: Exchange) -> None:
        with contextlib.suppress(OSError, asyncio.IncompleteReadError):
            await exchange.read_body()
            accepted.append(exchange)

    answer, _ = await answer_of(accept_what_is_whole, request)
    assert (answer.verdict, accepted) == (Verdict.UNSENT, [])
    assert "permission to send had lapsed" in answer.message


async def test_a_child_that_was_forked_in_the_middle_of_a_body_sends_no_more_of_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    request = await anyio.to_thread.run_sync(request_for, ImageToVideo(LARGE))

    def fork() -> bool:
        child.setattr(os, "getpid", lambda: 0)
        return True

    with monkeypatch.context() as child:
        answer, server = await answer_of(accept, attrs.evolve(request, may_go_on=fork))
    assert (answer.verdict, type(answer.problem)) == (Verdict.UNSENT, SessionClosedError)
    assert server.connections == 1


async def test_a_body_has_begun_once_its_first_piece_was_given_on_even_if_that_fails() -> None:
    """A part of it may have left, and a gateway counts what has begun."""

    class Torn:
        async def write(self, piece: bytes) -> None:
            raise ConnectionResetError

    body = _Body(request_for(job()), CapacityLimiter(1), os.getpid())
    with pytest.raises(ConnectionResetError):
        await body.write(cast(AbstractStreamWriter, Torn()))
    assert body.begun
