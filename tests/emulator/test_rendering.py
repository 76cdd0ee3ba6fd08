"""Rendered films, played back: they must show what they were made from."""

from __future__ import annotations

import io
from fractions import Fraction
from itertools import pairwise
from pathlib import Path

import av
import pytest
from PIL import Image, ImageChops, ImageStat

from hailuo_async.emulator.films import FilmOrder, Picture
from hailuo_async.emulator.rendering import FRAMES_PER_S, Stopped, render

RED, BLUE = (200, 30, 30), (30, 30, 200)


def picture(image: Image.Image, kind: str = "PNG", exif: Image.Exif | None = None) -> Picture:
    file = io.BytesIO()
    image.save(file, kind, **({"exif": exif} if exif is not None else {}))
    return Picture("a file", file.getvalue(), image.size)


def plain(colour: tuple[int, int, int], size: tuple[int, int] = (400, 400)) -> Picture:
    return picture(Image.new("RGB", size, colour))


def order(first: Picture | None, last: Picture | None = None, *, height: int = 320) -> FilmOrder:
    return FilmOrder("task-1", 6, 320, height, first, last)


def played(order: FilmOrder, path: Path) -> list[Image.Image]:
    render(order, path)
    with av.open(str(path)) as container:
        return [frame.to_image() for frame in container.decode(video=0)]  # type: ignore[no-untyped-call]


def colour(image: Image.Image) -> list[float]:
    return ImageStat.Stat(image).mean


def near(image: Image.Image, wanted: tuple[float, float, float]) -> bool:
    return all(abs(found - value) < 8 for found, value in zip(colour(image), wanted, strict=True))


@pytest.mark.slow
@pytest.mark.parametrize(("seconds", "size"), [(6, (1366, 768)), (10, (320, 800))])
def test_a_film_is_h264_of_the_right_size_length_and_rate_ready_to_stream(
    seconds: int, size: tuple[int, int], tmp_path: Path
) -> None:
    path = tmp_path / "film.mp4"
    render(FilmOrder("task-1", seconds, *size, plain(RED), None), path)
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        context = stream.codec_context
        assert stream.duration is not None
        assert stream.time_base is not None
        assert (context.name, context.pix_fmt, context.width, context.height) == ("h264", "yuv420p", *size)
        assert stream.duration * stream.time_base == seconds
        assert stream.frames == seconds * FRAMES_PER_S
        assert stream.average_rate == Fraction(FRAMES_PER_S)
    data = path.read_bytes()
    assert data.index(b"moov") < data.index(b"mdat")


@pytest.mark.slow
def test_a_film_of_one_picture_pushes_in_on_it_smoothly(tmp_path: Path) -> None:
    image = Image.new("L", (400, 400), 0)
    image.paste(255, (100, 100, 300, 300))
    light = [colour(frame)[0] for frame in played(order(picture(image.convert("RGB"))), tmp_path / "film.mp4")]
    steps = [after - before for before, after in pairwise(light)]
    assert light[0] == pytest.approx(255 / 4, abs=1.5)
    assert light[-1] == pytest.approx(255 / 4 * 1.12**2, abs=2)
    assert max(map(abs, steps)) < 1


@pytest.mark.slow
def test_a_film_of_two_pictures_dissolves_from_the_first_to_the_last(tmp_path: Path) -> None:
    frames = played(order(plain(RED), plain(BLUE)), tmp_path / "film.mp4")
    assert near(frames[0], RED)
    assert near(frames[len(frames) // 2], (115, 30, 115))
    assert near(frames[-1], BLUE)


@pytest.mark.slow
def test_without_a_first_picture_it_begins_with_a_darker_last(tmp_path: Path) -> None:
    frames = played(order(None, plain(BLUE)), tmp_path / "film.mp4")
    assert near(frames[0], (15, 15, 100))
    assert near(frames[-1], BLUE)


@pytest.mark.slow
def test_the_last_picture_is_cropped_to_the_films_aspect(tmp_path: Path) -> None:
    wide = Image.new("RGB", (900, 400), RED)
    wide.paste(BLUE, (250, 0, 650, 400))
    assert near(played(order(plain(RED), picture(wide)), tmp_path / "film.mp4")[-1], BLUE)


@pytest.mark.slow
def test_a_photograph_on_its_side_is_turned_upright(tmp_path: Path) -> None:
    sideways = Image.new("RGB", (400, 320), RED)
    sideways.paste(BLUE, (0, 0, 200, 320))
    exif = Image.Exif()
    exif[0x0112] = 6  # the left of the file is the top of the picture
    frame = played(order(picture(sideways, "JPEG", exif), height=400), tmp_path / "film.mp4")[0]
    assert near(frame.crop((0, 0, 320, 150)), BLUE)
    assert near(frame.crop((0, 250, 320, 400)), RED)


@pytest.mark.slow
def test_what_is_transparent_is_black(tmp_path: Path) -> None:
    clear = picture(Image.new("RGBA", (400, 400), (255, 255, 255, 0)))
    assert near(played(order(clear), tmp_path / "film.mp4")[0], (0, 0, 0))


@pytest.mark.slow
@pytest.mark.parametrize(
    "unreadable",
    [None, Picture("https://example.com/a.jpg"), Picture("a broken file", (plain(RED).data or b"")[:60])],
    ids=["absent", "only a URL", "broken behind its header"],
)
def test_a_picture_that_is_not_at_hand_is_replaced_by_a_drawn_one(unreadable: Picture | None, tmp_path: Path) -> None:
    frame = played(order(unreadable), tmp_path / "film.mp4")[0]
    assert min(ImageStat.Stat(frame).stddev) > 10
    again = played(order(unreadable), tmp_path / "again.mp4")[0]
    assert ImageChops.difference(frame, again).getbbox() is None


def test_rendering_stops_when_it_is_told_to(tmp_path: Path) -> None:
    answers = iter([False] * 5 + [True])
    with pytest.raises(Stopped):
        render(order(plain(RED)), tmp_path / "film.mp4", lambda: next(answers))
