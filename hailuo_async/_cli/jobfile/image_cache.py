"""Looks at the images of a list beforehand: at each file once, however many jobs share it."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache

import attrs

from hailuo_async._cli.problems import error_message
from hailuo_async._images.frame import Frame, inspect_image
from hailuo_async._images.source import ImageSource
from hailuo_async.errors import ImageError

#: So many frames are held, each of half a kilobyte.
_HELD = 100_000


@attrs.define(eq=False)
class ImageCache:
    """The files that were looked at, and their frames, without any of their bytes."""

    _look: Callable[..., Frame | str] = attrs.field(factory=lambda: lru_cache(_HELD)(_look), init=False)

    def look(self, source: ImageSource, *, fingerprint: bool, fit: bool) -> Frame | str:
        """The frame of ``source``, or its problem in words. Blocks. A frame from here cannot be sent."""
        look = _look if isinstance(source, str) else self._look  # a data URL may be long, and a URL is not fetched
        return look(source, fingerprint, fit)


def _look(source: ImageSource, fingerprint: bool, fit: bool) -> Frame | str:
    try:
        frame = inspect_image("image", source, fingerprint=fingerprint, fit=fit)
    except ImageError as error:
        return error_message(error)  # not the error itself: its traceback holds what was read
    return frame if frame.is_url else attrs.evolve(frame, content=None)
