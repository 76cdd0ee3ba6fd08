"""How far a server's clock is ahead, from answers that took differently long."""

from __future__ import annotations

import time

import pytest

from hailuo_async._engine.clock import RemoteClock, suspended_s


def learned(*answers: tuple[float | None, float, float]) -> float:
    clock = RemoteClock()
    for at, began_at, now in answers:
        clock.learn(at, began_at, now)
    return clock.offset_s


def test_a_server_showed_its_time_in_the_middle_of_the_round_trip() -> None:
    assert learned((1_000_105.0, 100.0, 110.0)) == 1_000_000.0


def test_a_long_round_trip_does_not_replace_a_short_one() -> None:
    assert learned((1_000_100.5, 100.0, 101.0), (1_000_119.0, 110.0, 120.0)) == 1_000_000.0


def test_after_a_minute_a_clock_that_was_set_is_believed() -> None:
    assert learned((1_000_100.5, 100.0, 101.0), (2_000_175.0, 170.0, 180.0)) == 2_000_000.0


def test_an_answer_without_a_time_says_nothing() -> None:
    assert learned((None, 100.0, 101.0)) == 0.0


def test_a_servers_clock_that_was_set_is_believed_however_long_its_answer_took() -> None:
    clock = RemoteClock()
    clock.learn(1000.0, 0.0, 0.01)
    clock.learn(1002.4, 2.0, 3.0)  # as before, for all that so long a trip can tell
    assert clock.offset_s == 1000.0 - 0.005
    clock.learn(942.5, 2.0, 3.0)
    assert clock.offset_s == 940.0


def test_the_time_in_which_the_machine_was_suspended_is_what_its_clocks_differ_by(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    readings = iter([100.0, 160.0])  # also of a process that is stopped between the two
    monkeypatch.setattr(time, "monotonic", lambda: next(readings))
    monkeypatch.setattr(time, "clock_gettime", lambda clock: next(readings))
    assert suspended_s() == 60.0
