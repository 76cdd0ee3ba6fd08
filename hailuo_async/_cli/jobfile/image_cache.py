"""Looking at images beforehand: each of them once, however many jobs share it."""

from __future__ import annotations

import attrs

from hailuo_async._cli.problems import error_message
from hailuo_async._images.frame import Frame, inspect_image
from hailuo_async._images.source import ImageSource
from hailuo_async.errors import ImageError


@attrs.define
class ImageCache:
    """The images that were looked at, and what was seen. Of their bytes it holds none."""

    _seen: dict[tuple[ImageSource, bool, bool], Frame | str] = attrs.field(factory=dict, init=False)

    def look(self, source: ImageSource, *, fingerprint: bool, fit: bool) -> Frame | str:
        """What ``source`` is, or in words what is wrong with it. Blocks. A frame from here cannot be sent."""
        asked = (source, fingerprint, fit)
        if asked not in self._seen:
            self._seen[asked] = _look(source, fingerprint=fingerprint, fit=fit)
        return self._seen[asked]


def _look(source: ImageSource, *, fingerprint: bool, fit: bool) -> Frame | str:
    try:
        frame = inspect_image("image", source, fingerprint=fingerprint, fit=fit)
    except ImageError as error:
        return error_message(error)  # not the error itself: its traceback holds what was read
    return attrs.evolve(frame, content=None)
