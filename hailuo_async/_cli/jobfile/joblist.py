"""What is to be made: a file of jobs, or a folder of pictures, checked whole before anything is paid for.

Whatever is wrong with a line or a picture is a `Problem` with its place, and the reading goes on: all are told at once.
Only what cannot be read at all raises. How a file is written is told by ``jsonlines``, ``spreadsheet`` and ``terms``.

A journal knows a job by its key from one run to the next, so a key must stay what it is whatever happens to the lines
around it: a job whose key changes is paid for again. A line may give its key. One that does not is named by its picture
and a piece of its job's fingerprint, ``cat-91c36e2f4a``, so that lines may be inserted, removed and sorted; with mere
numbers, their names would move on. A line that asks for something else, or whose picture has other content, is another
job, as it is to the journal. The same line twice is two jobs, and only such are numbered: ``cat-91c36e2f4a-2``.

In a folder a picture's key is its name without the ending. Two pictures with the same one are a problem, and are not
numbered: with the next picture of that name the numbers would move on.
"""

from __future__ import annotations

import itertools
from collections import defaultdict
from collections.abc import Iterator, Mapping
from pathlib import Path, PurePosixPath
from urllib.parse import unquote, urlsplit

import attrs

from hailuo_async._cli.jobfile.fields import JobRow, read_job_row
from hailuo_async._cli.jobfile.image_cache import ImageCache
from hailuo_async._cli.jobfile.jsonlines import read_json_lines
from hailuo_async._cli.jobfile.spreadsheet import read_csv
from hailuo_async._cli.plan import Unusable, find_pictures, short_name, sort_out, title
from hailuo_async._cli.problems import Problem, one_line
from hailuo_async._images.frame import Frame
from hailuo_async._images.source import ImageSource
from hailuo_async._rules.identity import build_fingerprint
from hailuo_async.errors import ConfigError
from hailuo_async.jobs import MAX_KEY_CHARACTERS, ImageToVideo, Job

__all__ = ["JobList", "Problem", "read_jobs"]

_READERS = {".jsonl": read_json_lines, ".ndjson": read_json_lines, ".csv": read_csv}
#: Hexadecimal digits of a fingerprint in a key: 40 bits tell thousands of jobs with the same picture apart.
_MARK_DIGITS = 10


@attrs.frozen
class JobList:
    """What is to be made, in its order, and what is wrong with it."""

    jobs: Mapping[str, Job]
    """By their keys: every job has one."""
    places: Mapping[str, str]
    """Where each of them stands, by its key."""
    problems: tuple[Problem, ...]
    """Everything that is wrong. What a problem is about is not among the jobs."""
    notes: tuple[Problem, ...] = ()
    """What hinders nothing, but is worth knowing before it is paid for: brackets that are no camera commands."""

    @property
    def seconds(self) -> int:
        """Seconds of video that the jobs make, which is what is paid for."""
        return sum(job.duration for job in self.jobs.values())


def read_jobs(source: Path) -> JobList:
    """The jobs that ``source`` asks for: a folder of pictures, or a file that ends in .jsonl, .ndjson or .csv.

    Reads all of it and looks at every image, so it blocks. Raises ``OSError`` for what cannot be read at all, and
    ``ConfigError`` for a file of another kind.
    """
    return _read_folder(source) if source.is_dir() else _read_file(source)


# --- A folder ---------------------------------------------------------------------------------------------------------


def _read_folder(folder: Path) -> JobList:
    good, unusable = sort_out(find_pictures(folder))
    problems = [_unusable(folder, bad) for bad in unusable]
    jobs: dict[str, Job] = {}
    places: dict[str, str] = {}
    for name, picture in good.items():
        place, key = one_line(str(folder / name)), short_name(title(name), MAX_KEY_CHARACTERS)
        if key in jobs:
            problems.append(Problem(place, None, f"is named like {places[key]}: one of the two needs another name"))
        else:
            jobs[key], places[key] = ImageToVideo(picture, key=key), place
    if not jobs and not problems:
        problems.append(Problem(str(folder), None, "holds no JPEG, PNG or WebP picture"))
    return JobList(jobs, places, tuple(problems))


def _unusable(folder: Path, bad: Unusable) -> Problem:
    return Problem(str(folder / bad.name), None, f"{bad.error.rule}; got {bad.error.value}")


# --- A file -----------------------------------------------------------------------------------------------------------


def _read_file(source: Path) -> JobList:
    read = _READERS.get(source.suffix.lower())
    if read is None:
        rule = "must be a folder of pictures, or a file whose name ends in .jsonl, .ndjson or .csv"
        raise ConfigError(field="jobs", value=str(source), rule=rule)
    reading = _Reading()
    for row in read(source):
        if isinstance(row, Problem):
            reading.problems.append(row)
        else:
            reading.take(read_job_row(row, source.parent))
    if not reading.orders and not reading.problems:
        reading.problems.append(Problem(str(source), None, "holds no job"))
    return reading.result()


@attrs.define
class _Reading:
    """The rows of a file. Keys are made only when all are read: a later line may give the one that would be made."""

    problems: list[Problem] = attrs.field(factory=list, init=False)
    orders: list[tuple[JobRow, str]] = attrs.field(factory=list, init=False)
    """The rows without problems, each with the key that it has or would like to have."""
    _notes: list[Problem] = attrs.field(factory=list, init=False)
    _given: dict[str, str] = attrs.field(factory=dict, init=False)
    """The keys that lines give, and where they stand."""
    _looks: ImageCache = attrs.field(factory=ImageCache, init=False)

    def take(self, order: JobRow) -> None:
        """Looks at the row's images and its key."""
        frames = self._inspect_images(order)
        key = order.key
        if key is not None and self._given.setdefault(key, order.row.place) != order.row.place:
            order.refuse("key", f"is the job's own name; {key!r} stands in {self._given[key]} too")
        self.problems += order.problems
        self._notes += order.notes
        if not order.problems:
            self.orders.append((order, key or _made_key(order, frames)))

    def _inspect_images(self, order: JobRow) -> dict[str, Frame]:
        frames = {}
        for field, source in order.images.items():
            seen = self._looks.look(source, fingerprint=order.key is None, fit=order.is_fitted)
            if isinstance(seen, str):
                order.refuse(field, seen)
            else:
                frames[field] = seen
        return frames

    def result(self) -> JobList:
        """The list of what was taken."""
        jobs: dict[str, Job] = {}
        places: dict[str, str] = {}
        numbers: defaultdict[str, Iterator[int]] = defaultdict(lambda: itertools.count(2))
        for order, wanted in self.orders:
            key = wanted
            while order.key is None and (key in self._given or key in jobs):
                key = f"{wanted}-{next(numbers[wanted])}"
            jobs[key], places[key] = order.job(key), order.row.place
        return JobList(jobs, places, tuple(self.problems), tuple(self._notes))


def _made_key(order: JobRow, frames: Mapping[str, Frame]) -> str:
    """For people the name of the picture that the video starts from, and for the journal what the job asks."""
    name = _name(next(iter(order.images.values())))
    return f"{name}-{build_fingerprint(order.job(), frames)[:_MARK_DIGITS]}"


def _name(image: ImageSource) -> str:
    """The name of a file or of what a URL names, without its ending. Without capitals, which no file of ours has."""
    if isinstance(image, Path):
        return short_name(image.stem).casefold()
    path = urlsplit(str(image)).path if str(image)[:4].lower() == "http" else ""
    return short_name(PurePosixPath(unquote(path)).stem).casefold() or "image"
