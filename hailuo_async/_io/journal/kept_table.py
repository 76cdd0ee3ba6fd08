"""Whole jobs on disk: how they are kept, taken over and freed, on the tables that ``kept`` describes."""

from __future__ import annotations

from collections.abc import Mapping

import attrs

from hailuo_async._io.journal import owner
from hailuo_async._io.journal.database import SELECT
from hailuo_async._io.journal.kept import FORM, KeptClaim, KeptImage, KeptJob, Pieces, Room, kept_from, kept_text
from hailuo_async._io.journal.records import Claim, Intent, JournalState, Record
from hailuo_async._io.journal.rows import IS_OVER
from hailuo_async._io.journal.table import JobTable
from hailuo_async.errors import ImageError, JobError, QueueFullError


@attrs.define(eq=False)
class KeptTable:
    """Whole jobs in a journal. Lives on the journal's thread; every method is called in a transaction."""

    _jobs: JobTable
    has_stored: bool = attrs.field(default=False, init=False)
    """Whether a job is kept that was not before."""

    def keep(self, intent: Intent, job: KeptJob, pieces: Mapping[str, Pieces], room: Room) -> Claim:
        """``JobTable.intend``, and keeps what is sent for the job, if it is ours to send and is not kept yet.

        ``pieces`` gives each image by its SHA-256, read here. Raises ``QueueFullError``, ``ImageError`` for an image
        that cannot be read to its end, and what ``intend`` raises; then nothing of the job is here.
        """
        self._jobs.database.hold_images()
        execute = self._jobs.database.execute
        execute("SAVEPOINT keep")
        try:
            claim = self._jobs.intend(intent)
            if claim.ours and claim.record.state is JournalState.INTENDED:
                self._store(intent.identity, job, pieces, room)
        except self._jobs.database.FAULTS:
            raise  # the whole transaction is taken back
        except BaseException:
            execute("ROLLBACK TO SAVEPOINT keep")
            raise
        execute("RELEASE SAVEPOINT keep")
        return claim

    def take(self, limit: int, identity: str | None = None) -> list[KeptClaim]:
        """Takes over the oldest jobs that no living session holds, at most ``limit``; or the one of that name."""
        self._jobs.database.hold_images()
        gone = {f"gone_{number}": holder for number, holder in enumerate(self._gone_holders())}
        free = " OR ".join(["holder IS NULL", IS_OVER, *(f"holder = :{name}" for name in gone)])
        which = "" if identity is None else "AND job.identity = :identity"
        sql = f"""{SELECT} WHERE kept_form = :form AND state = 'intended' AND ({free}) {which}
            ORDER BY job.seq LIMIT :limit"""
        given = {"form": FORM, "limit": limit, "identity": identity, **gone, **self._jobs.judging()}
        taken = []
        for row in self._jobs.database.execute(sql, given).fetchall():
            claim = self._jobs.take(row)
            if claim is not None and (job := self._read(claim.record, row["kept"])) is not None:
                taken.append(KeptClaim(claim.record, job))
        return taken

    def piece(self, sha256: str, number: int) -> bytes:
        """A piece of an image; empty behind the last one."""
        sql = "SELECT data FROM piece WHERE sha256 = :sha256 AND number = :number"
        row = self._jobs.database.execute(sql, {"sha256": sha256, "number": number}).fetchone()
        return b"" if row is None else bytes(row["data"])

    def drop(self, identity: str) -> None:
        """Removes a job that no caller wants any more and that was not sent, with its images."""
        sql = "DELETE FROM job WHERE identity = :identity AND state = 'intended' AND holder = :us"
        given = {"identity": identity, "us": self._jobs.holder}
        if self._jobs.database.execute(sql, given).rowcount == 1:
            self._jobs.free_kept(identity)
            self._jobs.count_gone()

    def tidy(self) -> None:
        """Frees what sessions that know nothing of kept jobs left behind, and gives free pages back."""
        sql = """SELECT DISTINCT identity FROM need WHERE identity NOT IN (
            SELECT identity FROM job WHERE kept_form IS NOT NULL AND state IN ('intended', 'sending', 'unknown'))"""
        for row in self._jobs.database.execute(sql).fetchall():
            self._jobs.free_kept(row["identity"])
        self._jobs.database.give_back()

    def left_to_others(self) -> int:
        """How many jobs a newer version of this library has kept, which this one cannot send."""
        sql = "SELECT count(*) AS jobs FROM job WHERE kept_form > :form AND state = 'intended'"
        return int(self._jobs.database.execute(sql, {"form": FORM}).fetchone()["jobs"])

    def _gone_holders(self) -> list[str]:
        sql = """SELECT DISTINCT holder FROM job
            WHERE kept_form IS NOT NULL AND state = 'intended' AND holder IS NOT NULL AND holder <> :us"""
        rows = self._jobs.database.execute(sql, {"us": self._jobs.holder}).fetchall()
        return [row["holder"] for row in rows if owner.is_gone(row["holder"])]

    def _read(self, record: Record, text: str) -> KeptJob | None:
        try:
            return kept_from(text)
        except (ValueError, KeyError, TypeError):
            self._jobs.refused(record.identity, JobError(field="job", value=text, rule="must be as it was kept"))
            return None

    def _store(self, identity: str, job: KeptJob, pieces: Mapping[str, Pieces], room: Room) -> None:
        sql = """UPDATE job SET kept = :kept, kept_form = :form
            WHERE identity = :identity AND state = 'intended' AND kept_form IS NULL"""
        given = {"identity": identity, "kept": kept_text(job), "form": FORM}
        if self._jobs.database.execute(sql, given).rowcount == 0:
            return
        self.has_stored = True
        self._check_queue(room)
        for sha256, image in job.digests.items():
            if self._is_new(identity, sha256, image.size):
                self._check_bytes(room)
                self._write(sha256, image, pieces[sha256])

    def _check_queue(self, room: Room) -> None:
        sql = "SELECT count(*) AS jobs FROM job WHERE kept_form IS NOT NULL AND state = 'intended'"
        if self._jobs.database.execute(sql).fetchone()["jobs"] > room.max_queued:
            raise QueueFullError(max_queued=room.max_queued)

    def _check_bytes(self, room: Room) -> None:
        sql = "SELECT CAST(COALESCE(SUM(size), 0) AS BIGINT) AS bytes FROM picture"
        if self._jobs.database.execute(sql).fetchone()["bytes"] > room.max_kept_bytes:
            raise QueueFullError(max_queued=room.max_queued, max_kept_bytes=room.max_kept_bytes)

    def _is_new(self, identity: str, sha256: str, size: int) -> bool:
        """Notes that the job needs the image; returns whether no other did. Waits for a session that just frees it."""
        given = {"identity": identity, "sha256": sha256, "size": size}
        execute = self._jobs.database.execute
        execute("INSERT INTO need (identity, sha256) VALUES (:identity, :sha256)", given)
        sql = """INSERT INTO picture (sha256, size, needed) VALUES (:sha256, :size, 1)
            ON CONFLICT (sha256) DO UPDATE SET needed = picture.needed + 1 RETURNING needed"""
        return bool(execute(sql, given).fetchone()["needed"] == 1)

    def _write(self, sha256: str, image: KeptImage, pieces: Pieces) -> None:
        sql = "INSERT INTO piece (sha256, number, data) VALUES (:sha256, :number, :data)"
        size = 0
        for number, data in enumerate(pieces()):
            size += len(data)
            self._jobs.database.execute(sql, {"sha256": sha256, "number": number, "data": data})
        if size != image.size:
            rule = "must not change between the check and the keeping"
            raise ImageError(field="image", image=sha256, value=f"{size} bytes of {image.size}", rule=rule)
