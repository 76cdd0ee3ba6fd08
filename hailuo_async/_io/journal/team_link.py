"""A session's connection to its team: steps that go with its commits, refreshes between them, and what wakes it."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Protocol, TypeVar

import attrs

from hailuo_async._io.journal.commits import Commits, FirstWork, Raised
from hailuo_async._io.journal.database import faults_as_errors
from hailuo_async._io.journal.records import Record
from hailuo_async._io.journal.table import JobTable
from hailuo_async._io.journal.team import RenewalMade, TeamTable
from hailuo_async._io.journal.team_values import Refreshed, Renewed, Step, StepDone

T = TypeVar("T")


class Member(Protocol):
    """A session's part in its team: each commit begins with what it has to say."""

    def compose(self) -> Step | None:
        """The step for the commit that begins now."""

    def stepped(self, step: Step, done: StepDone) -> None:
        """Notes the answer to ``step``."""

    def failed(self, step: Step, error: Exception) -> None:
        """Notes that ``step`` is not on record, or is taken back."""

    def renewed(self, renewed: Renewed) -> None:
        """Notes that the leases of this session were renewed."""

    def woken(self) -> None:
        """Notes that another session has changed something that this one may wait for."""


@attrs.define(eq=False)
class TeamLink:
    """Belongs to the loop; ``_table`` to the journal's thread."""

    _table: TeamTable
    _thread: ThreadPoolExecutor
    _commits: Commits
    _member: Member | None = attrs.field(default=None, init=False)
    """From ``begin`` to ``end``."""
    _listening: int | None = attrs.field(default=None, init=False)
    """The file descriptor that the loop watches for notifications."""
    _reads: int = attrs.field(default=0, init=False)
    """How many refreshes and notices the thread has under way."""

    @property
    def can_be_woken(self) -> bool:
        """Whether the sessions that share the journal can wake this one. A wake-up may get lost all the same."""
        return self._table.jobs.database.can_be_woken

    def begin(self, member: Member) -> None:
        """Asks ``member`` for a step with each commit from now on, and wakes it."""
        self._member = member
        self._commits.first = self._first
        if not self._table.jobs.database.IS_LOCAL:  # else no answer comes over what is watched
            self._commits.on_busy, self._commits.on_idle = self._stop_listening, self._listen
        self._commits.on_failure = self._table.forget
        self._listen()

    def end(self) -> Callable[[], None]:
        """Takes part no more. Returns what leaves the team and closes the journal, on its thread."""
        self._member = None
        self._stop_listening()
        return self._table.close

    # --- Works, on the journal's thread ---

    def join(self, _: JobTable) -> Refreshed:
        """Makes this session a member."""
        return self._table.join()

    def renew(self, _: JobTable) -> RenewalMade:
        """Renews every lease of this session."""
        return self._table.renew()

    def take_over(self, again: bool, _: JobTable) -> tuple[list[Record], tuple[str, ...]]:
        """Takes over the tasks that dead sessions have left; ``again``: and returns those of this session, too."""
        if again:
            self._table.members.forget()
        return self._table.members.take_over()

    # --- Reading: nothing is written ---

    async def refresh(self, since: int | None) -> Refreshed | None:
        """How the team stands, and which jobs changed; ``None`` if nothing has. Raises ``JournalError``."""
        if self._member is None:
            return None
        return await self._read(functools.partial(self._table.refresh, since))

    async def pass_on(self, task_ids: Sequence[str]) -> None:
        """Passes notices about tasks to the sessions that work them. May be lost. Raises ``JournalError``."""
        if self._member is not None:
            await self._read(functools.partial(self._table.pass_on, task_ids))

    async def _read(self, read: Callable[[], T]) -> T:
        self._stop_listening()
        self._reads += 1
        try:
            with faults_as_errors(self._table.jobs.database):
                return await asyncio.get_running_loop().run_in_executor(self._thread, read)
        finally:
            self._reads -= 1
            self._listen()

    # --- Steps, renewals and wake-ups ---

    def renewed(self, renewed: Renewed) -> None:
        """Gives the member what the renewal of its leases has found."""
        if self._member is not None:
            self._member.renewed(renewed)

    def _first(self) -> FirstWork | None:
        step = None if self._member is None else self._member.compose()
        if step is None:
            return None
        return FirstWork(
            prepare=functools.partial(self._table.prepare, step),
            work=lambda _: self._table.step(step),
            undo=lambda _: self._table.take_back(step),
            on_settled=functools.partial(self._settled, step),
        )

    def _settled(self, step: Step, result: object) -> None:
        if step.is_called:
            self._listen()  # the call was taken in
        if self._member is not None and isinstance(result, StepDone):
            self._member.stepped(step, result)
        elif self._member is not None and isinstance(result, Raised):
            self._member.failed(step, result.error)

    def _listen(self) -> None:
        """Has the loop watch for notifications, unless the thread uses the connection: its answers come there."""
        self._stop_listening()
        may_listen = self._member is not None and not self._is_in_use
        number = self._table.jobs.database.fileno() if may_listen else None
        if number is None:
            return
        loop = asyncio.get_running_loop()
        self._listening = number
        loop.add_reader(number, self._woken)
        if self._table.jobs.database.has_unseen_notifications():
            loop.call_soon(self._woken)  # while the thread read other answers

    def _stop_listening(self) -> None:
        if self._listening is not None:
            asyncio.get_running_loop().remove_reader(self._listening)
            self._listening = None

    @property
    def _is_in_use(self) -> bool:
        """Whether answers to the thread come over the connection that notifications come over."""
        is_at_work = self._commits.is_under_way or self._reads > 0
        return is_at_work and not self._table.jobs.database.IS_LOCAL

    def _woken(self) -> None:
        self._stop_listening()
        if self._member is not None:
            self._member.woken()
