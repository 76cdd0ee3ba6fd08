"""The journal: each job and each of its steps, on disk before a caller learns of it.

Each session has its own ``JournalWriter``. One thread reaches the database, and writes are grouped: all writes
requested within a few loop iterations, or during a commit, share the next commit. So a single write costs one
``fsync``, and hundreds at once cost few (see ``commits``). Invariants:

- A method returns only when what it wrote is durable. If the database refuses a write, only its caller gets the
  ``JournalError``: the other writes of that commit are made again, each in a commit of its own.
- Each requested write is made, in the order of the requests. Cancelling its caller cancels only the wait: no commit
  belongs to one caller, so none is torn, and no commit waits for a caller.
- During an outage (the file is locked, its disk is full, or its server is away) the same commit is tried again until it
  succeeds, and later writes queue behind it. A caller that has waited too long gets a ``JournalError``. What its write
  would have granted is then taken back, as if the caller had been cancelled; a fact is still written later.
- Leases are by the wall clock. That may jump, which can only cause a takeover (``_rules/leases``): what keeps money
  safe is the compare-and-set before a POST and that an acceptance is always recorded (see ``table``).
"""

from __future__ import annotations

import asyncio
import functools
import itertools
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, ParamSpec, TypeVar

import anyio.to_thread
import attrs

from hailuo_async._io.journal.commits import PATIENCE_S, SHORT_PATIENCE_S, Commits, Work
from hailuo_async._io.journal.kept import KeptBounds, KeptClaim, KeptJob, Pieces
from hailuo_async._io.journal.records import LEASE_S, Claim, Intent, Record, Spending
from hailuo_async._io.journal.table import JobTable, open_table
from hailuo_async._rules.identity import is_name
from hailuo_async._rules.task_ids import check_task_id
from hailuo_async.errors import JobError, JournalError
from hailuo_async.settings import Dsn, JournalLocation, journal_location

if TYPE_CHECKING:
    from hailuo_async._io.journal.kept_table import KeptTable
    from hailuo_async._io.journal.team_link import Member, TeamLink
    from hailuo_async._io.journal.team_values import Refreshed

T = TypeVar("T")
P = ParamSpec("P")

#: For how long a write waits for another process to finish its own.
BUSY_TIMEOUT_S = 5.0


@attrs.define(eq=False)
class JournalWriter:
    """A session's journal. Made by ``open``; used on one loop; ended by ``aclose``.

    Every method returns when its write is durable, and raises ``JournalError`` if it cannot be. A caller that is
    cancelled stops waiting at once; its write is still made, except where the method says otherwise.
    """

    _table: JobTable
    _thread: ThreadPoolExecutor
    _commits: Commits
    team: TeamLink | None = attrs.field(default=None, init=False)
    """This session's connection to its team, once it has joined."""
    _is_closing: bool = attrs.field(default=False, init=False)
    _stages: Iterator[int] = attrs.field(factory=itertools.count, init=False)

    @classmethod
    async def open(
        cls,
        location: str | os.PathLike[str] | Dsn,
        *,
        base_url: str | None,
        now: Callable[[], float],
        holder: str | None = None,
        busy_timeout_s: float = BUSY_TIMEOUT_S,
        patience_s: float = PATIENCE_S,
    ) -> JournalWriter:
        """The journal at ``location``, a file or a PostgreSQL DSN, made if there is none.

        It belongs to the service at ``base_url``; ``None`` opens that of any service. ``now`` tells Unix seconds and is
        called on another thread. ``holder`` names this session among those that share the journal, and is made up if it
        is ``None``. Callers wait up to ``patience_s`` for an outage to end. Raises ``JournalError``, which says what to
        do, when the journal cannot serve: then nothing may be sent. Cancelled, it leaves no thread and no open file.
        """
        thread = ThreadPoolExecutor(1, "hailuo-journal")
        found = journal_location(location)
        options = (base_url, now, holder, LEASE_S, busy_timeout_s, _table_for(found))
        opening = thread.submit(open_table, found, *options)
        try:
            table = await asyncio.wrap_future(opening)
        except BaseException:
            thread.submit(_close_if_opened, opening)
            thread.shutdown(wait=False)
            raise
        return cls(table, thread, Commits(table, thread, patience_s))

    @property
    def holder(self) -> str:
        """The name of this session in ``Record.holder``."""
        return self._table.holder

    @property
    def jobs(self) -> JobTable:
        """Names what ``ask`` and ``note`` do. Not to be called here: it lives on the journal's thread."""
        return self._table

    @property
    def connections(self) -> int:
        """How often the database was connected to: a new connection may lead to an older copy of it."""
        return self._table.database.connections

    async def ask(self, verb: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """What a method of ``jobs`` answers. Its work is done even if the caller is cancelled."""
        return await self._open.put(lambda _: verb(*args, **kwargs))

    async def note(self, verb: Callable[P, object], *args: P.args, **kwargs: P.kwargs) -> None:
        """Has a method of ``jobs`` write a fact, even if that has to wait for longer than the caller does."""
        await self._open.put(lambda _: verb(*args, **kwargs), patience_s=SHORT_PATIENCE_S, is_fact=True)

    def note_nowait(self, verb: Callable[P, object], *args: P.args, **kwargs: P.kwargs) -> None:
        """``note`` with the next commit. No caller waits for it: it may fail, and is not made once the journal closes.

        What it would have freed is free when its lease has ended.
        """
        self._note_nowait(lambda _: verb(*args, **kwargs))

    def owe_nowait(self, verb: Callable[P, object], *args: P.args, **kwargs: P.kwargs) -> None:
        """``note_nowait`` of what must not be lost: without it a job would be sent that may be paid for."""
        if not self._is_closing:
            self._commits.put(lambda _: verb(*args, **kwargs), is_fact=True, is_owed=True).cancel()

    async def intend(self, intent: Intent) -> Claim:
        """Claims the job for this session, or returns its record. Ask again while another session works on it.

        ``claim.ours``: it is new, was refused before, or was left by a session that ended; ``claim.record`` says
        whether it is still to be sent (INTENDED) or to be waited for (ACCEPTED). Cancelled, the claim is released.
        Raises ``JobError`` if its key names another job here.
        """
        return await self._ask_or_undo(lambda table: table.intend(intent), lambda table: table.release(intent.identity))

    async def keep(
        self, intent: Intent, job: KeptJob, pieces: Mapping[str, Pieces], bounds: KeptBounds, waited_s: float = 0.0
    ) -> Claim:
        """``intend``, and keeps what is sent for the job. ``pieces`` gives each image by its SHA-256, in a worker.

        ``waited_s``: the caller has waited so long already, so it waits the less for an outage to end. Cancelled, the
        job is not taken. Raises ``QueueFullError``, ``ImageError``, and what ``intend`` raises.
        """
        from hailuo_async._io.journal.staging import Staging

        stage = f"{self.holder}#{next(self._stages)}"
        ask = functools.partial(self._ask_or_undo, patience_s=max(0.0, PATIENCE_S - waited_s))
        staging = Staging(ask, self._note_nowait, stage, self._table.database.name)
        return await staging.keep(intent, job, pieces, bounds)

    async def take_kept(self, limit: int, identity: str | None = None) -> list[KeptClaim]:
        """Takes over the oldest kept jobs, at most ``limit``, that no living session holds; or the one of that name.

        Cancelled, they are free again.
        """
        from hailuo_async._io.journal.taking import Taking

        taking = Taking(limit, identity)
        return await self._ask_or_undo(taking, taking.undo)

    async def keeps(self, identity: str) -> bool:
        """Whether the journal keeps that job whole, so that a session may send it."""
        return await self._open.put(lambda table: _kept(table).keeps(identity))

    async def tidy_kept(self) -> int:
        """Frees what is left over. Returns how many jobs only newer versions of this library can send."""

        def work(table: JobTable) -> int:
            _kept(table).tidy()
            return _kept(table).left_to_others()

        return await self._open.put(work, patience_s=SHORT_PATIENCE_S)

    def drop_nowait(self, identity: str) -> None:
        """Removes, with the next commit, a kept job that no caller wants any more and that was not sent."""
        self._note_nowait(lambda table: _kept(table).drop(identity))

    def read_piece(self, sha256: str, number: int) -> bytes:
        """A piece of a kept image. Blocks: for a worker thread. Raises ``JournalError``."""
        try:
            return self._thread.submit(lambda: _kept(self._table).piece(sha256, number)).result()
        except self._table.database.FAULTS as fault:
            error = self._table.database.explain(fault)
            error.is_outage = self._table.database.is_outage(fault)
            raise error from fault
        except RuntimeError as closed:  # the thread has ended
            raise JournalError(path=self._table.database.name, reason="it is closed") from closed

    async def sending(self, identity: str, sent_at: float) -> bool:
        """Whether this session, and no other, may POST the job now. If not, another session took the job: do not send.

        ``sent_at`` is in Unix seconds. Cancelled, the permit is taken back, as the caller does not send.
        """
        asked = self._ask_or_undo(
            lambda table: table.sending(identity, sent_at),
            lambda table: table.unsent(identity, sent_at),
            SHORT_PATIENCE_S,
        )
        return bool(await asked)

    async def unfinished(self) -> list[Record]:
        """Every job without an end, oldest first: INTENDED, SENDING, ACCEPTED or UNKNOWN.

        Accepted jobs that no session waits for are ours now, as their ``holder`` says. Intended jobs are not claimed:
        sending one needs the job itself, and ``intend``.
        """
        return await self.ask(self.jobs.unfinished)

    async def resolve(
        self, identity: str, *, resubmit: bool = False, task_id: str | None = None, forget: bool = False
    ) -> Record | None:
        """Applies the owner's decision, exactly one, to a job. Returns its record then, ``None`` if forgotten.

        ``resubmit``: sent when it is next asked for, even though it may have been paid for already (unknown, refused or
        failed). ``task_id``: the service had accepted it under that name (unknown). ``forget``: the journal knows it no
        longer (anything that no session works on, except an accepted task). Raises ``JobError`` for any other.
        """
        if [resubmit is True, task_id is not None, forget is True].count(True) != 1:
            given = {"resubmit": resubmit, "task_id": task_id, "forget": forget}
            raise JobError(field="resolve", value=given, rule="give exactly one of resubmit, task_id and forget")
        if not is_name(identity):
            raise JobError(field="key", value=identity, rule="must name a job in this journal")
        if task_id is not None:
            check_task_id(task_id)
        from hailuo_async._io.journal.resolving import Resolution

        return await self._open.put(Resolution(identity, resubmit, task_id, forget))

    async def spending(self) -> Spending:
        """What was paid for the jobs here, and what those may cost that were sent and have not ended."""
        return await self.ask(self.jobs.spending)

    async def renew(self, within_s: float = 0.0) -> None:
        """Keeps this session's jobs its own for another ``LEASE_S``. To be done every third of that.

        Shares the first commit that is made within ``within_s``; if there is none, it makes one.
        """
        work: Work = JobTable.renew if self.team is None else self.team.renew
        asked = self._open.put(work, patience_s=SHORT_PATIENCE_S + within_s, soon_s=within_s)
        if self.team is None:
            await asked
        else:
            self.team.renewed(await asked)

    async def join(self, member: Member) -> Refreshed:
        """Makes this session a member of the team that shares this journal and its limits."""
        from hailuo_async._io.journal.team import TeamTable
        from hailuo_async._io.journal.team_link import TeamLink

        link = TeamLink(TeamTable(self._table), self._thread, self._commits)
        refreshed = await self._open.put(link.join)
        link.begin(member)
        self.team = link
        return refreshed

    def commit_soon(self) -> None:
        """Has a commit begin soon, as this member has something to publish to its team."""
        self._commits.commit_soon()

    async def pass_on(self, task_ids: Sequence[str]) -> None:
        """Passes notices about tasks to the sessions that work them. Writes nothing; a notice may be lost."""
        if self.team is not None:
            await self.team.pass_on(task_ids)

    async def take_over(self, *, again: bool = False) -> tuple[list[Record], tuple[str, ...]]:
        """Takes over every task that no live session waits for. Returns those, and the members that are dead.

        ``again``: and those that this session holds.
        """
        if self.team is None:
            return [], ()
        return await self._open.put(functools.partial(self.team.take_over, again))

    def unsent_nowait(self, identity: str, sent_at: float) -> None:
        """``unsent``, for an attempt whose caller has gone. If it fails, the job is in doubt after the lease."""
        self._commits.put(lambda table: table.unsent(identity, sent_at), is_fact=True).cancel()

    @property
    def lost(self) -> int:
        """How many notes on jobs could not be written, not even at the close."""
        return self._commits.lost

    async def aclose(self) -> None:
        """Makes the pending writes, releases every job, and closes the file.

        In an outage it tries that once more. If this session knows what no other does, it waits up to
        ``LAST_PATIENCE_S`` for the outage to end. Raises ``JournalError`` if the last write could not be made: then the
        leases run out by themselves. Cancelled, the closing goes on by itself.
        """
        if self._is_closing:
            return
        self._is_closing = True
        try:
            await self._commits.settled()
        finally:
            closing = asyncio.wrap_future(self._commits.close(None if self.team is None else self.team.end()))
        try:
            await asyncio.shield(closing)
        except self._table.database.FAULTS as fault:
            raise self._table.database.explain(fault) from fault
        finally:
            await anyio.to_thread.run_sync(self._thread.shutdown)

    @property
    def _open(self) -> Commits:
        """Takes writes. Raises ``JournalError`` once the journal closes."""
        if self._is_closing:
            raise JournalError(path=self._table.database.name, reason="it is closed: its session has ended")
        return self._commits

    def _note_nowait(self, work: Work) -> None:
        """Writes a fact that no caller waits for. Once the journal closes, it is not written."""
        if not self._is_closing:
            self._commits.put(work, is_fact=True).cancel()

    async def _ask_or_undo(self, work: Callable[[JobTable], T], undo: Work, patience_s: float = PATIENCE_S) -> T:
        """The result of ``work``. If the caller is cancelled, ``undo`` takes back what was granted."""
        answer = self._open.put(work, undo, patience_s)
        try:
            return await answer
        except asyncio.CancelledError:
            self._commits.caller_left()
            if not answer.cancelled() and answer.exception() is None:  # the answer came at that very moment
                self._commits.undo(undo, answer.result())
            raise


def _table_for(location: JournalLocation) -> type[JobTable]:
    if isinstance(location, Path):
        return JobTable
    from hailuo_async._io.journal.asserting import AssertingTable  # a file loses nothing

    return AssertingTable


def _kept(table: JobTable) -> KeptTable:
    from hailuo_async._io.journal.kept_table import KeptTable  # most journals keep no jobs

    return KeptTable(table)


def _close_if_opened(opening: Future[JobTable]) -> None:
    if not opening.cancelled() and opening.exception() is None:
        opening.result().close()
