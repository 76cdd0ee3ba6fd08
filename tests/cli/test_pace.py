"""How long a batch will still take is told from what its session has seen, and is right from a third of it on."""

from __future__ import annotations

import heapq
import itertools
from pathlib import Path
from random import Random
from typing import Any

import pytest

from hailuo_async._cli.batch.pace import Pace, TimeLeft
from hailuo_async.hooks import Accepted, Downloaded, Ended, Refused, Sent, SessionEvent
from hailuo_async.outcomes import Status


def facts(number: int, at: float) -> dict[str, Any]:
    return {"at": at, "number": number, "job": None, "key": None, "task_id": None, "waited_s": 0.0}


def sent(number: int, at: float) -> SessionEvent:
    return Sent(**facts(number, at), attempt=1, doubts=0)


def accepted(number: int, at: float, attempt: int = 1) -> SessionEvent:
    return Accepted(**facts(number, at), attempt=attempt, answered_s=None)


def ended(number: int, at: float) -> SessionEvent:
    nothing: dict[str, Any] = {"video": None, "error": None, "ran_s": None, "late_s": None}
    return Ended(**facts(number, at), status=Status.SUCCESS, **nothing)


@pytest.mark.parametrize(("jobs", "slots", "spread"), [(50, 3, 0.2), (120, 12, 0.5), (300, 30, 0.2), (20, 2, 0.0)])
def test_from_a_third_of_the_batch_on_it_is_within_a_quarter_of_the_truth(jobs: int, slots: int, spread: float) -> None:
    """Slots are found one after the other, as a session finds them."""
    dice, pace, told = Random(1), Pace(), []
    running: list[tuple[float, int]] = []
    queue, now, done, limit = iter(range(jobs)), 0.0, 0, 1
    waiting = jobs
    while done < jobs:
        for number in itertools.islice(queue, limit - len(running)):
            pace(sent(number, now))
            pace(accepted(number, now + 0.2))
            heapq.heappush(running, (now + 0.2 + dice.uniform(1 - spread, 1 + spread) * 40, number))
            waiting -= 1
        now, number = heapq.heappop(running)
        pace(ended(number, now))
        done, limit = done + 1, min(limit + 1, slots)
        if done >= jobs / 3 and (left := pace.left(now, waiting)) is not None and waiting:
            told.append((now, left))
    for at, left in told:
        assert left.low_s * 0.75 <= now - at <= left.high_s * 1.25
    assert len(told) > jobs / 4


def test_while_nothing_has_ended_it_is_what_is_usual_and_while_little_has_a_range() -> None:
    pace = Pace()
    assert pace.left(0.0, 5) is None
    for number in range(2):
        pace(sent(number, 0.0))
    assert (pace.left(0.0, 4), pace.a_minute) == (TimeLeft(90.0, 360.0), None)
    pace(accepted(0, 0.0))
    pace(ended(0, 10.0))
    little = pace.left(10.0, 0)
    assert little is not None
    assert little.low_s < little.high_s


def test_a_doubt_and_a_refusal_are_no_speed_nor_is_a_task_of_an_earlier_run() -> None:
    pace = Pace()
    refused = Refused(**facts(0, 1.0), attempt=1, reason="", message="", answered_s=0.0)
    for event in (sent(0, 0.0), refused, sent(1, 0.0), ended(1, 0.1), accepted(2, 0.0, attempt=0), ended(2, 0.1)):
        pace(event)
    pace(sent(3, 0.0))
    assert pace.a_minute is None


def test_where_saving_takes_longer_than_making_it_is_saving_that_is_counted() -> None:
    pace = Pace()
    for number in range(20):
        pace(sent(number, 0.0))
        pace(accepted(number, 0.0))
        pace(ended(number, 10.0))
        pace(Downloaded(at=20.0, task_id="t", key=None, path=Path("a.mp4"), bytes=1, took_s=8.0))
    assert pace.left(20.0, 0, saving=6) == TimeLeft(12.0, 12.0)  # four at once
    pace(sent(20, 20.0))
    pace(accepted(20, 20.0))
    assert pace.left(20.0, 0, saving=99) == TimeLeft(200.0, 200.0)
    assert pace.left(20.0, 0, saving=0) == TimeLeft(18.0, 18.0)  # ten seconds of work, and its own save
