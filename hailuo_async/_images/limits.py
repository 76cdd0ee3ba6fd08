"""The service's rules for an image, as checks, and bounds of our own. ``frame`` says how we read them."""

from __future__ import annotations

from hailuo_async._images.content import Label
from hailuo_async.contract import IMAGE_UNDER_BYTES, MAX_RATIO, SHORT_SIDE_OVER_PX

#: Ours, see ``frame``.
MAX_PIXELS = 2**28
#: Ours, of a picture that has to be decoded to be fitted: any camera's up to 60 megapixels, and 256 MB once decoded.
MAX_FIT_PIXELS = 2**26
#: Ours, of a colour profile that is sent with a picture of Pillow's. Those of cameras and screens have 0.5 to 4 kB.
MAX_PROFILE_BYTES = 2**20
#: Ours, of a profile that CMYK is converted by. Those of printing presses have 0.5 to 3 MB.
MAX_CMYK_PROFILE_BYTES = 2**23
#: Ours, of a file that is read whole to be fitted.
MAX_FIT_BYTES = 100_000_000


def check_size(label: Label, size: int) -> None:
    """Checks the bytes of an image. Raises `ImageError`."""
    if size == 0:
        raise label.error("0 bytes", "must not be empty")
    if size >= IMAGE_UNDER_BYTES:
        raise label.error(f"{size} bytes", f"must be under 20 MB ({IMAGE_UNDER_BYTES} bytes)", can_fit=True)


def check_shape(label: Label, width: int, height: int) -> None:
    """Checks the pixels of an image. Raises `ImageError`."""
    found = f"{width} x {height} px"
    if min(width, height) <= SHORT_SIDE_OVER_PX:
        raise label.error(found, f"short side must be over {SHORT_SIDE_OVER_PX} px", can_fit=True)
    if max(width, height) > MAX_RATIO * min(width, height):
        raise label.error(found, "aspect ratio must be between 2:5 and 5:2", can_fit=True)
    if width * height > MAX_PIXELS:
        raise label.error(found, f"must have at most {MAX_PIXELS} pixels")


def check_decodable(label: Label, width: int, height: int) -> None:
    """Checks that a picture is small enough to be decoded. Raises `ImageError`."""
    if width * height > MAX_FIT_PIXELS:
        raise label.error(f"{width} x {height} px", f"must have at most {MAX_FIT_PIXELS} pixels to be fitted")


def cropped_size(width: int, height: int) -> tuple[int, int]:
    """The largest size within this one with an allowed aspect ratio: the same, or with a shorter long side."""
    return min(width, int(height * MAX_RATIO)), min(height, int(width * MAX_RATIO))


def enlarged_size(width: int, height: int) -> tuple[int, int]:
    """The smallest size in (nearly) these proportions with a short side that is long enough; the same, if it is."""
    if min(width, height) > SHORT_SIDE_OVER_PX:
        return width, height
    return _with_short_side(width, height, SHORT_SIDE_OVER_PX + 1)


def reduced_size(width: int, height: int) -> tuple[int, int]:
    """About half the pixels, in (nearly) these proportions; never a short side that is too short."""
    return _with_short_side(width, height, max(SHORT_SIDE_OVER_PX + 1, min(width, height) * 7 // 10))


def _with_short_side(width: int, height: int, short: int) -> tuple[int, int]:
    # The long side is rounded up, but never beyond the allowed aspect ratio.
    long = min(-(-max(width, height) * short // min(width, height)), int(short * MAX_RATIO))
    return (short, long) if width < height else (long, short)
