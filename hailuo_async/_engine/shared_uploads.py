"""Images that several jobs of a stream share: put on the service once, and named by URL from then on.

Whether an image will be shared is not known when it first comes: a stream is pulled lazily. So its first job carries
it, and the second puts it on the service for itself and for all that follow. An upload is not charged for; one that
fails costs nothing but the saving, and its job carries the image itself. After a few of them it is not tried again, as
whoever needs the image waits for it.
"""

from __future__ import annotations

import logging
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Mapping

import anyio
import anyio.lowlevel
import attrs

from hailuo_async._images.frame import Frame, inspect_image
from hailuo_async.contract import MAX_UPLOAD_BYTES
from hailuo_async.errors import ServiceError

logger = logging.getLogger("hailuo_async")

#: Images remembered; of a stream over more, the one seen longest ago is forgotten.
MAX_REMEMBERED = 4096
#: Uploads of one image that may fail.
MOST_FAILURES = 3


@attrs.define(eq=False)
class _Seen:
    """An image that has come before, and its URL once it has one. The lock is held by whoever uploads it."""

    lock: anyio.Lock = attrs.field(factory=anyio.Lock)
    url: str | None = None
    failures: int = 0


@attrs.define(eq=False)
class SharedUploads:
    """The images of one stream."""

    _upload: Callable[[Frame], Awaitable[str]]
    _seen: OrderedDict[tuple[str, int], _Seen] = attrs.field(factory=OrderedDict, init=False)

    async def share(self, frames: Mapping[str, Frame]) -> dict[str, Frame]:
        """``frames``, with a URL for each image that has come before. They were looked at with their fingerprints."""
        return {field: await self._shared(field, frame) for field, frame in frames.items()}

    async def _shared(self, field: str, frame: Frame) -> Frame:
        if frame.is_url or frame.fingerprint is None or frame.size > MAX_UPLOAD_BYTES:
            return frame
        seen = self._recall(frame.fingerprint, frame.size)
        if seen is None:
            return frame
        async with seen.lock:
            if seen.url is None and seen.failures < MOST_FAILURES:
                await self._put(seen, field, frame)
        return (
            frame if seen.url is None else attrs.evolve(inspect_image(field, seen.url), fingerprint=frame.fingerprint)
        )

    async def _put(self, seen: _Seen, field: str, frame: Frame) -> None:
        await anyio.lowlevel.checkpoint_if_cancelled()  # as whoever held the lock before may have been
        try:
            seen.url = await self._upload(frame)
        except ServiceError as error:
            seen.failures += 1
            words = "%s (%s) goes with its job, as its upload failed: %s; share_uploads=False stops trying"
            logger.warning(words, field, frame.name, error)

    def _recall(self, fingerprint: str, size: int) -> _Seen | None:
        """What is known of an image that has come before; ``None`` the first time."""
        image = (fingerprint, size)
        if image in self._seen:
            self._seen.move_to_end(image)
            return self._seen[image]
        self._seen[image] = _Seen()
        if len(self._seen) > MAX_REMEMBERED:
            self._seen.popitem(last=False)
        return None
