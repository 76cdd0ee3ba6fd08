"""A job on its way into the journal with its images. No image is read inside a transaction.

A slow disk would hold up every session that shares the file, and a server takes back a transaction that stands still.
So images are read in worker threads. One of up to ``HELD_BYTES`` is in memory until the transaction that makes the job
visible. A larger one is first written under the name of a stage, a few pieces at a time; that transaction, the last,
then hands it over to the job. What a crash leaves of a stage is freed when its time is over (``KeptTable.tidy``).
"""

from __future__ import annotations

import contextlib
import functools
import itertools
import threading
from collections.abc import Awaitable, Callable, Generator, Mapping, Sequence
from typing import Any, TypeAlias

import anyio.to_thread
import attrs

from hailuo_async._io.journal.commits import Work
from hailuo_async._io.journal.kept import KeptBounds, KeptImage, KeptJob, Pieces
from hailuo_async._io.journal.kept_table import Images, KeptTable, Unstaged
from hailuo_async._io.journal.records import Claim, Intent
from hailuo_async._io.journal.table import JobTable
from hailuo_async.errors import ImageError, JournalError

#: An image of so many bytes or fewer goes in with its job. Of a larger one, so many pieces are in memory at a time.
HELD_BYTES, PIECES_AT_ONCE = 1 << 20, 10
#: How often a job is tried again if other sessions take out of the journal what it has staged.
_TRIES = 3

AskOrUndo: TypeAlias = Callable[[Work, Work], Awaitable[Any]]
"""Gives what a work answers; the other work undoes it if the caller is cancelled."""


@attrs.define(eq=False)
class _Reading:
    """An image that is read in batches of pieces, on one thread or another."""

    _pieces: Generator[bytes]
    _busy: threading.Lock = attrs.field(factory=threading.Lock, init=False)
    _is_ended: bool = attrs.field(default=False, init=False)

    def next_batch(self) -> Sequence[bytes]:
        """The next pieces; none at the end. Blocks."""
        with self._busy:
            batch = () if self._is_ended else tuple(itertools.islice(self._pieces, PIECES_AT_ONCE))
            if self._is_ended:  # its caller has left meanwhile
                self._pieces.close()
            return batch

    def end(self) -> None:
        """Closes it: at once, or, if its caller was cancelled while it is read, when that is over. Does not wait."""
        self._is_ended = True
        if self._busy.acquire(blocking=False):
            try:
                self._pieces.close()
            finally:
                self._busy.release()


@attrs.define(eq=False)
class Staging:
    """One job that is to be kept."""

    _ask: AskOrUndo
    _note: Callable[[Work], object]
    """Requests a write that is made even if the caller is cancelled. Does not wait."""
    _stage: str
    """Its name among those that need images. No other stage, and no job, has it."""
    _path: str
    """Where the journal lies, for error messages."""
    _is_new: bool = attrs.field(default=False, init=False)
    """Whether the job was not kept before."""
    _has_begun: bool = attrs.field(default=False, init=False)
    """Whether anything may be there under the name of the stage."""
    _written: list[tuple[str, int]] = attrs.field(factory=list, init=False)
    """The pieces that were written for the stage, by SHA-256 and number."""

    async def keep(self, intent: Intent, job: KeptJob, pieces: Mapping[str, Pieces], bounds: KeptBounds) -> Claim:
        """Keeps the job, as ``JournalWriter.keep`` says."""
        held = {
            sha256: await anyio.to_thread.run_sync(_read, image, pieces[sha256])
            for sha256, image in job.digests.items()
            if image.size <= HELD_BYTES
        }
        work = functools.partial(self._keep, intent, job, held, bounds)
        undo = functools.partial(self._undo, intent.identity)
        large = [image for image in job.digests.values() if image.sha256 not in held]
        try:
            for _ in range(_TRIES):
                claim: Claim | None = await self._ask(work, undo)
                if claim is not None:
                    return claim
                with contextlib.suppress(Unstaged):
                    await self._fill(large, pieces, bounds)
        except BaseException as error:
            self._take_back(is_spoilt=isinstance(error, ImageError))
            raise
        self._take_back(is_spoilt=False)
        raise JournalError(path=self._path, reason="what was written of an image was removed: give the job again")

    def _keep(self, intent: Intent, job: KeptJob, held: Images, bounds: KeptBounds, table: JobTable) -> Claim | None:
        kept = KeptTable(table)
        with contextlib.suppress(Unstaged):
            claim = kept.keep(intent, job, held, bounds, self._stage if self._has_begun else "")
            self._is_new = self._is_new or kept.has_stored  # the answer to the first commit may have been lost
            return claim
        return None  # an exception would hold the caller's images by its traceback, until the next collection

    def _undo(self, identity: str, table: JobTable) -> None:
        if self._is_new:
            KeptTable(table).drop(identity)
        else:
            table.release(identity)

    async def _fill(self, images: Sequence[KeptImage], pieces: Mapping[str, Pieces], bounds: KeptBounds) -> None:
        """Writes those images that no other session has written."""
        for image in images:
            self._has_begun = True
            if await self._ask(self._stage_for(image, bounds), _nothing):
                await self._copy(image, pieces[image.sha256])

    async def _copy(self, image: KeptImage, pieces: Pieces) -> None:
        reading, first, size = _Reading(pieces()), 0, 0
        try:
            while batch := await anyio.to_thread.run_sync(reading.next_batch):
                new = await self._ask(self._put(image, first, batch), _nothing)
                self._written += [(image.sha256, number) for number in new]
                first, size = first + len(batch), size + sum(map(len, batch))
        finally:
            reading.end()
        _check_size(image, size)

    def _stage_for(self, image: KeptImage, bounds: KeptBounds) -> Work:
        return lambda table: KeptTable(table).stage(self._stage, image, bounds)

    def _put(self, image: KeptImage, first: int, batch: Sequence[bytes]) -> Work:
        return lambda table: KeptTable(table).put(self._stage, image.sha256, first, batch)

    def _take_back(self, *, is_spoilt: bool) -> None:
        """Takes back what was staged. ``is_spoilt``: the pieces are not those of the image."""
        written = tuple(self._written) if is_spoilt else ()
        if self._has_begun:
            self._note(lambda table: KeptTable(table).unstage(self._stage, written))


def _nothing(table: JobTable) -> None:
    """What is staged is taken back as a whole."""


def _read(image: KeptImage, pieces: Pieces) -> Sequence[bytes]:
    read = tuple(pieces())
    _check_size(image, sum(map(len, read)))
    return read


def _check_size(image: KeptImage, size: int) -> None:
    if size != image.size:
        rule = "must not change between the check and the keeping"
        raise ImageError(field="image", image=image.sha256, value=f"{size} bytes of {image.size}", rule=rule)
