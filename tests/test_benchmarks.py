"""The yardsticks of the benchmarks, and of the simulation and the soak as much as every run of the tests can bear."""

from __future__ import annotations

from pathlib import Path

import attrs
import pytest

from benchmarks.__main__ import main
from benchmarks.children import VIDEO_BYTES, Size, Told
from benchmarks.scheduling import fixed_interval_queries, ideal_seconds
from benchmarks.simulation import Scenario, simulate
from benchmarks.soak import SLACK, Program, Round, is_delivered, judge


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


# --- The soak ---------------------------------------------------------------------------------------------------------

AT_REST = Size(memory_mb=50.0, tasks=5, files=12)
GOOD = Round(kills=5, cancels=1, paid=60, unknown=2, twice=[], lost=[], size=AT_REST)


def test_a_batch_that_is_killed_pays_once_and_loses_nothing(capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["soak", "--minutes", "0.5", "--kills", "2"]) == 0
    out, err = capfd.readouterr()
    first, verdict = out.splitlines()
    assert first.startswith("round 1: ")
    assert "0 paid twice, 0 lost" in verdict
    assert verdict.endswith("flat")
    assert err == ""


def test_a_job_that_was_paid_for_twice_is_named_and_the_soak_is_a_failure(capsys: pytest.CaptureFixture[str]) -> None:
    assert judge([GOOD, attrs.evolve(GOOD, twice=["job 7"])]) == 1
    assert capsys.readouterr().out.splitlines()[1:] == ["PAID TWICE: job 7"]


def test_a_job_that_was_lost_is_named_and_the_soak_is_a_failure(capsys: pytest.CaptureFixture[str]) -> None:
    assert judge([attrs.evolve(GOOD, lost=["job 7"])]) == 1
    assert capsys.readouterr().out.splitlines()[1:] == ["LOST: job 7"]


@pytest.mark.parametrize("figure", ["memory_mb", "tasks", "files"])
def test_a_session_that_grows_makes_the_soak_a_failure(figure: str, capsys: pytest.CaptureFixture[str]) -> None:
    most = getattr(AT_REST, figure) + getattr(SLACK, figure)
    as_large = attrs.evolve(GOOD, size=attrs.evolve(AT_REST, **{figure: most}))
    too_large = attrs.evolve(GOOD, size=attrs.evolve(AT_REST, **{figure: most + 1}))
    assert [judge([GOOD, GOOD, last]) for last in (as_large, too_large)] == [0, 1]
    assert "GROWING" in capsys.readouterr().out


def test_only_a_whole_video_of_a_task_that_was_paid_for_is_delivered(tmp_path: Path) -> None:
    whole, cut = tmp_path / "whole.mp4", tmp_path / "cut.mp4"
    whole.write_bytes(bytes(VIDEO_BYTES))
    cut.write_bytes(bytes(VIDEO_BYTES - 1))
    ends = {
        "good": Told("success", "task-1", str(whole)),
        "cut": Told("success", "task-1", str(cut)),
        "gone": Told("success", "task-1", str(tmp_path / "gone.mp4")),
        "of another": Told("success", "task-2", str(whole)),
        "failed": Told("failure", "task-1"),
    }
    paid = {prompt: ["task-1"] for prompt in [*ends, "silent"]}
    assert [prompt for prompt in paid if is_delivered(prompt, ends, paid)] == ["good"]


def test_a_program_that_breaks_down_is_not_waited_for(capfd: pytest.CaptureFixture[str]) -> None:
    with Program("batch", base_url="no url") as batch, pytest.raises(EOFError, match="'batch' ended"):
        batch.hear()
    assert "TypeError" in capfd.readouterr().err
