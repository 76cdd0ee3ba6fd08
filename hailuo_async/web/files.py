"""Passes videos on: whole or in part, from a copy on the disk or straight from where the service keeps them.

Which bytes a request asks for is read as RFC 9110, 14, says.
"""

from __future__ import annotations

import re
from collections.abc import AsyncGenerator, Mapping
from pathlib import Path
from typing import IO

import anyio
import anyio.to_thread
import attrs

from hailuo_async.outcomes import Video
from hailuo_async.session import AsyncSession
from hailuo_async.web.answers import Answer, is_unmodified

_PIECE_BYTES = 262_144
_RANGE = re.compile(r"bytes=(\d{0,18})-(\d{0,18})", re.ASCII)


@attrs.frozen
class Span:
    """Bytes from ``start`` up to, not including, ``end``; none of a file where ``length`` is not over 0."""

    start: int
    end: int

    @property
    def length(self) -> int:
        return self.end - self.start


def read_range(headers: Mapping[str, str], size: int, etag: str) -> Span | None:
    """The one range that ``headers`` ask for; ``None`` for all of it, also for several or of another version."""
    found = _RANGE.fullmatch(headers.get("Range", "").replace(" ", ""))
    if found is None or not any(found.groups()) or headers.get("If-Range", etag) != etag:
        return None
    first, last = found.groups()
    if not first:
        return Span(max(0, size - int(last)), size)
    if last and int(last) < int(first):
        return None  # not a valid range, which is ignored
    return Span(int(first), min(size, int(last) + 1) if last else size)


async def file_answer(path: Path, etag: str, headers: Mapping[str, str], *, is_head: bool) -> Answer:
    """The bytes of ``path`` that ``headers`` ask for. Raises ``OSError``."""
    size = (await anyio.Path(path).stat()).st_size
    answer, span = _head_of(size, etag, headers)
    if span is None or is_head:
        return answer
    return await _begun(Answer(answer.status, answer.headers, _pieces_of(path, span)))


async def _pieces_of(path: Path, span: Span) -> AsyncGenerator[bytes]:
    file: IO[bytes] = await anyio.to_thread.run_sync(path.open, "rb")
    try:
        await anyio.to_thread.run_sync(file.seek, span.start)
        left = span.length
        while left and (piece := await anyio.to_thread.run_sync(file.read, min(left, _PIECE_BYTES))):
            left -= len(piece)
            yield piece
    finally:
        with anyio.CancelScope(shield=True):
            await anyio.to_thread.run_sync(file.close)


async def passed_on(
    session: AsyncSession, video: Video, size: int | None, headers: Mapping[str, str], *, is_head: bool
) -> Answer:
    """The bytes of ``video`` that ``headers`` ask for, as they come from the service, which may not say its ``size``.

    Raises what ``open_video`` raises, before anything is promised.
    """
    etag = f'"{video.task_id}"'
    if size is None and is_unmodified(etag, headers):
        return Answer(304, _video_headers(etag))
    if size is None:  # it can be passed on whole, and only so
        return Answer(200, _video_headers(etag), b"" if is_head else _streamed(session, video, None))
    answer, span = _head_of(size, etag, headers)
    if span is None or is_head:
        return answer
    return await _begun(Answer(answer.status, answer.headers, _streamed(session, video, span)))


async def _begun(answer: Answer) -> Answer:
    """``answer`` with its first piece at hand, so that an error comes before the head is sent."""
    pieces = answer.body
    if isinstance(pieces, bytes):
        return answer
    first = await anext(pieces, b"")

    async def all_pieces() -> AsyncGenerator[bytes]:
        try:
            yield first
            async for piece in pieces:
                yield piece
        finally:
            await pieces.aclose()

    return Answer(answer.status, answer.headers, all_pieces())


async def _streamed(session: AsyncSession, video: Video, span: Span | None) -> AsyncGenerator[bytes]:
    left = None if span is None else span.length
    async with session.open_video(video, start=0 if span is None else span.start) as pieces:
        async for piece in pieces:
            if left is not None:
                piece = piece[:left]
                left -= len(piece)
            yield piece
            if left == 0:
                return


def _video_headers(etag: str) -> dict[str, str]:
    return {
        "Content-Type": "video/mp4",
        "Accept-Ranges": "bytes",
        "ETag": etag,
        "Cache-Control": "private, max-age=86400",
        "X-Content-Type-Options": "nosniff",
    }


def _head_of(size: int, etag: str, headers: Mapping[str, str]) -> tuple[Answer, Span | None]:
    """The head of the answer, and which bytes follow; ``None`` for none."""
    base = _video_headers(etag)
    if is_unmodified(etag, headers):
        return Answer(304, base), None
    span = read_range(headers, size, etag)
    if span is not None and span.length <= 0:
        return Answer(416, {**base, "Content-Range": f"bytes */{size}", "Content-Length": "0"}), None
    sent = span or Span(0, size)
    base["Content-Length"] = str(sent.length)
    if span is None:
        return Answer(200, base), sent
    return Answer(206, {**base, "Content-Range": f"bytes {span.start}-{span.end - 1}/{size}"}), sent
