"""Sessions of one team at work over a ``VirtualServer``, what befalls them, and what they came to all the same."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections import Counter
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from pathlib import Path
from random import Random
from typing import Any, TypeAlias

import anyio
import attrs
import psycopg

from benchmarks.hosts import Host, Hosts, Line, Night
from benchmarks.processes import run_processes
from hailuo_async import ImageToVideo
from hailuo_async._io.journal.writer import JournalWriter
from hailuo_async._rules.team import load_state
from hailuo_async.emulator import Service
from hailuo_async.errors import JournalError, SessionClosedError

from .virtual_line import VirtualLine, open_journal
from .virtual_postgres import VirtualServer

#: What befalls a team: a method of ``Team``.
Trouble: TypeAlias = "Callable[[Team], Coroutine[Any, Any, object]]"

#: For how long a session is cut off: its leases run out. The server is down for less than the second.
_CUT_OFF_S, _DOWN_S = 40.0, 15.0
#: Jobs that a session has beside its share of the slots.
_HELD = 3
#: How often the journal is looked at from outside.
_WATCH_S = 0.1


@attrs.frozen(kw_only=True)
class Scenario:
    """What is simulated. Each of the ``troubles`` befalls the team once, at a random time, in a random order."""

    sessions: int = 3
    slots: Sequence[tuple[float, int]] = ((0.0, 4),)
    """From when on there are so many."""
    requests_per_minute: int = 300
    jobs: int = 12
    generation_s: float = 20.0
    trip_s: float = 0.02
    lost_news: float = 0.05
    """The share of the notices that are lost. As many are late."""
    keeps_jobs: bool = False
    """Whether the journal keeps whole jobs, so that each session may send what another has left."""
    troubles: Sequence[Trouble] = ()
    seed: int = 0


@attrs.frozen(kw_only=True)
class Findings:
    """What a team came to."""

    paid_twice: Sequence[str]
    not_on_record: Sequence[str]
    """Jobs that were accepted, under another task than the journal has, or none."""
    most_commits: int
    """Of one session in a second."""
    longest_stall_s: float
    """For how long a slot was free, by the team's own state, while a session waited that reached the server."""
    seconds: float


@attrs.define(eq=False)
class Team(Night):
    """A team at work. All that is random comes from the seed."""

    scenario: Scenario = attrs.field(kw_only=True)
    server: VirtualServer = attrs.field(init=False)
    everyone: list[Host] = attrs.field(factory=list, init=False)
    _works: dict[Host, asyncio.Task[None]] = attrs.field(factory=dict, init=False)
    _failure: BaseException | None = attrs.field(default=None, init=False)
    _longest_stall_s: float = attrs.field(default=0.0, init=False)

    def __attrs_post_init__(self) -> None:
        offset_s = self.rng.uniform(-100.0, 100.0)
        self.server = VirtualServer(Random(self.rng.random()), offset_s=offset_s, notice_s=self._notice_s)

    def _notice_s(self) -> float | None:
        drawn = self.rng.random()
        if drawn < self.scenario.lost_news:
            return None
        return self._half_s() if drawn > 2 * self.scenario.lost_news else self.rng.uniform(0.0, 2.0)

    def _half_s(self) -> float:
        """Half a round trip: longer now and then, and much longer sometimes."""
        stuck_s = self.rng.uniform(0.0, 0.5) if self.rng.random() < 0.005 else 0.0
        return self.scenario.trip_s / 2 * (1 + self.rng.expovariate(2.0)) + stuck_s

    # --- Sessions ---

    def make_line(self) -> Line:
        return VirtualLine(self.server, Random(self.rng.random()), self._half_s)

    def make_host(self) -> Host:
        host = super().make_host()
        host.session._settings = attrs.evolve(host.session._settings, keep_jobs=self.scenario.keeps_jobs)
        return host

    async def open_journal(self, line: Line, base_url: str) -> JournalWriter:
        return await open_journal(_virtual(line), f"host {len(self.everyone)} {self.rng.random()}")

    async def join(self) -> None:
        """Another session joins, and works. It does not if the server is down just then."""
        host = self.make_host()
        self.everyone.append(host)
        try:
            await self.open(host)
        except (psycopg.OperationalError, JournalError):
            return
        self.alive.append(host)
        self._works[host] = asyncio.create_task(self.work(host))
        self._works[host].add_done_callback(self._ended)

    def _ended(self, work: asyncio.Task[None]) -> None:
        if not work.cancelled() and (error := work.exception()) is not None:
            self._failure = error
            self.all_done.set()

    async def _jobs(self, host: Host) -> AsyncIterator[ImageToVideo]:
        """Leaves some to the others: a session takes as many at once as it may queue."""
        async for job in super()._jobs(host):
            yield job
            while len(host.held) > _HELD + (self.service.max_running or 0) // self.scenario.sessions:  # noqa: ASYNC110
                await anyio.sleep(0.1)

    async def leave(self) -> None:
        """A session ends, and leaves its jobs to the others."""
        host = self._take_one()
        if host is not None:
            self._works[host].cancel()
            await host.session.aclose()
            await self.lose(host)

    async def lose_one(self) -> None:
        """The host of a session dies."""
        if (host := self._take_one()) is not None:
            while _has_more_to_write(host):  # noqa: ASYNC110 (what its process alone knows would be in doubt)
                await anyio.sleep(0.05)
            await self.lose(host)
            _virtual(host.line).cut()

    async def follow(self) -> None:
        """A session is given a job at which another is at work."""
        ours, theirs = self.rng.sample(self.alive, 2) if len(self.alive) > 1 else (self.alive[0],) * 2
        with contextlib.suppress(SessionClosedError):
            for job in list(theirs.held.values())[:1]:
                await ours.session.generate(job)

    def _take_one(self) -> Host | None:
        return self.alive.pop(self.rng.randrange(len(self.alive))) if len(self.alive) > 1 else None

    def _some_line(self) -> VirtualLine:
        return _virtual(self.rng.choice(self.alive).line)

    # --- What befalls them ---

    async def cut(self) -> None:
        """The connection of a session is cut. Its host does not know what became of what it sent."""
        self._some_line().cut()

    async def cut_off(self) -> None:
        """A session does not reach the server."""
        await self._some_line().cut_off(_CUT_OFF_S)

    async def go_down(self) -> None:
        """The server is down for a while."""
        self.server.stop()
        await anyio.sleep(self.rng.uniform(0.5, _DOWN_S))
        self.server.start()

    async def fail_over(self, behind_s: float = 0.0) -> None:
        """A standby takes over that has not got the last commits, and whose clock is behind."""
        copied = self.server.copy()
        await anyio.sleep(self.rng.uniform(0.01, 2.0))
        self.server.stop()
        self.server.fail_over(copied)
        self.server.offset_s -= behind_s
        await anyio.sleep(self.rng.uniform(0.5, _DOWN_S))
        self.server.start()

    async def set_clock(self) -> None:
        """The server's clock is set, by as much as two leases."""
        self.server.offset_s += self.rng.uniform(-60.0, 60.0)

    async def befall(self, tasks: anyio.abc.TaskGroup) -> None:
        """Lets all of that happen."""
        slots = min(slots for _, slots in self.scenario.slots)
        lasts_s = 0.9 * self.scenario.jobs * self.scenario.generation_s / slots
        times = sorted(self.rng.uniform(1.0, lasts_s) for _ in self.scenario.troubles)
        troubles = self.rng.sample(self.scenario.troubles, len(times))
        for at, trouble in zip(times, troubles, strict=True):
            await anyio.sleep_until(at)
            tasks.start_soon(trouble, self)

    async def move_the_limit(self) -> None:
        """Changes how many slots there are."""
        for since, slots in self.scenario.slots:
            await anyio.sleep_until(since)
            self.service.max_running = slots

    # --- What comes of it ---

    async def watch(self) -> None:
        """Looks for slots that stay free."""
        free_since = None
        while True:
            before = self.service.ledger.posts
            await anyio.sleep(_WATCH_S)
            now = anyio.current_time()
            if not self._is_room_left() or self.service.ledger.posts != before:
                free_since = None
            else:
                free_since = now if free_since is None else free_since
                self._longest_stall_s = max(self._longest_stall_s, now - free_since)

    def _is_room_left(self) -> bool:
        engines = [host.session._engine for host in self.alive if _virtual(host.line).is_passable]
        waits = any(engine is not None and engine.submitter.waits_since is not None for engine in engines)
        if self.server.is_down or not waits:
            return False
        [(text,)] = self.server.select("SELECT state FROM team")
        state, now = load_state(text, Random(0)), self.server.time()
        return state.slots.running < state.slots.limit and state.submit_opens_at(now) <= now

    def findings(self) -> Findings:
        """What can be said now. Raises what a session raised."""
        if self._failure is not None:
            raise self._failure
        accepted = {prompt or "": tasks for prompt, tasks in self.service.ledger.accepted.items()}
        on_record = dict(self.server.select("SELECT identity, task_id FROM job"))
        seconds = [Counter(map(int, _virtual(host.line).commits)) for host in self.everyone]
        return Findings(
            paid_twice=[name for name, tasks in accepted.items() if len(tasks) > 1],
            not_on_record=[name for name, tasks in accepted.items() if on_record.get(name) not in tasks],
            most_commits=max(max(each.values(), default=0) for each in seconds),
            longest_stall_s=self._longest_stall_s,
            seconds=anyio.current_time(),
        )

    async def aclose(self) -> None:
        """Closes all sessions. Those of hosts that died find that they did not."""
        self.server.start()
        for work in self._works.values():
            work.cancel()
        for host in self.everyone:
            _virtual(host.line).rise()
        for host in self.everyone:
            await host.session.aclose()
        self.server.close()


def _has_more_to_write(host: Host) -> bool:
    engine = host.session._engine
    if engine is None or engine.team_monitor is None:
        return False
    commits = engine.team_monitor._journal._commits
    return engine.submitter.under_way > 0 or commits.is_under_way or bool(commits._pending)


def _virtual(line: Line) -> VirtualLine:
    assert isinstance(line, VirtualLine)
    return line


@contextlib.asynccontextmanager
async def team_at_work(scenario: Scenario) -> AsyncIterator[Team]:
    """A team that works, and whose sessions are closed at the end."""
    service = Service(
        max_running=scenario.slots[0][1],
        requests_per_minute=scenario.requests_per_minute,
        generation_s=scenario.generation_s,
        spread=0.3,
        balance=1e12,
        seed=scenario.seed,
        ledger_entries=0,
    )
    team = Team(Hosts(jobs=scenario.jobs), service, Path(os.devnull), Random(scenario.seed), scenario=scenario)
    for number in range(scenario.jobs):
        name = f"job {number}"
        team.waiting.append(ImageToVideo("https://example.com/cat.jpg", prompt=name, key=name))
    try:
        for _ in range(scenario.sessions):
            await team.join()
        yield team
    finally:
        with anyio.CancelScope(shield=True):
            await team.aclose()


def simulate(scenario: Scenario) -> Findings:
    """What the team came to when all jobs were done. Raises if it takes a virtual hour, or a job fails."""

    async def main() -> Findings:
        async with team_at_work(scenario) as team, anyio.create_task_group() as tasks:
            for work in (team.watch, team.move_the_limit):
                tasks.start_soon(work)
            tasks.start_soon(team.befall, tasks)
            with anyio.fail_after(3600.0):
                await team.all_done.wait()
            tasks.cancel_scope.cancel()
            return team.findings()
        raise AssertionError

    return run_processes(main)
