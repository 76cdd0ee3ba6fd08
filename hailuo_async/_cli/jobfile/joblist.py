"""What is to be made: a file of jobs, or a folder of pictures, checked whole before anything is paid for.

Each fault of a line or a picture becomes a `Problem` with its place, and reading goes on: all are reported at once.
Only a source that cannot be read at all raises. How a file is written is known to ``jsonlines``, ``spreadsheet`` and
``fields``.

A journal knows a job by its key from one run to the next, so a key must not change when the lines around it
do: a job whose key changes is paid for again. A line may give its key. One that does not is named by its picture and a
piece of its job's fingerprint, ``cat-91c36e2f4a``, so that lines may be inserted, removed and sorted; with mere
numbers, their names would move on. A line that asks for something else, or whose picture has other content, is another
job, as it is to the journal. The same line twice is two jobs, and only such are numbered: ``cat-91c36e2f4a-2``.
"""

from __future__ import annotations

import itertools
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import TypeAlias

import attrs

from hailuo_async._cli.jobfile.fields import JobRow, picture_name, read_job_row, with_key
from hailuo_async._cli.jobfile.folder import Pictures, find_pictures
from hailuo_async._cli.jobfile.image_cache import ImageCache
from hailuo_async._cli.jobfile.jsonlines import read_json, read_json_lines
from hailuo_async._cli.jobfile.names import short_name
from hailuo_async._cli.jobfile.rows import Row
from hailuo_async._cli.jobfile.spreadsheet import read_spreadsheet
from hailuo_async._cli.jobfile.text import STDIN, TextFile, open_text
from hailuo_async._cli.problems import Problem, one_line
from hailuo_async._images.frame import Frame
from hailuo_async._images.source import ImageSource
from hailuo_async._rules.identity import build_fingerprint
from hailuo_async.errors import ConfigError
from hailuo_async.jobs import Job
from hailuo_async.models import MODELS

__all__ = ["JobList", "Problem", "ReadOptions", "read_jobs"]

_Reader: TypeAlias = Callable[[TextFile, str | None], Iterable[Row | Problem | str]]

_READERS: Mapping[str, _Reader] = {
    ".jsonl": read_json_lines,
    ".ndjson": read_json_lines,
    ".json": read_json,
    **dict.fromkeys((".csv", ".tsv", ".txt"), read_spreadsheet),
}
#: Hexadecimal digits of a fingerprint in a key: 40 bits tell thousands of jobs with the same picture apart.
_MARK_DIGITS = 10
#: More are no slip of the pen: videos of six seconds for 30,000 dollars and more. A file may be split.
MAX_JOBS = 100_000


@attrs.frozen(kw_only=True)
class ReadOptions:
    """How a list of jobs is read, beside what stands in it."""

    defaults: Mapping[str, object] = attrs.field(factory=dict)
    """Fields of the jobs that do not say otherwise."""
    takes: int = 1
    """How many of each."""
    is_recursive: bool = False
    encoding: str | None = None


@attrs.frozen
class JobList:
    """What is to be made, in its order, and what is wrong with it."""

    jobs: Mapping[str, Job]
    """By their keys: every job has one."""
    places: Mapping[str, str]
    """Where each of them stands, by its key."""
    problems: tuple[Problem, ...]
    """Everything that is wrong. What a problem is about is not among the jobs."""
    notes: tuple[Problem | str, ...] = ()
    """What hinders nothing, but is worth knowing before it is paid for: brackets that are no camera commands."""

    labels: Mapping[str, str] = attrs.field(factory=dict)
    """For people, the picture and the number of each job whose key was made."""

    @property
    def seconds(self) -> int:
        """Seconds of video that the jobs make."""
        return sum(job.duration for job in self.jobs.values())


def read_jobs(source: Path, options: ReadOptions | None = None) -> JobList:
    """The jobs that ``source`` asks for: a folder of pictures, a file of jobs, or ``-`` for the command's stdin.

    Reads all of it and looks at every image, so it blocks. Raises ``OSError`` for what cannot be read at all, and
    ``ConfigError`` for a file of another kind.
    """
    options = options or ReadOptions()
    if source != STDIN and source.is_dir():
        return _read_folder(source, options)
    return _read_file(source, options)


def _read_folder(folder: Path, options: ReadOptions) -> JobList:
    pictures = find_pictures(folder, is_recursive=options.is_recursive, fit=options.defaults.get("fit") is True)
    reading = _Reading(options.takes)
    reading.notes += [f"Left out of {one_line(str(folder))}: {pictures.left_out}"] if pictures.left_out else []
    for row in _folder_rows(pictures, options.defaults):
        job_row = read_job_row(row, Path(), options.defaults)
        reading.take(job_row)
    reading.problems = [_without_names(problem) for problem in reading.problems]
    for path, other in pictures.twice.items():
        message = f"is named like {other}: one of the two needs another name"
        reading.problems.append(Problem(str(path), None, message))
    if not reading.rows and not reading.problems:
        reading.problems.append(Problem(str(folder), None, "holds no JPEG, PNG or WebP picture", is_whole=True))
    return reading.result()


def _without_names(problem: Problem) -> Problem:
    """``problem`` of a picture that is named already by its place."""
    message = problem.message.removeprefix(f"({Path(problem.where).name}) ")
    return attrs.evolve(problem, field=None, message=message)


def _folder_rows(pictures: Pictures, defaults: Mapping[str, object]) -> Iterator[Row]:
    model = MODELS.get(str(defaults.get("model")).removeprefix("minimax/"))
    field = "last_frame_image" if model is not None and model.takes_last_frame else "first_frame_image"
    for key, path in pictures.found.items():
        yield Row(one_line(str(path)), {field: path, "key": key})


def _read_file(source: Path, options: ReadOptions) -> JobList:
    suffix = source.suffix.lower()
    if source != STDIN and suffix not in _READERS:
        rule = "must be a folder of pictures, - for stdin, or a file that ends in .csv, .tsv, .jsonl, .ndjson or .json"
        raise ConfigError(field="jobs", value=str(source), rule=rule)
    text = open_text(source, options.encoding)
    reading = _Reading(options.takes)
    if isinstance(text, Problem):
        reading.problems.append(text)
        return reading.result()
    read = _READERS[suffix] if source != STDIN else _reader_of(text)
    prompt = options.defaults.get("prompt")
    reading.read(read(text, prompt if isinstance(prompt, str) else None), text.folder, options.defaults)
    if not reading.rows and not reading.problems:
        reading.problems.append(Problem(text.name, None, "holds no job", is_whole=True))
    return reading.result()


def _reader_of(text: TextFile) -> _Reader:
    """What is written to stdin: JSON begins with a bracket."""
    head = next((line.lstrip()[:1] for _, line in text.lines() if line.strip()), "")
    return read_json if head in ("{", "[") else read_spreadsheet


@attrs.define
class _Reading:
    """The rows of a list. Keys are made only when all are read: a later line may give the one that would be made."""

    takes: int
    problems: list[Problem] = attrs.field(factory=list, init=False)
    notes: list[Problem | str] = attrs.field(factory=list, init=False)
    rows: list[tuple[str, Job, bool]] = attrs.field(factory=list, init=False)
    """The places of those without problems, and their jobs with the keys that they have or would like to have."""
    _given: dict[str, str] = attrs.field(factory=dict, init=False)
    """The keys that lines give, and where they stand."""
    _looks: ImageCache = attrs.field(factory=ImageCache, init=False)

    def read(self, found: Iterable[Row | Problem | str], base: Path, defaults: Mapping[str, object]) -> None:
        """Takes all of them."""
        for row in found:
            if isinstance(row, str):
                self.notes.append(row)
            elif isinstance(row, Problem):
                self.problems.append(row)
            else:
                self.take(read_job_row(row, base, defaults))
            if len(self.rows) * self.takes > MAX_JOBS:
                message = f"asks for more than {MAX_JOBS} jobs, and at most so many are taken at once: split it"
                self.problems.append(Problem(row.place if isinstance(row, Row) else "", None, message, is_whole=True))
                return

    def take(self, job_row: JobRow) -> None:
        """Looks at the row's images and its key."""
        frames = self._inspect_images(job_row)
        key = job_row.key
        if key is not None and self._given.setdefault(key, job_row.row.place) != job_row.row.place:
            job_row.refuse("key", f"is the job's own name; {key!r} stands in {self._given[key]} too")
        self.problems += job_row.problems
        self.notes += job_row.notes
        if not job_row.problems:
            wanted = key or _made_key(job_row, frames)
            self.rows.append((job_row.row.place, job_row.job(wanted), key is not None))

    def _inspect_images(self, job_row: JobRow) -> dict[str, Frame]:
        frames = {}
        for field, source in job_row.images.items():
            seen = self._looks.look(source, fingerprint=job_row.key is None, fit=job_row.is_fitted)
            if isinstance(seen, str):
                job_row.refuse(field, seen)
            else:
                frames[field] = seen
        return frames

    def result(self) -> JobList:
        """The list of what was taken."""
        jobs: dict[str, Job] = {}
        places: dict[str, str] = {}
        numbers: defaultdict[str, Iterator[int]] = defaultdict(lambda: itertools.count(2))
        labels: dict[str, str] = {}
        for count, (place, job, is_given) in enumerate(self.rows, 1):
            wanted = key = job.key or ""
            while not is_given and (key in self._given or key in jobs):
                key = f"{wanted}-{next(numbers[wanted])}"
            jobs[key], places[key] = job if key == wanted else with_key(job, key), place
            if not is_given:
                labels[key] = f"{wanted[: -_MARK_DIGITS - 1]} #{count}"
        for key in list(jobs) if self.takes > 1 else ():
            self._add_takes(key, jobs, places)
        return JobList(jobs, places, tuple(self.problems), tuple(self.notes), labels)

    def _add_takes(self, key: str, jobs: dict[str, Job], places: dict[str, str]) -> None:
        """The first take has the job's own key: to ask for more takes later pays for no take again."""
        for number in range(2, self.takes + 1):
            other = f"{short_name(key, _MAX_TAKEN_BYTES)}-take-{number}"
            if other in jobs:
                self.problems.append(Problem(places[key], "key", f"needs {other!r} for a take, which is another job's"))
            else:
                jobs[other], places[other] = with_key(jobs[key], other), places[key]


#: With the number of a take it is still a key.
_MAX_TAKEN_BYTES = 185


def _made_key(job_row: JobRow, frames: Mapping[str, Frame]) -> str:
    """For people the name of the picture that the video starts from, and for the journal what the job asks."""
    name = _name(next(iter(job_row.images.values())))
    return f"{name}-{build_fingerprint(job_row.job(), frames)[:_MARK_DIGITS]}"


def _name(image: ImageSource) -> str:
    """The name of a file or of what a URL names, without its ending. Without capitals, which no file of ours has."""
    return short_name(picture_name(image)).casefold() or "image"
