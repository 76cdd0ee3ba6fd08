"""The colours of a picture that was fitted, and its bytes."""

from __future__ import annotations

import pytest
from PIL import Image, ImageCms

from hailuo_async._images.fit import Fitted, fit_file
from hailuo_async._images.frame import inspect_image
from hailuo_async.contract import IMAGE_UNDER_BYTES

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

PROFILE = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()


# --- colours ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("source", "mode", "colour"),
    [
        (plain(200, 200, "1", 1), "L", [255]),
        (plain(200, 200, "L", 77), "L", [77]),
        (plain(200, 200, "LA", (77, 50)), "LA", [77, 50]),
        (plain(200, 200, "RGBA", (9, 99, 200, 50)), "RGBA", [9, 99, 200, 50]),
        (plain(200, 200, "RGB", (9, 99, 200)).quantize(), "RGB", [9, 99, 200]),
        (plain(200, 200, "I;16", 0x8000), "L", [128]),
    ],
    ids=lambda value: value.mode if isinstance(value, Image.Image) else "",
)
def test_a_png_keeps_its_colours_and_its_alpha(source: Image.Image, mode: str, colour: list[int]) -> None:
    image, changes = fitted(written(source))
    assert (image.format, image.mode) == ("PNG", mode)
    assert max(abs(a - b) for a, b in zip(mean(image), colour, strict=True)) <= 3
    assert ("16 bits a channel reduced to 8" in changes) is (source.mode == "I;16")


def test_a_colour_of_a_palette_that_is_transparent_becomes_alpha() -> None:
    image, _ = fitted(written(plain(200, 200, "P"), transparency=b"\x00"))
    assert (mean(image), image.info.get("transparency")) == ([0] * 4, None)


def test_cmyk_with_a_profile_of_other_colours_becomes_rgb_without_it() -> None:
    data = written(plain(200, 200, "CMYK", (255, 0, 0, 0)), "JPEG", icc_profile=PROFILE, quality=95)
    image, changes = fitted(data)
    assert (image.mode, image.info.get("icc_profile")) == ("RGB", None)
    assert max(abs(a - b) for a, b in zip(mean(image), (0, 255, 255), strict=True)) <= 3
    assert changes[0] == "colours converted from CMYK to RGB"


@pytest.mark.parametrize("format_name", ["JPEG", "PNG", "WEBP"])
def test_a_profile_stays_and_all_other_metadata_goes(format_name: str) -> None:
    exif = Image.Exif()
    exif[0x010E] = "taken at home"
    comment = {"comment": b"taken at home"} if format_name == "JPEG" else {}
    data = written(plain(200, 200), format_name, icc_profile=PROFILE, exif=exif, **comment)
    assert b"taken at home" in data
    sent = content(inspect_image(FIELD, data, fit=True))
    assert opened(sent).info["icc_profile"] == PROFILE
    assert b"taken at home" not in sent


def test_a_profile_that_is_larger_than_any_honest_one_goes() -> None:
    image = plain(200, 200)
    image.info["icc_profile"] = bytes(2**20 + 1)
    assert opened(content(inspect_image(FIELD, image, fit=True))).info.get("icc_profile") is None


# --- size in bytes ----------------------------------------------------------------------------------------------------


def test_a_jpeg_of_too_many_bytes_is_encoded_anew() -> None:
    data = written(rings(400, 400), "JPEG") + bytes(IMAGE_UNDER_BYTES)
    image, changes = fitted(data)
    assert_alike(image, rings(400, 400))
    (change,) = changes
    assert change.startswith("re-encoded as JPEG quality 95 from 20.0 MB to ")
    assert change.endswith(" kB")


def test_a_png_of_too_many_bytes_is_written_anew_without_loss() -> None:
    source = noise(400, 400)
    data = written(source)
    end = data.index(b"IEND") - 4
    text = IMAGE_UNDER_BYTES.to_bytes(4, "big") + b"tEXt" + bytes(IMAGE_UNDER_BYTES) + b"none"
    image, changes = fitted(data[:end] + text + data[end:])
    assert image.tobytes() == source.tobytes()
    assert changes[0].startswith("re-encoded as PNG from 20.5 MB to ")


def qualities(limit: int) -> Fitted:
    return fit_file(LABEL, written(noise(400, 500), "JPEG", quality=100), limit)


def test_quality_steps_down_first_and_then_size() -> None:
    steps = {limit: qualities(limit).changes for limit in (10**6, 200_000, 90_000, 70_000)}
    last = {limit: changes[-1].partition(" from ")[0] for limit, changes in steps.items()}
    numbers = [int(words.rpartition(" ")[2]) for words in last.values()]
    assert numbers[0] == 95
    assert 60 <= numbers[1] < 95
    assert steps[10**6][:-1] == steps[200_000][:-1] == ()
    assert steps[70_000][0] == "scaled from 400x500 to 301x377"
    assert all(len(qualities(limit).data) < limit for limit in steps)


def test_what_cannot_be_made_small_enough_is_refused() -> None:
    error = refusal(lambda: qualities(1000))
    assert (error.value, error.rule) == ("1000 bytes or more, as small as it may be", "must be under 1000 bytes")


def test_a_png_that_does_not_fit_becomes_a_jpeg_on_white() -> None:
    source = noise(400, 500, "RGBA")
    source.putalpha(0)
    result = fit_file(LABEL, written(source), 100_000)
    image = opened(result.data)
    assert (image.format, mean(image)) == ("JPEG", [255, 255, 255])
    assert result.changes[0] == "alpha laid on white"
    assert result.changes[1].startswith("re-encoded as JPEG quality 95 from ")


def test_a_large_picture_without_loss_becomes_a_jpeg() -> None:
    image, changes = fitted(written(rings(6000, 1500)))
    assert (image.format, image.size) == ("JPEG", (3750, 1500))
    assert_alike(image, rings(3750, 1500))
    assert changes[0] == "cropped from 6000x1500 to 3750x1500 (centre)"
    assert changes[1].startswith("re-encoded as JPEG quality 95 from ")
