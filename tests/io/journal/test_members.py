"""The members of a team in a journal, in a file and in a database: their leases, their places, and those who die."""

from __future__ import annotations

from pathlib import Path

import pytest

from hailuo_async._io.journal import team_sql
from hailuo_async._io.journal.members import Members
from hailuo_async._io.journal.table import JobTable, open_table
from hailuo_async._rules.line import Standing
from hailuo_async.contract import DEFAULT_BASE_URL

from ...support.tables import LEASE_S, Clock, accepted, did, intent, record_of


@pytest.fixture
def a(ours: JobTable) -> Members:
    return joined(ours)


@pytest.fixture
def b(a: Members, theirs: JobTable) -> Members:
    return joined(theirs)


def joined(jobs: JobTable) -> Members:
    members = Members(jobs)
    did(jobs, lambda _: members.renew())
    return members


def places(members: Members) -> dict[str, float | None]:
    rows = did(members.jobs, lambda it: it.database.execute("SELECT holder, place FROM member").fetchall())
    return {row["holder"]: row["place"] for row in rows}


def test_a_member_lives_as_long_as_its_lease_is_renewed(a: Members, b: Members, clock: Clock) -> None:
    assert (a.others(), a.dead()) == (["theirs"], ())
    clock.time += LEASE_S + 1
    did(a.jobs, JobTable.renew)
    assert (a.others(), a.dead()) == ([], ("theirs",))
    did(b.jobs, lambda _: b.renew())
    assert (a.others(), a.dead()) == (["theirs"], ())


def test_a_member_that_others_took_for_dead_stands_where_it_stood_when_it_is_one_again(a: Members, b: Members) -> None:
    did(a.jobs, lambda _: a.stand(7.0))
    did(b.jobs, lambda _: b.remove("ours"))
    assert places(b) == {"theirs": None}
    did(a.jobs, lambda _: a.renew())
    assert places(b) == {"ours": 7.0, "theirs": None}


def test_a_member_that_others_took_for_dead_is_one_again_when_it_takes_a_place(a: Members, b: Members) -> None:
    """Its lease is renewed now and then only. Until then each of its steps would find that it has no place."""
    did(b.jobs, lambda _: b.remove("ours"))
    did(a.jobs, lambda _: a.stand(7.0))
    assert (places(b), b.others()) == ({"ours": 7.0, "theirs": None}, ["ours"])


@pytest.mark.parametrize(("moved_to", "then"), [(5.0, None), (7.0, None), (8.0, 8.0)])
def test_who_is_passed_over_loses_the_place_that_it_had_and_no_later_one(
    moved_to: float, then: float | None, a: Members, b: Members
) -> None:
    did(a.jobs, lambda _: a.stand(moved_to))
    did(b.jobs, lambda _: b.pass_over(Standing(7.0, "ours")))
    assert places(b)["ours"] == then


def test_tasks_whose_takeover_was_not_answered_are_taken_up_again(a: Members, b: Members, clock: Clock) -> None:
    accepted(a.jobs, "theirs", "t1")
    accepted(b.jobs, "own", "t2")
    clock.time += LEASE_S + 1
    did(b.jobs, JobTable.renew)
    for lost in (True, False):
        records, _ = did(b.jobs, lambda _: b.take_over())
        assert [record.identity for record in records] == (["theirs"] if lost else ["theirs", "own"])
        if lost:
            b.forget()
    assert did(b.jobs, lambda _: b.take_over())[0] == []


def test_a_dead_member_counts_until_the_leases_of_its_last_jobs_have_ended_too(
    a: Members, b: Members, clock: Clock
) -> None:
    clock.time += 8
    accepted(a.jobs, "late", "t1")
    assert did(a.jobs, lambda it: it.intend(intent("queued"))).ours
    clock.time += LEASE_S - 8 + 1
    renewed(b)
    assert did(b.jobs, lambda _: b.take_over()) == ([], ())
    clock.time += 8
    renewed(b)
    records, dead = did(b.jobs, lambda _: b.take_over())
    assert ([record.identity for record in records], dead) == (["late"], ("ours",))
    assert record_of(b.jobs, "queued").holder is None


def test_what_a_member_has_left_that_died_before_the_clock_was_set_back_is_taken_over_after_a_lease(
    a: Members, b: Members, clock: Clock
) -> None:
    """Its leases lie minutes ahead of the clock."""
    accepted(a.jobs, "running", "t1")
    assert did(a.jobs, lambda it: it.intend(intent("queued"))).ours
    clock.time -= 20 * LEASE_S
    for _ in range(3):
        renewed(b)
        assert did(b.jobs, lambda _: b.take_over()) == ([], ())
        clock.time += LEASE_S / 3
    renewed(b)
    assert [row["holder"] for row in did(b.jobs, lambda _: b.left()).fetchall()] == ["", ""]
    records, dead = did(b.jobs, lambda _: b.take_over())
    assert ([record.identity for record in records], dead) == (["running"], ("ours",))
    assert record_of(b.jobs, "queued").holder is None


def renewed(members: Members) -> None:
    """What a session does every third of a lease."""
    did(members.jobs, lambda _: members.renew())
    did(members.jobs, JobTable.renew)


def test_a_renewal_does_not_read_the_jobs_that_wait_unheld(tmp_path: Path) -> None:
    """Thousands of kept jobs may wait, and each session renews its leases all the time."""
    table = open_table(tmp_path / "batch.db", DEFAULT_BASE_URL, lambda: 0.0, "ours", LEASE_S, 1.0)
    given = {"us": "ours", "here": "%", "longest_s": 60.0}
    plan = table.database.execute(f"EXPLAIN QUERY PLAN {team_sql.LEFT}", given).fetchall()
    reads = [row["detail"] for row in plan if "job" in row["detail"]]
    assert [index in read for read, index in zip(reads, ("job_by_state", "job_by_holder"), strict=True)] == [True, True]
    table.close()
