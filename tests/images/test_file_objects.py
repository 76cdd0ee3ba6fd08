"""File objects as images: an upload's file, a temporary file, a file that is open."""

from __future__ import annotations

import io
import tempfile
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import IO, Any

import pytest

from hailuo_async import AsyncSession, ImageToVideo
from hailuo_async._images.content import Label, read_file_object
from hailuo_async._images.frame import inspect_image
from hailuo_async._images.limits import MAX_FIT_BYTES
from hailuo_async.contract import IMAGE_UNDER_BYTES
from hailuo_async.emulator import Emulator
from hailuo_async.errors import ImageError

from ..support.pictures import FIELD, content, plain, written

PICTURE = written(plain(400, 400, colour="teal"))
SMALL = written(plain(200, 200, colour="teal"))


class Pipe(io.RawIOBase):
    """Cannot seek, and gives a few bytes at a time."""

    def __init__(self, data: bytes) -> None:
        self._data = io.BytesIO(data)

    def readable(self) -> bool:
        return True

    def read(self, size: int | None = -1) -> bytes:
        return self._data.read(min(size or 0, 1000))


def refusal(source: Any, **options: bool) -> ImageError:
    with pytest.raises(ImageError) as caught:
        inspect_image(FIELD, source, **options)
    return caught.value


def test_a_file_object_is_read_from_its_beginning_and_left_where_it_stood(tmp_path: Path) -> None:
    (tmp_path / "cat.png").write_bytes(PICTURE)
    with (tmp_path / "cat.png").open("rb") as file, tempfile.SpooledTemporaryFile() as spooled:
        spooled.write(PICTURE)
        for source, name in ((file, "cat.png"), (io.BytesIO(PICTURE), "file object"), (spooled, "file object")):
            source.seek(16)
            frames = [inspect_image(FIELD, source, fingerprint=True) for _ in range(2)]
            assert source.tell() == 16
            assert [(frame.name, frame.mime, content(frame)) for frame in frames] == [(name, "image/png", PICTURE)] * 2
            assert frames[0].fingerprint == inspect_image(FIELD, PICTURE, fingerprint=True).fingerprint


@pytest.mark.parametrize("fit", [False, True])
def test_one_that_cannot_seek_serves_one_job(fit: bool) -> None:
    pipe = Pipe(SMALL if fit else PICTURE)
    frame = inspect_image(FIELD, pipe, fit=fit)  # type: ignore[arg-type]
    assert min(frame.width, frame.height) > 300
    assert refusal(pipe).rule == "must not be empty"


def test_it_may_be_closed_once_the_image_was_inspected() -> None:
    with io.BytesIO(PICTURE) as file:
        frame = inspect_image(FIELD, file)
    assert content(frame) == PICTURE
    assert "closed file" in str(refusal(file))


@pytest.mark.parametrize(("fit", "limit"), [(False, IMAGE_UNDER_BYTES), (True, MAX_FIT_BYTES + 1)])
def test_no_more_is_read_than_an_image_may_have(fit: bool, limit: int) -> None:
    class Endless(io.RawIOBase):
        given = 0

        def seekable(self) -> bool:
            return False

        def read(self, size: int | None = -1) -> bytes:
            piece = bytes(size or 0)
            Endless.given += len(piece)
            return piece

    error = refusal(Endless(), fit=fit)
    assert Endless.given == limit
    assert "must be under 20 MB" in error.rule if not fit else "to be fitted" in error.rule


@pytest.mark.parametrize("found", ["text", None])
def test_one_that_gives_no_bytes_is_refused(found: object) -> None:
    class Odd(Pipe):
        def read(self, size: int | None = -1) -> Any:
            return found

    assert refusal(Odd(b"")).rule == 'must be open for bytes and blocking: open(path, "rb")'


def test_jobs_that_share_one_read_it_one_after_the_other() -> None:
    """Each seeks and reads in pieces: two at once would read a mixture."""

    class Watched(io.BytesIO):
        inside = 0
        met = threading.Event()

        def read(self, size: int | None = -1) -> bytes:
            Watched.inside += 1
            if Watched.inside > 1:
                self.met.set()
            self.met.wait(0.05)
            Watched.inside -= 1
            return super().read(size)

    file: IO[bytes] = Watched(PICTURE)
    with ThreadPoolExecutor(2) as pool:
        frames = list(pool.map(lambda _: inspect_image(FIELD, file), range(2)))
    assert not Watched.met.is_set()
    assert [content(frame) for frame in frames] == [PICTURE] * 2


def test_it_is_put_back_where_it_stood_when_reading_it_fails() -> None:
    class Broken(io.BytesIO):
        def read(self, size: int | None = -1) -> bytes:
            raise OSError("cut off")

    file = Broken(PICTURE)
    file.seek(7)
    with pytest.raises(ImageError, match="OSError: cut off"):
        read_file_object(Label(FIELD, "file object"), file, 100)
    assert file.tell() == 7


async def test_a_job_carries_what_an_upload_holds() -> None:
    async with (
        Emulator(generation_s=0.1) as service,
        AsyncSession(base_url=service.url, api_key=service.api_key) as session,
    ):
        with tempfile.SpooledTemporaryFile() as upload:
            upload.write(PICTURE)
            generation = await session.submit(ImageToVideo(upload))
        assert (await generation).url
