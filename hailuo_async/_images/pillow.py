"""A picture of Pillow's as the bytes of a file. Pillow is imported only here, and only once the caller has."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Any

from hailuo_async._images.content import Label
from hailuo_async._images.limits import MAX_PROFILE_BYTES
from hailuo_async.errors import ImageError

if TYPE_CHECKING:
    from PIL.Image import Image

_EXIF_ORIENTATION = 0x0112
_JPEG_QUALITY = 95

#: What PNG holds as it is.
_PNG_MODES = frozenset({"1", "L", "LA", "P", "RGB", "RGBA", "I;16"})
#: What the others become on the way there; RGB where nothing is said (CMYK, YCbCr, LAB, HSV, RGBX). ``I`` and ``F``
#: have no range of their own: they are taken to hold 16-bit and 8-bit values, as Pillow itself takes them.
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


class FullError(Exception):
    """More was written than fits."""


class _Bounded(io.BytesIO):
    """Takes less than ``limit`` bytes, so that a picture that does not fit is never held whole."""

    def __init__(self, limit: int) -> None:
        super().__init__()
        self._limit = limit

    def write(self, data: Any) -> int:
        if self.tell() + len(data) >= self._limit:
            raise FullError
        return super().write(data)


def encoded(label: Label, image: Image, limit: int) -> bytes:
    """``image`` as a PNG, or as a JPEG where the PNG has ``limit`` bytes or more. Decodes, encodes, and takes long.

    Raises `ImageError` if the JPEG is too large as well, or Pillow cannot read or write the picture.
    """
    try:
        lossless = for_png(upright(image))
        try:
            return saved(lossless, limit, "PNG")
        except FullError:
            return saved(opaque(lossless), limit, "JPEG", quality=_JPEG_QUALITY)
    except FullError as error:
        raise label.error(f"{limit} bytes or more, even as a JPEG", f"must be under {limit} bytes") from error
    except Exception as error:  # Pillow raises whatever its decoders do: OSError, SyntaxError, struct.error, …
        raise unusable(label, error) from error


def unusable(label: Label, error: Exception) -> ImageError:
    """What Pillow made of a picture, in our words."""
    return label.error(f"{type(error).__name__}: {error}", "must be a picture that Pillow can read and write")


def saved(image: Image, limit: int, format_name: str, **options: Any) -> bytes:
    """``image`` as a file, with its colour profile and no other words. `FullError` at ``limit`` bytes."""
    buffer = _Bounded(limit)
    profile = image.info.get("icc_profile")
    if profile and len(profile) > MAX_PROFILE_BYTES:
        profile = None
    image.save(buffer, format_name, icc_profile=profile, **options)
    return buffer.getvalue()


def upright(image: Image) -> Image:
    """``image`` as its EXIF orientation means it; itself, not a copy, where that is as it lies."""
    from PIL import ImageOps

    if image.getexif().get(_EXIF_ORIENTATION, 1) == 1:
        return image
    return ImageOps.exif_transpose(image)


def for_png(image: Image) -> Image:
    """``image`` in a mode that PNG has; itself where its own is one."""
    if image.mode in _PNG_MODES:
        return image
    for mode in _CONVERSIONS.get(image.mode, ("RGB",)):
        image = image.convert(mode)
    image.info.pop("icc_profile", None)  # it was for the old mode's colours
    return image


def eight_bit(image: Image) -> Image:
    """``image``, of a mode that PNG has, as L, LA, RGB or RGBA, which can be scaled; itself where it is one."""
    if image.mode == "I;16":
        return _without_low_bytes(image)
    if image.has_transparency_data and image.mode != "LA":
        return image if image.mode == "RGBA" else image.convert("RGBA")
    mode = {"1": "L", "P": "RGB"}.get(image.mode, image.mode)
    return image if mode == image.mode else image.convert(mode)


def opaque(image: Image) -> Image:
    """``image`` without alpha, which JPEG does not have: laid on white."""
    from PIL import Image as images

    if image.mode == "I;16":
        return _without_low_bytes(image)
    if not image.has_transparency_data:
        return image if image.mode in ("L", "RGB") else image.convert("RGB")
    white = images.new("RGBA", image.size, "white")
    return images.alpha_composite(white, image.convert("RGBA")).convert("RGB")


def _without_low_bytes(image: Image) -> Image:
    """16 bits as 8. Pillow's own conversion clips where it should scale."""
    image = image.convert("I").point(lambda value: value / 256).convert("L")
    image.info.pop("transparency", None)  # it names a value of 16 bits
    return image
