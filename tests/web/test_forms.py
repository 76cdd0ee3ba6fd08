"""What visitors send: forms in pieces of any size, and everything that is none."""

from __future__ import annotations

import base64
import json
import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import anyio
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hailuo_async.web import forms
from hailuo_async.web.answers import RefusedRequest
from hailuo_async.web.forms import Form, read_form

TYPE = {"Content-Type": "multipart/form-data; boundary=edge"}


@pytest.fixture(autouse=True)
def nothing_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Every temporary file is gone in the end."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    yield
    assert list(tmp_path.iterdir()) == []


def part(name: str, data: bytes, filename: str | None = None) -> bytes:
    file = "" if filename is None else f'; filename="{filename}"'
    return f'--edge\r\nContent-Disposition: form-data; name="{name}"{file}\r\n\r\n'.encode() + data + b"\r\n"


def multipart(*parts: bytes) -> bytes:
    return b"".join(parts) + b"--edge--\r\n"


async def in_pieces(body: bytes, size: int = 65536) -> AsyncIterator[bytes]:
    for start in range(0, len(body), size):
        yield body[start : start + size]


async def read(body: bytes, size: int = 65536, **headers: str) -> Form:
    return await read_form(
        {**TYPE, **{name.replace("_", "-"): value for name, value in headers.items()}}, in_pieces(body, size)
    )


def refusal(refused: RefusedRequest) -> tuple[int, str | None]:
    return refused.status, refused.field


async def bytes_of(form: Form, name: str) -> bytes:
    picture = form.pictures[name]
    assert isinstance(picture, Path)
    return await anyio.Path(picture).read_bytes()


@given(data=st.binary(max_size=400), cut=st.integers(1, 40))
@settings(max_examples=60)
def test_a_form_is_the_same_in_pieces_of_any_size(data: bytes, cut: int) -> None:
    data = data + b"\r\n--edg-" + data  # nearly a boundary
    body = multipart(part("image", data, "a.png"), part("prompt", "ü\r\n".encode()))
    splitter = forms._Splitter(b"\r\n--edge")
    items = [item for start in range(0, len(body), cut) for item in splitter.feed(body[start : start + cut])]
    assert splitter.is_done
    heads = [item for item in items if not isinstance(item, bytes)]
    assert [(head.name, head.filename) for head in heads] == [("image", "a.png"), ("prompt", None)]
    assert b"".join(item for item in items if isinstance(item, bytes)) == data + "ü\r\n".encode()


@pytest.mark.parametrize("size", [7, 65536])
async def test_a_picture_goes_to_a_file_and_texts_stay_as_they_are(size: int) -> None:
    data = bytes(range(256)) * 3000
    form = await read(
        multipart(part("image", data, "../../etc/passwd"), part("prompt", "a\r\ncat 🐈".encode())), size * 9
    )
    assert form.texts == {"prompt": "a\r\ncat 🐈"}
    assert await bytes_of(form, "image") == data
    await form.aclose()


@pytest.mark.parametrize("boundary", ["ed;ge", "ed ge", "Ed=ge"])
async def test_a_boundary_in_quotes_may_hold_what_separates_parameters(boundary: str) -> None:
    body = multipart(part("prompt", b"a cat")).replace(b"--edge", f"--{boundary}".encode())
    form = await read(body, Content_Type=f'multipart/form-data; boundary="{boundary}"; charset=utf-8')
    assert form.texts == {"prompt": "a cat"}


async def test_a_file_that_a_browser_sends_for_none_is_none() -> None:
    assert (await read(multipart(part("image", b"", ""), part("prompt", b"x")))).pictures == {}


async def test_an_empty_file_is_a_picture_of_no_bytes() -> None:
    form = await read(multipart(part("image", b"", "empty.jpg")))
    assert await bytes_of(form, "image") == b""
    await form.aclose()


@pytest.mark.parametrize(
    ("body", "status", "field"),
    [
        (b"no form", 400, None),
        (b"--edge\r\n\r\n--edge--\r\n", 400, None),
        (multipart(part("prompt", b"x"))[:-9], 400, None),
        (part("prompt", b"x") + b"--edgeX", 400, None),
        (b"--edge\r\n" + b"X" * 10_000, 400, None),
        (b"--edge\r\nX-Name: prompt\r\n\r\nx\r\n--edge--\r\n", 400, None),
        (multipart(*(part(f"f{number}", b"x") for number in range(10_000))), 422, None),
        (multipart(part("prompt", b"x"), part("prompt", b"y")), 422, "prompt"),
        (multipart(*(part("image", b"x", "a.png") for _ in range(3))), 422, "image"),
        (multipart(part("prompt", b"\xff\xfe")), 422, "prompt"),
        (multipart(part("prompt", b"x", "prompt.txt")), 422, "prompt"),
        (multipart(part("image", b"/etc/passwd")), 422, "image"),
        (multipart(part("prompt", b"x" * 40_000)), 413, "prompt"),
        (multipart(part("image", bytes(20_000_001), "large.png")), 413, "image"),
    ],
)
async def test_what_is_no_form_is_refused_with_its_field(body: bytes, status: int, field: str | None) -> None:
    with pytest.raises(RefusedRequest) as refused:
        await read(body)
    assert refusal(refused.value) == (status, field)


async def test_a_length_that_is_too_large_is_refused_before_a_byte_is_read() -> None:
    async def body() -> AsyncIterator[bytes]:
        raise AssertionError("read")
        yield b""

    with pytest.raises(RefusedRequest) as refused:
        await read_form({**TYPE, "Content-Length": str(2**31)}, body())
    assert refusal(refused.value) == (413, None)


async def test_a_body_that_tells_no_length_is_cut_off_at_the_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(forms, "MAX_BODY_BYTES", 1_000_000)
    sent = 0

    async def endless() -> AsyncIterator[bytes]:
        nonlocal sent
        while True:
            sent += 65536
            yield bytes(65536)

    with pytest.raises(RefusedRequest) as refused:
        await read_form(TYPE, endless())
    assert (refused.value.status, sent < 1_200_000) == (413, True)


async def test_a_slow_visitor_is_waited_for_only_so_long(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(forms, "BODY_TIMEOUT_S", 0.01)

    async def slow() -> AsyncIterator[bytes]:
        yield part("image", bytes(300_000), "a.png")
        await anyio.sleep(3600)

    with pytest.raises(RefusedRequest) as refused:
        await read_form(TYPE, slow())
    assert refused.value.status == 408


async def test_a_visitor_who_leaves_leaves_nothing() -> None:
    async def leaves() -> AsyncIterator[bytes]:
        yield part("image", bytes(300_000), "a.png")[:-2]
        raise ConnectionResetError

    with pytest.raises(ConnectionResetError):
        await read_form(TYPE, leaves())


async def read_json(content: object) -> Form:
    body = content if isinstance(content, bytes) else json.dumps(content).encode()
    return await read_form({"Content-Type": "application/json; charset=utf-8"}, in_pieces(body))


async def test_json_brings_a_picture_as_a_data_url_or_a_url() -> None:
    url = f"data:image/png;base64,{base64.b64encode(b'picture').decode()}"
    form = await read_json(
        {"image": url, "last_frame_image": "https://example.com/b.jpg", "duration": 6, "prompt": None}
    )
    assert await bytes_of(form, "image") == b"picture"
    assert (form.pictures["last_frame_image"], form.texts) == ("https://example.com/b.jpg", {"duration": "6"})
    await form.aclose()


@pytest.mark.parametrize(
    ("content", "status", "field"),
    [
        (b"{", 400, None),
        (b"[" * 100_000, 400, None),
        ([], 422, None),
        ({f"f{number}": "x" for number in range(100)}, 422, None),
        ({"image": "/etc/passwd"}, 422, "image"),
        ({"image": "file:///etc/passwd"}, 422, "image"),
        ({"image": "data:image/png,plain"}, 422, "image"),
        ({"image": "data:image/png;base64,%%%"}, 422, "image"),
        ({"image": "data:image/png;base64,ä"}, 422, "image"),
        ({"image": ["x"]}, 422, "image"),
        ({"prompt": 1.5}, 422, "prompt"),
    ],
)
async def test_what_is_no_job_in_json_is_refused_with_its_field(
    content: object, status: int, field: str | None
) -> None:
    with pytest.raises(RefusedRequest) as refused:
        await read_json(content)
    assert refusal(refused.value) == (status, field)


async def test_a_plain_form_is_read_and_any_other_type_is_not() -> None:
    plain = {"Content-Type": "application/x-www-form-urlencoded"}
    form = await read_form(plain, in_pieces(b"prompt=a+cat&image=https%3A%2F%2Fexample.com%2Fa.jpg"))
    assert (form.texts, form.pictures) == ({"prompt": "a cat"}, {"image": "https://example.com/a.jpg"})
    for body in (b"&".join(b"a=b" for _ in range(100)), b"prompt=%ff"):
        with pytest.raises(RefusedRequest) as refused:
            await read_form(plain, in_pieces(body))
        assert refused.value.status == 422
    with pytest.raises(RefusedRequest) as refused:
        await read_form({"Content-Type": "text/plain"}, in_pieces(b"x"))
    assert refused.value.status == 415
