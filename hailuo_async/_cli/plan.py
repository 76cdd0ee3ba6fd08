"""What the demo makes of pictures: jobs, and the files that their videos go to. Looks at the disk, so it blocks."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping, Sequence
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
class _Scene:
    """What one video shows: the picture that it starts from and, if there is one, the picture that it ends on."""

    name: str
    first: ImageSource
    last: ImageSource | None = None

    def job(self, key: str) -> Job:
        if self.last is None:
            return ImageToVideo(self.first, prompt=_ONE_PICTURE, key=key)
        return FirstLastFrameToVideo(self.last, first_frame_image=self.first, prompt=_TWO_PICTURES, key=key)


@attrs.frozen
class Unusable:
    """A picture that no job was made of, and why."""

    name: str
    error: ImageError


@attrs.frozen
class Plan:
    """What to send, and what cannot be."""

    jobs: Mapping[str, Job]
    """By their keys."""
    unusable: tuple[Unusable, ...]


def build_plan(pictures: Mapping[str, ImageSource], count: int | None = None) -> Plan:
    """A video for each picture and, of two or more, one from the first to the second; ``count`` jobs if that is given.

    The pictures are looked at here, so that a bad one costs neither a job nor a question. More jobs than there are
    pictures for use them again.
    """
    good, unusable = sort_out(pictures)
    return Plan(_jobs(_scenes(good), count), unusable)


def sort_out(pictures: Mapping[str, ImageSource]) -> tuple[dict[str, ImageSource], tuple[Unusable, ...]]:
    """The pictures that the service takes, and those that it would refuse. Looks at each."""
    good: dict[str, ImageSource] = {}
    unusable = []
    for name, source in pictures.items():
        try:
            inspect_image("first_frame_image", source)
        except ImageError as error:
            unusable.append(Unusable(name, error))
        else:
            good[name] = source
    return good, tuple(unusable)


def _scenes(pictures: Mapping[str, ImageSource]) -> list[_Scene]:
    names = [short_name(title(name)) for name in pictures]
    sources = list(pictures.values())
    scenes = [_Scene(name, source) for name, source in zip(names, sources, strict=True)]
    return [*scenes, _Scene("-to-".join(names[:2]), sources[0], sources[1])] if len(sources) > 1 else scenes


def _jobs(scenes: Sequence[_Scene], count: int | None) -> dict[str, Job]:
    jobs: dict[str, Job] = {}
    for scene in itertools.islice(itertools.cycle(scenes), len(scenes) if count is None else count):
        key = free_name(scene.name, jobs)
        jobs[key] = scene.job(key)
    return jobs


def choose_targets(keys: Iterable[str], folder: Path) -> dict[str, Path]:
    """For each key a file in ``folder`` that does not exist yet. Raises ``OSError`` if the folder cannot be read."""
    taken = {path.name for path in folder.iterdir()}
    targets = {}
    for key in keys:
        name = free_name(key, taken, ".mp4")
        taken.add(name)
        targets[key] = folder / name
    return targets
