"""A list of millions of jobs is checked whole, and never held."""

from __future__ import annotations

import io
import sys
import tracemalloc
from pathlib import Path
from types import SimpleNamespace

import pytest

from hailuo_async._cli.jobfile import joblist
from hailuo_async._cli.jobfile.joblist import JobList, ReadOptions, read_jobs
from hailuo_async._cli.jobfile.text import MAX_FILE_BYTES, STDIN

from ..support.joblists import URL


def keys(found: JobList) -> list[str]:
    return [entry.key for entry in found.entries()]


def written(path: Path, *rows: str) -> Path:
    path.write_text("\n".join(["key,image,prompt", *rows]))
    return path


@pytest.mark.slow
def test_a_row_is_held_as_a_number_and_not_as_a_job(tmp_path: Path) -> None:
    path = written(tmp_path / "jobs.csv", *(f"key-{number},{URL},[Push in] a cat" for number in range(8_000)))
    read_jobs(written(tmp_path / "few.csv", f"a,{URL},x"))  # imports what is imported once
    tracemalloc.start()
    found = read_jobs(path)
    count = sum(1 for _ in found.entries())
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert (count, len(found), found.problems) == (8_000, 8_000, [])
    assert peak < 8_000 * 200


def test_what_was_checked_is_what_is_sent_whatever_becomes_of_the_file(tmp_path: Path) -> None:
    path = written(tmp_path / "jobs.csv", f"a,{URL},x", f"b,{URL},y")
    found = read_jobs(path)
    written(path, f"c,{URL},z")
    assert keys(found) == ["a", "b"]
    path.unlink()
    assert [entry.job.prompt for entry in found.entries()] == ["x", "y"]


def test_stdin_is_read_once_and_its_jobs_as_often_as_they_are_needed(monkeypatch: pytest.MonkeyPatch) -> None:
    text = f"key,image\na,{URL}\nb,{URL}\n".encode()
    monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=io.BytesIO(text)))
    found = read_jobs(STDIN)
    assert [keys(found), keys(found)] == [["a", "b"]] * 2


def test_the_places_of_an_array_are_those_of_the_file(tmp_path: Path) -> None:
    rows = [f'{{"image": "{URL}",\n "key": "{number}"}}' for number in range(9)]
    (tmp_path / "jobs.json").write_text("[\n\n" + ", \n".join(rows) + '\n,{"image": "x.jpg",\n\n  oops}]')
    found = read_jobs(tmp_path / "jobs.json")
    (problem,) = found.problems
    words = "must be one whole JSON object; found 'o': Expecting property name enclosed in double quotes"
    assert str(problem) == f"{tmp_path}/jobs.json, line 23, column 3: {words}"
    assert [entry.place.rpartition(" ")[2] for entry in found.entries()] == [str(line) for line in range(3, 21, 2)]


def test_two_that_read_at_once_do_not_disturb_each_other(tmp_path: Path) -> None:
    found = read_jobs(written(tmp_path / "jobs.csv", *(f"{number},{URL},x" for number in range(3000))))
    pairs = zip(found.entries(), found.entries(), strict=True)
    assert all(one.key == other.key for one, other in pairs)


def test_a_key_that_comes_again_is_found_however_far_away_and_capitals_count(tmp_path: Path) -> None:
    rows = [f"{number},{URL},x" for number in range(5000)]
    path = written(tmp_path / "jobs.csv", f"Cat,{URL},x", *rows, f"cat,{URL},x", f"7,{URL},x")
    found = read_jobs(path)
    (problem,) = found.problems
    words = f"must be the job's own; '7' stands in {path}, line 10 too"
    assert str(problem) == f"{path}, line 5004, column key: {words}"
    assert (len(found), found.alike) == (5002, frozenset({"cat"}))
    assert keys(found)[-2:] == ["4999", "cat"]


def test_a_key_that_is_no_text_is_told_beside_those_that_come_twice(tmp_path: Path) -> None:
    rows = "".join(f'{{"image": "{URL}", "key": {key}}}\n' for key in ('"a"', "7", '"a"', "7"))
    (tmp_path / "jobs.jsonl").write_text(rows)
    found = read_jobs(tmp_path / "jobs.jsonl")
    assert [problem.where.rpartition(" ")[2] for problem in found.problems] == ["2", "3", "4"]


def test_a_take_that_has_the_key_of_another_job_is_told(tmp_path: Path) -> None:
    path = written(tmp_path / "jobs.csv", f"cat-take-2,{URL},x", f"cat,{URL},x")
    (problem,) = read_jobs(path, ReadOptions(takes=2)).problems
    assert (
        str(problem)
        == f"{path}, line 3, column key: makes a take 'cat-take-2', which is another job's key: change one of the two"
    )


def test_the_same_note_of_many_rows_is_one_note(tmp_path: Path) -> None:
    found = read_jobs(written(tmp_path / "jobs.csv", *(f"{number},{URL},[Fly] x" for number in range(5))))
    (note,) = found.notes
    assert str(note).endswith("column prompt: [Fly] will be read as plain words: it is not one of the fifteen camera "
                              "commands; 4 more have it, too")  # fmt: skip


def test_a_file_that_is_wrong_in_every_row_is_not_read_to_its_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(joblist, "MAX_PROBLEMS", 3)
    found = read_jobs(written(tmp_path / "jobs.csv", *(f"{number},ftp://x.y/z.jpg," for number in range(9))))
    assert len(found.problems) == 5
    assert str(found.problems[-1]) == (
        f"{tmp_path}/jobs.csv, line 5: more than 3 problems were found, and the check ends here: correct these first"
    )


def test_a_gigabyte_in_one_line_is_told_after_the_first_of_it(tmp_path: Path) -> None:
    with (tmp_path / "jobs.csv").open("wb") as file:
        file.truncate(10**9)  # nothing of it is on the disk
    (problem,) = read_jobs(tmp_path / "jobs.csv").problems
    assert (MAX_FILE_BYTES > 10**9, problem.is_whole) == (True, True)
    assert str(problem) == f"{tmp_path}/jobs.csv, line 1: has more than 64 MiB: name images as files in it"
