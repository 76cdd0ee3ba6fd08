"""Both kinds of job: every field, default, range and rule across fields of the seeds, and of the other models."""

from __future__ import annotations

import copy
import inspect
import pickle
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import attrs
import pytest
from PIL import Image

from hailuo_async import FirstLastFrameToVideo, ImageError, ImageToVideo, Job, JobError, UnknownCommandWarning
from hailuo_async.contract import CAMERA_COMMANDS
from hailuo_async.jobs import check_job
from hailuo_async.models import MODELS

START = "https://example.com/start-frame.jpg"
PICTURE = Image.new("RGB", (1, 1))
LAST = "https://example.com/last-frame.jpg"
FIRST = "https://example.com/first-frame.jpg"


def image_to_video(**options: Any) -> ImageToVideo:
    return ImageToVideo(START, **options)


def first_last(**options: Any) -> FirstLastFrameToVideo:
    return FirstLastFrameToVideo(LAST, **options)


def read(job: Job) -> dict[str, object]:
    """What every argument of the job reads as."""
    return {field.alias: getattr(job, field.alias) for field in attrs.fields(type(job))}


both = pytest.mark.parametrize("make", [image_to_video, first_last])
Make = Callable[..., Job]


def problem(make: Callable[[], object]) -> tuple[str, object, str]:
    """The field, value and rule of the error that ``make`` meets."""
    with pytest.raises(JobError) as caught:
        make()
    return caught.value.field, caught.value.value, caught.value.rule


# --- Defaults and shape ---------------------------------------------------------------------------------------------


def test_an_image_alone_makes_a_job_with_the_first_seeds_defaults() -> None:
    job = ImageToVideo(START)
    assert read(job) == {
        "first_frame_image": START,
        "prompt": None,
        "model": "hailuo-2.3-i2v",
        "duration": 6,
        "resolution": None,
        "prompt_optimizer": True,
        "fast_pretreatment": False,
        "key": None,
        "fit": False,
    }
    assert (job.frames, job.options) == ({"first_frame_image": START}, {})
    assert job.target is MODELS["hailuo-2.3-i2v"]


def test_a_last_frame_alone_makes_a_job_with_the_second_seeds_defaults() -> None:
    job = FirstLastFrameToVideo(LAST)
    assert read(job) == {
        "last_frame_image": LAST,
        "first_frame_image": None,
        "prompt": None,
        "model": "hailuo-02-fl2v",
        "duration": 6,
        "resolution": None,
        "prompt_optimizer": True,
        "key": None,
        "fit": False,
    }
    assert (job.frames, job.options) == ({"last_frame_image": LAST}, {})
    assert job.target is MODELS["hailuo-02-fl2v"]


def test_the_signatures_are_the_fixed_ones() -> None:
    assert str(inspect.signature(ImageToVideo.__init__)).translate({ord("'"): None, ord('"'): None}) == (
        "(self, first_frame_image: ImageSource, prompt: str | None = None, *, duration: Literal[6, 10] = 6, "
        "resolution: Literal[512P, 720P, 768P, 1080P] | None = None, prompt_optimizer: bool = True, "
        "key: str | None = None, fit: bool = False, model: str = hailuo-2.3-i2v, "
        "fast_pretreatment: bool = False) -> None"
    )
    assert str(inspect.signature(FirstLastFrameToVideo.__init__)).translate({ord("'"): None, ord('"'): None}) == (
        "(self, last_frame_image: ImageSource, first_frame_image: ImageSource | None = None, "
        "prompt: str | None = None, *, duration: Literal[6, 10] = 6, "
        "resolution: Literal[512P, 720P, 768P, 1080P] | None = None, prompt_optimizer: bool = True, "
        "key: str | None = None, fit: bool = False, model: str = hailuo-02-fl2v) -> None"
    )


def test_a_job_needs_its_image() -> None:
    with pytest.raises(TypeError, match="first_frame_image"):
        ImageToVideo()  # type: ignore[call-arg]
    with pytest.raises(TypeError, match="last_frame_image"):
        FirstLastFrameToVideo(first_frame_image=FIRST)  # type: ignore[call-arg]


def test_there_is_no_fast_pretreatment_between_two_frames() -> None:
    with pytest.raises(TypeError, match="fast_pretreatment"):
        FirstLastFrameToVideo(LAST, fast_pretreatment=True)  # type: ignore[call-arg]


def test_an_image_and_a_prompt_may_be_given_by_position() -> None:
    assert ImageToVideo(START, "hello") == ImageToVideo(first_frame_image=START, prompt="hello")


@pytest.mark.parametrize(
    ("more", "names"), [((FIRST,), "first_frame_image="), ((FIRST, "hi"), "first_frame_image= and prompt=")]
)
def test_a_second_image_by_position_is_taken_with_a_warning_at_the_callers_line(more: Any, names: str) -> None:
    with pytest.warns(DeprecationWarning, match=f"FirstLastFrameToVideo takes {names} by name") as caught:
        job = FirstLastFrameToVideo(LAST, *more)
    assert [warning.filename for warning in caught] == [__file__]
    assert job == FirstLastFrameToVideo(LAST, **dict(zip(("first_frame_image", "prompt"), more, strict=False)))
    assert job.frames == {"last_frame_image": LAST, "first_frame_image": FIRST}


@both
def test_a_job_is_a_value(make: Make) -> None:
    job = make(prompt="hello", duration=10)
    assert job == make(prompt="hello", duration=10)
    assert hash(job) == hash(make(prompt="hello", duration=10))
    assert job != make(prompt="hello", duration=6)
    with pytest.raises(attrs.exceptions.FrozenInstanceError):
        job.duration = 6  # type: ignore[misc]


@both
@pytest.mark.parametrize("duplicate", [copy.copy, copy.deepcopy, lambda job: pickle.loads(pickle.dumps(job))])
def test_a_copy_is_the_same_job_and_says_the_same(make: Make, duplicate: Callable[[Job], Job]) -> None:
    job = make(duration=6, prompt_optimizer=True)
    twin = duplicate(job)
    assert (twin, twin.options) == (job, {"duration": 6, "prompt_optimizer": True})


def test_a_job_made_from_another_is_checked_too() -> None:
    job = attrs.evolve(ImageToVideo(START, duration=10), key="mine")
    assert (job.duration, job.key) == (10, "mine")
    assert problem(lambda: attrs.evolve(job, resolution="1080P"))[0] == "resolution"


@both
def test_what_was_not_set_stays_unset_in_a_job_made_from_another(make: Make) -> None:
    job = make(model="/api/v1/minimax/new/async")
    other = attrs.evolve(job, key="b")
    assert (other.options, other.duration, other.prompt_optimizer) == ({}, 6, True)
    assert attrs.evolve(other, key=None) == job
    assert attrs.evolve(job, duration=6, prompt="hello").options == {"prompt": "hello", "duration": 6}
    assert attrs.evolve(make(prompt_optimizer=True), key="b").options == {"prompt_optimizer": True}


@both
@pytest.mark.parametrize("duplicate", [copy.copy, copy.deepcopy, lambda job: pickle.loads(pickle.dumps(job))])
def test_what_was_not_set_stays_unset_in_a_copy(make: Make, duplicate: Callable[[Job], Job]) -> None:
    twin = duplicate(make(key="b"))
    assert (twin, twin.options, twin.duration, hash(twin)) == (make(key="b"), {}, 6, hash(make(key="b")))


def test_the_documented_default_is_the_same_job_set_or_not() -> None:
    said = ImageToVideo(START, duration=6, prompt_optimizer=True, fast_pretreatment=False)
    assert said == ImageToVideo(START)
    assert hash(said) == hash(ImageToVideo(START))
    assert said.options != ImageToVideo(START).options


def test_a_repr_shows_what_was_set_as_it_would_be_written() -> None:
    assert repr(ImageToVideo(START)) == f"ImageToVideo(first_frame_image={START!r})"
    job = FirstLastFrameToVideo(LAST, prompt="hi", duration=6, resolution="768P", key="a", fit=True)
    assert repr(job) == (
        "FirstLastFrameToVideo(duration=6, resolution='768P', key='a', fit=True, "
        f"last_frame_image={LAST!r}, prompt='hi')"
    )


def test_a_repr_is_short_and_shows_no_signature() -> None:
    assert "secret" not in repr(ImageToVideo("https://bucket.example/a.jpg?X-Amz-Signature=secret"))
    assert "secret" not in repr(
        FirstLastFrameToVideo(LAST, first_frame_image="https://bucket.example/a.jpg?sig=secret")
    )
    assert "https://bucket.example/a.jpg" in repr(ImageToVideo("https://bucket.example/a.jpg?sig=secret"))
    assert len(repr(ImageToVideo(b"\xff" * 10_000_000))) < 700
    assert len(repr(ImageToVideo("data:image/png;base64," + "A" * 10_000_000))) < 700


def test_either_kind_of_job_is_one_and_nothing_else_is() -> None:
    assert check_job(ImageToVideo(START)) == ImageToVideo(START)
    assert check_job(FirstLastFrameToVideo(LAST)) == FirstLastFrameToVideo(LAST)
    rule = "must be an ImageToVideo or a FirstLastFrameToVideo"
    assert problem(lambda: check_job({"first_frame_image": START})) == ("job", {"first_frame_image": START}, rule)


# --- Images ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "image",
    [
        START,
        "http://example.com/a",
        "data:image/png;base64,AAAA",
        Path("cat.jpg"),
        b"\xff\xd8",
        Image.new("RGB", (1, 1)),
    ],
    ids=lambda image: type(image).__name__,
)
def test_an_image_may_be_of_any_of_the_five_kinds_and_is_not_looked_into(image: Any) -> None:
    assert ImageToVideo(image).frames == {"first_frame_image": image}
    both_frames = FirstLastFrameToVideo(image, first_frame_image=image).frames
    assert both_frames == {"last_frame_image": image, "first_frame_image": image}


@pytest.mark.parametrize("image", ["", "cat.jpg", "file:///etc/passwd", "ftp://example.com/a.jpg", b"", None, 5])
def test_what_cannot_be_an_image_is_refused_by_the_field_that_it_is_for(image: Any) -> None:
    makes: list[tuple[str, Callable[[], object]]] = [
        ("first_frame_image", lambda: ImageToVideo(image)),
        ("last_frame_image", lambda: FirstLastFrameToVideo(image)),
        ("last_frame_image", lambda: FirstLastFrameToVideo(image, first_frame_image=FIRST)),
    ]
    if image is not None:
        makes.append(("first_frame_image", lambda: FirstLastFrameToVideo(LAST, first_frame_image=image)))
    for field, make in makes:
        with pytest.raises(ImageError) as caught:
            make()
        assert caught.value.field == field


def test_a_str_is_never_a_files_name_and_says_how_to_give_one() -> None:
    assert "pathlib.Path" in problem(lambda: ImageToVideo("cat.jpg"))[2]


# --- Fields ---------------------------------------------------------------------------------------------------------


@both
def test_a_prompt_has_1_to_2000_characters(make: Make) -> None:
    rule = "must be a str of 1 to 2000 characters, or None"
    assert make(prompt="x").options == {"prompt": "x"}
    assert make(prompt="夕" * 2000).prompt == "夕" * 2000
    assert problem(lambda: make(prompt="")) == ("prompt", "0 characters", rule)
    assert problem(lambda: make(prompt="x" * 2001)) == ("prompt", "2001 characters", rule)
    assert problem(lambda: make(prompt=b"x")) == ("prompt", b"x", rule)
    assert problem(lambda: make(prompt=5)) == ("prompt", 5, rule)


@both
def test_a_prompt_is_text(make: Make) -> None:
    rule = "must hold no lone surrogates: they are not text"
    assert problem(lambda: make(prompt="\ud800")) == ("prompt", "\ud800", rule)
    assert problem(lambda: make(prompt="a\0b")) == ("prompt", "a\0b", "must hold no NUL characters: they are not text")
    assert make(prompt="\U0001f600\n").prompt == "\U0001f600\n"


@both
@pytest.mark.parametrize("duration", [0, -6, 6.0, "6", None, True, 10**400])
def test_a_duration_is_a_whole_number_that_the_model_has(make: Make, duration: object) -> None:
    field, value, _ = problem(lambda: make(duration=duration))
    assert (field, value) == ("duration", duration)


def test_a_duration_of_a_model_that_is_not_in_the_table_can_be_sent() -> None:
    path = "/api/v1/minimax/hailuo-3-i2v/async"
    assert image_to_video(model=path, duration=86_400).duration == 86_400
    field, _, rule = problem(lambda: image_to_video(model=path, duration=10**5000))
    assert (field, rule) == ("duration", "must be a whole number of seconds")


@both
@pytest.mark.parametrize("resolution", ["", "768p", 768, True, b"768P", "4K"])
def test_a_resolution_is_one_that_the_model_has(make: Make, resolution: object) -> None:
    field, value, _ = problem(lambda: make(resolution=resolution))
    assert (field, value) == ("resolution", resolution)


#: What each model can make, by duration.
CAN_MAKE = {
    "hailuo-2.3-i2v": {6: {"768P", "1080P"}, 10: {"768P"}},
    "hailuo-02-fl2v": {6: {"768P", "1080P"}, 10: {"768P"}},
    "hailuo-2.3-fast-i2v": {6: {"768P", "1080P"}, 10: {"768P"}},
    "hailuo-02-i2v": {6: {"512P", "768P", "1080P"}, 10: {"768P"}},
    "minimax-i2v-01": {6: {"720P"}},
    "minimax-i2v-01-live": {6: {"720P"}},
    "minimax-i2v-01-director": {6: {"720P"}},
}


@pytest.mark.parametrize("model", CAN_MAKE)
@pytest.mark.parametrize("duration", [5, 6, 8, 10])
@pytest.mark.parametrize("resolution", [None, "512P", "720P", "768P", "1080P"])
def test_each_model_makes_the_sizes_that_it_can_and_no_others(
    model: str, duration: int, resolution: str | None
) -> None:
    make: Make = first_last if model == "hailuo-02-fl2v" else image_to_video
    sizes = CAN_MAKE[model].get(duration)
    if sizes is None:
        choices = " or ".join(str(known) for known in CAN_MAKE[model])
        found = problem(lambda: make(model=model, duration=duration, resolution=resolution))
        assert found == ("duration", duration, f"must be {choices} seconds for {model}")
    elif resolution is not None and resolution not in sizes:
        found = problem(lambda: make(model=model, duration=duration, resolution=resolution))
        assert found[:2] == ("resolution", resolution)
        assert all(choice in found[2] for choice in sizes)
    else:
        said = {"duration": duration} if resolution is None else {"duration": duration, "resolution": resolution}
        assert make(model=model, duration=duration, resolution=resolution).options == said


def test_what_a_model_that_nobody_knows_can_make_is_left_to_the_service() -> None:
    path = "/api/v1/minimax/hailuo-9/async"
    beyond: dict[str, Any] = {"duration": 20, "resolution": "8K"}  # not of the types, which are for the known models
    job = ImageToVideo(START, model=path, fast_pretreatment=True, **beyond)
    assert job.options == {"duration": 20, "resolution": "8K", "fast_pretreatment": True}
    assert FirstLastFrameToVideo(LAST, model=path).target.takes_last_frame
    assert problem(lambda: image_to_video(model=path, duration=0))[0] == "duration"


@both
@pytest.mark.parametrize("flag", [None, 0, 1, "true"])
def test_a_flag_is_true_or_false(make: Make, flag: Any) -> None:
    assert problem(lambda: make(prompt_optimizer=flag)) == ("prompt_optimizer", flag, "must be True or False")
    assert problem(lambda: make(fit=flag)) == ("fit", flag, "must be True or False")
    found = problem(lambda: ImageToVideo(START, fast_pretreatment=flag))
    assert found == ("fast_pretreatment", flag, "must be True or False")


@pytest.mark.parametrize("model", [slug for slug in CAN_MAKE if slug != "hailuo-02-fl2v"])
def test_fast_pretreatment_is_for_the_models_that_have_it(model: str) -> None:
    if model in ("hailuo-2.3-i2v", "hailuo-2.3-fast-i2v"):
        assert ImageToVideo(START, model=model, fast_pretreatment=True).options == {"fast_pretreatment": True}
    else:
        found = problem(lambda: ImageToVideo(START, model=model, fast_pretreatment=True))
        assert found == ("fast_pretreatment", True, f"must be left out for {model}, which has no such option")


def test_fast_pretreatment_works_only_with_the_prompt_optimizer() -> None:
    assert ImageToVideo(START, prompt_optimizer=True, fast_pretreatment=True).fast_pretreatment
    assert not ImageToVideo(START, prompt_optimizer=False, fast_pretreatment=False).fast_pretreatment
    found = problem(lambda: ImageToVideo(START, prompt_optimizer=False, fast_pretreatment=True))
    assert found == ("fast_pretreatment", True, "needs prompt_optimizer=True")


@both
@pytest.mark.parametrize("key", ["", "x" * 201, "a\nb", "a\x00", "a\x7f", "a\x85", "a\u2028b", "a\u2029", 5, b"a"])
def test_a_key_is_short_and_has_no_control_characters_or_line_breaks(make: Make, key: object) -> None:
    rule = "must be 1 to 200 characters, without control characters or line breaks, or None"
    assert problem(lambda: make(key=key)) == ("key", key, rule)


@both
def test_a_key_from_a_file_name_in_another_encoding_is_refused_by_what_is_wrong_with_it(make: Make) -> None:
    name = b"caf\xe9".decode(errors="surrogateescape")
    assert problem(lambda: make(key=name)) == ("key", name, "must hold no lone surrogates: they are not text")


@both
def test_a_key_may_be_any_name(make: Make) -> None:
    screenshot, persian = "Screenshot 2026-04-15 at 1.01.11\u202fPM", "mi\u200cxaham"
    family = "family \U0001f468\u200d\U0001f469\u200d\U0001f467"
    for key in ("x" * 200, "order 7/ä", "..", screenshot, persian, family, "a\xa0b", "\U0001f600" * 200, None):
        assert make(key=key).key == key


@both
def test_a_model_of_the_other_kind_is_refused(make: Make) -> None:
    other = "hailuo-2.3-i2v" if make is first_last else "hailuo-02-fl2v"
    field, value, rule = problem(lambda: make(model=other))
    assert (field, value) == ("model", other)
    assert "the other kind" in rule


# --- Camera commands ------------------------------------------------------------------------------------------------


def warned(make: Callable[[], object]) -> list[str]:
    """The words of every warning that ``make`` gives."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        make()
    assert all(warning.category is UnknownCommandWarning for warning in caught)
    return [str(warning.message) for warning in caught]


@both
@pytest.mark.parametrize(
    "prompt",
    [
        "no command at all",
        "A bird takes off from the branch [Pedestal up], then flies away [Tracking shot]",
        "[Pan left,Pedestal up] together",
        "[ pan LEFT , pedestal up ] in any case",
        "".join(f"[{command}]" for command in CAMERA_COMMANDS),
        "] not a bracket [",
    ],
)
def test_known_commands_pass_in_silence(make: Make, prompt: str) -> None:
    assert warned(lambda: make(prompt=prompt)) == []


@both
def test_each_unknown_command_is_warned_of_and_nothing_fails(make: Make) -> None:
    why = "will be read as plain words: it is not one of the fifteen camera commands"
    prompt = "[Fly up] a cat [Pan left, Spin] and [[Zoom in] more]"
    assert warned(lambda: make(prompt=prompt)) == [f"[Fly up] {why}", f"[Spin] {why}"]
    with pytest.warns(UnknownCommandWarning):
        assert make(prompt=prompt).options == {"prompt": prompt}


@pytest.mark.parametrize("model", ["minimax-i2v-01", "minimax-i2v-01-live"])
def test_a_model_without_commands_warns_of_each(model: str) -> None:
    words = f"[Pan left] will be read as plain words: {model} has no camera commands"
    assert warned(lambda: ImageToVideo(START, "[Pan left]", model=model)) == [words]


def test_the_director_and_models_that_nobody_knows_have_commands() -> None:
    assert warned(lambda: ImageToVideo(START, "[Pan left]", model="minimax-i2v-01-director")) == []
    assert warned(lambda: ImageToVideo(START, "[Pan left]", model="/api/v1/minimax/hailuo-9")) == []


@both
def test_a_warning_names_the_line_that_made_the_job(make: Make) -> None:
    kind, image = (ImageToVideo, START) if make is image_to_video else (FirstLastFrameToVideo, LAST)
    _, first_line = inspect.getsourcelines(test_a_warning_names_the_line_that_made_the_job)
    with pytest.warns(UnknownCommandWarning) as caught:
        kind(image, prompt="[Fly up]")  # the sixth line, counted from the decorator
    assert [(warning.filename, warning.lineno) for warning in caught] == [(__file__, first_line + 5)]


@both
def test_a_warning_names_the_line_that_made_a_job_from_another(make: Make) -> None:
    job = make()
    with pytest.warns(UnknownCommandWarning) as caught:
        attrs.evolve(job, prompt="[Fly up]")
    assert [warning.filename for warning in caught] == [__file__]
