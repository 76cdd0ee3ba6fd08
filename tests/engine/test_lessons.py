"""What a session learns from the others of its team."""

from __future__ import annotations

from random import Random

import pytest

from hailuo_async._engine.lessons import Lessons
from hailuo_async._rules.cadence import Cadence
from hailuo_async._rules.team import End, TeamState


class Deaf(Cadence):
    """Cannot make sense of one kind."""

    def ended_elsewhere(self, kind: object, young_s: float, at_s: float, took_s: float) -> None:
        if kind == ("odd",):
            raise ZeroDivisionError
        heard.append(took_s)


heard: list[float] = []


def test_a_lesson_that_makes_no_sense_is_logged_once_and_the_others_are_learned(
    caplog: pytest.LogCaptureFixture,
) -> None:
    heard.clear()
    rng = Random(0)
    lessons, view = Lessons(Deaf(0.5, 30.0, rng)), TeamState.new(rng)
    for number, (member, kind) in enumerate((("they", "odd"), ("they", "m"), ("we", "m"), ("they", "odd"))):
        view.teach(End(member, (kind,), 1.0, 2.0, float(number)))
    lessons.learn(view, "we")
    lessons.learn(view, "we")
    assert heard == [1.0]
    assert len(caplog.records) == 1
