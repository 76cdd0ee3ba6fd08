"""Encodes a PIL image as the bytes of a file. Pillow is imported in the functions, once a caller needs it.

The functions work on a picture that no other thread uses (``exclusive``), and leave the caller's own unchanged.
"""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Any

from hailuo_async._images.content import Label
from hailuo_async._images.headers import exif_orientation
from hailuo_async._images.limits import MAX_CMYK_PROFILE_BYTES, MAX_PROFILE_BYTES
from hailuo_async.errors import ImageError

if TYPE_CHECKING:
    from PIL.Image import Image

_EXIF_ORIENTATION = 0x0112
_JPEG_QUALITY = 95

#: Modes that PNG has.
_PNG_MODES = frozenset({"1", "L", "LA", "P", "RGB", "RGBA", "I;16"})
#: The steps from any other mode to one of these; RGB for modes that are not listed (YCbCr, LAB, HSV, RGBX). ``I`` and
#: ``F`` have no range of their own: they count as 16-bit and 8-bit values, as in Pillow itself.
_CONVERSIONS = {
    "La": ("LA",),
    "PA": ("RGBA",),
    "RGBa": ("RGBA",),
    "I": ("I;16",),
    "I;16L": ("I", "I;16"),
    "I;16B": ("I", "I;16"),
    "I;16N": ("I", "I;16"),
    "F": ("L",),
}
#: The modes in which one colour may stand for transparency. For a palette, Pillow itself makes alpha of it.
_KEYED_MODES = frozenset({"1", "L", "I;16", "RGB"})
#: The colour space that a profile must have for each mode, as in bytes 16 to 20 of a profile.
_SPACES = {"1": b"GRAY", "L": b"GRAY", "LA": b"GRAY", "I;16": b"GRAY", "P": b"RGB ", "RGB": b"RGB ", "RGBA": b"RGB "}


class FullError(Exception):
    """The file has reached its limit."""


class _Bounded(io.BytesIO):
    """A buffer of less than ``limit`` bytes, so that a picture that is too large is never held whole."""

    def __init__(self, limit: int) -> None:
        super().__init__()
        self._limit = limit

    def write(self, data: Any) -> int:
        if self.tell() + len(data) >= self._limit:
            raise FullError
        return super().write(data)


def encoded(label: Label, image: Image, limit: int) -> bytes:
    """``image`` as a PNG, or as a JPEG if the PNG has ``limit`` bytes or more. Decodes and encodes: it takes long.

    Raises `ImageError` if the JPEG is too large as well, or Pillow cannot read or write the picture.
    """
    try:
        bits = bits_of(image)
        lossless = scaled_key(for_png(without_cmyk(turned(image, orientation_of(image)))[0]), bits)
        try:
            return saved(lossless, limit, "PNG")
        except FullError:
            return saved(opaque(lossless), limit, "JPEG", quality=_JPEG_QUALITY)
    except FullError as error:
        raise label.error(f"{limit} bytes or more, even as a JPEG", f"must be under {limit} bytes") from error
    except Exception as error:  # Pillow passes on its decoders' exceptions: OSError, SyntaxError, struct.error, …
        raise unusable(label, error) from error


def unusable(label: Label, error: Exception) -> ImageError:
    """The `ImageError` for an exception of Pillow's."""
    return label.error(f"{type(error).__name__}: {error}", "must be a picture that Pillow can read and write")


def saved(image: Image, limit: int, format_name: str, **options: Any) -> bytes:
    """``image`` as a file, with its colour profile and no other metadata. `FullError` at ``limit`` bytes."""
    buffer = _Bounded(limit)
    profile = image.info.get("icc_profile")
    if profile and (len(profile) > MAX_PROFILE_BYTES or _is_of_other_space(profile, image.mode)):
        profile = None
    image.save(buffer, format_name, icc_profile=profile, **options)
    return buffer.getvalue()


def _is_of_other_space(profile: bytes, mode: str) -> bool:
    """Whether the profile is for other colours than the mode's: readers refuse such a file, or show wrong colours."""
    space = profile[16:20]
    return space in (b"GRAY", b"RGB ", b"CMYK") and space != _SPACES.get(mode)


def orientation_of(image: Image) -> int:
    """The EXIF orientation of ``image``. Decodes it: some formats are turned, and say so, only then.

    Pillow also believes XMP and ImageMagick's text. ``headers`` ignores those in a file, so they are ignored here too.
    """
    image.load()
    found = image.getexif().get(_EXIF_ORIENTATION, 1)
    is_hearsay = any(name in image.info for name in ("xmp", "XML:com.adobe.xmp", "Raw profile type exif"))
    if is_hearsay and exif_orientation(image.info.get("exif") or b"") is None:
        return 1
    return found if isinstance(found, int) else 1


def turned(image: Image, orientation: int) -> Image:
    """``image`` turned by its EXIF orientation; itself, not a copy, if it is upright."""
    from PIL.Image import Transpose

    turns = {
        2: Transpose.FLIP_LEFT_RIGHT,
        3: Transpose.ROTATE_180,
        4: Transpose.FLIP_TOP_BOTTOM,
        5: Transpose.TRANSPOSE,
        6: Transpose.ROTATE_270,
        7: Transpose.TRANSVERSE,
        8: Transpose.ROTATE_90,
    }
    return image.transpose(turns[orientation]) if orientation in turns else image


def without_cmyk(image: Image) -> tuple[Image, str | None]:
    """``image`` in RGB if it was in CMYK, and the change as a text. By its profile, or by Pillow's plain formula."""
    if image.mode != "CMYK":
        return image, None
    profile = image.info.get("icc_profile") or b""
    if profile[16:20] == b"CMYK" and len(profile) <= MAX_CMYK_PROFILE_BYTES:
        converted = _by_profile(image, profile)
        if converted is not None:
            return converted, "colours converted from CMYK to RGB by its profile"
    converted = image.convert("RGB")
    converted.info.pop("icc_profile", None)
    return converted, "colours converted from CMYK to RGB"


def _by_profile(image: Image, profile: bytes) -> Image | None:
    """``image`` in sRGB, which readers assume for a picture without a profile. ``None`` for a damaged profile."""
    from PIL import ImageCms

    try:
        source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        converted = ImageCms.profileToProfile(image, source, ImageCms.createProfile("sRGB"), outputMode="RGB")
    except (ImageCms.PyCMSError, OSError, ImportError):  # ImportError: this Pillow was built without littlecms
        return None
    if converted is not None:
        converted.info.pop("icc_profile", None)
    return converted


def for_png(image: Image) -> Image:
    """``image`` in a mode that PNG has; itself if its own is one."""
    if image.mode in _PNG_MODES:
        return image
    for mode in _CONVERSIONS.get(image.mode, ("RGB",)):
        image = image.convert(mode)
    image.info.pop("icc_profile", None)  # it was for the old mode's colours
    return image


def bits_of(image: Image) -> int:
    """Bits a channel in the PNG that ``image`` was opened from, as far as Pillow knows. Call it before decoding."""
    for tile in getattr(image, "tile", ()):
        raw = tile[3] if isinstance(tile[3], str) else ""
        return {"L;2": 2, "L;4": 4, "RGB;16B": 16}.get(raw, 8)
    return 8


def is_keyed(image: Image) -> bool:
    """Whether one colour of ``image`` stands for transparency, and alpha can be made of it."""
    return image.mode in _KEYED_MODES and "transparency" in image.info


def scaled_key(image: Image, bits: int) -> Image:
    """``image`` with its transparent colour scaled like its pixels; the file had ``bits`` a channel.

    Pillow scales the pixels to 8 bits, but not that colour: it would match no pixel, or a wrong one.
    """
    if bits == 8 or not is_keyed(image) or image.mode not in ("L", "RGB"):
        return image
    key = image.info["transparency"]
    image = image.copy()
    if isinstance(key, tuple):  # 16 bits: Pillow keeps the high byte alone, so the nearest colours match as well
        image.info["transparency"] = tuple(value >> 8 for value in key)
    else:
        image.info["transparency"] = key * 255 // (2**bits - 1)
    return image


def eight_bit(image: Image) -> Image:
    """``image``, of a mode that PNG has, as L, LA, RGB or RGBA, which can be scaled; itself if it is one."""
    if is_keyed(image):
        return _with_alpha(image)
    if image.mode == "I;16":
        return _without_low_bytes(image)
    if image.has_transparency_data and image.mode != "LA":
        return image if image.mode == "RGBA" else image.convert("RGBA")
    mode = {"1": "L", "P": "RGB"}.get(image.mode, image.mode)
    return image if mode == image.mode else image.convert(mode)


def _with_alpha(image: Image) -> Image:
    """Alpha in place of the colour that stands for transparency. Grey stays grey, as its profile wants it."""
    from PIL import Image as images

    if image.mode == "RGB":
        return image.convert("RGBA")
    key = image.info["transparency"]
    if image.mode == "I;16":
        grey, mask = _without_low_bytes(image), image.convert("I").point(_all_but(key, 2**16), "L")
    else:
        grey = image.convert("L")
        mask = grey.point(_all_but(key * 255 if image.mode == "1" else key, 2**8))
    merged = images.merge("LA", (grey, mask))
    merged.info = {name: value for name, value in image.info.items() if name != "transparency"}
    return merged


def _all_but(key: int, count: int) -> list[int]:
    table = [255] * count
    table[min(key, count - 1)] = 0
    return table


def opaque(image: Image) -> Image:
    """``image``, of a mode that PNG has, laid on white in its own colour space, as JPEG has no alpha."""
    from PIL import Image as images

    image = eight_bit(image)
    if image.mode in ("L", "RGB"):
        return image
    white = images.new("RGBA", image.size, "white")
    laid = images.alpha_composite(white, image.convert("RGBA")).convert("L" if image.mode == "LA" else "RGB")
    laid.info = dict(image.info)  # with the profile: the colours are still of its space
    return laid


def _without_low_bytes(image: Image) -> Image:
    """16 bits as 8. Pillow's own conversion clips where it should scale."""
    image = image.convert("I").point(lambda value: value / 256).convert("L")
    image.info.pop("transparency", None)  # it names a value of 16 bits
    return image
