"""Plans the demo: turns pictures into jobs, and gives each a file. Looks at the disk, so it blocks."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from pathlib import Path

import attrs

from hailuo_async._cli.jobfile.names import free_name, short_name, title
from hailuo_async._images.frame import inspect_image
from hailuo_async._images.source import ImageSource
from hailuo_async.errors import ImageError
from hailuo_async.jobs import FirstLastFrameToVideo, ImageToVideo, Job

_ONE_PICTURE = "[Push in] The scene slowly comes to life"
_TWO_PICTURES = "The first scene turns into the second"


@attrs.frozen
class Plan:
    """The jobs to send, and the pictures that make none."""

    jobs: Mapping[str, Job]
    """By their keys."""
    unusable: Mapping[str, ImageError]
    """The reasons, by the names of the pictures."""


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
