"""Changes a picture that breaks a rule of the service until it fits, and lists the changes.

The steps, in this order and only as needed: decode (the first picture of several), turn upright as its EXIF says, crop
at the centre to the nearest allowed aspect ratio, scale until the short side is long enough (Lanczos), encode. A JPEG
stays a JPEG. Any other format becomes a PNG, without loss, if that is sure to be small enough (`MAX_PNG_PIXELS`), and
otherwise a JPEG with its alpha laid on white. A JPEG that is too large steps down in quality, and then in size.

Colours: 16 bits a channel become 8, a palette becomes its colours, a colour that stands for transparency becomes alpha.
CMYK becomes sRGB by its profile or, without one, RGB by Pillow's plain formula. The profile of any other picture stays,
also if alpha is laid on white. All other metadata is dropped, places and names too.

Bounds: a file of `MAX_FIT_BYTES`, a picture of `MAX_FIT_PIXELS`. A decoded picture takes 4 bytes a pixel, and more
while it is decoded and turned. Measured: 6 megapixels take 0.06 GB and 0.1 s; the largest allowed picture takes 0.7 GB
as a JPEG, 1.1 GB as a WebP, and 2 s. So few should be fitted at once. Only the result is held afterwards.

Pillow's settings are not changed, and its exceptions become `ImageError`. Content that it would warn of does not reach
it (``sanitize``), since silencing a warning silences it for every thread. The only exception is a PIL image of the
caller's own with damaged EXIF.
"""

from __future__ import annotations

import contextlib
import importlib
import io
from collections.abc import Iterator
from typing import TYPE_CHECKING

import attrs

from hailuo_async._images.content import Label
from hailuo_async._images.headers import exif_orientation
from hailuo_async._images.limits import check_decodable, cropped_size, enlarged_size, reduced_size
from hailuo_async._images.pillow import (
    FullError,
    bits_of,
    eight_bit,
    for_png,
    is_keyed,
    opaque,
    orientation_of,
    saved,
    scaled_key,
    turned,
    unusable,
    without_cmyk,
)
from hailuo_async._images.sanitize import Stripped, stripped
from hailuo_async.contract import IMAGE_UNDER_BYTES
from hailuo_async.errors import ImageError

if TYPE_CHECKING:
    from PIL.Image import Image

#: A PNG of so many pixels has at most 16.8 MB, with any content.
MAX_PNG_PIXELS = 2**22
#: JPEG qualities in the order of trying; after the last the picture gets smaller.
_QUALITIES = (95, 90, 85, 75, 60)

#: The reader of each format: its module, and its class.
_READERS = {
    "AVIF": ("PIL.AvifImagePlugin", "AvifImageFile"),
    "BMP": ("PIL.BmpImagePlugin", "BmpImageFile"),
    "GIF": ("PIL.GifImagePlugin", "GifImageFile"),
    "HEIF": ("pillow_heif", "HeifImageFile"),  # applies the container's rotation itself
    "JPEG": ("PIL.JpegImagePlugin", "JpegImageFile"),
    "PNG": ("PIL.PngImagePlugin", "PngImageFile"),
    "TIFF": ("PIL.TiffImagePlugin", "TiffImageFile"),
    "WEBP": ("PIL.WebPImagePlugin", "WebPImageFile"),
}
_NAMES = {"WEBP": "WebP", "HEIF": "HEIC"}
_SEVERAL = {"TIFF": "TIFF of several pictures", "HEIC": "HEIC of several pictures"}
_MADE_SHALLOW = "16 bits a channel reduced to 8"


@attrs.frozen
class Fitted:
    """A picture that fits, as the bytes of a file, and the changes made to it, as texts."""

    data: bytes = attrs.field(repr=False)
    changes: tuple[str, ...]


@attrs.define
class _Fitting:
    """A picture that is being fitted; each step replaces ``image``, so that only one is held between steps."""

    image: Image
    changes: list[str] = attrs.field(factory=list)

    def turn(self, orientation: int) -> None:
        """Turns the picture upright."""
        image = turned(self.image, orientation)
        if image is not self.image:
            self.changes.append("turned upright, as its EXIF says")
        self.image = image

    def make_plain(self, bits: int) -> None:
        """Converts the picture to L, LA, RGB or RGBA; the file had ``bits`` a channel."""
        self.image, done = without_cmyk(self.image)
        if done is not None:
            self.changes.append(done)
        self.image = scaled_key(for_png(self.image), bits)
        if is_keyed(self.image):
            self.changes.append("transparent colour turned into alpha")
        self.image = eight_bit(self.image)

    def shape(self) -> None:
        """Crops and scales to an allowed shape, in one step, without a copy in between."""
        width, height = self.image.size
        cropped = cropped_size(width, height)
        left, top = (width - cropped[0]) // 2, (height - cropped[1]) // 2
        if cropped != (width, height):
            self.changes.append(f"cropped from {_by(width, height)} to {_by(*cropped)} (centre)")
        self._resample(enlarged_size(*cropped), (left, top, left + cropped[0], top + cropped[1]))

    def reduce(self) -> None:
        """Scales down, if the file is too large at every quality."""
        width, height = self.image.size
        self._resample(reduced_size(width, height), (0, 0, width, height))

    def _resample(self, size: tuple[int, int], box: tuple[int, int, int, int]) -> None:
        from PIL.Image import Resampling

        inside = (box[2] - box[0], box[3] - box[1])
        if size != inside:
            self.changes.append(f"scaled from {_by(*inside)} to {_by(*size)}")
        if size != self.image.size or size != inside:  # not `crop`, which warns of large pictures
            how = Resampling.NEAREST if size == inside else Resampling.LANCZOS
            self.image = self.image.resize(size, how, box)


def fit_file(label: Label, data: bytes, limit: int = IMAGE_UNDER_BYTES) -> Fitted:
    """Fits the file ``data``, to under ``limit`` bytes. Takes seconds. Raises only `ImageError`."""
    with _only_image_errors(label):
        found = stripped(label, data)
        name = _NAMES.get(found.format, found.format)
        fitting = _Fitting(_decoded(label, found))
        if found.is_animated or getattr(fitting.image, "n_frames", 1) > 1:
            fitting.changes.append(f"{_SEVERAL.get(name, f'animated {name}')}: first picture only")
        if found.bits == 16:
            fitting.changes.append(_MADE_SHALLOW)
        fitting.turn(exif_orientation(found.exif or fitting.image.info.get("exif") or b"") or 1)
        fitting.make_plain(found.bits)
        fitted = _finish(label, fitting, limit, may_be_png=found.format != "JPEG")
        if not fitted.startswith(b"\x89PNG"):
            fitting.changes[-1] += f" from {_amount(len(data))} to {_amount(len(fitted))}"
        elif found.format == "PNG":
            fitting.changes.append(f"re-encoded as PNG from {_amount(len(data))} to {_amount(len(fitted))}")
        else:
            fitting.changes.append(f"converted from {name} to PNG")
        return Fitted(fitted, tuple(fitting.changes))


def fit_image(label: Label, image: Image, limit: int = IMAGE_UNDER_BYTES) -> Fitted:
    """Fits a PIL image, which itself stays unchanged; otherwise like `fit_file`."""
    check_decodable(label, *image.size)
    with _only_image_errors(label):
        bits = bits_of(image)
        fitting = _Fitting(image)
        fitting.turn(orientation_of(image))
        if image.mode.startswith("I") or bits == 16:
            fitting.changes.append(_MADE_SHALLOW)
        fitting.make_plain(bits)
        return Fitted(_finish(label, fitting, limit, may_be_png=True), tuple(fitting.changes))


@contextlib.contextmanager
def _only_image_errors(label: Label) -> Iterator[None]:
    """Pillow passes on the exceptions of its decoders, of any type: each becomes an `ImageError`."""
    try:
        yield
    except ImageError:
        raise
    except ModuleNotFoundError as error:
        if error.name == "pillow_heif":
            raise label.error("a HEIC", "needs pillow-heif to be fitted: pip install pillow-heif") from error
        raise label.error("no Pillow", "needs Pillow to be fitted: pip install pillow") from error
    except Exception as error:
        raise unusable(label, error) from error


def _decoded(label: Label, found: Stripped) -> Image:
    image = _opened(found)
    check_decodable(label, *image.size)
    image.load()
    return image


def _opened(found: Stripped) -> Image:
    # By the reader's name: ``Image.open`` would try every reader, and warn by a setting of the process.
    module, reader = _READERS[found.format]
    image: Image = getattr(importlib.import_module(module), reader)(io.BytesIO(found.data))
    return image


def _finish(label: Label, fitting: _Fitting, limit: int, *, may_be_png: bool) -> bytes:
    fitting.shape()
    width, height = fitting.image.size
    if may_be_png and width * height <= MAX_PNG_PIXELS:
        try:
            return saved(fitting.image, limit, "PNG")
        except FullError:
            pass
    return _as_jpeg(label, fitting, limit)


def _as_jpeg(label: Label, fitting: _Fitting, limit: int) -> bytes:
    if fitting.image.mode in ("LA", "RGBA"):
        fitting.changes.append("alpha laid on white")
    fitting.image = opaque(fitting.image)
    while True:
        for quality in _QUALITIES:
            try:
                data = saved(fitting.image, limit, "JPEG", quality=quality, comment=b"")
            except FullError:
                continue
            fitting.changes.append(f"re-encoded as JPEG quality {quality}")
            return data
        before = fitting.image.size
        if reduced_size(*before) == before:
            raise label.error(f"{limit} bytes or more, as small as it may be", f"must be under {limit} bytes")
        fitting.reduce()


def _by(width: int, height: int) -> str:
    return f"{width}x{height}"


def _amount(size: int) -> str:
    return f"{size / 1e6:.1f} MB" if size >= 1_000_000 else f"{size / 1e3:.1f} kB"
