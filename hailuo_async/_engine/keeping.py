"""Whole jobs in the journal: written when they are submitted, read while they are sent, taken over from dead sessions.

A kept job waits on disk. In memory stay its request, which reads the images from the journal in pieces while it is
sent, and the job without its pictures. Sessions that keep jobs take over the jobs that no living session holds, the
oldest first; a session that does not keep jobs sends only its own callers' jobs.
"""

from __future__ import annotations

import copy
import functools
import hashlib
import logging
import sys
from collections.abc import Awaitable, Callable, Mapping
from typing import TYPE_CHECKING
from weakref import WeakValueDictionary

import anyio
import anyio.to_thread
import attrs

from hailuo_async._engine.clock import loop_time, wall_clock
from hailuo_async._engine.recording import Recorder
from hailuo_async._engine.tracked_job import TrackedJob, TryClaim
from hailuo_async._images.frame import Frame, stored_frame, url_frame
from hailuo_async._io.journal.kept import KeptBounds, KeptClaim, KeptImage, KeptJob
from hailuo_async._io.journal.records import Claim, Intent, JournalState
from hailuo_async._rules.wire import Request, build_kept_submit
from hailuo_async.errors import (
    AuthenticationError,
    HailuoError,
    InsufficientBalanceError,
    JobError,
    JournalError,
    SpendingLimitError,
)
from hailuo_async.jobs import Job

if TYPE_CHECKING:
    from hailuo_async._io.journal.writer import JournalWriter

logger = logging.getLogger("hailuo_async")

#: Errors after which a session takes over no jobs for a while: another session may have another key, or more to spend.
_ENDS_TAKING = (AuthenticationError, InsufficientBalanceError, SpendingLimitError)
#: Jobs that are written at the same time: each commit holds so many images at most.
WRITING = 4
#: Seconds between two searches for jobs that others have left.
TAKE_EVERY_S = 3.0
#: Seconds until it tries a single one of them again: the balance may have been topped up.
PAUSE_S = 60.0
#: Jobs taken over, and held, at a time: so the other open sessions get their share.
TAKEN_AT_ONCE = 16
#: Searches between two removals of leftovers.
_TIDY_EVERY = 10


@attrs.frozen
class PictureLeft:
    """Replaces, in a job, a picture that is in the journal and no longer in memory."""

    sha256: str
    size: int


@attrs.define(eq=False)
class Keeper:
    """Keeps the jobs of a session with ``keep_jobs``."""

    _journal: JournalWriter
    _recorder: Recorder
    _bounds: KeptBounds
    _webhook_url: str | None = None
    on_taken: Callable[[KeptClaim], None] = attrs.field(default=lambda _: None, init=False)
    """Given each job that was taken over."""
    _writing: anyio.CapacityLimiter = attrs.field(factory=lambda: anyio.CapacityLimiter(WRITING), init=False)
    _keeping: WeakValueDictionary[str, anyio.Lock] = attrs.field(factory=WeakValueDictionary, init=False)
    """One lock per job being written. A cancelled caller's write is undone before the next caller begins."""
    _paused_until: float | None = attrs.field(default=None, init=False)
    """The loop time from which one job is tried, after an error that every other job would meet."""
    _has_logged_pause: bool = attrs.field(default=False, init=False)
    _has_warned: bool = attrs.field(default=False, init=False)
    _has_logged: bool = attrs.field(default=False, init=False)

    # --- What is submitted ---

    async def describe(self, job: Job, frames: Mapping[str, Frame], *, is_single: bool) -> KeptJob:
        """The content of a job for the journal. A fitted image is read for it, in a thread."""
        asked_at = wall_clock() if is_single else None  # a job of a stream does not stand in the line by itself
        images = {field: await _image(frame) for field, frame in frames.items()}
        return KeptJob(job.target.path, job.options, images, asked_at)

    async def keep(self, intent: Intent, kept: KeptJob, frames: Mapping[str, Frame], *, is_bounded: bool) -> Claim:
        """Writes all of a job into the journal, if it is ours to send, and returns its record with the claim.

        ``is_bounded``: raises ``QueueFullError`` if as many wait in the journal as may. Cancelled, it is not taken.
        Raises ``ImageError`` for an image that cannot be read to its end, ``JournalError`` and ``JobError``.
        """
        pieces = {image.sha256: frames[field].raw_pieces for field, image in kept.images.items()}
        bounds = self._bounds if is_bounded else attrs.evolve(self._bounds, max_queued=sys.maxsize)
        began_at = loop_time()
        async with self._keeping.setdefault(intent.identity, anyio.Lock()), self._writing:
            return await self._journal.keep(intent, kept, pieces, bounds, loop_time() - began_at)

    def build_request(self, kept: KeptJob) -> Request:
        """The POST for a kept job, whose images are read from the journal while they are sent."""
        frames = {
            field: url_frame(image.url)
            if image.url is not None
            else stored_frame(
                field, image.mime, image.size, image.sha256, functools.partial(self._journal.read_piece, image.sha256)
            )
            for field, image in kept.images.items()
        }
        return build_kept_submit(kept.path, kept.options, frames, self._webhook_url)

    def use_kept(self, tracked: TrackedJob, kept: KeptJob, try_claim: TryClaim) -> None:
        """Has a job sent from what the journal keeps, without its pictures in memory, and claimed by ``try_claim``."""
        tracked.try_claim = try_claim
        tracked.request, tracked.is_kept = self.build_request(kept), True
        tracked.is_heavy = tracked.request.is_heavy
        tracked.job = None if tracked.job is None else without_pictures(tracked.job, kept)

    def end_nowait(self, tracked: TrackedJob, identity: str) -> bool:
        """Notes that a job has ended. Removes it if it was not sent and no caller wants it any more: whether it did."""
        if isinstance(tracked.error, _ENDS_TAKING):
            self._pause(tracked.error)
        elif tracked.task_id is not None:
            self._has_logged_pause = False
        is_dropped = tracked.is_kept and tracked.is_dropped and tracked.task_id is None
        if is_dropped:
            self.drop_nowait(identity)
        return is_dropped

    def drop_nowait(self, identity: str) -> None:
        """Removes a job that no caller wants, and that was not sent."""
        self._journal.drop_nowait(identity)

    async def holds_back(self, identity: str) -> bool:
        """Whether a job that is kept waits, as the service would refuse each of them: looking at it must not send it.

        One that is not kept is never sent, so no caller may wait for that. Raises ``JournalError``.
        """
        return self._is_paused and await self._journal.keeps(identity)

    @property
    def _is_paused(self) -> bool:
        return self._paused_until is not None and loop_time() < self._paused_until

    def _pause(self, error: HailuoError) -> None:
        self._paused_until = loop_time() + PAUSE_S
        if not self._has_logged_pause:
            self._has_logged_pause = True
            logger.warning("kept jobs wait in the journal: %s; one of them is tried every %g s", error, PAUSE_S)

    # --- What others have left ---

    async def run(self, count_waiting: Callable[[], int]) -> None:
        """Takes over jobs that no living session holds, while few jobs wait in this one, until it is cancelled.

        A stream counts as one: it always has some that wait, and would keep this session from taking any.
        """
        searches = 0
        while True:
            await self._attempt(functools.partial(self._take_over, count_waiting))
            if searches % _TIDY_EVERY == 0:
                await self._attempt(self._tidy)
            searches += 1
            await anyio.sleep(TAKE_EVERY_S)

    async def take(self, limit: int, identity: str | None = None) -> list[KeptClaim]:
        """Takes over kept jobs that no living session holds, the oldest first, or the job of that identity.

        One that cannot be sent as it is kept ends here, unpaid. Raises ``JournalError``.
        """
        claims = await self._journal.take_kept(limit, identity)
        return [claim for claim in claims if self._can_be_sent(claim)]

    def _can_be_sent(self, claim: KeptClaim) -> bool:
        """Whether a request can be made of a kept job. If not, the job is refused, and the others go on."""
        try:
            self.build_request(claim.job)
        except Exception as error:  # another version may have kept it, or the disk may have damaged it
            name = claim.record.identity
            refusal = JobError(field="job", value=name, rule=f"must be sent as it was kept: give it again ({error})")
            logger.warning("%s", refusal)
            self._journal.note_nowait(self._journal.jobs.refused, name, refusal)
            return False
        return True

    async def take_one(self, identity: str) -> bool:
        """Takes over the job of that identity, if no living session holds it: whether it did. ``JournalError``."""
        claims = await self.take(1, identity)
        for claim in claims:
            self.on_taken(claim)
        return bool(claims)

    async def try_claim(self, identity: str) -> Claim | None:
        """The record of a job of another session; ``None`` if that has gone, and this session took the job over."""
        try:
            return await self._recorder.try_claim(identity)
        except JournalError as error:
            if error.is_outage:
                raise
        if await self.holds_back(identity):
            return await self._recorder.find(identity)
        if await self.take_one(identity):
            return None
        return await self._recorder.try_claim(identity)  # another was quicker

    async def _take_over(self, count_waiting: Callable[[], int]) -> None:
        if self._is_paused:
            return
        at_once = TAKEN_AT_ONCE if self._paused_until is None else 1
        self._paused_until = None
        while self._paused_until is None and (room := at_once - count_waiting()) > 0:
            claims = await self.take(room)
            for claim in claims:
                self.on_taken(claim)
            if at_once == 1 or len(claims) < room:
                return

    async def _tidy(self) -> None:
        left = await self._journal.tidy_kept()
        if left and not self._has_warned:
            self._has_warned = True
            logger.warning("%d jobs in the journal were kept by a newer version of this library: upgrade to send", left)

    async def _attempt(self, work: Callable[[], Awaitable[None]]) -> None:
        try:
            await work()
        except JournalError as error:
            logger.warning("%s; what other sessions left is taken over later", error)
        except Exception:  # trouble with the jobs of others must not end this session's own
            if not self._has_logged:
                self._has_logged = True
                logger.exception("a bug in the taking over of jobs, which is tried again: please report this")


async def prepare(
    recorder: Recorder, keeper: Keeper | None, intent: Intent, job: Job, frames: Mapping[str, Frame], *, is_single: bool
) -> tuple[KeptJob | None, TryClaim]:
    """What is to be kept of a job, if there is a keeper; and how it is claimed in the journal."""
    if keeper is None:
        return None, functools.partial(recorder.intend, intent)
    kept = await keeper.describe(job, frames, is_single=is_single)
    return kept, functools.partial(keeper.keep, intent, kept, frames, is_bounded=is_single)


def without_pictures(job: Job, kept: KeptJob) -> Job:
    """``job`` without what lies in memory of its images: that is in the journal."""
    left = copy.copy(job)
    for field, image in kept.images.items():
        if image.url is None:
            object.__setattr__(left, field, PictureLeft(image.sha256, image.size))
    return left


def is_sent_from_here(claim: Claim | None) -> bool:
    """Whether the job of a claim is ours to send, and so is kept."""
    return claim is not None and claim.ours and claim.record.state is JournalState.INTENDED


async def _image(frame: Frame) -> KeptImage:
    if frame.url is not None:
        return KeptImage(url=frame.url)
    sha256 = frame.fingerprint
    if sha256 is None or frame.changes:  # the fingerprint is of what was given, not of what is sent
        sha256 = await anyio.to_thread.run_sync(_digest, frame)
    return KeptImage(sha256=sha256, mime=frame.mime or "", size=frame.size)


def _digest(frame: Frame) -> str:
    digest = hashlib.sha256()
    for piece in frame.raw_pieces():
        digest.update(piece)
    return digest.hexdigest()
