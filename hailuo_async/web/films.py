"""The videos for visitors: from copies in a folder, or passed on from where the service keeps them.

With a copy a link that was given out works for longer than the service keeps a result. The journal knows where each
video was saved. A copy is made when a job ends here or when a visitor first asks for it; ``AsyncSession.download``
fetches the video once. No name in the folder comes from a request's path.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import TypeVar

import anyio
import anyio.to_thread
import attrs

from hailuo_async.errors import DownloadError, HailuoError, SessionClosedError
from hailuo_async.hooks import Ended, SessionEvent
from hailuo_async.outcomes import Video
from hailuo_async.session import AsyncSession
from hailuo_async.web.answers import Answer
from hailuo_async.web.files import file_answer, passed_on

_logger = logging.getLogger("hailuo_async")

#: Seconds that a visitor waits for a copy to be made, with no byte of the answer sent: proxies give up after 30 to 60.
_WAIT_S = 10.0
#: Copies made at once.
_AT_ONCE = 4
#: Seconds between two looks for copies that have been kept long enough.
_SWEEP_EVERY_S = 3600.0
#: Videos whose copies and sizes are remembered.
_KNOWN = 10_000
_SUFFIXES = frozenset({".mp4", ".mov", ".webm", ".part"})
_Fact = TypeVar("_Fact")


@attrs.define(eq=False)
class Films:
    """The videos of one session's jobs. ``folder`` is for their copies alone, of any number of workers."""

    session: AsyncSession
    folder: Path | None
    keep_for_s: float | None = None
    wait_s: float = attrs.field(default=_WAIT_S, kw_only=True)
    _paths: dict[str, Path] = attrs.field(factory=dict, init=False)
    _sizes: dict[str, int] = attrs.field(factory=dict, init=False)
    _tasks: set[asyncio.Task[None]] = attrs.field(factory=set, init=False)
    _limit: anyio.Semaphore = attrs.field(factory=lambda: anyio.Semaphore(_AT_ONCE), init=False)
    _swept_at: float | None = attrs.field(default=None, init=False)

    def hear(self, event: SessionEvent) -> None:
        """Copies the video of a job that ended in one."""
        match event:
            case Ended(key=str() as key, video=Video() as video) if self.folder is not None:
                task = asyncio.get_running_loop().create_task(self._copy(self.folder, key, video))
                self._tasks.add(task)
                task.add_done_callback(self._tasks.discard)

    async def answer(self, key: str, video: Video, headers: Mapping[str, str], *, is_head: bool) -> Answer:
        """What ``headers`` ask for of a video: of its copy, which is made first if there is none, or passed on.

        A copy cannot be made if another worker makes it, it takes too long (what there is of it stays for the next
        visitor), or the disk is full. Raises as ``download`` and ``open_video``.
        """
        if self.folder is not None:
            try:
                await self._sweep(self.folder)
                async with asyncio.timeout(self.wait_s):
                    path = await self._path(self.folder, key, video)
                return await file_answer(path, f'"{video.task_id}"', headers, is_head=is_head)
            except (DownloadError, OSError) as error:
                _logger.debug("video %s is passed on without a copy: %s", key, error)
        return await passed_on(self.session, video, await self._size(video), headers, is_head=is_head)

    async def _size(self, video: Video) -> int | None:
        if video.task_id not in self._sizes:
            async with self.session.open_video(video) as pieces:
                if pieces.size is None:
                    return None
                _remember(self._sizes, video.task_id, pieces.size)
        return self._sizes[video.task_id]

    async def _path(self, folder: Path, key: str, video: Video) -> Path:
        """Where the copy lies, which is made first if there is none. Raises what ``download`` raises."""
        known = self._paths.get(video.task_id)
        if known is not None and await anyio.Path(known).exists():
            return known
        async with self._limit:
            await anyio.Path(folder).mkdir(parents=True, exist_ok=True)
            path = await self.session.download(video, folder, key=key)
        _remember(self._paths, video.task_id, path)
        return path

    async def aclose(self) -> None:
        """Stops copying. What is not copied yet is copied when it is asked for."""
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)

    async def _copy(self, folder: Path, key: str, video: Video) -> None:
        try:
            await self._path(folder, key, video)
            await self._sweep(folder)
        except (HailuoError, OSError) as error:
            is_expected = isinstance(error, SessionClosedError) or getattr(error, "is_busy", False)
            level = logging.DEBUG if is_expected else logging.WARNING
            words = "video %s is not copied to %s: %s; it is tried again when it is asked for"
            _logger.log(level, words, key, folder, error)

    async def _sweep(self, folder: Path) -> None:
        now = asyncio.get_running_loop().time()
        if self.keep_for_s is None or (self._swept_at is not None and now - self._swept_at < _SWEEP_EVERY_S):
            return
        self._swept_at = now
        await anyio.to_thread.run_sync(remove_old, folder, self.keep_for_s)


def _remember(known: dict[str, _Fact], name: str, fact: _Fact) -> None:
    known[name] = fact
    if len(known) > _KNOWN:
        del known[next(iter(known))]


def remove_old(folder: Path, keep_for_s: float) -> None:
    """Removes copies older than that, by the clock of the disk that they lie on. Blocks."""
    mark = folder / ".now"
    if not folder.exists():
        return
    mark.touch()
    now = mark.stat().st_mtime
    for path in folder.iterdir():
        with contextlib.suppress(FileNotFoundError):  # another worker has just removed it
            if path.suffix in _SUFFIXES and now - path.stat().st_mtime > keep_for_s:
                path.unlink()
