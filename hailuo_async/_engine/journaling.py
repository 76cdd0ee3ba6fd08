"""Writes each step of a job to the journal, by the methods of ``JobTable`` that ``JournalWriter.jobs`` names.

Before a POST, a journal that fails stops the job: no job is sent that is not on record. After the POST, a failing
journal stops nothing: the task may be paid for, so the session waits for it all the same. A note that cannot be written
is logged with the task id; the journal keeps it, and writes it first when it can write again. The engine cancels none
of its tasks while it writes a note, see ``workers``; and a write that began is made in any case.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from decimal import Decimal
from typing import TYPE_CHECKING, ClassVar, Concatenate, ParamSpec
from weakref import WeakKeyDictionary

import anyio
import attrs

from hailuo_async._engine.clock import lease_time
from hailuo_async._engine.recording import Recorder, is_left_unsent
from hailuo_async._engine.tracked_job import TrackedJob
from hailuo_async._images.frame import Frame
from hailuo_async._io.journal.records import LEASE_S, Claim, Intent, Permit
from hailuo_async._rules.identity import DuplicateNumbers, build_facts, build_fingerprint, is_name
from hailuo_async._rules.refusals import stops_everything
from hailuo_async.errors import AuthenticationError, HailuoError, JobNotFoundError, JournalError, shown
from hailuo_async.jobs import Job
from hailuo_async.outcomes import Video

if TYPE_CHECKING:
    from hailuo_async._io.journal.writer import JournalWriter

P = ParamSpec("P")

logger = logging.getLogger("hailuo_async")

#: For so long a renewal of the leases waits for a commit that is made in any case.
RIDE_S = LEASE_S / 6


@attrs.define(eq=False)
class JournalRecorder(Recorder):
    """The recorder of a session with a journal."""

    has_journal: ClassVar[bool] = True
    _journal: JournalWriter = attrs.field(kw_only=True)
    _keeps_prompts: bool = attrs.field(default=False, kw_only=True)
    _renewed_at: float = attrs.field(factory=lease_time, init=False)
    """When the leases of our jobs were last renewed, in lease time."""
    _lapses: int = attrs.field(default=0, init=False)
    """How often they were renewed too late: another session may have taken our jobs over then."""
    _logged: WeakKeyDictionary[TrackedJob, str] = attrs.field(factory=WeakKeyDictionary, init=False)
    """Which fact of a job the log last named as not on record."""

    def build_intent(
        self, job: Job, frames: Mapping[str, Frame], duplicates: DuplicateNumbers, price: Decimal | None = None
    ) -> Intent | None:
        fingerprint = build_fingerprint(job, frames)
        return Intent(
            identity=job.key or duplicates.next_identity(fingerprint),
            key=job.key,
            fingerprint=fingerprint,
            kind=type(job).__name__,
            model=job.model,
            facts=build_facts(job),
            prompt=job.prompt if self._keeps_prompts else None,
            price=price,
        )

    async def intend(self, intent: Intent) -> Claim:
        return await self._journal.intend(intent)

    async def try_claim(self, identity: str) -> Claim | None:
        claim = await self._journal.ask(self._journal.jobs.follow, identity)
        if claim is None:
            raise JournalError(path=self.path, reason=f"job {identity!r} was removed from it: give the job again")
        if is_left_unsent(claim.record):
            raise self.not_sent(identity)
        return claim

    async def find(self, identity: str) -> Claim:
        claim = await self._claimed(self._journal.jobs.follow, identity) if is_name(identity) else None
        if claim is None:
            raise JobNotFoundError(key=identity if isinstance(identity, str) else shown(identity))
        return claim

    async def adopt(self, task_id: str) -> Claim | None:
        return await self._claimed(self._journal.jobs.adopt, task_id, None)

    async def _claimed(self, verb: Callable[P, Claim | None], *args: P.args, **kwargs: P.kwargs) -> Claim | None:
        """What ``verb`` claims for a caller. If that has left meanwhile, the engine waits for the task."""
        try:
            return await self._journal.ask(verb, *args, **kwargs)
        except BaseException:
            self.doubt_claims()
            raise

    def doubt_claims(self) -> None:
        if self.team is not None:
            self.team.updates.doubt_claims()

    async def sending(self, tracked: TrackedJob, at: float) -> Permit:
        if tracked.identity is None:
            return Permit.GRANTED
        tracked.attempt_at = at
        if self.team is None:
            return Permit.GRANTED if await self._journal.sending(tracked.identity, at) else Permit.TAKEN
        since = tracked.taken_at if tracked.waits_since is None else tracked.waits_since
        return await self.team.ask_to_send(tracked.identity, at, since)

    def ownership_check(self) -> Callable[[], bool] | None:
        lapses, claimed_at = self._lapses, lease_time()
        return lambda: self._lapses == lapses and lease_time() - max(self._renewed_at, claimed_at) < LEASE_S

    async def unsent(self, tracked: TrackedJob) -> None:
        await self._note(tracked, self._journal.jobs.unsent, tracked.attempt_at)

    async def withdrawn(self, tracked: TrackedJob) -> None:
        await self.unsent(tracked)
        self.let_go_nowait(tracked)

    def let_go_nowait(self, tracked: TrackedJob) -> None:
        if tracked.is_kept and tracked.is_dropped and tracked.identity is not None:
            self._journal.drop_nowait(tracked.identity)
        else:
            self.release_nowait(tracked)

    def release_nowait(self, tracked: TrackedJob) -> None:
        if tracked.identity is not None:
            self._journal.note_nowait(self._journal.jobs.release, tracked.identity)

    async def accepted(self, tracked: TrackedJob, at: float) -> None:
        await self._note(tracked, self._journal.jobs.accepted, tracked.task_id or "", at, tracked.attempt_at)

    async def refused(self, tracked: TrackedJob, error: HailuoError) -> None:
        if tracked.is_kept and stops_everything(error):
            await self.unsent(tracked)  # a session with another key, or after a payment, can send it
        elif not isinstance(error, JournalError):
            await self._note(tracked, self._journal.jobs.refused, error, tracked.attempt_at)

    async def unknown(self, tracked: TrackedJob, error: HailuoError) -> None:
        await self._note(tracked, self._journal.jobs.unknown, error, tracked.attempt_at)

    async def sent_again(self, tracked: TrackedJob) -> None:
        await self._note(tracked, self._journal.jobs.sent_again, tracked.attempt_at)

    async def back_in_doubt(self, tracked: TrackedJob, doubt: HailuoError) -> None:
        await self._note(tracked, self._journal.jobs.back_in_doubt, doubt)

    def back_in_doubt_nowait(self, tracked: TrackedJob, doubt: HailuoError) -> None:
        if tracked.identity is not None:
            self._journal.owe_nowait(self._journal.jobs.back_in_doubt, tracked.identity, doubt)

    async def failed(self, tracked: TrackedJob, error: HailuoError) -> None:
        if not isinstance(error, AuthenticationError):
            await self._note(tracked, self._journal.jobs.failed, error, tracked.attempt_at)

    async def succeeded(self, tracked: TrackedJob, video: Video) -> None:
        await self._note(tracked, self._journal.jobs.succeeded, video, tracked.attempt_at)

    async def _note(
        self, tracked: TrackedJob, verb: Callable[Concatenate[str, P], object], *facts: P.args, **more: P.kwargs
    ) -> None:
        if tracked.identity is None:
            return
        try:
            await self._journal.note(verb, tracked.identity, *facts, **more)
        except JournalError as error:
            self._tell_of(tracked, error)

    def _tell_of(self, tracked: TrackedJob, error: JournalError) -> None:
        """Logs, once, that a fact about the job is not on record: its task id may stand nowhere else."""
        what = f"its task {tracked.task_id}" if tracked.task_id else "what became of its POST"
        if what != self._logged.get(tracked):
            self._logged[tracked] = what
            then = "it is written when that has passed" if error.is_outage else "note it down"
            logger.error("%s; job %s goes on, %s is not on record: %s", error, tracked.name, what, then)

    # --- Beside all jobs ---

    async def keep_up(self) -> None:
        is_away = False
        while True:
            await anyio.sleep(LEASE_S / 3 - RIDE_S)
            began_at = lease_time()
            self._lapses += began_at - self._renewed_at >= LEASE_S
            try:
                await self._journal.renew(RIDE_S)
                self._renewed_at, is_away = began_at, False
            except JournalError as error:
                if not is_away:
                    logger.warning("%s; another session may take its jobs over", error)
                is_away = True

    async def aclose(self) -> None:
        try:
            await self._journal.aclose()
        except JournalError as error:
            logger.warning("%s; its jobs are free for others in %g s: go on with them then", error, LEASE_S)
        if self._journal.lost:
            message = "%d notes on jobs are not in the journal: look for their tasks on the service's dashboard"
            logger.error(message, self._journal.lost)
