"""Writes each step of a job to the journal. Without a journal, every method returns at once.

Before a POST, a journal that fails stops the job: no job is sent that is not on record. After the POST, a failing
journal stops nothing: the task may be paid for, so the session waits for it all the same. A note that cannot be written
is logged with the task id; the journal keeps it, and writes it first when it can write again. A cancellation tears no
note: a write that began is finished.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Mapping
from decimal import Decimal
from typing import TYPE_CHECKING, TypeAlias

import anyio
import attrs

from hailuo_async._engine.clock import loop_time
from hailuo_async._engine.tracked_job import TrackedJob
from hailuo_async._images.frame import Frame
from hailuo_async._io.journal.records import LEASE_S, Claim, Intent, JournalState, Leave, Record
from hailuo_async._rules.identity import DuplicateNumbers, build_facts, build_fingerprint
from hailuo_async._rules.refusals import stops_everything
from hailuo_async.errors import AuthenticationError, ConfigError, HailuoError, JobNotFoundError, JournalError
from hailuo_async.jobs import Job
from hailuo_async.outcomes import Video

if TYPE_CHECKING:
    from hailuo_async._engine.team import Team
    from hailuo_async._io.journal.writer import JournalWriter

logger = logging.getLogger("hailuo_async")

_Note: TypeAlias = "Callable[[JournalWriter, str], Awaitable[object]]"
"""Writes a note about the job of that identity."""


@attrs.define(eq=False)
class JournalRecorder:
    """Writes to the journal, if there is one. Each method returns when its record is durable."""

    _journal: JournalWriter | None = None
    path: str = ""
    """The journal's place, for error messages."""
    _keeps_prompts: bool = False
    team: Team | None = None
    """The team that grants POSTs, if the session shares its journal."""
    _renewed_at: float = attrs.field(factory=loop_time, init=False)
    """When the leases of our jobs were last renewed, in loop time."""
    _lapses: int = attrs.field(default=0, init=False)
    """How often they were renewed too late: another session may have taken our jobs over then."""

    @property
    def need_fingerprints(self) -> bool:
        """Whether images have to be read whole before they are sent, to recognise a job that is given again."""
        return self._journal is not None

    def build_intent(
        self, job: Job, frames: Mapping[str, Frame], asked: DuplicateNumbers, price: Decimal | None = None
    ) -> Intent | None:
        """The entry of ``job`` for the journal, numbered by ``asked`` if it has no key; ``None`` without a journal."""
        if self._journal is None:
            return None
        fingerprint = build_fingerprint(job, frames)
        return Intent(
            identity=job.key or asked.next_identity(fingerprint),
            key=job.key,
            fingerprint=fingerprint,
            kind=type(job).__name__,
            model=job.model,
            facts=build_facts(job),
            prompt=job.prompt if self._keeps_prompts else None,
            price=price,
        )

    async def intend(self, intent: Intent | None) -> Claim | None:
        """Enters a job, and returns its record with the session's claim; ``None`` without a journal.

        Raises ``JournalError`` if it cannot be written, and ``JobError`` if its key names another job there.
        """
        return None if self._journal is None or intent is None else await self._journal.intend(intent)

    async def look(self, identity: str) -> Claim | None:
        """The record of a job that another session works on; claims its task if that session has gone.

        Raises ``JournalError`` if the record was removed, or left unsent: sending needs the job itself.
        """
        if self._journal is None:
            return None
        claim = await self._journal.follow(identity)
        if claim is None:
            raise JournalError(path=self.path, reason=f"job {identity!r} was removed from it: give the job again")
        if is_left_unsent(claim.record):
            raise self.not_sent(identity)
        return claim

    async def find(self, identity: str) -> Claim:
        """The record of the job of that identity; claims its task if the session that worked on it has gone.

        Raises ``JobNotFoundError``, ``JournalError``, and ``ConfigError`` without a journal.
        """
        if self._journal is None:
            raise ConfigError(field="journal", value=None, rule="must be given: find() reads it")
        claim = await self._journal.follow(identity)
        if claim is None:
            raise JobNotFoundError(key=identity)
        return claim

    def not_sent(self, identity: str) -> JournalError:
        """The error for a job that is in the journal, unsent, and not at hand to be sent."""
        reason = f"job {identity!r} was not sent: give the job itself again to send it"
        return JournalError(path=self.path, reason=reason)

    async def adopt(self, task_id: str) -> Claim | None:
        """The record of an attached task, with the session's claim; ``None`` without a journal."""
        return None if self._journal is None else await self._journal.adopt(task_id, None)

    async def sending(self, tracked: TrackedJob, at: float) -> Leave:
        """Asks whether the POST may leave, at ``at`` Unix seconds. From then on the job counts as sent.

        Raises ``JournalError`` if that cannot be written: then the POST must not leave either.
        """
        if self._journal is None or tracked.identity is None:
            return Leave.GRANTED
        tracked.attempt_at = at
        if self.team is None:
            return Leave.GRANTED if await self._journal.sending(tracked.identity, at) else Leave.TAKEN
        place = tracked.taken_at if tracked.place is None else tracked.place
        return await self.team.leave(tracked.identity, at, place)

    def leave_to_send(self) -> Callable[[], bool] | None:
        """A check, for any later time, whether a job that is claimed now is still ours; ``None`` without a journal.

        After a lapse of the leases it never is, even if they were renewed since: another session may hold the job.
        The claim has a lease of its own: a job that is claimed when the journal is back after an outage may be sent.
        """
        if self._journal is None:
            return None
        lapses, claimed_at = self._lapses, loop_time()
        return lambda: self._lapses == lapses and loop_time() - max(self._renewed_at, claimed_at) < LEASE_S

    async def unsent(self, tracked: TrackedJob) -> None:
        """Notes that the job certainly was not accepted, and waits again."""
        await self._note(tracked, lambda journal, identity: journal.unsent(identity, tracked.attempt_at))

    async def withdrawn(self, tracked: TrackedJob) -> None:
        """Notes that the job is not wanted any more, and that its POST did not leave.

        Others may take it, except a kept job that its caller took back: another keeper would send that, and pay.
        """
        await self.unsent(tracked)
        self.let_go_nowait(tracked)

    def let_go_nowait(self, tracked: TrackedJob) -> None:
        """Frees a job that was not sent for other sessions, or drops one that was kept and is not wanted any more."""
        if tracked.is_kept and tracked.is_dropped and self._journal is not None and tracked.identity is not None:
            self._journal.drop_nowait(tracked.identity)
        else:
            self.release_nowait(tracked)

    async def accepted(self, tracked: TrackedJob, at: float) -> None:
        """Notes that the service accepted the job, at ``at`` Unix seconds."""
        task_id = tracked.task_id or ""
        await self._note(tracked, lambda journal, identity: journal.accepted(identity, task_id, at))

    async def refused(self, tracked: TrackedJob, error: HailuoError) -> None:
        """Notes that the job certainly was not accepted, and is not sent again."""
        if tracked.is_kept and stops_everything(error):
            await self.unsent(tracked)  # a session with another key, or after a payment, can send it
        elif not isinstance(error, JournalError):
            at = tracked.attempt_at
            await self._note(tracked, lambda journal, identity: journal.refused(identity, error, at))

    async def unknown(self, tracked: TrackedJob, error: HailuoError) -> None:
        """Notes that the service may have accepted the job or not."""
        at = tracked.attempt_at
        await self._note(tracked, lambda journal, identity: journal.unknown(identity, error, at))

    async def failed(self, tracked: TrackedJob, error: HailuoError) -> None:
        """Notes that the task failed. An invalid key says nothing about the task, so it stays accepted then."""
        if not isinstance(error, AuthenticationError):
            await self._note(tracked, lambda journal, identity: journal.failed(identity, error))

    async def succeeded(self, tracked: TrackedJob, video: Video) -> None:
        """Notes the finished video."""
        await self._note(tracked, lambda journal, identity: journal.succeeded(identity, video))

    def release_nowait(self, tracked: TrackedJob) -> None:
        """Frees the job, so that another session may work on it."""
        if self._journal is not None and tracked.identity is not None:
            self._journal.release_nowait(tracked.identity)

    async def _note(self, tracked: TrackedJob, write: _Note) -> None:
        if self._journal is None or tracked.identity is None:
            return
        try:
            await write(self._journal, tracked.identity)
        except JournalError as error:
            then = "it is written when that has passed" if error.is_outage else "note it down"
            logger.error(
                "%s; job %s goes on, its task %s is not on record: %s", error, tracked.name, tracked.task_id, then
            )

    # --- Beside all jobs ---

    async def keep_up(self) -> None:
        """Renews the leases of our jobs, until it is cancelled."""
        while self._journal is not None:
            await anyio.sleep(LEASE_S / 3)
            began_at = loop_time()
            self._lapses += began_at - self._renewed_at >= LEASE_S
            try:
                await self._journal.renew()
                self._renewed_at = began_at
            except JournalError as error:
                logger.warning("%s; another session may take its jobs over", error)

    async def aclose(self) -> None:
        """Writes the notes that are still unwritten, as far as possible, and closes the journal."""
        if self._journal is None:
            return
        try:
            await self._journal.aclose()
        except JournalError as error:
            logger.warning("%s; its jobs are free for others in %g s: go on with them then", error, LEASE_S)
        if self._journal.lost:
            message = "the ends of %d jobs are not in the journal: look for them on the service's dashboard"
            logger.error(message, self._journal.lost)


def is_left_unsent(record: Record) -> bool:
    """Whether the job was never sent, and no session works on it."""
    return record.state is JournalState.INTENDED and record.holder is None
