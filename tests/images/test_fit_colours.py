"""What is seen stays what is seen, in a file and in the same as a PIL image: transparency, profiles, CMYK, turns."""

from __future__ import annotations

import io
import itertools
import struct
import zlib
from typing import Any

import pytest
from PIL import Image, ImageCms

from hailuo_async._images.fit import fit_file, fit_image
from hailuo_async._images.frame import inspect_image

from ..support.pictures import FIELD, LABEL, content, fitted, mean, noise, opened, plain, png_chunk, written

PROFILE = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()


def keyed_png(depth: int, colour: int, pixels: tuple[int, int], key: bytes, side: int = 400) -> bytes:
    """A PNG whose left half has the first value in every channel, and the right half the second."""
    channels = 3 if colour == 2 else 1
    bits = "".join(format(value, f"0{depth}b") * channels * (side // 2) for value in pixels)
    row = b"\0" + int(bits, 2).to_bytes(len(bits) // 8, "big")
    header = struct.pack(">IIBBBBB", side, side, depth, colour, 0, 0, 0)
    chunks = ((b"IHDR", header), (b"tRNS", key), (b"IDAT", zlib.compress(row * side)), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(itertools.starmap(png_chunk, chunks))


KEYED = {
    "1 bit": (keyed_png(1, 0, (1, 0), b"\0\1"), 255, 0),
    "2 bits": (keyed_png(2, 0, (1, 2), b"\0\1"), 85, 170),
    "4 bits": (keyed_png(4, 0, (3, 12), b"\0\3"), 51, 204),
    "8 bits": (keyed_png(8, 0, (7, 200), b"\0\7"), 7, 200),
    "16 bits": (keyed_png(16, 0, (0x1234, 0x1235), b"\x12\x34"), 0x12, 0x12),
    "16 bits of colour": (keyed_png(16, 2, (0x1234, 0x5678), b"\x12\x34" * 3), (0x12,) * 3, (0x56,) * 3),
    "8 bits of colour": (keyed_png(8, 2, (7, 200), b"\0\7" * 3), (7,) * 3, (200,) * 3),
}


def alphas(image: Image.Image) -> list[tuple[object, object]]:
    """The colour and the alpha in both halves."""
    alpha = image.convert("RGBA").getchannel("A")
    flat = image.convert(image.mode.removesuffix("A")) if image.mode != "P" else image
    return [(flat.getpixel(at), alpha.getpixel(at)) for at in ((50, 50), (image.width - 50, 50))]


@pytest.mark.parametrize(("data", "left", "right"), KEYED.values(), ids=KEYED)
def test_a_colour_that_stands_for_transparency_is_transparent_at_every_depth(
    data: bytes, left: object, right: object
) -> None:
    as_file = fit_file(LABEL, data)
    with Image.open(io.BytesIO(data)) as image:
        as_picture = fit_image(LABEL, image)
    for result in (as_file, as_picture):
        assert alphas(opened(result.data)) == [(left, 0), (right, 255)]
        assert "transparent colour turned into alpha" in result.changes


@pytest.mark.parametrize(("data", "left", "right"), KEYED.values(), ids=KEYED)
def test_a_picture_of_pillows_keeps_it_without_being_fitted(data: bytes, left: object, right: object) -> None:
    with Image.open(io.BytesIO(data)) as image:
        sent = opened(content(inspect_image(FIELD, image)))
    found = sent.convert("I").getpixel((50, 50)) if sent.mode == "I;16" else None
    if found is None:
        assert [alpha for _, alpha in alphas(sent)] == [0, 255]
    else:
        assert (found, sent.info["transparency"]) == (0x1234, 0x1234)


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


# --- profiles ---------------------------------------------------------------------------------------------------------


def profile_of(space: bytes, pcs: bytes, kind: bytes, tags: dict[bytes, bytes]) -> bytes:
    table, data, offset = b"", b"", 128 + 4 + 12 * len(tags)
    for name, body in tags.items():
        padded = body + b"\0" * (-len(body) % 4)
        table += name + struct.pack(">II", offset + len(data), len(padded))
        data += padded
    head = struct.pack(">I4sI4s4s4s12s4s", offset + len(data), b"", 0x02100000, kind, space, pcs, b"", b"acsp")
    head += bytes(28) + struct.pack(">3i", 63190, 65536, 54061)
    return head.ljust(128, b"\0") + struct.pack(">I", len(tags)) + table + data


def xyz(*values: float) -> bytes:
    return b"XYZ \0\0\0\0" + struct.pack(">3i", *(round(value * 65536) for value in values))


CURVE = b"curv\0\0\0\0" + struct.pack(">IH", 1, round(2.2 * 256))
WORDS = {b"desc": b"desc\0\0\0\0" + struct.pack(">I", 2) + b"x\0" + bytes(81), b"cprt": b"text\0\0\0\0none\0"}
WHITE = {b"wtpt": xyz(0.9642, 1.0, 0.8249)}
WIDE = profile_of(
    b"RGB ",
    b"XYZ ",
    b"mntr",
    WORDS
    | WHITE
    | {
        b"rXYZ": xyz(0.5151, 0.2412, -0.0011),
        b"gXYZ": xyz(0.2919, 0.6922, 0.0419),
        b"bXYZ": xyz(0.1572, 0.0666, 0.7841),
    }
    | {b"rTRC": CURVE, b"gTRC": CURVE, b"bTRC": CURVE},
)
GREY = profile_of(b"GRAY", b"XYZ ", b"mntr", WORDS | WHITE | {b"kTRC": CURVE})
#: A press on which all inks but black give a middle grey.
LUT = b"mft1\0\0\0\0\4\3\2\0" + struct.pack(">9i", *(65536 * (index % 4 == 0) for index in range(9)))
LUT += bytes(range(256)) * 4 + b"\x80\x80\x80\0\x80\x80" * 8 + bytes(range(256)) * 3
PRESS = profile_of(b"CMYK", b"Lab ", b"prtr", WORDS | WHITE | {b"A2B0": LUT})


def seen(image: Image.Image) -> Any:
    """The colour in the middle, as a reader shows it that heeds profiles."""
    icc = image.info.get("icc_profile")
    image = image.convert("RGB")
    if icc:
        source = ImageCms.ImageCmsProfile(io.BytesIO(icc))
        image = ImageCms.profileToProfile(image, source, ImageCms.createProfile("sRGB")) or image
    return image.getpixel((image.width // 2, image.height // 2))


@pytest.mark.parametrize("mode", ["RGB", "RGBA"])
def test_a_picture_that_becomes_a_jpeg_keeps_its_profile_and_its_colours(mode: str) -> None:
    source = plain(3500, 1400, mode, (200, 120, 60, 255)[: len(mode)])
    data = written(source, icc_profile=WIDE)
    image, changes = fitted(data + bytes(20_000_000))
    assert image.format == "JPEG"
    assert image.info["icc_profile"] == WIDE
    assert max(abs(a - b) for a, b in zip(seen(image), seen(opened(data)), strict=True)) <= 2
    assert ("alpha laid on white" in changes) is (mode == "RGBA")


def test_grey_with_alpha_stays_grey_under_its_profile() -> None:
    source = noise(400, 400, "LA")
    for image in (
        opened(fit_file(LABEL, written(source, icc_profile=GREY), 100_000).data),
        opened(fit_file(LABEL, written(plain(200, 200, "LA"), icc_profile=GREY)).data),
    ):
        assert image.mode.startswith("L")
        assert image.info["icc_profile"] == GREY


def test_a_profile_of_other_colours_than_the_pictures_goes() -> None:
    assert "icc_profile" not in fitted(written(plain(200, 200, "L"), icc_profile=WIDE))[0].info


@pytest.mark.parametrize("format_name", ["JPEG", "TIFF"])
def test_cmyk_becomes_what_its_profile_says(format_name: str) -> None:
    data = written(plain(200, 200, "CMYK", (255, 0, 0, 0)), format_name, icc_profile=PRESS)
    with Image.open(io.BytesIO(data)) as picture:
        results = [fit_file(LABEL, data), fit_image(LABEL, picture)]
    for result in results:
        image = opened(result.data)
        assert max(abs(value - 119) for value in seen(image)) <= 3
        assert image.info.get("icc_profile") is None
        assert result.changes[0] == "colours converted from CMYK to RGB by its profile"


@pytest.mark.parametrize("profile", [b"", PRESS[:200], bytes(16) + b"CMYK" + bytes(200)])
def test_cmyk_with_a_damaged_profile_or_none_is_converted_plainly(profile: bytes) -> None:
    result = fit_file(LABEL, written(plain(200, 200, "CMYK", (0, 255, 255, 0)), "TIFF", icc_profile=profile or None))
    assert (seen(opened(result.data)), result.changes[0]) == ((255, 0, 0), "colours converted from CMYK to RGB")


def test_a_picture_of_pillows_in_cmyk_goes_through_its_profile_without_being_fitted() -> None:
    image = plain(400, 400, "CMYK", (255, 0, 0, 0))
    image.info["icc_profile"] = PRESS
    assert max(abs(value - 119) for value in seen(opened(content(inspect_image(FIELD, image))))) <= 3


# --- turns ------------------------------------------------------------------------------------------------------------

XMP = b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:Description tiff:Orientation="6"/></x:xmpmeta>'


def lying(format_name: str, kind: int = 3) -> bytes:
    """Red above blue, 250 x 200, to be turned."""
    image = plain(250, 200, colour="blue")
    image.paste("red", (0, 0, 250, 100))
    code = {3: "Hxx", 4: "I"}[kind]
    exif = b"MM\0*\0\0\0\x08\0\1" + struct.pack(f">HHI{code}", 0x0112, kind, 1, 6) + bytes(4)
    options = {"lossless": True} if format_name == "WEBP" else {"quality": 95} if format_name == "JPEG" else {}
    return written(image, format_name, exif=exif if format_name == "PNG" else b"Exif\0\0" + exif, **options)


@pytest.mark.parametrize("format_name", ["JPEG", "PNG", "WEBP", "AVIF"])
@pytest.mark.parametrize("kind", [3, 4])
def test_a_file_and_the_same_file_as_a_picture_of_pillows_are_turned_alike(format_name: str, kind: int) -> None:
    data = lying(format_name, kind)
    with Image.open(io.BytesIO(data)) as image:
        results = [fit_file(LABEL, data), fit_image(LABEL, image)]
    pictures = [opened(result.data) for result in results]
    assert [picture.size for picture in pictures] == [(301, 377)] * 2
    for picture in pictures:
        left, right = (picture.convert("RGB").getpixel(at) for at in ((20, 200), (280, 200)))
        assert isinstance(left, tuple)
        assert isinstance(right, tuple)
        assert left[2] > 200
        assert right[0] > 200
    assert all(result.changes[0] == "turned upright, as its EXIF says" for result in results)


@pytest.mark.parametrize("format_name", ["JPEG", "PNG", "WEBP"])
def test_the_sides_of_a_file_are_those_of_the_picture_of_pillows(format_name: str) -> None:
    data = lying(format_name)
    large = written(opened(data).resize((500, 400)), format_name, exif=opened(data).getexif())
    with Image.open(io.BytesIO(large)) as image:
        frames = [inspect_image(FIELD, large), inspect_image(FIELD, image)]
    assert [(frame.width, frame.height) for frame in frames] == [(400, 500)] * 2


@pytest.mark.parametrize("format_name", ["JPEG", "PNG", "WEBP"])
def test_an_orientation_in_xmp_alone_is_heeded_in_neither(format_name: str) -> None:
    from PIL import PngImagePlugin

    text = PngImagePlugin.PngInfo()
    text.add_itxt("XML:com.adobe.xmp", XMP.decode())
    options = {"pnginfo": text} if format_name == "PNG" else {"xmp": XMP}
    data = written(plain(500, 400), format_name, **options)
    with Image.open(io.BytesIO(data)) as image:
        assert image.getexif().get(0x0112) == 6
        frames = [inspect_image(FIELD, data), inspect_image(FIELD, image)]
    assert [(frame.width, frame.height) for frame in frames] == [(500, 400)] * 2
