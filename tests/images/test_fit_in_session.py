"""``fit=True`` in a session: the service gets a picture that obeys, and the log says what was done to it."""

from __future__ import annotations

import asyncio
import io
import logging
from pathlib import Path

import anyio
import PIL.Image
import pytest

from hailuo_async import Failure, ImageError, ImageToVideo, JobError, Success
from hailuo_async._engine.admission import INSPECTING_THREADS
from hailuo_async.emulator import Kind

from ..support.pictures import plain, written
from ..support.service import KEY, Line, emulated, picture

SMALL = written(plain(100, 400))


async def fit_lines(caplog: pytest.LogCaptureFixture, path: Path) -> list[str]:
    caplog.set_level("INFO", "hailuo_async")
    async with emulated() as (emulator, session):
        await session.generate(ImageToVideo(path, prompt="a secret prompt", fit=True))
        assert [entry.status for entry in emulator.ledger.of(Kind.SUBMIT)] == [200]
    return [record.getMessage() for record in caplog.records if record.levelno == logging.INFO]


async def test_a_picture_that_breaks_the_rules_is_taken_when_it_is_made_to_fit(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "narrow.png"
    await anyio.Path(path).write_bytes(SMALL)
    [line] = await fit_lines(caplog, path)
    done = "cropped from 100x400 to 100x250 (centre); scaled from 100x250 to 301x752"
    assert line.startswith(f"first_frame_image (narrow.png) was made to fit: {done}")
    for secret in (KEY, "secret prompt", str(tmp_path)):
        assert secret not in line


async def test_a_picture_that_obeys_is_sent_as_it_is_and_nothing_is_said(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "good.png"
    await anyio.Path(path).write_bytes(picture())
    assert await fit_lines(caplog, path) == []


async def test_without_fit_it_is_refused_before_anything_is_sent() -> None:
    line = Line()
    async with line.session() as session:
        with pytest.raises(ImageError, match="100"):
            await session.submit(ImageToVideo(SMALL))
    assert line.posts == []


@pytest.mark.parametrize("source", [b"no picture", SMALL[:60], written(plain(1, 1)) + bytes(100 * 2**20)])
async def test_what_cannot_be_made_to_fit_is_refused_and_costs_nothing(source: bytes) -> None:
    line = Line()
    async with line.session() as session:
        with pytest.raises(ImageError):
            await session.submit(ImageToVideo(source, fit=True))
        [outcome] = [each async for each in session.stream([ImageToVideo(source, fit=True)])]
    assert isinstance(outcome, Failure)
    assert isinstance(outcome.error, ImageError)
    assert line.posts == []


def test_a_fit_that_is_no_flag_is_refused() -> None:
    with pytest.raises(JobError, match="fit"):
        ImageToVideo(SMALL, fit="yes")  # type: ignore[arg-type]


async def test_a_fitted_picture_is_the_same_job_to_the_journal_and_shared_like_any(tmp_path: Path) -> None:
    line = Line()
    jobs = [ImageToVideo(SMALL, prompt="narrow", fit=True) for _ in range(3)]
    tasks = []
    for _ in range(2):
        async with line.session(journal=tmp_path / "batch.db") as session:
            outcomes = [each async for each in session.stream(jobs, share_uploads=True)]
        tasks.append({each.video.task_id for each in outcomes if isinstance(each, Success)})
    assert len(tasks[0]) == 3
    assert tasks[1] == tasks[0]
    assert len([request for request in line.posts if request.path.endswith("/async")]) == 3


async def test_pictures_are_fitted_one_by_one_and_hold_no_others_up() -> None:
    """The largest takes a gigabyte. Were they looked at like others, five of them would have to end before the last."""
    large = io.BytesIO()
    PIL.Image.new("RGB", (1000, 6000)).save(large, "BMP")
    line = Line()
    async with line.session() as session:
        slow = [asyncio.ensure_future(session.submit(ImageToVideo(large.getvalue(), fit=True))) for _ in range(8)]
        await asyncio.sleep(0)  # they are before the quick one
        assert session.stats().queued == len(slow)
        await session.submit(ImageToVideo(picture(), prompt="quick"))
        assert sum(each.done() for each in slow) < INSPECTING_THREADS
        await asyncio.gather(*slow)
    assert len(line.posts) == 9
