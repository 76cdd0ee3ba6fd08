"""Passes videos on: whole or in part, from a copy on the disk or straight from where the service keeps them."""

from __future__ import annotations

import os
from collections.abc import AsyncGenerator, Mapping
from pathlib import Path
from typing import IO

import anyio
import anyio.to_thread

from hailuo_async.web.answers import Answer
from hailuo_async.web.ranges import Span, UnsatisfiableRange, read_range

_PIECE_BYTES = 262_144


async def file_answer(path: Path, video_etag: str, headers: Mapping[str, str], *, is_head: bool) -> Answer:
    """The bytes of ``path`` that ``headers`` ask for. Raises ``OSError``."""
    file = await anyio.to_thread.run_sync(_opened, path)
    try:
        size = (await anyio.to_thread.run_sync(os.fstat, file.fileno())).st_size
        answer, span = _head_of(size, video_etag, headers)
    except BaseException:
        await anyio.to_thread.run_sync(file.close)
        raise
    if span is None or is_head:
        await anyio.to_thread.run_sync(file.close)
        return answer
    return Answer(answer.status, answer.headers, _pieces_of(file, span))


def _opened(path: Path) -> IO[bytes]:
    return path.open("rb")


async def _pieces_of(file: IO[bytes], span: Span) -> AsyncGenerator[bytes]:
    try:
        await anyio.to_thread.run_sync(file.seek, span.start)
        left = span.length
        while left and (piece := await anyio.to_thread.run_sync(file.read, min(left, _PIECE_BYTES))):
            left -= len(piece)
            yield piece
    finally:
        with anyio.CancelScope(shield=True):
            await anyio.to_thread.run_sync(file.close)


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
    if etag in headers.get("If-None-Match", ""):
        return Answer(304, base), None
    try:
        span = read_range(headers, size, etag)
    except UnsatisfiableRange:
        return Answer(416, {**base, "Content-Range": f"bytes */{size}", "Content-Length": "0"}), None
    sent = span or Span(0, size, size)
    base["Content-Length"] = str(sent.length)
    if span is None:
        return Answer(200, base), sent
    return Answer(206, {**base, "Content-Range": f"bytes {span.start}-{span.end - 1}/{size}"}), sent
