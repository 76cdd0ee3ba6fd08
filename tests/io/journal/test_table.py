"""The states of a job on disk, by two holders of one file, on a clock that the test sets."""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal
from typing import Any

import attrs
import pytest

from hailuo_async._io.journal.records import Claim, JournalState, Record, Spending
from hailuo_async._io.journal.table import JobTable
from hailuo_async.errors import JobError, RequestRejectedError, SubmissionUnknownError, TaskFailedError

from ...support.tables import (
    DAY_S,
    LEASE_S,
    SECRET,
    Clock,
    Opener,
    accepted,
    did,
    in_doubt,
    intent,
    record_of,
    sent,
    video,
)
from .conftest import Everything


def test_a_new_job_is_intended_and_ours_with_all_that_was_said_of_it(ours: JobTable, clock: Clock) -> None:
    claim = did(ours, lambda it: it.intend(intent(prompt="[Push in] a cat", duration=6)))
    assert claim == Claim(
        Record(
            identity="cat",
            key="cat",
            fingerprint="f1",
            kind="ImageToVideo",
            model="m",
            facts={"duration": 6},
            prompt="[Push in] a cat",
            state=JournalState.INTENDED,
            holder="ours",
            lease_until=clock.time + LEASE_S,
        ),
        ours=True,
    )


def test_images_and_prompts_among_the_facts_are_not_kept(ours: JobTable, everything: Everything) -> None:
    facts = {"prompt": SECRET, "first_frame_image": SECRET, "last_frame_image": SECRET, "duration": 10}
    told = attrs.evolve(intent(), facts=facts)
    assert did(ours, lambda it: it.intend(told)).record.facts == {"duration": 10}
    assert SECRET.encode() not in everything()


def test_a_job_goes_through_its_life_and_each_step_is_on_record(ours: JobTable, clock: Clock) -> None:
    first = did(ours, lambda it: it.intend(intent())).record
    assert did(ours, lambda it: it.sending("cat", 999.0))
    assert record_of(ours) == attrs.evolve(first, state=JournalState.SENDING, sent_at=999.0)
    clock.time += 1
    did(ours, lambda it: it.accepted("cat", "t1", 1001.0))
    there = attrs.evolve(first, state=JournalState.ACCEPTED, sent_at=999.0, task_id="t1", accepted_at=1001.0)
    assert record_of(ours) == attrs.evolve(there, lease_until=clock.time + LEASE_S)
    did(ours, lambda it: it.succeeded("cat", video()))
    assert record_of(ours) == attrs.evolve(
        there,
        state=JournalState.SUCCESS,
        video=video(),
        cost=Decimal("0.2400"),
        ended_at=clock.time,
        holder=None,
        lease_until=None,
    )


def test_money_is_kept_to_the_cent_and_a_failed_task_counts_until_the_service_says_otherwise(ours: JobTable) -> None:
    def ask(key: str, price: str | None = "0.3240") -> None:
        did(ours, lambda it: it.intend(attrs.evolve(intent(key), price=None if price is None else Decimal(price))))
        did(ours, lambda it: it.sending(key, 999.0))

    def take(key: str, price: str | None = "0.3240") -> None:
        ask(key, price)
        did(ours, lambda it: it.accepted(key, f"t-{key}", 1001.0))

    def spending() -> Spending:
        return did(ours, lambda it: it.spending())

    assert spending() == Spending()
    ask("is being sent")
    assert spending() == Spending(unfinished={"is being sent": Decimal("0.3240")})
    did(ours, lambda it: it.unsent("is being sent"))
    take("billed")
    take("silent")
    take("failed")
    take("free of charge")
    take("running")
    take("unknown price", None)
    ask("in doubt")
    ask("refused")
    did(ours, lambda it: it.intend(attrs.evolve(intent("intended"), price=Decimal(9))))
    did(ours, lambda it: it.succeeded("billed", video("t-billed")))
    did(ours, lambda it: it.succeeded("silent", attrs.evolve(video("t-silent"), cost=None)))
    did(ours, lambda it: it.failed("failed", TaskFailedError(reason="r", task_id="t-failed")))
    unpaid = TaskFailedError(reason="r", task_id="t-free of charge", cost=Decimal(0))
    did(ours, lambda it: it.failed("free of charge", unpaid))
    did(ours, lambda it: it.unknown("in doubt", SubmissionUnknownError(reason="r")))
    did(ours, lambda it: it.refused("refused", RequestRejectedError(message="m")))
    price = Decimal("0.3240")
    assert spending() == Spending(Decimal("0.2400") + 2 * price, {"running": price, "in doubt": price})
    assert record_of(ours, "failed").spent == price
    assert record_of(ours, "free of charge").spent == 0
    for key in ("failed", "in doubt"):
        did(ours, lambda it, key=key: it.resolve(key, resubmit=True, task_id=None, forget=False))  # type: ignore[misc]
    assert spending() == Spending(Decimal("0.2400") + 3 * price, {"running": price})
    assert (record_of(ours, "in doubt").cost_before, record_of(ours, "in doubt").spent) == (price, price)


def test_what_forgotten_jobs_cost_or_may_have_cost_still_counts(ours: JobTable) -> None:
    price = Decimal("0.3240")

    def ended(key: str, end: Callable[[], object]) -> None:
        did(ours, lambda it: it.intend(attrs.evolve(intent(key), price=price)))
        did(ours, lambda it: it.sending(key, 1.0))
        end()
        did(ours, lambda it: it.resolve(key, resubmit=False, task_id=None, forget=True))

    ended("made", lambda: did(ours, lambda it: it.succeeded("made", attrs.evolve(video("t1"), cost=Decimal("0.3")))))
    ended("failed", lambda: did(ours, lambda it: it.failed("failed", TaskFailedError(reason="no", task_id="t2"))))
    ended("doubtful", lambda: did(ours, lambda it: it.unknown("doubtful", SubmissionUnknownError(reason="cut"))))
    ended("refused", lambda: did(ours, lambda it: it.refused("refused", TaskFailedError(reason="no"))))
    assert did(ours, lambda it: it.spending()) == Spending(Decimal("0.3000") + 2 * price)


def test_a_doubt_that_is_sent_again_counts_before_the_next_post_and_is_a_doubt_again_if_none_follows(
    ours: JobTable, theirs: JobTable
) -> None:
    price, doubt = Decimal("0.3240"), SubmissionUnknownError(reason="cut", sent_at=1.0)
    did(ours, lambda it: it.intend(attrs.evolve(intent(), price=price)))
    did(ours, lambda it: it.sending("cat", 1.0))
    for _ in range(2):  # the answer to the first commit may get lost
        did(ours, lambda it: it.sent_again("cat", 1.0))
        found = record_of(ours)
        assert (found.state, found.cost_before, found.holder) == (JournalState.INTENDED, price, ours.holder)
    did(theirs, lambda it: it.back_in_doubt("cat", doubt))
    assert record_of(ours).state is JournalState.INTENDED
    for _ in range(2):
        did(ours, lambda it: it.back_in_doubt("cat", doubt))
        found = record_of(ours)
        assert (found.state, found.cost_before, found.holder) == (JournalState.UNKNOWN, None, None)
    assert did(ours, lambda it: it.spending()) == Spending(unfinished={"cat": price})


@pytest.mark.parametrize("state", ["intended", "sending", "accepted"])
def test_a_job_that_a_living_session_works_on_is_not_ours(ours: JobTable, theirs: JobTable, state: str) -> None:
    did(theirs, lambda it: it.intend(intent()))
    if state != "intended":
        did(theirs, lambda it: it.sending("cat", 999.0))
    if state == "accepted":
        did(theirs, lambda it: it.accepted("cat", "t1", 1001.0))
    claim = did(ours, lambda it: it.intend(intent()))
    assert (claim.ours, claim.record.state, claim.record.holder) == (False, state, "theirs")


def test_only_one_of_two_holders_may_send(ours: JobTable, theirs: JobTable, clock: Clock) -> None:
    did(ours, lambda it: it.intend(intent()))
    clock.time += LEASE_S
    assert did(theirs, lambda it: it.intend(intent())).ours
    assert not did(ours, lambda it: it.sending("cat", 999.0))
    assert did(theirs, lambda it: it.sending("cat", 1000.0))
    assert not did(theirs, lambda it: it.sending("cat", 1001.0))


def test_the_same_session_is_told_to_wait_for_its_own_post(ours: JobTable) -> None:
    sent(ours)
    assert not did(ours, lambda it: it.intend(intent())).ours


@pytest.mark.parametrize("jump_s", [LEASE_S, -3 * LEASE_S, 400 * DAY_S])
def test_a_jump_of_the_clock_causes_a_takeover_and_never_a_second_post(
    ours: JobTable, theirs: JobTable, clock: Clock, jump_s: float
) -> None:
    accepted(ours)
    clock.time += jump_s
    claim = did(theirs, lambda it: it.intend(intent()))
    assert (claim.ours, claim.record.state, claim.record.task_id) == (True, JournalState.ACCEPTED, "t1")
    assert not did(theirs, lambda it: it.sending("cat", 999.0))


def test_a_renewed_lease_outlasts_its_first_length(ours: JobTable, theirs: JobTable, clock: Clock) -> None:
    accepted(ours)
    clock.time += LEASE_S - 1
    did(ours, JobTable.renew)
    clock.time += LEASE_S - 1
    assert not did(theirs, lambda it: it.intend(intent())).ours


def test_a_post_whose_sender_died_is_in_doubt(ours: JobTable, theirs: JobTable, clock: Clock) -> None:
    sent(theirs)
    clock.time += LEASE_S
    claim = did(ours, lambda it: it.intend(intent()))
    assert (claim.ours, claim.record.state, claim.record.ended_at) == (False, JournalState.UNKNOWN, clock.time)
    assert claim.record.holder is None
    doubt = claim.record.error
    assert isinstance(doubt, SubmissionUnknownError)
    assert (doubt.key, doubt.sent_at) == ("cat", 999.0)


def test_the_session_that_finds_a_doubt_logs_it_once_with_what_to_do(
    ours: JobTable, theirs: JobTable, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    sent(theirs)
    clock.time += LEASE_S
    for _ in range(2):
        did(ours, JobTable.take_over)
        did(ours, lambda it: it.follow("cat"))
    told = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    assert [text.startswith("job 'cat' may have been accepted and paid for: ") for text in told] == [True]
    assert told[0].endswith(": look on the service's dashboard before you send it again")
    did(ours, lambda it: it.resolve("cat", resubmit=True, task_id=None, forget=False))
    did(theirs, lambda it: it.intend(intent()))
    did(theirs, lambda it: it.sending("cat", clock.time))
    clock.time += LEASE_S
    did(ours, JobTable.take_over)
    assert [record.getMessage() for record in caplog.records if record.levelname == "WARNING"] == told * 2


def test_an_acceptance_is_recorded_though_the_job_was_taken_for_doubtful(
    ours: JobTable, theirs: JobTable, clock: Clock
) -> None:
    sent(ours)
    clock.time += LEASE_S
    did(theirs, lambda it: it.intend(intent()))
    did(ours, lambda it: it.accepted("cat", "t1", 1001.0))
    record = record_of(ours)
    assert (record.state, record.task_id, record.error, record.ended_at) == (JournalState.ACCEPTED, "t1", None, None)


def test_an_acceptance_that_comes_late_stops_a_second_post(ours: JobTable, theirs: JobTable, clock: Clock) -> None:
    sent(ours)
    clock.time += LEASE_S
    did(theirs, lambda it: it.resolve("cat", resubmit=True, task_id=None, forget=False))
    assert did(theirs, lambda it: it.intend(intent())).ours
    did(ours, lambda it: it.accepted("cat", "t1", 1001.0))
    assert not did(theirs, lambda it: it.sending("cat", 1002.0))


def test_a_second_task_of_one_job_gets_a_row_of_its_own(ours: JobTable, theirs: JobTable, clock: Clock) -> None:
    sent(ours)
    clock.time += LEASE_S
    did(theirs, lambda it: it.resolve("cat", resubmit=True, task_id=None, forget=False))
    accepted(theirs, task_id="t2")
    did(ours, lambda it: it.accepted("cat", "t1", 1001.0))
    assert (record_of(ours, "task:t1").state, record_of(ours, "task:t1").holder) == (JournalState.ACCEPTED, "ours")
    did(ours, lambda it: it.succeeded("cat", video("t1")))
    did(theirs, lambda it: it.failed("cat", TaskFailedError(reason="dark", task_id="t2")))
    assert (record_of(ours).task_id, record_of(ours).state) == ("t2", JournalState.FAILED)
    second = record_of(ours, "task:t1")
    assert (second.task_id, second.state, second.video, second.model) == ("t1", JournalState.SUCCESS, video("t1"), "m")


def test_what_was_certainly_not_accepted_may_be_sent_again(ours: JobTable) -> None:
    sent(ours)
    did(ours, lambda it: it.unsent("cat"))
    assert (record_of(ours).state, record_of(ours).sent_at) == (JournalState.INTENDED, None)
    assert did(ours, lambda it: it.sending("cat", 1000.0))


def test_a_job_that_was_left_unsent_is_claimed_as_such_and_no_other_is(ours: JobTable, theirs: JobTable) -> None:
    assert not did(ours, lambda it: it.intend(intent())).was_left
    assert not did(theirs, lambda it: it.intend(intent())).was_left  # it is ours
    did(ours, lambda it: it.release("cat"))
    assert did(theirs, lambda it: it.intend(intent())).was_left
    accepted(ours, "runs", "t1")
    did(ours, lambda it: it.release("runs"))
    assert not did(theirs, lambda it: it.intend(intent("runs"))).was_left


def test_a_refused_job_is_tried_again_when_it_is_asked_for_again(ours: JobTable, theirs: JobTable) -> None:
    first = did(ours, lambda it: it.intend(intent())).record
    did(ours, lambda it: it.sending("cat", 999.0))
    did(ours, lambda it: it.refused("cat", RequestRejectedError(message="too dark", status=422)))
    assert (record_of(ours).state, str(record_of(ours).error)) == (JournalState.REFUSED, "422 too dark")
    again = did(theirs, lambda it: it.intend(intent()))
    assert again == Claim(attrs.evolve(first, holder="theirs"), ours=True)


def test_ended_jobs_are_told_and_not_worked_again(ours: JobTable, theirs: JobTable) -> None:
    accepted(ours, "won", "t1")
    did(ours, lambda it: it.succeeded("won", video("t1")))
    accepted(ours, "lost", "t2")
    did(ours, lambda it: it.failed("lost", TaskFailedError(reason="dark", task_id="t2")))
    in_doubt(ours, "doubtful")
    with theirs.transaction():
        claims = [theirs.intend(intent(key)) for key in ("won", "lost", "doubtful")]
    assert [(claim.record.state, claim.ours) for claim in claims] == [
        (JournalState.SUCCESS, False),
        (JournalState.FAILED, False),
        (JournalState.UNKNOWN, False),
    ]


def test_another_job_under_a_known_key_is_an_error_and_changes_nothing(ours: JobTable) -> None:
    did(ours, lambda it: it.intend(intent()))
    before = record_of(ours)
    with pytest.raises(JobError, match="key 'cat': names another job in this journal"):
        did(ours, lambda it: it.intend(intent(fingerprint="f2")))
    assert record_of(ours) == before


def test_a_job_that_was_refused_may_be_corrected_under_its_key(ours: JobTable, clock: Clock) -> None:
    sent(ours)
    did(ours, lambda it: it.refused("cat", RequestRejectedError(message="no such resolution", status=422)))
    corrected = did(ours, lambda it: it.intend(intent(fingerprint="f2", resolution="768P")))
    assert corrected == Claim(
        Record(
            identity="cat",
            key="cat",
            fingerprint="f2",
            kind="ImageToVideo",
            model="m",
            facts={"resolution": "768P"},
            prompt=None,
            state=JournalState.INTENDED,
            holder="ours",
            lease_until=clock() + LEASE_S,
        ),
        ours=True,
    )
    assert record_of(ours) == corrected.record


def test_a_job_that_was_never_sent_and_is_held_by_no_living_session_may_be_changed_under_its_key(
    ours: JobTable, theirs: JobTable, clock: Clock
) -> None:
    did(ours, lambda it: it.intend(intent("closed")))
    did(ours, lambda it: it.intend(intent("died")))
    sent(ours, "unsent")
    did(ours, lambda it: it.unsent("unsent", 999.0))
    for key in ("closed", "unsent"):
        did(ours, lambda it, key=key: it.release(key))  # type: ignore[misc]
    clock.time += LEASE_S
    for key in ("closed", "died", "unsent"):
        changed = did(theirs, lambda it, key=key: it.intend(intent(key, "f2")))  # type: ignore[misc]
        assert (changed.ours, changed.record.fingerprint, changed.record.state) == (True, "f2", JournalState.INTENDED)
        assert not did(ours, lambda it, key=key: it.sending(key, 1000.0))  # type: ignore[misc]


def test_a_job_that_may_have_been_paid_for_keeps_its_key_even_if_it_is_to_be_sent_again(ours: JobTable) -> None:
    in_doubt(ours)
    did(ours, lambda it: it.resolve("cat", resubmit=True, task_id=None, forget=False))
    with pytest.raises(JobError, match="names another job in this journal"):
        did(ours, lambda it: it.intend(intent(fingerprint="f2")))


@pytest.mark.parametrize("word", ["unsent", "refused", "unknown"])
def test_what_a_sender_learns_after_its_lease_settles_the_doubt_of_others(
    ours: JobTable, theirs: JobTable, clock: Clock, word: str
) -> None:
    sent(ours)
    clock.time += LEASE_S
    assert did(theirs, lambda it: it.intend(intent())).record.state is JournalState.UNKNOWN
    if word == "unsent":
        did(ours, lambda it: it.unsent("cat", 999.0))
        assert (record_of(ours).state, record_of(ours).holder) == (JournalState.INTENDED, "ours")
    elif word == "refused":
        did(ours, lambda it: it.refused("cat", RequestRejectedError(message="too dark"), 999.0))
        assert (record_of(ours).state, str(record_of(ours).error)) == (JournalState.REFUSED, "too dark")
    else:
        did(ours, lambda it: it.unknown("cat", SubmissionUnknownError(reason="cut", task_id="t1"), 999.0))
        assert (record_of(ours).state, record_of(ours).task_id) == (JournalState.UNKNOWN, "t1")


@pytest.mark.parametrize("word", ["unsent", "refused"])
def test_what_a_sender_learns_of_an_earlier_attempt_says_nothing_of_a_later_one(
    ours: JobTable, theirs: JobTable, clock: Clock, word: str
) -> None:
    sent(ours)
    clock.time += LEASE_S
    did(theirs, lambda it: it.resolve("cat", resubmit=True, task_id=None, forget=False))
    did(theirs, lambda it: it.intend(intent()))
    did(theirs, lambda it: it.sending("cat", 2000.0))
    if word == "unsent":
        did(ours, lambda it: it.unsent("cat", 999.0))
    else:
        did(ours, lambda it: it.refused("cat", RequestRejectedError(message="too dark"), 999.0))
    assert (record_of(ours).state, record_of(ours).sent_at) == (JournalState.SENDING, 2000.0)


def test_a_released_job_is_free_for_others_at_once_unless_its_post_is_under_way(
    ours: JobTable, theirs: JobTable
) -> None:
    did(ours, lambda it: it.intend(intent("queued")))
    sent(ours, "sent")
    with theirs.transaction():
        theirs.release("queued")  # which does nothing: it is not theirs
    assert record_of(theirs, "queued").holder == "ours"
    with ours.transaction():
        ours.release("queued")
        ours.release("sent")
    assert did(theirs, lambda it: it.intend(intent("queued"))).ours
    assert record_of(theirs, "sent").holder == "ours"


def test_closing_frees_every_job_at_once(opened: Opener, theirs: JobTable) -> None:
    ours = opened("ours")
    accepted(ours, "waiting")
    sent(ours, "sent")
    ours.close()
    assert did(theirs, lambda it: it.intend(intent("waiting"))).ours
    assert did(theirs, lambda it: it.intend(intent("sent"))).record.state is JournalState.UNKNOWN


def test_an_end_reaches_a_row_that_missed_the_acceptance(ours: JobTable) -> None:
    sent(ours)
    did(ours, lambda it: it.succeeded("cat", video("t1")))
    assert (record_of(ours).state, record_of(ours).task_id) == (JournalState.SUCCESS, "t1")


def test_a_failure_without_a_task_belongs_to_the_job(ours: JobTable) -> None:
    accepted(ours)
    did(ours, lambda it: it.failed("cat", TaskFailedError(reason="dark")))
    assert (record_of(ours).state, record_of(ours).task_id) == (JournalState.FAILED, "t1")


def test_a_video_on_record_stays_when_its_task_is_later_unknown(ours: JobTable) -> None:
    accepted(ours)
    did(ours, lambda it: it.succeeded("cat", video()))
    did(ours, lambda it: it.failed("cat", TaskFailedError(reason="gone", task_id="t1")))
    did(ours, lambda it: it.accepted("cat", "t1", 1002.0))
    assert (record_of(ours).state, record_of(ours).video) == (JournalState.SUCCESS, video())


# --- Two sessions at once ---------------------------------------------------------------------------------------------


@attrs.define(eq=False)
class Raced(JobTable):
    """Another session commits something between what this one reads first and what it writes."""

    meanwhile: Callable[[], object] = attrs.field(default=lambda: None, init=False)

    def find(self, identity: str) -> Record | None:
        found, meanwhile = super().find(identity), self.meanwhile
        self.meanwhile = lambda: None
        meanwhile()
        return found


def decided(table: JobTable, *, resubmit: bool = False, task_id: str | None = None, forget: bool = False) -> None:
    did(table, lambda it: it.resolve("cat", resubmit=resubmit, task_id=task_id, forget=forget))


@pytest.fixture
def raced(ours: JobTable) -> Raced:
    return Raced(ours.database, "ours", LEASE_S)


@pytest.mark.parametrize("engine", ["postgres"])  # a file has one writer at a time
def test_a_job_is_not_claimed_that_its_session_goes_on_with_between_the_look_and_the_claim(
    raced: Raced, theirs: JobTable, clock: Clock
) -> None:
    did(theirs, lambda it: it.intend(intent("waits")))
    sent(theirs, "sent")
    clock.time += LEASE_S
    raced.meanwhile = lambda: did(theirs, JobTable.renew)
    assert not did(raced, lambda it: it.intend(intent("waits"))).ours
    clock.time += LEASE_S
    raced.meanwhile = lambda: did(theirs, lambda it: it.accepted("sent", "t1", 1001.0))
    did(raced, lambda it: it.follow("sent"))
    assert (record_of(raced, "sent").state, record_of(raced, "sent").holder) == (JournalState.ACCEPTED, "theirs")


@pytest.mark.parametrize("engine", ["postgres"])
@pytest.mark.parametrize("is_attached", [False, True])
@pytest.mark.parametrize("word", [{"resubmit": True}, {"task_id": "t1"}, {"forget": True}])
def test_a_decision_on_a_doubt_changes_nothing_if_another_session_sends_the_job_before_it_is_written(
    raced: Raced, theirs: JobTable, word: dict[str, Any], is_attached: bool
) -> None:
    def send_again() -> None:
        decided(theirs, resubmit=True)
        sent(theirs)

    in_doubt(theirs)
    if is_attached:
        did(theirs, lambda it: it.adopt("t1", None))
    raced.meanwhile = send_again
    with pytest.raises(JobError, match="names a job whose state is sending"):
        decided(raced, **word)
    assert (record_of(raced).state, record_of(raced).holder) == (JournalState.SENDING, "theirs")
