"""Four landscapes for a first run, for whoever has no pictures at hand: always the same, drawn with Pillow.

Everything is painted back to front over a sky: lights, ridges, mist. What looks random comes from seeded sources.
"""

from __future__ import annotations

import io
import math
from collections.abc import Sequence
from random import Random

from PIL import Image, ImageChops, ImageDraw, ImageFilter, ImageOps

#: Pixels: 16 to 9, and enough for 1080P.
_SIZE = (1920, 1080)
_JPEG_QUALITY = 92
#: Of 255. Hides the steps that an 8-bit gradient would show.
_GRAIN = 6


def draw_pictures() -> dict[str, bytes]:
    """The pictures as JPEG files, by name. Takes about a second of a thread."""
    scenes = {"dawn": _dawn, "sea": _sea, "night": _night, "dunes": _dunes}
    return {name: _jpeg(draw()) for name, draw in scenes.items()}


def _dawn() -> Image.Image:
    """Ridges that get darker towards the viewer, under a rising sun."""
    image = _sky("#35507f", "#d98f8f", "#ffe3b3")
    _glow(image, (0.64, 0.50), 0.55, "#ffd08a")
    _disc(image, (0.64, 0.50), 0.035, "#fff6dc")
    shades = ("#c58f96", "#9a6f8a", "#6b5278", "#433a5f", "#221f3b")
    for number, shade in enumerate(shades):
        _ridge(image, 0.56 + 0.09 * number, 0.06 + 0.012 * number, shade, Random(number))
        _mist(image, 0.66 + 0.09 * number, "#ffd9b8", 0.30 - 0.05 * number)
    return image


def _sea() -> Image.Image:
    """A low sun over water, and its path of light."""
    image = _sky("#1f3a6e", "#e0785a", "#ffd79a", until=0.58)
    _glow(image, (0.42, 0.53), 0.6, "#ffb066")
    _disc(image, (0.42, 0.53), 0.055, "#fff1cf")
    width, height = _SIZE
    horizon = round(0.58 * height)
    water = _gradient((width, height - horizon), "#d07a5e", "#3b3a68", "#0e1a38")
    image.paste(water, (0, horizon))
    _glitter(image, 0.42, horizon, Random(7))
    _ridge(image, 0.58, 0.025, "#3a3157", Random(11), until=0.582)
    return image


def _night() -> Image.Image:
    """Stars and a moon over dark hills, with a band of northern light."""
    image = _sky("#050b1f", "#0d2a44", "#1d5a5c")
    _stars(image, Random(3))
    for number, colour in enumerate(("#2fd39a", "#38b6c9", "#7a6be0")):
        _aurora(image, 0.34 + 0.05 * number, colour, Random(20 + number))
    _glow(image, (0.78, 0.22), 0.22, "#8fa6c8")
    _disc(image, (0.78, 0.22), 0.035, "#f4f2e4")
    for number, shade in enumerate(("#12343c", "#0b222b", "#050f16")):
        _ridge(image, 0.70 + 0.09 * number, 0.05, shade, Random(30 + number))
    return image


def _dunes() -> Image.Image:
    """Sand in the evening: smooth crests, each lit from one side."""
    image = _sky("#2b6c9e", "#8fc3cf", "#fbe6bd")
    _disc(image, (0.22, 0.24), 0.04, "#fffbe8")
    _glow(image, (0.22, 0.24), 0.4, "#fff0c0")
    shades = ("#e8b981", "#d99a5f", "#bf7a45", "#8f5532", "#5c3524")
    for number, shade in enumerate(shades):
        _ridge(image, 0.52 + 0.105 * number, 0.07, shade, Random(40 + number), octaves=2)
        _mist(image, 0.60 + 0.105 * number, "#ffe9c4", 0.20 - 0.04 * number)
    return image


# --- Brushes. Places and lengths are shares of the picture's width and height. ---


def _gradient(size: tuple[int, int], top: str, middle: str, bottom: str) -> Image.Image:
    noise = Image.frombytes("L", size, Random(0).randbytes(size[0] * size[1]))  # effect_noise has no seed
    grain = noise.point(lambda value: value * _GRAIN // 255)
    ramp = ImageChops.add(Image.linear_gradient("L").resize(size, Image.Resampling.BICUBIC), grain, offset=-_GRAIN // 2)
    return ImageOps.colorize(ramp, top, bottom, middle)


def _sky(top: str, middle: str, bottom: str, until: float = 0.75) -> Image.Image:
    width, height = _SIZE
    image = Image.new("RGB", _SIZE, bottom)
    image.paste(_gradient((width, round(until * height)), top, middle, bottom))
    return image


def _paint(image: Image.Image, colour: str, mask: Image.Image) -> None:
    image.paste(Image.new("RGB", _SIZE, colour), mask=mask)


def _box(place: tuple[float, float], radius: float) -> tuple[int, int, int, int]:
    """The square around ``place``; ``radius`` is a share of the width."""
    width, height = _SIZE
    x, y, reach = place[0] * width, place[1] * height, radius * width
    return round(x - reach), round(y - reach), round(x + reach), round(y + reach)


def _glow(image: Image.Image, place: tuple[float, float], radius: float, colour: str) -> None:
    left, top, right, bottom = _box(place, radius)
    light = ImageOps.invert(Image.radial_gradient("L")).resize((right - left, bottom - top), Image.Resampling.BICUBIC)
    mask = Image.new("L", _SIZE)
    mask.paste(light.point(lambda value: max(0.0, value - 74) ** 2 / 181**2 * 200), (left, top))
    _paint(image, colour, mask)


def _disc(image: Image.Image, place: tuple[float, float], radius: float, colour: str) -> None:
    mask = Image.new("L", _SIZE)
    ImageDraw.Draw(mask).ellipse(_box(place, radius), fill=255)
    _paint(image, colour, mask.filter(ImageFilter.GaussianBlur(1.5)))


def _waves(chance: Random, octaves: int) -> list[tuple[float, float, float]]:
    """Amplitude, frequency and phase of the waves that add up to a skyline; the amplitudes sum to about 1."""
    return [(0.55**n, (1.3 + chance.random()) * 2.1**n, chance.random() * math.tau) for n in range(octaves)]


def _skyline(waves: Sequence[tuple[float, float, float]], x: float) -> float:
    return sum(amplitude * math.sin(math.tau * frequency * x + phase) for amplitude, frequency, phase in waves)


def _ridge(
    image: Image.Image,
    level: float,
    swing: float,
    colour: str,
    chance: Random,
    *,
    octaves: int = 6,
    until: float = 1.0,
) -> None:
    """Land of one colour from a skyline around ``level`` down to ``until``."""
    width, height = _SIZE
    waves = _waves(chance, octaves)
    heights = ((x, level - swing * _skyline(waves, x / width)) for x in range(0, width + 4, 4))
    line = [(x, min(y, until) * height) for x, y in heights]
    mask = Image.new("L", _SIZE)
    ImageDraw.Draw(mask).polygon([*line, (width, until * height), (0, until * height)], fill=255)
    _paint(image, colour, mask.filter(ImageFilter.GaussianBlur(1)))


def _mist(image: Image.Image, level: float, colour: str, strength: float) -> None:
    """A band of haze, thickest at ``level``."""
    width, height = _SIZE
    half = round(0.09 * height)
    fade = Image.linear_gradient("L").resize((width, half))
    band = Image.new("L", _SIZE)
    band.paste(fade, (0, round(level * height) - half))
    band.paste(ImageOps.flip(fade), (0, round(level * height)))
    _paint(image, colour, band.point(lambda value: value * max(0.0, strength)))


def _glitter(image: Image.Image, x: float, horizon: int, chance: Random) -> None:
    """Dashes of light on water: longer, further apart and more spread the nearer they are."""
    width, height = _SIZE
    mask = Image.new("L", _SIZE)
    brush = ImageDraw.Draw(mask)
    for _ in range(900):
        depth = chance.random() ** 1.6
        y = horizon + depth * (height - horizon)
        middle = (x + chance.gauss(0, 0.02 + 0.09 * depth)) * width
        reach = (4 + 50 * depth) * chance.random()
        brush.line((middle - reach, y, middle + reach, y), fill=round(230 - 120 * depth), width=1 + round(3 * depth))
    _paint(image, "#ffdca0", mask.filter(ImageFilter.GaussianBlur(1.2)))


def _stars(image: Image.Image, chance: Random) -> None:
    width, height = _SIZE
    mask = Image.new("L", _SIZE)
    brush = ImageDraw.Draw(mask)
    for _ in range(700):
        x, y, size = chance.random() * width, chance.random() ** 1.4 * 0.75 * height, chance.random() ** 6 * 2.2 + 0.6
        brush.ellipse((x - size, y - size, x + size, y + size), fill=chance.randint(90, 255))
    _paint(image, "#eef3ff", mask.filter(ImageFilter.GaussianBlur(0.6)))


def _aurora(image: Image.Image, level: float, colour: str, chance: Random) -> None:
    """A curtain of light that hangs from a waving line and fades upwards."""
    width, height = _SIZE
    waves = _waves(chance, 3)
    mask = Image.new("L", _SIZE)
    brush = ImageDraw.Draw(mask)
    for x in range(0, width, 3):
        foot = (level + 0.05 * _skyline(waves, x / width)) * height
        tall = (0.16 + 0.08 * _skyline(waves, 3 * x / width)) * height
        for step in range(24):
            y = foot - tall * step / 24
            brush.rectangle((x, y - tall / 24, x + 2, y), fill=round(120 * (1 - step / 24) ** 1.5))
    _paint(image, colour, mask.filter(ImageFilter.GaussianBlur(9)))


def _jpeg(image: Image.Image) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=_JPEG_QUALITY)
    return buffer.getvalue()
