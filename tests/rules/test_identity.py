"""By what a job is known again: everything that it asks, down to the bytes of its images, and nothing else."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import attrs
import pytest
from PIL import Image

from hailuo_async import FirstLastFrameToVideo, ImageToVideo, Job
from hailuo_async._images.frame import inspect_image
from hailuo_async._rules.identity import DuplicateNumbers, build_facts, build_fingerprint

URL = "https://example.com/a.jpg"
OTHER = "https://example.com/b.jpg"


def fingerprint(job: Job) -> str:
    frames = {field: inspect_image(field, source, fingerprint=True) for field, source in job.frames.items()}
    return build_fingerprint(job, frames)


def picture(colour: str) -> bytes:
    made = io.BytesIO()
    Image.new("RGB", (320, 320), colour).save(made, "PNG")
    return made.getvalue()


def test_the_facts_are_the_options_in_force() -> None:
    assert build_facts(ImageToVideo(URL)) == {
        "model": "hailuo-2.3-i2v",
        "duration": 6,
        "resolution": None,
        "prompt_optimizer": True,
        "fast_pretreatment": False,
    }
    assert build_facts(FirstLastFrameToVideo(URL, duration=10, resolution="768P", prompt_optimizer=False)) == {
        "model": "hailuo-02-fl2v",
        "duration": 10,
        "resolution": "768P",
        "prompt_optimizer": False,
        "fast_pretreatment": False,
    }


def test_a_fingerprint_stays_the_same_from_one_version_of_the_library_to_the_next() -> None:
    """A journal outlives the program that wrote it: what changes these pays again for what was paid."""
    first = "448b9fa6bfb7017ea5a526dfe9d2945dc0b190ac30494a4f00aa324d022b78a3"
    second = "8fb0082e01e2d0570655c805741c28ed6d0974cdc05450a70bbaccd1c93f0dbf"
    assert fingerprint(ImageToVideo(URL, "[Pan left] 夕日")) == first
    assert fingerprint(FirstLastFrameToVideo(URL, first_frame_image=OTHER)) == second


@pytest.mark.parametrize(
    "same",
    [
        ImageToVideo(URL, "a", duration=6),
        ImageToVideo(URL, prompt="a", prompt_optimizer=True),
        ImageToVideo(URL, "a", key="mine"),
        attrs.evolve(ImageToVideo(OTHER, "a"), first_frame_image=URL),
    ],
)
def test_how_a_job_was_written_and_its_name_make_no_difference(same: Job) -> None:
    assert fingerprint(same) == fingerprint(ImageToVideo(URL, "a"))


CHANGES: list[dict[str, Any]] = [
    {"prompt": None},
    {"prompt": "b"},
    {"duration": 10},
    {"resolution": "1080P"},
    {"prompt_optimizer": False},
    {"fast_pretreatment": True},
    {"model": "hailuo-2.3-fast-i2v"},
    {"first_frame_image": OTHER},
    {"first_frame_image": picture("teal")},
]


def test_whatever_a_job_asks_makes_a_difference() -> None:
    asked = {"first_frame_image": URL, "prompt": "a"}
    found = {fingerprint(ImageToVideo(**{**asked, **change})) for change in [{}, *CHANGES]}
    assert len(found) == 1 + len(CHANGES)


def test_it_matters_which_picture_is_first_and_which_is_last() -> None:
    jobs: list[Job] = [
        FirstLastFrameToVideo(URL),
        FirstLastFrameToVideo(URL, first_frame_image=OTHER),
        FirstLastFrameToVideo(OTHER, first_frame_image=URL),
        ImageToVideo(URL),
    ]
    assert len({fingerprint(job) for job in jobs}) == len(jobs)


def test_a_picture_is_known_by_its_bytes_wherever_it_lies(tmp_path: Path) -> None:
    first, second = tmp_path / "first.png", tmp_path / "second.png"
    first.write_bytes(picture("teal"))
    second.write_bytes(picture("teal"))
    known = {fingerprint(ImageToVideo(source)) for source in (first, second, picture("teal"))}
    assert len(known) == 1
    second.write_bytes(picture("red"))
    assert fingerprint(ImageToVideo(second)) not in known


# --- How often ------------------------------------------------------------------------------------------------------

SOME, ANOTHER = "0123456789abcdef" * 4, "fedcba9876543210" * 4


def test_jobs_that_ask_the_same_are_told_apart_by_how_many_came_before() -> None:
    asked = DuplicateNumbers()
    found = [asked.next_identity(fingerprint) for fingerprint in (SOME, SOME, ANOTHER, SOME)]
    assert found == [f"{SOME}#0", f"{SOME}#1", f"{ANOTHER}#0", f"{SOME}#2"]


def test_a_name_that_is_given_back_is_the_next_one_and_the_lowest_goes_first() -> None:
    asked = DuplicateNumbers()
    names = [asked.next_identity(SOME) for _ in range(4)]
    for name in (names[2], names[0], names[3]):
        asked.give_back(name)
    assert asked.next_identity(ANOTHER) == f"{ANOTHER}#0"
    assert [asked.next_identity(SOME) for _ in range(4)] == [names[0], names[2], names[3], f"{SOME}#4"]
