"""Looks at the images of jobs, in threads, a few at a time."""

from __future__ import annotations

import functools
import logging

import anyio
import anyio.to_thread
import attrs

from hailuo_async._images.frame import Frame, inspect_image, url_frame
from hailuo_async._images.source import is_web_url
from hailuo_async.jobs import Job

logger = logging.getLogger("hailuo_async")

#: Images looked at at the same time. More threads than disks and cores do not help.
LOOKING_THREADS = 4
#: Images made to fit at the same time: the largest takes a gigabyte while it is decoded.
FITTING_THREADS = 1


@attrs.define(eq=False)
class Inspector:
    """Owns the bounds on the threads that look at images."""

    _looking: anyio.CapacityLimiter = attrs.field(factory=lambda: anyio.CapacityLimiter(LOOKING_THREADS), init=False)
    _fitting: anyio.CapacityLimiter = attrs.field(factory=lambda: anyio.CapacityLimiter(FITTING_THREADS), init=False)

    async def inspect(self, job: Job, *, fingerprint: bool) -> dict[str, Frame]:
        """What is sent for each image of ``job``; ``fingerprint`` if it must be known again. Raises ``ImageError``."""
        frames = {}
        for field, source in job.frames.items():
            if is_web_url(source):  # the job has checked its shape, and nothing is read of it
                frames[field] = url_frame(source, fingerprint=fingerprint)
                continue
            look = functools.partial(inspect_image, field, source, fingerprint=fingerprint, fit=job.fit)
            threads = self._fitting if job.fit else self._looking
            frames[field] = frame = await anyio.to_thread.run_sync(look, limiter=threads)
            if frame.changes:
                logger.info("%s (%s) was made to fit: %s", field, frame.name, "; ".join(frame.changes))
        return frames


def is_read(job: Job) -> bool:
    """Whether looking at its images reads any of them, which takes a thread."""
    return not all(map(is_web_url, job.frames.values()))
