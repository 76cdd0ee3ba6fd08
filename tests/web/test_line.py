"""A job's place in the line: the order in which jobs were queued, whatever becomes of those before it."""

from __future__ import annotations

from typing import Any

from hailuo_async.hooks import Ended, Queued, Refused, Sent
from hailuo_async.outcomes import Status
from hailuo_async.web.line import Line


def about(number: int) -> dict[str, Any]:
    return {"at": 0.0, "number": number, "job": None, "key": f"job {number}", "task_id": None, "waited_s": 0.0}


def places(line: Line) -> list[int | None]:
    return [line.place(f"job {number}") for number in range(4)]


def test_a_job_that_was_refused_is_where_it_was_and_one_that_has_gone_holds_no_place() -> None:
    line = Line()
    for number in range(4):
        line.hear(Queued(**about(number)))
    for number in range(2):
        line.hear(Sent(**about(number), attempt=1, doubts=0))
    assert places(line) == [None, None, 1, 2]
    line.hear(Refused(**about(0), attempt=1, reason="", message="", answered_s=0.0))
    assert places(line) == [1, None, 2, 3]
    nothing: dict[str, Any] = {"video": None, "error": None, "ran_s": None, "late_s": None}
    line.hear(Ended(**about(2), status=Status.ABANDONED, **nothing))
    assert places(line) == [1, None, None, 2]
    assert [line.knows(f"job {number}") for number in range(4)] == [True, False, False, True]
