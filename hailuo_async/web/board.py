"""All jobs of a journal as the page shows them, kept current while a viewer is connected.

The journal is read whole at first, and again when the counts of its states have changed, as another process may work on
it. The hooks report what this session does: then only that job is read again. Each change has a revision, and a viewer
gets the changes after the last revision that it saw.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import re
from collections.abc import AsyncGenerator
from decimal import Decimal
from typing import Any

import anyio.to_thread
import attrs

from hailuo_async._io.journal.reader import Journal
from hailuo_async._io.journal.records import JournalState, Record
from hailuo_async.errors import JournalError
from hailuo_async.hooks import Ended, JobEvent, SessionEvent
from hailuo_async.session import AsyncSession
from hailuo_async.settings import JournalLocation
from hailuo_async.web.line import Line
from hailuo_async.web.pictures import Pictures

_logger = logging.getLogger("hailuo_async")

#: How often the journal is looked at while a viewer is connected, and how soon after an event of this session.
_LOOK_S, _SOON_S = 1.0, 0.15
#: So many changed jobs are read one by one; of more the whole journal.
_FEW = 20
#: Places further back are not told: each job that leaves the line would change all of them.
_TOLD_PLACES = 30
#: A stream that is silent for so long says that it lives.
_HEARTBEAT_S = 15.0
_MADE_ID = re.compile(r"[0-9a-f]{32}")

_STATUS = {
    JournalState.INTENDED: "queued",
    JournalState.SENDING: "sending",
    JournalState.ACCEPTED: "processing",
    JournalState.SUCCESS: "success",
    JournalState.FAILED: "failed",
    JournalState.REFUSED: "refused",
    JournalState.UNKNOWN: "unknown",
}


@attrs.define(eq=False)
class Board:
    """What the page shows, for any number of viewers."""

    session: AsyncSession
    journal: JournalLocation
    line: Line
    pictures: Pictures
    _jobs: dict[str, dict[str, Any]] = attrs.field(factory=dict, init=False)
    _changed_at: dict[str, int] = attrs.field(factory=dict, init=False)
    _counts: dict[JournalState, int] = attrs.field(factory=dict, init=False)
    _spent: Decimal = attrs.field(factory=Decimal, init=False)
    _revision: int = attrs.field(default=0, init=False)
    _removed_at: int = attrs.field(default=0, init=False)
    _said: dict[str, str] = attrs.field(factory=dict, init=False)
    """Why this session gave up a job that another may still send, with another key for instance."""
    _dirty: set[str] = attrs.field(factory=set, init=False)
    _wake: asyncio.Event = attrs.field(factory=asyncio.Event, init=False)
    _news: asyncio.Event = attrs.field(factory=asyncio.Event, init=False)
    _looking: asyncio.Lock = attrs.field(factory=asyncio.Lock, init=False)
    """What was read first is shown first."""
    _is_unread: bool = attrs.field(default=False, init=False)
    """Whether the last look could not read the journal."""
    _viewers: int = attrs.field(default=0, init=False)
    _is_stopped: bool = attrs.field(default=False, init=False)

    def hear(self, event: SessionEvent) -> None:
        if isinstance(event, JobEvent) and event.key is not None:
            if isinstance(event, Ended) and event.error is not None:
                self._said[event.key] = str(event.error)
            self.touch(event.key)

    def touch(self, id: str) -> None:
        self._dirty.add(id)
        self._wake.set()

    def stop(self) -> None:
        """Ends all streams: the server stops."""
        self._is_stopped = True
        self._tell()

    async def run(self) -> None:
        """Keeps up with the journal while there are viewers, until it is cancelled."""
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_LOOK_S if self._viewers else None):
                    await self._wake.wait()
                await asyncio.sleep(_SOON_S)  # what happens together is read together
            self._wake.clear()
            if self._viewers:
                await self._look()

    async def news(self) -> AsyncGenerator[dict[str, Any] | None]:
        """A snapshot, and then what changes; ``None`` where nothing does for a while."""
        self._viewers += 1
        self._wake.set()
        try:
            await self._look()
            seen, stats, silent_until, clock = -1, None, 0.0, asyncio.get_running_loop().time
            while not self._is_stopped:
                news, revision = self._news, self._revision  # both may move on while this is being sent
                is_snapshot = seen < self._removed_at
                jobs = [job for id, job in self._jobs.items() if is_snapshot or self._changed_at[id] > seen]
                now = self._stats()
                is_change = bool(jobs) or is_snapshot or now != stats
                seen, stats = revision, now
                if is_change or clock() >= silent_until:
                    silent_until = clock() + _HEARTBEAT_S
                    yield {"is_snapshot": is_snapshot, "jobs": jobs, "stats": now} if is_change else None
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout_at(silent_until):
                        await news.wait()
        finally:
            self._viewers -= 1

    def record(self, id: str) -> Record | None:
        """What the journal knows of a job. Blocks."""
        with Journal.open(self.journal) as journal:
            named = next(journal.records(key=id), None)
            return named or next((record for record in journal.records() if record.identity == id), None)

    # --- Reading ---

    async def _look(self) -> None:
        async with self._looking:
            dirty, self._dirty = self._dirty, set()
            try:
                records, counts, is_whole, spent = await anyio.to_thread.run_sync(self._read, dirty)
            except JournalError as error:
                if not self._is_unread:
                    _logger.warning("%s; the page shows what was known before", error)
                self._is_unread = True
                self._dirty |= dirty
                return
            self._counts, self._spent, self._is_unread = counts, spent, False
            self._revision += 1
            self._take(records, is_whole=is_whole)
            self._tell()

    def _read(self, dirty: set[str]) -> tuple[list[Record], dict[JournalState, int], bool, Decimal]:
        """The records that may have changed, the counts of states, whether these are all records, and what was paid.

        Blocks.
        """
        with Journal.open(self.journal) as journal:
            counts, spent = journal.count(), journal.spent()
            if counts == self._counts and len(dirty) <= _FEW:
                return [record for id in dirty for record in journal.records(key=id)], counts, False, spent
            return list(journal.records()), counts, True, spent

    def _take(self, records: list[Record], *, is_whole: bool) -> None:
        orders = {id: job["order"] for id, job in self._jobs.items()}
        for record in records:
            id = record.key or record.identity
            order = orders.setdefault(id, len(orders))
            job = self._describe(id, order, record)
            if _lasting(job) != _lasting(self._jobs.get(id)):
                self._jobs[id], self._changed_at[id] = job, self._revision
        if is_whole:
            there = {record.key or record.identity for record in records}
            for id in self._jobs.keys() - there:
                del self._jobs[id], self._changed_at[id]
                self._removed_at = self._revision

    def _describe(self, id: str, order: int, record: Record) -> dict[str, Any]:
        status = self._status(id, record)
        is_moving = status in ("queued", "sending", "processing")
        duration = record.facts.get("duration", 6)
        left = self.line.seconds_left(id, record.model, duration, self.session.stats()) if is_moving else None
        place = self.line.place(id) if is_moving else None
        has_picture = self.pictures.has(id)
        return {
            "id": id,
            "name": id[:80],
            "named": not _MADE_ID.fullmatch(id),
            "order": order,
            "status": status,
            "prompt": record.prompt,
            "model": record.model,
            "duration": duration,
            "resolution": record.facts.get("resolution"),
            "cost": str(record.spent) if record.spent else None,
            "error": self._said.get(id) if record.error is None else str(record.error),
            "sent_at": record.sent_at,
            "ended_at": record.ended_at,
            "place": place if place is not None and place <= _TOLD_PLACES else None,
            "seconds_left": None if left is None else round(left),
            "has_picture": has_picture,
            "can_retry": has_picture and status in ("failed", "refused", "success"),
            "can_resubmit": has_picture,
        }

    def _status(self, id: str, record: Record) -> str:
        if record.state is JournalState.INTENDED and not self.line.knows(id):
            return "unsent" if record.holder is None or id in self._said else "queued"
        if record.state not in (JournalState.INTENDED, JournalState.ACCEPTED) and id not in self._dirty:
            self._said.pop(id, None)  # what the hooks have reported may be newer than a record that is to be read again
        return _STATUS[record.state]

    def _stats(self) -> dict[str, Any]:
        stats = self.session.stats()
        spent = str(self._spent) if self._spent else None
        return {"running": stats.running, "limit": stats.limit, "queued": stats.queued, "spent": spent}

    def _tell(self) -> None:
        self._news.set()
        self._news = asyncio.Event()


def _lasting(job: dict[str, Any] | None) -> dict[str, Any] | None:
    """``job`` without what passes by itself."""
    return None if job is None else {**job, "seconds_left": None}
