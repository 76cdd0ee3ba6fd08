"""Renders films that can be played: H.264 in MP4, from the pictures that a task was given.

A film of one picture pushes slowly in on it; a film of two dissolves from the first to the last while it does. The
window that is shown moves by fractions of a pixel, so the movement is smooth. Rendering holds a thread for some
seconds and stops between two frames when told to.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from pathlib import Path

import av
from PIL import Image, ImageEnhance, ImageFilter, ImageOps

from .films import FilmOrder, Picture

FRAMES_PER_S = 24
#: How much larger things are at the end of a push-in than at its start.
_PUSH = 1.12
#: What ``Image.open`` and decoding raise for files that are broken behind their headers, or vast.
_UNREADABLE = (OSError, ValueError, SyntaxError, Image.DecompressionBombError, Image.DecompressionBombWarning)
_TINTS = ("#27374d", "#5b3a29", "#2f5d50", "#4a3b62")


class Stopped(Exception):
    """Rendering was stopped. The file is not whole."""


def render(order: FilmOrder, path: Path, stopping: Callable[[], bool] = lambda: False) -> None:
    """Writes the film to ``path``. Raises ``Stopped`` soon after ``stopping()`` has become true."""
    with av.open(str(path), "w", format="mp4", options={"movflags": "faststart"}) as container:
        stream = container.add_stream("libx264", rate=FRAMES_PER_S)
        stream.width, stream.height, stream.pix_fmt = order.width, order.height, "yuv420p"
        stream.options = {"preset": "ultrafast", "crf": "23"}
        for image in _frames(order):
            if stopping():
                raise Stopped(order.task_id)
            frame = av.VideoFrame.from_image(image)  # type: ignore[no-untyped-call]
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))


def _frames(order: FilmOrder) -> Iterator[Image.Image]:
    """The frames in their order, each of the film's own size."""
    size = (order.width, order.height)
    first, last = _scenes(order)
    count = order.seconds * FRAMES_PER_S
    for number in range(count):
        progress = number / (count - 1)
        image = _pushed_in(first, size, progress)
        if last is not None:
            image = Image.blend(image, _pushed_in(last, size, progress), progress)
        yield image


def _scenes(order: FilmOrder) -> tuple[Image.Image, Image.Image | None]:
    """What the film begins with and, if it has one, what it ends with, both a little larger than the film."""
    size = (round(order.width * _PUSH), round(order.height * _PUSH))
    if order.last is None:
        return _open(order.first, size), None
    last = _open(order.last, size)
    first = _open(order.first, size) if order.first is not None else _before(last)
    return first, last


def _before(last: Image.Image) -> Image.Image:
    """A first frame for a film that was given only its last: the same, darker and out of focus."""
    return ImageEnhance.Brightness(last.filter(ImageFilter.GaussianBlur(last.height / 40))).enhance(0.5)


def _pushed_in(scene: Image.Image, size: tuple[int, int], progress: float) -> Image.Image:
    """The part of the scene that is seen at this progress (0 to 1), scaled to ``size``."""
    zoom = _PUSH**progress
    left, top = scene.width * (1 - 1 / zoom) / 2, scene.height * (1 - 1 / zoom) / 2
    box = (left, top, scene.width - left, scene.height - top)
    return scene.resize(size, Image.Resampling.BILINEAR, box=box)


def _open(picture: Picture | None, size: tuple[int, int]) -> Image.Image:
    """The picture in RGB, upright, cropped and scaled to ``size``; a placeholder where its file is not at hand."""
    if picture is None or picture.data is None:
        return _placeholder(picture, size)
    try:
        with Image.open(io.BytesIO(picture.data)) as image:
            image.draft("RGB", size)
            upright = ImageOps.exif_transpose(image).convert("RGBA")
    except _UNREADABLE:
        return _placeholder(picture, size)
    ground = Image.new("RGBA", upright.size, "black")
    return ImageOps.fit(Image.alpha_composite(ground, upright).convert("RGB"), size)


def _placeholder(picture: Picture | None, size: tuple[int, int]) -> Image.Image:
    """A gradient, of one of a few colours, always the same for one source."""
    source = picture.source if picture is not None else ""
    tint = _TINTS[sum(source.encode()) % len(_TINTS)]
    return ImageOps.colorize(Image.linear_gradient("L").resize(size), tint, "white")
