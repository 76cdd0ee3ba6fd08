"""Four landscapes for a first run, for those who have no pictures at hand: always the same, drawn with Pillow."""

from __future__ import annotations

import io
import math

from PIL import Image, ImageDraw, ImageOps

#: Pixels: 16 to 9, and enough for 1080P.
_WIDTH, _HEIGHT = 1920, 1080
#: The sky from its top to the horizon, the sun or moon and where it stands, and the ridges from the farthest one.
_SCENES = {
    "dawn": ("#35507f", "#ffe3b3", "#fff6dc", (0.64, 0.42), ("#c58f96", "#8f6585", "#5a466c", "#221f3b")),
    "sea": ("#1f3a6e", "#ffb17a", "#fff1cf", (0.42, 0.48), ("#b8705f", "#5d4468", "#332f5c", "#0e1a38")),
    "night": ("#050b1f", "#1d5a5c", "#f4f2e4", (0.78, 0.20), ("#1a4a50", "#12343c", "#0b222b", "#050f16")),
    "dunes": ("#2b6c9e", "#fbe6bd", "#fffbe8", (0.22, 0.24), ("#e8b981", "#cf8c52", "#99603a", "#5c3524")),
}


def draw_pictures() -> dict[str, bytes]:
    """The pictures as JPEG files, by name."""
    return {name: _draw(*scene) for name, scene in _SCENES.items()}


def _draw(top: str, horizon: str, light: str, place: tuple[float, float], ridges: tuple[str, ...]) -> bytes:
    image = ImageOps.colorize(Image.linear_gradient("L").resize((_WIDTH, _HEIGHT)), top, horizon)
    brush = ImageDraw.Draw(image)
    brush.circle((place[0] * _WIDTH, place[1] * _HEIGHT), 70, fill=light)
    for number, colour in enumerate(ridges, 1):
        waves = [(0.55**n, 1.7 * 1.9**n, number * 2.4 + n * n + 9 * place[0]) for n in range(6)]
        skyline = (
            (x, sum(high * math.sin(math.tau * often * x / _WIDTH + shift) for high, often, shift in waves))
            for x in range(0, _WIDTH + 8, 8)
        )
        line = [(x, _HEIGHT * (0.42 + 0.13 * number - 0.06 * wave)) for x, wave in skyline]
        brush.polygon([*line, (_WIDTH, _HEIGHT), (0, _HEIGHT)], fill=colour)
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=92)
    return buffer.getvalue()
