"""The yardsticks of the benchmarks, and one scenario of the simulation, small enough for every run of the tests."""

from __future__ import annotations

from benchmarks.scheduling import fixed_interval_queries, ideal_seconds
from benchmarks.simulation import Scenario, simulate


def test_a_scheduler_that_knows_everything_starts_each_task_when_a_slot_is_free() -> None:
    assert ideal_seconds([4.0, 2.0, 3.0, 1.0], lambda now: 2, []) == 5.0


def test_fewer_slots_stop_no_task_and_start_none_until_enough_have_ended() -> None:
    # Two run to 10; one slot from 5 on, so the third starts at 10 alone, and the fourth after it.
    assert ideal_seconds([10.0, 10.0, 1.0, 1.0], lambda now: 2 if now < 5 else 1, [0.0, 5.0]) == 12.0


def test_slots_that_come_back_are_used_at_once() -> None:
    assert ideal_seconds([10.0, 10.0], lambda now: 1 if now < 3 else 2, [0.0, 3.0]) == 13.0


def test_no_tasks_take_no_time() -> None:
    assert ideal_seconds([], lambda now: 1, []) == 0.0


def test_a_fixed_interval_asks_until_the_first_question_after_the_end() -> None:
    assert fixed_interval_queries([10.0, 9.0, 0.5], mean_delay_s=1.0) == (5 + 5 + 1) / 3


def test_a_batch_fills_the_slots_that_nobody_told_it_of_and_stays_within_the_budget() -> None:
    result = simulate(Scenario(name="a small batch", jobs=60, slots=[(0.0, 3)]))
    assert result.efficiency >= 0.97
    assert result.refused_for_budget == 0
    assert result.share_of_fixed_interval <= 0.6


def test_a_limit_that_moves_is_followed_down_and_up() -> None:
    result = simulate(Scenario(name="others come and go", jobs=120, slots=[(0.0, 6), (400.0, 2), (900.0, 6)]))
    assert result.efficiency >= 0.95


def test_a_simulation_takes_the_same_course_each_time() -> None:
    scenario = Scenario(name="twelve", jobs=12, slots=[(0.0, 3)])
    once, again = simulate(scenario), simulate(scenario)
    assert (once.seconds, once.queries, once.lengths_s) == (again.seconds, again.queries, again.lengths_s)
