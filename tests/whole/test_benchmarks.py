"""The benchmarks' yardsticks and tables; and what they run, as much of it as every run of the tests can bear."""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Sequence
from pathlib import Path

import anyio
import attrs
import pytest

from benchmarks import sockets
from benchmarks.__main__ import main
from benchmarks.children import VIDEO_BYTES, Size, Told
from benchmarks.figures import Figure
from benchmarks.growth import Load, growth_targets, loads, serving
from benchmarks.limits import LARGE, MOVING, SCENARIOS, SLOTS, limits_targets, make_values, night
from benchmarks.machine import Machine
from benchmarks.plots import PLOTS, draw
from benchmarks.report import Report
from benchmarks.scheduling import fixed_interval_efficiency, fixed_interval_queries, ideal_seconds
from benchmarks.schemes import SCHEMES, SIZES, measure_scheme, schemes_targets
from benchmarks.simulation import Scenario, simulate
from benchmarks.soak import SLACK, Program, Round, is_delivered, judge
from benchmarks.start import FIRST_POST, IMPORT, NEEDED, start_targets
from benchmarks.tables import WIDTH, Table
from benchmarks.targets import BURST, FLOOR, LIBRARY, SAFE_FLOOR, STREAM, Target, faults_targets, peers_targets, ratios

# --- Slots and requests -----------------------------------------------------------------------------------------------


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


def test_a_fixed_interval_notices_each_end_half_an_interval_late() -> None:
    # With requests to spare: 100 s of work, noticed after 5 s more.
    assert math.isclose(fixed_interval_efficiency([100.0], 10.0, 1, 1e9), 100 / 105)


def test_a_fixed_interval_is_bound_by_its_requests() -> None:
    # A submit and ten queries each: at 60 requests a minute a job takes 11 s, and four slots could do it in 25 s.
    assert math.isclose(fixed_interval_efficiency([100.0], 10.0, 4, 60), 1.0 / (105 / 4 / 25))
    assert math.isclose(fixed_interval_efficiency([100.0], 10.0, 20, 60), 100 / 20 / 11)


def test_a_batch_fills_the_slots_that_nobody_told_it_of_and_stays_within_the_request_rate() -> None:
    result = simulate(Scenario(name="a small batch", jobs=60, slots=[(0.0, 3)]))
    assert result.efficiency >= 0.97
    assert result.refused_for_budget == 0
    assert result.share_of_fixed_interval <= 0.6


@pytest.mark.slow
def test_a_limit_that_moves_is_followed_down_and_up() -> None:
    result = simulate(Scenario(name="others come and go", jobs=120, slots=[(0.0, 6), (400.0, 2), (900.0, 6)]))
    assert result.efficiency >= 0.95


def test_a_simulation_takes_the_same_course_each_time() -> None:
    scenario = Scenario(name="twelve", jobs=12, slots=[(0.0, 3)])
    once, again = simulate(scenario), simulate(scenario)
    assert (once.seconds, once.queries, once.lengths_s) == (again.seconds, again.queries, again.lengths_s)


@pytest.mark.slow
@pytest.mark.parametrize(
    "name", ["60 s, no headers", "sliding counter, Unix", "bucket of one, no headers", "6 s, Unix"]
)
def test_behind_any_gateway_the_slots_are_filled_and_no_model_starves(name: str) -> None:
    scheme = next(scheme for scheme in SCHEMES if scheme.name == name)
    values = measure_scheme(scheme, SIZES[:1], jobs_a_slot=30, seeds=1)
    assert values["efficiency_3"] >= scheme.efficiency
    assert values["refused_3"] <= 0.05
    assert values["second_delay_s"] <= 5.0


def test_each_scheme_has_targets_of_its_own() -> None:
    scheme = next(scheme for scheme in SCHEMES if scheme.name == "1 s, no headers")
    values = {"efficiency_3": 0.81, "refused_3": 0.04, "mean_delay_s": 9.0, "second_delay_s": 4.0}
    targets = list(schemes_targets([Figure(subject=LIBRARY, case=scheme.name, values=values)]))
    assert [(target.bound, target.holds) for target in targets] == [(0.8, True), (0.03, False), (5.0, True)]


# --- Targets ----------------------------------------------------------------------------------------------------------


def figure(subject: str, case: str, *notes: str, **values: float) -> Figure:
    return Figure(subject=subject, case=case, values=values, note="; ".join(notes))


def test_a_target_holds_at_its_bound_and_says_so() -> None:
    assert [Target("", value, 1.5).holds for value in (1.4, 1.5, 1.6)] == [True, True, False]
    assert [Target("", value, 1.5, is_least=True).holds for value in (1.4, 1.5, 1.6)] == [False, True, True]
    assert str(Target("a, over b", 1.234, 1.5)) == "holds      1.23, at most 1.5    a, over b"
    assert str(Target("a", 2, 3, is_least=True)) == "MISSED        2, at least 3      a"


def test_a_ratio_is_of_what_both_were_measured_by() -> None:
    figures = [figure("a", "x", wall_s=3.0, cpu_s=1.0), figure("b", "x", wall_s=2.0), figure("a", "y", wall_s=1.0)]
    bounds = {"wall_s": 1.25, "cpu_s": 1.5}
    assert list(ratios(figures, ("a", "x"), ("b", "x"), bounds)) == [Target("x: wall s over that of b", 1.5, 1.25)]
    assert list(ratios(figures, ("a", "x"), ("a", "y"), bounds)) == [Target("x: wall s over that of y", 3.0, 1.25)]
    assert list(ratios(figures, ("a", "x"), ("c", "x"), bounds)) == []


def test_peers_that_were_there_and_did_their_work_must_be_slower() -> None:
    figures = [
        figure(LIBRARY, BURST, wall_s=1.0, cpu_s=0.3, stall_ms=20.0),
        figure(STREAM, BURST, wall_s=1.2, cpu_s=0.2, stall_ms=21.0),
        figure(FLOOR, BURST, wall_s=1.0, cpu_s=0.1, stall_ms=20.0),
        figure(SAFE_FLOOR, BURST, wall_s=1.0, cpu_s=0.16, stall_ms=20.0),
        figure("slow 1.0", BURST, wall_s=2.0, cpu_s=0.2),
        figure("absent 1.0", BURST, "absent: it is not installed"),
        figure("broken 1.0", BURST, "failed: of 300 jobs 300 OSError", wall_s=0.1, cpu_s=0.1),
        figure("slow 1.0", "300 jobs with a 1 MiB image", wall_s=0.1, cpu_s=0.1),
    ]
    found = {target.about.removeprefix(f"{BURST}: "): target.holds for target in peers_targets(figures)}
    assert found == {
        f"wall s over that of {FLOOR}": True,
        f"CPU s over that of {FLOOR}": False,
        f"CPU s over that of {SAFE_FLOOR}": False,
        f"wall s of {STREAM} over that of {FLOOR}": False,
        f"CPU s of {STREAM} over that of {FLOOR}": True,
        f"CPU s of {STREAM} over that of {SAFE_FLOOR}": True,
        f"longest stall ms of {LIBRARY}": True,
        f"longest stall ms of {STREAM}": False,
        "wall s over that of slow 1.0": True,
        "CPU s over that of slow 1.0": False,
    }


def test_whatever_goes_wrong_the_library_sends_once_and_loses_nothing() -> None:
    good = {"posts_per_job": 1.0, "jobs_lost": 0.0, "jobs_paid_twice": 0.0, "tasks_leaked": 0.0}
    figures = [
        figure(LIBRARY, "a cut", **good),
        figure(LIBRARY, "a 500", **good | {"posts_per_job": 2.0, "tasks_leaked": 1.0}),
        figure("other 1.0", "a cut", **good | {"jobs_lost": 3.0}),
    ]
    assert [target.holds for target in faults_targets(figures)] == [True, True, False, False]


def test_what_was_not_measured_has_no_target() -> None:
    scenario = figure(LIBRARY, MOVING.name, efficiency=0.9, over_budget=0.0)
    assert list(limits_targets([scenario])) == [Target(f"{MOVING.name}: efficiency", 0.9, 0.95, True)]
    large = figure(LIBRARY, LARGE.name, grown_mb=9.0)
    assert list(limits_targets([large])) == [Target(f"{LARGE.name}: grew by MB", 9.0, 8.0)]
    few, many = (figure(LIBRARY, Load("stream", jobs).name, cpu_ms_per_job=1.0) for jobs in (300, 10_000))
    assert [target.value for target in growth_targets([few, many])] == [1.0]
    assert list(growth_targets([few])) == []
    assert list(start_targets([figure(LIBRARY, IMPORT, took_ms=200.0)])) == []


# --- The table and the report -----------------------------------------------------------------------------------------

TOLD = [
    figure("ours", "a case", "as it is", wall_s=0.5, efficiency=0.987),
    figure("theirs", "a case", "absent"),
    figure("ours", "another", "as it is", wall_s=12.0, slots=3.0, mana=0.12345),
]


def test_a_table_stands_in_groups_with_its_notes_below() -> None:
    assert list(Table.of(TOLD).text()) == [
        "            wall s  efficiency   mana",
        "a case:",
        "ours [1]      0.50       0.987      –",
        "theirs [2]       –           –      –",
        "another:",
        "ours [1]     12.00           –  0.123",
        "[1] as it is",
        "[2] absent",
    ]


def test_a_table_of_one_subject_has_a_line_for_each_case() -> None:
    lines = list(Table.of([figure("ours", "few", took_ms=1.0), figure("ours", "many", took_ms=100.0)]).text())
    assert lines == ["       ms", "few     1", "many  100"]


def test_a_table_in_markdown_has_a_row_a_subject_and_its_notes_below() -> None:
    assert list(Table.of(TOLD).markdown()) == [
        "|  | wall s | efficiency | mana |",
        "| --- | ---: | ---: | ---: |",
        "| **a case** |  |  |  |",
        "| ours [1] | 0.50 | 0.987 | – |",
        "| theirs [2] | – | – | – |",
        "| **another** |  |  |  |",
        "| ours [1] | 12.00 | – | 0.123 |",
        "",
        "[1] as it is; [2] absent",
    ]


def test_a_report_is_read_as_it_was_written_and_fits_a_terminal(tmp_path: Path) -> None:
    figures = {"start": (figure(LIBRARY, IMPORT, took_ms=200.0), figure(NEEDED, IMPORT, "why " * 60, took_ms=100.0))}
    report = Report(machine=Machine.here(), load_after=1.5, is_quick=True, figures=figures)
    report.write(tmp_path / "report.json")
    assert Report.read(tmp_path / "report.json") == report
    written = json.loads((tmp_path / "report.json").read_text("utf-8"))
    assert [(target["value"], target["holds"]) for target in written["targets"]] == [(2.0, False)]
    assert max(map(len, report.text())) <= WIDTH


def test_the_widest_table_fits_a_terminal() -> None:
    values = make_values(simulate(Scenario(name="", jobs=1, slots=[(0.0, 1)])), efficiency_best_interval=0.5)
    values |= {"efficiency_every_5_s": 0.5, "over_budget": 100.0}
    assert max(map(len, Table.of([figure(LIBRARY, each.name, **values) for each in SCENARIOS]).text())) <= WIDTH


def test_a_file_that_holds_no_report_is_named(tmp_path: Path) -> None:
    (tmp_path / "other.json").write_text('{"machine": {}}')
    with pytest.raises(ValueError, match=r"other.json holds no report: required field missing"):
        Report.read(tmp_path / "other.json")


@pytest.mark.slow
def test_a_batch_behind_a_gateway_is_judged_on_a_socket_too() -> None:
    [scheme] = [scheme for scheme in sockets.chosen() if scheme.name == "sliding log, Unix"]
    result = anyio.run(sockets.on_a_socket, scheme, 1, 0.2)
    assert (result.posts - result.refused_for_room, result.refused_for_budget) == (12, 0)
    targets = list(sockets.sockets_targets([sockets.make_figure(scheme, result)]))
    assert [target.holds for target in targets[1:]] == [True]
    assert len(targets) == 2


# --- The command ------------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_part_is_measured_judged_kept_and_written_out_again(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code = main(["start", "--quick", "--results", str(tmp_path)])
    told = capsys.readouterr().out
    assert FIRST_POST in told
    assert f"written: {tmp_path}" in told
    (path,) = tmp_path.glob("*.json")
    (target,) = Report.read(path).targets()
    assert code == (0 if target.holds else 1)
    assert main(["--markdown", str(path)]) == 0
    assert "### Start" in capsys.readouterr().out


def test_a_part_that_is_none_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as error:
        main(["speed"])
    assert error.value.code == 2
    assert (
        "'speed' is none of peers, growth, limits, schemes, sockets, faults, fleet, shares, following, arrivals,"
        " hosts, start, slow-peers, soak" in capsys.readouterr().err
    )


@pytest.mark.slow
def test_a_session_is_weighed_in_a_process_of_its_own() -> None:
    with serving() as base_url:
        stream, journal, million = (
            load.run(base_url)
            for load in (Load("stream", 20), Load("callers", 20, has_journal=True), Load("million", 150))
        )
    assert list(stream) == list(journal) == ["cpu_ms_per_job", "wall_s", "first_outcome_s", "peak_rss_mb"]
    assert 0.5 <= stream["first_outcome_s"] <= stream["wall_s"]
    assert [target.holds for target in growth_targets([figure(LIBRARY, "a million", **million)])] == [True, True]


# --- Plots ------------------------------------------------------------------------------------------------------------


def measured(part: str) -> Sequence[Figure]:
    """Made up, for a plot of every part."""
    names = (
        "efficiency",
        "efficiency_best_interval",
        "efficiency_every_5_s",
        "mean_delay_s",
        "share_of_fixed_interval",
    )
    counts = ("requests_per_job", "queries_per_job", "cpu_ms_per_job", "peak_rss_mb", "wall_s", "cpu_s", "stall_ms")
    values = dict.fromkeys(names, 0.5) | dict.fromkeys(counts, 2.0)
    if part == "peers":
        return [*(figure(name, BURST, **values) for name in (LIBRARY, FLOOR, "other 1.0")), figure("absent", BURST)]
    cases = [night(slots).name for slots in SLOTS] if part == "limits" else [load.name for load in loads(is_quick=True)]
    return [figure(LIBRARY, case, **values) for case in cases]


@pytest.mark.slow
@pytest.mark.parametrize("part", PLOTS)
def test_a_plot_is_the_same_byte_for_byte_when_it_is_drawn_again(part: str, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    for name in ("once", "again"):
        draw(part, measured(part), tmp_path / f"{name}.svg")
    once = (tmp_path / "once.svg").read_bytes()
    assert once == (tmp_path / "again.svg").read_bytes()
    assert b"<dc:date>" not in once
    assert b"fill: #ffffff" in once  # behind it all, so that it can be read on a dark page


def test_nothing_is_drawn_without_matplotlib(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(ImportError):
        draw("peers", measured("peers"), tmp_path / "peers.svg")


# --- The soak ---------------------------------------------------------------------------------------------------------

AT_REST = Size(memory_mb=50.0, tasks=5, files=12)
GOOD = Round(kills=5, cancels=1, paid=60, unknown=2, twice=[], lost=[], size=AT_REST)


@pytest.mark.slow
def test_a_batch_that_is_killed_pays_once_and_loses_nothing(capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["soak", "--minutes", "5", "--kills", "2"]) == 0
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
