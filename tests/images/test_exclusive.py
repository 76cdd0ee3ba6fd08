"""A picture that several jobs share: one thread at a time is in it. Different pictures do not wait for each other."""

from __future__ import annotations

import io
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from hailuo_async._images import exclusive as room
from hailuo_async._images.exclusive import exclusive
from hailuo_async._images.frame import inspect_image

from ..support.pictures import FIELD, content, noise, opened, plain, written


class Watched(Image.Image):
    """Notices a second thread that decodes it while the first does."""

    met = threading.Event()
    inside = 0

    def load(self) -> Any:
        self.inside += 1
        if self.inside > 1:
            self.met.set()
        self.met.wait(0.05)
        self.inside -= 1
        return super().load()


@pytest.mark.parametrize("fit", [False, True])
def test_threads_that_inspect_one_picture_decode_it_one_after_the_other(fit: bool) -> None:
    image = Watched()
    image.__dict__.update(plain(200 if fit else 400, 400).__dict__)
    with ThreadPoolExecutor(2) as pool:
        frames = list(pool.map(lambda _: inspect_image(FIELD, image, fit=fit), range(2)))
    assert not image.met.is_set()
    assert content(frames[0]) == content(frames[1])


@pytest.mark.slow
def test_one_lazily_opened_picture_in_many_jobs_is_sent_as_it_is_in_the_file(tmp_path: Path) -> None:
    source = noise(1200, 900)
    (tmp_path / "photo.png").write_bytes(written(source, compress_level=1))
    with Image.open(tmp_path / "photo.png") as image, ThreadPoolExecutor(6) as pool:
        frames = list(pool.map(lambda _: inspect_image(FIELD, image), range(6)))
    assert all(opened(content(frame)).tobytes() == source.tobytes() for frame in frames)


def test_other_pictures_do_not_wait() -> None:
    first, second = io.BytesIO(), io.BytesIO()
    with exclusive(first), ThreadPoolExecutor(1) as pool:

        def enter_second() -> bool:
            with exclusive(second):
                return True

        assert pool.submit(enter_second).result(timeout=60)


def test_no_lock_outlives_its_use() -> None:
    with pytest.raises(RuntimeError, match="inside"), exclusive(first := io.BytesIO()):
        raise RuntimeError("inside")
    assert id(first) not in room._locks
