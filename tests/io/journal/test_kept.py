"""Whole jobs in a journal: what is kept of them, for how long, and who may take them over. On both engines."""

from __future__ import annotations

import hashlib
import sys
from decimal import Decimal

import attrs
import pytest

from hailuo_async._io.journal.database import Database, Parameters, Rows
from hailuo_async._io.journal.kept import FORM, KeptBounds, KeptImage, KeptJob
from hailuo_async._io.journal.kept_table import STAGE_S, KeptTable, Unstaged
from hailuo_async._io.journal.records import Claim, JournalState
from hailuo_async._io.journal.table import JobTable
from hailuo_async._io.journal.taking import Taking
from hailuo_async.errors import JobError, QueueFullError, RequestRejectedError, SubmissionUnknownError

from ...support.tables import LEASE_S, Clock, did, intent, record_of
from .conftest import Everything

BOUNDS = KeptBounds(max_queued=100, max_kept_bytes=1000)
CAT, DOG = (bytes([letter]) * 300 for letter in b"cd")


def digest(picture: bytes) -> str:
    return hashlib.sha256(picture).hexdigest()


def kept_job(*pictures: bytes) -> KeptJob:
    fields = ("first_frame_image", "last_frame_image")
    images = {
        field: KeptImage(sha256=digest(picture), mime="image/png", size=len(picture))
        for field, picture in zip(fields, pictures, strict=False)
    }
    return KeptJob("/api/v1/minimax/x/async", {"prompt": "S3CRET prompt"}, images)


def keep(
    table: JobTable, key: str = "cat", *pictures: bytes, bounds: KeptBounds = BOUNDS, fingerprint: str = "f1"
) -> Claim:
    pictures = pictures or (CAT,)
    held = {digest(picture): (picture[:100], picture[100:]) for picture in pictures}
    return did(table, lambda it: KeptTable(it).keep(intent(key, fingerprint), kept_job(*pictures), held, bounds))


def taken(table: JobTable, limit: int = 10, identity: str | None = None) -> list[str]:
    return [
        claim.record.identity for claim in did(table, lambda it: KeptTable(it).take(limit, identity)) if claim.job.path
    ]


def picture(table: JobTable, of: bytes = CAT) -> bytes:
    return b"".join(did(table, lambda it: [KeptTable(it).piece(digest(of), number) for number in range(3)]))


def test_a_kept_job_is_ours_and_its_picture_can_be_read_in_pieces(ours: JobTable) -> None:
    claim = keep(ours)
    assert (claim.ours, claim.record.state) == (True, JournalState.INTENDED)
    assert did(ours, lambda it: KeptTable(it).piece(digest(CAT), 0)) == CAT[:100]
    assert picture(ours) == CAT


def test_what_is_kept_comes_back_as_it_was(ours: JobTable, theirs: JobTable) -> None:
    keep(ours, "cat", CAT, DOG)
    did(ours, lambda it: it.release("cat"))
    (claim,) = did(theirs, lambda it: KeptTable(it).take(10))
    assert claim.job == kept_job(CAT, DOG)
    assert claim.record == attrs.evolve(record_of(theirs), holder="theirs")


def test_a_taking_over_whose_answer_was_lost_is_made_again_with_the_same_jobs(ours: JobTable, theirs: JobTable) -> None:
    for key in ("one", "two", "three"):
        keep(ours, key)
        did(ours, lambda it, key=key: it.release(key))  # type: ignore[misc]
    taking = Taking(2, None)
    for _ in range(2):
        assert [claim.record.identity for claim in did(theirs, taking)] == ["one", "two"]
    assert [claim.record.identity for claim in did(theirs, Taking(2, None))] == ["three"]
    did(theirs, taking.undo)  # no caller waits for them
    assert taken(ours) == ["one", "two"]


def test_the_same_picture_is_there_once_and_goes_with_the_last_job_that_needs_it(ours: JobTable) -> None:
    keep(ours, "one", CAT, CAT)
    keep(ours, "two", CAT, DOG)
    kept = did(ours, lambda it: it.database.execute("SELECT sha256, size, needed FROM picture ORDER BY size, needed"))
    assert [tuple(dict(row).values()) for row in kept.fetchall()] == [(digest(DOG), 300, 1), (digest(CAT), 300, 2)]
    for key, left in (("one", [CAT, DOG]), ("two", [b"", b""])):
        did(ours, lambda it, key=key: it.sending(key, 1.0))  # type: ignore[misc]
        did(ours, lambda it, key=key: it.accepted(key, f"t-{key}", 1.0))  # type: ignore[misc]
        assert [picture(ours, CAT), picture(ours, DOG)] == left


@pytest.mark.parametrize("end", ["accepted", "refused", "forgotten", "dropped", "task id"])
def test_prompt_and_picture_are_gone_as_soon_as_they_are_not_needed(
    ours: JobTable, everything: Everything, end: str
) -> None:
    keep(ours)
    if end == "dropped":
        did(ours, lambda it: KeptTable(it).drop("cat"))
    else:
        did(ours, lambda it: it.sending("cat", 1.0))
    if end == "accepted":
        did(ours, lambda it: it.accepted("cat", "t1", 1.0))
    elif end == "refused":
        did(ours, lambda it: it.refused("cat", RequestRejectedError(message="no")))
    elif end in ("forgotten", "task id"):
        did(ours, lambda it: it.unknown("cat", SubmissionUnknownError(reason="cut")))
        assert picture(ours) == CAT
        task_id = "t1" if end == "task id" else None
        did(ours, lambda it: it.resolve("cat", resubmit=False, task_id=task_id, forget=task_id is None))
    assert picture(ours) == b""
    did(ours, lambda it: KeptTable(it).tidy())
    assert b"S3CRET" not in everything()
    assert CAT not in everything()


def test_a_job_that_is_in_doubt_can_be_sent_again_as_it_was_submitted(ours: JobTable, theirs: JobTable) -> None:
    keep(ours)
    did(ours, lambda it: it.sending("cat", 1.0))
    did(ours, lambda it: it.unknown("cat", SubmissionUnknownError(reason="cut")))
    assert taken(theirs) == []
    did(ours, lambda it: it.resolve("cat", resubmit=True, task_id=None, forget=False))
    assert taken(theirs) == ["cat"]


def test_a_job_that_waits_to_be_sent_again_stays_on_record_when_its_caller_takes_it_back(
    ours: JobTable, theirs: JobTable
) -> None:
    """Its POST before may be paid for, and no other record says so."""
    keep(ours)
    did(ours, lambda it: it.sending("cat", 1.0))
    did(ours, lambda it: it.sent_again("cat", 1.0))
    did(ours, lambda it: KeptTable(it).drop("cat"))
    record = record_of(ours)
    assert (record.state, record.holder, record.cost_before) == (JournalState.INTENDED, None, Decimal(0))
    assert picture(ours) == b""
    assert taken(theirs) == []


@pytest.mark.parametrize("state", [JournalState.INTENDED, JournalState.SENDING, JournalState.UNKNOWN])
def test_what_may_be_sent_yet_is_kept_when_leftovers_are_removed(ours: JobTable, state: JournalState) -> None:
    keep(ours)
    if state is not JournalState.INTENDED:
        did(ours, lambda it: it.sending("cat", 1.0))
    if state is JournalState.UNKNOWN:
        did(ours, lambda it: it.unknown("cat", SubmissionUnknownError(reason="cut")))
    did(ours, lambda it: KeptTable(it).tidy())
    assert (record_of(ours).state, picture(ours)) == (state, CAT)


def test_no_job_is_dropped_that_another_session_holds_or_whose_post_may_have_left(
    ours: JobTable, theirs: JobTable
) -> None:
    keep(theirs, "theirs")
    for key in ("sending", "accepted"):
        keep(ours, key)
        did(ours, lambda it, key=key: it.sending(key, 1.0))  # type: ignore[misc]
    did(ours, lambda it: it.accepted("accepted", "t1", 2.0))
    for key in ("theirs", "sending", "accepted"):
        did(ours, lambda it, key=key: KeptTable(it).drop(key))  # type: ignore[misc]
    states = [record_of(ours, key).state for key in ("theirs", "sending", "accepted")]
    assert states == [JournalState.INTENDED, JournalState.SENDING, JournalState.ACCEPTED]


# --- Who takes over ---------------------------------------------------------------------------------------------------


def test_what_a_session_left_is_taken_over_the_oldest_first_and_by_one_alone(
    ours: JobTable, theirs: JobTable, clock: Clock
) -> None:
    for key in ("a", "b", "c"):
        keep(theirs, key)
    did(theirs, lambda it: it.release("c"))
    assert taken(ours) == ["c"]
    clock.time += LEASE_S
    assert taken(ours, 1) == ["a"]
    assert taken(ours) == ["b", "c"] or taken(ours) == ["b"]
    assert taken(theirs) == []


def test_what_a_living_session_holds_or_was_not_kept_is_left_alone(ours: JobTable, theirs: JobTable) -> None:
    keep(theirs, "held")
    did(theirs, lambda it: it.intend(intent("not kept")))
    did(theirs, lambda it: it.release("not kept"))
    assert taken(ours) == []


def test_after_an_outage_what_others_hold_is_left_to_them_for_another_lease(
    ours: JobTable, theirs: JobTable, clock: Clock
) -> None:
    keep(theirs)
    did(ours, JobTable.renew)
    clock.time += 4 * LEASE_S
    did(ours, JobTable.renew)
    assert taken(ours) == []
    for _ in range(3):
        clock.time += LEASE_S / 3
        did(ours, JobTable.renew)
    assert taken(ours) == ["cat"]


def test_one_job_is_taken_over_by_its_name(ours: JobTable, theirs: JobTable) -> None:
    for key in ("a", "b"):
        keep(theirs, key)
        did(theirs, lambda it, key=key: it.release(key))  # type: ignore[misc]
    assert taken(ours, 1, "b") == ["b"]


def test_jobs_of_a_newer_form_are_left_alone_and_counted(ours: JobTable, theirs: JobTable) -> None:
    keep(theirs)
    did(theirs, lambda it: it.release("cat"))
    did(ours, lambda it: it.database.execute("UPDATE job SET kept_form = :form", {"form": FORM + 1}))
    assert taken(ours) == []
    assert did(ours, lambda it: KeptTable(it).left_to_others()) == 1


def test_a_kept_job_that_was_damaged_ends_with_its_reason_and_is_not_sent(ours: JobTable, theirs: JobTable) -> None:
    keep(theirs)
    did(theirs, lambda it: it.release("cat"))
    did(ours, lambda it: it.database.execute("UPDATE job SET kept = '{dam'"))
    assert taken(ours) == []
    record = record_of(ours)
    assert (record.state, type(record.error)) == (JournalState.REFUSED, JobError)


def test_a_row_that_was_damaged_is_skipped_and_the_others_are_taken_over(ours: JobTable, theirs: JobTable) -> None:
    for key in ("a", "b"):
        keep(theirs, key)
        did(theirs, lambda it, key=key: it.release(key))  # type: ignore[misc]
    did(ours, lambda it: it.database.execute("UPDATE job SET facts = '{dam' WHERE identity = 'a'"))
    assert taken(ours) == ["b"]


def test_another_job_under_the_key_of_one_that_was_never_sent_replaces_what_was_kept(
    ours: JobTable, theirs: JobTable
) -> None:
    keep(theirs, "cat", CAT)
    did(theirs, lambda it: it.release("cat"))
    assert keep(ours, "cat", DOG, fingerprint="f2").ours
    assert (picture(ours, CAT), picture(ours, DOG)) == (b"", DOG)
    did(ours, lambda it: it.release("cat"))
    theirs.frees_kept = False  # a session that keeps no jobs, and must not leave another job's picture to a keeper
    assert did(theirs, lambda it: it.intend(intent("cat", "f3"))).ours
    did(theirs, lambda it: it.release("cat"))
    assert (picture(ours, DOG), taken(ours)) == (b"", [])


# --- What is asked for again, and what does not fit -------------------------------------------------------------------


def test_the_same_job_joins_the_one_that_is_kept_and_another_under_its_key_is_an_error(
    ours: JobTable, theirs: JobTable
) -> None:
    keep(theirs)
    assert not keep(ours).ours
    with pytest.raises(JobError, match="names another job in this journal"):
        keep(ours, "cat", DOG, fingerprint="f2")
    did(theirs, lambda it: it.release("cat"))
    assert keep(ours).ours
    did(ours, lambda it: it.sending("cat", 1.0))
    did(ours, lambda it: it.accepted("cat", "t1", 1.0))
    assert picture(ours) == b""


def test_a_job_that_was_intended_and_not_kept_is_kept_when_it_is_given_again(ours: JobTable, theirs: JobTable) -> None:
    did(theirs, lambda it: it.intend(intent()))
    did(theirs, lambda it: it.release("cat"))
    assert keep(ours).ours
    assert picture(ours) == CAT


def test_as_many_jobs_wait_as_may_whoever_submitted_them(ours: JobTable, theirs: JobTable) -> None:
    bounds = KeptBounds(max_queued=2, max_kept_bytes=10_000)
    for table, key in ((ours, "a"), (theirs, "b")):
        keep(table, key, bounds=bounds)
    with pytest.raises(QueueFullError, match="2 jobs wait already"):
        keep(ours, "c", bounds=bounds)
    assert did(ours, lambda it: it.find("c")) is None
    did(theirs, lambda it: it.sending("b", 1.0))
    assert keep(ours, "c", bounds=bounds).ours


def test_a_large_picture_for_which_no_job_has_room_is_refused_with_the_bound_that_was_given(ours: JobTable) -> None:
    keep(ours)
    image = KeptImage(sha256=digest(DOG), mime="image/png", size=len(DOG))
    with pytest.raises(QueueFullError) as refused:
        did(ours, lambda it: KeptTable(it).stage("stage", image, KeptBounds(max_queued=1, max_kept_bytes=1000)))
    assert refused.value.max_queued == 1


def test_a_job_that_is_not_bounded_does_not_count_those_that_wait(
    ours: JobTable, monkeypatch: pytest.MonkeyPatch
) -> None:
    execute, executed = type(ours.database).execute, []

    def noted(self: Database, sql: str, parameters: Parameters | None = None) -> Rows:
        executed.append(sql)
        return execute(self, sql, parameters)

    monkeypatch.setattr(type(ours.database), "execute", noted)
    keep(ours, bounds=KeptBounds(max_queued=sys.maxsize, max_kept_bytes=1000))
    assert executed
    assert not [sql for sql in executed if "count(*)" in sql]


def test_pictures_are_bounded_by_their_bytes_and_each_counts_once(ours: JobTable) -> None:
    bounds = KeptBounds(max_queued=100, max_kept_bytes=500)
    keep(ours, "a", bounds=bounds)
    keep(ours, "b", bounds=bounds)
    with pytest.raises(QueueFullError, match="the journal keeps as many images as it may, 500 bytes"):
        keep(ours, "c", DOG, bounds=bounds)
    assert did(ours, lambda it: it.find("c")) is None
    assert picture(ours, DOG) == b""


def test_what_a_stage_holds_is_kept_for_its_time_and_freed_after_it(
    ours: JobTable, theirs: JobTable, clock: Clock
) -> None:
    image = kept_job(CAT).images["first_frame_image"]
    assert did(ours, lambda it: KeptTable(it).stage("stage", image, BOUNDS))
    clock.time += STAGE_S / 2
    assert did(ours, lambda it: KeptTable(it).put("stage", image.sha256, 0, [CAT[:100]])) == [0]
    clock.time += STAGE_S - 1
    did(theirs, lambda it: KeptTable(it).tidy())
    assert did(ours, lambda it: KeptTable(it).put("stage", image.sha256, 1, [CAT[100:]])) == [1]
    clock.time += STAGE_S
    did(theirs, lambda it: KeptTable(it).tidy())
    assert picture(ours) == b""
    with pytest.raises(Unstaged):
        did(ours, lambda it: KeptTable(it).put("stage", image.sha256, 2, [b""]))
    with pytest.raises(Unstaged):
        did(ours, lambda it: KeptTable(it).keep(intent(), kept_job(CAT), {}, BOUNDS, "stage"))
    assert did(ours, lambda it: it.find("cat")) is None


def test_what_a_session_that_knows_nothing_of_it_left_behind_is_freed(ours: JobTable, theirs: JobTable) -> None:
    keep(ours)
    did(ours, lambda it: it.release("cat"))
    assert not theirs.frees_kept
    did(theirs, lambda it: it.intend(intent()))
    did(theirs, lambda it: it.sending("cat", 1.0))
    did(theirs, lambda it: it.accepted("cat", "t1", 1.0))
    assert picture(ours) == CAT
    did(ours, lambda it: KeptTable(it).tidy())
    assert picture(ours) == b""
