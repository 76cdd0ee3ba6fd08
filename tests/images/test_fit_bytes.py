"""A picture of too many bytes is made small enough, with as little loss as may be."""

from __future__ import annotations

from hailuo_async._images.fit import Fitted, fit_file
from hailuo_async.contract import IMAGE_UNDER_BYTES

from ..support.pictures import (
    LABEL,
    assert_alike,
    fitted,
    mean,
    noise,
    opened,
    refusal,
    rings,
    written,
)


def test_a_jpeg_of_too_many_bytes_is_encoded_anew() -> None:
    data = written(rings(400, 400), "JPEG") + bytes(IMAGE_UNDER_BYTES)
    image, changes = fitted(data)
    assert_alike(image, rings(400, 400))
    (change,) = changes
    assert change.startswith("re-encoded as JPEG quality 95 from 20.0 MB to ")
    assert change.endswith(" kB")


def test_a_png_of_too_many_bytes_is_written_anew_without_loss() -> None:
    source = noise(400, 400)
    data = written(source)
    end = data.index(b"IEND") - 4
    text = IMAGE_UNDER_BYTES.to_bytes(4, "big") + b"tEXt" + bytes(IMAGE_UNDER_BYTES) + b"none"
    image, changes = fitted(data[:end] + text + data[end:])
    assert image.tobytes() == source.tobytes()
    assert changes[0].startswith("re-encoded as PNG from 20.5 MB to ")


def qualities(limit: int) -> Fitted:
    return fit_file(LABEL, written(noise(400, 500), "JPEG", quality=100), limit)


def test_quality_steps_down_first_and_then_size() -> None:
    steps = {limit: qualities(limit).changes for limit in (10**6, 200_000, 90_000, 70_000)}
    last = {limit: changes[-1].partition(" from ")[0] for limit, changes in steps.items()}
    numbers = [int(words.rpartition(" ")[2]) for words in last.values()]
    assert numbers[0] == 95
    assert 60 <= numbers[1] < 95
    assert steps[10**6][:-1] == steps[200_000][:-1] == ()
    assert steps[70_000][0] == "scaled from 400x500 to 301x377"
    assert all(len(qualities(limit).data) < limit for limit in steps)


def test_what_cannot_be_made_small_enough_is_refused() -> None:
    error = refusal(lambda: qualities(1000))
    assert (error.value, error.rule) == ("1000 bytes or more, as small as it may be", "must be under 1000 bytes")


def test_a_png_that_does_not_fit_becomes_a_jpeg_on_white() -> None:
    source = noise(400, 500, "RGBA")
    source.putalpha(0)
    result = fit_file(LABEL, written(source), 100_000)
    image = opened(result.data)
    assert (image.format, mean(image)) == ("JPEG", [255, 255, 255])
    assert result.changes[0] == "alpha laid on white"
    assert result.changes[1].startswith("re-encoded as JPEG quality 95 from ")


def test_a_large_picture_without_loss_becomes_a_jpeg() -> None:
    image, changes = fitted(written(rings(6000, 1500)))
    assert (image.format, image.size) == ("JPEG", (3750, 1500))
    assert_alike(image, rings(3750, 1500))
    assert changes[0] == "cropped from 6000x1500 to 3750x1500 (centre)"
    assert changes[1].startswith("re-encoded as JPEG quality 95 from ")
