"""TIFF, AVIF and HEIC: refused with the way out, and read with ``fit=True`` where Pillow can."""

from __future__ import annotations

import io
import struct
import sys
import types
from typing import Any

import pytest
from PIL import Image

from hailuo_async._images.content import Label
from hailuo_async._images.fit import fit_file
from hailuo_async._images.frame import inspect_image
from hailuo_async._images.tiff import strip_tiff
from hailuo_async.errors import ImageError

from ..support.pictures import FIELD, LABEL, assert_alike, fitted, noise, plain, refusal, rings, written

HEIC = b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(500)


@pytest.mark.parametrize(
    ("data", "name"),
    [
        (written(plain(400, 400), "TIFF"), "a TIFF"),
        (written(plain(400, 400), "AVIF"), "an AVIF"),
        (HEIC, "a HEIC"),
        (written(plain(400, 400), "GIF"), "a GIF"),
    ],
)
def test_a_format_that_the_service_does_not_take_is_refused_with_the_way_out(data: bytes, name: str) -> None:
    error = refusal(lambda: inspect_image(FIELD, data))
    assert error.value == name
    assert str(error).endswith("; fit=True makes it obey, with Pillow")
    assert "fit" not in error.rule  # which the visitors of a web application read, too


@pytest.mark.parametrize("compression", ["raw", "tiff_lzw", "tiff_adobe_deflate", "packbits", "jpeg", "lzma", "zstd"])
@pytest.mark.parametrize("size", [(400, 400), (90, 200)])
def test_a_tiff_becomes_a_png(compression: str, size: tuple[int, int]) -> None:
    image, changes = fitted(written(rings(*size), "TIFF", compression=compression))
    assert image.format == "PNG"
    assert_alike(image, rings(*image.size))
    assert changes[-1] == "converted from TIFF to PNG"


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "I;16", "I", "F", "CMYK", "YCbCr"])
def test_a_tiff_of_any_mode_is_read(mode: str) -> None:
    data = written(plain(400, 400, mode), "TIFF")
    image, changes = fitted(data)
    with Image.open(io.BytesIO(data)) as seen:
        assert image.convert("RGB").getpixel((9, 9)) == seen.convert("L" if mode[0] in "IF" else "RGB").convert(
            "RGB"
        ).getpixel((9, 9))
    assert ("16 bits a channel reduced to 8" in changes) is (mode == "I;16")


def test_of_a_tiff_with_several_pictures_the_first_is_taken() -> None:
    data = written(rings(400, 400), "TIFF", save_all=True, append_images=[plain(400, 400, colour="green")])
    image, changes = fitted(data)
    assert_alike(image, rings(400, 400))
    assert changes[0] == "TIFF of several pictures: first picture only"


def test_a_tiff_that_lies_is_turned() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    image, changes = fitted(written(rings(500, 400), "TIFF", exif=exif))
    assert (image.size, changes[0]) == ((400, 500), "turned upright, as its EXIF says")


@pytest.mark.slow
def test_an_avif_becomes_a_png_and_of_one_that_moves_the_first_picture_is_taken() -> None:
    image, changes = fitted(written(rings(400, 400), "AVIF", quality=95))
    assert_alike(image, rings(400, 400))
    assert changes == ("converted from AVIF to PNG",)
    moving = written(rings(400, 400), "AVIF", quality=95, save_all=True, append_images=[plain(400, 400)])
    image, changes = fitted(moving)
    assert_alike(image, rings(400, 400))
    assert changes[0] == "animated AVIF: first picture only"


# --- HEIC -------------------------------------------------------------------------------------------------------------


def test_without_its_plugin_a_heic_is_refused_with_what_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    error = refusal(lambda: inspect_image(FIELD, HEIC, fit=True))
    assert (error.value, error.rule) == ("a HEIC", "needs pillow-heif to be fitted: pip install pillow-heif")


def test_with_its_plugin_a_heic_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    def read(file: io.BytesIO) -> Image.Image:
        assert file.getvalue() == HEIC
        return rings(200, 200)

    plugin: Any = types.ModuleType("pillow_heif")
    plugin.HeifImageFile = read
    monkeypatch.setitem(sys.modules, "pillow_heif", plugin)
    image, changes = fitted(HEIC)
    assert_alike(image, rings(301, 301))
    assert changes == ("scaled from 200x200 to 301x301", "converted from HEIC to PNG")


# --- hostile TIFF -----------------------------------------------------------------------------------------------------


def tiff(*entries: tuple[int, int, int, int], order: str = "<", following: int = 0) -> bytes:
    """A TIFF of nothing but a directory: tag, type, count and value of each entry."""
    head = (b"II*\0" if order == "<" else b"MM\0*") + struct.pack(f"{order}IH", 8, len(entries))
    rows = (struct.pack(f"{order}HHII", *entry) for entry in entries)
    return head + b"".join(rows) + struct.pack(f"{order}I", following)


SIDES = ((256, 4, 1, 400), (257, 4, 1, 300))

HOSTILE = {
    "cut short in its directory": (tiff(*SIDES)[:30], "the end, at byte 30"),
    "with a directory past its end": (b"II*\0\xff\xff\xff\xff", "the end, at byte 8"),
    "with a value past its end": (tiff(*SIDES, (273, 4, 2**30, 8)), "the end, at byte"),
    "of two widths": (tiff((256, 4, 2, 8), SIDES[1]), "whose tag 256 has 2 values of type 4"),
    "of an unknown type": (tiff((256, 99, 1, 8), SIDES[1]), "whose tag 256 has 1 values of type 99"),
    "of no size": (tiff((273, 4, 1, 8)), "a TIFF of 0 x 0 px"),
    "of too many pixels": (tiff((256, 4, 1, 2**31), SIDES[1]), "2147483648 x 300 px"),
    "with a strip past its end": (tiff(*SIDES, (273, 4, 1, 8), (279, 4, 1, 99)), "with pixels up to byte 107"),
    "with strips of no size": (tiff(*SIDES, (273, 4, 1, 8), (279, 2, 1, 99)), "1 strips or tiles and 0 sizes"),
    "with tiles of gigabytes": (tiff(*SIDES, (322, 4, 1, 2**20), (323, 4, 1, 2**20)), "with tiles of 1099511627776 px"),
}


@pytest.mark.parametrize(("data", "value"), HOSTILE.values(), ids=HOSTILE)
def test_a_hostile_tiff_is_refused_before_pillow_reads_it(data: bytes, value: str) -> None:
    with pytest.raises(ImageError) as caught:
        strip_tiff(Label(FIELD, "bytes"), data)
    assert value in str(caught.value.value)


@pytest.mark.parametrize("order", ["<", ">"])
def test_of_a_directory_only_what_the_pixels_need_is_kept(order: str) -> None:
    named = (270, 2, 10_000_000, 2**31)  # a description that is not there
    found = strip_tiff(LABEL, tiff(*SIDES, named, (258, 4, 1, 16), order=order, following=99))
    (start,) = struct.unpack_from(f"{order}I", found.data, 4)
    assert found.data[start:] == tiff(*SIDES, (258, 4, 1, 16), order=order)[8:]
    assert (found.has_more, found.bits) == (True, 16)


def test_a_tiff_whose_pixels_are_damaged_is_refused() -> None:
    data = written(noise(400, 400), "TIFF", compression="tiff_lzw")
    with pytest.raises(ImageError):
        fit_file(LABEL, data[:2000] + bytes(100_000) + data[102_000:])
