"""A picture of Pillow's as the bytes of a file. Pillow is imported only here, and only once the caller has."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Any

from hailuo_async._contents import Label
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


class _FullError(Exception):
    """More was written than fits."""


class _Bounded(io.BytesIO):
    """Takes less than ``limit`` bytes, so that a picture that does not fit is never held whole."""

    def __init__(self, limit: int) -> None:
        super().__init__()
        self._limit = limit

    def write(self, data: Any) -> int:
        if self.tell() + len(data) >= self._limit:
            raise _FullError
        return super().write(data)


def encoded(label: Label, image: Image, limit: int) -> bytes:
    """``image`` as a PNG, or as a JPEG where the PNG has ``limit`` bytes or more. Decodes, encodes, and takes long.

    Raises `ImageError` if the JPEG is too large as well, or Pillow cannot read or write the picture.
    """
    try:
        lossless = _for_png(_upright(image))
        try:
            return _saved(lossless, limit, "PNG")
        except _FullError:
            return _saved(opaque(lossless), limit, "JPEG", quality=_JPEG_QUALITY)
    except _FullError as error:
        raise label.error(f"{limit} bytes or more, even as a JPEG", f"must be under {limit} bytes") from error
    except Exception as error:  # Pillow raises whatever its decoders do: OSError, SyntaxError, struct.error, …
        raise _unusable(label, error) from error


def _unusable(label: Label, error: Exception) -> ImageError:
    return label.error(f"{type(error).__name__}: {error}", "must be a picture that Pillow can read and write")


def _saved(image: Image, limit: int, format_name: str, **options: Any) -> bytes:
    buffer = _Bounded(limit)
    image.save(buffer, format_name, icc_profile=image.info.get("icc_profile"), **options)
    return buffer.getvalue()


def _upright(image: Image) -> Image:
    """``image`` as its EXIF orientation means it; itself, not a copy, where that is as it lies."""
    from PIL import ImageOps

    if image.getexif().get(_EXIF_ORIENTATION, 1) == 1:
        return image
    return ImageOps.exif_transpose(image)


def _for_png(image: Image) -> Image:
    if image.mode in _PNG_MODES:
        return image
    for mode in _CONVERSIONS.get(image.mode, ("RGB",)):
        image = image.convert(mode)
    image.info.pop("icc_profile", None)  # it was for the old mode's colours
    return image


def opaque(image: Image) -> Image:
    """``image`` without alpha, which JPEG does not have: laid on white."""
    from PIL import Image as images

    if image.mode == "I;16":  # Pillow clips where it should scale
        return image.convert("I").point(lambda value: value / 256).convert("L")
    if not image.has_transparency_data:
        return image if image.mode in ("L", "RGB") else image.convert("RGB")
    white = images.new("RGBA", image.size, "white")
    return images.alpha_composite(white, image.convert("RGBA")).convert("RGB")
