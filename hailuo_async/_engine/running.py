"""What a session holds while it is open: the engine's task, and the edges that it works over."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterable, Iterable
from datetime import UTC, datetime
from pathlib import Path
from random import Random

import aiohttp
import anyio
import attrs

from hailuo_async._engine.engine import Engine, build_engine
from hailuo_async._engine.events import EventEmitter
from hailuo_async._engine.outcome_stream import OutcomeStream
from hailuo_async._engine.quota import Quota
from hailuo_async._engine.results import Results
from hailuo_async._engine.saving import SaveAs, Saving, StrPath, Target
from hailuo_async._engine.shared_uploads import SharedUploads
from hailuo_async._engine.stream import Stream
from hailuo_async._engine.submitter import SLOWEST_UPLOAD_BYTES_PER_S
from hailuo_async._engine.tracked_job import TrackedJob
from hailuo_async._images.frame import Frame
from hailuo_async._images.source import check_source
from hailuo_async._io.download.client import Downloads
from hailuo_async._io.http import Http, Transport, proxy_for
from hailuo_async._io.journal.records import Record
from hailuo_async._io.journal.writer import JournalWriter
from hailuo_async._rules.identity import DuplicateNumbers
from hailuo_async._rules.refusals import build_error
from hailuo_async._rules.wire import Answer, Request, Verdict, build_upload, unknown
from hailuo_async.errors import ConfigError, HailuoError, ImageError, ProtocolError
from hailuo_async.hooks import Hooks
from hailuo_async.jobs import Job, check_job
from hailuo_async.outcomes import Stats, Status
from hailuo_async.settings import Settings

#: What each edge gets to close in, when the engine has ended.
CLOSING_S = 10.0
#: For a request that is no job's: answered in this time beside that for its body, or not at all.
REQUEST_TIMEOUT_S = 60.0


@attrs.define(eq=False)
class Running:
    """What a session holds while it is open: the engine's task, and the edges that it works over."""

    loop: asyncio.AbstractEventLoop
    engine: Engine
    results: Results
    _downloads: Downloads
    _transport: Transport
    _journal: JournalWriter | None
    _task: asyncio.Task[None] | None = attrs.field(default=None, init=False)

    @classmethod
    async def start(
        cls,
        settings: Settings,
        transport: Transport | None,
        client_session: aiohttp.ClientSession | None,
        rng: Random,
        hooks: Hooks,
    ) -> Running:
        """Everything open and the engine running, or nothing left behind."""
        journal = None
        if settings.journal is not None:
            journal = await JournalWriter.open(settings.journal, base_url=settings.base_url, now=_wall_clock)
        try:
            line = transport or Http.open(settings, client_session)
            here = cls._assembled(settings, line, journal, rng, EventEmitter(hooks))
        except BaseException:
            if journal is not None:
                with anyio.CancelScope(shield=True):
                    await journal.aclose()
            raise
        started = anyio.Event()
        here._task = here.loop.create_task(here._run(started), name="hailuo-async engine")
        try:
            with anyio.CancelScope(shield=True):
                await started.wait()
        except BaseException:  # asyncio's own cancellation knows no shield
            await here.close(0.0)
            raise
        return here

    @classmethod
    def _assembled(
        cls, settings: Settings, line: Transport, journal: JournalWriter | None, rng: Random, emitter: EventEmitter
    ) -> Running:
        engine = build_engine(settings, line, journal, _wall_clock, rng, emitter)
        is_private = settings.allow_private_network or settings.is_local
        proxy = proxy_for("https://results.invalid")
        downloads = Downloads(allow_private_network=is_private, proxy=None if settings.is_local else proxy)
        loop = asyncio.get_running_loop()
        results = Results(downloads, journal, engine.admission, engine.engine_state, loop, emitter)
        return cls(loop, engine, results, downloads, line, journal)

    async def _run(self, started: anyio.Event) -> None:
        try:
            await self.engine.run(started)
        finally:
            for close in (self.engine.recorder.aclose, self._downloads.aclose, self._transport.aclose):
                with anyio.move_on_after(CLOSING_S, shield=True):
                    await close()

    async def close(self, grace_s: float) -> None:
        """Returns when nothing runs any more. The engine bounds its own end, so this needs no other deadline."""
        self.engine.close_nowait(grace_s)
        if self._task is not None:
            with anyio.CancelScope(shield=True):
                await asyncio.wait([self._task])

    async def send(self, request: Request) -> Answer:
        """One request that is no job's, when the budget allows it. Cancelling it tears it, and costs nothing."""
        gate = self.engine.gate
        await gate.wait_for_query()
        sent_at = gate.acquire_query()
        answer = unknown("cancelled")
        try:
            timeout_s = REQUEST_TIMEOUT_S + request.length / SLOWEST_UPLOAD_BYTES_PER_S
            answer = await self._transport.send(request, timeout_s)
        finally:
            gate.request_answered(answer, sent_at)
        return answer

    async def ask(self, request: Request) -> Answer:
        """``send``, for an answer that has to be an acceptance. Raises a ``ServiceError`` otherwise."""
        return accepted(await self.send(request))

    async def upload(self, frame: Frame) -> str:
        """Puts an image on the service and returns its URL. Raises ``ServiceError`` unless it is known to be there."""
        answer = await self.ask(build_upload(frame, secrets.token_hex(16)))
        url = answer.data.get("url")
        if not isinstance(url, str) or not _is_on_the_web(url):
            raise ProtocolError(message="no http(s) URL @ $.data.url", status=answer.status)
        return url

    def stream(
        self,
        jobs: Iterable[Job] | AsyncIterable[Job],
        timeout_s: float | None,
        quotas: tuple[Quota, ...],
        save_to: StrPath | None,
        save_as: SaveAs | None,
        *,
        share_uploads: bool,
    ) -> OutcomeStream:
        """Many jobs, as ``AsyncSession.stream`` says."""
        admission, duplicates = self.engine.admission, DuplicateNumbers()
        uploads = SharedUploads(self.upload) if share_uploads else None

        async def take(item: Job, target: Target | None) -> TrackedJob:
            find_fault = None if target is None else target.find_fault
            return await admission.take(check_job(item), timeout_s, quotas, duplicates, uploads, find_fault)

        saving = None
        if save_to is not None or save_as is not None:
            directory = None if save_to is None else Path(save_to)
            saving = Saving(self.results, directory, save_as, has_journal=self._journal is not None)
        return OutcomeStream(Stream(jobs, take, admission, self.engine.engine_state.start_soon, saving))

    async def resume(self) -> OutcomeStream:
        """What the journal holds without an end, as ``AsyncSession.resume`` says."""
        admission = self.engine.admission

        async def recall(record: Record, target: object) -> TrackedJob:
            return await admission.recall(record)

        records = await self.journal_or_raise().unfinished()
        return OutcomeStream(Stream(records, recall, admission, self.engine.engine_state.start_soon))

    def journal_or_raise(self) -> JournalWriter:
        """The journal. Raises ``ConfigError`` if the session has none, ``SessionClosedError`` once it is closed."""
        self.engine.engine_state.check()
        if self._journal is None:
            raise ConfigError(field="journal", value=None, rule="give AsyncSession(journal=...) the file to go on from")
        return self._journal

    def stats(self) -> Stats:
        """The engine at a glance."""
        gate, ended = self.engine.gate, self.engine.admission.ended
        return Stats(
            queued=self.engine.admission.queued,
            running=gate.slots.running,
            limit=gate.slots.limit,
            requests_left=gate.budget.remaining(self.loop.time()),
            refusals=gate.refusals,
            succeeded=ended[Status.SUCCESS],
            failed=ended[Status.FAILED],
            refused=ended[Status.REFUSED],
            unknown=ended[Status.UNKNOWN],
            abandoned=ended[Status.ABANDONED],
        )


def _is_on_the_web(url: str) -> bool:
    """Whether a job may name its image by ``url``."""
    try:
        check_source("url", url)
    except ImageError:
        return False
    return url[:4].lower() == "http"


def _wall_clock() -> float:
    """Unix seconds by this machine's clock: for records that people read, never for deciding."""
    return datetime.now(UTC).timestamp()


def accepted(answer: Answer) -> Answer:
    """``answer``, if it is an acceptance. Raises a ``ServiceError`` otherwise."""
    if answer.verdict is not Verdict.ACCEPTED:
        raise answer.problem if isinstance(answer.problem, HailuoError) else build_error(answer)
    return answer
