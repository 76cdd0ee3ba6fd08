"""A picture that breaks a rule is made to obey it, and what was done is said."""

from __future__ import annotations

import base64
import hashlib
import io
import os
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from PIL import Image, ImageOps

from hailuo_async._images.fit import fit_image
from hailuo_async._images.frame import inspect_image
from hailuo_async._images.limits import MAX_FIT_BYTES, cropped_size, enlarged_size, reduced_size
from hailuo_async._images.source import ImageSource
from hailuo_async.errors import JobError
from hailuo_async.jobs import FirstLastFrameToVideo, ImageToVideo

from ..support.pictures import (
    FIELD,
    LABEL,
    assert_alike,
    content,
    fitted,
    mean,
    noise,
    opened,
    plain,
    refusal,
    rings,
    written,
)

# --- what obeys -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("format_name", ["JPEG", "PNG", "WEBP"])
def test_what_obeys_is_sent_byte_for_byte(format_name: str) -> None:
    data = written(plain(400, 301), format_name)
    frame = inspect_image(FIELD, data, fit=True, fingerprint=True)
    assert frame == inspect_image(FIELD, data, fingerprint=True)
    assert (content(frame), frame.changes) == (data, ())


def test_a_picture_of_pillows_that_obeys_is_sent_as_it_would_be() -> None:
    image = plain(400, 301, "I;16", 0x1234)
    assert inspect_image(FIELD, image, fit=True) == inspect_image(FIELD, image)


def test_a_url_passes_as_it_is() -> None:
    frame = inspect_image(FIELD, "https://example.com/a.gif", fit=True)
    assert (frame.url, frame.changes) == ("https://example.com/a.gif", ())


# --- shape ------------------------------------------------------------------------------------------------------------

_sides = st.integers(1, 2000) | st.integers(1, 10**9)


@given(_sides, _sides)
@example(300, 750)
@example(1, 1)
@example(1, 10**9)
@example(301, 752)
@example(301, 753)
def test_every_size_becomes_one_that_is_allowed(width: int, height: int) -> None:
    cropped = cropped_size(width, height)
    larger = enlarged_size(*cropped)
    smaller = reduced_size(*larger)
    assert enlarged_size(*larger) == cropped_size(*larger) == larger
    for size in (larger, smaller):
        short, long = sorted(size)
        assert short > 300
        assert 2 * long <= 5 * short
    assert reduced_size(301, 301 * 5 // 2) == (301, 752)


@given(_sides, _sides)
def test_a_crop_takes_no_pixel_more_than_it_must(width: int, height: int) -> None:
    cropped = cropped_size(width, height)
    long, short = max(cropped), min(cropped)
    assert min(cropped) == min(width, height)
    assert max(cropped) == max(width, height) or 2 * (long + 1) > 5 * short


@given(st.integers(2, 300), st.integers(2, 300))
def test_scaling_keeps_the_proportions(width: int, height: int) -> None:
    cropped = cropped_size(width, height)
    larger = enlarged_size(*cropped)
    assert min(larger) == 301
    exact = max(cropped) * 301 / min(cropped)
    assert exact - 1 <= max(larger) < exact + 1


@settings(max_examples=40)
@given(st.integers(1, 900), st.integers(1, 900), st.sampled_from(["PNG", "JPEG", "WEBP", "GIF", "BMP"]))
@example(1, 900, "PNG")
@example(300, 750, "JPEG")
def test_a_picture_of_any_size_is_fitted_and_keeps_its_colour(width: int, height: int, format_name: str) -> None:
    image, _ = fitted(written(plain(width, height, colour=(200, 100, 50)), format_name))
    assert (round(max(image.size)) <= 900, min(image.size) > 300) == (True, True)
    assert max(abs(a - b) for a, b in zip(mean(image.convert("RGB")), (200, 100, 50), strict=True)) <= 4


@pytest.mark.parametrize(
    ("size", "expected", "changes"),
    [
        ((200, 150), (402, 301), ["scaled from 200x150 to 402x301"]),
        ((300, 300), (301, 301), ["scaled from 300x300 to 301x301"]),
        ((300, 750), (301, 752), ["scaled from 300x750 to 301x752"]),
        ((3000, 500), (1250, 500), ["cropped from 3000x500 to 1250x500 (centre)"]),
        ((401, 1100), (401, 1002), ["cropped from 401x1100 to 401x1002 (centre)"]),
        ((100, 1000), (301, 752), ["cropped from 100x1000 to 100x250 (centre)", "scaled from 100x250 to 301x752"]),
    ],
)
def test_what_was_done_to_the_shape_is_said(
    size: tuple[int, int], expected: tuple[int, int], changes: list[str]
) -> None:
    data = written(plain(*size, "L"))
    image, said = fitted(data)
    assert (image.size, image.mode, image.format) == (expected, "L", "PNG")
    assert list(said) == [*changes, f"re-encoded as PNG from {len(data) / 1e3:.1f} kB to {sent_kb(data)} kB"]


def sent_kb(data: bytes) -> str:
    return f"{inspect_image(FIELD, data, fit=True).size / 1e3:.1f}"


@pytest.mark.parametrize("size", [(3000, 500), (500, 3000), (90, 700), (250, 250)])
@pytest.mark.parametrize("format_name", ["PNG", "JPEG", "WEBP"])
def test_the_centre_of_the_picture_is_kept(size: tuple[int, int], format_name: str) -> None:
    options = {"quality": 95} | ({"lossless": True} if format_name == "WEBP" else {})
    image, _ = fitted(written(rings(*size), format_name, **options))
    assert_alike(image, rings(*image.size))


def test_a_crop_alone_leaves_the_pixels_as_they_are() -> None:
    source = noise(1300, 400)
    image, _ = fitted(written(source))
    assert image.tobytes() == source.crop((150, 0, 1150, 400)).tobytes()


@pytest.mark.parametrize("orientation", range(10))
@pytest.mark.parametrize("format_name", ["PNG", "JPEG", "WEBP"])
def test_a_picture_that_is_encoded_anew_stands_upright(orientation: int, format_name: str) -> None:
    source = plain(500, 400, colour="white")
    source.paste("red", (0, 0, 250, 200))
    source.paste("blue", (250, 0, 500, 200))
    exif = Image.Exif()
    exif[0x0112] = orientation
    padding = b"Exif\0\0" if format_name == "JPEG" else b""
    data = written(source.resize((250, 200)), format_name, exif=padding + exif.tobytes()[6:])
    image, changes = fitted(data)
    with Image.open(io.BytesIO(data)) as seen:
        assert_alike(image, ImageOps.exif_transpose(seen).resize(image.size))
    assert image.getexif().get(0x0112) is None
    assert (changes[0] == "turned upright, as its EXIF says") is (2 <= orientation <= 8)


# --- formats ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [(400, 400), (90, 700)])
@pytest.mark.parametrize("format_name", ["GIF", "BMP"])
def test_a_format_that_the_service_does_not_take_becomes_a_png(format_name: str, size: tuple[int, int]) -> None:
    data = written(rings(*size), format_name)
    image, changes = fitted(data)
    assert image.format == "PNG"
    assert_alike(image, rings(*image.size))
    assert changes[-1] == f"converted from {format_name} to PNG"


@pytest.mark.parametrize(("format_name", "name"), [("GIF", "GIF"), ("WEBP", "WebP")])
def test_of_a_picture_that_moves_the_first_is_taken(format_name: str, name: str) -> None:
    later = [plain(400, 400, colour=colour) for colour in ("green", "blue")]
    data = written(rings(400, 400), format_name, save_all=True, append_images=later, quality=95)
    image, changes = fitted(data)
    assert_alike(image, rings(400, 400))
    assert changes == (f"animated {name}: first picture only", f"converted from {name} to PNG")


@pytest.mark.parametrize("place", ["file", "data URL", "bytes"])
def test_a_picture_is_fitted_wherever_it_is(place: str, tmp_path: Path) -> None:
    data = written(plain(200, 150), "JPEG")
    path = tmp_path / "small.jpg"
    path.write_bytes(data)
    url = "data:image/png;base64," + base64.b64encode(data).decode()
    sources: dict[str, ImageSource] = {"file": path, "data URL": url, "bytes": data}
    frame = inspect_image(FIELD, sources[place], fit=True, fingerprint=True)
    path.unlink()
    assert opened(content(frame)).size == (402, 301)
    assert frame.name == {"file": "small.jpg"}.get(place, place)
    assert frame.fingerprint == hashlib.sha256(data).hexdigest()


def test_a_picture_of_pillows_is_fitted_and_left_as_it_is() -> None:
    source = rings(200, 150)
    before = source.tobytes()
    frame = inspect_image(FIELD, source, fit=True, fingerprint=True)
    data = content(frame)
    assert (frame.name, frame.changes) == ("PIL image", ("scaled from 200x150 to 402x301",))
    assert_alike(opened(data), rings(402, 301))
    assert frame.fingerprint == hashlib.sha256(data).hexdigest()
    assert (source.size, source.tobytes()) == ((200, 150), before)


def test_a_picture_of_pillows_that_lies_is_turned_and_a_deep_one_made_shallow() -> None:
    source = plain(200, 150, "I;16", 0x8000)
    source.getexif()[0x0112] = 6
    frame = inspect_image(FIELD, source, fit=True)
    assert frame.changes == (
        "turned upright, as its EXIF says",
        "16 bits a channel reduced to 8",
        "scaled from 150x200 to 301x402",
    )
    assert mean(opened(content(frame))) == [128]


def test_a_picture_of_pillows_that_is_too_large_becomes_a_jpeg() -> None:
    result = fit_image(LABEL, noise(400, 500), 100_000)
    image = opened(result.data)
    assert (image.format, image.size) == ("JPEG", (400, 500))
    assert result.changes[0].startswith("re-encoded as JPEG quality ")
    error = refusal(lambda: fit_image(LABEL, noise(400, 500), 1000))
    assert error.rule == "must be under 1000 bytes"


# --- what cannot be fitted --------------------------------------------------------------------------------------------


def test_a_picture_that_pillow_cannot_read_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "cut.png"
    path.write_bytes(written(noise(200, 200)))
    os.truncate(path, 50_000)
    with Image.open(path) as image:
        error = refusal(lambda: inspect_image(FIELD, image, fit=True))
    assert error.rule == "must be a picture that Pillow can read and write"


def test_a_file_that_is_too_large_to_be_read_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "large.jpg"
    path.touch()
    os.truncate(path, MAX_FIT_BYTES + 1)
    error = refusal(lambda: inspect_image(FIELD, path, fit=True))
    assert (error.value, error.rule) == ("100000001 bytes", "must have at most 100000000 bytes to be fitted")


def test_a_file_that_is_not_there_is_refused_as_ever(tmp_path: Path) -> None:
    error = refusal(lambda: inspect_image(FIELD, tmp_path / "none.jpg", fit=True))
    assert error.rule == "must be a file that can be read"
    assert error.__context__ is None or isinstance(error.__context__, OSError)


def test_without_pillow_what_obeys_still_passes_and_the_rest_is_told_what_is_missing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    good, small = written(plain(400, 400)), written(plain(200, 200))
    monkeypatch.setitem(sys.modules, "PIL", None)
    assert inspect_image(FIELD, good, fit=True).changes == ()
    error = refusal(lambda: inspect_image(FIELD, small, fit=True))
    assert (error.value, error.rule) == ("no Pillow", "needs Pillow to be fitted: pip install pillow")


def test_pillows_own_bounds_do_not_warn(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 30_000)
    sources = [written(plain(200, 200), name) for name in ("JPEG", "PNG", "WEBP", "BMP", "GIF")]
    sizes = [(frame.width, frame.height) for frame in (inspect_image(FIELD, data, fit=True) for data in sources)]
    assert sizes == [(301, 301)] * 5


def test_many_threads_may_fit_at_once() -> None:
    sources = [written(rings(90 + index, 200), name) for index in range(8) for name in ("JPEG", "PNG", "GIF")]
    alone = [inspect_image(FIELD, data, fit=True) for data in sources]
    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(lambda data: inspect_image(FIELD, data, fit=True), sources))
    assert together == alone


# --- jobs -------------------------------------------------------------------------------------------------------------


def test_a_job_may_ask_for_it_and_the_service_hears_nothing_of_it() -> None:
    asked = ImageToVideo(b"picture", fit=True)
    both = FirstLastFrameToVideo(b"picture", first_frame_image=b"other", fit=True)
    assert (asked.fit, both.fit, ImageToVideo(b"picture").fit) == (True, True, False)
    assert asked.options == both.options == {}


@pytest.mark.parametrize("make", [ImageToVideo, FirstLastFrameToVideo])
def test_fit_is_true_or_false(make: Callable[..., object]) -> None:
    with pytest.raises(JobError) as caught:
        make(b"picture", fit="yes")
    assert (caught.value.field, caught.value.rule) == ("fit", "must be True or False")
