"""Pictures for the tests of fitting, and what is asked of every one that was fitted."""

from __future__ import annotations

import base64
import io
import struct
import zlib
from collections.abc import Callable
from typing import Any

import pytest
from PIL import Image, ImageChops, ImageStat

from hailuo_async._images.content import Label
from hailuo_async._images.frame import Frame, inspect_image
from hailuo_async._images.source import ImageSource
from hailuo_async.errors import ImageError

FIELD = "first_frame_image"
LABEL = Label(FIELD, "bytes")


def written(image: Image.Image, format_name: str = "PNG", **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, format_name, **options)
    return buffer.getvalue()


def png_chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def data_url(content: bytes, mime: str = "image/jpeg") -> str:
    return f"data:{mime};base64,{base64.b64encode(content).decode()}"


def plain(width: int, height: int, mode: str = "RGB", colour: Any = 0) -> Image.Image:
    return Image.new(mode, (width, height), colour)


JPEG = written(plain(400, 500), "JPEG")


def padded(size: int) -> bytes:
    """A JPEG of just so many bytes."""
    return JPEG + bytes(index % 251 for index in range(size - len(JPEG)))


def rings(width: int, height: int) -> Image.Image:
    """A disc of red, as high as the picture is on its shorter side, at the centre of blue."""
    gradient = Image.radial_gradient("L").resize((min(width, height),) * 2)
    disc = gradient.point(lambda value: 255 if value < 180 else 0)
    mask = plain(width, height, "L")
    mask.paste(disc, ((width - disc.width) // 2, (height - disc.height) // 2))
    return Image.composite(plain(width, height, colour="red"), plain(width, height, colour="blue"), mask)


def noise(width: int, height: int, mode: str = "RGB") -> Image.Image:
    bands = [Image.effect_noise((width, height), 90) for _ in Image.new(mode, (1, 1)).getbands()]
    return Image.merge(mode, bands)


def opened(data: bytes) -> Image.Image:
    image = Image.open(io.BytesIO(data))
    image.load()
    return image


def content(frame: Frame) -> bytes:
    return b"".join(frame.raw_pieces())


def fitted(source: ImageSource) -> tuple[Image.Image, tuple[str, ...]]:
    """What is sent and what was done: and it obeys by the strict look, and is not fitted twice."""
    frame = inspect_image(FIELD, source, fit=True)
    data = content(frame)
    strict = inspect_image(FIELD, data)
    assert (strict.mime, strict.width, strict.height, strict.size, strict.encoded_length) == (
        frame.mime,
        frame.width,
        frame.height,
        frame.size,
        frame.encoded_length,
    )
    assert inspect_image(FIELD, data, fit=True) == strict
    image = opened(data)
    assert image.size == (frame.width, frame.height)
    return image, frame.changes


def mean(image: Image.Image) -> list[int]:
    return [round(value) for value in ImageStat.Stat(image).mean]


def assert_alike(image: Image.Image, expected: Image.Image) -> None:
    assert image.size == expected.size
    difference = ImageStat.Stat(ImageChops.difference(image.convert("RGB"), expected.convert("RGB")))
    assert max(difference.mean) < 6


def refusal(call: Callable[[], object]) -> ImageError:
    with pytest.raises(ImageError) as caught:
        call()
    assert type(caught.value) is ImageError
    return caught.value
