"""The team in a journal, in a file and in a database: one step at a time, behind who came first."""

from __future__ import annotations

import contextlib
import functools
import itertools
import select
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest

from hailuo_async._io.journal.records import JournalState, Permit
from hailuo_async._io.journal.table import JobTable, open_table
from hailuo_async._io.journal.team import TeamTable
from hailuo_async._io.journal.team_sql import MOST_PASSED_ON
from hailuo_async._io.journal.team_values import JobChange, Step, StepDone, TeamStatus, Turn
from hailuo_async._rules.line import Standing
from hailuo_async._rules.rate_headers import RateHeaders
from hailuo_async._rules.team import Held, TeamState, load_state
from hailuo_async.contract import DEFAULT_BASE_URL
from hailuo_async.errors import JobError, JournalError

from ...support.tables import LEASE_S, Clock, accepted, did, intent, mute, record_of, sent, video

NOW = 500.0


@pytest.fixture
def a(ours: JobTable) -> TeamTable:
    return joined(ours)


@pytest.fixture
def b(a: TeamTable, theirs: JobTable) -> TeamTable:
    return joined(theirs)


def joined(jobs: JobTable) -> TeamTable:
    team = TeamTable(jobs)
    with jobs.transaction():
        team.join()
    return team


def step(
    team: TeamTable,
    *,
    held: Held = Held(),  # noqa: B008 (frozen)
    turns: Sequence[Turn] = (),
    changes: Sequence[Callable[[TeamState], object]] = (),
    place: float | None = None,
    passed: Standing | None = None,
    buried: Sequence[str] = (),
) -> StepDone:
    made = Step(
        now=NOW, held=held, turns=tuple(turns), changes=tuple(changes), place=place, passed=passed, buried=tuple(buried)
    )
    with team.jobs.transaction():
        tried = team.step(made)
    return tried.outcome()


def turn(team: TeamTable, key: str, place: float = NOW) -> Turn:
    assert did(team.jobs, lambda it: it.intend(intent(key))).ours
    return Turn(key, 999.0, place)


def filled(team: TeamTable) -> None:
    """The limit of three is known, and three tasks of this member run."""
    turns = [turn(team, f"{team.jobs.holder} {number}") for number in range(3)]
    assert step(team, turns=turns).permits == (Permit.GRANTED,) * 3

    def learn(state: TeamState) -> None:
        for _ in range(3):
            state.slots.accepted()
        state.submit_leaves(NOW)
        state.slots.refused(NOW, NOW)

    step(team, held=Held(settled=3), changes=[learn])


def full(state: TeamState) -> None:
    """The service has refused a second task while one ran."""
    state.slots.adopted()
    state.submit_leaves(NOW)
    state.slots.refused(NOW, NOW)


def ended(state: TeamState) -> None:
    state.slots.ended()


def test_a_grant_and_the_record_of_the_intent_are_one_step(a: TeamTable, clock: Clock) -> None:
    assert step(a, turns=[turn(a, "cat")]).permits == (Permit.GRANTED,)
    record = record_of(a.jobs)
    assert (record.state, record.sent_at) == (JournalState.SENDING, 999.0)


def test_a_post_whose_grant_was_not_answered_and_is_not_given_again_is_no_longer_on_record(
    a: TeamTable, b: TeamTable
) -> None:
    made = Step(now=NOW, turns=(turn(a, "cat"), turn(a, "dog")))
    with a.jobs.transaction():
        a.step(made)
    assert [record_of(a.jobs, key).state for key in ("cat", "dog")] == [JournalState.SENDING] * 2
    a.forget()  # the answer to that commit was lost
    before = [turn(b, f"{number}", place=NOW - 5) for number in range(2)]
    assert step(b, turns=before).permits == (Permit.GRANTED, Permit.LATER)
    with a.jobs.transaction():
        tried = a.step(made)
    assert tried.outcome().permits == (Permit.LATER, Permit.LATER)
    records = [record_of(a.jobs, key) for key in ("cat", "dog")]
    assert [(record.state, record.sent_at, record.holder) for record in records] == [
        (JournalState.INTENDED, None, "ours")
    ] * 2


def test_two_members_find_one_limit_although_neither_refreshes(a: TeamTable, b: TeamTable) -> None:
    mine = step(a, turns=[turn(a, "a1"), turn(a, "a2")])
    theirs = step(b, turns=[turn(b, "b1"), turn(b, "b2")])
    assert mine.permits == (Permit.GRANTED, Permit.GRANTED)
    assert theirs.permits == (Permit.GRANTED, Permit.LATER)
    assert record_of(b.jobs, "b2").state is JournalState.INTENDED
    assert load_state(theirs.status.state, a.row.rng).slots.running == 3
    assert theirs.status.members == 2


def test_the_answer_to_a_step_tells_what_others_have_changed_since(a: TeamTable, b: TeamTable) -> None:
    step(b, held=Held(settled=1))
    told = step(a, held=Held(settled=1)).status.state
    assert load_state(told, a.row.rng).slots.running == 2
    assert step(a, held=Held(settled=2)).status.state is None  # as the session knows it


def test_notices_that_come_with_a_call_wait_for_the_next_refresh(a: TeamTable, b: TeamTable) -> None:
    accepted(b.jobs, "theirs", "t1")
    a.refresh(None)
    b.refresh(None)
    a.pass_on(["t1"])
    assert is_woken(b)
    made = Step(now=NOW, is_called=True)
    b.prepare(made)
    with b.jobs.transaction():
        tried = b.step(made)
    assert tried.outcome().needs_refresh
    refreshed = b.refresh(None)
    assert refreshed is not None
    assert refreshed.notices == ("t1",)
    assert not step(b).needs_refresh


def test_a_call_takes_no_notification_from_the_next_refresh(a: TeamTable, b: TeamTable) -> None:
    sent(a.jobs)
    first = b.refresh(None)
    did(a.jobs, lambda it: it.accepted("cat", "t1", 1.0))
    made = Step(now=NOW, is_called=True)
    b.prepare(made)
    with b.jobs.transaction():
        tried = b.step(made)
    assert not tried.outcome().needs_refresh  # by a job, but by no notice
    refreshed = b.refresh(0)
    assert first is not None
    assert refreshed is not None
    assert [change.state for change in refreshed.changes] == [JournalState.ACCEPTED]


@pytest.mark.parametrize(("ahead_s", "held"), [(9.0, {"ours": Held(settled=1)}), (11.0, {})])
def test_a_state_from_before_the_servers_clock_was_set_back_is_worth_nothing(
    a: TeamTable, b: TeamTable, clock: Clock, ahead_s: float, held: dict[str, Held]
) -> None:
    """All the times in it are ahead, and the team would wait for them; also for the end of a hold after a failover."""
    if a.jobs.database.IS_LOCAL:
        return  # its times are those of a clock that is never set

    held_until = clock.time + 640.0

    def hold_off(state: TeamState) -> None:
        state.submits_from = held_until

    made = Step(now=clock.time + ahead_s, held=Held(settled=1), changes=(hold_off,))
    clock.time += ahead_s
    did(a.jobs, lambda _: a.step(made)).outcome()
    clock.time -= ahead_s
    b.reread()
    assert (b.row.state.held, b.row.state.submits_from) == (held, clock.time + (LEASE_S if not held else 640.0))
    assert step(b).needs_refresh is not bool(held)  # it is to look at that clock
    a.reread()
    assert a.row.state.submits_from == b.row.state.submits_from


@contextlib.contextmanager
def overtaken(other: TeamTable, times: int) -> Iterator[None]:
    """So often, ``other`` makes a step right after a session has read the state. In a file, it cannot."""
    reread, steps = TeamTable.reread, iter([functools.partial(step, other)] * times)

    def read(team: TeamTable) -> TeamStatus:
        status = reread(team)
        if not team.jobs.database.IS_LOCAL and team is not other:
            for make_step in itertools.islice(steps, 1):
                make_step()
        return status

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(TeamTable, "reread", read)
        yield


def slots_of(team: TeamTable) -> tuple[dict[str, Held], int]:
    """What each member holds, and how many slots that takes."""
    state = load_state(team.row.with_state(team.reread(), is_all=True).state, team.row.rng)
    return state.held, state.slots.running


def test_a_session_that_leaves_as_another_makes_a_step_holds_no_slot_any_more(a: TeamTable, b: TeamTable) -> None:
    filled(a)
    with overtaken(b, 1), a.jobs.transaction():
        a.leave()
    assert slots_of(b) == ({}, 0)


def test_a_session_that_cannot_leave_as_others_are_quicker_is_buried_when_its_lease_is_over(
    a: TeamTable, b: TeamTable, clock: Clock
) -> None:
    filled(a)
    with overtaken(b, 99), a.jobs.transaction():
        a.leave()
    for _ in range(4):
        clock.time += LEASE_S / 3
        did(b.jobs, lambda _: b.renew()).outcome()
    dead = did(b.jobs, lambda _: b.members.dead())
    step(b, changes=[functools.partial(TeamState.bury, member=each, now=NOW) for each in dead], buried=dead)
    assert slots_of(b) == ({}, 0)


def test_a_step_that_others_forestall_for_ever_changes_nothing_and_says_so(a: TeamTable, b: TeamTable) -> None:
    if a.jobs.database.IS_LOCAL:
        return  # no other session writes amid a step
    wanted = turn(a, "cat")
    with overtaken(b, 99):
        step(b)
        done = step(a, turns=[wanted], buried=[b.jobs.holder], changes=[full])
    assert (done.is_made, done.permits) == (False, (Permit.LATER,))
    assert (a.members.others(), slots_of(a)) == ([b.jobs.holder], ({}, 0))
    assert record_of(a.jobs).state is JournalState.INTENDED


def test_a_step_whose_answer_was_lost_and_that_others_then_forestall_for_ever_leaves_no_post_on_record(
    a: TeamTable, b: TeamTable
) -> None:
    if a.jobs.database.IS_LOCAL:
        return  # no other session writes amid a step
    made = Step(now=NOW, turns=(turn(a, "cat"),))
    with a.jobs.transaction():
        a.step(made)
    a.forget()
    with overtaken(b, 99):
        step(b)
        with a.jobs.transaction():
            tried = a.step(made)
        assert tried.outcome().permits == (Permit.LATER,)
    assert record_of(a.jobs).state is JournalState.INTENDED


def test_who_came_first_is_first_also_in_another_session(a: TeamTable, b: TeamTable) -> None:
    filled(a)
    waiting = turn(b, "visitor", place=NOW - 5)
    assert step(b, turns=[waiting]).permits == (Permit.LATER,)
    later = step(a, held=Held(settled=2), changes=[ended], turns=[turn(a, "next", place=NOW - 1)])
    assert later.permits == (Permit.LATER,)
    assert later.status.first == (NOW - 5, "theirs")
    assert step(b, turns=[waiting]).permits == (Permit.GRANTED,)
    assert step(a, held=Held(settled=2)).status.first is None


def test_the_first_in_the_line_is_told_when_there_is_room(a: TeamTable, b: TeamTable) -> None:
    filled(a)
    step(b, turns=[turn(b, "visitor")])
    b.refresh(None)
    step(a, held=Held(settled=2), changes=[ended])
    number = b.jobs.database.fileno()
    assert number is not None
    assert select.select([number], [], [], 10)[0] == [number]
    assert b.jobs.database.notifications()


def test_a_try_in_vain_wakes_nobody(a: TeamTable, b: TeamTable) -> None:
    filled(a)
    step(b, turns=[turn(b, "visitor")])
    b.refresh(None)
    with a.jobs.transaction():
        tried = a.step(Step(now=NOW, held=Held(settled=2), changes=(ended,)))
    was_made = tried._written.rowcount == 1
    assert was_made is a.jobs.database.IS_LOCAL  # where they are not, another session has been quicker
    assert is_woken(b) is was_made
    tried.outcome()
    assert is_woken(b)


def test_a_renewal_that_was_read_before_a_step_of_its_commit_was_made_again_brings_back_no_older_state(
    a: TeamTable, b: TeamTable
) -> None:
    """Else the next step would be decided on that, and its POST be on record as sent although it was not granted."""
    waits = turn(a, "waits")
    step(b)
    with a.jobs.transaction():  # a server's state is old now
        tried, renewed = a.step(Step(now=NOW, held=Held(settled=1), changes=(full,))), a.renew()
    tried.outcome()
    renewed.outcome()
    assert step(a, held=Held(settled=1), turns=[waits]).permits == (Permit.LATER,)
    assert record_of(a.jobs, "waits").state is JournalState.INTENDED


def test_who_was_moved_on_by_a_try_in_vain_is_told_that_it_stands_where_it_stood(a: TeamTable, b: TeamTable) -> None:
    step(a, place=NOW - 3)
    waits = turn(a, "a1", NOW - 3)
    assert step(b, turns=[turn(b, f"b{number}", NOW - 5) for number in range(3)]).permits == (Permit.GRANTED,) * 3
    done = step(a, turns=[waits], place=NOW - 1)  # a server's state is old, and has room: the first try gives a turn
    assert (done.permits, done.status.place) == ((Permit.LATER,), NOW - 3)
    assert step(a, place=NOW - 3).status.place == NOW - 3


def test_who_becomes_the_first_in_the_line_is_told_if_there_will_soon_be_room(a: TeamTable, b: TeamTable) -> None:
    """It has to watch the time itself. If something has to happen first, it is told when that has happened."""
    filled(a)
    step(a, held=Held(settled=3), place=NOW - 5)
    step(b, place=NOW)
    b.refresh(None)
    step(a, held=Held(settled=3))
    assert not is_woken(b)
    step(a, held=Held(settled=3), place=NOW - 5)
    step(a, held=Held(settled=2), changes=[ended, closed_for_five_seconds])
    assert is_woken(b)


def closed_for_five_seconds(state: TeamState) -> None:
    state.rate_limiter.refused(NOW, RateHeaders(retry_after_s=5.0), NOW)


def test_a_lone_session_is_told_that_it_is_alone_no_more(a: TeamTable, theirs: JobTable) -> None:
    a.refresh(None)
    joined(theirs)
    assert is_woken(a)
    refreshed = a.refresh(None)
    assert refreshed is not None
    assert refreshed.status.members == 2


def test_two_journals_may_each_have_a_session_of_the_same_name(tmp_path: Path) -> None:
    tables = [
        open_table(tmp_path / name, DEFAULT_BASE_URL, time.time, "ours", LEASE_S, 0.1) for name in ("a.db", "b.db")
    ]
    for table in tables:
        joined(table)
    assert [table.database.can_be_woken for table in tables] == [True, True]
    for table in tables:
        table.close()


def test_who_follows_jobs_is_told_of_each_change_and_nobody_else_is(a: TeamTable, b: TeamTable) -> None:
    sent(a.jobs, "cat")
    step(a)
    b.refresh(None)
    did(a.jobs, lambda it: it.accepted("cat", "t1", 1.0))
    assert not is_woken(b)
    step(b, held=Held(follows=True))
    step(a)  # which learns of it, and tells of what it may have told to nobody
    assert is_woken(b)
    b.refresh(None)
    did(a.jobs, lambda it: it.succeeded("cat", video("t1")))
    assert is_woken(b)
    b.refresh(None)
    step(b)
    step(a)
    did(a.jobs, lambda it: it.saved("t1", "/cat.mp4"))
    did(a.jobs, lambda it: it.release("cat"))
    assert not is_woken(b)


def test_a_renewal_tells_how_the_team_stands_and_whether_a_task_was_left(a: TeamTable, b: TeamTable) -> None:
    accepted(a.jobs, "running", "t1")
    renewed = did(b.jobs, lambda _: b.renew()).outcome()
    assert (renewed.status.members, renewed.has_orphans) == (2, False)
    assert renewed.status.lapses_in_s == pytest.approx(LEASE_S)
    a.close()
    renewed = did(b.jobs, lambda _: b.renew()).outcome()
    assert (renewed.status.members, renewed.status.lapses_in_s, renewed.has_orphans) == (1, None, True)


def test_a_renewal_brings_the_state_again_although_an_earlier_answer_brought_it(a: TeamTable, b: TeamTable) -> None:
    """The session may have waited long enough for that answer, and never seen it."""
    step(a, held=Held(settled=1))
    for _ in range(2):
        renewed = did(b.jobs, lambda _: b.renew()).outcome()
        assert load_state(renewed.status.state, b.row.rng).held == {"ours": Held(settled=1)}


def is_woken(team: TeamTable) -> bool:
    database = team.jobs.database
    number = database.fileno()
    assert number is not None
    return database.has_unseen_notifications() or select.select([number], [], [], 0.3)[0] == [number]


def test_a_session_that_others_took_for_dead_is_a_member_again_with_its_next_step(a: TeamTable, b: TeamTable) -> None:
    """Else no other would bury it if it died then, and the slot that it was granted would be held for ever."""
    step(a, buried=["theirs"])
    step(b, held=Held(inflight=1))
    with a.jobs.transaction():
        assert a.members.others() == ["theirs"]


def test_who_does_not_take_its_turn_is_passed_over_and_learns_of_it(a: TeamTable, b: TeamTable) -> None:
    filled(a)
    step(b, turns=[turn(b, "stopped", place=NOW - 5)])
    mine = turn(a, "next")
    step(a, held=Held(settled=2), changes=[ended])
    assert step(a, held=Held(settled=2), turns=[mine], passed=Standing(NOW - 4, "theirs")).permits == (Permit.GRANTED,)
    assert step(b).status.place is None


def test_who_has_had_its_turn_meanwhile_keeps_its_new_place(a: TeamTable, b: TeamTable) -> None:
    step(b, place=NOW - 5)
    step(b, place=NOW - 1)
    step(a, turns=[turn(a, "next")], passed=Standing(NOW - 4, "theirs"))
    assert step(b, place=NOW - 1).status.place == NOW - 1


def test_nobody_is_passed_over_while_there_is_no_turn_to_take(a: TeamTable, b: TeamTable) -> None:
    """The session that would pass the other over may have an old view of the team."""
    filled(a)
    step(b, turns=[turn(b, "waits", place=NOW - 5)])
    assert step(a, held=Held(settled=3), turns=[turn(a, "next")], passed=Standing(NOW - 5, "theirs")).permits == (
        Permit.LATER,
    )
    refreshed = b.refresh(None)
    assert refreshed is not None
    assert refreshed.status.place == NOW - 5


def test_a_member_whose_lease_is_over_holds_no_place_in_the_line(a: TeamTable, b: TeamTable, clock: Clock) -> None:
    filled(a)
    step(b, turns=[turn(b, "dead", place=NOW - 5)])
    clock.time += LEASE_S + 1
    did(a.jobs, lambda _: a.members.renew())
    assert step(a, held=Held(settled=2), changes=[ended], turns=[turn(a, "next")]).permits == (Permit.GRANTED,)


def test_a_job_that_another_session_took_is_not_granted(a: TeamTable, b: TeamTable) -> None:
    assert did(b.jobs, lambda it: it.intend(intent("cat"))).ours
    assert step(a, turns=[Turn("cat", 999.0, NOW)]).permits == (Permit.TAKEN,)


def test_a_step_that_is_made_again_finds_its_own_grants(a: TeamTable, b: TeamTable) -> None:
    """As after a commit whose answer was lost. Nobody else is granted what is on its way."""
    mine = turn(a, "cat")
    assert step(a, turns=[mine]).permits == (Permit.GRANTED,)
    assert step(b, turns=[Turn("cat", 998.0, NOW)]).permits == (Permit.TAKEN,)
    assert step(a, turns=[mine]).permits == (Permit.GRANTED,)


def test_what_nobody_sends_is_taken_back(a: TeamTable) -> None:
    made = Step(now=NOW, turns=(turn(a, "cat"),))
    with a.jobs.transaction():
        a.step(made)
    with a.jobs.transaction():
        a.take_back(made)
    assert record_of(a.jobs).state is JournalState.INTENDED


def test_a_step_that_was_rolled_back_is_made_on_the_state_that_is_there(a: TeamTable, b: TeamTable) -> None:
    def fail() -> None:
        with a.jobs.transaction():
            a.step(Step(now=NOW, turns=(turn_in(a, "lost"),)))
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    a.forget()
    assert step(b, turns=[turn(b, "b1"), turn(b, "b2")]).permits == (Permit.GRANTED, Permit.GRANTED)
    assert step(a, turns=[turn(a, "a1"), turn(a, "a2")]).permits == (Permit.GRANTED, Permit.LATER)


def turn_in(team: TeamTable, key: str) -> Turn:
    team.jobs.intend(intent(key))
    return Turn(key, 999.0, NOW)


def test_a_team_without_another_member_begins_anew(a: TeamTable, theirs: JobTable) -> None:
    filled(a)
    with a.jobs.transaction():
        a.leave()
    b = joined(theirs)
    done = step(b)
    assert done.status.members == 1
    assert load_state(done.status.state, a.row.rng).slots.running == 0


def test_what_a_member_holds_is_counted_no_more_when_it_leaves(a: TeamTable, b: TeamTable) -> None:
    filled(a)
    with a.jobs.transaction():
        a.leave()
    turns = [turn(b, f"b{number}") for number in range(4)]
    done = step(b, turns=turns)
    assert done.permits == (Permit.GRANTED,) * 3 + (Permit.LATER,)
    assert done.status.members == 1


def test_the_tasks_of_a_dead_session_are_taken_up_and_what_it_was_sending_is_in_doubt(
    a: TeamTable, b: TeamTable, clock: Clock
) -> None:
    accepted(a.jobs, "running", "t1")
    sent(a.jobs, "torn")
    assert did(a.jobs, lambda it: it.intend(intent("queued"))).ours
    step(a, held=Held(inflight=1, settled=1))
    assert b.members.dead() == ()
    for _ in range(4):
        clock.time += LEASE_S / 3
        did(b.jobs, lambda _: b.renew()).outcome()
    with b.jobs.transaction():
        records, dead = b.members.take_over()
    assert ([record.identity for record in records], dead) == (["running"], ("ours",))
    assert record_of(b.jobs, "running").holder == "theirs"
    assert record_of(b.jobs, "torn").state is JournalState.UNKNOWN
    assert record_of(b.jobs, "queued").state is JournalState.INTENDED
    done = step(b, held=Held(settled=1), changes=[lambda team: team.bury("ours", NOW)], buried=dead)
    assert (done.status.members, b.members.dead()) == (1, ())
    with b.jobs.transaction():
        assert b.members.take_over() == ([], ())


def test_the_tasks_of_a_session_that_was_closed_are_taken_up_at_once(a: TeamTable, b: TeamTable) -> None:
    accepted(a.jobs, "running", "t1")
    a.close()
    with b.jobs.transaction():
        records, dead = b.members.take_over()
    assert ([record.identity for record in records], dead) == (["running"], ())


def test_a_session_that_could_not_renew_its_first_lease_takes_no_other_for_dead(
    a: TeamTable, b: TeamTable, clock: Clock
) -> None:
    accepted(a.jobs, "running", "t1")
    clock.time += LEASE_S + 1  # as after an outage that began before the first renewal
    did(b.jobs, lambda _: b.renew()).outcome()
    with b.jobs.transaction():
        assert b.members.take_over() == ([], ())


def test_an_unsent_job_is_freed_that_a_dead_session_holds_which_is_no_member(
    a: TeamTable, b: TeamTable, clock: Clock
) -> None:
    """A session that writes its jobs again on a copy, and dies before it is a member there."""
    assert did(a.jobs, lambda it: it.intend(intent())).ours
    did(b.jobs, lambda _: b.members.remove("ours"))
    found = []
    for _ in range(4):
        clock.time += LEASE_S / 3
        found.append(did(b.jobs, lambda _: b.renew()).outcome().has_orphans)
    assert found == [False, False, True, True]
    with b.jobs.transaction():
        assert b.members.take_over() == ([], ())
    assert record_of(b.jobs).holder is None
    assert not did(b.jobs, lambda _: b.renew()).outcome().has_orphans


def test_a_session_leaves_its_team_and_its_jobs_with_one_commit(a: TeamTable, b: TeamTable) -> None:
    """If it left the team first, and then failed, its jobs would have a holder that no member finds dead."""
    accepted(a.jobs, "running", "t1")
    after_each: list[str | None] = []
    mute(a.jobs).held = lambda: after_each.append(record_of(b.jobs, "running").holder)
    a.close()
    assert after_each == [None]


def test_a_notice_reaches_the_session_that_works_the_task_and_only_that(a: TeamTable, b: TeamTable) -> None:
    accepted(b.jobs, "theirs", "t1")
    accepted(a.jobs, "ours", "t2")
    assert a.refresh(None) is not None
    assert b.refresh(None) is not None
    a.pass_on(["nobody's", "t1", "t2"])
    number = b.jobs.database.fileno()
    assert number is not None
    assert select.select([number], [], [], 10)[0]
    refreshed = b.refresh(None)
    assert refreshed is not None
    assert refreshed.notices == ("t1",)
    after = b.refresh(None)
    assert after is None or after.notices == ()
    a.pass_on([f"nobody's {number}" for number in range(MOST_PASSED_ON)])
    assert b.jobs.database.notifications() == frozenset()


def test_a_refresh_says_which_jobs_have_changed_since_the_one_before(a: TeamTable, b: TeamTable) -> None:
    b.jobs.database.notifications()
    did(a.jobs, lambda it: it.intend(intent("before")))
    first = b.refresh(None)
    assert first is not None
    assert first.changes == ()
    accepted(a.jobs, "cat", "t1")
    second = b.refresh(first.seen)
    assert second is not None
    assert JobChange("cat", JournalState.ACCEPTED, "t1") in second.changes
    did(a.jobs, lambda it: it.intend(intent("after")))
    third = b.refresh(second.seen)
    assert third is not None
    assert "after" in {change.identity for change in third.changes}


def test_what_is_deleted_is_counted_for_those_who_follow_a_job(a: TeamTable, b: TeamTable) -> None:
    sent(a.jobs, "first")
    did(a.jobs, lambda it: it.refused("first", JobError(field="prompt", value="", rule="is bad")))
    refreshed = did(b.jobs, lambda _: b.refresh(0))
    assert refreshed is not None
    before = refreshed.status.gone
    did(a.jobs, lambda it: it.resolve("first", resubmit=False, task_id=None, forget=True))
    again = did(b.jobs, lambda _: b.refresh(refreshed.seen))
    assert again is not None
    assert again.status.gone > before
    step(a, buried=["nobody"])
    last = did(b.jobs, lambda _: b.refresh(again.seen))
    assert last is not None
    assert last.status.gone > again.status.gone


def test_a_team_whose_row_another_program_has_removed_is_said_to_be_gone(a: TeamTable) -> None:
    did(a.jobs, lambda it: it.database.execute("DELETE FROM team"))
    for ask in (a.reread, a.join, lambda: a.renew().outcome()):
        with a.jobs.transaction(), pytest.raises(JournalError, match="another program has emptied its table team: end"):
            ask()
