"""Puts each step of a job on record. ``Recorder`` is for a session without a journal, and each method returns at once.

``journaling.JournalRecorder`` is the one with a journal.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from decimal import Decimal
from typing import TYPE_CHECKING, ClassVar

import attrs

from hailuo_async._engine.tracked_job import TrackedJob
from hailuo_async._images.frame import Frame
from hailuo_async._io.journal.records import Claim, Intent, JournalState, Permit, Record
from hailuo_async._rules.identity import DuplicateNumbers
from hailuo_async.errors import ConfigError, HailuoError, JournalError
from hailuo_async.jobs import Job
from hailuo_async.outcomes import Video

if TYPE_CHECKING:
    from hailuo_async._engine.team import Team


@attrs.define(eq=False)
class Recorder:
    """Records each step of a job: where there is a journal, a method returns when its record is durable."""

    has_journal: ClassVar[bool] = False
    """Whether there is a journal. Images are then read whole before they are sent, to recognise a job again."""
    path: str = ""
    """Where the journal is, for error messages."""
    team: Team | None = None
    """The team that grants POSTs, if the session shares its journal."""

    def build_intent(
        self, job: Job, frames: Mapping[str, Frame], duplicates: DuplicateNumbers, price: Decimal | None = None
    ) -> Intent | None:
        """The journal's entry of ``job``, numbered by ``duplicates`` if it has no key; ``None`` without a journal."""
        return None

    async def intend(self, intent: Intent) -> Claim:
        """Enters a job, and returns its record with the session's claim. Without a journal there is no intent.

        Raises ``JournalError`` if it cannot be written, and ``JobError`` if its key names another job there.
        """
        raise NotImplementedError

    async def try_claim(self, identity: str) -> Claim | None:
        """The record of a job that another session works on; claims its task if that session has gone.

        Raises ``JournalError`` if the record was removed, or left unsent: sending needs the job itself.
        """
        return None

    async def find(self, identity: str) -> Claim:
        """The record of the job of that identity; claims its task if the session that worked on it has gone.

        Raises ``JobNotFoundError``, ``JournalError``, and ``ConfigError`` without a journal.
        """
        raise ConfigError(field="journal", value=None, rule="give journal=: find() reads it")

    async def adopt(self, task_id: str) -> Claim | None:
        """The record of an attached task, with the session's claim; ``None`` without a journal."""
        return None

    async def sending(self, tracked: TrackedJob, at: float) -> Permit:
        """Asks whether the POST may leave, at ``at`` Unix seconds. From then on the job counts as sent.

        Raises ``JournalError`` if that cannot be written: then the POST must not leave either.
        """
        return Permit.GRANTED

    def ownership_check(self) -> Callable[[], bool] | None:
        """A callable that says later whether a job claimed now is still ours; ``None`` without a journal.

        Once the leases have lapsed it never is, even if they are renewed: another session may hold the job. A job that
        is claimed after such a lapse has a lease of its own. A lease runs on while the process is stopped, and while
        the machine is suspended.
        """
        return None

    async def unsent(self, tracked: TrackedJob) -> None:
        """Notes that the job certainly was not accepted, and waits again."""

    async def withdrawn(self, tracked: TrackedJob) -> None:
        """Notes that the job is not wanted any more, and that its POST did not leave.

        Others may take it, except a kept job that its caller took back: another keeper would send that, and pay.
        """

    def let_go_nowait(self, tracked: TrackedJob) -> None:
        """Frees, for other sessions, a job that was not sent; drops a kept one that no caller wants any more."""

    def release_nowait(self, tracked: TrackedJob) -> None:
        """Frees the job, so that another session may work on it."""

    async def accepted(self, tracked: TrackedJob, at: float) -> None:
        """Notes that the service accepted the job, at ``at`` Unix seconds."""

    async def refused(self, tracked: TrackedJob, error: HailuoError) -> None:
        """Notes that the job certainly was not accepted, and is not sent again."""

    async def unknown(self, tracked: TrackedJob, error: HailuoError) -> None:
        """Notes that the service may have accepted the job or not."""

    async def sent_again(self, tracked: TrackedJob) -> None:
        """Notes that the job may have been accepted, and waits to be sent again: its owner said so in advance."""

    async def back_in_doubt(self, tracked: TrackedJob, doubt: HailuoError) -> None:
        """Notes that a job which waited to be sent again is not, or was refused: an earlier POST is in doubt."""

    def back_in_doubt_nowait(self, tracked: TrackedJob, doubt: HailuoError) -> None:
        """``back_in_doubt``, which is written later."""

    async def failed(self, tracked: TrackedJob, error: HailuoError) -> None:
        """Notes that the task failed. An invalid key says nothing about the task, so it stays accepted then."""

    async def succeeded(self, tracked: TrackedJob, video: Video) -> None:
        """Notes the finished video."""

    # --- Beside all jobs ---

    def doubt_claims(self) -> None:
        """Has the engine wait for the tasks of this session that no part of it waits for."""

    def not_sent(self, identity: str) -> JournalError:
        """The error for a job that is in the journal, unsent, and not at hand to be sent."""
        reason = f"job {identity!r} was not sent: give the job itself again to send it"
        return JournalError(path=self.path, reason=reason)

    async def keep_up(self) -> None:
        """Renews the leases of our jobs, until it is cancelled."""

    async def aclose(self) -> None:
        """Writes the notes that are still unwritten, as far as possible, and closes the journal."""


def is_left_unsent(record: Record) -> bool:
    """Whether the job was never sent, and no session works on it."""
    return record.state is JournalState.INTENDED and record.holder is None
