"""From a finished video to its bytes: as a file, or passed on in pieces. Nothing here is charged for.

A video is saved by one caller at a time, so that who comes next finds it saved. Where it lies is noted in the journal,
if there is one; a journal that fails here costs a second download at most, never the file.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import logging
import os
from collections.abc import AsyncGenerator, AsyncIterator
from pathlib import Path
from weakref import WeakValueDictionary

import anyio
import anyio.to_thread
import attrs

from hailuo_async._engine.admission import Admission
from hailuo_async._engine.clock import loop_time
from hailuo_async._engine.events import EventEmitter
from hailuo_async._engine.generation import Generation
from hailuo_async._engine.state import EngineState
from hailuo_async._io.download.client import DEFAULT_MAX_BYTES, DEFAULT_TIMEOUT_S, Downloads
from hailuo_async._io.filenames import is_directory, make_directory, suffix_for, target_for
from hailuo_async._io.journal.writer import JournalWriter
from hailuo_async.errors import HailuoError, JournalError, SessionClosedError
from hailuo_async.outcomes import Failure, Success, Video

logger = logging.getLogger("hailuo_async")


@attrs.define(eq=False)
class Results:
    """Saves videos, and passes them on."""

    _downloads: Downloads
    _journal: JournalWriter | None
    _admission: Admission
    _engine_state: EngineState
    _loop: asyncio.AbstractEventLoop
    _emitter: EventEmitter
    _saving: WeakValueDictionary[str, anyio.Lock] = attrs.field(factory=WeakValueDictionary, init=False)

    async def save(
        self,
        video: Video,
        path: str | os.PathLike[str],
        *,
        key: str | None,
        overwrite: bool = False,
        max_bytes: int = DEFAULT_MAX_BYTES,
        timeout_s: float = DEFAULT_TIMEOUT_S,
    ) -> Path:
        """The file that the video lies in now: ``path`` itself, or in that directory. As ``AsyncSession.download``."""
        async with self._saving.setdefault(video.task_id, anyio.Lock()):
            saved = await self._saved_before(video)
            if saved is not None and not overwrite:
                return saved
            target, began_at = await _target(video, path, key), loop_time()
            await self._downloads.fetch(
                video.url or await self._fresh_url(video.task_id),
                target,
                overwrite=overwrite,
                refresh=functools.partial(self._fresh_url, video.task_id),
                max_bytes=max_bytes,
                timeout_s=timeout_s,
                task_id=video.task_id,
                on_whole=functools.partial(self._note_saved, video, target),
            )
            await self._emitter.downloaded(video, key, target, began_at)
            return target

    async def save_outcome(self, path: Path, success: Success, directory: Path) -> Success | Failure:
        """``success`` with its video saved as ``path``, or in it, or why it could not be; as it is if the session ends.

        ``directory`` is made first, if there is none.
        """
        try:
            await anyio.to_thread.run_sync(make_directory, directory)
            saved_to = await self.save(success.video, path, key=success.key)
        except SessionClosedError:
            return success
        except HailuoError as error:
            error.task_id = error.task_id or success.video.task_id
            return Failure(success.job, success.key, success.index, error)
        return attrs.evolve(success, path=saved_to)

    @contextlib.asynccontextmanager
    async def open(self, video: Video, *, max_bytes: int) -> AsyncGenerator[AsyncIterator[bytes]]:
        """The video in pieces, without a file. As ``AsyncSession.open_video``."""
        refresh = functools.partial(self._fresh_url, video.task_id)
        url = video.url or await refresh()
        async with self._downloads.stream(url, refresh=refresh, max_bytes=max_bytes, task_id=video.task_id) as pieces:
            yield pieces

    async def _fresh_url(self, task_id: str) -> str:
        """Where a result lies now, by the service's own word."""
        return (await Generation(await self._admission.attach(task_id, None, is_asked=True), self._loop)).url

    async def _saved_before(self, video: Video) -> Path | None:
        """Where the journal says that the video was saved, if it is still there."""
        if self._journal is None:
            return None
        self._engine_state.check()
        try:
            record = await self._journal.look_for_task(video.task_id)
        except JournalError as error:
            words = "%s; task %s is fetched as if it had never been saved: check its disk"
            logger.warning(words, error, video.task_id)
            return None
        if record is None or record.saved_to is None:
            return None
        path = Path(record.saved_to)
        return path if await anyio.to_thread.run_sync(path.is_file) else None

    async def _note_saved(self, video: Video, target: Path) -> None:
        """Tells the journal, if there is one, where the video lies. If that fails, it lies there all the same."""
        if self._journal is None:
            return
        try:
            await self._journal.saved(video.task_id, await anyio.to_thread.run_sync(target.absolute))
        except JournalError as error:
            words = "%s; that task %s is saved as %s is not in it: check its disk"
            logger.error(words, error, video.task_id, target)


async def _target(video: Video, path: str | os.PathLike[str], key: str | None) -> Path:
    """The file to save a video as."""
    in_directory = await anyio.to_thread.run_sync(is_directory, path)
    suffix = suffix_for(next((each.format for each in video.resources if each.url == video.url), None), video.url)
    return target_for(path, is_directory=in_directory, key=key, task_id=video.task_id, suffix=suffix)
