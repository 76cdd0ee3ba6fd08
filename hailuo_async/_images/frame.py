"""The image of a job: whether the service takes it, and the bytes to send for it.

``source`` checks the type of the caller's value when the job is made. `inspect_image` looks inside, in a worker thread,
when the job is submitted, and returns a `Frame`: the facts of the image, and a way to read its bytes in pieces. Both
raise only `ImageError`, for any bytes.

What the service says (``contract``): "JPG/JPEG/PNG/WebP, <20MB, short side >300px, aspect ratio between 2:5 and 5:2".
What that leaves open was decided so:

- 20 MB are 20 000 000 bytes, the stricter reading, of the image and not of its base64. 20 MB exactly is too much.
- The two aspect ratios themselves are allowed, 300 px are not. Comparisons are of whole numbers, without rounding.
- More than 2**28 pixels (16384 x 16384) are refused. The service names no limit, but no camera makes such a picture of
  20 MB, and a file that declares more is a decompression bomb.
- Formats count, colour does not: CMYK JPEG, 16-bit and palette PNG, alpha, arithmetic coding all pass. A JPEG that
  common decoders cannot read (lossless, hierarchical, 12 bits) is refused: it would be paid for in vain.
- An animated PNG passes: by design each reader of PNG sees its still default image. An animated WebP does not pass:
  it has no such image, and a decoder of still WebP refuses it.
- Bytes after a picture's end pass; a picture without its end does not. ``headers`` says how the end is found.
- A PIL image is sent as a PNG, without loss, if that stays under 20 MB, and otherwise as a JPEG of quality 95, its
  alpha laid on white. Its EXIF orientation is applied, as it is when the same photo is given as a file.
- Fitting is for JPEG, PNG, WebP, GIF, BMP, TIFF, AVIF and HEIC (with pillow-heif) of at most 100 MB and 2**26 pixels
  (8192 x 8192); ``fit`` says how.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from collections.abc import Callable, Generator, Iterable
from typing import IO, TYPE_CHECKING, cast

import attrs

from hailuo_async._images.content import (
    Base64Content,
    BytesContent,
    Content,
    FileContent,
    Label,
    StoredContent,
    base64_pieces,
    read_file_object,
)
from hailuo_async._images.exclusive import exclusive
from hailuo_async._images.headers import read_header
from hailuo_async._images.limits import MAX_FIT_BYTES, check_shape, check_size
from hailuo_async._images.pillow import encoded
from hailuo_async._images.source import ImageSource, check_source, file_name, is_pil_image, is_web_url, shown_url
from hailuo_async.contract import IMAGE_UNDER_BYTES
from hailuo_async.errors import ImageError

if TYPE_CHECKING:
    from PIL.Image import Image

    from hailuo_async._images.fit import Fitted


@attrs.frozen(slots=False)  # made for every job: frozen fields are set three times as fast in a dict
class Frame:
    """An image that was inspected and may be sent, and the way to read it.

    For a path it holds the path; for ``bytes`` and a data URL the caller's own object, and never a copy. The content of
    a file object, and a picture made from a PIL image or by fitting, is held in memory. A URL is not fetched: its
    ``mime`` is ``None``, and ``width``, ``height`` and ``size`` are 0.
    """

    name: str
    """For people: the file's name, ``bytes``, ``data URL``, ``PIL image``, or the URL without its query."""
    url: str | None = attrs.field(repr=False)
    """The http(s) URL, if the image is one. The URL may be signed, so ``repr`` does not show it."""
    mime: str | None = None
    """The type of the content itself; a name or a data URL may say otherwise."""
    width: int = 0
    """Pixels, as shown: with a JPEG's EXIF orientation applied."""
    height: int = 0
    size: int = 0
    """Bytes of the image itself; as many as `raw_pieces` gives."""
    fingerprint: str | None = None
    """SHA-256 of the caller's content before fitting, in hexadecimal, so that another version of Pillow gives the same;
    or of the URL; for a PIL image, of the bytes sent. ``None`` if no fingerprint was requested."""
    changes: tuple[str, ...] = ()
    """The changes made by fitting, as texts, in order; empty if the image is sent unchanged."""
    _content: Content | None = attrs.field(default=None, repr=False, alias="content")

    @property
    def is_url(self) -> bool:
        """Whether the service fetches the image itself, from an http(s) URL."""
        return self.url is not None

    @property
    def encoded_length(self) -> int:
        """Bytes that `pieces` gives."""
        if self.url is not None:
            return len(_json_text(self.url))
        return len(_data_url_head(self.mime)) + -(-self.size // 3) * 4

    def pieces(self) -> Generator[bytes]:
        """The image as the inside of a JSON string, about 256 KiB at a time: the same bytes at every call.

        That is the URL, or a data URL in base64. Blocks while it reads, so each step belongs in a worker thread.
        Raises `ImageError` before the last piece if the file has changed since its inspection. A file is open
        from the first piece until the iterator is exhausted or closed.
        """
        if self._content is None:
            yield _json_text(self.url or "")
            return
        head = _data_url_head(self.mime)
        with contextlib.closing(base64_pieces(self._content)) as pieces:
            for piece in pieces:
                yield head + piece
                head = b""

    def raw_pieces(self) -> Generator[bytes]:
        """The image's own bytes, about 192 KiB at a time, for an upload; none for a URL. Otherwise like `pieces`."""
        if self._content is not None:
            yield from self._content.raw_pieces()


def stored_frame(field: str, mime: str, size: int, sha256: str, read_piece: Callable[[int], bytes]) -> Frame:
    """An image that was looked at before, and lies elsewhere in pieces of `RAW_PIECE` bytes."""
    label = Label(field, "kept image")
    content = StoredContent(label, size, sha256, read_piece)
    return Frame(label.name, None, mime, size=size, fingerprint=sha256, content=content)


def url_frame(url: str, *, fingerprint: bool = False) -> Frame:
    """An image that the service fetches itself."""
    return Frame(shown_url(url), url, fingerprint=_fingerprint([url.encode()]) if fingerprint else None)


def inspect_image(field: str, source: ImageSource, *, fingerprint: bool = False, fit: bool = False) -> Frame:
    """Looks inside the image of ``field``, and returns its `Frame`. Blocks: call it in a worker thread.

    Reads the headers and the end of the picture; the whole only for a fingerprint and to check a data URL's base64.
    A file object is read whole, and a PIL image encoded, by one thread at a time, even if several jobs share it. With
    ``fit``, a picture that breaks a rule is read whole and changed until it fits. That needs Pillow, and takes seconds
    and hundreds of megabytes for a large picture; the module ``fit`` says how, and `Frame.changes` what was changed.
    Raises `ImageError`.
    """
    check_source(field, source)
    if is_web_url(source):
        return url_frame(source, fingerprint=fingerprint)
    if is_pil_image(source):
        with exclusive(source):
            return _inspect_pillow(Label(field, "PIL image"), source, fingerprint=fingerprint, fit=fit)
    content = _find(field, source, MAX_FIT_BYTES + 1 if fit else IMAGE_UNDER_BYTES)
    try:
        return _frame(content, given=content if fingerprint else None)
    except ImageError:
        if not fit:
            raise
    given, fitted = _fit(content)
    content = BytesContent(given.label, fitted.data)
    return _frame(content, given=given if fingerprint else None, changes=fitted.changes)


def _inspect_pillow(label: Label, image: Image, *, fingerprint: bool, fit: bool) -> Frame:
    """A PIL image has no bytes of its own, so the fingerprint is of what is sent."""
    changes: tuple[str, ...] = ()
    try:
        check_shape(label, *image.size)  # before its pixels are decoded
        data = encoded(label, image, IMAGE_UNDER_BYTES)
    except ImageError:
        if not fit:
            raise
        from hailuo_async._images.fit import fit_image  # here, as most programs never fit

        fitted = fit_image(label, image)
        data, changes = fitted.data, fitted.changes
    content = BytesContent(label, data)
    return _frame(content, given=content if fingerprint else None, changes=changes)


def _fit(content: Content) -> tuple[BytesContent, Fitted]:
    """The caller's content in memory, and the fitted picture."""
    from hailuo_async._images.fit import fit_file  # here, as most programs never fit

    if content.size > MAX_FIT_BYTES:
        raise content.label.error(f"{content.size} bytes", f"must have at most {MAX_FIT_BYTES} bytes to be fitted")
    data = content.data if isinstance(content, BytesContent) else b"".join(content.raw_pieces())
    return BytesContent(content.label, data), fit_file(content.label, data)


def _frame(content: Content, *, given: Content | None, changes: tuple[str, ...] = ()) -> Frame:
    """Looks into ``content``, and returns its frame; ``given`` is the content for the fingerprint, if one is wanted."""
    check_size(content.label, content.size)
    if isinstance(content, Base64Content):
        content.check()
    with content.reading() as reader:
        header = read_header(reader)
    check_shape(content.label, header.width, header.height)
    fingerprint = None if given is None else _fingerprint(given.raw_pieces())
    shape = header.mime, header.width, header.height
    return Frame(content.label.name, None, *shape, content.size, fingerprint, changes, content)


def _find(field: str, source: ImageSource, limit: int) -> Content:
    """The content of ``source``. At most ``limit`` bytes of a file object are read, which is one too many."""
    if isinstance(source, str):
        return Base64Content(Label(field, "data URL"), source, source.index(",") + 1)
    if isinstance(source, bytes):
        return BytesContent(Label(field, "bytes"), source)
    if isinstance(source, os.PathLike):
        path = os.fspath(source)
        return FileContent.at(path, Label(field, file_name(path)))
    file = cast("IO[bytes]", source)
    name = getattr(file, "name", None)  # a temporary file has a number, or none
    label = Label(field, file_name(name) if isinstance(name, str | bytes) and name else "file object")
    with exclusive(file):
        return BytesContent(label, read_file_object(label, file, limit))


def _json_text(text: str) -> bytes:
    return json.dumps(text)[1:-1].encode("ascii")


def _data_url_head(mime: str | None) -> bytes:
    return f"data:{mime};base64,".encode("ascii")


def _fingerprint(pieces: Iterable[bytes]) -> str:
    digest = hashlib.sha256()
    for piece in pieces:
        digest.update(piece)
    return digest.hexdigest()
