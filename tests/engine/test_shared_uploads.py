"""Images that jobs of one stream share: put on the service once, and named by URL from their second job on."""

from __future__ import annotations

import asyncio
import base64
import io
import json
import logging
from collections.abc import Sequence
from pathlib import Path

import anyio
import attrs
import PIL.Image
import pytest

from hailuo_async import (
    AsyncSession,
    AuthenticationError,
    Failure,
    FirstLastFrameToVideo,
    ImageError,
    ImageToVideo,
    Outcome,
    ServiceUnavailableError,
    Success,
)
from hailuo_async._engine.shared_uploads import MAX_FAILURES, MAX_REMEMBERED, SharedUploads
from hailuo_async._images.frame import Frame, inspect_image
from hailuo_async._images.source import ImageSource
from hailuo_async._rules.wire import Answer, Request
from hailuo_async.contract import MAX_UPLOAD_BYTES, UPLOADS_PATH
from hailuo_async.emulator import Kind
from hailuo_async.testing import run_virtual

from ..support.crash_journal import records_in
from ..support.service import Line, emulated, envelope, picture, refusal, told, until

PICTURE = picture(301, 301)
FIELD = "first_frame_image"


def frame_of(source: ImageSource, field: str = FIELD) -> Frame:
    return inspect_image(field, source, fingerprint=True)


def data_url(content: bytes) -> str:
    return f"data:image/png;base64,{base64.b64encode(content).decode()}"


@attrs.define(eq=False)
class Shelf:
    """Where images are put, when it is open, and what was put there."""

    failures: list[Exception] = attrs.field(factory=list)
    put: list[Frame] = attrs.field(factory=list)
    is_open: anyio.Event = attrs.field(factory=anyio.Event)

    @classmethod
    def opened(cls, *failures: Exception) -> Shelf:
        shelf = cls(list(failures))
        shelf.is_open.set()
        return shelf

    async def __call__(self, frame: Frame) -> tuple[str, str]:
        self.put.append(frame)
        await self.is_open.wait()
        if self.failures:
            raise self.failures.pop(0)
        return f"https://files.example/{len(self.put)}.png?sig=secret", f"file-{len(self.put)}"


async def forget(file_id: str) -> None:
    """Nothing is taken off this shelf."""


async def share(uploads: SharedUploads, frame: Frame) -> Frame:
    return (await uploads.share({FIELD: frame}))[FIELD]


def down() -> ServiceUnavailableError:
    return ServiceUnavailableError(message="down", status=503)


# --- What is shared ---------------------------------------------------------------------------------------------------


async def test_an_image_goes_with_its_first_job_and_by_url_from_then_on() -> None:
    shelf, frame = Shelf.opened(), frame_of(PICTURE)
    uploads = SharedUploads(shelf, forget)
    first, second, third = [await share(uploads, frame) for _ in range(3)]
    assert (first, shelf.put) == (frame, [frame])
    assert second == third
    assert second.url == "https://files.example/1.png?sig=secret"


def test_an_upload_that_the_service_will_soon_delete_is_named_no_more() -> None:
    frame, deleted = frame_of(PICTURE), list[str]()

    async def delete(file_id: str) -> None:
        deleted.append(file_id)

    async def week() -> list[str | None]:
        uploads, urls = SharedUploads(Shelf.opened(), delete), []
        for day in (0, 0, 5, 2, 5):
            await anyio.sleep(day * 86_400)
            urls.append((await share(uploads, frame)).url)
        await uploads.delete_all()
        return urls

    assert run_virtual(week) == [None, *[f"https://files.example/{number}.png?sig=secret" for number in (1, 1, 2, 2)]]
    assert deleted == ["file-2"]


async def test_images_that_come_once_are_not_uploaded() -> None:
    shelf = Shelf.opened()
    uploads = SharedUploads(shelf, forget)
    frames = [frame_of(picture(301, 301, seed=seed)) for seed in range(3)]
    assert [await share(uploads, frame) for frame in frames] == frames
    assert shelf.put == []


async def test_the_same_content_is_one_image_however_it_is_given(tmp_path: Path) -> None:
    one, other = anyio.Path(tmp_path / "one.png"), anyio.Path(tmp_path / "other.png")
    await one.write_bytes(PICTURE)
    await other.write_bytes(PICTURE)
    sources: list[ImageSource] = [PICTURE, Path(one), Path(other), data_url(PICTURE), bytes(bytearray(PICTURE))]
    shelf = Shelf.opened()
    uploads = SharedUploads(shelf, forget)
    shared = [await share(uploads, await anyio.to_thread.run_sync(frame_of, source)) for source in sources]
    assert [frame.is_url for frame in shared] == [False, True, True, True, True]
    assert len(shelf.put) == 1


async def test_a_pil_image_is_known_again_by_its_pixels() -> None:
    shelf = Shelf.opened()
    uploads = SharedUploads(shelf, forget)
    shared = [await share(uploads, frame_of(PIL.Image.open(io.BytesIO(PICTURE)).copy())) for _ in range(3)]
    assert [frame.is_url for frame in shared] == [False, True, True]
    assert len(shelf.put) == 1


async def test_an_image_in_both_fields_of_a_job_is_shared_by_them() -> None:
    shelf = Shelf.opened()
    uploads = SharedUploads(shelf, forget)
    frames = {field: frame_of(PICTURE, field) for field in (FIELD, "last_frame_image")}
    first, second = await uploads.share(frames), await uploads.share(frames)
    assert [frame.is_url for frame in [*first.values(), *second.values()]] == [False, True, True, True]
    assert list(second) == list(frames)
    assert len(shelf.put) == 1


async def test_a_url_and_what_is_too_large_are_sent_as_they_are() -> None:
    shelf = Shelf.opened()
    uploads = SharedUploads(shelf, forget)
    largest = frame_of(PICTURE + bytes(MAX_UPLOAD_BYTES - len(PICTURE)))
    too_large = frame_of(PICTURE + bytes(MAX_UPLOAD_BYTES + 1 - len(PICTURE)))
    for frame in (frame_of("https://pictures.example/cat.jpg"), too_large):
        assert [await share(uploads, frame) for _ in range(3)] == [frame] * 3
    assert shelf.put == []
    assert [(await share(uploads, largest)).is_url for _ in range(2)] == [False, True]


async def test_a_shared_image_is_still_known_by_its_content() -> None:
    frame = frame_of(PICTURE)
    uploads = SharedUploads(Shelf.opened(), forget)
    assert [(await share(uploads, frame)).fingerprint for _ in range(3)] == [frame.fingerprint] * 3


async def test_of_very_many_images_the_one_seen_longest_ago_is_forgotten() -> None:
    shelf, frame = Shelf.opened(), frame_of(PICTURE)
    uploads = SharedUploads(shelf, forget)
    images = [attrs.evolve(frame, fingerprint=f"image {number}") for number in range(MAX_REMEMBERED)]
    for image in images:
        await share(uploads, image)
    assert (await share(uploads, images[0])).is_url
    await share(uploads, attrs.evolve(frame, fingerprint="one more"))
    assert (await share(uploads, images[0])).is_url
    assert not (await share(uploads, images[1])).is_url
    assert [each.fingerprint for each in shelf.put] == ["image 0"]


# --- At the same time -------------------------------------------------------------------------------------------------


async def test_many_who_need_an_image_at_once_wait_for_one_upload() -> None:
    shelf, frame = Shelf(), frame_of(PICTURE)
    uploads = SharedUploads(shelf, forget)
    await share(uploads, frame)
    sharing = [asyncio.ensure_future(share(uploads, frame)) for _ in range(10)]
    await until(lambda: shelf.put)
    shelf.is_open.set()
    assert {each.url for each in await asyncio.gather(*sharing)} == {"https://files.example/1.png?sig=secret"}
    assert len(shelf.put) == 1


async def test_an_uploader_that_is_cancelled_leaves_its_place_to_the_next() -> None:
    shelf, frame = Shelf(), frame_of(PICTURE)
    uploads = SharedUploads(shelf, forget)
    await share(uploads, frame)
    sharing = [asyncio.ensure_future(share(uploads, frame)) for _ in range(4)]
    await until(lambda: shelf.put)
    for cancelled in (sharing[0], sharing[2]):  # the one who uploads, and one who waits for it
        cancelled.cancel()
    await until(lambda: len(shelf.put) == 2)
    shelf.is_open.set()
    ends = await asyncio.gather(*sharing, return_exceptions=True)
    assert [end.is_url if isinstance(end, Frame) else type(end) for end in ends] == [
        asyncio.CancelledError,
        True,
        asyncio.CancelledError,
        True,
    ]
    assert len(shelf.put) == 2


async def test_an_upload_of_one_image_does_not_hold_up_another() -> None:
    shelf, frame = Shelf(), frame_of(PICTURE)
    uploads = SharedUploads(shelf, forget)
    frames = [frame, attrs.evolve(frame, fingerprint="another")]
    for each in frames:
        await share(uploads, each)
    sharing = [asyncio.ensure_future(share(uploads, each)) for each in frames]
    await until(lambda: len(shelf.put) == 2)
    shelf.is_open.set()
    await asyncio.gather(*sharing)


# --- What goes wrong --------------------------------------------------------------------------------------------------


async def test_an_image_whose_upload_fails_goes_with_its_job_and_a_warning(caplog: pytest.LogCaptureFixture) -> None:
    shelf, frame = Shelf.opened(down()), frame_of(PICTURE)
    uploads = SharedUploads(shelf, forget)
    shared = [await share(uploads, frame) for _ in range(4)]
    assert [each.is_url for each in shared] == [False, False, True, True]
    said = f"is sent with its job, as its upload failed: {down()}; share_uploads=False stops trying"
    assert [(record.levelno, record.getMessage()) for record in caplog.records] == [
        (logging.WARNING, f"first_frame_image (bytes) {said}")
    ]


async def test_an_upload_that_goes_on_failing_is_given_up() -> None:
    shelf, frame = Shelf.opened(*(down() for _ in range(99))), frame_of(PICTURE)
    uploads = SharedUploads(shelf, forget)
    assert [await share(uploads, frame) for _ in range(10)] == [frame] * 10
    assert len(shelf.put) == MAX_FAILURES


async def test_an_image_that_has_changed_is_no_failed_upload() -> None:
    changed = ImageError(field=FIELD, image="cat.png", value="another file", rule="must not change")
    uploads = SharedUploads(Shelf.opened(changed), forget)
    await share(uploads, frame_of(PICTURE))
    with pytest.raises(ImageError):
        await share(uploads, frame_of(PICTURE))


# --- In a stream ------------------------------------------------------------------------------------------------------


def jobs(count: int, source: ImageSource = PICTURE) -> list[ImageToVideo]:
    return [ImageToVideo(source, prompt=f"job {number}") for number in range(count)]


async def read(session: AsyncSession, items: Sequence[ImageToVideo], *, share_uploads: bool = True) -> list[Outcome]:
    stream = session.stream(items, share_uploads=share_uploads)
    return sorted([outcome async for outcome in stream], key=lambda outcome: outcome.index)


def images_of(line: Line) -> list[str]:
    """The image of each submit: its URL, or nothing where it went along."""
    sent = [request for request in line.posts if request.path != UPLOADS_PATH]
    bodies = [b"".join(part for part in request.body if isinstance(part, bytes)) for request in sent]
    return [json.loads(body)[FIELD] for body in bodies]


def uploads_of(line: Line) -> int:
    return sum(request.path == UPLOADS_PATH for request in line.posts)


def answering_uploads(line: Line, answer: Answer) -> Line:
    async def reply(request: Request) -> Answer:
        return answer if request.path == UPLOADS_PATH else line.accept()

    line.on_post = reply
    return line


URL = "https://files.example/1.png"
TAKEN = told(200, envelope({"url": URL}))


async def test_the_service_gets_a_shared_image_twice_and_its_url_in_every_other_job() -> None:
    async with emulated() as (emulator, session):
        outcomes = [
            outcome
            async for outcome in session.stream(
                [*jobs(5), FirstLastFrameToVideo(PICTURE, first_frame_image=PICTURE, prompt="both")], share_uploads=True
            )
        ]
        assert [type(outcome) for outcome in outcomes] == [Success] * 6
        frames = [image for entry in emulator.ledger.of(Kind.SUBMIT) for image in (entry.first_frame, entry.last_frame)]
        named = [image for image in frames if image is not None and image.startswith(emulator.url)]
        carried = [image for image in frames if image is not None and image.startswith("sha256:")]
        assert (len(named), len(set(named)), len(carried)) == (6, 1, 1)
        assert emulator.ledger.requests[Kind.OTHER] == 2  # it was put there, and taken away again


async def test_without_being_asked_nothing_is_uploaded() -> None:
    line = answering_uploads(Line(), TAKEN)
    async with line.session() as session:
        await read(session, jobs(3), share_uploads=False)
    assert (uploads_of(line), images_of(line)) == (0, [""] * 3)


@pytest.mark.parametrize(
    "answer",
    [
        told(503, {}),
        told(401, refusal(401, "Authentication failed: no uploads for this key")),
        told(200, envelope({})),
        told(200, envelope({"url": "no url"})),
        told(200, envelope({"url": data_url(PICTURE)})),
        told(200, envelope({"url": "https://"})),
    ],
    ids=["down", "401", "no url", "words", "data", "no host"],
)
async def test_however_uploads_fail_every_job_is_sent_with_its_image(answer: Answer) -> None:
    line = answering_uploads(Line(), answer)
    async with line.session() as session:
        outcomes = await read(session, jobs(6))
    assert [type(outcome) for outcome in outcomes] == [Success] * 6
    assert (uploads_of(line), images_of(line)) == (MAX_FAILURES, [""] * 6)


async def test_a_key_that_is_refused_everywhere_ends_the_stream() -> None:
    async def refuse(request: Request) -> Answer:
        return told(401, refusal(401, "Authentication failed: unknown key"))

    async with Line(on_post=refuse).session() as session:
        with pytest.raises(AuthenticationError):
            await read(session, jobs(3))


async def test_an_image_that_changes_before_its_upload_fails_its_own_job(tmp_path: Path) -> None:
    line, path = Line(), tmp_path / "cat.png"
    await anyio.Path(path).write_bytes(PICTURE)

    async def reply(request: Request) -> Answer:
        if request.path != UPLOADS_PATH:
            return line.accept()
        return attrs.evolve(told(503, {}), problem=ImageError(field=FIELD, image="cat.png", value="x", rule="changed"))

    line.on_post = reply
    async with line.session() as session:
        outcomes = await read(session, jobs(2, path))
    errors = [outcome.error for outcome in outcomes if isinstance(outcome, Failure)]
    assert [type(error) for error in errors] == [ImageError]  # of whichever came second
    assert images_of(line) == [""]


async def test_a_stream_that_is_left_while_it_uploads_sends_nothing_more() -> None:
    line = Line()

    async def hang(request: Request) -> Answer:
        if request.path == UPLOADS_PATH:
            await anyio.sleep_forever()
        return line.accept()

    line.on_post = hang
    async with line.session() as session:
        stream = session.stream(jobs(20), share_uploads=True)
        await anext(stream)
        await until(lambda: uploads_of(line))
        await stream.aclose()
        await until(lambda: session.stats().queued == 0)
        assert (uploads_of(line), images_of(line)) == (1, [""])


async def test_a_large_upload_gets_the_time_that_it_needs() -> None:
    timeouts = []

    class Timed(Line):
        async def send(self, request: Request, timeout_s: float) -> Answer:
            timeouts.append(timeout_s)
            return TAKEN

    async with Timed().session() as session:
        await session.upload(PICTURE + bytes(16 * 2**20 - len(PICTURE)))
    assert timeouts == [pytest.approx(60 + 256, abs=1)]


@pytest.mark.parametrize("shares_first", [True, False])
async def test_a_batch_is_the_same_whether_it_shares_its_images_or_not(tmp_path: Path, shares_first: bool) -> None:
    line, path = answering_uploads(Line(), TAKEN), tmp_path / "batch.db"
    items = [*jobs(3), *jobs(3), ImageToVideo(PICTURE, prompt="keyed", key="cat")]
    runs = []
    for shares in (shares_first, not shares_first):
        async with line.session(journal=path) as session:
            runs.append(await read(session, items, share_uploads=shares))
    first, second = ({outcome.video.task_id for outcome in run if isinstance(outcome, Success)} for run in runs)
    assert len(first) == 7
    assert second == first
    assert len(images_of(line)) == 7
    assert len(await records_in(path)) == 7
