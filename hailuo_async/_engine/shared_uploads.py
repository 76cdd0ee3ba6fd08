"""Images that several jobs of a stream share: uploaded once, and named by URL from then on.

A stream is pulled lazily, so the first job with an image cannot know whether others share it. So the first job carries
the image, and the second uploads it for itself and all that follow. An upload is not charged for. If it fails, the job
carries the image itself, and only the saving is lost. After a few failures no further upload is tried, as every job
with the image waits for it.

A team holds ten files (``contract.MAX_UPLOADS``). So a stream deletes its uploads when its last job has ended, and from
the eleventh image on the jobs carry the image themselves. A session that is closed before that leaves the files: the
service deletes them after some seven days.
"""

from __future__ import annotations

import logging
import math
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Mapping
from weakref import WeakSet

import anyio
import anyio.lowlevel
import attrs

from hailuo_async._engine.clock import loop_time
from hailuo_async._engine.tracked_job import TrackedJob
from hailuo_async._images.frame import Frame, inspect_image
from hailuo_async.contract import MAX_UPLOAD_BYTES, MAX_UPLOADS
from hailuo_async.errors import HailuoError, RequestRejectedError, ServiceError

logger = logging.getLogger("hailuo_async")

#: Images remembered; beyond that the one seen longest ago is forgotten.
MAX_REMEMBERED = 4096
#: Failed uploads after which an image is not tried again.
MAX_FAILURES = 3
#: Seconds for which an upload is named: a day less than the service keeps it (``contract.MAX_UPLOADS``), as a job that
#: names it may still wait for a slot.
NAMED_FOR_S = 6 * 86_400.0


@attrs.define(eq=False)
class _Seen:
    """An image that has come before, and its URL once it has one. The job that uploads it holds the lock."""

    lock: anyio.Lock = attrs.field(factory=anyio.Lock)
    url: str | None = None
    file_id: str | None = None
    named_until: float = math.inf
    failures: int = 0


@attrs.define(eq=False)
class SharedUploads:
    """The images of one stream."""

    _upload: Callable[[Frame], Awaitable[tuple[str, str | None]]]
    _delete: Callable[[str], Awaitable[None]]
    _files: dict[str, None] = attrs.field(factory=dict, init=False)
    """The ids of what was put on the service and is to be deleted."""
    _users: WeakSet[TrackedJob] = attrs.field(factory=WeakSet, init=False)
    """Jobs of the stream: until they end, the service may yet fetch what they name."""
    _uploading: int = attrs.field(default=0, init=False)
    _is_full: bool = attrs.field(default=False, init=False)
    _seen: OrderedDict[tuple[str, int], _Seen] = attrs.field(factory=OrderedDict, init=False)

    async def share(self, frames: Mapping[str, Frame]) -> dict[str, Frame]:
        """``frames``, with a URL for each image that has come before. They must have fingerprints."""
        return {field: await self._shared(field, frame) for field, frame in frames.items()}

    async def _shared(self, field: str, frame: Frame) -> Frame:
        if frame.is_url or frame.fingerprint is None or frame.size > MAX_UPLOAD_BYTES:
            return frame
        seen = self._recall(frame.fingerprint, frame.size)
        if seen is None:
            return frame
        async with seen.lock:
            if loop_time() > seen.named_until:  # the service deletes it by itself: jobs under way may need it till then
                self._files.pop(seen.file_id or "", None)
                seen.url = None
            if seen.url is None and seen.failures < MAX_FAILURES and not self._is_full:
                await self._put(seen, field, frame)
        return (
            frame if seen.url is None else attrs.evolve(inspect_image(field, seen.url), fingerprint=frame.fingerprint)
        )

    async def _put(self, seen: _Seen, field: str, frame: Frame) -> None:
        await anyio.lowlevel.checkpoint_if_cancelled()  # what freed the lock may have cancelled this job too
        try:
            if len(self._files) + self._uploading >= MAX_UPLOADS:
                self._give_up("a team may hold ten")
                return
            self._uploading += 1
            try:
                seen.url, seen.file_id = await self._upload(frame)
            finally:
                self._uploading -= 1
            seen.named_until = loop_time() + NAMED_FOR_S
            if seen.file_id is not None:
                self._files[seen.file_id] = None
        except RequestRejectedError as error:
            self._give_up(str(error))
        except ServiceError as error:
            seen.failures += 1
            message = "%s (%s) is sent with its job, as its upload failed: %s; share_uploads=False stops trying"
            logger.warning(message, field, frame.name, error)

    def _give_up(self, reason: str) -> None:
        """The service takes no more files. Said once; from here on images go with their jobs."""
        if self._is_full:
            return
        self._is_full = True
        logger.warning("no more images are shared, and each goes with its job: %s; delete_upload() makes room", reason)

    def hold(self, tracked: TrackedJob) -> None:
        """A job of the stream may name what is uploaded, until it has ended."""
        self._users.add(tracked)

    async def delete_all(self) -> None:
        """Takes what was put on the service off it again, when no job of the stream needs it any longer."""
        while live := [tracked for tracked in self._users if not tracked.status.is_final]:
            await live[0].ended()
        while self._files:
            file_id = next(iter(self._files))
            try:
                await self._delete(file_id)
            except HailuoError as error:
                logger.info("upload %s stays on the service for some days: %s", file_id, error)
            self._files.pop(file_id, None)  # not before: a reader that is cancelled leaves the rest to the engine

    def _recall(self, fingerprint: str, size: int) -> _Seen | None:
        """The entry of an image that has come before; ``None`` the first time."""
        image = (fingerprint, size)
        if image in self._seen:
            self._seen.move_to_end(image)
            return self._seen[image]
        self._seen[image] = _Seen()
        if len(self._seen) > MAX_REMEMBERED:
            self._seen.popitem(last=False)
        return None
