"""The jobs on disk: each change is a compare-and-set inside the transaction of its caller.

Several processes may share one journal, so no change relies on what was read in an earlier transaction:

- The session that turns a job from INTENDED, held by itself, into SENDING sends it. Only one session can.
- A decision is written only if the row is still as it was read. If not, the decision is made again.
- Leases follow a clock that may jump, and a holder may sleep past its own. So a lease decides who works on a job, never
  whether it is paid for: a takeover finds INTENDED (then the old holder's compare-and-set fails), or ACCEPTED (then
  both sessions query, and neither sends), or SENDING, which becomes UNKNOWN.
- An answer of the service about a task is a fact, and is recorded no matter who holds the row by then. If the row has
  another task by then, both were paid for, and the second task gets a row of its own.

The writes of many jobs share one transaction. Each validates before it writes, so it leaves nothing half done for the
others; if the database refuses one, all of them are undone. A write whose commit got no answer may be made twice, and
has the same effect then.

A method waits for the database only to read a result. A change of one row without a result, such as a job's way into
its POST, takes one round trip together with its commit.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Mapping
from decimal import Decimal

import attrs

from hailuo_async._io.journal import database, holders, opening
from hailuo_async._io.journal.claims import UNFINISHED, JobClaims
from hailuo_async._io.journal.records import Claim, Intent, JournalState, Record, error_text, facts_text, video_text
from hailuo_async._io.journal.rows import (
    CHANGED,
    FREE,
    HELD,
    NO_END,
    RETURNING,
    UNCHANGED,
    Changed,
    as_read,
    insertion,
)
from hailuo_async.contract import RESULT_LIFETIME
from hailuo_async.errors import HailuoError, JobError, TaskFailedError
from hailuo_async.money import to_nanos
from hailuo_async.outcomes import Video
from hailuo_async.settings import JournalLocation

SENDABLE_AGAIN = (JournalState.UNKNOWN, JournalState.REFUSED, JournalState.FAILED)
_FORGETTABLE = (*SENDABLE_AGAIN, JournalState.SUCCESS, JournalState.INTENDED)

#: The columns of a new job, and of one that is asked for again under a key that is free.
_ASKED = ("key", "fingerprint", "kind", "model", "facts", "prompt", "price", "state")
_INSERT_ASKED = insertion("RETURNING lease_until", identity=":identity", **{name: f":{name}" for name in _ASKED})
_TASK = {"state": "'accepted'", "model": ":model", "facts": "'{}'", "task_id": ":task_id", "accepted_at": ":now"}
_INSERT_TASK = insertion(RETURNING, identity=":identity", **_TASK)
_UNSENT = f"task_id = NULL, sent_at = NULL, accepted_at = NULL, {NO_END}"
_ASK_ANEW = ", ".join([*(f"{name} = :{name}" for name in _ASKED), _UNSENT, HELD])
#: The cost of earlier POSTs, paid or in doubt, of a job that is sent again.
_PAID_BEFORE = (
    "COALESCE(cost_before, 0) + CASE WHEN state IN ('failed', 'unknown') THEN COALESCE(cost, price, 0) ELSE 0 END"
)
_SUCCEED = f"""state = 'success', error = NULL, task_id = :task_id, video = :video, cost = :cost, place = :place,
    useful_until = COALESCE(:expiry, :now + {RESULT_LIFETIME.total_seconds()})"""
_WAIT_AGAIN = "state = 'intended', sent_at = NULL"
#: Whether the job's last change is this attempt to send it, whose ``sent_at`` only its own session knows.
_THIS_ATTEMPT = "(state = 'sending' AND holder = :us OR state = 'unknown' AND task_id IS NULL) AND sent_at = :sent_at"
#: Whether a task belongs into its job's row: it is there, or the row has none and is of no later attempt. It may be of
#: an earlier one: after a failover it may lack that this was refused.
_OF_NO_LATER_ATTEMPT = "(task_id = :task_id OR task_id IS NULL AND COALESCE(sent_at <= :sent_at, TRUE))"
#: The columns that belong to a row's task rather than to its job.
_OF_THE_TASK = (
    *("state", "task_id", "accepted_at", "ended_at", "video", "error", "saved_to"),
    *("saved_bytes", "saved_sha256", "cost", "place", "useful_until", "holder", "lease_until"),
)


@attrs.define(eq=False)
class JobTable(JobClaims):
    """A session's view of the jobs in a journal. Lives on the thread of its database."""

    @property
    def has_to_assert(self) -> bool:
        """Whether the journal may come back from an outage without what this session knows. May be asked anywhere."""
        return False

    def forget_gone(self, gone: int) -> None:
        """Notes that so many jobs and members were ever deleted: what a session knows of such a job counts no more."""

    def close(self) -> None:
        """Gives up every lease, and closes the database, even if that fails."""
        with contextlib.closing(self.database), self.transaction():
            self.free_all()

    def free_all(self) -> None:
        """Gives up every lease, and wipes expired URLs."""
        self._execute(f"UPDATE job SET {FREE}, {CHANGED} WHERE holder = :us")
        self.notify_followers()
        self.wipe_expired()
        if self.frees_kept:
            self.database.give_back()

    # What a session does with a job, in the order of a job's life.

    def intend(self, intent: Intent) -> Claim:
        """Claims the job, or returns its record. Raises ``JobError`` if its key names another job here.

        A job that was refused, or that was never sent and no session holds, cost nothing: its key is free for another.
        """
        asked = {
            "key": intent.key,
            "fingerprint": intent.fingerprint,
            "kind": intent.kind,
            "model": intent.model,
            "facts": facts_text(intent.facts),
            "prompt": intent.prompt,
            "price": to_nanos(intent.price),
            "state": JournalState.INTENDED,
        }
        self.database.check_still_there()
        while True:
            entered = self._execute(_INSERT_ASKED, identity=intent.identity, **asked).fetchone()
            if entered is not None:
                return Claim(Record.of(intent, self.holder, entered["lease_until"]), ours=True)
            claim = self._decide(intent.identity, lambda record: self._claim_known(record, asked))
            if claim is not None:
                return claim

    def _claim_known(self, record: Record, asked: Mapping[str, object]) -> Claim | None:
        """Claims a job that is in the journal already for one that is ``asked`` for; ``None`` if its row changed."""
        if record.state is JournalState.REFUSED:
            return self._take(record, _ASK_ANEW, **asked)
        if record.fingerprint != asked["fingerprint"] and self._is_never_sent(record):
            claim = self._take(record, _ASK_ANEW, **asked)
            if claim is not None:
                self.forget_kept(record.identity)
            return claim
        if record.fingerprint != asked["fingerprint"]:
            rule = "names another job in this journal: give this one its own, or use another journal"
            raise JobError(field="key", value=record.identity, rule=rule)
        claim = self._claim(record)
        if claim is None or record.state is not JournalState.INTENDED:
            return claim
        return attrs.evolve(claim, was_left=claim.ours)

    def sending(self, identity: str, sent_at: float, condition: str = "TRUE", **more: object) -> Changed:
        """Whether this session, and no other, may send the job now, if ``condition`` holds as well.

        A commit without an answer is made again, and then finds its own ``sent_at``: nothing was sent since, even if
        another session took the job for left behind meanwhile.
        """
        self.database.check_still_there()
        changes = f"state = 'sending', sent_at = :sent_at, {NO_END}, {HELD}"
        condition = f"(state = 'intended' AND holder = :us OR {_THIS_ATTEMPT}) AND {condition}"
        return self._change(identity, changes, condition, sent_at=sent_at, **more)

    def unsent(self, identity: str, sent_at: float | None = None) -> None:
        """Notes that the POST certainly was not accepted, and is to be made again.

        ``sent_at`` names one attempt: then this holds even if another session took the job for left behind meanwhile.
        """
        if sent_at is None:
            self._change(identity, _WAIT_AGAIN, "state = 'sending' AND holder = :us")
        else:
            self._change(identity, f"{_WAIT_AGAIN}, {NO_END}, {HELD}", _THIS_ATTEMPT, sent_at=sent_at)

    def release(self, identity: str) -> None:
        """Ends this session's work on the job: another may claim it."""
        self._change(identity, FREE, "state != 'sending' AND holder = :us")

    def dropped(self, identity: str) -> None:
        """Notes that the row of a job was removed: its caller has taken it back, or there was no room for it."""

    def accepted(self, identity: str, task_id: str, at: float, sent_at: float | None = None) -> None:
        """Notes that the service accepted the job: a fact, recorded no matter who holds the row.

        ``sent_at`` names the attempt: a later one that is under way in the row, or in doubt, is not hidden behind it.
        """
        changes = f"state = 'accepted', task_id = :task_id, accepted_at = :accepted_at, {NO_END}, {HELD}"
        still_open, given = "state NOT IN ('success', 'failed')", {"task_id": task_id, "accepted_at": at}
        condition, row = f"{_OF_NO_LATER_ATTEMPT} AND {still_open}", identity
        if not self._change(identity, changes, condition, sent_at=sent_at, **given):
            row = self._row_of_task(identity, task_id, sent_at)
            self._change(row, changes, still_open, **given)
        self.free_kept(row)

    def refused(self, identity: str, error: HailuoError, sent_at: float | None = None) -> None:
        """Notes that the service certainly did not accept the job. ``sent_at`` as for ``unsent``."""
        changes, given = "state = 'refused', error = :error", {"error": error_text(error), "sent_at": sent_at}
        condition = f"(state IN ('intended', 'sending') AND holder = :us OR {_THIS_ATTEMPT})"
        if self._end(identity, changes, condition, **given):
            self.free_kept(identity)

    def unknown(self, identity: str, error: HailuoError, sent_at: float | None = None) -> None:
        """Notes that the service may have accepted the job or not. Its answer may have named a task, for ``attach``."""
        changes = "state = 'unknown', task_id = :task_id, error = :error"
        given = {"task_id": error.task_id, "error": error_text(error), "sent_at": sent_at}
        self._end(identity, changes, f"(state = 'sending' AND holder = :us OR {_THIS_ATTEMPT})", **given)

    def sent_again(self, identity: str, sent_at: float | None) -> None:
        """Notes that this attempt may be paid for, and that the job waits again: its owner said so in advance."""
        before = "cost_before = COALESCE(cost_before, 0) + COALESCE(price, 0)"
        self._change(identity, f"{_WAIT_AGAIN}, {NO_END}, {HELD}, {before}", _THIS_ATTEMPT, sent_at=sent_at)

    def back_in_doubt(self, identity: str, doubt: HailuoError) -> None:
        """Notes that a job that waited after ``sent_again`` is not sent, or was refused: the doubt before it stays."""
        price = "COALESCE(price, 0)"
        before = f"cost_before = CASE WHEN cost_before > {price} THEN cost_before - {price} END"
        changes = f"state = 'unknown', error = :error, sent_at = :sent_at, {before}"
        given = {"error": error_text(doubt), "sent_at": getattr(doubt, "sent_at", None)}
        self._end(identity, changes, "state IN ('intended', 'sending') AND holder = :us", **given)

    def failed(self, identity: str, error: HailuoError, sent_at: float | None = None) -> None:
        """Notes that the task failed, or that the service no longer knows it. A video that was seen before stays."""
        changes, row = "state = 'failed', error = :error, cost = :cost", identity
        cost = to_nanos(error.cost) if isinstance(error, TaskFailedError) else None
        if error.task_id is not None:
            changes, row = f"{changes}, task_id = :task_id", self._row_of_task(identity, error.task_id, sent_at)
        self._end(row, changes, "state != 'success'", error=error_text(error), cost=cost, task_id=error.task_id)
        self.free_kept(row)

    def succeeded(self, identity: str, video: Video, sent_at: float | None = None) -> None:
        """Notes the finished video."""
        facts, urls = video_text(video)
        sql = "INSERT INTO place (urls) VALUES (:urls) RETURNING seq"
        seq = self.database.execute(sql, {"urls": urls.encode()}).fetchone()["seq"]
        expiry = None if video.expires_at is None else video.expires_at.timestamp()
        given = {"task_id": video.task_id, "video": facts, "place": seq, "expiry": expiry}
        given["cost"], row = to_nanos(video.cost), identity
        if not self._end(identity, _SUCCEED, f"{_OF_NO_LATER_ATTEMPT} AND place IS NULL", sent_at=sent_at, **given):
            row = self._row_of_task(identity, video.task_id, sent_at)
            self._wipe("job.identity = :value", row)
            self._end(row, _SUCCEED, **given)
        self.free_kept(row)

    def whole(self, task_id: str, size: int, sha256: str) -> None:
        """Notes the size and digest of the complete file, before it has its name: they identify the video's file."""
        sql = "UPDATE job SET saved_bytes = :size, saved_sha256 = :sha256 WHERE task_id = :task_id"
        self.database.execute(sql, {"size": size, "sha256": sha256, "task_id": task_id})

    def saved(self, task_id: str, path: str | os.PathLike[str]) -> None:
        """Notes that the video lies at ``path`` on this machine, so its URLs are of no more use, and wiped.

        Only a reader that holds an older version just then delays that, until a later write or the close.
        """
        # A file name may hold bytes that are no text, and SQLite takes none of those.
        text = os.fsdecode(path).encode("utf-8", "backslashreplace").decode("utf-8")
        sql = "UPDATE job SET saved_to = :path WHERE task_id = :task_id"
        self.database.execute(sql, {"path": text, "task_id": task_id})
        self._wipe("job.task_id = :value", task_id)

    def renew(self) -> None:
        """Renews every lease of this session, and wipes expired URLs."""
        self.renew_leases()
        self.judgement.renewed(self.database.execute("SELECT :now AS now").fetchone()["now"])

    # What a session does with tasks that it did not submit.

    def adopt(self, task_id: str, model: str | None) -> Claim:
        """Claims the task, whether a job here led to it or it was submitted elsewhere."""
        identity = f"task:{task_id}"
        while True:
            record = self.find_task(task_id)
            claim = None
            if record is not None and record.state is JournalState.UNKNOWN:
                self._become(record, task_id)  # an answer in doubt named it, and its owner asks what became of it
            elif record is not None:
                claim = self._claim(record)
            else:
                row = self._execute(_INSERT_TASK, identity=identity, model=model, task_id=task_id).fetchone()
                claim = None if row is None else Claim(self._record(row), ours=True)
                identity = f"task:{identity}"  # if just that is the key of a job
            if claim is not None:
                return claim

    def unfinished(self) -> list[Record]:
        """Every job without an end, oldest first; claims each task that no other session waits for."""
        sql = f"{database.SELECT} WHERE state IN {tuple(map(str, UNFINISHED))} ORDER BY job.seq"
        records = filter(None, map(self.readable, self.database.execute(sql).fetchall()))
        claims = [self._continue(record) or self.follow(record.identity) for record in records]
        return [claim.record for claim in claims if claim is not None]

    def take_over(self, *, again: bool = False) -> list[Record]:
        """Every task that no live session waits for, claimed. What a dead one was sending is in doubt from here on.

        ``again``: those that this session holds, too, as the answer to an earlier take-over may have been lost.
        """
        others = "" if again else "AND COALESCE(holder, '') <> :us"
        sql = f"{database.SELECT} WHERE state IN ('sending', 'accepted') {others} ORDER BY job.seq"
        records = filter(None, map(self.readable, self.database.execute(sql, {"us": self.holder}).fetchall()))
        claims = [self._claim(record) for record in records]
        return [claim.record for claim in claims if claim is not None and claim.ours]

    def follow(self, identity: str) -> Claim | None:
        """How the job of that name stands; claimed if that can be done without the job itself."""
        return self._decide(identity, self._continue)

    def resolve(self, identity: str, *, resubmit: bool, task_id: str | None, forget: bool) -> Record | None:
        """Applies the owner's decision to a job that no session works on. ``None`` if the job is forgotten."""
        while True:
            record = self.find(identity)
            if record is None:
                raise JobError(field="key", value=identity, rule="must name a job in this journal")
            if record.state is JournalState.SENDING:
                claim = self._claim(record)
                record = record if claim is None else claim.record
            if self._is_resolved(record, task_id, forget=forget):
                if not resubmit:
                    self.free_kept(identity)
                return None if forget else self.find(identity)

    def _is_resolved(self, record: Record, task_id: str | None, *, forget: bool) -> bool:
        if forget:
            return self._forget(record)
        if task_id is not None:
            _check_state(record, (JournalState.UNKNOWN,), "is given a task id")
            return self._become(record, task_id)
        _check_state(record, SENDABLE_AGAIN, "is sent again")
        changes = f"state = 'intended', cost_before = {_PAID_BEFORE}, cost = NULL, {_UNSENT}, {FREE}"
        return bool(self._change(record.identity, changes, UNCHANGED, **as_read(record)))

    # Rows and tasks.

    def _row_of_task(self, identity: str, task_id: str, sent_at: float | None) -> str:
        """The identity of the row that a fact about a task belongs to: the job's, unless that has another task.

        Or it was sent again since ``sent_at``. Both may be paid for, so each row has the job's price.
        """
        job = self.find(identity)
        is_sent_since = job is not None and job.sent_at is not None and sent_at is not None and job.sent_at > sent_at
        if job is not None and (job.task_id == task_id or (job.task_id is None and not is_sent_since)):
            return identity
        row = self.find_task(task_id) or self.adopt(task_id, None if job is None else job.model).record
        if job is not None and row.price is None:
            self._change(row.identity, "price = :price", price=to_nanos(job.price))
        return row.identity

    def _become(self, record: Record, task_id: str) -> bool:
        """A job in doubt led to ``task_id``, it turns out. If that was attached to meanwhile, the two rows merge."""
        other = self.find_task(task_id)
        if other is None or other.identity == record.identity:
            changes = f"state = 'accepted', task_id = :task_id, accepted_at = :now, {NO_END}"
            return bool(self._change(record.identity, changes, UNCHANGED, task_id=task_id, **as_read(record)))
        if other.kind is not None:
            rule = f"is that of job {other.identity!r} in this journal: resolve that one"
            raise JobError(field="task_id", value=task_id, rule=rule)
        columns = ", ".join(_OF_THE_TASK)
        given = {"theirs": other.identity, "identity": record.identity, **as_read(record)}
        merge = f"UPDATE job SET ({columns}) = (SELECT {columns} FROM job AS other WHERE other.identity = :theirs)"
        is_merged = self.database.execute(f"{merge} WHERE identity = :identity AND {UNCHANGED}", given).rowcount == 1
        if is_merged:
            self.database.execute("DELETE FROM job WHERE identity = :theirs", {"theirs": other.identity})
            self.count_gone()
        return is_merged

    def _forget(self, record: Record) -> bool:
        if record.state is JournalState.INTENDED and (record.holder == self.holder or self._is_held_elsewhere(record)):
            raise JobError(field="key", value=record.identity, rule="must name a job that no session works on")
        _check_state(record, _FORGETTABLE, "is forgotten")
        self._wipe("job.identity = :value", record.identity)
        sql = f"DELETE FROM job WHERE identity = :identity AND {UNCHANGED}"
        self.count_gone()
        if self.database.execute(sql, {"identity": record.identity, **as_read(record)}).rowcount == 0:
            return False
        doubt = record.price if record.state is JournalState.UNKNOWN else None
        paid = {"paid": to_nanos(record.spent + (doubt or Decimal(0)))}
        self.database.execute("UPDATE journal SET forgotten = forgotten + :paid", paid)
        return True


def open_table(
    location: JournalLocation,
    base_url: str | None,
    now: Callable[[], float],
    holder: str | None,
    lease_s: float,
    busy_timeout_s: float,
    kind: type[JobTable] = JobTable,
) -> JobTable:
    """The jobs in the journal at ``location``, made if there is none. Raises ``JournalError``."""
    opened = opening.open_for_writing(location, base_url, now, busy_timeout_s)
    table = kind(opened, holder or holders.this_holder(), lease_s)
    try:
        with database.faults_as_errors(opened), table.transaction():
            table.wipe_expired()
            table.frees_kept = opened.execute("SELECT 1 AS it FROM need LIMIT 1").fetchone() is not None
    except BaseException:
        opened.close()
        raise
    return table


def _check_state(record: Record, allowed: tuple[JournalState, ...], what: str) -> None:
    if record.state not in allowed:
        rule = f"names a job whose state is {record.state}: only one that is {' or '.join(allowed)} {what}"
        raise JobError(field="key", value=record.identity, rule=rule)
