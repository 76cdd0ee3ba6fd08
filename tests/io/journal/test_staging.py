"""A job whose images are on their way into the journal: read outside of any transaction, there whole or not at all."""

from __future__ import annotations

import asyncio
import gc
import hashlib
import threading
import time
import weakref
from collections.abc import AsyncIterator, Generator

import pytest
from anyio import to_thread

from hailuo_async._io.journal import staging
from hailuo_async._io.journal.commits import Work
from hailuo_async._io.journal.kept import KeptBounds, KeptImage, KeptJob, Pieces
from hailuo_async._io.journal.kept_table import KeptTable
from hailuo_async._io.journal.records import Claim, JournalState
from hailuo_async._io.journal.staging import Staging
from hailuo_async._io.journal.table import JobTable
from hailuo_async._io.journal.writer import JournalWriter
from hailuo_async.contract import DEFAULT_BASE_URL
from hailuo_async.errors import ImageError, QueueFullError
from hailuo_async.settings import JournalLocation

from ...support.tables import intent

pytestmark = pytest.mark.anyio

SMALL, LARGE = b"s" * 90, b"l" * 500
BOUNDS = KeptBounds(max_queued=10, max_kept_bytes=10_000)


@pytest.fixture(autouse=True)
def sizes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Images of more than 100 bytes are large, and their pieces are written two at a time."""
    monkeypatch.setattr(staging, "HELD_BYTES", 100)
    monkeypatch.setattr(staging, "PIECES_AT_ONCE", 2)


@pytest.fixture
async def journal(place: JournalLocation) -> AsyncIterator[JournalWriter]:
    writer = await JournalWriter.open(place, base_url=DEFAULT_BASE_URL, now=time.time)
    yield writer
    await writer.aclose()


class Picture:
    """An image that is read in pieces of 60 bytes, and may be held up before its last one."""

    def __init__(self, content: bytes, cut: int = 0) -> None:
        self.content = content
        self.sha256 = hashlib.sha256(content).hexdigest()
        self.reads = 0
        self._closed = threading.Event()
        self._cut = cut
        self._reached, self._open = threading.Event(), threading.Event()
        self._open.set()

    def pieces(self) -> Generator[bytes]:
        self.reads += 1
        read = self.content[: len(self.content) - self._cut]
        try:
            for start in range(0, len(read), 60):
                if start + 60 >= len(read):
                    self._reached.set()
                    self._open.wait(60)
                yield read[start : start + 60]
        finally:
            self._closed.set()

    def hold(self) -> None:
        self._open.clear()

    async def reached(self) -> None:
        await to_thread.run_sync(self._reached.wait, 60)

    async def closed(self) -> None:
        assert await to_thread.run_sync(self._closed.wait, 60)

    def let_go(self) -> None:
        self._open.set()


async def keep(journal: JournalWriter, *pictures: Picture, key: str = "cat", bounds: KeptBounds = BOUNDS) -> Claim:
    images = {
        f"image {number}": KeptImage(sha256=picture.sha256, mime="image/png", size=len(picture.content))
        for number, picture in enumerate(pictures)
    }
    pieces: dict[str, Pieces] = {picture.sha256: picture.pieces for picture in pictures}
    return await journal.keep(intent(key), KeptJob("/path", {}, images), pieces, bounds)


async def stored(journal: JournalWriter, picture: Picture) -> bytes:
    """What the journal has of it."""

    def read(table: JobTable) -> bytes:
        return b"".join(KeptTable(table).piece(picture.sha256, number) for number in range(20))

    found: bytes = await journal._commits.put(read)
    return found


async def rows_left(journal: JournalWriter) -> list[int]:
    """How many rows the tables of images have."""

    def count(table: JobTable) -> list[int]:
        names = ("piece", "picture", "need")
        return [table.database.execute(f"SELECT count(*) AS rows FROM {name}").fetchone()["rows"] for name in names]

    found: list[int] = await journal._commits.put(count)
    return found


async def test_images_small_and_large_come_back_as_they_were(journal: JournalWriter) -> None:
    small, large = Picture(SMALL), Picture(LARGE)
    claim = await keep(journal, small, large)
    assert (claim.ours, claim.record.state) == (True, JournalState.INTENDED)
    assert (await stored(journal, small), await stored(journal, large)) == (SMALL, LARGE)
    await small.closed()
    await large.closed()
    journal.drop_nowait("cat")
    assert await rows_left(journal) == [0, 0, 0]


@pytest.mark.parametrize(("content", "freed"), [(SMALL, 0), (LARGE, 1)], ids=["small", "large"])
async def test_only_a_job_whose_image_was_staged_frees_a_stage(
    journal: JournalWriter, content: bytes, freed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    stages: list[str] = []
    monkeypatch.setattr(JobTable, "free_kept", lambda table, identity: stages.append(identity))
    await keep(journal, Picture(content))
    assert len(stages) == freed


@pytest.mark.parametrize("content", [SMALL, LARGE], ids=["small", "large"])
async def test_a_slow_disk_holds_up_no_other_write_and_no_other_session(
    journal: JournalWriter, place: JournalLocation, content: bytes
) -> None:
    picture = Picture(content)
    picture.hold()
    keeping = asyncio.ensure_future(keep(journal, picture))
    await picture.reached()
    other = await JournalWriter.open(place, base_url=DEFAULT_BASE_URL, now=time.time)
    for each, key in ((journal, "dog"), (other, "cow")):
        async with asyncio.timeout(60):
            assert (await each.intend(intent(key))).ours
    assert await other.ask(other.jobs.find, "cat") is None
    picture.let_go()
    assert (await keeping).ours
    await other.aclose()


@pytest.mark.parametrize("content", [SMALL, LARGE], ids=["small", "large"])
async def test_an_image_that_cannot_be_read_to_its_end_leaves_nothing(journal: JournalWriter, content: bytes) -> None:
    with pytest.raises(ImageError, match="must not change between the check and the keeping"):
        await keep(journal, Picture(content, cut=1))
    assert await journal.ask(journal.jobs.find, "cat") is None
    assert await rows_left(journal) == [0, 0, 0]
    assert (await keep(journal, Picture(content))).ours


async def test_a_caller_that_leaves_while_an_image_is_read_leaves_nothing(journal: JournalWriter) -> None:
    picture = Picture(LARGE)
    picture.hold()
    keeping = asyncio.ensure_future(keep(journal, picture))
    await picture.reached()
    keeping.cancel()
    picture.let_go()
    await asyncio.wait([keeping])
    await picture.closed()
    assert await rows_left(journal) == [0, 0, 0]


@pytest.mark.parametrize("is_known", [False, True])
async def test_a_caller_that_leaves_takes_back_the_job_unless_another_had_left_it_there(
    journal: JournalWriter, is_known: bool
) -> None:
    async def ask_and_leave(work: Work, undo: Work) -> object:
        for each in (work, work, undo):  # the answer to the first commit was lost
            await journal._commits.put(each)
        raise asyncio.CancelledError

    if is_known:
        await keep(journal, Picture(SMALL))
        journal.note_nowait(journal.jobs.release, "cat")
    picture = Picture(SMALL)
    kept = KeptJob("/a", {}, {"image": KeptImage(sha256=picture.sha256, mime="image/png", size=len(SMALL))})
    leaving = Staging(ask_and_leave, journal._note_nowait, "stage", "batch.db")
    with pytest.raises(asyncio.CancelledError):
        await leaving.keep(intent(), kept, {picture.sha256: picture.pieces}, BOUNDS)
    record = await journal.ask(journal.jobs.find, "cat")
    assert (record is not None, record and record.holder) == (is_known, None)
    assert await rows_left(journal) == ([2, 1, 1] if is_known else [0, 0, 0])


async def test_a_large_image_that_is_there_already_is_not_read_again(journal: JournalWriter) -> None:
    picture = Picture(LARGE)
    await keep(journal, picture)
    await keep(journal, picture)
    await keep(journal, picture, key="dog")
    assert picture.reads == 1
    journal.drop_nowait("cat")
    assert await stored(journal, picture) == LARGE


async def test_two_jobs_that_bring_the_same_large_image_at_once_share_it(journal: JournalWriter) -> None:
    one, other = Picture(LARGE), Picture(LARGE)
    one.hold()
    keeping = asyncio.ensure_future(keep(journal, one))
    await one.reached()
    assert (await keep(journal, other, key="dog")).ours
    journal.drop_nowait("dog")
    one.let_go()
    assert (await keeping).ours
    assert await stored(journal, one) == LARGE


async def test_there_is_no_room_for_what_is_staged_beyond_the_bounds(journal: JournalWriter) -> None:
    with pytest.raises(QueueFullError, match="499 bytes"):
        await keep(journal, Picture(LARGE), bounds=KeptBounds(max_queued=10, max_kept_bytes=499))
    await keep(journal, Picture(SMALL), key="dog")
    with pytest.raises(QueueFullError, match="1 jobs wait already"):
        await keep(journal, Picture(LARGE), bounds=KeptBounds(max_queued=1, max_kept_bytes=10_000))
    journal.drop_nowait("dog")
    assert await rows_left(journal) == [0, 0, 0]


async def test_what_was_given_is_let_go_of_at_once_and_not_by_the_next_collection(journal: JournalWriter) -> None:
    picture = Picture(LARGE)
    watched = weakref.ref(picture)
    gc.disable()
    try:
        await keep(journal, picture)
        del picture
        await journal.renew()  # a later commit: nothing waits for the last one any more
        assert watched() is None
    finally:
        gc.enable()
