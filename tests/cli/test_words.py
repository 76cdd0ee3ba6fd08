"""What the commands say of a batch: where it stands, what became of each job, and what to do about it."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from decimal import Decimal
from pathlib import Path
from typing import Any

import attrs
import click
import pytest

from hailuo_async import JournalState, Record
from hailuo_async._cli import targets
from hailuo_async._cli.batch.bar import bar, open_live
from hailuo_async._cli.batch.bill import Bill, read_records
from hailuo_async._cli.batch.pace import TimeLeft
from hailuo_async._cli.batch.progress import Lines
from hailuo_async._cli.batch.results import JobResult, ResultLine, exit_code, failed, reason, saved
from hailuo_async._cli.batch.run import _left, _now
from hailuo_async._cli.batch.summary import Summary
from hailuo_async._cli.batch.tally import Tally, span
from hailuo_async._cli.jobfile.joblist import Entry
from hailuo_async._cli.output import fitted
from hailuo_async._cli.targets import TargetFiles, make_folder
from hailuo_async.errors import (
    AuthenticationError,
    DownloadError,
    HailuoError,
    JobError,
    RequestRejectedError,
    ServiceUnavailableError,
    SpendingLimitError,
    SubmissionUnknownError,
    TaskFailedError,
    WaitTimeoutError,
)
from hailuo_async.jobs import ImageToVideo
from hailuo_async.outcomes import Stats, Video

from ..support.tables import record_in

DOUBT = SubmissionUnknownError(reason="the answer was cut", key="dog")
GIVEN_UP = TaskFailedError(reason="too dark", task_id="t1")

# --- Where it stands ---

TALLY = Tally(waiting=3, running=2, saving=1, saved=8, there=2, failed=1, unknown=1, limit=4, elapsed_s=120.0)
TALLY = attrs.evolve(TALLY, a_minute=4.0, left_s=TimeLeft(90.0, 90.0))


def stats(**given: int) -> Stats:
    names = ("queued", "running", "limit", "succeeded", "failed", "refused", "unknown", "abandoned", "refusals")
    counts: dict[str, Any] = {**dict.fromkeys(names, 0), **given}
    return Stats(**counts, requests_left=None)


def test_a_tally_counts_every_job_once_and_leaves_out_what_there_is_none_of() -> None:
    results = {JobResult.SAVED: 1, JobResult.THERE: 1, JobResult.NOT_SAVED: 1}
    here = stats(queued=2, running=3, limit=4, succeeded=3)
    tally = Tally.of(here, results, total=10, fetched=2, elapsed_s=0.0)
    assert tally.message == "3 waiting, 3 running (limit 4), 1 saving, 2 saved (1 by an earlier run), 1 failed"
    assert (tally.total, tally.done, tally.left) == (10, 3, 7)


def test_what_an_earlier_run_brought_and_what_others_run_does_not_count_twice() -> None:
    few = Tally.of(stats(running=3, limit=4), {JobResult.SAVED: 1}, total=3, fetched=1, elapsed_s=0.0)
    assert (few.waiting, few.running, few.saving) == (0, 2, 0)


def test_it_tells_how_fast_it_goes_and_what_is_left() -> None:
    assert TALLY.message == (
        "3 waiting, 2 running (limit 4), 1 saving, 8 saved (2 by an earlier run), 1 failed, 1 unknown, "
        "4.0 a minute, 90 s left"
    )
    little = attrs.evolve(TALLY, a_minute=None, left_s=TimeLeft(60.0, 200.0))
    assert little.message.endswith(", 1 unknown, 60 s to 3 min left")
    at_the_end = attrs.evolve(TALLY, waiting=0, running=0, saving=0)
    assert at_the_end.message.endswith("1 unknown")


def test_a_time_is_told_as_people_tell_it() -> None:
    assert [span(seconds) for seconds in (0.2, 99, 150, 5999, 9000)] == ["0 s", "99 s", "2 min", "100 min", "2.5 h"]


def test_plain_lines_come_when_there_is_news_and_the_longer_it_takes_the_more_seldom(
    capsys: pytest.CaptureFixture[str],
) -> None:
    lines = Lines()
    told = []
    for second in range(7200):
        lines.show(attrs.evolve(TALLY, waiting=7200 - second, elapsed_s=float(second)))
        told += [second for _ in capsys.readouterr().err.splitlines()]
    assert told[:14] == [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 13, 15]
    assert (told[-1] - told[-2], len(told)) == (300, 80)
    lines.show(attrs.evolve(TALLY, waiting=1, elapsed_s=7200.0))
    lines.show(attrs.evolve(TALLY, waiting=0, running=0, saving=0, elapsed_s=7200.0))
    assert capsys.readouterr().err.startswith("7200.0 s  0 waiting, 0 running")


def test_nothing_new_is_no_line(capsys: pytest.CaptureFixture[str]) -> None:
    lines = Lines()
    for second in (0.0, 100.0):
        lines.show(attrs.evolve(TALLY, elapsed_s=second))
    assert len(capsys.readouterr().err.splitlines()) == 1


def test_the_bar_shows_what_is_done_the_time_and_the_counts(capsys: pytest.CaptureFixture[str]) -> None:
    with open_live() as draw:
        draw(bar(TALLY))
    shown = capsys.readouterr().err
    assert "10/16 0:02:00" in shown
    assert "3 waiting, 2 running (limit 4), 1 saving" in shown


# --- What became of a job ---


def summed(
    lines: Iterable[ResultLine],
    stopped_by: HailuoError | None = None,
    *,
    elapsed_s: float = 3.0,
    spent: Decimal | None = None,
    journal: Path | None = Path("j.db"),
) -> list[str]:
    """The summary of ``lines``."""
    summary = Summary(journal)
    for line in lines:
        summary.add(line)
    return list(summary.messages(elapsed_s, stopped_by, spent))


def test_a_line_has_its_columns_one_under_the_other() -> None:
    path = Path("videos/cat.mp4")
    lines = [
        ResultLine(result=JobResult.SAVED, path=path, seconds_taken=4.25, size=1_230_000, task_id="t1"),
        ResultLine(result=JobResult.SAVED, path=path, seconds_taken=61.0, size=4096, task_id="t1"),
        ResultLine(result=JobResult.UNFINISHED, task_id="t1"),
        ResultLine(result=JobResult.NOT_SENT),
        failed("", DOUBT),
        failed("", GIVEN_UP),
    ]
    assert [line.message for line in lines] == [
        "saved       4.2 s  videos/cat.mp4  1.2 MB",
        "saved      61.0 s  videos/cat.mp4  4.1 kB",
        "unfinished          task t1",
        "not sent",
        "unknown            the answer was cut",
        "failed             the service gave the task up: too dark (task t1)",
    ]


def test_an_error_decides_what_became_of_its_job_and_jobs_with_the_same_trouble_have_one_reason() -> None:
    errors: dict[HailuoError, tuple[JobResult, str]] = {
        DOUBT: (JobResult.UNKNOWN, "the answer was cut"),
        GIVEN_UP: (JobResult.FAILED, "the service gave the task up: too dark"),
        DownloadError(reason="cut", path="a.mp4", task_id="t2"): (JobResult.NOT_SAVED, "cut"),
        DownloadError(reason="is there already", path="a.mp4"): (JobResult.FAILED, "is there already"),
        JobError(field="prompt", value="x", rule="is short"): (JobResult.FAILED, "prompt: is short"),
        WaitTimeoutError(timeout_s=3, task_id="t3"): (JobResult.UNFINISHED, "no video within 3 s"),
        WaitTimeoutError(timeout_s=3): (JobResult.NOT_SENT, "no video within 3 s"),
    }
    assert {error: (failed("a", error).result, reason(error)) for error in errors} == errors


def test_a_video_that_was_moved_as_soon_as_it_was_saved_does_not_end_the_batch(tmp_path: Path) -> None:
    line = saved("a", Video(task_id="t1", model=None, resources=()), tmp_path / "a.mp4")
    assert (line.result, line.detail) == (JobResult.SAVED, f"{tmp_path}/a.mp4")


def test_the_exit_code_is_that_of_the_worst() -> None:
    results = [
        [],
        [JobResult.SAVED, JobResult.THERE],
        [JobResult.SAVED, JobResult.NOT_SENT],
        [JobResult.FAILED, JobResult.UNKNOWN, JobResult.SAVED],
    ]
    assert [exit_code(each) for each in results] == [0, 0, 1, 3]


def test_a_message_is_broken_between_words_and_a_long_word_stays_whole() -> None:
    message = "  one two three four-five /a/path/that/is/longer/than/the/screen six"
    assert fitted(message, 24).splitlines() == [
        "  one two three",
        "    four-five",
        "    /a/path/that/is/longer/than/the/screen",
        "    six",
    ]
    assert (fitted(message, None), fitted(message, 200)) == (message, message)


# --- At the end ---


def test_the_summary_names_the_jobs_of_each_reason_and_what_can_be_done() -> None:
    lines = [
        ResultLine(key="cat", result=JobResult.SAVED),
        ResultLine(key="sea", result=JobResult.THERE),
        *(failed(f"night-{number}", GIVEN_UP) for number in range(10)),
        failed("dog", DOUBT),
        ResultLine(key="sun", result=JobResult.NOT_SENT),
    ]
    key = AuthenticationError(message="Authentication failed", status=401)
    assert summed(lines, key, elapsed_s=200.0, journal=Path("my videos/batch.db")) == [
        "2 of 14 saved in 3 min, 1 of them by an earlier run",
        "stopped: 401 Authentication failed; every other job would meet the same",
        "10 failed",
        "  the service gave the task up: too dark: "
        "night-0, night-1, night-2, night-3, night-4, night-5, night-6, night-7 and 2 more",
        "1 unknown: perhaps accepted and paid for",
        "  the answer was cut: dog",
        "1 not sent",
        "Look for an unknown job on the dashboard, and then: "
        "hailuo-async resolve 'my videos/batch.db' KEY --task-id ID | --resubmit | --forget",
        "To make again what the service gave up, and pay for it again: the same command with --retry-failed",
        "Run the same command again to go on: nothing is paid for twice",
    ]


def test_a_job_without_a_key_is_named_by_its_picture_but_one_to_be_decided_on_by_what_resolve_takes() -> None:
    lines = [
        attrs.evolve(failed("cat-91c36e2f4a", GIVEN_UP), label="cat #1"),
        attrs.evolve(failed("dog-0c36e2f4a9", DOUBT), label="dog #2"),
    ]
    assert [line for line in summed(lines) if line.startswith("  ")] == [
        "  the service gave the task up: too dark: cat #1",
        "  the answer was cut: dog-0c36e2f4a9",
    ]


@pytest.mark.parametrize(
    ("limit", "words"),
    [
        (SpendingLimitError(max_jobs=2), "as many are sent as --max-jobs 2 allows"),
        (
            SpendingLimitError(max_cost=Decimal(2), spent=Decimal("1.5"), committed=Decimal(), cost=Decimal("0.72")),
            "$1.50 of --max-cost $2.00 are spent; a job of up to $0.72 would pass it",
        ),
        (
            SpendingLimitError(max_cost=Decimal(1), spent=Decimal(), committed=Decimal("0.72"), cost=Decimal("0.72")),
            "$0.00 of --max-cost $1.00 are spent, and jobs before it could cost up to $0.72 more;"
            " a job of up to $0.72 would pass it",
        ),
        (
            SpendingLimitError(max_cost=Decimal(2), spent=Decimal(), committed=Decimal()),
            "there is a job of which no price is known: give --max-jobs beside --max-cost",
        ),
    ],
)
def test_what_stopped_the_spending_is_told_in_the_options_of_the_command(limit: SpendingLimitError, words: str) -> None:
    rest = ResultLine(key="a", result=JobResult.NOT_SENT)
    told = summed([rest], limit)
    assert told[1] == f"stopped: {words}"
    assert ("with a higher --max-cost" in told[-1]) is ("would pass it" in words)  # run again as it is, it stops again


def test_what_would_go_the_same_way_again_is_not_to_be_run_again() -> None:
    refused = RequestRejectedError(message="too dark", status=422)
    taken = JobError(field="key", value="sea", rule="names another job in this journal")
    assert summed([failed("cat", refused), failed("sea", taken)])[1:] == [
        "2 failed",
        "  422 too dark: cat",
        "  key: names another job in this journal: sea",
        "To have it take the place of the job that has its key: the same command with --redo KEY",
    ]
    lost = failed("dog", ServiceUnavailableError(message="cannot connect"))
    *_, last = summed([lost, failed("cat", refused)])
    assert last == "Run the same command again to go on: nothing is paid for twice"


def test_where_nothing_is_remembered_or_all_is_well_there_is_no_advice() -> None:
    saved = ResultLine(key="cat", result=JobResult.SAVED)
    assert summed([saved]) == ["1 of 1 saved in 3 s"]
    (told,) = summed([saved], spent=Decimal("0.324"))
    assert told == "1 of 1 saved in 3 s; $0.32 spent in all"
    assert summed([saved], spent=Decimal("0.324"), journal=None) == ["1 of 1 saved in 3 s"]
    assert summed([ResultLine(key="cat", result=JobResult.UNFINISHED)], journal=None) == [
        "0 of 1 saved in 3 s",
        "1 unfinished: they go on at the service",
    ]


# --- Before anything is sent ---


def record(state: JournalState, saved_to: Path | None = None) -> Record:
    return record_in(
        state,
        saved_to=None if saved_to is None else str(saved_to),
        saved_bytes=0,
        saved_sha256=hashlib.sha256().hexdigest(),
    )


def test_the_bill_has_only_what_is_not_there_and_was_not_sent(tmp_path: Path) -> None:
    jobs = {key: ImageToVideo("https://x.y/z.jpg", key=key, duration=10) for key in "abcdefg"}
    files = {key: tmp_path / f"{key}.mp4" for key in jobs}
    for path in (files["a"], files["b"], files["c"]):
        path.touch()
    records = {
        "b": record(JournalState.SUCCESS, files["b"]),
        "c": record(JournalState.REFUSED),
        "d": record(JournalState.SUCCESS, tmp_path / "gone.mp4"),
        "e": record(JournalState.UNKNOWN),
        "f": attrs.evolve(record(JournalState.INTENDED), cost_before=Decimal("3.2")),
    }
    spent = Decimal("3.2")
    first = Bill(files.__getitem__, records, spent=spent)
    again = Bill(files.__getitem__, records, {"f"}, 1, Decimal(20), spent)
    assert [key for key, job in jobs.items() if first.add(Entry(key, lambda _, job=job: job))] == ["f", "g"]  # type: ignore[misc]
    assert (first.there, first.left_alone) == ({key: files[key] for key in "abc"}, {"a", "c"})
    price = "$1.08 to $2.40 by the prices of 2026-08-10"
    assert (
        first.message
        == f"Jobs: 3 there already, 2 sent before, 2 to pay for: 20 s of video, {price}; $3.20 spent before."
    )
    for key, job in jobs.items():
        again.add(Entry(key, lambda _, job=job: job))  # type: ignore[misc]
    assert again.message == (
        "Jobs: 3 there already, 2 sent before, 2 to pay for, 1 of them once more, 1 of them now: 10 s of video, "
        "$0.54 to $1.20 by the prices of 2026-08-10; at most $20.00 in all, $3.20 spent before."
    )


def test_another_file_in_the_place_of_a_saved_video_is_not_counted_as_there(tmp_path: Path) -> None:
    job = ImageToVideo("https://x.y/z.jpg", key="a")
    (tmp_path / "a.mp4").write_bytes(b"another program's file")
    bill = Bill({"a": tmp_path / "a.mp4"}.__getitem__, {"a": record(JournalState.SUCCESS, tmp_path / "a.mp4")})
    assert not bill.add(Entry("a", lambda _: job))
    assert (bill.there, bill.message) == ({}, "Jobs: 1 sent before, none to pay for.")


def test_a_job_that_did_not_end_here_is_told_as_it_is_on_record(tmp_path: Path) -> None:
    (tmp_path / "a.mp4").touch()
    entry = Entry("a", lambda _: ImageToVideo("https://x.y/z.jpg"), label="cat #1")
    lost = attrs.evolve(record(JournalState.UNKNOWN), error=DOUBT)
    records = {
        JobResult.NOT_SENT: record(JournalState.INTENDED),
        JobResult.UNKNOWN: record(JournalState.SENDING),
        JobResult.UNFINISHED: record(JournalState.ACCEPTED),
        JobResult.NOT_SAVED: record(JournalState.SUCCESS),
        JobResult.THERE: record(JournalState.SUCCESS, tmp_path / "a.mp4"),
    }
    told = {result: _left(entry, {"a": each}, JobResult.NOT_SENT) for result, each in records.items()}
    assert [line.result for line in told.values()] == list(records)
    assert {line.name for line in told.values()} == {"cat #1"}
    assert _left(entry, {"a": lost}, JobResult.NOT_SENT).error == DOUBT


def test_a_key_whose_lower_case_is_shorter_than_itself_gets_a_name_that_can_be_written(tmp_path: Path) -> None:
    key = "\u212a" * 100  # a Kelvin sign has three bytes, and its lower case, k, has one
    assert len(TargetFiles(tmp_path)(key).name.encode()) <= 255


def test_what_another_batch_has_saved_meanwhile_is_there(tmp_path: Path) -> None:
    (tmp_path / "a.mp4").touch()
    line = failed("a", DownloadError(reason="another download writes it", path="a.mp4", task_id="t1"))
    there = _now(line, record(JournalState.SUCCESS, tmp_path / "a.mp4"))
    assert (there.result, there.path, there.error) == (JobResult.THERE, tmp_path / "a.mp4", None)
    assert [_now(line, other) for other in (None, record(JournalState.SUCCESS))] == [line, line]


def test_a_folder_whose_disk_is_full_is_told_before_anything_is_paid_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(targets, "_MIN_FREE_BYTES", 2**63)
    with pytest.raises(click.UsageError, match="is full: a video needs some megabytes"):
        make_folder(tmp_path)


def test_a_journal_that_is_not_there_or_empty_knows_nothing(tmp_path: Path) -> None:
    (tmp_path / "new.db").touch()
    assert [read_records(path) for path in (None, tmp_path / "none.db", tmp_path / "new.db")] == [{}, {}, {}]


def test_what_is_made_anew_gets_a_file_that_is_no_other_jobs(tmp_path: Path) -> None:
    (tmp_path / "cat.mp4").touch()
    target = TargetFiles(tmp_path, renewed={"cat", "cat-3"}, near=["cat", "cat-2", "cat-3"])
    assert [target(key).name for key in ("cat", "cat-2", "cat-3")] == ["cat-4.mp4", "cat-2.mp4", "cat-3.mp4"]


def test_a_file_keeps_the_capitals_of_its_key_unless_another_differs_in_nothing_else() -> None:
    target = TargetFiles(Path("v"), alike={"dog"})
    names = {key: target(key).name for key in ("Cat", "Dog", "dog", "a/b", "CON")}
    assert (names["Cat"], names["dog"]) == ("Cat.mp4", "dog.mp4")
    assert [name[:-17] for name in (names["Dog"], names["a/b"], names["CON"])] == ["Dog", "a_b", "_CON"]
