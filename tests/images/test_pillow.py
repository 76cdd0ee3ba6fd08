"""What is sent for a picture of Pillow's."""

from __future__ import annotations

import io
import itertools
import os
import struct
import zlib
from pathlib import Path

import pytest
from PIL import Image, ImageCms

from hailuo_async._images.frame import inspect_image
from hailuo_async._images.pillow import encoded, opaque
from hailuo_async.errors import ImageError

from ..support.pictures import FIELD, LABEL, content, noise, opened, png_chunk

#: Noise of 400 x 500 has more bytes than this as a PNG, and fewer as a JPEG.
BETWEEN = 400_000


def sent(image: Image.Image) -> Image.Image:
    return opened(content(inspect_image(FIELD, image)))


@pytest.mark.parametrize(
    ("mode", "expected"),
    [
        *((mode, mode) for mode in ("1", "L", "LA", "P", "RGB", "RGBA", "I;16")),
        *((mode, "RGB") for mode in ("CMYK", "YCbCr", "LAB", "HSV", "RGBX")),
        *((mode, "I;16") for mode in ("I", "I;16B", "I;16L", "I;16N")),
        *(("La", "LA"), ("PA", "RGBA"), ("RGBa", "RGBA"), ("F", "L")),
    ],
)
def test_a_picture_of_any_mode_is_sent_as_a_png(mode: str, expected: str) -> None:
    frame = inspect_image(FIELD, Image.new(mode, (400, 500)))
    assert (frame.name, frame.mime, frame.width, frame.height) == ("PIL image", "image/png", 400, 500)
    image = opened(content(frame))
    assert (image.mode, image.size) == (expected, (400, 500))


@pytest.mark.parametrize("mode", ["L", "LA", "RGB", "RGBA"])
def test_a_png_is_without_loss(mode: str) -> None:
    image = noise(400, 500, mode)
    assert sent(image).tobytes() == image.tobytes()


@pytest.mark.parametrize("mode", ["I", "I;16", "I;16B", "I;16L", "I;16N"])
def test_sixteen_bits_stay_sixteen_bits(mode: str) -> None:
    image = Image.new("I", (400, 500), 0x1234)
    assert sent(image if mode == "I" else image.convert(mode)).getpixel((7, 7)) == 0x1234


@pytest.mark.parametrize(("mode", "expected"), [("RGB", "RGB"), ("RGBA", "RGB")])
def test_a_png_that_is_too_large_becomes_a_jpeg(mode: str, expected: str) -> None:
    image = opened(encoded(LABEL, noise(400, 500, mode), BETWEEN))
    assert (image.format, image.mode, image.size) == ("JPEG", expected, (400, 500))


@pytest.mark.parametrize(
    ("image", "pixel"),
    [
        (Image.new("RGBA", (400, 500), (200, 0, 0, 0)), (255, 255, 255)),
        (Image.new("LA", (400, 500), (0, 0)), 255),
        (Image.new("RGBA", (400, 500), (0, 0, 0, 128)), (127, 127, 127)),
        (Image.new("P", (400, 500)), (0, 0, 0)),
        (Image.new("1", (400, 500), 1), 255),
        (Image.new("L", (400, 500), 77), 77),
        (Image.new("I;16", (400, 500), 0x8000), 0x80),
    ],
    ids=lambda value: value.mode if isinstance(value, Image.Image) else "",
)
def test_a_jpeg_has_the_colours_that_are_seen_on_white(image: Image.Image, pixel: object) -> None:
    flat = opaque(image)
    assert (flat.mode, flat.getpixel((200, 200))) == ("L" if isinstance(pixel, int) else "RGB", pixel)


def test_what_is_too_large_even_as_a_jpeg_is_refused() -> None:
    with pytest.raises(ImageError) as caught:
        encoded(LABEL, noise(400, 500), 10_000)
    assert (caught.value.value, caught.value.rule) == (
        "10000 bytes or more, even as a JPEG",
        "must be under 10000 bytes",
    )


@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_photo_is_sent_as_upright_as_its_file_would_be(orientation: int, tmp_path: Path) -> None:
    photo = Image.new("L", (400, 500))
    photo.paste(255, (0, 0, 100, 100))
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = tmp_path / "photo.jpg"
    photo.save(path, exif=exif)
    with Image.open(path) as image:
        frame = inspect_image(FIELD, image)
        lying = image.size
    seen = opened(content(frame))
    file = inspect_image(FIELD, path)
    assert (frame.width, frame.height) == (file.width, file.height) == seen.size
    assert seen.size == (lying if orientation < 5 else lying[::-1])
    assert seen.getexif().get(0x0112, 1) == 1


def test_a_colour_profile_stays_with_the_colours_it_is_for() -> None:
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    pictures = {mode: Image.new(mode, (400, 500)) for mode in ("RGB", "CMYK")}
    for image in pictures.values():
        image.info["icc_profile"] = profile
    kept = {mode: sent(image).info.get("icc_profile") for mode, image in pictures.items()}
    assert kept == {"RGB": profile, "CMYK": None}
    assert pictures["CMYK"].info["icc_profile"] == profile  # the caller's own is left as it was


def test_the_rules_of_the_service_hold_before_a_pixel_is_decoded() -> None:
    header = struct.pack(">IIBBBBB", 17000, 16000, 8, 2, 0, 0, 0)
    chunks = [(b"IHDR", header), (b"IDAT", zlib.compress(bytes(1000))), (b"IEND", b"")]
    data = b"\x89PNG\r\n\x1a\n" + b"".join(itertools.starmap(png_chunk, chunks))
    limit, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None
    try:
        image = Image.open(io.BytesIO(data))
    finally:
        Image.MAX_IMAGE_PIXELS = limit
    with pytest.raises(ImageError, match="must have at most"):
        inspect_image(FIELD, image)
    with pytest.raises(ImageError, match="short side"):
        inspect_image(FIELD, Image.new("RGB", (300, 400)))


def test_a_picture_that_pillow_cannot_read_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "cut.png"
    noise(400, 500).save(path)
    os.truncate(path, 50_000)
    with Image.open(path) as image, pytest.raises(ImageError) as caught:
        inspect_image(FIELD, image)
    assert caught.value.rule == "must be a picture that Pillow can read and write"
