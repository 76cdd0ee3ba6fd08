"""What a caller may give as an image, judged by its shape alone."""

from __future__ import annotations

import io
import re
import tempfile
from pathlib import Path

import pytest
from PIL import Image

from hailuo_async._images.frame import inspect_image
from hailuo_async._images.source import check_source
from hailuo_async.errors import ImageError

from ..support.memory import peak_memory
from ..support.pictures import FIELD


class Upload:
    """As web frameworks give them."""

    async def read(self, size: int = -1) -> bytes:
        raise NotImplementedError


def refusal(source: object) -> ImageError:
    with pytest.raises(ImageError) as caught:
        check_source(FIELD, source)
    assert type(caught.value) is ImageError
    assert caught.value.field == FIELD
    return caught.value


@pytest.mark.parametrize(
    "source",
    [
        "https://example.com/a.jpg",
        "HTTP://example.com",
        "https://example.com:8443/a%20b.jpg?sig=1#part",
        "http://[::1]/a.png",
        "https://exämple.com/ü.webp",
        "data:image/jpeg;base64,/9j/",
        "DATA:image/svg+xml;charset=utf-8;BASE64,AAAA",
        Path("no such file, which nobody looks for here.jpg"),
        b"anything",
        io.BytesIO(b"anything"),
        tempfile.SpooledTemporaryFile(),  # noqa: SIM115
        Image.new("RGB", (1, 1)),
    ],
    ids=lambda source: repr(source).partition(" at 0x")[0],
)
def test_a_source_of_the_right_shape_passes_unread(source: object) -> None:
    check_source(FIELD, source)


@pytest.mark.parametrize(
    ("source", "image", "rule"),
    [
        ("cat.jpg", "str", "use pathlib.Path"),
        ("/etc/passwd", "str", "use pathlib.Path"),
        ("file:///etc/passwd", "str", "use pathlib.Path"),
        ("ftp://example.com/a.jpg", "str", "use pathlib.Path"),
        (" https://example.com/a.jpg", "str", "use pathlib.Path"),
        ("", "str", "use pathlib.Path"),
        ("https://", "URL", "a URL must have a host"),
        ("https:///a.jpg", "URL", "a URL must have a host"),
        ("https://example.com/a b.jpg", "URL", "a URL must have no spaces or control characters"),
        ("https://example.com/a\n.jpg", "URL", "a URL must have no spaces or control characters"),
        ("https://example.com/\ud800", "URL", "a URL must have no spaces or control characters"),
        ("https://example.com:port/", "URL", "a URL must have a valid host and port"),
        ("https://[::1/a.jpg", "URL", "a URL must have a valid host and port"),
        ("https://me@example.com/", "URL", "a URL must not carry a user name or password"),
        ("https://example.com/" + "a" * 8192, "URL", "a URL must have at most 8192 characters"),
        ("data:image/jpeg;base64,", "data URL", "must begin with data:image/<type>;base64, and go on with the image"),
        ("data:image/jpeg,abc", "data URL", "must begin with data:image/<type>;base64, and go on with the image"),
        (
            "data:text/html;base64,AAAA",
            "data URL",
            "must begin with data:image/<type>;base64, and go on with the image",
        ),
        ("data:", "data URL", "must begin with data:image/<type>;base64, and go on with the image"),
        (b"", "bytes", "must not be empty"),
        (bytearray(b"x"), "image", "use bytes(...)"),
        (memoryview(b"x"), "image", "use bytes(...)"),
        (None, "image", "a pathlib.Path, bytes, a binary file object or a PIL.Image.Image"),
        (5, "image", "must be an http(s) URL"),
        ([b"x"], "image", "must be an http(s) URL"),
        (io.StringIO("x"), "file object", 'must be open for bytes: open(path, "rb")'),
        (Upload(), "file object", "must be read without await: give .file of an upload, or the bytes"),
    ],
)
def test_a_source_of_a_wrong_shape_is_refused_with_its_rule(source: object, image: str, rule: str) -> None:
    error = refusal(source)
    assert error.image == image
    assert rule in error.rule
    with pytest.raises(ImageError, match=re.escape(str(error))):
        inspect_image(FIELD, source)  # type: ignore[arg-type]


def test_an_error_shows_neither_the_password_nor_the_query_of_a_url() -> None:
    error = refusal("https://me:hunter2@example.com/a.jpg?sig=hunter2#hunter2")
    assert error.value == "https://example.com/a.jpg"
    assert refusal("ftp://me:hunter2@example.com/?sig=hunter2").value == "ftp://example.com/"


def test_checking_the_shape_of_a_26_mb_data_url_copies_nothing_of_it() -> None:
    url = "data:image/jpeg;base64," + "A" * 26_000_000
    assert peak_memory(lambda: check_source(FIELD, url)) < 20_000
    no_url = "x" * 26_000_000
    assert peak_memory(lambda: refusal(no_url)) < 50_000
