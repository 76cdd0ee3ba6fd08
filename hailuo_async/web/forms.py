"""Reads what a visitor sends: a form or JSON, in pieces, each bounded before it is read.

A picture goes to a temporary file as it comes, so a thousand uploads hold a thousand small buffers. No text of the
visitor becomes a file name, not even the picture's own name. Framework-free: a body is an iterator of bytes.
"""

from __future__ import annotations

import base64
import json
import tempfile
from collections.abc import AsyncGenerator, AsyncIterator, Iterator, Mapping
from email.message import Message
from pathlib import Path
from typing import IO
from urllib.parse import parse_qsl

import aiohttp
import anyio
import anyio.to_thread
import attrs

from hailuo_async.contract import IMAGE_UNDER_BYTES
from hailuo_async.web.answers import RefusedRequest

#: Fields of a form, pictures among them.
MAX_FIELDS = 32
#: Of a field that is no picture. A prompt of 2,000 characters has at most 8,000.
MAX_TEXT_BYTES = 32_768
#: Two pictures, the other fields, and what a form puts around them.
MAX_BODY_BYTES = 2 * IMAGE_UNDER_BYTES + 1_000_000
#: JSON is held while it is read, so it has room for one picture in base64, and little more.
MAX_JSON_BYTES = IMAGE_UNDER_BYTES * 4 // 3 + 100_000
#: Seconds that a body may take. A slow visitor holds nothing longer.
BODY_TIMEOUT_S = 300.0

_MAX_HEAD_BYTES = 8192
_WRITE_BYTES = 262_144
PICTURES = ("image", "first_frame_image", "last_frame_image")


@attrs.define(eq=False)
class Form:
    """The fields of a form: texts, and pictures as files or URLs. Close it to remove the files."""

    texts: dict[str, str] = attrs.field(factory=dict)
    pictures: dict[str, Path | str] = attrs.field(factory=dict)

    _uploads: list[Path] = attrs.field(factory=list, init=False)

    def add_upload(self, name: str, file: Path) -> None:
        """A picture that lies in a file of its own."""
        self.pictures[name] = file
        self._uploads.append(file)

    async def aclose(self) -> None:
        """Removes what was uploaded, where it still lies."""
        with anyio.CancelScope(shield=True):
            for file in self._uploads:
                await anyio.to_thread.run_sync(_remove, file)


def _remove(file: Path) -> None:
    file.unlink(missing_ok=True)


async def read_form(headers: Mapping[str, str], body: AsyncIterator[bytes]) -> Form:
    """The form in ``body``, which ``headers`` describe. Raises ``RefusedRequest``; then nothing of it is kept."""
    kind, form = Message(), Form()
    kind["Content-Type"] = headers.get("Content-Type", "")
    try:
        with anyio.fail_after(BODY_TIMEOUT_S):
            match kind.get_content_type():
                case "multipart/form-data":
                    await _read_multipart(_boundary(kind), _bounded(headers, body, MAX_BODY_BYTES), form)
                case "application/json":
                    await _take_texts(await _json_pairs(await _whole(_bounded(headers, body, MAX_JSON_BYTES))), form)
                case "application/x-www-form-urlencoded":
                    await _take_texts(_pairs(await _whole(_bounded(headers, body, MAX_TEXT_BYTES))), form)
                case _:
                    raise RefusedRequest(415, "send multipart/form-data or application/json")
    except TimeoutError:
        await form.aclose()
        raise RefusedRequest(408, f"the body did not come within {BODY_TIMEOUT_S:g} s") from None
    except BaseException:
        await form.aclose()
        raise
    return form


def _too_large(limit: int, field: str | None = None) -> RefusedRequest:
    return RefusedRequest(413, f"must have at most {limit} bytes", field)


async def read_texts(headers: Mapping[str, str], body: AsyncIterator[bytes]) -> dict[str, str]:
    """The fields of a small JSON object or plain form, none of them pictures. Raises ``RefusedRequest``."""
    kind, whole = headers.get("Content-Type", ""), await _whole(_bounded(headers, body, MAX_TEXT_BYTES))
    return dict(await _json_pairs(whole) if kind.startswith("application/json") else _pairs(whole))


async def _bounded(headers: Mapping[str, str], body: AsyncIterator[bytes], limit: int) -> AsyncGenerator[bytes]:
    """The pieces of ``body``, up to ``limit`` bytes. Reads nothing of one that is announced to be longer."""
    announced, size = headers.get("Content-Length", "0"), 0
    if announced.isdecimal() and int(announced) > limit:
        raise _too_large(limit)
    async for piece in body:
        size += len(piece)
        if size > limit:
            raise _too_large(limit)
        yield piece


async def _whole(pieces: AsyncIterator[bytes]) -> bytes:
    return b"".join([piece async for piece in pieces])


# --- JSON and plain forms ---------------------------------------------------------------------------------------------


def _pairs(body: bytes) -> list[tuple[str, str]]:
    try:
        text, is_given = body.decode(), bool(body)
        return parse_qsl(text, True, is_given, errors="strict", max_num_fields=MAX_FIELDS)
    except ValueError:
        raise RefusedRequest(422, f"the form cannot be read, or has more than {MAX_FIELDS} fields") from None


async def _json_pairs(body: bytes) -> list[tuple[str, str]]:
    try:
        content = await anyio.to_thread.run_sync(json.loads, body)
    except (ValueError, RecursionError):
        raise RefusedRequest(400, "the body is not JSON") from None
    if not isinstance(content, dict) or len(content) > MAX_FIELDS:
        raise RefusedRequest(422, f"the body must be one JSON object with at most {MAX_FIELDS} fields")
    return [(name, _plain(name, value)) for name, value in content.items() if value is not None]


def _plain(name: str, value: object) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, bool | int):
        return str(value).lower()
    raise RefusedRequest(422, "must be a text, a number, true or false", name)


async def _take_texts(pairs: list[tuple[str, str]], form: Form) -> None:
    for name, value in pairs:
        if name not in PICTURES:
            form.texts[name] = value
        elif value[:5].lower() == "data:":
            form.add_upload(name, await anyio.to_thread.run_sync(_decode, name, value))
        elif value[:8].lower().startswith(("http://", "https://")):
            form.pictures[name] = value
        else:
            raise RefusedRequest(422, "must be a file, an http(s) URL or a data URL", name)


def _decode(name: str, url: str) -> Path:
    """The picture of a data URL, as a file. Blocks."""
    head, _, text = url.partition(",")
    if not head.lower().endswith(";base64"):
        raise RefusedRequest(422, "must be a data URL in base64", name)
    try:
        data = base64.b64decode(text, validate=True)
    except ValueError:  # of base64, or of letters beyond ASCII
        raise RefusedRequest(422, "must be a data URL in base64", name) from None
    if len(data) > IMAGE_UNDER_BYTES:
        raise _too_large(IMAGE_UNDER_BYTES, name)
    file = _new_file()
    with file:
        file.write(data)
    return Path(file.name)


def _new_file() -> IO[bytes]:
    return tempfile.NamedTemporaryFile(prefix="hailuo-upload-", delete=False)


# --- Multipart --------------------------------------------------------------------------------------------------------


@attrs.frozen
class _Head:
    """The beginning of a part: the name of its field, and the visitor's name of its file, where it has one."""

    name: str
    filename: str | None


@attrs.define(eq=False)
class _Splitter:
    """Cuts a multipart body into the heads and the bytes of its parts (RFC 7578). Holds at most a piece and a head."""

    _mark: bytes
    _held: bytearray = attrs.field(factory=lambda: bytearray(b"\r\n"), init=False)  # the first mark looks like others
    _reads_head: bool = attrs.field(default=False, init=False)
    _is_before_first: bool = attrs.field(default=True, init=False)
    is_done: bool = attrs.field(default=False, init=False)

    def feed(self, piece: bytes) -> Iterator[_Head | bytes]:
        """What ``piece`` completes. Raises ``RefusedRequest`` for what is no form."""
        self._held += piece
        while not self.is_done:
            item = self._next_head() if self._reads_head else self._next_data()
            if item is None:
                return
            if item and not self._is_before_first:
                yield item

    def _next_head(self) -> _Head | None:
        end = self._held.find(b"\r\n\r\n")
        if end > _MAX_HEAD_BYTES or (end < 0 and len(self._held) > _MAX_HEAD_BYTES):
            raise RefusedRequest(400, "a part of the form has a head that is too long")
        if end < 0:
            return None
        head = _head(bytes(self._held[:end]))
        del self._held[: end + 4]
        self._reads_head = self._is_before_first = False
        return head

    def _next_data(self) -> bytes | None:
        """The data before the next mark, perhaps none; ``None`` if more has to come first."""
        at = self._held.find(self._mark)
        end = at + len(self._mark)
        if at < 0 or len(self._held) < end + 2:
            sure = max(0, len(self._held) - len(self._mark)) if at < 0 else at
            data = bytes(self._held[:sure])
            del self._held[:sure]
            return data or None
        data, ending = bytes(self._held[:at]), bytes(self._held[end : end + 2])
        if ending not in (b"\r\n", b"--"):
            raise RefusedRequest(400, "the form cannot be read")
        del self._held[: end + 2]
        self._reads_head, self.is_done = ending != b"--", ending == b"--"
        return data


def _head(text: bytes) -> _Head:
    for line in text.decode("utf-8", "replace").split("\r\n"):
        name, _, value = line.partition(":")
        if name.strip().lower() == "content-disposition":
            _, parameters = aiohttp.parse_content_disposition(value.strip())
            if "name" in parameters:
                return _Head(parameters["name"], aiohttp.content_disposition_filename(parameters))
    raise RefusedRequest(400, "a part of the form has no name")


def _boundary(kind: Message) -> bytes:
    boundary = kind.get_boundary()
    if not boundary or len(boundary) > 70:
        raise RefusedRequest(400, "the form does not say its boundary")
    return boundary.encode("latin-1", "replace")


async def _read_multipart(boundary: bytes, body: AsyncIterator[bytes], form: Form) -> None:
    splitter, part, count = _Splitter(b"\r\n--" + boundary), _Part(_Head("", None)), 0
    try:
        async for piece in body:
            for item in splitter.feed(piece):
                if isinstance(item, bytes):
                    await part.write(item)
                    continue
                await part.end(form)
                part, count = _Part(item), count + 1
                if count > MAX_FIELDS:
                    raise RefusedRequest(422, f"the form has more than {MAX_FIELDS} fields")
        if not splitter.is_done:
            raise RefusedRequest(400, "the form ends before its last boundary")
        await part.end(form)
    except BaseException:
        await part.drop()
        raise


@attrs.define(eq=False)
class _Part:
    """A part that is being read: a text in memory, a picture in a file."""

    _head: _Head
    _size: int = attrs.field(default=0, init=False)
    _held: bytearray = attrs.field(factory=bytearray, init=False)
    _file: IO[bytes] | None = attrs.field(default=None, init=False)

    @property
    def _is_picture(self) -> bool:
        return self._head.name in PICTURES and self._head.filename is not None

    async def write(self, data: bytes) -> None:
        """Takes more of it. Raises ``RefusedRequest`` where it is too large."""
        if self._head.filename is not None and not self._is_picture:
            raise RefusedRequest(422, "must be a text, not a file", self._head.name)
        self._size += len(data)
        limit = IMAGE_UNDER_BYTES if self._is_picture else MAX_TEXT_BYTES
        if self._size > limit:
            raise _too_large(limit, self._head.name)
        self._held += data
        if self._is_picture and len(self._held) >= _WRITE_BYTES:
            await self._flush()

    async def end(self, form: Form) -> None:
        """Puts it into ``form``. A picture that was not chosen, which browsers send as an empty part, is left out."""
        name = self._head.name
        if not name or (self._is_picture and not self._size and not self._head.filename):
            return
        if name in form.texts or name in form.pictures:
            raise RefusedRequest(422, "may be given once", name)
        if self._is_picture:
            file = await self._flush()
            await anyio.to_thread.run_sync(file.close)
            form.add_upload(name, Path(file.name))
            self._file = None
        else:
            await _take_texts([(name, _text(name, self._held))], form)

    async def _flush(self) -> IO[bytes]:
        data, self._held = bytes(self._held), bytearray()
        if self._file is None:
            self._file = await anyio.to_thread.run_sync(_new_file)
        await anyio.to_thread.run_sync(self._file.write, data)
        return self._file

    async def drop(self) -> None:
        if self._file is not None:
            with anyio.CancelScope(shield=True):
                await anyio.to_thread.run_sync(self._file.close)
                await anyio.to_thread.run_sync(_remove, Path(self._file.name))


def _text(name: str, data: bytearray) -> str:
    try:
        return data.decode()
    except UnicodeDecodeError:
        raise RefusedRequest(422, "must be text in UTF-8", name) from None
