"""Random lives of a team on a virtual clock: sessions that come, go, are stopped and killed, while all else errs too.

``python -m benchmarks.lives FIRST COUNT`` lives so many, one for each seed from the first on, and prints a line of JSON
for each. In each life some sessions work on a journal in a file, on one on a server (simulated, with outages,
failovers and lost answers), or one works without. Their callers do what callers do; the service errs in all its ways.
Then all becomes calm: every call must end, and what the service has accepted must be on record, once, at its cost.
A seed takes the same course again.
"""

from __future__ import annotations

import asyncio
import faulthandler
import importlib.util
import json
import logging
import sys
import tempfile
import traceback
from decimal import Decimal
from pathlib import Path
from random import Random
from types import CoroutineType
from typing import Any, cast

import anyio
import attrs

from benchmarks.books import Books, Listener, Payer
from benchmarks.callers import Callers, fingerprints
from benchmarks.hosts import EPOCH, Line
from benchmarks.journals import FileJournal, Place, ServerJournal
from benchmarks.members import Member
from benchmarks.network import Network
from benchmarks.processes import run_processes
from benchmarks.weather import PICTURES, calm_down, draw_account, draw_faults, draw_job, draw_service, draw_settings
from hailuo_async._engine.loading import import_engine
from hailuo_async._io.journal.records import LEASE_S
from hailuo_async.emulator import DEFAULT_API_KEY

#: Events of a life, and the seconds between two of them.
EVENTS, PACES = 80, ((0.0, 0.0, 0.1, 1.0, 5.0, 20.0), (0.0, 0.01, 0.1), (0.1, 60.0))
#: How often a request to the journal is the last one of its process for a while, or for good.
STRIKE_RATE = 0.0005
#: Within so many seconds of calm every call ends: the longest job takes its slot, its generation and its last query.
CALM_S = 7200.0
#: A life that takes longer than this of real time is stuck.
STUCK_S = 120.0


@attrs.define(eq=False)
class Life:
    """One life. All that is random comes from the seed."""

    rng: Random
    place: Place
    network: Network
    callers: Callers
    books: Books
    members: list[Member] = attrs.field(factory=list)
    everyone: list[Member] = attrs.field(factory=list)
    """Also those that have left, or died."""
    is_calm: bool = False

    @classmethod
    def make(cls, seed: int, directory: Path) -> Life:
        """A life in which nothing has happened yet."""
        rng = Random(seed)
        service = draw_service(seed, rng)
        books = service.books
        place = _make_place(rng, directory)
        names = [f"job {number}" for number in range(rng.choice((8, 60)) if place.is_shared else 1000)]
        pictures = PICTURES if place.takes_pictures else ()
        keyless_rate = rng.choice((0.0, 0.3)) if place.is_shared else 0.5
        jobs = [draw_job(name, rng, pictures, keyless_rate=keyless_rate) for name in names]
        network = Network(service, Random(rng.random()), latency_s=rng.choice((0.0, 0.1, 0.2)))
        videos = directory / "videos"
        videos.mkdir()
        callers = Callers(books, Random(rng.random()), jobs, service.is_young, videos, place)
        if place.is_shared:
            books.keyless = {mark: job.prompt or "" for job in jobs if job.key is None for mark in fingerprints(job)}
        return cls(rng, place, network, callers, books)

    async def live(self) -> None:
        """Lives it to its end. What was broken stands in the books."""
        if self.place.is_shared:
            self.network.strike, self.network.strike_rate = self._strike, self.rng.choice((0.0, 0.05, 0.2))
            self.place.befall = self._befall if self.rng.random() < 0.5 else self.place.befall
        self._change_weather()
        announcing = asyncio.create_task(self._announce())
        for _ in range(self.rng.randint(1, 3) if self.place.is_shared else 1):
            self._join()
        pauses_s = self.rng.choice(PACES)
        for _ in range(EVENTS):
            await anyio.sleep(self.rng.choice(pauses_s))
            self._event()
        await self._calm_down()
        await self._check_rest()
        await self._inherit()
        announcing.cancel()
        if self._fails_over:
            self.books.promised.clear()  # a copy may lack what was kept, and then sessions that close have it no more
        if self.place.is_shared:
            self.books.close(self.place.rows(), self.place.spent(), self.place.spent_on_removed())
        else:
            self.books.close(None, Decimal(0))
        await self._bury()

    @property
    def _fails_over(self) -> bool:
        return isinstance(self.place, ServerJournal) and self.place.fails_over

    # --- What happens ---

    def _event(self) -> None:
        events = {self._call: 60, self._change_weather: 3, self._change_limits: 2}
        if self.place.is_shared:
            events |= {
                self._join: 4,
                self._leave: 2,
                self._kill_one: 0 if self._fails_over else 2,
                self._stop_one: 2,
                self._trouble_database: 5,
            }
        [event] = self.rng.choices(list(events), list(events.values()))
        event()

    def _call(self) -> None:
        if (member := self._some_member()) is None:
            return
        self.books.counts["calls"] += 1
        task = member.call(self.callers.call(member.session))
        if self.rng.random() < 0.3:
            asyncio.get_running_loop().call_later(self.rng.choice((0.0, 0.01, 1.0, 30.0)), self._cancel, member, task)

    def _cancel(self, member: Member, task: asyncio.Task[None]) -> None:
        if not self.is_calm and not task.done():
            self.books.counts["cancelled"] += 1
            task.cancel()

    def _some_member(self) -> Member | None:
        ready = [member for member in self.members if member.is_open and not member.process.is_stopped]
        return self.rng.choice(ready) if ready else None

    def _join(self) -> None:
        if len(self.members) < 5:
            payer = Payer(f"session {len(self.everyone)}")
            settings = draw_settings(self.rng, payer, has_journal=self.place.is_shared)
            member = Member.make(payer, self.network, self.place, self.rng, **settings)
            self.members.append(member)
            self.everyone.append(member)
            member.start()
            if self.rng.random() < 0.1:
                delay_s = self.rng.choice((0.0, 0.001, 0.01, 0.1, 100.0))
                asyncio.get_running_loop().call_later(delay_s, self._interrupt, member)

    def _interrupt(self, member: Member) -> None:
        """Cancels the task that opens the session, has it open or closes it, as Ctrl-C does."""
        if member.life is not None and not (self.is_calm or member.process.is_stopped):
            self.books.counts["interrupted"] += member.life.cancel()
            if member in self.members:
                self.books.counts["left"] += 1
                self.members.remove(member)

    def _leave(self) -> None:
        if (member := self._some_member()) is not None and len(self.members) > 1:
            self._dismiss(member, self.rng.choice((0.0, 0.05, 1.0, 30.0)))

    def _dismiss(self, member: Member, grace_s: float) -> None:
        self.books.counts["hurried"] += grace_s < 30.0
        self.books.counts["left"] += 1
        self.members.remove(member)
        member.leave(grace_s)
        if self.rng.random() < 0.1:
            asyncio.get_running_loop().call_later(self.rng.choice((0.0, 0.01, 1.0)), self._interrupt, member)

    def _kill_one(self) -> None:
        if (member := self._some_member()) is not None and len(self.members) > 1:
            self._kill(member)

    def _kill(self, member: Member) -> None:
        self.books.counts["killed"] += 1
        member.payer.is_struck = True
        self.members.remove(member)
        member.kill()
        self.place.hang_up(member.line)

    def _stop_one(self) -> None:
        if (member := self._some_member()) is not None:
            self._stop(member)

    def _stop(self, member: Member) -> None:
        self.books.counts["stopped"] += 1
        member.payer.is_struck = True
        member.process.stop(self.rng.choice((1.0, 20.0, 40.0, 100.0, 1000.0)))

    def _strike(self, payer: Payer) -> None:
        """Stops or kills a process in the middle of a POST, or closes its session at once."""
        for member in [member for member in self.members if member.payer is payer and not self.is_calm]:
            drawn = self.rng.random() if len(self.members) > 1 else 1.0
            if drawn < 0.3:
                self._dismiss(member, 0.0)
            elif drawn < 0.5 and not self._fails_over:
                self._kill(member)
            else:
                self._stop(member)

    def _befall(self, line: Line) -> None:
        """A request to the journal is on its way."""
        if self.rng.random() < STRIKE_RATE:
            for member in self.members:
                if member.line is line and member.is_open and not member.process.is_stopped:
                    self._strike(member.payer)

    def _trouble_database(self) -> None:
        if (member := self._some_member()) is not None:
            self.books.is_database_troubled |= self.place.trouble(member.line)
            self.books.counts["troubles"] += 1

    def _change_weather(self) -> None:
        self.network.is_down = self.rng.random() < 0.2
        self.network.service.faults = draw_faults(self.rng, self.books)
        draw_account(self.rng, self.network.service)

    def _change_limits(self) -> None:
        service = self.network.service
        service.max_running = self.rng.choice((1, 2, 4, 10))
        service.others_running = self.rng.choice((0, 0, 1))
        service.requests_per_minute = self.rng.choice((60, 100, 300, None))
        service.generation_s = self.rng.choice((5.0, 30.0, 120.0))

    async def _announce(self) -> None:
        """Makes the service's deliveries, to any session, and forged ones."""
        service = self.network.service
        while True:
            await anyio.sleep(0.25)
            now = EPOCH + anyio.current_time()
            posts = [*service.early, *service.take_webhooks(now)]
            service.early.clear()
            for post in posts:
                member = self._some_member()
                if member is not None:
                    member.process.context.copy().run(member.session.notice, post.task_id)
                if post.announcement.fault is None or str(post.announcement.fault) != "early":
                    service.settle_webhook(post, 200 if member is not None else 503, now)

    # --- The end ---

    async def _calm_down(self) -> None:
        """All troubles pass. Then every call comes to its end."""
        self.is_calm = True
        self.place.heal()
        self.network.calm_down()
        calm_down(self.network.service)
        for member in self.members:
            if member.process.is_stopped:
                member.process.go_on()
        until = anyio.current_time() + CALM_S
        while any(member.calls for member in self.members) and anyio.current_time() < until:  # noqa: ASYNC110
            await anyio.sleep(10.0)
        for member in self.members:
            self.books.problems += [f"ENDLESS: {_where(task)} in {member.payer.name}" for task in member.calls]

    async def _check_rest(self) -> None:
        """Sessions at rest hold nothing, and close."""
        await asyncio.gather(*(self._rest(member) for member in self.members if member.is_open))
        for member in self.members:
            member.leave(30.0)
        lives = [member.life for member in self.everyone if member.life is not None and not member.is_dead]
        _, pending = await asyncio.wait(lives, timeout=300.0)
        self.books.problems += [f"ENDLESS CLOSE: {_where(task)}" for task in pending]

    async def _rest(self, member: Member) -> None:
        engine = member.session._engine
        if engine is None:
            return
        await anyio.sleep(2 * LEASE_S)  # it takes up what those have left that were killed
        until, idle_s = anyio.current_time() + CALM_S, 0.0
        while idle_s < 100.0 and anyio.current_time() < until:
            await anyio.sleep(10.0)
            idle_s = 0.0 if engine.dispatcher.live else idle_s + 10.0
        self.books.problems += [f"AT REST: {member.payer.name} has {words}" for words in member.held()]

    async def _inherit(self) -> None:
        """A last session ends what the others have left."""
        if not self.place.is_shared:
            return
        settings = {"api_key": DEFAULT_API_KEY, "keep_jobs": True}
        heir = Member.make(Payer("heir"), self.network, self.place, self.rng, **settings)
        self.everyone.append(heir)
        heir.start()
        await anyio.sleep(2 * LEASE_S)
        call = heir.call(self.callers.end_all(heir.session))
        await asyncio.wait([call], timeout=CALM_S)
        if not call.done():
            self.books.problems.append(f"ENDLESS: {_where(call)} in the heir")
        await self._rest(heir)
        heir.leave(30.0)
        if heir.life is not None:
            await asyncio.wait([heir.life], timeout=300.0)

    async def _bury(self) -> None:
        """Ends what killed processes have left in this one, and looks that nothing else is left."""
        self.network.is_down = True
        for member in self.everyone:
            if member.process.is_stopped:
                member.process.bury()
                member.leave(0.0)
        lives = [member.life for member in self.everyone if member.life is not None]
        await asyncio.wait(lives, timeout=600.0)
        await anyio.sleep(100.0)  # longer than any caller thinks
        left = asyncio.all_tasks() - {asyncio.current_task()}
        self.books.problems += [f"A TASK IS LEFT: {_where(task)}" for task in left]
        self.place.close()


def _where(task: asyncio.Task[Any]) -> str:
    """What a task waits for."""
    frames, awaited = list[str](), cast(object, task.get_coro())
    while isinstance(awaited, CoroutineType) and awaited.cr_frame is not None:
        frames.append(f"{awaited.cr_code.co_name}:{awaited.cr_frame.f_lineno}")
        awaited = awaited.cr_await
    return " > ".join(frames)


def _make_place(rng: Random, directory: Path) -> Place:
    kind = rng.choice(("none", "file", "file", "server", "server"))
    if kind == "server" and importlib.util.find_spec("psycopg") is not None:
        return ServerJournal(Random(rng.random()), fails_over=rng.random() < 0.5)
    return Place() if kind == "none" else FileJournal(directory / "journal.db", Random(rng.random()))


def live(seed: int) -> Books:
    """The books of the life that follows from a seed."""
    import_engine()  # else the first session would wait for that
    memory = Path("/dev/shm")
    with tempfile.TemporaryDirectory(dir=memory if memory.is_dir() else None) as place:

        async def whole() -> Books:
            life = Life.make(seed, Path(place))
            listener = Listener(life.books)
            logging.getLogger().addHandler(listener)
            try:
                await life.live()
            except Exception as error:
                life.books.problems.append("BROKEN: " + "".join(traceback.format_exception(error)))
            finally:
                logging.getLogger().removeHandler(listener)
            return life.books

        return run_processes(whole)


def main(first: int, count: int) -> None:
    """Lives so many lives, and prints what each came to."""
    logging.lastResort = None
    for seed in range(first, first + count):
        faulthandler.dump_traceback_later(STUCK_S, exit=True)
        books = live(seed)
        told = {"seed": seed, "digest": books.digest, "counts": books.counts, "problems": books.problems}
        print(json.dumps(told), flush=True)


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]))
