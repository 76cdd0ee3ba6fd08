"""What a journal says of tasks that were submitted elsewhere, or whose end is not known; and its owner's word."""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal
from typing import Any

import attrs
import pytest

from hailuo_async._io.journal.records import Claim, JournalState, Record, Spending
from hailuo_async._io.journal.table import JobTable
from hailuo_async.errors import JobError, RequestRejectedError, SubmissionUnknownError, TaskFailedError

from ...support.tables import LEASE_S, SECRET, Clock, Opener, accepted, did, in_doubt, intent, record_of, sent, video
from .conftest import Everything


def test_a_failed_job_that_is_sent_again_gets_its_next_task_in_its_own_row(ours: JobTable) -> None:
    accepted(ours)
    did(ours, lambda it: it.failed("cat", TaskFailedError(reason="dark", task_id="t1")))
    assert did(ours, lambda it: it.resolve("cat", resubmit=True, task_id=None, forget=False)) is not None
    accepted(ours, task_id="t2")
    assert (record_of(ours).state, record_of(ours).task_id) == (JournalState.ACCEPTED, "t2")


def test_a_task_submitted_elsewhere_is_adopted_under_its_own_name(
    ours: JobTable, theirs: JobTable, clock: Clock
) -> None:
    claim = did(ours, lambda it: it.adopt("t9", None))
    assert claim == Claim(
        Record(
            identity="task:t9",
            key=None,
            fingerprint=None,
            kind=None,
            model=None,
            facts={},
            prompt=None,
            state=JournalState.ACCEPTED,
            task_id="t9",
            accepted_at=clock.time,
            holder="ours",
            lease_until=clock.time + LEASE_S,
        ),
        ours=True,
    )
    assert not did(theirs, lambda it: it.adopt("t9", None)).ours


def test_a_key_that_looks_like_a_task_is_not_in_the_way_of_that_task(ours: JobTable) -> None:
    sent(ours, "task:t9")
    assert did(ours, lambda it: it.adopt("t9", None)).record.identity == "task:task:t9"
    assert record_of(ours, "task:t9").task_id is None
    with pytest.raises(JobError, match="names another job in this journal"):
        did(ours, lambda it: it.intend(intent("task:task:t9")))


def test_adopting_the_task_of_a_job_here_finds_the_job(ours: JobTable) -> None:
    accepted(ours)
    claim = did(ours, lambda it: it.adopt("t1", None))
    assert (claim.record.identity, claim.ours) == ("cat", True)


@pytest.mark.parametrize("is_attached", [False, True])
def test_a_second_task_of_a_job_counts_at_the_jobs_price_until_the_service_says_otherwise(
    ours: JobTable, is_attached: bool
) -> None:
    """As of a job given again, if a failover to a copy of the database has lost that it was forgotten before."""
    did(ours, lambda it: it.intend(attrs.evolve(intent(), price=Decimal("1.2"))))
    did(ours, lambda it: it.succeeded("cat", attrs.evolve(video(), cost=Decimal("0.8"))))
    if is_attached:
        did(ours, lambda it: it.adopt("t2", None))
    did(ours, lambda it: it.accepted("cat", "t2", 1.0))
    assert did(ours, JobTable.spending) == Spending(Decimal("0.8"), {"task:t2": Decimal("1.2")})
    did(ours, lambda it: it.failed("cat", TaskFailedError(reason="no", task_id="t2")))
    assert did(ours, JobTable.spending) == Spending(Decimal("2.0"), {})


def test_unfinished_jobs_come_oldest_first_and_free_tasks_become_ours(
    ours: JobTable, opened: Opener, theirs: JobTable
) -> None:
    gone = opened("gone")
    did(gone, lambda it: it.intend(intent("queued")))
    sent(gone, "left")
    accepted(gone, "waiting", "t1")
    in_doubt(gone, "doubtful")
    accepted(gone, "done", "t2")
    did(gone, lambda it: it.succeeded("done", video("t2")))
    gone.close()
    accepted(theirs, "elsewhere", "t3")
    unfinished = did(ours, JobTable.unfinished)
    assert [(record.identity, record.state.value, record.holder) for record in unfinished] == [
        ("queued", "intended", None),
        ("left", "unknown", None),
        ("waiting", "accepted", "ours"),
        ("doubtful", "unknown", None),
        ("elsewhere", "accepted", "theirs"),
    ]


def resolved(table: JobTable, identity: str = "cat", **word: Any) -> Record | None:
    return did(table, lambda it: it.resolve(identity, **{"resubmit": False, "task_id": None, "forget": False, **word}))


def test_a_doubtful_job_may_be_sent_again_on_its_owners_word(ours: JobTable, theirs: JobTable) -> None:
    in_doubt(ours)
    freed = resolved(ours, resubmit=True)
    assert freed is not None
    assert (freed.state, freed.error, freed.sent_at, freed.holder) == (JournalState.INTENDED, None, None, None)
    assert did(theirs, lambda it: it.intend(intent())).ours


def test_a_doubtful_job_may_turn_out_to_be_a_task(ours: JobTable, theirs: JobTable) -> None:
    in_doubt(ours)
    found = resolved(ours, task_id="t1")
    assert found is not None
    assert (found.state, found.task_id, found.error, found.ended_at) == (JournalState.ACCEPTED, "t1", None, None)
    assert did(theirs, lambda it: it.intend(intent())).ours


def test_a_doubtful_job_takes_over_what_is_known_of_a_task_that_was_attached_to(ours: JobTable) -> None:
    in_doubt(ours)
    did(ours, lambda it: it.adopt("t1", None))
    did(ours, lambda it: it.succeeded("task:t1", video("t1")))
    merged = resolved(ours, task_id="t1")
    assert merged is not None
    assert (merged.identity, merged.state, merged.video, merged.error) == ("cat", "success", video("t1"), None)
    assert did(ours, lambda it: it.find("task:t1")) is None


def test_a_doubtful_job_is_not_the_task_of_another(ours: JobTable) -> None:
    in_doubt(ours)
    accepted(ours, "dog", "t1")
    with pytest.raises(JobError, match="task_id 't1': is that of job 'dog'"):
        resolved(ours, task_id="t1")
    assert record_of(ours).state is JournalState.UNKNOWN


@pytest.mark.parametrize("end", ["unknown", "refused", "failed", "success", "intended"])
def test_a_job_that_nobody_works_on_can_be_forgotten_with_its_urls(
    ours: JobTable, everything: Everything, end: str
) -> None:
    sent(ours)
    if end == "unknown":
        did(ours, lambda it: it.unknown("cat", SubmissionUnknownError(reason="cut")))
    elif end == "refused":
        did(ours, lambda it: it.refused("cat", RequestRejectedError(message="no")))
    elif end == "failed":
        did(ours, lambda it: it.failed("cat", TaskFailedError(reason="no", task_id="t1")))
    elif end == "success":
        did(ours, lambda it: it.succeeded("cat", video()))
    else:
        did(ours, lambda it: it.unsent("cat"))
        did(ours, lambda it: it.release("cat"))
    assert record_of(ours).state == end
    assert resolved(ours, forget=True) is None
    assert did(ours, lambda it: it.find("cat")) is None
    assert SECRET.encode() not in everything()


@pytest.mark.parametrize(
    ("prepare", "word"),
    [
        (sent, {"resubmit": True}),
        (accepted, {"resubmit": True}),
        (accepted, {"task_id": "t2"}),
        (accepted, {"forget": True}),
        (lambda it: did(it, lambda table: table.intend(intent())), {"forget": True}),
        (lambda it: did(it, lambda table: table.intend(intent())), {"resubmit": True}),
    ],
)
def test_a_job_at_work_cannot_be_resolved(
    ours: JobTable, theirs: JobTable, prepare: Callable[[JobTable], object], word: dict[str, Any]
) -> None:
    prepare(ours)
    before = record_of(ours)
    for table in (ours, theirs):
        with pytest.raises(JobError, match=r"must name a job that|names a job whose state"):
            resolved(table, **word)
    assert record_of(ours) == before


def test_a_key_that_names_nothing_cannot_be_resolved(ours: JobTable) -> None:
    with pytest.raises(JobError, match="key 'dog': must name a job in this journal"):
        resolved(ours, "dog", forget=True)


def test_a_job_is_followed_to_its_end_and_taken_up_when_its_session_has_gone(
    ours: JobTable, theirs: JobTable, clock: Clock
) -> None:
    did(theirs, lambda it: it.intend(intent("queued")))
    sent(theirs, "sent")
    accepted(theirs, "waiting")
    claims = []
    for _ in range(2):
        with ours.transaction():
            claims += [ours.follow(key) for key in ("queued", "sent", "waiting", "nobody")]
        clock.time += LEASE_S
    assert [claim and (claim.record.state.value, claim.ours) for claim in claims] == [
        ("intended", False),
        ("sending", False),
        ("accepted", False),
        None,
        ("intended", False),
        ("unknown", False),
        ("accepted", True),
        None,
    ]


@pytest.mark.parametrize("is_dead", [False, True])
def test_after_an_outage_longer_than_a_lease_the_first_session_back_gives_the_others_time_to_renew(
    ours: JobTable, theirs: JobTable, clock: Clock, is_dead: bool
) -> None:
    sent(theirs, "sent")
    accepted(theirs, "waiting", "t1")
    did(theirs, lambda it: it.intend(intent("queued")))
    for table in (ours, theirs):
        did(table, JobTable.renew)
    clock.time += 4 * LEASE_S

    def taken() -> list[str]:
        return [record.identity for record in did(ours, JobTable.take_over)]

    assert taken() == []
    did(ours, JobTable.renew)
    assert taken() == []
    assert not did(ours, lambda it: it.intend(intent("queued"))).ours
    if not is_dead:
        did(theirs, JobTable.renew)
    for _ in range(3):
        clock.time += LEASE_S / 3
        did(ours, JobTable.renew)
        if not is_dead:
            did(theirs, JobTable.renew)
    assert taken() == (["waiting"] if is_dead else [])
    assert record_of(ours, "sent").state is (JournalState.UNKNOWN if is_dead else JournalState.SENDING)
    assert did(ours, lambda it: it.intend(intent("queued"))).ours is is_dead


@pytest.mark.parametrize("column", ["facts", "error"])
def test_a_damaged_row_is_told_once_by_its_name_and_stops_no_takeover(
    ours: JobTable, theirs: JobTable, clock: Clock, caplog: pytest.LogCaptureFixture, column: str
) -> None:
    sent(theirs, "sent")
    accepted(theirs, "damaged", "t1")
    accepted(theirs, "waiting", "t2")
    sql = f"UPDATE job SET {column} = '{{dam' WHERE identity = 'damaged'"
    did(theirs, lambda it: it.database.execute(sql))
    clock.time += LEASE_S
    for expected in (["waiting"], []):
        assert [record.identity for record in did(ours, JobTable.take_over)] == expected
    assert [record.identity for record in did(ours, JobTable.unfinished)] == ["sent", "waiting"]
    assert record_of(ours, "sent").state is JournalState.UNKNOWN
    told = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    assert ["job 'damaged' is damaged in it: restore it from a copy" in text for text in told] == [False, True]
    assert told[0].startswith("job 'sent' may have been accepted")


@pytest.mark.parametrize("fact", ["accepted", "failed", "succeeded"])
@pytest.mark.parametrize("word", [{"resubmit": True}, {"forget": True}])
def test_what_is_heard_late_of_a_task_does_not_hide_the_doubt_about_a_later_post(
    ours: JobTable, theirs: JobTable, clock: Clock, fact: str, word: dict[str, bool]
) -> None:
    """This process was stopped: its task was taken over and failed, and its job was sent again (life 400685)."""
    error = TaskFailedError(task_id="t1", reason="sensitive")
    did(ours, lambda it: it.intend(intent()))
    did(ours, lambda it: it.sending("cat", 1.0))
    did(ours, lambda it: it.accepted("cat", "t1", 2.0, 1.0))
    for _ in range(2):
        clock.time += 2 * LEASE_S
        did(theirs, lambda it: it.renew())
    did(theirs, lambda it: it.take_over())
    did(theirs, lambda it: it.failed("cat", error))
    did(theirs, lambda it: it.resolve("cat", task_id=None, **{"resubmit": False, "forget": False, **word}))
    did(theirs, lambda it: it.intend(intent()))
    did(theirs, lambda it: it.sending("cat", 3.0))
    did(theirs, lambda it: it.unknown("cat", SubmissionUnknownError(reason="cut"), 3.0))
    late = {
        "accepted": lambda it: it.accepted("cat", "t1", 2.0, 1.0),
        "failed": lambda it: it.failed("cat", error, 1.0),
        "succeeded": lambda it: it.succeeded("cat", video("t1"), 1.0),
    }
    did(ours, late[fact])
    assert (record_of(theirs).state, record_of(theirs).task_id) == (JournalState.UNKNOWN, None)
