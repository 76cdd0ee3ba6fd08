"""Whose turn it is, and how long a session waits for one that does not take it."""

from __future__ import annotations

import pytest

from hailuo_async._rules.line import Line, Moved, Standing, is_passed_over, whom_to_wake

NOW = 20.0


def line(first: float | None = None, ahead: int = 1) -> Line:
    """Another session, if any, is the first in it."""
    made = Line()
    made.update(None if first is None else Standing(first, "the first"), ahead)
    return made


@pytest.mark.parametrize(("first", "place"), [(None, 7.0), (8.0, 7.0), (7.0, 7.0), (5.0, None)])
def test_who_waits_for_nobody_takes_its_turn_when_there_is_room(first: float | None, place: float | None) -> None:
    assert line(first).opens_at(NOW, NOW, place) == NOW
    assert line(first).opens_at(NOW, NOW + 3.0, place) == NOW + 3.0


@pytest.mark.parametrize(("ahead", "patience_s"), [(0, 1.0), (1, 1.0), (2, 2.0), (4, 8.0), (10_000, 16.0)])
def test_the_next_is_the_first_to_pass_over_one_that_does_not_take_its_turn(ahead: int, patience_s: float) -> None:
    waiting = line(5.0, ahead)
    assert waiting.opens_at(NOW, NOW, 7.0) == NOW + patience_s
    assert waiting.pass_over() is None
    assert waiting.opens_at(NOW + patience_s, NOW, 7.0) == NOW + patience_s
    assert waiting.pass_over() == Standing(5.0, "the first")
    assert waiting.pass_over() is None


def test_one_that_was_passed_over_in_vain_is_waited_for_again() -> None:
    waiting = line(5.0)
    waiting.opens_at(NOW, NOW, 7.0)
    waiting.opens_at(NOW + 1, NOW, 7.0)
    assert waiting.pass_over() is not None
    assert waiting.opens_at(NOW + 1, NOW, 7.0) == NOW + 2


def test_patience_begins_anew_with_another_first_and_when_there_was_no_room() -> None:
    waiting = line(5.0)
    waiting.opens_at(NOW, NOW, 7.0)
    waiting.update(Standing(6.0, "another"), 1)
    assert waiting.opens_at(NOW + 0.5, NOW, 7.0) == NOW + 1.5
    waiting.opens_at(NOW + 1, NOW + 9, 7.0)
    assert waiting.opens_at(NOW + 9, NOW + 9, 7.0) == NOW + 10


@pytest.mark.parametrize(
    ("moved", "opens_in_s", "is_woken"),
    [
        ((None, None), 0.0, True),
        ((None, None), 0.1, False),
        ((4.0, 6.0), 10.0, True),
        ((4.0, None), 10.0, True),
        ((4.0, None), 10.1, False),
        ((4.0, 4.5), 1.0, False),
        ((6.0, 7.0), 1.0, False),
    ],
)
def test_the_first_is_woken_when_there_is_room_and_a_little_before_if_it_has_just_become_the_first(
    moved: Moved, opens_in_s: float, is_woken: bool
) -> None:
    assert whom_to_wake(Standing(5.0, "the first"), moved, opens_in_s) == frozenset(["the first"] if is_woken else [])
    assert whom_to_wake(None, moved, opens_in_s) == frozenset()


@pytest.mark.parametrize(("passed", "is_passed"), [(None, False), (5.0, True), (6.0, True), (4.0, False)])
def test_one_is_passed_over_only_where_it_stood_then(passed: float | None, is_passed: bool) -> None:
    for member in ("the first", "another"):
        named = None if passed is None else Standing(passed, member)
        assert is_passed_over(Standing(5.0, "the first"), named) is (is_passed and member == "the first")
