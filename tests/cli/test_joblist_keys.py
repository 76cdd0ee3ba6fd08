"""Jobs have keys that last, their images are looked at, and a folder of pictures is a list of jobs too."""

from __future__ import annotations

import base64
import os
import re
import sys
from pathlib import Path

import pytest
from PIL import Image

from hailuo_async._cli.jobfile.joblist import Problem, ReadOptions, read_jobs
from hailuo_async.jobs import FirstLastFrameToVideo, ImageToVideo

from ..support.joblists import URL, Listed, read, read_lines, read_list, told

GOOD = {"first_frame_image": URL}


# --- Keys ---


CAT = {"first_frame_image": "cat.png"}
DOG = {"first_frame_image": "dog.png"}


def test_a_key_that_is_made_stays_whatever_happens_to_the_other_lines(folder: Path) -> None:
    (before,) = read_lines(folder, CAT).jobs.values()
    others = [DOG, {**CAT, "prompt": "x"}, CAT, {**CAT, "key": "cat"}, CAT]
    after = read_lines(folder, *others)
    assert before.key is not None
    assert re.fullmatch("cat-[0-9a-f]{10}", before.key)
    assert after.jobs[before.key] == before
    assert {before.key, f"{before.key}-2", "cat"} < set(after.jobs)
    assert set(read_lines(folder, *reversed(others)).jobs) == set(after.jobs)
    assert [job.key for job in after.jobs.values()] == list(after.jobs)


def test_a_key_that_is_made_is_the_same_however_the_job_is_written(folder: Path) -> None:
    same = [
        read_lines(folder, {**CAT, "model": "minimax/hailuo-2.3-i2v", "duration": 6.0, "fit": True}),
        read_lines(folder, {"modelSlug": "minimax/hailuo-2.3-i2v", "body": {"prompt_optimizer": True, **CAT}}),
        read(folder, "jobs.csv", "duration,first_frame_image\n6,../in/cat.png"),
    ]
    assert [set(found.jobs) for found in same] == [set(read_lines(folder, CAT).jobs)] * 3


def test_a_picture_with_other_content_makes_another_job(folder: Path) -> None:
    before = read_lines(folder, CAT).jobs
    (folder / "dog.png").rename(folder / "cat.png")
    assert not set(before) & set(read_lines(folder, CAT).jobs)


def test_a_made_key_gives_way_to_one_that_a_later_line_gives(folder: Path) -> None:
    (made,) = read_lines(folder, CAT).jobs
    found = read_lines(folder, CAT, {**DOG, "key": made})
    assert {key: job.frames["first_frame_image"] for key, job in found.jobs.items()} == {
        f"{made}-2": folder / "cat.png",
        made: folder / "dog.png",
    }


def test_a_key_stands_for_one_job_and_capitals_count(folder: Path) -> None:
    found = read_lines(folder, *({**GOOD, "key": key} for key in ("a", "A", "b", "a")))
    assert list(found.jobs) == ["a", "A", "b"]
    assert told(found) == ["jobs.jsonl, line 4: key: must be the job's own; 'a' stands in in/jobs.jsonl, line 1 too"]


@pytest.mark.parametrize(
    ("image", "name"),
    [
        ("https://example.com/a/My%20Cat%0A.jpg?sig=1", "my cat_"),
        ("https://example.com", "image"),
        ("https://example.com/" + "画" * 84 + ".jpg", "画" * 30),
    ],
)
def test_a_made_key_begins_with_the_name_of_the_picture(image: str, name: str, folder: Path) -> None:
    (key,) = read_lines(folder, {"first_frame_image": image, "last_frame_image": "cat.png"}).jobs
    assert key[:-11] == name


def test_a_data_url_has_no_name(folder: Path) -> None:
    image = "data:image/png;base64," + base64.b64encode((folder / "cat.png").read_bytes()).decode()
    (key,) = read_lines(folder, {"first_frame_image": image}).jobs
    assert key.startswith("image-")


# --- Images and prompts ---


def test_an_image_is_looked_at_once_for_all_jobs_that_have_it_in_common(folder: Path) -> None:
    (folder / "jobs.csv").write_text("image,prompt\ncat.png,x\ncat.png,y\n")
    found = read_jobs(folder / "jobs.csv")
    first = [entry.key for entry in found.entries()]
    (folder / "cat.png").unlink()
    assert [entry.key for entry in found.entries()] == first


def test_a_picture_that_can_be_fitted_is_no_problem(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    row = {"first_frame_image": "small.png", "fit": True, "key": "a"}
    assert told(read_lines(folder, row)) == []
    monkeypatch.setitem(sys.modules, "PIL", None)
    words = "(small.png) found no Pillow; needs Pillow to be fitted: pip install pillow"
    assert told(read_lines(folder, row)) == [f"jobs.jsonl, line 1: first_frame_image: {words}"]


def test_a_bracket_that_is_no_camera_command_is_a_note_and_the_job_is_there(folder: Path) -> None:
    found = read_lines(folder, {**GOOD, "key": "a", "prompt": "[Push inn] A cat"})
    words = "[Push inn] will be read as plain words: it is not one of the fifteen camera commands"
    assert (list(found.jobs), found.problems) == (["a"], ())
    assert found.notes == (Problem("in/jobs.jsonl, line 1", "prompt", words),)


# --- A folder ---


def test_a_folder_is_a_job_for_each_picture_by_its_name(folder: Path) -> None:
    (folder / "dog.png").rename(folder / "Cat.png")
    (folder / "small.png").unlink()
    (folder / "notes.txt").touch()
    found = read_list(folder)
    assert found == Listed(
        {name: ImageToVideo(folder / f"{name}.png", key=name) for name in ("Cat", "cat")},
        {name: f"in/{name}.png" for name in ("Cat", "cat")},
        (),
        ("Left out of in: 1 other file",),
    )


def test_what_is_wrong_in_a_folder_is_told_by_file(folder: Path) -> None:
    assert told(read_list(folder)) == ["small.png: found 300 x 300 px; short side must be over 300 px"]


def test_of_two_pictures_of_one_name_the_second_has_its_ending_in_its_key(folder: Path) -> None:
    for name in ("cat", "cat.jpg", "cat.PNG"):
        (folder / name).write_bytes((folder / "dog.png").read_bytes())
    (folder / "small.png").unlink()
    found = read_list(folder)
    pictures = {key: job.frames["first_frame_image"] for key, job in found.jobs.items()}
    names = {"cat": "cat", "cat-PNG": "cat.PNG", "cat-jpg": "cat.jpg", "cat-png": "cat.png", "dog": "dog.png"}
    assert (pictures, found.problems) == ({key: folder / name for key, name in names.items()}, ())


def test_the_options_are_of_every_picture_and_each_can_have_takes(folder: Path) -> None:
    (folder / "small.png").unlink()
    options = ReadOptions(defaults={"prompt": "[Push in] {name}", "duration": 10}, takes=2)
    assert read_list(folder, options).jobs == {
        f"{name}{take}": ImageToVideo(folder / f"{name}.png", f"[Push in] {name}", duration=10, key=f"{name}{take}")
        for name in ("cat", "dog")
        for take in ("", "-take-2")
    }


@pytest.mark.parametrize("model", ["hailuo-02-fl2v", "minimax/hailuo-02-fl2v", "/api/v1/minimax/hailuo-02-fl2v/async"])
def test_for_a_model_of_last_frames_the_pictures_are_those_however_it_is_named(folder: Path, model: str) -> None:
    (folder / "small.png").unlink()
    found = read_list(folder, ReadOptions(defaults={"model": model}))
    assert [type(job) for job in found.jobs.values()] == [FirstLastFrameToVideo] * 2
    assert found.problems == ()


def test_all_that_is_left_out_of_a_folder_is_counted_and_can_be_had(folder: Path) -> None:
    (folder / "small.png").unlink()
    (folder / "sub").mkdir()
    Image.new("RGB", (320, 320)).save(folder / "sub" / "bird.png")
    for name in ("a.heic", "b.gif", "c.tiff", "d.GIF", ".hidden", "notes.txt"):
        (folder / name).touch()
    os.mkfifo(folder / "pipe.png")
    (note,) = read_list(folder).notes
    assert note == (
        "Left out of in: 2 GIF, 1 HEIC, 1 TIFF (--fit makes pictures of them that the service takes), "
        "1 folder (--recursive goes into them), 1 hidden, 2 other files"
    )
    assert list(read_list(folder, ReadOptions(is_recursive=True)).jobs) == ["cat", "dog", "sub-bird"]
    Image.new("RGB", (320, 320)).save(folder / "b.gif")
    fitted = read_list(folder, ReadOptions(defaults={"fit": True}))
    assert list(fitted.jobs) == ["b", "cat", "dog"]
    assert [problem.where for problem in fitted.problems] == ["in/a.heic", "in/c.tiff", "in/d.GIF"]


def test_a_long_name_makes_a_key_that_can_be(folder: Path) -> None:
    (folder / "cat.png").rename(folder / ("x" * 250 + ".png"))
    assert "x" * 200 in read_list(folder).jobs


def test_a_folder_without_pictures_is_a_problem(tmp_path: Path) -> None:
    words = "holds no JPEG, PNG or WebP picture"
    assert read_list(tmp_path) == Listed({}, {}, (Problem(str(tmp_path), None, words, is_whole=True),))
