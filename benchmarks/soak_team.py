"""Processes that share a journal and are killed at random: is each job paid for once, and none lost?

The processes keep whole jobs (``keep_jobs``). When a submit returned, the job must be made, even if its process is
killed: the others send the job and wait for its video. The emulator, in a process of its own, takes every job without
a fault, and its ledger says what was paid for. A job may end in doubt only if the POST for it was on its way when its
process was killed, or the journal's server was.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import signal
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from random import Random
from typing import Protocol

import attrs

from benchmarks.children import SLOTS
from benchmarks.soak import Program
from hailuo_async import Journal, JournalError, JournalState

#: Between two kills of whichever process.
PAUSE_S = (0.3, 1.2)
#: For how long a server of the journal that was killed stays away.
AWAY_S = 1.0


class Server(Protocol):
    """The server of a journal, which may be killed too."""

    def stop(self, number: signal.Signals) -> None:
        """Ends it."""

    def start(self) -> None:
        """Returns when it takes connections again."""


@attrs.frozen(kw_only=True)
class Toll:
    """What a team came to."""

    kills: int
    crashes: int
    """Of the journal's server."""
    submitted: int
    paid: int
    in_doubt: int
    in_flight: int
    """POSTs that were on their way at the kills: as many may be in doubt."""
    twice: Sequence[str]
    """The keys of jobs that were paid for more than once."""
    lost: Sequence[str]
    """The keys of jobs whose submit returned, and that have neither a video nor a doubt."""
    seconds: float

    @property
    def holds(self) -> bool:
        """Whether every promise was kept."""
        return not self.twice and not self.lost and self.in_doubt <= self.in_flight

    def __str__(self) -> str:
        return (
            f"{self.kills} kills of processes and {self.crashes} of the server, {self.submitted} submitted, "
            f"{self.paid} paid: {len(self.twice)} paid twice, {len(self.lost)} lost, {self.in_doubt} in doubt "
            f"of {self.in_flight} that were in flight; {self.seconds:.0f} s"
        )


@attrs.define(eq=False)
class Team:
    """The processes at work on one journal."""

    url: str
    journal: str
    picture: Path
    rng: Random
    submitted: set[str] = attrs.field(factory=set)
    in_flight: int = 0
    _programs: list[Program] = attrs.field(factory=list)
    _numbers: Iterator[int] = attrs.field(factory=itertools.count)

    def begin(self) -> None:
        """One more process."""
        options = {"base_url": self.url, "journal": self.journal, "picture": str(self.picture)}
        prefix, seed = f"p{next(self._numbers)}", self.rng.getrandbits(32)
        self._programs.append(Program("member", prefix=prefix, seed=seed, **options))

    def kill(self) -> None:
        """Kills one of them, and notes what it had promised."""
        program = self._programs.pop(self.rng.randrange(len(self._programs)))
        os.kill(program.pid, signal.SIGSTOP)  # once it is dead, another session may raise its doubt before this looks
        sending = self._sending(program.pid)
        program.kill()
        self.in_flight += len(sending | self._sending(program.pid))
        with program, contextlib.suppress(EOFError):
            while True:
                self.submitted.add(program.hear())

    def kill_all(self) -> None:
        """Kills the processes that still run."""
        while self._programs:
            self.kill()

    def _sending(self, pid: int) -> set[str]:
        """The keys of the jobs that this process is sending: as many as it could, if the journal cannot be read."""
        try:
            with Journal.open(self.journal) as journal:
                records = journal.records(state=JournalState.SENDING)
                return {record.identity for record in records if f"/{pid}/" in (record.holder or "")}
        except JournalError:  # its server is away, too, or no process has made it yet
            return {f"slot {number}" for number in range(SLOTS)}


def soak_team(
    journal: str, kills: int = 200, processes: int = 4, seed: int = 0, server: Server | None = None, crashes: int = 0
) -> int:
    """Kills processes of a team, ``kills`` in all, and prints what it came to; 1 if a promise was broken.

    ``journal``: a path, or the DSN of a schema that no session has used. ``server`` is killed ``crashes`` times.
    """
    with tempfile.TemporaryDirectory() as directory, Program("service", seed=seed, errs=False) as service:
        picture = Path(directory, "0.png")
        _draw(picture)
        team = Team(service.hear(), journal, picture, Random(seed))
        toll = _work(team, service, kills, processes, server, crashes)
    print(toll)
    for name in ("twice", "lost"):
        for key in getattr(toll, name):
            print(f"{name.upper()}: {key}")
    return int(not toll.holds)


def soak_on_a_server(kills: int, processes: int, seed: int, crashes: int) -> int:
    """``soak_team`` on a PostgreSQL server of its own, which is killed as well."""
    from tests.support.postgres import Postgres  # which needs its wheel

    server = Postgres.make()
    try:
        return soak_team(server.dsn("soak"), kills, processes, seed, server, crashes)
    finally:
        server.remove()


def _work(team: Team, service: Program, kills: int, processes: int, server: Server | None, crashes: int) -> Toll:
    began = time.monotonic()
    crashing = set(team.rng.sample(range(kills), crashes)) if server is not None else set[int]()
    for _ in range(processes):
        team.begin()
    for number in range(kills):
        time.sleep(team.rng.uniform(*PAUSE_S))
        if server is not None and number in crashing:
            server.stop(signal.SIGQUIT)
            time.sleep(team.rng.uniform(0.0, AWAY_S))
        team.kill()
        if server is not None and number in crashing:
            server.start()
        team.begin()
        service.say("nothing of that name")  # one that is asked nothing for long takes itself for stuck
        service.hear()
    team.kill_all()
    with Program("heir", base_url=team.url, journal=team.journal) as heir:
        heir.hear()
    service.say("")
    paid: dict[str, list[str]] = service.hear()
    with Journal.open(team.journal) as journal:
        states = {record.key or record.identity: record.state for record in journal.records()}
    ends = (JournalState.SUCCESS, JournalState.UNKNOWN)
    return Toll(
        kills=kills,
        crashes=len(crashing),
        submitted=len(team.submitted),
        paid=sum(map(len, paid.values())),
        in_doubt=sum(state is JournalState.UNKNOWN for state in states.values()),
        in_flight=team.in_flight,
        twice=[key for key, tasks in paid.items() if len(tasks) > 1],
        lost=[key for key in sorted(team.submitted | paid.keys()) if states.get(key) not in ends],
        seconds=time.monotonic() - began,
    )


def _draw(path: Path) -> None:
    from PIL import Image

    Image.effect_noise((320, 320), 90).save(path)
