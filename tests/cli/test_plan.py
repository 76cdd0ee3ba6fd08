"""How the demo plans: from a folder of pictures, or from what it draws itself, to jobs and their files."""

from __future__ import annotations

from pathlib import Path

import pytest

from hailuo_async._cli.demo import build_plan, choose_targets
from hailuo_async._cli.demo_pictures import draw_pictures
from hailuo_async._cli.jobfile.folder import find_pictures
from hailuo_async.jobs import FirstLastFrameToVideo, ImageToVideo


def pictures_in(folder: Path) -> dict[str, Path]:
    return {path.name: path for path in find_pictures(folder).found.values()}


def test_a_plan_has_a_video_for_each_picture_and_one_from_the_first_to_the_second(pictures: Path) -> None:
    plan = build_plan(pictures_in(pictures))
    cat, dog = pictures / "Cat.JPG", pictures / "dog"
    push, turn = "[Push in] The scene slowly comes to life", "The first scene turns into the second"
    assert plan.jobs == {
        "Cat": ImageToVideo(cat, prompt=push, key="Cat"),
        "dog": ImageToVideo(dog, prompt=push, key="dog"),
        "Cat-to-dog": FirstLastFrameToVideo(dog, first_frame_image=cat, prompt=turn, key="Cat-to-dog"),
    }
    assert plan.unusable == {}


def test_a_plan_of_one_picture_has_no_video_between_two(pictures: Path) -> None:
    assert list(build_plan({"a.png": pictures / "dog"}).jobs) == ["a"]


def test_a_plan_of_no_pictures_is_empty_however_many_jobs_are_asked_for() -> None:
    assert build_plan({}, 5).jobs == {}


def test_more_jobs_than_pictures_use_them_again_under_keys_of_their_own(pictures: Path) -> None:
    plan = build_plan(pictures_in(pictures), 7)
    assert list(plan.jobs) == ["Cat", "dog", "Cat-to-dog", "Cat-2", "dog-2", "Cat-to-dog-2", "Cat-3"]
    assert [job.key for job in plan.jobs.values()] == list(plan.jobs)


def test_fewer_jobs_than_pictures_are_the_first_of_them(pictures: Path) -> None:
    assert list(build_plan(pictures_in(pictures), 1).jobs) == ["Cat"]


def test_pictures_that_differ_only_in_their_ending_get_keys_of_their_own(pictures: Path) -> None:
    dog = pictures / "dog"
    assert list(build_plan({"a.jpg": dog, "a.png": dog}).jobs) == ["a", "a-2", "a-to-a"]


def test_a_name_of_any_length_and_letters_makes_a_key_and_a_file_that_can_be(pictures: Path, tmp_path: Path) -> None:
    dog = pictures / "dog"
    jobs = build_plan({"画" * 84 + ".png": dog, "line\nend.png": dog}).jobs
    assert list(jobs) == ["画" * 30, "line_end", "画" * 30 + "-to-line_end"]
    longest = build_plan({"x" * 250 + ".png": dog, "y" * 250 + ".png": dog}).jobs
    for target in choose_targets(longest, tmp_path).values():
        target.with_name(target.name + ".part").touch()


def test_a_target_is_never_a_file_that_exists_nor_another_jobs(tmp_path: Path) -> None:
    for name in ("a.mp4", "a-2.mp4", "b"):
        (tmp_path / name).touch()
    keys = ["a", "b", "a-3"]
    targets = {"a": tmp_path / "a-3.mp4", "b": tmp_path / "b.mp4", "a-3": tmp_path / "a-3-2.mp4"}
    assert choose_targets(keys, tmp_path) == targets


@pytest.mark.slow
def test_the_pictures_that_are_drawn_are_always_the_same_and_good_for_the_service() -> None:
    drawn = draw_pictures()
    assert draw_pictures() == drawn
    assert list(build_plan(drawn).jobs) == ["dawn", "sea", "night", "dunes", "dawn-to-sea"]
