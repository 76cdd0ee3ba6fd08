"""An image of a job: is it one that the service takes, and what is sent for it.

`check_source` looks at the shape of what the caller gave, when the job is made. `inspect_image` looks inside, in a
worker thread, when the job is submitted, and gives a `Frame`: what was found, and the way to have the bytes in pieces
when they are sent. Whatever is wrong, and whatever the bytes are, both raise `ImageError` and nothing else.

What the service says (both seeds): "JPG/JPEG/PNG/WebP, <20MB, short side >300px, aspect ratio between 2:5 and 5:2".
What that leaves open was decided so:

- 20 MB are 20 000 000 bytes, the stricter reading, of the image and not of its base64. 20 MB exactly is too much.
- The two aspect ratios themselves are allowed, 300 px are not. Comparisons are of whole numbers, without rounding.
- More than 2**28 pixels (16384 x 16384) are refused. The service names no limit, but this is above any camera's
  picture of 20 MB, and what declares more is a decompression bomb.
- Formats count, colour does not: CMYK JPEG, 16-bit and palette PNG, alpha, arithmetic coding all pass.
- An animated PNG passes: by design each reader of PNG sees its still default image. An animated WebP does not pass:
  it has no such image, and a decoder of still WebP refuses it.
- Bytes after a picture's end pass; a picture whose end is missing does not. ``headers`` tells how that is known.
- A PIL image is sent as a PNG, without loss, if that stays under 20 MB, and otherwise as a JPEG of quality 95, its
  alpha laid on white. Its EXIF orientation is applied, as it is when the same photo is given as a file.
- Fitting is for JPEG, PNG, WebP, GIF and BMP of at most 100 MB and 2**26 pixels (8192 x 8192); ``fit`` tells how.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import sys
from collections.abc import Generator, Iterable
from typing import TYPE_CHECKING, TypeAlias, TypeGuard
from urllib.parse import urlsplit

import attrs

from hailuo_async._images.content import Base64Content, BytesContent, Content, FileContent, Label
from hailuo_async._images.headers import Header, read_header
from hailuo_async._images.limits import MAX_BYTES, MAX_FIT_BYTES, check_shape, check_size
from hailuo_async._images.pillow import encoded
from hailuo_async.errors import ImageError

if TYPE_CHECKING:
    import PIL.Image

    from hailuo_async._images.fit import Fitted

#: An http(s) or data URL, a file, the bytes of a picture, or a picture of Pillow's. A ``str`` is never a file's name.
ImageSource: TypeAlias = "str | os.PathLike[str] | bytes | PIL.Image.Image"

#: Ours: no server takes longer ones, and a stranger's may not cost more than a look.
MAX_URL_CHARACTERS = 8192

_DATA_URL = re.compile(r"data:image/[a-z0-9.+-]+(;[a-z0-9-]+=[^;,]*)*;base64,", re.IGNORECASE)
_MAX_DATA_URL_PREFIX = 256
_SHOWN_CHARACTERS = 80

_SOURCES = "must be an http(s) URL, a data URL, a pathlib.Path, bytes or a PIL.Image.Image"
_STRING = "must be an http(s) URL or a data:image/...;base64, URL; for a file use pathlib.Path"


@attrs.frozen
class Frame:
    """An image that was looked at and found good, and the way to send it.

    Of a file it holds the path, of ``bytes`` and a data URL the caller's own object, and never a copy; only what was
    made here, from a PIL image or by fitting, is held itself. Of a URL nothing is known here: ``mime`` is ``None``, and
    ``width``, ``height`` and ``size`` are 0.
    """

    name: str
    """For people: the file's name, ``bytes``, ``data URL``, ``PIL image``, or the URL without its query."""
    url: str | None = attrs.field(repr=False)
    """The http(s) URL, if it is one. It may be signed, so it is not shown."""
    mime: str | None
    """What the content is, whatever a name or a data URL says."""
    width: int
    """Pixels, as shown: with a JPEG's EXIF orientation applied."""
    height: int
    size: int
    """Bytes of the image itself; as many as `raw_pieces` gives."""
    fingerprint: str | None
    """SHA-256 of what the caller gave, in hexadecimal: the content before it was fitted, so that it is the same with
    another version of Pillow; or the URL. Of a PIL image, of what is sent. ``None`` if it was not asked for."""
    encoded_length: int
    """Bytes that `pieces` gives."""
    changes: tuple[str, ...]
    """What was done to make it obey, in words and in order; empty where it is sent as it is."""
    _content: Content | None = attrs.field(repr=False, alias="content")

    @property
    def is_url(self) -> bool:
        """Whether the service fetches the image itself, from an http(s) URL."""
        return self.url is not None

    def pieces(self) -> Generator[bytes]:
        """The image as the inside of a JSON string, about 256 KiB at a time: the same bytes at every call.

        That is the URL, or a data URL in base64. Blocks while it reads, so each step belongs in a worker thread.
        Raises `ImageError` before the last piece if the file has changed since it was looked at. A file is open
        from the first piece until the iterator is exhausted or closed.
        """
        if self._content is None:
            yield _json_text(self.url or "")
            return
        head = _data_url_head(self.mime)
        with contextlib.closing(self._content.base64_pieces()) as pieces:
            for piece in pieces:
                yield head + piece
                head = b""

    def raw_pieces(self) -> Generator[bytes]:
        """The image's own bytes, about 192 KiB at a time, for an upload; none for a URL. Otherwise like `pieces`."""
        if self._content is not None:
            yield from self._content.raw_pieces()


def check_source(field: str, source: object) -> None:
    """Checks that ``source`` can be the image of ``field``, from its shape alone. Reads nothing, opens nothing.

    Quick for a data URL of any length. Raises `ImageError`.
    """
    if isinstance(source, str):
        _check_string(field, source)
    elif isinstance(source, bytes):
        if not source:
            raise Label(field, "bytes").error(source, "must not be empty")
    elif isinstance(source, bytearray | memoryview):
        rule = "must be bytes, which nobody can change while the job waits: use bytes(...)"
        raise Label(field, "image").error(type(source).__name__, rule)
    elif not (isinstance(source, os.PathLike) or _is_pil_image(source)):
        raise Label(field, "image").error(type(source).__name__, _SOURCES)


def inspect_image(field: str, source: ImageSource, *, fingerprint: bool = False, fit: bool = False) -> Frame:
    """Looks inside the image of ``field`` and gives what is sent for it. Blocks: call it in a worker thread.

    Reads the headers and the end of the picture; all of it only for a fingerprint and to check a data URL's base64.
    A PIL image is encoded here, once, and must be left alone meanwhile. With ``fit``, a picture that breaks a rule is
    read whole and made to obey, which takes seconds and hundreds of megabytes for a large one, and needs Pillow;
    ``fit`` tells how, and `Frame.changes` what was done. Raises `ImageError`.
    """
    check_source(field, source)
    if isinstance(source, str) and not _is_data_url(source):
        return _inspect_url(source, fingerprint=fingerprint)
    try:
        content = _find(field, source)
        return _frame(content, _inspect_content(content), given=content if fingerprint else None)
    except ImageError:
        if not fit:
            raise
    given, fitted = _fit(field, source)
    content = BytesContent(given.label, fitted.data)
    return _frame(content, _inspect_content(content), given=given if fingerprint else None, changes=fitted.changes)


def _inspect_content(content: Content) -> Header:
    check_size(content.label, content.size)
    if isinstance(content, Base64Content):
        content.check()
    with content.reading() as reader:
        header = read_header(reader)
    check_shape(content.label, header.width, header.height)
    return header


def _fit(field: str, source: ImageSource) -> tuple[Content, Fitted]:
    """What was given, and what is made of it. A PIL image has no bytes of its own: it is given as it was made."""
    from hailuo_async._images.fit import fit_file, fit_image  # most programs need none of it

    if _is_pil_image(source):
        label = Label(field, "PIL image")
        fitted = fit_image(label, source)
        return BytesContent(label, fitted.data), fitted
    content = _find(field, source)
    if content.size > MAX_FIT_BYTES:
        raise content.label.error(f"{content.size} bytes", f"must have at most {MAX_FIT_BYTES} bytes to be fitted")
    data = content.data if isinstance(content, BytesContent) else b"".join(content.raw_pieces())
    given = BytesContent(content.label, data)
    return given, fit_file(given.label, data)


def _frame(content: Content, header: Header, *, given: Content | None, changes: tuple[str, ...] = ()) -> Frame:
    """``given`` is what the fingerprint is of, where one was asked for."""
    return Frame(
        name=content.label.name,
        url=None,
        mime=header.mime,
        width=header.width,
        height=header.height,
        size=content.size,
        fingerprint=_fingerprint(given.raw_pieces()) if given is not None else None,
        encoded_length=len(_data_url_head(header.mime)) + -(-content.size // 3) * 4,
        changes=changes,
        content=content,
    )


def _inspect_url(url: str, *, fingerprint: bool) -> Frame:
    return Frame(
        name=_public(url),
        url=url,
        mime=None,
        width=0,
        height=0,
        size=0,
        fingerprint=_fingerprint([url.encode()]) if fingerprint else None,
        encoded_length=len(_json_text(url)),
        changes=(),
        content=None,
    )


def _find(field: str, source: ImageSource) -> Content:
    """Where the bytes are."""
    if isinstance(source, str):
        return Base64Content(Label(field, "data URL"), source, source.index(",") + 1)
    if isinstance(source, bytes):
        return BytesContent(Label(field, "bytes"), source)
    if isinstance(source, os.PathLike):
        path = os.fspath(source)
        return FileContent.at(path, Label(field, _file_name(path)))
    label = Label(field, "PIL image")
    check_shape(label, *source.size)  # before its pixels are decoded
    return BytesContent(label, encoded(label, source, MAX_BYTES))


# --- what the caller gave ---------------------------------------------------------------------------------------------


def _is_data_url(text: str) -> bool:
    return text[:5].lower() == "data:"


def _is_pil_image(source: object) -> TypeGuard[PIL.Image.Image]:
    """Without importing Pillow: where nobody has imported it, nobody has an image of it."""
    module = sys.modules.get("PIL.Image")
    return module is not None and isinstance(source, module.Image)


def _check_string(field: str, text: str) -> None:
    if _is_data_url(text):
        found = _DATA_URL.match(text, 0, _MAX_DATA_URL_PREFIX)
        if found is None or found.end() == len(text):
            rule = "must begin with data:image/<type>;base64, and go on with the image"
            raise Label(field, "data URL").error(text[:_SHOWN_CHARACTERS].partition(",")[0], rule)
    elif text[:8].lower().startswith(("http://", "https://")):
        problem = _url_problem(text)
        if problem is not None:
            raise Label(field, "URL").error(_public(text), problem)
    else:
        raise Label(field, "str").error(_public(text), _STRING)


def _url_problem(url: str) -> str | None:
    """The rule that an http(s) URL breaks."""
    if len(url) > MAX_URL_CHARACTERS:
        return f"a URL must have at most {MAX_URL_CHARACTERS} characters"
    if " " in url or not url.isprintable():
        return "a URL must have no spaces or control characters"
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname, parts.port  # the port is checked when it is asked for
    except ValueError:
        return "a URL must have a valid host and port"
    if "@" in parts.netloc:
        return "a URL must not carry a user name or password"
    return None if host else "a URL must have a host"


def _public(text: str) -> str:
    """The part of a URL that may be shown: no query or fragment, which may be signed, and no user or password."""
    shown = re.split(r"[?#]", text[:MAX_URL_CHARACTERS], maxsplit=1)[0]
    return re.sub(r"//[^/]*@", "//", shown)[:_SHOWN_CHARACTERS]


def _file_name(path: str | bytes) -> str:
    """The file's name, safe for one line of a log whatever is in it."""
    name = os.fsdecode(os.path.basename(path) or path)
    return name if name.isprintable() else ascii(name)[1:-1]


# --- what is sent -----------------------------------------------------------------------------------------------------


def _json_text(text: str) -> bytes:
    return json.dumps(text)[1:-1].encode("ascii")


def _data_url_head(mime: str | None) -> bytes:
    return f"data:{mime};base64,".encode("ascii")


def _fingerprint(pieces: Iterable[bytes]) -> str:
    digest = hashlib.sha256()
    for piece in pieces:
        digest.update(piece)
    return digest.hexdigest()
