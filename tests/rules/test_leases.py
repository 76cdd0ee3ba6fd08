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


def test_after_a_journal_came_back_every_session_gets_its_lease() -> None:
    judgement = Judgement(LEASE_S)
    judgement.journal_came_back(100.0)
    assert [judgement.is_due(time) for time in (101.0, 129.0, 130.0)] == [False, False, True]
