"""Who may say that another session is dead."""

from __future__ import annotations

import math

import pytest

from hailuo_async._rules.leases import Judgement

LEASE_S = 30.0


def renewed(*times: float) -> Judgement:
    judgement = Judgement(LEASE_S)
    for time in times:
        judgement.renewed(time)
    return judgement


def test_a_new_session_judges_at_once() -> None:
    judgement = Judgement(LEASE_S)
    judgement.journal_came_back(-math.inf)
    assert judgement.is_due(0.0)


def test_a_session_that_renews_in_time_judges() -> None:
    judgement = renewed(100.0, 110.0, 120.0)
    assert judgement.is_due(125.0)


def test_a_session_that_missed_its_own_renewal_does_not_judge_until_a_lease_after_the_next_one() -> None:
    judgement = renewed(100.0)
    assert [judgement.is_due(time) for time in (115.0, 116.0, 400.0)] == [True, False, False]
    for time in (400.0, 410.0, 420.0):
        judgement.renewed(time)
        assert not judgement.is_due(time)
    judgement.renewed(430.0)
    assert judgement.is_due(430.0)


@pytest.mark.parametrize("to", [50.0, 700.0])
def test_a_jump_of_the_clock_is_no_death(to: float) -> None:
    judgement = renewed(100.0, 110.0)
    assert not judgement.is_due(to)
    judgement.renewed(to)
    assert not judgement.is_due(to + LEASE_S - 1)


def test_a_lease_from_before_the_clock_was_set_back_is_over_once_the_living_have_renewed_theirs() -> None:
    judgement = renewed(1000.0, 1010.0)
    given = 1040.0
    assert not judgement.is_over(given, 400.0)
    for now, is_over in ((400.0, False), (410.0, False), (420.0, False), (430.0, True)):
        judgement.renewed(now)
        assert judgement.is_over(given, now) is is_over
    assert not judgement.is_over(430.0 + 2 * LEASE_S, 430.0)


def test_a_session_that_has_just_begun_takes_no_lease_for_one_from_before_the_clock_was_set_back() -> None:
    """It may be of a living session that has not renewed it since."""
    judgement = renewed(400.0, 410.0, 420.0)
    assert (judgement.is_over(1040.0, 420.0), judgement.is_over(419.0, 420.0)) == (False, True)
    judgement.renewed(430.0)
    assert judgement.is_over(1040.0, 430.0)


def test_after_a_journal_came_back_every_session_gets_its_lease() -> None:
    judgement = Judgement(LEASE_S)
    judgement.journal_came_back(100.0)
    assert [judgement.is_due(time) for time in (101.0, 129.0, 130.0)] == [False, False, True]
