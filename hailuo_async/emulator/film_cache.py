"""Where films are rendered: each once, off the loop, and kept in a temporary directory until the server closes.

The first caller to ask for a film starts its rendering; callers that come meanwhile wait for the same one. A cancelled
caller does not stop it.
"""

from __future__ import annotations

import asyncio
import shutil
import tempfile
import threading
from collections.abc import Callable
from pathlib import Path

import anyio
import anyio.to_thread
import attrs

from .films import FilmOrder

_RENDERS_AT_ONCE = 2


@attrs.frozen
class FilmFile:
    """A rendered film on disk. ``read`` blocks."""

    path: Path
    size: int
    etag: str

    def read(self, start: int, stop: int) -> bytes:
        with self.path.open("rb") as file:
            file.seek(start)
            return file.read(stop - start)


@attrs.define
class FilmCache:
    """Renders films into ``directory`` and remembers them. Lives on one loop until ``aclose``."""

    directory: Path
    render: Callable[[FilmOrder, Path, Callable[[], bool]], None]
    """Blocks until the film is written, or until its last argument says to stop."""
    _films: dict[str, asyncio.Task[FilmFile]] = attrs.field(factory=dict, init=False)
    _closing: threading.Event = attrs.field(factory=threading.Event, init=False)
    _places: anyio.CapacityLimiter = attrs.field(factory=lambda: anyio.CapacityLimiter(_RENDERS_AT_ONCE), init=False)

    @classmethod
    async def open(cls) -> FilmCache:
        """A cache with a temporary directory of its own. Raises ``ImportError`` without the extra ``emulator``."""
        return await anyio.to_thread.run_sync(cls._open_in_thread)

    @classmethod
    def _open_in_thread(cls) -> FilmCache:
        from .rendering import render  # here, for only rendering needs PyAV and Pillow

        return cls(Path(tempfile.mkdtemp(prefix="hailuo-emulator-")), render)

    async def film(self, order: FilmOrder) -> FilmFile:
        """The film, rendered now or before. Cancelling a caller leaves the rendering to the others."""
        task = self._films.get(order.task_id)
        if task is None:
            rendering = anyio.to_thread.run_sync(self._render, order, limiter=self._places)
            task = asyncio.create_task(rendering, name=f"render {order.task_id}")
            self._films[order.task_id] = task
        return await asyncio.shield(task)

    def _render(self, order: FilmOrder) -> FilmFile:
        path = self.directory / f"{order.task_id}.mp4"
        self.render(order, path, self._closing.is_set)
        return FilmFile(path, path.stat().st_size, f'"{order.task_id}"')

    async def aclose(self) -> None:
        """Stops what is being rendered, and removes every film."""
        self._closing.set()
        await asyncio.gather(*self._films.values(), return_exceptions=True)
        await anyio.to_thread.run_sync(shutil.rmtree, self.directory)
