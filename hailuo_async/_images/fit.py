"""Makes a picture that breaks a rule of the service obey it, and says what was done.

In this order, and only what is needed: decoded (the first picture of several), turned upright as its EXIF says,
cropped at its centre to the nearest aspect ratio that is allowed, scaled until its short side is long enough
(Lanczos), encoded. A JPEG stays a JPEG. Anything else becomes a PNG, without loss, where that is sure to be small
enough (`MAX_PNG_PIXELS`), and otherwise a JPEG with its alpha laid on white. A JPEG that is too large steps down in
quality, and then in size.

Colours: 16 bits a channel become 8, a palette what it stands for, CMYK becomes RGB by Pillow's plain formula and
without its profile. The profile of any other picture stays. All other metadata is left behind, places and names too.

Bounds: a file of `MAX_FIT_BYTES`, a picture of `MAX_FIT_PIXELS`. Decoded it takes 4 bytes a pixel, and more while it is
decoded and turned. Measured: 6 megapixels take 0.06 GB and 0.1 s; the largest that is allowed 0.7 GB as a JPEG, 1.1 GB
as a WebP, and 2 s. So few should be fitted at once. Only the result is held afterwards.

Pillow's settings are not changed, and nothing of its leaves this room: what it raises becomes `ImageError`; what it
would warn of does not reach it (``sanitize``), since to silence a warning is to silence it for every thread. The one
exception is a PIL image of the caller's own with damaged EXIF.
"""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import TYPE_CHECKING

import attrs

from hailuo_async._images.content import Label
from hailuo_async._images.headers import exif_orientation
from hailuo_async._images.limits import MAX_BYTES, check_decodable, cropped_size, enlarged_size, reduced_size
from hailuo_async._images.pillow import FullError, eight_bit, for_png, opaque, saved, unusable, upright
from hailuo_async._images.sanitize import Stripped, stripped
from hailuo_async.errors import ImageError

if TYPE_CHECKING:
    from PIL.Image import Image

#: A PNG of as many has at most 16.8 MB, whatever is in it.
MAX_PNG_PIXELS = 2**22
#: Tried in this order; then the picture gets smaller.
_QUALITIES = (95, 90, 85, 75, 60)

_NAMES = {"WEBP": "WebP"}
_EXIF = b"Exif\x00\x00"
_TURNED = "turned upright, as its EXIF says"
_MADE_SHALLOW = "16 bits a channel reduced to 8"


@attrs.frozen
class Fitted:
    """A picture that obeys, as the bytes of a file, and what was done to it, in words."""

    data: bytes = attrs.field(repr=False)
    changes: tuple[str, ...]


@attrs.define
class _Fitting:
    """A picture on its way; ``image`` is replaced at each step, so that no more than one is held between them."""

    image: Image
    changes: list[str] = attrs.field(factory=list)

    def make_plain(self) -> None:
        """L, LA, RGB or RGBA."""
        mode = self.image.mode
        self.image = eight_bit(for_png(self.image))
        if mode == "CMYK":
            self.changes.append("colours converted from CMYK to RGB")

    def shape(self) -> None:
        """The shortest way to an allowed shape: the crop and the scaling are one step, without a copy between them."""
        width, height = self.image.size
        cropped = cropped_size(width, height)
        left, top = (width - cropped[0]) // 2, (height - cropped[1]) // 2
        if cropped != (width, height):
            self.changes.append(f"cropped from {_by(width, height)} to {_by(*cropped)} (centre)")
        self._resample(enlarged_size(*cropped), (left, top, left + cropped[0], top + cropped[1]))

    def reduce(self) -> None:
        """Fewer pixels, where no quality made the bytes few enough."""
        width, height = self.image.size
        self._resample(reduced_size(width, height), (0, 0, width, height))

    def _resample(self, size: tuple[int, int], box: tuple[int, int, int, int]) -> None:
        from PIL.Image import Resampling

        inside = (box[2] - box[0], box[3] - box[1])
        if size != inside:
            self.changes.append(f"scaled from {_by(*inside)} to {_by(*size)}")
        if size != self.image.size or size != inside:  # `crop` would do for a crop, but it warns of large ones
            how = Resampling.NEAREST if size == inside else Resampling.LANCZOS
            self.image = self.image.resize(size, how, box)


def fit_file(label: Label, data: bytes, limit: int = MAX_BYTES) -> Fitted:
    """The file ``data`` as one that obeys, under ``limit`` bytes. Takes long. Raises `ImageError` and nothing else."""
    try:
        return _fit_file(label, data, limit)
    except ImageError:
        raise
    except ModuleNotFoundError as error:
        raise label.error("no Pillow", "needs Pillow to be fitted: pip install pillow") from error
    except Exception as error:  # Pillow raises whatever its decoders do
        raise unusable(label, error) from error


def fit_image(label: Label, image: Image, limit: int = MAX_BYTES) -> Fitted:
    """A picture of Pillow's as a file that obeys; otherwise like `fit_file`. The picture itself stays as it is."""
    check_decodable(label, *image.size)
    try:
        fitting = _Fitting(upright(image))
        if fitting.image is not image:
            fitting.changes.append(_TURNED)
        if image.mode.startswith("I"):
            fitting.changes.append(_MADE_SHALLOW)
        return Fitted(_finish(label, fitting, limit, may_be_png=True), tuple(fitting.changes))
    except ImageError:
        raise
    except Exception as error:
        raise unusable(label, error) from error


def _fit_file(label: Label, data: bytes, limit: int) -> Fitted:
    found = stripped(label, data)
    name = _NAMES.get(found.format, found.format)
    fitting = _Fitting(_decoded(label, found))
    if found.is_animated:
        fitting.changes.append(f"animated {name}: first picture only")
    if found.is_deep:
        fitting.changes.append(_MADE_SHALLOW)
    _turn(fitting, found.exif or fitting.image.info.get("exif", b""))
    fitted = _finish(label, fitting, limit, may_be_png=found.format != "JPEG")
    if not fitted.startswith(b"\x89PNG"):
        fitting.changes[-1] += f" from {_amount(len(data))} to {_amount(len(fitted))}"
    elif found.format == "PNG":
        fitting.changes.append(f"re-encoded as PNG from {_amount(len(data))} to {_amount(len(fitted))}")
    else:
        fitting.changes.append(f"converted from {name} to PNG")
    return Fitted(fitted, tuple(fitting.changes))


def _decoded(label: Label, found: Stripped) -> Image:
    image = _opened(found)
    check_decodable(label, *image.size)
    image.load()
    return image


def _opened(found: Stripped) -> Image:
    """Read by its reader's name: ``Image.open`` asks every reader, and warns as a setting of the process says."""
    from PIL import BmpImagePlugin, GifImagePlugin, JpegImagePlugin, PngImagePlugin, WebPImagePlugin

    readers: dict[str, Callable[[io.BytesIO], Image]] = {
        "BMP": BmpImagePlugin.BmpImageFile,
        "GIF": GifImagePlugin.GifImageFile,
        "JPEG": JpegImagePlugin.JpegImageFile,
        "PNG": PngImagePlugin.PngImageFile,
        "WEBP": WebPImagePlugin.WebPImageFile,
    }
    return readers[found.format](io.BytesIO(found.data))


def _turn(fitting: _Fitting, exif: bytes) -> None:
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
    turn = turns.get(exif_orientation(exif if exif.startswith(_EXIF) else _EXIF + exif) or 1)
    if turn is not None:
        fitting.image = fitting.image.transpose(turn)
        fitting.changes.append(_TURNED)


def _finish(label: Label, fitting: _Fitting, limit: int, *, may_be_png: bool) -> bytes:
    fitting.make_plain()
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
