"""Copies of videos in a folder, so that a link that was given out works for longer than the service keeps a result.

The journal knows where each video was saved. A copy is made when a job ends here or when a visitor first asks for it;
``AsyncSession.download`` fetches the video once. No name in the folder comes from a request's path.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Mapping
from pathlib import Path

import anyio
import anyio.to_thread
import attrs

from hailuo_async.errors import DownloadError, HailuoError, SessionClosedError
from hailuo_async.hooks import Ended, SessionEvent
from hailuo_async.outcomes import Video
from hailuo_async.session import AsyncSession
from hailuo_async.web.answers import Answer
from hailuo_async.web.files import file_answer

_logger = logging.getLogger("hailuo_async")

#: Seconds that a visitor waits for a copy to be made, with no byte of the answer sent: proxies give up after 30 to 60.
_WAIT_S = 10.0
#: Copies made at once.
_AT_ONCE = 4
#: Seconds between two looks for copies that have been kept long enough.
_SWEEP_EVERY_S = 3600.0
_KNOWN_PATHS = 10_000
_SUFFIXES = frozenset({".mp4", ".mov", ".webm", ".part"})


@attrs.define(eq=False)
class Copies:
    """The copies of one session's videos in ``folder``, used for nothing else, by any number of workers."""

    session: AsyncSession
    folder: Path
    keep_for_s: float | None
    wait_s: float = attrs.field(default=_WAIT_S, kw_only=True)
    _paths: dict[str, Path] = attrs.field(factory=dict, init=False)
    _tasks: set[asyncio.Task[None]] = attrs.field(factory=set, init=False)
    _limit: anyio.Semaphore = attrs.field(factory=lambda: anyio.Semaphore(_AT_ONCE), init=False)
    _swept_at: float | None = attrs.field(default=None, init=False)

    def hear(self, event: SessionEvent) -> None:
        """Copies the video of a job that ended in one."""
        if isinstance(event, Ended) and event.video is not None and event.key is not None:
            task = asyncio.get_running_loop().create_task(self._copy(event.key, event.video))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def answer(self, key: str, video: Video, headers: Mapping[str, str], *, is_head: bool) -> Answer | None:
        """What ``headers`` ask for of the copy, which is made first if there is none.

        ``None`` if that cannot be done now: another worker makes it, it takes too long (what there is of it stays for
        the next visitor), or the disk is full. Raises as ``download``.
        """
        try:
            await self._sweep()
            async with asyncio.timeout(self.wait_s):
                path = await self.path(key, video)
            return await file_answer(path, f'"{video.task_id}"', headers, is_head=is_head)
        except (DownloadError, OSError) as error:
            _logger.debug("video %s is passed on without a copy: %s", key, error)
            return None

    async def path(self, key: str, video: Video) -> Path:
        """Where the copy lies, which is made first if there is none. Raises what ``download`` raises."""
        known = self._paths.get(video.task_id)
        if known is not None and await anyio.Path(known).exists():
            return known
        async with self._limit:
            await anyio.Path(self.folder).mkdir(parents=True, exist_ok=True)
            path = await self.session.download(video, self.folder, key=key)
        self._paths[video.task_id] = path
        if len(self._paths) > _KNOWN_PATHS:
            del self._paths[next(iter(self._paths))]
        return path

    async def aclose(self) -> None:
        """Stops copying. What is not copied yet is copied when it is asked for."""
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)

    async def _copy(self, key: str, video: Video) -> None:
        try:
            await self.path(key, video)
            await self._sweep()
        except (HailuoError, OSError) as error:
            is_expected = isinstance(error, SessionClosedError) or getattr(error, "is_busy", False)
            level = logging.DEBUG if is_expected else logging.WARNING
            words = "video %s is not copied to %s: %s; it is tried again when it is asked for"
            _logger.log(level, words, key, self.folder, error)

    async def _sweep(self) -> None:
        now = asyncio.get_running_loop().time()
        if self.keep_for_s is None or (self._swept_at is not None and now - self._swept_at < _SWEEP_EVERY_S):
            return
        self._swept_at = now
        await anyio.to_thread.run_sync(remove_old, self.folder, self.keep_for_s)


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
