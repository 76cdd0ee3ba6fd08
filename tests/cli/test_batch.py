"""``hailuo-async batch``: what it checks and asks, sends, saves, tells and exits with."""

from __future__ import annotations

import contextlib
import itertools
import os
import re
import sqlite3
import subprocess
from pathlib import Path

import pytest
from PIL import Image

from hailuo_async import AsyncSession, ImageToVideo, Journal
from hailuo_async._cli.batch.batch import BatchPlan
from hailuo_async._cli.batch.run import run_batch
from hailuo_async._cli.exit_codes import report_errors
from hailuo_async._cli.jobfile.joblist import Entry
from hailuo_async.emulator import Emulator

from ..support.commands import (
    child,
    command,
    environment,
    facts,
    names_in,
    once,
    paid,
    run,
    statuses,
    terminal,
    write_jobs,
)
from ..support.running_emulator import credentials, emulator_in_thread

# --- A run, and another ---


@pytest.mark.slow
def test_every_video_is_saved_under_its_key_and_paid_for_once(service: Emulator, tmp_path: Path) -> None:
    output = tmp_path / "new" / "videos"
    result = run("batch", write_jobs(tmp_path, 4, "picture.jpg"), "--output", output, "--yes")
    assert (result.exit_code, names_in(output)) == (0, ["a.mp4", "b.mp4", "c.mp4", "d.mp4"])
    assert sorted(" ".join(line.split()) for line in result.stdout.splitlines()) == [
        f"{key} saved 0.2 s {output / key}.mp4 4.1 kB" for key in "abcd"
    ]
    assert result.stderr.startswith("Jobs: 4 to pay for: 24 s of video, $1.30 to $2.88 by the prices of 2026-08-10.\n")
    assert re.search(r"^4 of 4 saved in \d+ s; \$1.30 spent in all\n$", result.stderr, re.MULTILINE)
    assert paid(service) == once("abcd")


@pytest.mark.slow
def test_run_again_it_pays_only_for_what_is_missing_and_asks_about_nothing_else(
    service: Emulator, tmp_path: Path
) -> None:
    run("batch", write_jobs(tmp_path, 2), "--output", tmp_path, "--yes")
    again = run("batch", write_jobs(tmp_path, 3), "--output", tmp_path, "--max-jobs", "1", "--json")
    assert (again.exit_code, statuses(again.stdout)) == (0, {"a": "there", "b": "there", "c": "saved"})
    assert "Jobs: 2 there already, 1 to pay for: 6 s of video, $0.32 to $0.72 by the prices of" in again.stderr
    assert "\n3 of 3 saved in " in again.stderr
    whole = run("batch", tmp_path / "jobs.jsonl", "--output", tmp_path)
    assert (whole.exit_code, whole.stdout) == (0, "")
    assert paid(service) == once("abc")


@pytest.mark.slow
def test_an_object_tells_all_that_is_known_of_an_outcome(service: Emulator, tmp_path: Path) -> None:
    service.next_fault("submit", "refuse")
    result = run("batch", write_jobs(tmp_path, 2), "--output", tmp_path, "--yes", "--json", "--max-running", "1")
    ((prompt, (task_id,)),) = service.ledger.accepted.items()
    made = str(prompt).removeprefix("scene ")
    (other,) = {"a", "b"} - {made}  # the one that was sent first was refused
    words = re.search(r"400 Invalid parameters: refused on purpose \(request [\w-]+\)", result.stdout)
    assert words is not None
    refused = {"type": "RequestRejectedError", "message": words.group()}
    nothing = {"path": None, "task_id": None, "seconds_taken": None, "bytes": None, "cost": None}
    assert facts(result.stdout) == {
        other: {"key": other, "status": "failed", **nothing, "error": refused},
        made: {
            "key": made,
            "status": "saved",
            "path": str(tmp_path / f"{made}.mp4"),
            "task_id": task_id,
            "seconds_taken": 0.2,
            "bytes": 4096,
            "cost": "0.3240",
            "error": None,
        },
    }


@pytest.mark.slow
def test_what_was_paid_is_told_of_a_video_that_cannot_be_saved_and_of_a_task_that_failed(
    service: Emulator, tmp_path: Path
) -> None:
    (tmp_path / "a.mp4.part").mkdir()
    unsaved = run("batch", write_jobs(tmp_path, 1), "--output", tmp_path, "--yes", "--json")
    told = facts(unsaved.stdout)["a"]
    assert (unsaved.exit_code, told["status"], told["cost"]) == (1, "not saved", "0.3240")
    service.service.fail_rate, service.service.bills_failures = 1.0, False
    gave_up = run("batch", write_jobs(tmp_path, 2), "--output", tmp_path, "--yes", "--json")
    assert {key: each["cost"] for key, each in facts(gave_up.stdout).items()} == {"a": "0.3240", "b": "0.0000"}


@pytest.mark.slow
def test_a_video_that_was_deleted_is_fetched_again_and_not_paid_for_again(service: Emulator, tmp_path: Path) -> None:
    run("batch", write_jobs(tmp_path, 1), "--output", tmp_path, "--yes")
    (tmp_path / "a.mp4").unlink()
    again = run("batch", tmp_path / "jobs.jsonl", "--output", tmp_path, "--json")
    assert (again.exit_code, statuses(again.stdout)) == (0, {"a": "saved"})
    assert "Jobs: 1 sent before, none to pay for.\n" in again.stderr
    assert service.ledger.posts == 1


@pytest.mark.slow
def test_a_row_whose_video_is_there_needs_its_picture_no_more(service: Emulator, tmp_path: Path) -> None:
    for name in ("cat.jpg", "dog.jpg"):
        Image.new("RGB", (320, 320)).save(tmp_path / name)
    (tmp_path / "jobs.csv").write_text("key,image\na,cat.jpg\nb,dog.jpg\n")
    again = ("batch", tmp_path / "jobs.csv", "--output", tmp_path, "--yes", "--json")
    run(*again, "--max-jobs", "1")
    (made,) = names_in(tmp_path)
    picture = {"a.mp4": tmp_path / "cat.jpg", "b.mp4": tmp_path / "dog.jpg"}[made]
    picture.unlink()
    for _ in range(2):
        result = run(*again)
        assert (result.exit_code, service.ledger.posts, statuses(result.stdout)[made[0]]) == (0, 2, "there")
        assert "\n2 of 2 saved in " in result.stderr
    picture.write_bytes(b"no picture")
    assert run(*again).exit_code == 2
    for name in ("cat.jpg", "dog.jpg"):
        (tmp_path / name).unlink()
    assert (run(*again).exit_code, service.ledger.posts) == (0, 2)
    assert run(*again, "--redo", made[0]).exit_code == 2
    (tmp_path / made).unlink()
    assert (run(*again).exit_code, service.ledger.posts) == (2, 2)


@pytest.mark.slow
def test_a_batch_that_was_ended_while_it_made_its_journal_can_be_run_again(service: Emulator, tmp_path: Path) -> None:
    with contextlib.closing(sqlite3.connect(tmp_path / "batch.db")) as connection:
        connection.execute("PRAGMA journal_mode = WAL")
    result = run("batch", write_jobs(tmp_path, 1), "--output", tmp_path, "--yes", "--json")
    assert (result.exit_code, statuses(result.stdout), paid(service)) == (0, {"a": "saved"}, once("a"))


@pytest.mark.slow
def test_a_file_that_nobody_remembers_is_left_alone_and_its_job_not_paid_for(service: Emulator, tmp_path: Path) -> None:
    (tmp_path / "a.mp4").write_text("somebody's")
    result = run("batch", write_jobs(tmp_path, 2), "--output", tmp_path, "--yes", "--json")
    assert (result.exit_code, statuses(result.stdout)) == (0, {"a": "there", "b": "saved"})
    assert (tmp_path / "a.mp4").read_text() == "somebody's"
    assert paid(service) == once("b")


@pytest.mark.slow
def test_at_most_so_many_are_paid_for_as_are_allowed_and_the_rest_is_for_the_next_run(
    service: Emulator, tmp_path: Path
) -> None:
    first = run("batch", write_jobs(tmp_path, 3), "--output", tmp_path, "--max-jobs", "2", "--json")
    assert (first.exit_code, sorted(statuses(first.stdout).values())) == (1, ["not sent", "saved", "saved"])
    assert "stopped: as many are sent as --max-jobs 2 allows\n1 not sent\nRun the same command again" in first.stderr
    second = run("batch", tmp_path / "jobs.jsonl", "--output", tmp_path, "--max-jobs", "2")
    assert (second.exit_code, paid(service)) == (0, once("abc"))


@pytest.mark.slow
def test_a_folder_of_pictures_is_a_batch_too(service: Emulator, tmp_path: Path) -> None:
    write_jobs(tmp_path, 1)
    result = run("batch", tmp_path, "--output", tmp_path / "out", "--yes", "--journal", tmp_path / "other.db")
    assert (result.exit_code, names_in(tmp_path / "out")) == (0, ["picture.mp4"])
    assert not (tmp_path / "out" / "batch.db").exists()
    with Journal.open(tmp_path / "other.db") as journal:
        assert [record.key for record in journal.records()] == ["picture"]


@pytest.mark.slow
def test_one_prompt_for_a_folder_needs_no_file_and_what_is_bad_can_be_skipped(
    service: Emulator, tmp_path: Path
) -> None:
    pictures = tmp_path / "pictures"
    pictures.mkdir()
    for name, side in {"cat": 320, "dog": 340, "small": 200}.items():
        Image.new("RGB", (side, side)).save(pictures / f"{name}.png")
    (pictures / "bird.heic").touch()
    given = ("batch", pictures, "--output", tmp_path / "out", "--prompt", "A {name}", "--yes", "--json")
    refused = run(*given)
    assert (refused.exit_code, service.ledger.posts) == (2, 0)
    assert refused.stderr.endswith(
        "nothing was sent; --skip-bad goes on without them; --fit makes such pictures obey\n"
    )
    assert "Left out of" in refused.stderr
    assert "1 HEIC (--fit" in refused.stderr
    skipped = run(*given, "--skip-bad")
    small = str(pictures / "small.png")
    assert (skipped.exit_code, statuses(skipped.stdout)) == (1, {"cat": "saved", "dog": "saved", small: "unusable"})
    assert paid(service) == {"A cat": 1, "A dog": 1}


@pytest.mark.parametrize(("content", "is_offered"), [(b"GIF89a", True), (b"no picture", False)])
def test_fit_is_offered_where_it_would_help(content: bytes, is_offered: bool, tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_bytes(content)
    result = run("batch", tmp_path, "--output", tmp_path / "out", "--dry-run")
    assert (result.exit_code, "--fit makes such pictures obey" in result.stderr) == (2, is_offered)


def test_a_home_that_a_shell_left_as_it_is_is_the_home(
    service: Emulator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    result = run("batch", write_jobs(tmp_path, 1), "--output=~/videos", "--yes")
    assert (result.exit_code, names_in(tmp_path / "home" / "videos")) == (0, ["a.mp4"])
    one = run("generate", "picture.jpg", "--output=~/b.mp4", "--journal=~/b.db")
    assert (one.exit_code, names_in(tmp_path / "home")) == (0, ["b.mp4"])
    assert (tmp_path / "home" / "b.db").exists()
    assert not (tmp_path / "~").exists()


def test_stdin_is_a_list_of_jobs(service: Emulator, tmp_path: Path) -> None:
    rows = 'key,image,prompt\na,https://example.com/cat.jpg,"a cat, walking"\n'
    result = run("batch", "-", "--output", tmp_path / "out", "--dry-run", stdin=rows)
    assert (result.exit_code, result.stdout) == (0, "a  to pay for\n")
    bad = run("batch", "-", "--output", tmp_path / "out", "--yes", stdin='[{"image": 1}]')
    assert (bad.exit_code, bad.stderr.splitlines()[0]) == (
        2,
        "stdin, line 1: image: must be an http(s) URL, a data URL, or the path of a picture; got int",
    )


@pytest.mark.slow
def test_a_job_that_was_changed_under_its_key_is_found_before_anything_is_sent_and_can_be_made_anew(
    service: Emulator, tmp_path: Path
) -> None:
    jobs = write_jobs(tmp_path, 2)
    run("batch", jobs, "--output", tmp_path, "--yes")
    jobs.write_text(jobs.read_text().replace("scene a", "scene x"))
    found = run("batch", jobs, "--output", tmp_path, "--yes")
    assert (found.exit_code, service.ledger.posts) == (2, 2)
    assert found.stderr.splitlines() == [
        f"{jobs}, line 1: key 'a' was sent before for another picture, prompt or option: "
        "give it another key, or --redo a to make it anew, which is paid for",
        "hailuo-async: 1 changed under a known key; nothing was sent",
    ]
    again = run("batch", jobs, "--output", tmp_path, "--yes", "--redo", "a", "--json")
    assert (again.exit_code, statuses(again.stdout)) == (0, {"a": "saved", "b": "there"})
    assert names_in(tmp_path) == ["a-2.mp4", "a.mp4", "b.mp4"]
    assert paid(service) == {"scene a": 1, "scene b": 1, "scene x": 1}


@pytest.mark.slow
def test_a_job_whose_picture_is_fitted_is_found_to_have_changed_too(service: Emulator, tmp_path: Path) -> None:
    Image.new("RGB", (200, 200)).save(tmp_path / "small.png")
    jobs = tmp_path / "jobs.csv"
    results = []
    for prompt in ("one", "two"):
        jobs.write_text(f"key,image,prompt\na,small.png,{prompt}\n")
        results.append(run("batch", jobs, "--fit", "--output", tmp_path, "--yes"))
    assert ([result.exit_code for result in results], service.ledger.posts) == ([0, 2], 1)
    assert "changed under a known key; nothing was sent" in results[-1].stderr


@pytest.mark.slow
@pytest.mark.parametrize(
    ("limit", "words"),
    [
        (("--max-cost", "1.40"), "and jobs before it could cost up to $0.72 more; a job of up to $0.72 would pass it"),
        (("--max-jobs", "1"), "as many are sent as --max-jobs 1 allows"),
    ],
)
def test_a_job_that_no_limit_has_room_for_is_not_forgotten_to_be_made_anew(
    limit: tuple[str, str], words: str, service: Emulator, tmp_path: Path
) -> None:
    jobs = write_jobs(tmp_path, 2)
    run("batch", jobs, "--output", tmp_path, "--yes")
    before = service.ledger.posts
    refused = run("batch", jobs, "--output", tmp_path, "--redo", "a", "--redo", "b", *limit)
    assert (refused.exit_code, service.ledger.posts) == (2, before)
    assert f"{words}; nothing was sent" in refused.stderr
    with Journal.open(tmp_path / "batch.db") as journal:
        assert {record.identity: str(record.state) for record in journal.records()} == {"a": "success", "b": "success"}


@pytest.mark.slow
def test_a_job_that_is_made_anew_is_sent_before_others_use_up_the_limit(service: Emulator, tmp_path: Path) -> None:
    jobs = write_jobs(tmp_path, 3)
    lines = jobs.read_text().splitlines(keepends=True)
    jobs.write_text(lines[2])
    run("batch", jobs, "--output", tmp_path, "--yes")
    jobs.write_text("".join(lines))
    stopped = run("batch", jobs, "--output", tmp_path, "--redo", "c", "--max-jobs", "1", "--json")
    assert (stopped.exit_code, statuses(stopped.stdout)) == (1, {"a": "not sent", "b": "not sent", "c": "saved"})
    assert paid(service) == {"scene c": 2}


def test_a_job_that_was_refused_may_be_changed_under_its_key(service: Emulator, tmp_path: Path) -> None:
    jobs = write_jobs(tmp_path, 1)
    service.next_fault("submit", "refuse")
    assert run("batch", jobs, "--output", tmp_path, "--yes").exit_code == 1
    jobs.write_text(jobs.read_text().replace("scene a", "scene x"))
    result = run("batch", jobs, "--output", tmp_path, "--yes")
    assert (result.exit_code, paid(service)) == (0, {"scene x": 1})


@pytest.mark.slow
def test_what_is_in_doubt_is_sent_again_only_if_it_may_be_paid_for_twice(service: Emulator, tmp_path: Path) -> None:
    jobs = write_jobs(tmp_path, 1)
    service.next_fault("submit", "cut_after")
    assert run("batch", jobs, "--output", tmp_path, "--yes").exit_code == 3
    asked = run("batch", jobs, "--output", tmp_path, "--retry-unknown", "--max-jobs", "1")
    assert (asked.exit_code, service.ledger.posts) == (2, 1)
    assert "May have been accepted already, and is paid for twice then: a\n" in asked.stderr
    agreed = run("batch", jobs, "--output", tmp_path, "--retry-unknown", "--yes")
    assert (agreed.exit_code, paid(service)) == (0, {"scene a": 2})


@pytest.mark.slow
def test_no_more_is_spent_than_is_allowed_also_over_several_runs(service: Emulator, tmp_path: Path) -> None:
    jobs = write_jobs(tmp_path, 3)
    for max_cost, expected in (("$1.00", 1), ("$1.20", 2), ("$1.20", 2)):
        result = run("batch", jobs, "--output", tmp_path, "--max-cost", max_cost, "--max-running", "1")
        assert (result.exit_code, service.ledger.posts) == (1, expected)
    assert "stopped: $0.65 of --max-cost $1.20 are spent; a job of up to $0.72 would pass it\n" in result.stderr
    assert run("batch", jobs, "--max-cost", "much").exit_code == 2


@pytest.mark.slow
def test_quiet_it_says_nothing_while_all_is_well(service: Emulator, tmp_path: Path) -> None:
    result = run("batch", write_jobs(tmp_path, 1), "--output", tmp_path, "--yes", "--quiet")
    assert (result.exit_code, result.stderr) == (0, "")


def test_a_file_of_jobs_to_begin_with_is_a_batch(service: Emulator, tmp_path: Path) -> None:
    write_jobs(tmp_path, 1)
    made = run("init", tmp_path)
    assert made.stdout.splitlines()[0] == "key,image,prompt,model,duration,resolution"
    (tmp_path / "new.csv").write_text(made.stdout)
    result = run("batch", tmp_path / "new.csv", "--output", tmp_path / "out", "--dry-run")
    assert (result.exit_code, result.stdout) == (0, "picture  to pay for\n")
    (tmp_path / "picture.jpg").unlink()
    assert run("init", tmp_path).exit_code == 2


def test_a_picture_without_a_name_of_its_own_is_in_the_file_too(tmp_path: Path) -> None:
    for name in ("a.jpg", "a-png.jpg", "a.png"):
        (tmp_path / name).touch()
    rows = [row.split(",")[:2] for row in run("init", tmp_path).stdout.splitlines()[1:]]
    assert rows == [["a-png", f"{tmp_path}/a-png.jpg"], ["a", f"{tmp_path}/a.jpg"], ["", f"{tmp_path}/a.png"]]


def test_a_file_of_jobs_to_edit_leaves_out_a_name_that_it_cannot_hold(tmp_path: Path) -> None:
    for name in (b"caf\xe9.jpg", b"cat.jpg"):
        Image.new("RGB", (320, 320)).save(tmp_path / os.fsdecode(name))
    made = run("init", tmp_path)
    assert [row.split(",")[0] for row in made.stdout.splitlines()[1:]] == ["cat"]
    assert made.stderr.endswith("caf\ufffd.jpg, whose name is not in UTF-8, as the file is: rename it\n")


# --- What goes wrong ---


@pytest.mark.slow
def test_failures_are_grouped_by_their_reasons_at_the_end(service: Emulator, tmp_path: Path) -> None:
    for _ in range(2):
        service.next_fault("submit", "refuse")
    for key in "abc":
        (tmp_path / f"{key}.mp4.part").mkdir()
    result = run("batch", write_jobs(tmp_path, 3), "--output", tmp_path, "--yes", "--max-running", "1")
    assert result.exit_code == 1
    (made,) = {str(prompt).removeprefix("scene ") for prompt in service.ledger.accepted}
    _, _, end = result.stderr.partition("0 of 3 saved in")
    failed, refused, *rest = end.splitlines()[1:]
    assert (failed, sorted(refused)) == (
        "2 failed",
        sorted("  400 Invalid parameters: refused on purpose: " + ", ".join({"a", "b", "c"} - {made})),
    )
    assert rest == [
        "1 not saved, though paid for",
        f"  {made}.mp4.part beside it is not a plain file: move it away, or save to another path: {made}",
        "Run the same command again to go on: nothing is paid for twice",
    ]


@pytest.mark.slow
def test_a_task_that_the_service_gave_up_is_made_again_when_its_owner_says_so(
    service: Emulator, tmp_path: Path
) -> None:
    service.service.fail_rate = 1.0
    jobs, journal = write_jobs(tmp_path, 1), tmp_path / "batch.db"
    for posts in (1, 1):
        result = run("batch", jobs, "--output", tmp_path, "--yes")
        assert (result.exit_code, service.ledger.posts) == (1, posts)
    assert "and pay for it again: the same command with --retry-failed\n" in result.stderr
    assert "a failed: " in run("status", journal).stdout
    service.service.fail_rate = 0.0
    again = run("batch", jobs, "--output", tmp_path, "--yes", "--retry-failed")
    assert (again.exit_code, "1 to pay for, 1 of them once more: 6 s of video" in again.stderr) == (0, True)
    assert service.ledger.posts == 2


@pytest.mark.slow
def test_a_video_that_is_gone_here_and_at_the_service_is_made_anew_when_its_owner_says_so(
    service: Emulator, tmp_path: Path
) -> None:
    """The journal has it as made: so --retry-failed would not send it again."""
    again = ("batch", write_jobs(tmp_path, 1), "--output", tmp_path, "--yes")
    run(*again)
    (tmp_path / "a.mp4").unlink()
    service.clock_offset_s = 8 * 86400.0
    result = run(*again)
    advice = "To make anew a video that has expired, and pay for it again: the same command with --redo KEY"
    assert (result.exit_code, result.stderr.splitlines()[-1]) == (1, advice)
    anew = run(*again, "--redo", "a")
    assert (anew.exit_code, names_in(tmp_path), service.ledger.posts) == (0, ["a.mp4"], 2)


@pytest.mark.slow
@pytest.mark.parametrize(("readings", "code"), [(0, 2), (2, 1)])
def test_an_error_after_jobs_were_sent_is_not_told_as_if_nothing_was(
    readings: int, code: int, service: Emulator, tmp_path: Path
) -> None:
    """The list of jobs is read for the bill, for the jobs, and for the report."""
    left = itertools.count(readings, -1)

    def entries() -> list[Entry]:
        if not next(left):
            raise OSError(5, "Input/output error", "jobs.csv")
        return [Entry("a", lambda key: ImageToVideo("https://example.com/cat.jpg", key=key))]

    plan = BatchPlan(entries=entries, total=1, targets=lambda key: tmp_path / f"{key}.mp4", output=tmp_path)
    session = AsyncSession(api_key=service.api_key, base_url=service.url)
    with pytest.raises(SystemExit) as ended, report_errors(is_debug=False):
        run_batch(plan, session, is_agreed=True)
    assert (ended.value.code, service.ledger.submits_accepted) == (code, 2 - code)


@pytest.mark.slow
def test_a_task_that_outlasts_the_time_is_unfinished_and_not_to_be_paid_for_again(
    service: Emulator, tmp_path: Path
) -> None:
    service.service.generation_s = 600.0
    again = ("batch", write_jobs(tmp_path, 1), "--output", tmp_path, "--yes")
    for time in ("0.3", "2", "20"):  # a slow machine has not sent it in the first
        late = run(*again, "--timeout", time)
        if "(task " in late.stdout:
            break
    (task_id,) = service.ledger.accepted["scene a"]
    assert (late.exit_code, late.stdout) == (1, f"a  unfinished          no video within {time} s (task {task_id})\n")
    assert ("--retry-failed" in late.stderr, "Run the same command again" in late.stderr) == (False, True)
    service.clock_offset_s = 600.0
    assert (run(*again).exit_code, service.ledger.posts) == (0, 1)


def test_what_every_job_would_meet_is_told_once_and_the_rest_is_not_sent(service: Emulator, tmp_path: Path) -> None:
    key = tmp_path / "key.txt"
    key.write_text("wrong\n")
    result = run("batch", write_jobs(tmp_path, 3), "--output", tmp_path, "--yes", "--json", "--key-file", key)
    assert (result.exit_code, set(statuses(result.stdout).values())) == (1, {"not sent"})
    words = (
        r"stopped: 401 Authentication failed: the API key is not valid \(request [\w-]+\); every other job would meet"
    )
    assert len(re.findall(words, result.stderr)) == 1
    assert service.ledger.submits_accepted == 0


@pytest.mark.slow
def test_an_unknown_outcome_is_told_and_resolved_and_paid_for_once(service: Emulator, tmp_path: Path) -> None:
    jobs, journal = write_jobs(tmp_path, 2), tmp_path / "batch.db"
    service.next_fault("submit", "cut_after")
    first = run("batch", jobs, "--output", tmp_path, "--yes", "--json", "--max-running", "1")
    lost, made = (str(prompt).removeprefix("scene ") for prompt in service.ledger.accepted)  # in the order of the POSTs
    assert (first.exit_code, statuses(first.stdout)) == (3, {lost: "unknown", made: "saved"})
    assert f"hailuo-async resolve {journal} KEY --task-id ID | --resubmit | --forget\n" in first.stderr
    assert run("batch", jobs, "--output", tmp_path).exit_code == 3

    (task_id,) = service.ledger.accepted[f"scene {lost}"]
    assert run("resolve", journal, lost, "--task-id", task_id).exit_code == 0
    last = run("batch", jobs, "--output", tmp_path, "--json")
    assert (last.exit_code, statuses(last.stdout)) == (0, {lost: "saved", made: "there"})
    assert paid(service) == once("ab")


# --- Bad input ---


def test_everything_that_is_wrong_with_the_jobs_is_told_with_its_line_before_anything_is_sent(
    service: Emulator, tmp_path: Path
) -> None:
    jobs = write_jobs(tmp_path, 2)
    with jobs.open("a") as file:
        file.write('{"first_frame_image": "none.jpg"}\n{"half": \n')
    result = run("batch", jobs, "--output", tmp_path / "out", "--yes")
    assert (result.exit_code, result.stdout, service.ledger.posts) == (2, "", 0)
    *problems, end = result.stderr.splitlines()
    assert [problem.startswith(f"{jobs}, line {line}") for problem, line in zip(problems, (3, 4), strict=True)]
    assert end == f"hailuo-async: 2 to correct in {jobs}; nothing was sent; --skip-bad goes on without them"
    assert not (tmp_path / "out").exists()


def test_what_is_wrong_in_the_same_way_in_many_places_is_told_of_some_and_counted(
    service: Emulator, tmp_path: Path
) -> None:
    (tmp_path / "jobs.csv").write_text("image,prompt\n" + "https://x.y/z.jpg,a {nmae}\n" * 20)
    result = run("batch", tmp_path / "jobs.csv", "--output", tmp_path / "out", "--yes")
    *some, more, end = result.stderr.splitlines()
    assert (result.exit_code, len(some), service.ledger.posts) == (2, 8, 0)
    assert more.startswith("and 12 more: {nmae} names nothing here; there is {image}, {prompt}, {name}; ")
    assert end == f"hailuo-async: 20 to correct in {tmp_path}/jobs.csv; nothing was sent"


def test_what_may_not_be_meant_is_told_before_it_is_paid_for(service: Emulator, tmp_path: Path) -> None:
    jobs = write_jobs(tmp_path, 1)
    jobs.write_text(jobs.read_text().replace("scene a", "[Fly away] scene"))
    note, bill, _ = run("batch", jobs, "--output", tmp_path).stderr.splitlines()
    assert ("[Fly away]" in note, bill[:5], service.ledger.posts) == (True, "Jobs:", 0)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["{here}/none.jsonl"], "'{here}/none.jsonl' does not exist (see"),
        (["{here}/picture.jpg"], "a file that ends in .csv, .tsv, .jsonl, .ndjson or .json"),
        (["{jobs}", "--max-jobs", "0"], "0 is not in the range x>=1 (see"),
        (["{jobs}", "--output", "{jobs}"], "is a file (see"),
        (["{jobs}", "--output", "{jobs}/videos"], "{jobs}/videos: Not a directory"),
        (["{jobs}", "--output", "/proc", "--journal", "{here}/j.db"], "/proc cannot be written to: No such file"),
        (["{jobs}", "--journal", "{here}/picture.jpg"], "it is not a SQLite file"),
        (["{jobs}", "--journal", "{here}/none/batch.db"], "there is no directory"),
        (["{jobs}", "--journal", "{here}"], "is a directory (see"),
        (["{jobs}", "--key-file", "{here}/none"], "{here}/none: No such file or directory"),
        (["{jobs}", "--key-file", "{here}/picture.jpg"], "what the file {here}/picture.jpg holds is no API key"),
        (["{jobs}", "--encoding", "hex"], "'hex' is no encoding such as utf-8, cp1252 or mac_roman (see"),
        (["{jobs}", "--fast"], "No such option"),
        ([], "Missing argument 'JOBS' (see 'hailuo-async batch --help')"),
    ],
)
def test_what_cannot_be_run_is_one_line(arguments: list[str], words: str, service: Emulator, tmp_path: Path) -> None:
    places = {"here": tmp_path, "jobs": write_jobs(tmp_path, 1)}
    output = [] if "--output" in arguments else ["--output", str(tmp_path / "out")]
    result = run("batch", "--yes", *output, *(argument.format(**places) for argument in arguments))
    *before, end = result.stderr.splitlines()
    assert (result.exit_code, result.stdout, service.ledger.posts) == (2, "", 0)
    assert end.startswith("hailuo-async: ")
    assert words.format(**places) in end
    assert all(line.startswith("Jobs: 1 to pay for") for line in before)


@pytest.mark.slow
def test_jobs_that_cannot_be_copied_for_want_of_room_are_told_with_the_place(service: Emulator, tmp_path: Path) -> None:
    jobs = tmp_path / "jobs.csv"
    jobs.write_text("image\n" + "https://example.com/cat.jpg\n" * 5000)
    limited = ["sh", "-c", 'ulimit -f 8; exec "$0" "$@"', *command("batch", jobs, "--yes")]
    env = environment(TMPDIR=str(tmp_path), PYTHONDONTWRITEBYTECODE="1")  # 3.11 would keep the part that finds room
    done = subprocess.run(limited, env=env, capture_output=True, text=True, timeout=60)
    words = f"hailuo-async: {tmp_path}: a copy of the jobs cannot be written there: File too large\n"
    assert (done.returncode, done.stderr, service.ledger.posts) == (2, words, 0)


def test_a_journal_of_another_service_is_not_used(service: Emulator, tmp_path: Path) -> None:
    jobs = write_jobs(tmp_path, 1)
    service.next_fault("submit", "refuse")
    run("batch", jobs, "--output", tmp_path, "--yes")
    with emulator_in_thread() as other:
        result = run("batch", jobs, "--output", tmp_path, "--yes", env=credentials(other))
        assert (result.exit_code, result.stdout, other.ledger.posts) == (2, "", 0)
    assert f"it belongs to {service.url}, and this session to {other.url}" in result.stderr.splitlines()[-1]


@pytest.mark.slow
@pytest.mark.parametrize("is_folder", [False, True])
def test_a_name_that_the_file_system_cannot_have_is_told_and_does_not_become_another(
    is_folder: bool, service: Emulator, tmp_path: Path
) -> None:
    jobs = write_jobs(tmp_path, 1)
    jobs.write_text(jobs.read_text().replace('"key": "a"', '"key": "é画"'))
    if is_folder:
        jobs = tmp_path / "pictures"
        jobs.mkdir()
        (tmp_path / "picture.jpg").rename(jobs / "é画.jpg")
    ascii_only = environment(PYTHONUTF8="0", PYTHONCOERCECLOCALE="0", LC_ALL="C")
    with child("batch", jobs, "--output", tmp_path, "--yes", env=ascii_only) as process:
        output, errors = process.communicate(timeout=60)
    assert (process.returncode, output, service.ledger.posts) == (2, "", 0)
    words = (
        r"'\xe9\u753b.mp4' cannot be the name of a file in ascii: set LC_ALL=C.UTF-8 (see 'hailuo-async batch --help')"
    )
    assert errors == f"hailuo-async: {words}\n"


@pytest.mark.slow
def test_keys_of_any_letters_are_told_in_any_locale(service: Emulator, tmp_path: Path) -> None:
    jobs = write_jobs(tmp_path, 1)
    jobs.write_text(jobs.read_text().replace('"key": "a"', '"key": "é画"'), "utf-8")
    plain = environment(LC_ALL="C", PYTHONIOENCODING="latin-1")
    with child("batch", jobs, "--output", tmp_path, "--yes", env=plain, encoding="latin-1") as process:
        output, errors = process.communicate(timeout=60)
    assert (process.returncode, output.startswith(r"é\u753b  saved "), "Traceback" in errors) == (0, True, False)
    assert names_in(tmp_path) == ["é画.mp4"]


# --- Asking ---


def test_without_a_terminal_nobody_is_asked_and_nothing_is_paid_for(service: Emulator, tmp_path: Path) -> None:
    result = run("batch", write_jobs(tmp_path, 2), "--output", tmp_path / "out", stdin="y\n")
    assert (result.exit_code, service.ledger.posts, (tmp_path / "out").exists()) == (2, 0, False)
    assert result.stderr.splitlines() == [
        "Jobs: 2 to pay for: 12 s of video, $0.65 to $1.44 by the prices of 2026-08-10.",
        "hailuo-async: there is no terminal to ask at before paying: give --yes; batch also takes --max-jobs N "
        "and --max-cost USD, to pay for no more",
    ]


def test_at_a_terminal_a_key_is_asked_for_unseen_and_then_whether_to_pay(service: Emulator, tmp_path: Path) -> None:
    env = environment(MODELLIX_API_KEY="")
    with terminal("batch", write_jobs(tmp_path, 1), "--output", tmp_path / "out", env=env) as here:
        here.wait_for("The API key of Modellix: ")
        here.type(f"{service.api_key}\n")
        here.wait_for("Go on? [y/N]: ")
        here.type("n\n")
        assert here.end() == 1
    assert here.shown.endswith("hailuo-async: nothing was sent\r\n")
    assert service.api_key not in here.shown
    assert (service.ledger.posts, (tmp_path / "out").exists()) == (0, False)


def test_without_a_terminal_a_missing_key_is_one_line(
    service: Emulator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("MODELLIX_API_KEY")
    result = run("batch", write_jobs(tmp_path, 1), "--output", tmp_path, "--yes")
    words = "hailuo-async: there is no API key: set MODELLIX_API_KEY, or give --key-file FILE (see "
    assert (result.exit_code, result.stdout, result.stderr.count("\n")) == (2, "", 1)
    assert result.stderr.startswith(words)
