"""The session: the face of the library. It wires the rooms together, owns the one engine task, and holds no rules."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import AsyncGenerator, AsyncIterable, Iterable
from contextlib import AbstractAsyncContextManager
from decimal import Decimal
from pathlib import Path
from random import Random
from types import TracebackType
from typing import TYPE_CHECKING, Self

import aiohttp

from hailuo_async._engine.arguments import Parts, SaveAs, StrPath, check_download, check_grace, check_stream
from hailuo_async._engine.clock import running_loop
from hailuo_async._engine.generation import Generation, Wait, video_of
from hailuo_async._engine.loading import OpenJournal, import_engine, load_engine
from hailuo_async._engine.outcome_stream import OutcomeStream
from hailuo_async._engine.session_state import Phase, SessionState
from hailuo_async._engine.spending_limit import Money, SpendingLimit
from hailuo_async._io.download.values import USUAL, VideoPieces
from hailuo_async._io.transport import FORKED, Transport
from hailuo_async._rules.task_ids import check_task_id
from hailuo_async._service_calls import ServiceCalls
from hailuo_async.errors import SessionClosedError
from hailuo_async.hooks import Hooks
from hailuo_async.jobs import Job, check_job
from hailuo_async.outcomes import Failure, Stats, Success, Video
from hailuo_async.settings import Dsn, OnUnknown, check_settings, count, optional_seconds

if TYPE_CHECKING:
    from hailuo_async._engine.engine import Engine

#: Jobs that may wait at once, unless it is set. Each is a few kilobytes here: images stay where they are.
DEFAULT_MAX_QUEUED = 10_000
#: Bytes of images that may wait in a journal that keeps jobs.
DEFAULT_MAX_KEPT_BYTES = 4 << 30
#: Seconds that a close gives the POSTs under way, so that no task id is lost.
DEFAULT_GRACE_S = 30.0


class AsyncSession(ServiceCalls):
    """Makes videos from images through the Modellix API: submits jobs, waits for them, and never loses a paid one.

    ::

        async with AsyncSession() as session:
            video = await session.generate(ImageToVideo(Path("cat.jpg"), prompt="[Push in] the cat looks up"))
            await session.download(video, "cat.mp4")

    One session serves a whole program: any number of tasks may call it at once, and each of them may be cancelled at
    any moment. It may be made before a loop runs, and be entered and left by different tasks; from its entering on it
    belongs to that task's loop. Used before, after, on another loop, or in a child that was forked since, it raises
    ``SessionClosedError`` and sends nothing. It cannot be entered twice.

    ``api_key``, ``base_url``
        Else from ``MODELLIX_API_KEY`` and ``MODELLIX_BASE_URL``. The base is an https origin; http for localhost alone.
    ``max_running``
        At most so many tasks at the service at once. Without it the team's limit is found from the service's refusals.
    ``timeout``
        Seconds from a job's submit to its video, for jobs without a timeout of their own; a POST that has left is given
        ten seconds for its answer even so, as to give up leaves a doubt. Without either, a job waits for its slot
        without limit, for a connection five minutes, and its task for seven days, as results are kept no longer.
    ``journal``
        A file (SQLite), or a database (``postgresql://user@host/db``, extra ``postgres``) for many machines, that
        remembers every job, so that a batch that was killed can be run again and pays only for what is missing.
        ``journal_prompts`` keeps the prompts there too; images are kept only with ``keep_jobs``, the key never.
    ``keep_jobs``
        The journal keeps whole jobs, images too, until the service accepts them: a submitted job waits on disk, and is
        made even if this process dies. This session also sends, and pays for, the jobs that other sessions with
        ``keep_jobs`` left unsent, the oldest first. ``max_kept_bytes`` bounds the images of all sessions together.
    ``max_queued``
        At most so many jobs waiting for a slot; ``submit`` raises ``QueueFullError`` beyond it.
    ``max_jobs``
        At most so many jobs sent in the session's life, beside those that the service refused; ``SpendingLimitError``
        beyond it, before anything is sent.
    ``max_cost``
        At most so many US dollars, as a ``Decimal``, a text or a number. A job whose highest price would pass the limit
        is not sent (``SpendingLimitError``); a job without a known price needs ``max_jobs`` as well. With a journal,
        the payments of earlier sessions count.
    ``poll_interval``
        The shortest and the longest time between two queries of one task, in seconds. Between them the session learns
        when a query is worth a request.
    ``on_unknown``
        ``"raise"``: a POST whose answer was lost is never sent again by itself. ``"resubmit"`` sends it again, up to
        three times, and **each of them may be paid for**.
    ``allow_private_network``
        Allows downloads over http and from private addresses; always allowed if the service is on this machine.
    ``webhook_url``
        A public https URL to which the service sends the end of each task. ``notice`` shows how to receive that.
    ``client_session``
        An aiohttp session to use, for its proxy, TLS or tracing. It stays yours to close. Its retries, middlewares
        and redirects are not used for requests that cost money. Without it, proxies are taken from the
        environment.
    ``transport``
        Sends the requests instead of HTTP, for tests and simulations: see ``hailuo_async.testing``.
    ``rng``
        The random numbers of every jitter; a seeded one lets a simulation take the same course each time.

    Raises ``ConfigError`` naming the field, the value and the rule.
    """

    _open_journal: OpenJournal | None = None
    _engine: Engine | None = None

    def __init__(
        self,
        *,
        api_key: str | None = None,
        base_url: str | None = None,
        max_running: int | None = None,
        journal: str | os.PathLike[str] | Dsn | None = None,
        timeout: float | None = None,
        max_queued: int = DEFAULT_MAX_QUEUED,
        max_jobs: int | None = None,
        max_cost: Decimal | str | float | None = None,
        poll_interval: tuple[float, float] = (0.5, 30.0),
        on_unknown: OnUnknown = "raise",
        journal_prompts: bool = False,
        keep_jobs: bool = False,
        max_kept_bytes: int = DEFAULT_MAX_KEPT_BYTES,
        allow_private_network: bool = False,
        webhook_url: str | None = None,
        client_session: aiohttp.ClientSession | None = None,
        transport: Transport | None = None,
        rng: Random | None = None,
    ) -> None:
        self._settings = check_settings(
            api_key=api_key, base_url=base_url, max_running=max_running, journal=journal, timeout=timeout,
            max_queued=max_queued, max_jobs=max_jobs, max_cost=max_cost, poll_interval=poll_interval,
            on_unknown=on_unknown, journal_prompts=journal_prompts, keep_jobs=keep_jobs, max_kept_bytes=max_kept_bytes,
            allow_private_network=allow_private_network, webhook_url=webhook_url,
        )  # fmt: skip
        self._parts = Parts(client_session, transport, rng)
        if transport is not None:
            import_engine()  # tests and simulations run on clocks that cannot wait for a thread
        self._session_state, self._hooks = SessionState(), Hooks()
        self._money = Money(SpendingLimit(self._settings.max_jobs, self._settings.max_cost))

    def __repr__(self) -> str:
        if not hasattr(self, "_settings"):  # a traceback that shows local variables asks for it
            return "<AsyncSession, not made>"
        return f"<AsyncSession at {self._settings.base_url}, {self._session_state.phase}>"

    # --- Its life ---

    async def __aenter__(self) -> Self:
        """Opens the journal and starts the engine. Raises ``JournalError`` if the journal cannot be used."""
        state = self._session_state
        if state.phase is not Phase.NEW:
            reason = "a session can be entered once: make a new one each time, in the application's lifespan"
            raise SessionClosedError(reason=reason)
        state.phase = Phase.OPENING
        try:
            await load_engine()
            from hailuo_async._engine.wiring import start_engine

            engine = await start_engine(
                self._settings, state, self._parts, self._hooks, self._money, self._open_journal
            )
        except BaseException:
            state.end("the session could not be opened")
            raise
        if not state.is_open:
            await engine.close(0.0)
            raise state.error()
        self._engine = engine
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    async def aclose(self, grace: float = DEFAULT_GRACE_S) -> None:
        """Takes no more jobs, lets the POSTs under way end for at most ``grace`` seconds, and ends.

        Jobs that were not sent end with ``SessionClosedError`` and cost nothing. Tasks that run go on at the service:
        callers that wait get a ``SessionClosedError`` with the ``task_id``, for ``attach`` in another session;
        with a journal, ``resume`` has them all. In an outage of the journal, it waits up to 30 s to write
        what may not be on record of a job that may be paid for; if there is nothing, some seconds at most. May be
        called more than once, from any task of its loop: the shortest grace counts, and a caller that is cancelled
        stops nothing. Raises ``ConfigError``, and closes nothing, for a ``grace`` that is no number of seconds.
        """
        check_grace(grace)
        if self._engine is None:
            self._session_state.end("the session is closed; nothing was sent")
        else:
            await self._running_engine().close(grace)

    def _running_engine(self) -> Engine:
        """The engine, if it is used where it may be. Raises ``SessionClosedError`` otherwise."""
        if self._engine is None:
            raise self._session_state.error()
        if running_loop() is not self._engine.loop:
            raise SessionClosedError(reason="the session belongs to another event loop; nothing was sent")
        if os.getpid() != self._engine.pid:
            raise SessionClosedError(reason=FORKED)
        return self._engine

    # --- Jobs ---

    async def submit(self, job: Job, *, timeout: float | None = None) -> Generation:
        """Takes a job and returns its handle, without waiting for a slot. The job will be sent once, and is paid for.

        Its images are looked at first, in a thread, and with a journal the intent is on disk when this returns.
        ``timeout`` is in seconds from now, over all of the job's requests: awaiting the handle ends then. A job that
        has several callers in this session goes on until the last of their deadlines. Raises ``JobError`` or
        ``ImageError`` for a job that cannot be sent, ``QueueFullError``, ``SpendingLimitError``, ``JournalError``,
        ``SessionClosedError``: in all these cases nothing is paid for. Cancelled before it returns, it takes no job.
        """
        admission, wait = self._running_engine().admission, self._wait(timeout)
        return Generation(await admission.submit(check_job(job), wait.timeout_s), wait)

    def _wait(self, timeout: float | None) -> Wait:
        return Wait(optional_seconds("timeout", timeout) or self._settings.timeout)

    async def generate(self, job: Job, *, timeout: float | None = None) -> Video:
        """Submits a job and waits for its ``Video``. Paid for once. Raises what ``submit`` raises, or what it ended in.

        Cancelled before the job was sent, the job is withdrawn and costs nothing. Cancelled later it goes on, as the
        service has no cancel; the log and a note on the exception name its task. ``submit`` keeps hold of the task.
        """
        engine, wait = self._running_engine(), self._wait(timeout)
        tracked = await engine.admission.submit(check_job(job), wait.timeout_s)
        try:
            return await video_of(tracked, wait)
        except asyncio.CancelledError as cancellation:
            engine.dispatcher.withdraw(tracked)
            if tracked.task_id is not None:
                advice = f"session.attach({tracked.task_id!r}) waits for it again, and does not pay again"
                cancellation.add_note(f"the job goes on at the service and is paid for: {advice}")
            raise

    def stream(
        self,
        jobs: Iterable[Job] | AsyncIterable[Job],
        *,
        timeout: float | None = None,
        max_jobs: int | None = None,
        max_cost: Decimal | str | float | None = None,
        save_to: StrPath | None = None,
        save_as: SaveAs | None = None,
        share_uploads: bool = False,
    ) -> OutcomeStream:
        """Submits many jobs and yields their outcomes as they end, in that order. Each job is paid for once.

        Jobs are pulled only as there is room, so ``jobs`` may be endless, and a slow reader holds everything back.
        One job's error is a ``Failure``. What every job would meet (401, 402, a spent ``max_jobs`` or ``max_cost``, a
        journal that cannot be written), and what ``jobs`` itself raises, is raised here after the tasks that run were
        yielded. ``timeout`` is each job's, ``max_jobs`` and ``max_cost`` are this stream's; they mean what they mean
        for the session. Before one of them ends it, it waits for what runs: that may cost less, or be refused.

        ``save_to`` is a directory, made if there is none, in which each video is saved before its ``Success`` is
        yielded, with its ``path``; saving is bounded by itself and takes no slot. A video that cannot be saved is a
        ``Failure`` with ``DownloadError`` and its ``task_id``; if the directory can hold none, that is raised here
        before any job is pulled. ``save_as`` says instead where each video is saved: a mapping from keys to paths, or a
        callable that takes a job and returns its path. With either, a file that is there already, or that cannot be
        written, is a ``DownloadError`` before its job is paid for.

        ``share_uploads`` puts an image that several jobs have in common on the service once, from its second job on,
        instead of sending it with each.

        ``stop()`` on what this returns sends nothing more and yields what runs. Leaving it in any way stops it at once:
        nothing more is pulled, sent or saved, and what was queued is withdrawn. Tasks that run go on. To be certain of
        the moment, leave it under ``contextlib.aclosing``. Raises ``TypeError`` for one job, or what holds no jobs.
        """
        own = check_stream(jobs, save_to, save_as, share_uploads, max_jobs, max_cost)
        engine, limits = self._running_engine(), (self._money.limit, *own)
        return engine.stream(jobs, self._wait(timeout).timeout_s, limits, save_to, save_as, share_uploads=share_uploads)

    async def attach(self, task_id: str, *, timeout: float | None = None) -> Generation:
        """A handle on a task that was submitted elsewhere, or earlier. It is not paid for again.

        ``timeout`` is as in ``submit``. Raises ``JobError`` for what cannot be a task id, and ``JournalError``. A task
        that the service does not know, or no longer, ends in ``TaskExpiredError``. Cancelled before it returns, it
        loses nothing.
        """
        admission, wait = self._running_engine().admission, self._wait(timeout)
        check_task_id(task_id)
        return Generation(await admission.attach(task_id, wait.timeout_s), wait)

    async def find(self, key: str) -> Generation:
        """A handle on any job in the journal, of any session, by its key. The job is not paid for again.

        Its changes arrive about a tenth of a second after they are on record. If the session that worked on it has
        gone, this one waits for its task. A job that was never sent ends in ``JournalError``, but one that is kept is
        sent, and paid for, by a session with ``keep_jobs``. Raises ``JobNotFoundError``, ``JournalError``, and
        ``ConfigError`` without a journal. Cancelled before it returns, it loses nothing.
        """
        return Generation(await self._running_engine().admission.find(key))

    async def resume(self) -> AsyncGenerator[Success | Failure]:
        """Yields everything in the journal that is not finished, as it ends, without paying again.

        It waits for the tasks that run. A job in doubt is a ``Failure`` with ``SubmissionUnknownError``, until
        ``resolve`` decides. One that was never sent is a ``Failure`` with ``JournalError``: give the job itself again
        to send it; but one that is kept is sent, and paid for, by a session with ``keep_jobs``. Left or cancelled, it
        loses nothing. Raises ``JournalError``, and ``ConfigError`` without a journal.
        """
        async with contextlib.aclosing(await self._running_engine().resume()) as outcomes:
            async for outcome in outcomes:
                yield outcome

    async def resolve(
        self, key: str, *, resubmit: bool = False, task_id: str | None = None, forget: bool = False
    ) -> None:
        """Decides what becomes of a job in the journal that is in doubt, or has failed. Give exactly one of the three.

        ``resubmit``: it may be sent when it is given again, **and may be paid for a second time**. ``task_id``: the
        service did accept it, under this id. ``forget``: it is taken out of the journal, where its cost, paid or in
        doubt, still counts. ``key`` is the job's, or the error's ``key`` for a job without one. Cancelled, it decides
        all the same. Raises ``JobError`` for a key that is not there, or a job of which this cannot be decided,
        ``JournalError``, and ``ConfigError`` if the session has no journal.
        """
        engine = self._running_engine()
        record = await engine.journal_or_raise().resolve(key, resubmit=resubmit, task_id=task_id, forget=forget)
        if record is not None and task_id is not None:
            engine.admission.resolve(record)

    # --- Results ---

    async def download(
        self,
        video: Video,
        path: str | os.PathLike[str],
        *,
        overwrite: bool = False,
        key: str | None = None,
        max_bytes: int = USUAL.max_bytes,
        timeout: float = USUAL.timeout_s,
        allow_unchecked: bool = False,
    ) -> Path:
        """Saves a video as the file ``path``, or in the directory ``path`` by a name made from ``key`` or the task id.

        The file is written beside its target and renamed when it is whole and on the disk. A download that was cut
        goes on where it was. An existing file is left alone unless ``overwrite``, and a device, a FIFO or a directory
        always. The API key is not sent to where the video lies. An expired URL is replaced, once. With a journal,
        a video that was saved before is not fetched again while that very file is still there: the call returns where
        it lies, and makes no other file of it unless ``overwrite``. ``max_bytes`` and ``timeout``, in seconds, bound
        it: 2 GiB and an hour unless set otherwise. ``allow_unchecked`` also saves what cannot be checked to be whole or
        readable: an answer without a length that is no MP4, or one in a strange encoding. Not charged for. Raises
        ``DownloadError``, ``TaskExpiredError``, ``SessionClosedError``, and ``TypeError`` for what is not a ``Video``.
        Cancelled, it leaves only what a later download can go on with.
        """
        limits = check_download(
            video, max_bytes, timeout, key=key, overwrite=overwrite, allow_unchecked=allow_unchecked
        )
        return await self._running_engine().results.save(video, path, limits, key=key, overwrite=overwrite)

    def open_video(
        self, video: Video, *, max_bytes: int = USUAL.max_bytes, allow_unchecked: bool = False, start: int = 0
    ) -> AbstractAsyncContextManager[VideoPieces]:
        """The video in pieces of some 256 KiB, without a file: for passing it on, as a web handler does.

        ::

            async with session.open_video(video) as pieces:
                async for piece in pieces:
                    await response.write(piece)

        Entering it fetches the first piece, so that an error is known before the answer begins. A ``DownloadError`` may
        come as late as after the last piece: then what was passed on is not a whole video. One piece is held at a
        time, and an expired URL is replaced. ``start`` leaves out that many bytes at the beginning, for players
        that seek; the checksum of the whole is not checked then. ``pieces.size`` is the whole video's size in bytes,
        where the server says it. Not charged for. Takes and raises what ``download`` does.
        """
        limits = check_download(video, max_bytes, USUAL.timeout_s, allow_unchecked=allow_unchecked)
        return self._running_engine().results.open(video, limits, start=count("start", start, least=0))

    # --- A look inside ---

    @property
    def is_open(self) -> bool:
        """Whether it takes jobs: it was entered, has not been closed, and its engine has not failed."""
        return self._session_state.is_open

    @property
    def has_journal(self) -> bool:
        """Whether it was given a ``journal``, which remembers its jobs."""
        return self._settings.journal is not None

    @property
    def hooks(self) -> Hooks:
        """Callables that are given each event as it happens: ``session.hooks.append(hook)``, before it runs or while.

        Emits each fact of each job once: ``Queued``, ``Sent``, ``Refused``, ``Accepted``, ``StatusSeen``, ``Ended``,
        and beside the jobs ``Downloaded`` and ``GateClosed``. ``Hooks`` says what a hook may do, and what if it fails.
        """
        return self._hooks

    def stats(self) -> Stats:
        """The session at a glance: what waits, what runs, what the limits are, and how jobs have ended."""
        return self._running_engine().stats()
