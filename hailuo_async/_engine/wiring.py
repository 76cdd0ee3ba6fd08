"""Makes an engine for given settings: opens its edges, and hands each room what it works with."""

from __future__ import annotations

import asyncio
import importlib
from collections.abc import Callable
from random import Random
from typing import TYPE_CHECKING

import aiohttp
import anyio
import anyio.to_thread

from hailuo_async._engine.admission import Admission
from hailuo_async._engine.arguments import Parts
from hailuo_async._engine.calls import Calls
from hailuo_async._engine.clock import wall_clock
from hailuo_async._engine.dispatcher import Dispatcher
from hailuo_async._engine.engine import Engine
from hailuo_async._engine.events import EventEmitter
from hailuo_async._engine.gate import Gate
from hailuo_async._engine.keeping import Keeper
from hailuo_async._engine.loading import OpenJournal
from hailuo_async._engine.notices import PassedNotices
from hailuo_async._engine.poller import Poller
from hailuo_async._engine.recording import Recorder
from hailuo_async._engine.results import Results
from hailuo_async._engine.session_state import SessionState
from hailuo_async._engine.spending_limit import Money
from hailuo_async._engine.submitter import Submitter
from hailuo_async._io.http import Http
from hailuo_async._io.journal.kept import KeptBounds
from hailuo_async._io.tls import ResumingContext
from hailuo_async._io.transport import Transport
from hailuo_async._rules.cadence import Cadence
from hailuo_async._rules.rate_limiter import RateLimiter
from hailuo_async._rules.reachability import Reachability
from hailuo_async._rules.slots import Slots
from hailuo_async.hooks import Hooks
from hailuo_async.settings import JournalLocation, Settings

if TYPE_CHECKING:
    from hailuo_async._engine.team import Team
    from hailuo_async._engine.team_monitor import TeamMonitor
    from hailuo_async._io.journal.writer import JournalWriter


async def open_journal(location: JournalLocation, *, base_url: str | None, now: Callable[[], float]) -> JournalWriter:
    """Imports what a journal needs, SQLite and the team, and opens it. An import reads files, so it leaves the loop."""
    for name in ("journaling", "team_monitor"):
        await anyio.to_thread.run_sync(importlib.import_module, f"hailuo_async._engine.{name}")
    from hailuo_async._io.journal.writer import JournalWriter

    return await JournalWriter.open(location, base_url=base_url, now=now)


async def start_engine(
    settings: Settings,
    state: SessionState,
    parts: Parts,
    hooks: Hooks,
    money: Money,
    opening: OpenJournal | None = None,
) -> Engine:
    """An engine that works, with all that it needs open; or nothing left behind, and what went wrong raised."""
    journal = carrier = None
    if settings.journal is not None:
        journal = await (opening or open_journal)(settings.journal, base_url=settings.base_url, now=wall_clock)
    try:
        if journal is not None:
            money.limit.begin_with(await journal.spending())
        carrier = parts.transport or await _open_http(settings, parts.client_session)
        rng = parts.rng or Random()  # seeded here and not with the session: forked workers share no dice
        engine = _assemble(settings, state, carrier, journal, rng, EventEmitter(hooks), money)
        engine.team_monitor = _join(engine, journal, rng)
        if engine.team_monitor is not None:
            await engine.team_monitor.join()
    except BaseException:
        with anyio.CancelScope(shield=True):
            for opened in (carrier, journal):
                if opened is not None:
                    await opened.aclose()
        raise
    await engine.start()
    return engine


async def _open_http(settings: Settings, client_session: aiohttp.ClientSession | None) -> Http:
    is_ours = client_session is None and settings.base_url.startswith("https:")
    tls = await anyio.to_thread.run_sync(ResumingContext.open) if is_ours else None
    return Http.open(settings, client_session, tls)


def _assemble(
    settings: Settings,
    state: SessionState,
    transport: Transport,
    journal: JournalWriter | None,
    rng: Random,
    emitter: EventEmitter,
    money: Money,
) -> Engine:
    cadence = Cadence(*settings.poll_interval, rng)
    team = None if journal is None else _make_team(journal, settings.max_running, rng, cadence)
    slots = Slots(settings.max_running, rng) if team is None else team.slots
    gate = Gate(slots, RateLimiter() if team is None else team.rate_limiter, Reachability(rng), state, emitter)
    recorder = _recorder(settings, journal, team)
    poller = Poller(gate, transport, recorder, cadence, settings, state)
    resubmits, url = settings.on_unknown == "resubmit", settings.base_url
    submitter = Submitter(gate, transport, recorder, url, resubmits, emitter, state)
    keeper = _keeper(settings, journal, recorder)
    dispatcher = Dispatcher(submitter, poller, gate, recorder, state, emitter, keeper)
    admission = Admission(dispatcher, poller, recorder, settings, state, money, keeper)
    is_private = settings.allow_private_network or settings.is_local
    tls = transport.tls if isinstance(transport, Http) else None  # what the session trusts holds for results, too
    return Engine(
        loop=asyncio.get_running_loop(),
        session_state=state,
        gate=gate,
        admission=admission,
        dispatcher=dispatcher,
        submitter=submitter,
        poller=poller,
        recorder=recorder,
        calls=Calls(gate, transport, money.prices),
        results=Results(is_private, tls, journal, admission, state, emitter),
        transport=transport,
        journal=journal,
    )


def _recorder(settings: Settings, journal: JournalWriter | None, team: Team | None) -> Recorder:
    if journal is None:
        return Recorder()
    from hailuo_async._engine.journaling import JournalRecorder

    path, keeps_prompts = str(settings.journal), settings.journal_prompts
    return JournalRecorder(path, team, journal=journal, keeps_prompts=keeps_prompts)


def _make_team(journal: JournalWriter, ceiling: int | None, rng: Random, cadence: Cadence) -> Team:
    """The team of the sessions that share the journal, imported here: without a journal nothing of it is needed."""
    from hailuo_async._engine.team import Team

    return Team.make(journal, ceiling, rng, cadence)


def _join(engine: Engine, journal: JournalWriter | None, rng: Random) -> TeamMonitor | None:
    """Connects the engine with the team of the sessions that share its journal, if it has one."""
    team, following, poller = engine.recorder.team, engine.dispatcher.following, engine.poller
    if team is None or journal is None:
        return None
    from hailuo_async._engine.team_monitor import TeamMonitor
    from hailuo_async._io.journal.last_connection import LastConnection
    from hailuo_async._io.journal.team_sql import MOST_PASSED_ON

    team.line.waits_since = lambda: engine.submitter.waits_since
    team.updates.on_change = engine.gate.wake
    team.updates.on_death = following.check_all
    following.us, following.on_added, following.last_connection = journal.holder, team.follow, LastConnection(journal)
    passed = PassedNotices(engine.session_state, journal.pass_on, MOST_PASSED_ON)

    def pass_on(task_id: str) -> None:
        if team.view.members > 1:
            passed.add(task_id)

    poller.pass_on = pass_on
    return TeamMonitor(team, journal, rng, following, poller.notice_here_nowait, engine.admission.take_over)


def _keeper(settings: Settings, journal: JournalWriter | None, recorder: Recorder) -> Keeper | None:
    if journal is None or not settings.keep_jobs:
        return None
    bounds = KeptBounds(settings.max_queued, settings.max_kept_bytes)
    return Keeper(journal, recorder, bounds, settings.webhook_url)
