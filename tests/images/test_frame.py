"""What an image of a job may be, what is found in it, and what is sent for it."""

from __future__ import annotations

import hashlib
import io
import json
import os
import pickle
import resource
import socket
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import attrs
import pytest
from PIL import Image, ImageOps

from hailuo_async._images.frame import Frame, inspect_image
from hailuo_async._images.source import ImageSource, check_source
from hailuo_async.errors import ImageError

from ..support.pictures import FIELD, JPEG, data_url


def made(format_name: str = "JPEG", **options: Any) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (400, 500)).save(buffer, format_name, **options)
    return buffer.getvalue()


def refusal(source: object, look: Callable[[str, Any], object] = inspect_image) -> ImageError:
    with pytest.raises(ImageError) as caught:
        look(FIELD, source)
    assert type(caught.value) is ImageError
    assert caught.value.field == FIELD
    return caught.value


@pytest.mark.slow
def test_pillow_is_not_imported_before_the_caller_has() -> None:
    code = (
        "import sys; from hailuo_async._images.frame import check_source, inspect_image\n"
        "inspect_image('f', 'https://example.com')\n"
        "try: check_source('f', 5)\n"
        "except ValueError: print('PIL' in sys.modules)"
    )
    root = Path(__file__).parents[2]
    run = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True, check=True)
    assert run.stdout == "False\n"


# --- what is found ----------------------------------------------------------------------------------------------------


def test_a_file_is_told_by_its_content_and_not_by_its_name(tmp_path: Path) -> None:
    path = tmp_path / "cat.jpg"
    path.write_bytes(made("PNG"))
    frame = inspect_image(FIELD, path)
    found = attrs.asdict(frame, filter=lambda attribute, _: attribute.name != "_content")
    size = path.stat().st_size
    assert found == {
        "name": "cat.jpg",
        "url": None,
        "mime": "image/png",
        "width": 400,
        "height": 500,
        "size": size,
        "fingerprint": None,
        "changes": (),
    }
    assert frame.encoded_length == len("data:image/png;base64,") + (size + 2) // 3 * 4


def test_a_url_is_sent_as_it_is_and_nothing_is_known_of_it() -> None:
    url = 'https://exämple.com/a"b\\c.jpg?sig=secret'
    frame = inspect_image(FIELD, url, fingerprint=True)
    pieces = list(frame.pieces())
    assert frame.is_url
    assert (frame.url, frame.mime, frame.width, frame.height, frame.size) == (url, None, 0, 0, 0)
    assert (len(pieces), len(pieces[0])) == (1, frame.encoded_length)
    assert json.loads(b'"' + pieces[0] + b'"') == url
    assert list(frame.raw_pieces()) == []
    assert frame.fingerprint == hashlib.sha256(url.encode()).hexdigest()
    assert "secret" not in repr(frame)


def test_the_fingerprint_is_of_the_content_wherever_it_is(photo: Path) -> None:
    content = photo.read_bytes()
    expected = hashlib.sha256(content).hexdigest()
    sources: list[ImageSource] = [photo, content, data_url(content)]
    assert [inspect_image(FIELD, source, fingerprint=True).fingerprint for source in sources] == [expected] * 3


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("orientation", range(10))
def test_the_sides_of_a_jpeg_are_those_that_are_shown(orientation: int, order: str) -> None:
    exif = Image.Exif()
    exif.endian = order
    exif[0x010E] = "a description before it"
    exif[0x0112] = orientation
    data = made(exif=exif)
    frame = inspect_image(FIELD, data)
    with Image.open(io.BytesIO(data)) as image:
        assert (frame.width, frame.height) == ImageOps.exif_transpose(image).size


@pytest.mark.parametrize(
    "exif",
    [
        b"Exif\0\0",
        b"Exif\0\0II*\0",
        b"Exif\0\0XX*\0\x08\0\0\0",
        b"Exif\0\0II*\0\xff\xff\xff\xff",
        b"Exif\0\0II*\0\x08\0\0\0\xff\xff\x12\x01",
        b"Exif\0\0II*\0\x08\0\0\0\x01\0\x12\x01\x02\0\x01\0\0\0\x06\0\0\0",
        b"http://ns.adobe.com/xap/1.0/\0",
    ],
)
def test_an_exif_block_that_says_nothing_sound_leaves_the_sides_as_they_are(exif: bytes) -> None:
    block = b"\xff\xe1" + (len(exif) + 2).to_bytes(2, "big") + exif
    frame = inspect_image(FIELD, JPEG[:2] + block + JPEG[2:])
    assert (frame.width, frame.height) == (400, 500)


def test_many_threads_may_look_at_once(photo: Path) -> None:
    sources: list[ImageSource] = [photo, photo.read_bytes(), data_url(photo.read_bytes()), Image.new("L", (400, 400))]
    alone = [inspect_image(FIELD, source, fingerprint=True) for source in sources]
    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(lambda source: inspect_image(FIELD, source, fingerprint=True), sources * 5))
    assert together == alone * 5


# --- what is no file --------------------------------------------------------------------------------------------------


def place(kind: str, directory: Path) -> Path:
    path = directory / "x.jpg"
    match kind:
        case "nothing":
            pass
        case "directory":
            path.mkdir()
        case "fifo":
            os.mkfifo(path)
        case "socket":
            with socket.socket(socket.AF_UNIX) as server:
                server.bind(str(path))
        case "device":
            path.symlink_to("/dev/zero")
        case "loop":
            path.symlink_to(path)
        case "empty":
            path.touch()
        case "below a file":
            path.touch()
            return path / "y.jpg"
        case "NUL":
            return directory / "x\0.jpg"
        case "surrogate":
            return directory / "x\ud800.jpg"
    return path


@pytest.mark.parametrize(
    ("kind", "value", "rule"),
    [
        ("nothing", "No such file or directory: {path}", "must be a file that can be read"),
        ("directory", "a directory", "must be a regular file"),
        ("fifo", "a FIFO", "must be a regular file"),
        ("socket", "a socket", "must be a regular file"),
        ("device", "a character device", "must be a regular file"),
        ("loop", "Too many levels of symbolic links: {path}", "must be a file that can be read"),
        ("below a file", "Not a directory: {path}", "must be a file that can be read"),
        ("empty", "0 bytes", "must not be empty"),
    ],
)
def test_what_is_no_file_with_something_in_it_is_refused_at_once(
    kind: str, value: str, rule: str, tmp_path: Path
) -> None:
    path = place(kind, tmp_path)
    error = refusal(path)
    assert (error.value, error.rule) == (value.format(path=path), rule)


def test_a_process_that_can_open_no_more_files_does_not_blame_the_picture(photo: Path) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    next_free = os.open(os.devnull, os.O_RDONLY)
    os.close(next_free)
    resource.setrlimit(resource.RLIMIT_NOFILE, (next_free, hard))
    try:
        error = refusal(photo)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    rule = "must be readable, and this process can open no more files: raise ulimit -n, or run fewer jobs at once"
    assert (error.value, error.rule) == (f"Too many open files: {photo}", rule)


def test_a_name_with_a_nul_is_refused(tmp_path: Path) -> None:
    error = refusal(place("NUL", tmp_path))
    assert "embedded null" in str(error.value)  # the rest of the words is each Python's own
    assert error.rule == "must be a file that can be read"


def test_a_name_that_no_file_can_have_is_refused_and_its_error_can_be_printed(tmp_path: Path) -> None:
    error = refusal(place("surrogate", tmp_path))
    assert error.image == "x\\ud800.jpg"
    assert str(error).encode()


def test_a_name_cannot_break_the_line_of_a_log(tmp_path: Path) -> None:
    error = refusal(tmp_path / "a\nb\x1b[31m.jpg")
    assert error.image == "a\\nb\\x1b[31m.jpg"
    assert str(error).isprintable()


def test_a_path_may_be_bytes_behind_os_pathlike(photo: Path) -> None:
    class Entry(os.PathLike[bytes]):
        def __fspath__(self) -> bytes:
            return os.fsencode(photo)

    frame = inspect_image(FIELD, Entry())  # type: ignore[arg-type]
    assert (frame.name, b"".join(frame.raw_pieces())) == ("photo.jpg", photo.read_bytes())


def test_an_error_can_be_pickled(tmp_path: Path) -> None:
    error = refusal(tmp_path / "none.jpg")
    assert str(pickle.loads(pickle.dumps(error))) == str(error)


def test_programs_that_import_it_from_where_it_was_find_it() -> None:
    from hailuo_async import images

    assert (images.look_at, images.check_source, images.Frame) == (inspect_image, check_source, Frame)
