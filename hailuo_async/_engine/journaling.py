"""What the journal is told of a job. Without a journal there is nothing to tell, and everything here returns at once.

Before a POST, a journal that fails stops the job: nothing is sent that is not on record. After it, the journal stops
nothing: the task may be paid for, so it is waited for all the same. What could not be written yet is logged, with the
task id; the journal owes it, and writes it first when it can be written again.
No word is torn by a cancellation: what was begun is written.
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
"""Writes something about the job of that identity."""


@attrs.define(eq=False)
class JournalRecorder:
    """Tells the journal, if there is one. Each method returns when its record is durable."""

    _journal: JournalWriter | None = None
    path: str = ""
    """Where the journal lies, for the words of errors."""
    _keeps_prompts: bool = False
    team: Team | None = None
    """Who grants the POSTs, where the session shares its journal."""
    _renewed_at: float = attrs.field(factory=loop_time, init=False)
    """When the leases of our jobs were last renewed, in loop time."""
    _lapses: int = attrs.field(default=0, init=False)
    """How often they were not renewed in time: another session may have taken our jobs over then."""

    @property
    def need_fingerprints(self) -> bool:
        """Whether images have to be read whole before they are sent, to be known again."""
        return self._journal is not None

    def build_intent(
        self, job: Job, frames: Mapping[str, Frame], asked: DuplicateNumbers, price: Decimal | None = None
    ) -> Intent | None:
        """What the journal is to know ``job`` by, counted in ``asked`` if it has no key; ``None`` without a journal."""
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
        """What the journal knows of a job, which it holds from now on; ``None`` without a journal.

        Raises ``JournalError`` if it cannot be written, and ``JobError`` if its key names another job there.
        """
        return None if self._journal is None or intent is None else await self._journal.intend(intent)

    async def look(self, identity: str) -> Claim | None:
        """How a job stands that another session works on; its task is taken up if that session has gone.

        Raises ``JournalError`` if it was taken out of the journal, or left there unsent: to send it takes the job.
        """
        if self._journal is None:
            return None
        claim = await self._journal.follow(identity)
        if claim is None:
            raise JournalError(path=self.path, reason=f"job {identity!r} was taken out of it")
        if is_left_unsent(claim.record):
            raise self.not_sent(identity)
        return claim

    async def find(self, identity: str) -> Claim:
        """What the journal knows of the job of that name; its task is taken up if the session that worked it has gone.

        Raises ``JobNotFoundError``, ``JournalError``, and ``ConfigError`` without a journal.
        """
        if self._journal is None:
            raise ConfigError(field="journal", value=None, rule="names the file that knows the jobs")
        claim = await self._journal.follow(identity)
        if claim is None:
            raise JobNotFoundError(key=identity)
        return claim

    def not_sent(self, identity: str) -> JournalError:
        """A job is in the journal, and nobody here could send it."""
        reason = f"job {identity!r} was not sent: give the job itself again to send it"
        return JournalError(path=self.path, reason=reason)

    async def adopt(self, task_id: str) -> Claim | None:
        """What the journal knows of a task that is attached to; ``None`` without a journal."""
        return None if self._journal is None else await self._journal.adopt(task_id, None)

    async def sending(self, tracked: TrackedJob, at: float) -> Leave:
        """The POST would leave, at ``at`` Unix seconds: whether it may. From then on it counts as sent.

        Raises ``JournalError`` if it cannot be written: then it must not leave either.
        """
        if self._journal is None or tracked.identity is None:
            return Leave.GRANTED
        if self.team is None:
            return Leave.GRANTED if await self._journal.sending(tracked.identity, at) else Leave.TAKEN
        place = tracked.taken_at if tracked.place is None else tracked.place
        return await self.team.leave(tracked.identity, at, place)

    def leave_to_send(self) -> Callable[[], bool] | None:
        """Tells at any later time whether a job that is claimed now is still ours by our own clock.

        It is not once the leases have lapsed in between, even if they were renewed since. ``None`` without a journal.
        """
        if self._journal is None:
            return None
        lapses = self._lapses
        return lambda: self._lapses == lapses and loop_time() - self._renewed_at < LEASE_S

    async def unsent(self, tracked: TrackedJob) -> None:
        """It certainly was not accepted, and waits again."""
        await self._note(tracked, lambda journal, identity: journal.unsent(identity))

    async def withdrawn(self, tracked: TrackedJob) -> None:
        """Nobody wants it any more, and its POST did not leave: it is free for others."""
        await self.unsent(tracked)
        self.release_nowait(tracked)

    async def accepted(self, tracked: TrackedJob, at: float) -> None:
        """The service has it, since ``at`` Unix seconds."""
        task_id = tracked.task_id or ""
        await self._note(tracked, lambda journal, identity: journal.accepted(identity, task_id, at))

    async def refused(self, tracked: TrackedJob, error: HailuoError) -> None:
        """It certainly was not accepted, and is not sent again."""
        if tracked.is_kept and stops_everything(error):
            await self.unsent(tracked)  # a session with another key, or after a payment, can send it
        elif not isinstance(error, JournalError):
            await self._note(tracked, lambda journal, identity: journal.refused(identity, error))

    async def unknown(self, tracked: TrackedJob, error: HailuoError) -> None:
        """Nobody can tell whether it was accepted."""
        await self._note(tracked, lambda journal, identity: journal.unknown(identity, error))

    async def failed(self, tracked: TrackedJob, error: HailuoError) -> None:
        """The service's own word ended it. That the key is not valid says nothing of the task: it stays accepted."""
        if not isinstance(error, AuthenticationError):
            await self._note(tracked, lambda journal, identity: journal.failed(identity, error))

    async def succeeded(self, tracked: TrackedJob, video: Video) -> None:
        """Its video is there."""
        await self._note(tracked, lambda journal, identity: journal.succeeded(identity, video))

    def release_nowait(self, tracked: TrackedJob) -> None:
        """Nobody here works on it any longer, and another session may."""
        if self._journal is not None and tracked.identity is not None:
            self._journal.release_nowait(tracked.identity)

    async def _note(self, tracked: TrackedJob, write: _Note) -> None:
        if self._journal is None or tracked.identity is None:
            return
        try:
            with anyio.CancelScope(shield=True):
                await write(self._journal, tracked.identity)
        except JournalError as error:
            then = "it is written when that has passed" if error.is_outage else "note it down"
            logger.error(
                "%s; job %s goes on, its task %s is not on record: %s", error, tracked.name, tracked.task_id, then
            )

    # --- Beside all jobs ---

    async def keep_up(self) -> None:
        """Keeps our jobs ours, until it is cancelled."""
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
        """Writes what is owed, as far as that can be done, and closes the journal."""
        if self._journal is None:
            return
        try:
            await self._journal.aclose()
        except JournalError as error:
            logger.warning("%s; its jobs are free for others in %g s: go on with them then", error, LEASE_S)
        if self._journal.lost:
            words = "what became of %d jobs is not in the journal: the service's dashboard has them"
            logger.error(words, self._journal.lost)


def is_left_unsent(record: Record) -> bool:
    """Whether the job was never sent, and no session works on it."""
    return record.state is JournalState.INTENDED and record.holder is None
