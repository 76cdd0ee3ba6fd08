"""Downloads finished videos: as a file, or in pieces. Downloads are not charged for.

One caller at a time saves a video, so the next one finds it saved. The journal, if there is one, gets two notes: the
size and digest of the complete file, before the file has its name, and its path, after that. Only a file of that size
and digest counts as the video, so neither another program's file nor a kill between the notes misleads a later run.
A journal that fails here costs a second download at most, never the file.
"""

from __future__ import annotations

import contextlib
import functools
import importlib
import logging
import os
import ssl
from collections.abc import AsyncGenerator, Awaitable, Callable
from pathlib import Path
from typing import TYPE_CHECKING
from weakref import WeakValueDictionary

import anyio
import anyio.to_thread
import attrs

from hailuo_async._engine.admission import Admission
from hailuo_async._engine.clock import loop_time
from hailuo_async._engine.events import EventEmitter
from hailuo_async._engine.generation import Generation
from hailuo_async._engine.session_state import SessionState
from hailuo_async._io.download.saved_file import is_saved_video
from hailuo_async._io.download.values import USUAL, Limits, VideoPieces
from hailuo_async._io.filenames import is_directory, make_directory, suffix_for, target_for
from hailuo_async._io.http import proxy_for
from hailuo_async._io.journal.records import Record
from hailuo_async.errors import DownloadError, HailuoError, JournalError, SessionClosedError
from hailuo_async.outcomes import Failure, Success, Video

if TYPE_CHECKING:
    from hailuo_async._io.download.client import Downloads
    from hailuo_async._io.journal.writer import JournalWriter

logger = logging.getLogger("hailuo_async")

#: Seconds between two tries while another session saves the same video to the same file.
RETRY_S = 0.25


@attrs.define(eq=False)
class Results:
    """Saves videos, and gives them in pieces."""

    _allow_private_network: bool
    _tls: ssl.SSLContext | None
    _journal: JournalWriter | None
    _admission: Admission
    _session_state: SessionState
    _emitter: EventEmitter
    _saving: WeakValueDictionary[str, anyio.Lock] = attrs.field(factory=WeakValueDictionary, init=False)
    """The lock of each video that is being saved, by its task id."""
    _downloads: Downloads | None = attrs.field(default=None, init=False)
    _is_closed: bool = attrs.field(default=False, init=False)

    async def downloads(self) -> Downloads:
        """What fetches: imported and made when it is first needed, as many sessions never save a video.

        Raises ``SessionClosedError`` once the session is closed.
        """
        if self._downloads is None:
            # An import reads files, so it does not run on the loop.
            client = await anyio.to_thread.run_sync(importlib.import_module, "hailuo_async._io.download.client")
            if self._is_closed:
                raise SessionClosedError(reason="the session is closed")
            made: Downloads = client.Downloads(
                allow_private_network=self._allow_private_network, find_proxy=proxy_for, tls=self._tls
            )
            self._downloads = self._downloads or made
        return self._downloads

    async def aclose(self) -> None:
        """Closes the connections. Downloads under way, and later ones, raise ``SessionClosedError``."""
        self._is_closed = True
        if self._downloads is not None:
            await self._downloads.aclose()

    async def save(
        self,
        video: Video,
        path: str | os.PathLike[str],
        limits: Limits = USUAL,
        *,
        key: str | None,
        overwrite: bool = False,
    ) -> Path:
        """Saves the video as ``path``, or in that directory, and returns the file. As ``AsyncSession.download``."""
        try:
            with anyio.move_on_after(limits.timeout_s):  # also for the wait behind another save of it, or for a new URL
                return await self._save(video, path, limits, key=key, overwrite=overwrite)
            reason = f"not whole within {limits.timeout_s:g} s"
            raise DownloadError(reason=reason, path=os.fsdecode(path), task_id=video.task_id)
        except DownloadError as error:
            error.cost = video.cost
            raise

    async def _save(
        self, video: Video, path: str | os.PathLike[str], limits: Limits, *, key: str | None, overwrite: bool
    ) -> Path:
        async with self._saving.setdefault(video.task_id, anyio.Lock()):
            target, began_at = await _target(video, path, key), loop_time()
            if not overwrite and (saved := await self._saved_before(video, target)) is not None:
                return saved
            fetch = functools.partial(
                (await self.downloads()).fetch,
                limits=limits,
                overwrite=overwrite,
                refresh=functools.partial(self._fresh_url, video.task_id),
                task_id=video.task_id,
                on_whole=None if self._journal is None else functools.partial(self._note_whole, video),
            )
            saved = await self._fetch(fetch, video, target, began_at + limits.timeout_s, may_be_there=not overwrite)
            if saved is not None:
                return saved
            with anyio.CancelScope(shield=True):  # the file has its name: a session that closes now still notes it
                await self._note_saved(video, target)
                await self._emitter.downloaded(video, key, target, began_at)
            return target

    async def save_outcome(self, path: Path, success: Success, directory: Path) -> Success | Failure:
        """``success`` with its video saved as ``path`` or in it, or the ``Failure``; unchanged if the session ends.

        Makes ``directory`` first, if there is none.
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
    async def open(self, video: Video, limits: Limits, *, start: int) -> AsyncGenerator[VideoPieces]:
        """The video in pieces, without a file. As ``AsyncSession.open_video``."""
        refresh = functools.partial(self._fresh_url, video.task_id)
        downloads, url = await self.downloads(), _url_at_hand(video) or await refresh()
        async with downloads.stream(url, limits, refresh=refresh, task_id=video.task_id, start=start) as pieces:
            yield pieces

    async def _fresh_url(self, task_id: str) -> str:
        """The result's present URL, from a new query."""
        return (await Generation(await self._admission.attach(task_id, None, is_refresh=True))).url

    async def _saved_before(self, video: Video, target: Path) -> Path | None:
        """The saved file: at the path on record, or at ``target`` if a kill came before that was noted."""
        record = await self._record_of(video)
        if record is None:
            return None
        known = record.saved_bytes, record.saved_sha256
        if record.saved_to is not None and await _is_saved_video(Path(record.saved_to), *known):
            return Path(record.saved_to)
        if await _is_saved_video(target, *known):
            await self._note_saved(video, target)
            return target
        return None

    async def _fetch(
        self,
        fetch: Callable[[str, Path], Awaitable[Path]],
        video: Video,
        target: Path,
        until: float,
        may_be_there: bool,
    ) -> Path | None:
        """Saves the video as ``target``. If another session of the journal did so meanwhile: where it lies.

        While the other is at it, this waits and tries again until ``until``, in loop time.
        """
        while True:
            try:
                await fetch(_url_at_hand(video) or await self._fresh_url(video.task_id), target)
                return None
            except DownloadError as error:
                if may_be_there and (saved := await self._saved_before(video, target)) is not None:
                    return saved
                if not (may_be_there and error.is_busy and self._journal is not None):
                    raise
                if loop_time() + RETRY_S > until:
                    raise
            await anyio.sleep(RETRY_S)

    async def _record_of(self, video: Video) -> Record | None:
        if self._journal is None:
            return None
        self._session_state.check()
        try:
            return await self._journal.ask(self._journal.jobs.find_task, video.task_id)
        except JournalError as error:
            message = "%s; task %s is fetched as if it had never been saved: check the journal's disk"
            logger.warning(message, error, video.task_id)
            return None

    async def _note_whole(self, video: Video, size: int, sha256: str) -> None:
        """Notes the size and digest that identify the video's file. If that fails, the video is saved all the same."""
        if self._journal is None:
            return
        try:
            await self._journal.note(self._journal.jobs.whole, video.task_id, size, sha256)
        except JournalError as error:
            message = "%s; it has no digest of task %s, so another run may fetch that again: check the journal's disk"
            logger.error(message, error, video.task_id)

    async def _note_saved(self, video: Video, target: Path) -> None:
        """Notes the path of the file. If that fails, the file stays all the same."""
        if self._journal is None:
            return
        try:
            path = await anyio.to_thread.run_sync(target.absolute)
            await self._journal.note(self._journal.jobs.saved, video.task_id, path)
        except JournalError as error:
            message = "%s; it does not say that task %s is saved as %s: check the journal's disk"
            logger.error(message, error, video.task_id, target)


async def _is_saved_video(path: Path, size: int | None, sha256: str | None) -> bool:
    return await anyio.to_thread.run_sync(is_saved_video, path, size, sha256)


def _url_at_hand(video: Video) -> str:
    """The video's URL; empty if the journal has wiped it, or if the video was made by hand without one."""
    return video.url if video.resources else ""


async def _target(video: Video, path: str | os.PathLike[str], key: str | None) -> Path:
    """The path under which a video is saved."""
    in_directory, url = await anyio.to_thread.run_sync(is_directory, path), _url_at_hand(video)
    suffix = suffix_for(next((each.format for each in video.resources if each.url == url), None), url)
    return target_for(path, is_directory=in_directory, key=key, task_id=video.task_id, suffix=suffix)
