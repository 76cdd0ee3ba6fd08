"""The first thing to run: a folder of pictures becomes a folder of videos, against the emulator or the service."""

from __future__ import annotations

import contextlib
import itertools
import tempfile
from collections.abc import AsyncGenerator, Callable, Iterable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import attrs
import click

from hailuo_async._cli.batch.batch import BatchPlan
from hailuo_async._cli.batch.results import JobResult, ResultLine
from hailuo_async._cli.jobfile.folder import find_pictures
from hailuo_async._cli.jobfile.joblist import Entry
from hailuo_async._cli.jobfile.names import free_name, short_name, title
from hailuo_async._images.frame import inspect_image
from hailuo_async._images.source import ImageSource
from hailuo_async.emulator import Emulator
from hailuo_async.errors import ImageError
from hailuo_async.jobs import FirstLastFrameToVideo, ImageToVideo, Job
from hailuo_async.session import AsyncSession

#: Remembers what was sent to the service, so that running the demo again pays for nothing twice.
JOURNAL_NAME = "demo.db"
#: How long the emulator works on a video, in the mean: long enough to be seen waiting, short enough to be waited for.
_GENERATION_S = 3.0
_ONE_PICTURE = "[Push in] The scene slowly comes to life"
_TWO_PICTURES = "The first scene turns into the second"


@attrs.frozen
class Plan:
    """The jobs to send, and the pictures that make none."""

    jobs: Mapping[str, Job]
    """By their keys."""
    unusable: Mapping[str, ImageError]
    """The reasons, by the names of the pictures."""


def read_plan(folder: Path | None, count: int | None) -> Plan:
    """What to make of the pictures in ``folder``, or of a few that are drawn here if there is no folder.

    Raises ``OSError`` if the folder cannot be read, and ``ImportError`` if Pillow is needed and missing.
    """
    if folder is not None:
        return build_plan({path.name: path for path in find_pictures(folder).found.values()}, count)
    from hailuo_async._cli.demo_pictures import draw_pictures  # here, for only drawing needs Pillow

    return build_plan({f"{name}.jpg": picture for name, picture in draw_pictures().items()}, count)


def build_plan(pictures: Mapping[str, ImageSource], count: int | None = None) -> Plan:
    """A video for each picture and, of two or more, one from the first to the second; ``count`` jobs if that is given.

    The pictures are looked at here, so that a bad one costs neither a job nor a question. More jobs than there are
    pictures for use them again.
    """
    good: dict[str, ImageSource] = {}
    unusable: dict[str, ImageError] = {}
    for name, source in pictures.items():
        try:
            inspect_image("first_frame_image", source)
            good[name] = source
        except ImageError as error:
            unusable[name] = error
    scenes = _scenes(good)
    jobs: dict[str, Job] = {}
    for name, make in itertools.islice(itertools.cycle(scenes), len(scenes) if count is None else count):
        key = free_name(name, jobs)
        jobs[key] = make(key=key)
    return Plan(jobs, unusable)


def _scenes(pictures: Mapping[str, ImageSource]) -> list[tuple[str, Callable[..., Job]]]:
    """The name of each video, and what makes its job."""
    names, sources = [short_name(title(name)) for name in pictures], list(pictures.values())
    scenes: list[tuple[str, Callable[..., Job]]] = [
        (name, partial(ImageToVideo, source, prompt=_ONE_PICTURE)) for name, source in zip(names, sources, strict=True)
    ]
    if len(sources) > 1:
        first, last = sources[:2]
        turn = partial(FirstLastFrameToVideo, last, first_frame_image=first, prompt=_TWO_PICTURES)
        scenes.append(("-to-".join(names[:2]), turn))
    return scenes


def choose_targets(keys: Iterable[str], folder: Path) -> dict[str, Path]:
    """For each key a file in ``folder`` that does not exist yet. Raises ``OSError`` if the folder cannot be read."""
    taken = {path.name for path in folder.iterdir()} if folder.exists() else set()
    targets = {}
    for key in keys:
        name = free_name(key, taken, ".mp4")
        taken.add(name)
        targets[key] = folder / name
    return targets


def build_batch_plan(plan: Plan, output: Path, *, is_real: bool, is_json: bool) -> BatchPlan:
    """The batch for ``plan``, each video in a new file. Raises ``OSError`` if ``output`` cannot be read."""
    jobs, targets = plan.jobs, choose_targets(plan.jobs, output)
    return BatchPlan(
        entries=lambda: [Entry(key, jobs.__getitem__, size=key) for key in jobs],
        total=len(jobs),
        targets=targets.__getitem__,
        output=output,
        journal=output / JOURNAL_NAME if is_real else None,
        left_out=tuple(
            ResultLine(key=click.format_filename(name), result=JobResult.UNUSABLE, error=error)
            for name, error in plan.unusable.items()
        ),
        is_json=is_json,
    )


@contextlib.asynccontextmanager
async def emulated_session(max_running: int | None, **settings: Any) -> AsyncGenerator[AsyncSession]:
    """A session on an emulator of its own, which runs three tasks at once and does not say so.

    Raises ``ImportError`` if what renders films is not installed.
    """
    async with (
        Emulator(render=True, generation_s=_GENERATION_S) as emulator,
        AsyncSession(api_key=emulator.api_key, base_url=emulator.url, max_running=max_running, **settings) as session,
    ):
        yield session


def show_page(plan: Plan, max_running: int | None) -> None:
    """Serves the page over an emulator, with the jobs of ``plan`` under way, until a signal. Nothing of it is kept.

    Raises ``ImportError`` if what renders films is not installed.
    """
    from hailuo_async._cli.serve import check_address, serve_page  # here, for only the page needs its extra
    from hailuo_async.web.page import Page

    with tempfile.TemporaryDirectory(prefix="hailuo-demo-") as name:
        folder = Path(name)
        page = Page(
            make_session=lambda: emulated_session(
                max_running, journal=folder / JOURNAL_NAME, journal_prompts=True, keep_jobs=True
            ),
            journal=folder / JOURNAL_NAME,
            folder=folder,
            notice="demo: nothing is paid for",
        )
        serve_page(page, check_address("127.0.0.1", 0, None), jobs=plan.jobs)
