"""The tasks that are due: in which order they come out, and how little is looked at for that."""

from __future__ import annotations

import math
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hailuo_async._engine.due_tasks import DueTasks
from hailuo_async._engine.tracked_job import TrackedJob, WatchedTask


def make_task(number: int) -> WatchedTask:
    """The task of this number, which runs."""
    return WatchedTask(f"t{number}", "kind", 0.0, job=TrackedJob(number))


def test_while_requests_are_plenty_tasks_leave_as_they_fall_due() -> None:
    due = DueTasks()
    assert due.first_at == math.inf
    first, second = make_task(1), make_task(2)
    assert due.push(second, 2.0)
    assert due.push(first, 1.0)
    assert not due.push(make_task(3), 3.0)
    assert due.first_at == 1.0
    assert [due.pop_earliest(), due.pop_earliest()] == [first, second]


def test_while_they_are_scarce_the_worthiest_of_those_that_are_due_leaves_and_the_others_stay_due() -> None:
    due, tasks = DueTasks(), [make_task(number) for number in range(4)]
    worth = {"t0": 1.0, "t1": 5.0, "t2": 3.0, "t3": 99.0}
    for number, task in enumerate(tasks):
        due.push(task, 50.0 if number == 3 else float(number))
    assert due.pop_worthiest(10.0, lambda task: worth[task.task_id]) is tasks[1]
    assert due.first_at == -math.inf
    assert due.pop_earliest() is tasks[2]
    assert due.pop_worthiest(10.0, lambda task: worth[task.task_id]) is tasks[0]
    assert due.pop_worthiest(10.0, lambda task: worth[task.task_id]) is None
    assert due.first_at == 50.0


def test_what_has_ended_meanwhile_is_passed_over() -> None:
    due, task = DueTasks(), make_task(1)
    due.push(task, 1.0)
    task.is_watched = False
    assert due.pop_worthiest(2.0, lambda task: 1.0) is None
    due.push(task, 1.0)
    assert due.pop_earliest() is None


@given(
    st.lists(st.tuples(st.floats(0, 100), st.floats(0.1, 1)), min_size=1, max_size=40),
    st.lists(st.floats(0.1, 20), min_size=1, max_size=10),
)
def test_the_worthiest_leaves_though_worth_grows_at_different_paces(
    ends: list[tuple[float, float]], waits: list[float]
) -> None:
    """Worth grows by at most a second in a second. With few tasks the answer is exact."""
    due, now = DueTasks(), 100.0
    tasks = {f"t{number}": make_task(number) for number in range(len(ends))}

    def worth(task: WatchedTask) -> float:
        ended_at, pace = ends[task.job.number]
        return (now - ended_at) * pace

    for task in tasks.values():
        due.push(task, 100.0)
    for wait in waits[: len(ends)]:
        now += wait
        best = due.pop_worthiest(now, worth)
        assert best is not None
        left = [worth(task) for task in tasks.values()]
        assert len(ends) > 16 or worth(best) == pytest.approx(max(left))
        del tasks[best.task_id]


def test_to_take_one_of_five_thousand_few_are_looked_at() -> None:
    due, looks = DueTasks(), Counter[str]()
    for number in range(5000):
        due.push(make_task(number), number / 1000)

    def worth(task: WatchedTask) -> float:
        looks["all"] += 1
        return task.job.number / 5000

    due.pop_worthiest(10.0, worth)
    looks.clear()
    for second in range(100):
        due.pop_worthiest(11.0 + second, worth)
    assert looks["all"] <= 16 * 100
