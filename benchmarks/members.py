"""A session in a process of its own, as a life has it: its line to the service, its journal, and its settings."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from decimal import Decimal
from random import Random
from typing import Any, Self

import attrs

from benchmarks.books import Books, Payer
from benchmarks.hosts import Line
from benchmarks.journals import Place
from benchmarks.network import Network, Wire
from benchmarks.processes import Process
from benchmarks.videos import downloads_over
from hailuo_async import AsyncSession, HailuoError, Status
from hailuo_async._io.journal.writer import JournalWriter
from hailuo_async.hooks import Accepted, Ended, GateClosed, SessionEvent
from hailuo_async.settings import JournalLocation


@attrs.define(eq=False)
class Member:
    """A session at work in its process, and the calls under way on it."""

    payer: Payer
    process: Process
    network: Network
    line: Line
    session: AsyncSession
    books: Books
    rng: Random
    calls: set[asyncio.Task[None]] = attrs.field(factory=set)
    is_open: bool = False
    is_dead: bool = False
    life: asyncio.Task[None] | None = None
    _leaving: asyncio.Event = attrs.field(factory=asyncio.Event)
    _grace_s: float = 30.0

    @classmethod
    def make(cls, payer: Payer, network: Network, place: Place, rng: Random, **settings: Any) -> Self:
        """A session that is not open yet."""
        session, line = (
            AsyncSession(
                base_url="https://emulator.invalid",
                transport=Wire(network, payer),
                rng=Random(rng.random()),
                journal=place.location,
                **settings,
            ),
            place.make_line(),
        )

        async def open_journal(location: JournalLocation, *, base_url: str, now: object) -> JournalWriter:
            return await place.open(line, base_url, payer.name)

        session._open_journal = open_journal
        member = cls(payer, Process(payer.name), network, line, session, network.service.books, Random(rng.random()))
        session.hooks.append(member._note)
        if rng.random() < 0.3:
            session.hooks.append(member._meddle)
        return member

    def start(self) -> None:
        """Begins to live: opens the session, and closes it when it is to leave."""
        self.life = self.process.start(self._live())

    async def _live(self) -> None:
        try:
            async with self.session:
                engine = self.session._engine
                if engine is not None:
                    self.payer.spent_before = engine.admission.money.limit.spent
                    engine.results._downloads = downloads_over(self.network)
                if engine is not None and engine.team_monitor is not None:
                    engine.team_monitor._link._table.row.rng.seed(self.rng.random())
                self.is_open = True
                await self._leaving.wait()
                self.is_open = False
                await self.session.aclose(self._grace_s)
        except HailuoError as error:
            self.books.failed(error)
        finally:
            self.is_open = False

    def leave(self, grace_s: float) -> None:
        """Closes the session."""
        self.is_open, self._grace_s = False, grace_s
        self._leaving.set()

    def kill(self) -> None:
        """Kills its process."""
        self.is_open, self.is_dead = False, True
        self.process.kill()

    def held(self) -> list[str]:
        """What the session holds that it may not hold when no call is under way, and no task runs."""
        engine = self.session._engine
        if engine is None or not self.is_open:
            return []
        limit, gate, poller = engine.admission.money.limit, engine.gate, engine.poller
        money = limit.committed - sum(limit._unfinished.values(), Decimal(0))
        # The price of a doubt stays, also of another session's doubt that an owner has had sent again from here.
        has_doubts = self.payer.doubts or self.books.counts["decisions"]
        counted = limit.spent + limit.committed - self.payer.spent_before
        held = {
            "jobs": len(engine.dispatcher.live),
            "slots": 0 if engine.recorder.team else gate.slots.running,
            "POSTs": engine.submitter.under_way,
            "a queue": engine.submitter.queued,
            "heavy POSTs": gate._heavy,
            "tasks to ask about": len(poller._tasks),
            "money": 0 if has_doubts and money > 0 else money,
            "USD not counted": max(0, self.payer.paid - counted),
        }
        return [f"{what}: {amount}" for what, amount in held.items() if amount]

    def call(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """A caller at work."""
        task = self.process.start(work)
        self.calls.add(task)
        task.add_done_callback(self._ended)
        return task

    def _ended(self, task: asyncio.Task[None]) -> None:
        self.calls.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            self.books.problems.append(f"RAISED: {error!r}")

    def _note(self, event: SessionEvent) -> None:
        if isinstance(event, Accepted | Ended) and event.task_id is not None:
            self.books.told.add(event.task_id)
        if isinstance(event, Ended) and event.status is Status.REFUSED:
            self.books.promised.discard(event.key or "")  # until it is given again

    def _meddle(self, event: SessionEvent) -> None:
        """Cancels a call in the middle of what is under way, gives a hint, or fails."""
        drawn = self.rng.random()
        if drawn < 0.05 and self.calls and not self.network.is_calm:
            self.rng.choice(list(self.calls)).cancel()
        elif drawn < 0.1 and not isinstance(event, GateClosed) and event.task_id is not None:
            self.session.notice(event.task_id)
        elif drawn < 0.15:
            raise RuntimeError("a hook that fails")
