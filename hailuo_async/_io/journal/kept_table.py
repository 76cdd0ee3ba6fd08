"""Whole jobs on disk: how they are kept, taken over and freed, on the tables that ``kept`` describes."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import TypeAlias

import attrs

from hailuo_async._io.journal import holders
from hailuo_async._io.journal.database import SELECT, Rows
from hailuo_async._io.journal.kept import FORM, KeptBounds, KeptClaim, KeptImage, KeptJob, kept_from, kept_text
from hailuo_async._io.journal.records import Claim, Intent, JournalState, Record
from hailuo_async._io.journal.rows import CHANGED, FREE, IS_OVER
from hailuo_async._io.journal.table import JobTable
from hailuo_async.errors import JobError, QueueFullError

#: For so many seconds after its last piece was written a stage keeps what it has.
STAGE_S = 600.0

Images: TypeAlias = Mapping[str, Sequence[bytes]]
"""The pieces of images, by their SHA-256."""


class Unstaged(Exception):
    """An image that is neither at hand nor, whole, in the journal."""


@attrs.define(eq=False)
class KeptTable:
    """Whole jobs in a journal. Lives on the journal's thread; every method is called in a transaction."""

    _jobs: JobTable
    has_stored: bool = attrs.field(default=False, init=False)
    """Whether a job is kept that was not before."""

    def __attrs_post_init__(self) -> None:
        self._jobs.frees_kept = True

    def keep(self, intent: Intent, job: KeptJob, held: Images, bounds: KeptBounds, stage: str = "") -> Claim:
        """``JobTable.intend``, and keeps what is sent for the job, if it is ours to send and is not kept yet.

        ``held`` gives images in pieces, by their SHA-256. The others are in the journal, for ``stage`` or other jobs.
        Raises ``Unstaged`` if one is not, ``QueueFullError``, and as ``intend``; then nothing of the job is here.
        """
        with self._whole_or_not_at_all():
            claim = self._jobs.intend(intent)
            if claim.ours and claim.record.state is JournalState.INTENDED:
                try:
                    self._store(intent.identity, job, held, bounds, stage)
                except (QueueFullError, Unstaged):
                    self._jobs.dropped(intent.identity)
                    raise
            if stage:
                self._jobs.free_kept(stage)
        return claim

    def stage(self, stage: str, image: KeptImage, bounds: KeptBounds) -> bool:
        """Makes room for an image that ``put`` is to write. Whether it is to: not if another wrote all of it.

        Raises ``QueueFullError``.
        """
        sql = """INSERT INTO need (identity, sha256, until) VALUES (:stage, :sha256, :now + :stage_s)
            ON CONFLICT DO NOTHING"""
        with self._whole_or_not_at_all():
            self._check_queue(bounds, coming=1)
            staged = self._execute(sql, stage=stage, sha256=image.sha256, stage_s=STAGE_S)
            if staged.rowcount == 1 and self._count_need(image):
                self._check_bytes(bounds)
        return not self._is_complete(image)

    def put(self, stage: str, sha256: str, first: int, pieces: Sequence[bytes]) -> list[int]:
        """Writes pieces of a staged image. Returns the numbers of those that were not there. Raises ``Unstaged``."""
        sql = "UPDATE need SET until = :now + :stage_s WHERE identity = :stage AND sha256 = :sha256"
        if self._execute(sql, stage=stage, sha256=sha256, stage_s=STAGE_S).rowcount == 0:
            raise Unstaged
        rows = [(number, self._write(sha256, number, data)) for number, data in enumerate(pieces, first)]
        return [number for number, row in rows if row.rowcount == 1]

    def unstage(self, stage: str, written: Sequence[tuple[str, int]]) -> None:
        """Takes back what was staged, and the pieces in ``written``, which are not those of their image."""
        sql = "DELETE FROM piece WHERE sha256 = :sha256 AND number = :number"
        for sha256, number in written:
            self._execute(sql, sha256=sha256, number=number)
        self._jobs.free_kept(stage)

    def take(self, limit: int, identity: str | None = None, ours: Collection[str] = ()) -> list[KeptClaim]:
        """Takes over the oldest jobs that no living session holds, at most ``limit``; or the one of that name.

        Among them are those in ``ours`` that this session holds already.
        """
        self._jobs.database.hold_images()
        gone = {f"gone_{number}": holder for number, holder in enumerate(self._gone_holders())}
        again = {f"again_{number}": name for number, name in enumerate(ours)}
        free = " OR ".join(["holder IS NULL", IS_OVER, *(f"holder = :{name}" for name in gone)])
        order = "job.seq"
        if again:
            is_again = f"holder = :us AND job.identity IN ({', '.join(f':{name}' for name in again)})"
            free, order = f"{free} OR {is_again}", "COALESCE(holder, '') <> :us, job.seq"
        which = "" if identity is None else "AND job.identity = :identity"
        sql = f"""{SELECT} WHERE kept_form = :form AND state = 'intended' AND ({free}) {which}
            ORDER BY {order} LIMIT :limit"""
        given = {"us": self._jobs.holder, **self._jobs.judging(), **gone, **again}
        taken = []
        for row in self._execute(sql, form=FORM, limit=limit, identity=identity, **given).fetchall():
            claim = self._jobs.claim_row(row)
            if claim is not None and (job := self._read(claim.record, row["kept"])) is not None:
                taken.append(KeptClaim(claim.record, job))
        return taken

    def keeps(self, identity: str) -> bool:
        """Whether that job is kept, by any version of this library."""
        sql = "SELECT 1 AS it FROM job WHERE identity = :identity AND kept_form IS NOT NULL"
        return self._execute(sql, identity=identity).fetchone() is not None

    def piece(self, sha256: str, number: int) -> bytes:
        """A piece of an image; empty behind the last one."""
        sql = "SELECT data FROM piece WHERE sha256 = :sha256 AND number = :number"
        row = self._execute(sql, sha256=sha256, number=number).fetchone()
        return b"" if row is None else bytes(row["data"])

    def drop(self, identity: str) -> None:
        """Removes a job that no caller wants any more and that was not sent, with its images.

        One that waits to be sent again stays, without what would send it: its earlier POSTs may be paid for.
        """
        ours = "identity = :identity AND state = 'intended' AND holder = :us"
        removing = f"DELETE FROM job WHERE {ours} AND cost_before IS NULL"
        freeing = f"UPDATE job SET {FREE}, {CHANGED} WHERE {ours}"
        if self._execute(removing, identity=identity, us=self._jobs.holder).rowcount == 1:
            self._jobs.count_gone()
        elif self._execute(freeing, identity=identity, us=self._jobs.holder).rowcount == 1:
            self._jobs.notify_followers()
        else:
            return
        self._jobs.free_kept(identity)
        self._jobs.dropped(identity)

    def tidy(self) -> None:
        """Frees what sessions that know nothing of kept jobs left behind, and gives free pages back."""
        sql = """SELECT DISTINCT identity FROM need WHERE COALESCE(until, 0) <= :now AND identity NOT IN (
            SELECT identity FROM job WHERE kept_form IS NOT NULL AND state IN ('intended', 'sending', 'unknown'))"""
        for row in self._execute(sql).fetchall():
            self._jobs.free_kept(row["identity"])
        self._jobs.database.give_back()

    def left_to_others(self) -> int:
        """How many jobs a newer version of this library has kept, which this one cannot send."""
        sql = "SELECT count(*) AS jobs FROM job WHERE kept_form > :form AND state = 'intended'"
        return int(self._execute(sql, form=FORM).fetchone()["jobs"])

    def _gone_holders(self) -> list[str]:
        sql = """SELECT DISTINCT holder FROM job
            WHERE kept_form IS NOT NULL AND state = 'intended' AND holder IS NOT NULL AND holder <> :us"""
        rows = self._execute(sql, us=self._jobs.holder).fetchall()
        return [row["holder"] for row in rows if holders.is_gone(row["holder"])]

    def _read(self, record: Record, text: str) -> KeptJob | None:
        try:
            return kept_from(text)
        except (ValueError, KeyError, TypeError):
            self._jobs.refused(record.identity, JobError(field="job", value=text, rule="must be as it was kept"))
            return None

    @contextlib.contextmanager
    def _whole_or_not_at_all(self) -> Iterator[None]:
        self._jobs.database.hold_images()
        self._execute("SAVEPOINT keep")
        try:
            yield
        except self._jobs.database.FAULTS:
            raise  # the whole transaction is taken back
        except BaseException:
            self._execute("ROLLBACK TO SAVEPOINT keep")
            raise
        self._execute("RELEASE SAVEPOINT keep")

    def _execute(self, sql: str, **given: object) -> Rows:
        return self._jobs.database.execute(sql, given)

    def _store(self, identity: str, job: KeptJob, held: Images, bounds: KeptBounds, stage: str) -> None:
        sql = """UPDATE job SET kept = :kept, kept_form = :form
            WHERE identity = :identity AND state = 'intended' AND kept_form IS NULL"""
        if self._execute(sql, identity=identity, kept=kept_text(job), form=FORM).rowcount == 0:
            return
        self._check_queue(bounds)
        for image in job.digests.values():
            if image.sha256 in held:
                self._store_held(identity, image, held[image.sha256], bounds)
            elif not self._hand_over(identity, image, stage):
                raise Unstaged
        self.has_stored = True

    def _check_queue(self, bounds: KeptBounds, coming: int = 0) -> None:
        if bounds.max_queued == sys.maxsize:
            return  # to count the jobs reads all of them
        sql = "SELECT count(*) AS jobs FROM job WHERE kept_form IS NOT NULL AND state = 'intended'"
        if self._execute(sql).fetchone()["jobs"] + coming > bounds.max_queued:
            raise QueueFullError(max_queued=bounds.max_queued)

    def _check_bytes(self, bounds: KeptBounds) -> None:
        sql = "SELECT CAST(COALESCE(SUM(size), 0) AS BIGINT) AS bytes FROM picture"
        if self._execute(sql).fetchone()["bytes"] > bounds.max_kept_bytes:
            raise QueueFullError(max_queued=bounds.max_queued, max_kept_bytes=bounds.max_kept_bytes)

    def _store_held(self, identity: str, image: KeptImage, pieces: Sequence[bytes], bounds: KeptBounds) -> None:
        if self._need(identity, image):
            self._check_bytes(bounds)
            for number, data in enumerate(pieces):
                self._write(image.sha256, number, data)

    def _hand_over(self, identity: str, image: KeptImage, stage: str) -> bool:
        """Has the job need an image, in the place of ``stage``. Returns whether all of it is in the journal."""
        sql = "UPDATE need SET identity = :identity, until = NULL WHERE identity = :stage AND sha256 = :sha256"
        if self._execute(sql, identity=identity, stage=stage, sha256=image.sha256).rowcount == 0:
            self._need(identity, image)
        return self._is_complete(image)

    def _need(self, identity: str, image: KeptImage) -> bool:
        """Notes that the job needs the image; returns whether no other did. Waits for a session that just frees it."""
        sql = "INSERT INTO need (identity, sha256) VALUES (:identity, :sha256)"
        self._execute(sql, identity=identity, sha256=image.sha256)
        return self._count_need(image)

    def _count_need(self, image: KeptImage) -> bool:
        sql = """INSERT INTO picture (sha256, size, needed) VALUES (:sha256, :size, 1)
            ON CONFLICT (sha256) DO UPDATE SET needed = picture.needed + 1 RETURNING needed"""
        return bool(self._execute(sql, sha256=image.sha256, size=image.size).fetchone()["needed"] == 1)

    def _is_complete(self, image: KeptImage) -> bool:
        sql = "SELECT CAST(COALESCE(SUM(length(data)), 0) AS BIGINT) AS size FROM piece WHERE sha256 = :sha256"
        return bool(self._execute(sql, sha256=image.sha256).fetchone()["size"] == image.size)

    def _write(self, sha256: str, number: int, data: bytes) -> Rows:
        sql = "INSERT INTO piece (sha256, number, data) VALUES (:sha256, :number, :data) ON CONFLICT DO NOTHING"
        return self._execute(sql, sha256=sha256, number=number, data=data)
