"""A list of jobs, from a file or a folder of pictures, checked whole before anything is paid for.

Each fault of a line or a picture becomes a `Problem` with its place, and reading goes on: all are reported at once.
Only a source that cannot be read at all raises. How a file is written is known to ``jsonlines``, ``spreadsheet`` and
``fields``.

A journal knows a job by its key from one run to the next, so a key must not change when the lines around it
do: a job whose key changes is paid for again. A line may give its key. Any other is named by its picture and a
piece of its job's fingerprint, ``cat-91c36e2f4a``, so that lines may be inserted, removed and sorted; a mere number
would move on. A line that asks for something else, or whose picture has other content, is another job, for the journal
too. The same line twice is two jobs, and only these are numbered: ``cat-91c36e2f4a-2``.

A list may have millions of rows, so it is never held in memory. `read_jobs` checks all rows, and `JobList.entries`
reads them again: for the bill, while the jobs are sent, and for the report. Of each row only a number for its key is
held.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping
from copy import copy
from functools import lru_cache
from pathlib import Path
from typing import TypeAlias

import attrs

from hailuo_async._cli.jobfile.fields import JobRow, kind_of, picture_name, read_job_row
from hailuo_async._cli.jobfile.folder import find_pictures
from hailuo_async._cli.jobfile.jsonlines import read_json, read_json_lines
from hailuo_async._cli.jobfile.names import short_name
from hailuo_async._cli.jobfile.rows import PictureRow, Row
from hailuo_async._cli.jobfile.spreadsheet import read_spreadsheet
from hailuo_async._cli.jobfile.taken_keys import TakenKeys, mark_of
from hailuo_async._cli.jobfile.text import STDIN, TextFile, open_text
from hailuo_async._cli.problems import Problem, one_line
from hailuo_async._images.frame import Frame, inspect_image
from hailuo_async._images.source import ImageSource
from hailuo_async._rules.identity import build_fingerprint
from hailuo_async.errors import ConfigError, ImageError
from hailuo_async.jobs import FirstLastFrameToVideo, Job

__all__ = ["Entry", "JobList", "Problem", "ReadOptions", "read_jobs"]

_Reader: TypeAlias = Callable[[TextFile, str | None], Iterable[Row | Problem | str]]

_READERS: Mapping[str, _Reader] = {
    ".jsonl": read_json_lines,
    ".ndjson": read_json_lines,
    ".json": read_json,
    **dict.fromkeys((".csv", ".tsv", ".txt"), read_spreadsheet),
}
#: Hexadecimal digits of a fingerprint in a key: 40 bits tell thousands of jobs with the same picture apart.
_MARK_DIGITS = 10
#: Each takes a hundred bytes. More would cost over a million dollars; a file may be split.
MAX_JOBS = 4_000_000
#: After so many the file as a whole is wrong.
MAX_PROBLEMS = 10_000
#: So many frames are held, each of half a kilobyte: jobs that share a file have it looked at once.
_HELD = 100_000
#: With the number of a take it is still a key.
_MAX_TAKEN_BYTES = 185
_NO_TAKE = "makes a take {!r}, which is another job's key: change one of the two"


@attrs.frozen(kw_only=True)
class ReadOptions:
    """How a list of jobs is read."""

    defaults: Mapping[str, object] = attrs.field(factory=dict)
    """Fields of the jobs that do not set them."""
    takes: int = 1
    """How many videos of each job."""
    is_recursive: bool = False
    encoding: str | None = None
    is_made: Callable[[str], bool] = lambda key: False
    """Whether the video of that key is there: then the pictures of its row may be gone."""


@attrs.define(eq=False)
class Entry:
    """One job of a list."""

    key: str
    _make: Callable[[str], Job]
    """Makes the job with that key."""
    place: str = ""
    """Its file and line."""
    label: str | None = None
    """The name for people of a job whose key was made up: its picture and its number."""
    size: Hashable = None
    """What its price depends on: two jobs of one size cost the same."""

    @property
    def job(self) -> Job:
        return self._make(self.key)


@attrs.define(eq=False)
class JobList:
    """The jobs of a list in their order, and its problems."""

    _read: Callable[[], Iterable[Row | Problem | str]]
    """Reads all rows, as often as it is called."""
    _base: Path
    """The folder in which relative paths begin."""
    _options: ReadOptions
    rows: int = attrs.field(default=0, init=False)
    """How many rows are without problems."""
    problems: list[Problem] = attrs.field(factory=list, init=False)
    """All problems. A row with a problem is not among the jobs."""
    notes: list[Problem | str] = attrs.field(factory=list, init=False)
    """What the user should know before the jobs are paid for: the encoding, brackets that are no camera commands."""
    made: list[str] = attrs.field(factory=list, init=False)
    """The keys of rows without their pictures, whose videos are there: they are not among the jobs."""
    _bad: set[float] = attrs.field(factory=set, init=False)
    """The numbers of the rows with problems."""
    _taken: TakenKeys = attrs.field(factory=TakenKeys, init=False)
    """The keys that rows give."""
    _look: Callable[..., Frame | ImageError] = attrs.field(factory=lambda: lru_cache(_HELD)(_look), init=False)

    def __len__(self) -> int:
        return self.rows * self._options.takes

    @property
    def alike(self) -> frozenset[str]:
        """The keys, in small letters, that differ from another only in their capitals."""
        return self._taken.alike

    def entries(self) -> Iterator[Entry]:
        """The jobs, each with its key, from another reading of the list. Raises ``OSError``."""
        made: Counter[int] = Counter()
        for number, job_row in enumerate(self._job_rows(), 1):
            if number not in self._bad:
                entry = self._entry(number, job_row, made)
                yield entry
                for take in range(2, self._options.takes + 1):
                    yield attrs.evolve(entry, key=_take_key(entry.key, take))

    def _entry(self, number: int, job_row: JobRow, made: Counter[int]) -> Entry:
        key, label = job_row.key, None
        if key is None:
            name = _name(next(iter(job_row.images.values())))
            label = f"{name} #{number}"
            wanted = f"{name}-{build_fingerprint(job_row.job(), self._frames(job_row))[:_MARK_DIGITS]}"
            key = self._free_key(wanted, made)
        return Entry(key, job_row.job, job_row.row.place, label, job_row.size)

    def _free_key(self, wanted: str, made: Counter[int]) -> str:
        """``wanted``, with a number if an earlier row has that key."""
        mark = mark_of(wanted)
        while True:
            made[mark] += 1
            key = wanted if made[mark] == 1 else f"{wanted}-{made[mark]}"
            if not self._taken.has(key):
                return key

    def _job_rows(self) -> Iterator[JobRow]:
        defaults = self._options.defaults
        return (read_job_row(row, self._base, defaults) for row in self._read() if isinstance(row, Row))

    def _frames(self, job_row: JobRow) -> dict[str, Frame]:
        """Looks at its images, with their fingerprints. Leaves out an image that can no longer be sent."""
        looked = {field: self._looked(source, True, job_row) for field, source in job_row.images.items()}
        return {field: seen for field, seen in looked.items() if isinstance(seen, Frame)}

    def _looked(self, source: ImageSource, fingerprint: bool, job_row: JobRow) -> Frame | ImageError:
        look = _look if isinstance(source, str) else self._look  # a data URL may be long, and a URL is not fetched
        return look(source, fingerprint, job_row.is_fitted)

    # --- Checking ---

    def check(self) -> None:
        """Checks all rows, their images and their keys."""
        problems: list[tuple[float, Problem]] = []
        notes: dict[str, tuple[Problem, int]] = {}
        number, made = 0, set[float]()
        for found in self._read():
            if isinstance(found, str):
                self.notes.append(found)
            elif isinstance(found, Problem):
                problems.append((number + 0.5, found))  # between the rows
            else:
                number += 1
                job_row = read_job_row(found, self._base, self._options.defaults)
                doubts, is_whole = job_row.check(), not job_row.problems
                self._look_at(job_row)
                if is_whole and job_row.problems and self._is_made(job_row):
                    made.add(number)
                else:
                    problems += [(number, problem) for problem in job_row.problems]
                for note in doubts:
                    first, count = notes.get(note) or (found.problem("prompt", note), 0)
                    notes[note] = first, count + 1
            if stop := _too_many(number * self._options.takes, len(problems)):
                place = found.place if isinstance(found, Row) else str(found)
                problems.append((number, Problem(place, None, stop, is_whole=True)))
                break
        problems += self._doubled_keys()
        self.notes += [_counted(first, count) for first, count in notes.values()]
        self.problems += [problem for _, problem in sorted(problems, key=lambda each: each[0])]
        self._bad = {number for number, _ in problems} | made
        self.rows = number - sum(1 for number in self._bad if isinstance(number, int))

    def _look_at(self, job_row: JobRow) -> None:
        for field, source in job_row.images.items():
            if not (isinstance(source, str) and source[:4].lower() == "http"):  # which the job itself has checked
                seen = self._looked(source, job_row.key is None, job_row)
                if isinstance(seen, ImageError):
                    job_row.refuse(field, seen)
        for key in _keys(job_row, self._options.takes):
            self._taken.add(key)

    def _is_made(self, job_row: JobRow) -> bool:
        """Whether a picture of a row is gone, and all of its videos are there. Then notes their keys."""
        keys = _keys(job_row, self._options.takes)
        is_gone = any(isinstance(source, Path) and not source.exists() for source in job_row.images.values())
        is_made = is_gone and bool(keys) and all(map(self._options.is_made, keys))
        self.made += keys if is_made else ()
        return is_made

    def _doubled_keys(self) -> Iterator[tuple[int, Problem]]:
        """The problems of keys that more than one row gives. Reads the rows again only if there may be any."""
        if self._taken.is_settled:
            return
        numbered = enumerate(self._job_rows(), 1)
        given = ((number, row, key) for number, row in numbered for key in _keys(row, self._options.takes))
        for number, job_row, key, first in self._taken.settle(given):
            is_own = key == job_row.key
            words = f"must be the job's own; {key!r} stands in {first} too" if is_own else _NO_TAKE.format(key)
            yield number, job_row.row.problem("key", words)


def _look(source: ImageSource, fingerprint: bool, fit: bool) -> Frame | ImageError:
    """The frame of ``source``, without its content, or what is wrong with it. Blocks."""
    try:
        frame = inspect_image("image", source, fingerprint=fingerprint, fit=fit)
    except ImageError as error:
        return copy(error)  # the traceback of the error itself holds what was read
    return frame if frame.is_url else attrs.evolve(frame, content=None)


def _keys(job_row: JobRow, takes: int) -> list[str]:
    """The keys that a row gives. The first take has the job's own key, so that more takes later pay for none again."""
    key = job_row.key
    return [] if not isinstance(key, str) else [key, *(_take_key(key, take) for take in range(2, takes + 1))]


def _take_key(key: str, take: int) -> str:
    return f"{short_name(key, _MAX_TAKEN_BYTES)}-take-{take}"


def _too_many(jobs: int, problems: int) -> str | None:
    if jobs > MAX_JOBS:
        return f"asks for more than {MAX_JOBS} jobs, and at most so many are taken at once: split it"
    if problems > MAX_PROBLEMS:
        return f"more than {MAX_PROBLEMS} problems were found, and the check ends here: correct these first"
    return None


def _counted(first: Problem, count: int) -> Problem:
    return first if count == 1 else attrs.evolve(first, message=f"{first.message}; {count - 1} more have it, too")


# --- Where rows come from ---


def read_jobs(source: Path, options: ReadOptions | None = None) -> JobList:
    """The jobs in ``source``: a folder of pictures, a file of jobs, or ``-`` for the command's stdin.

    Reads all of it and looks at every image, so it blocks. Raises ``OSError`` for what cannot be read at all, and
    ``ConfigError`` for a file of another kind.
    """
    options = options or ReadOptions()
    is_folder = source != STDIN and source.is_dir()
    found = _open_folder(source, options) if is_folder else _open_file(source, options)
    found.check()
    if not (found.rows or found.made or found.problems):
        what = "JPEG, PNG or WebP picture" if is_folder else "job"
        found.problems.append(Problem(_name_of(source), None, f"holds no {what}", is_whole=True))
    return found


def _name_of(source: Path) -> str:
    return "stdin" if source == STDIN else str(source)


def _open_folder(folder: Path, options: ReadOptions) -> JobList:
    pictures = find_pictures(folder, is_recursive=options.is_recursive, fit=options.defaults.get("fit") is True)
    field = "last_frame_image" if kind_of(options.defaults) is FirstLastFrameToVideo else "first_frame_image"

    def rows() -> Iterator[Row | Problem | str]:
        if pictures.left_out:
            yield f"Left out of {one_line(str(folder))}: {pictures.left_out}"
        for key, path in pictures.found.items():
            yield PictureRow(one_line(str(path)), {field: path, "key": key})
        for path, other in pictures.twice.items():
            yield Problem(str(path), None, f"is named like {other}: one of the two needs another name")

    return JobList(rows, Path(), options)


def _open_file(source: Path, options: ReadOptions) -> JobList:
    suffix = source.suffix.lower()
    if source != STDIN and suffix not in _READERS:
        rule = "must be a folder of pictures, - for stdin, or a file that ends in .csv, .tsv, .jsonl, .ndjson or .json"
        raise ConfigError(field="jobs", value=str(source), rule=rule)
    text = open_text(source, options.encoding)
    if isinstance(text, Problem):
        return JobList(lambda: [text], Path(), options)
    read = _READERS[suffix] if source != STDIN else _reader_of(text)
    prompt = options.defaults.get("prompt")
    return JobList(lambda: read(text, prompt if isinstance(prompt, str) else None), text.folder, options)


def _reader_of(text: TextFile) -> _Reader:
    """The reader for stdin: JSON begins with a bracket."""
    head = next((line.lstrip()[:1] for _, line in text.lines() if line.strip()), "")
    return read_json if head in ("{", "[") else read_spreadsheet


def _name(image: ImageSource) -> str:
    """The image's name without its ending, in small letters, as all files of ours have it."""
    return short_name(picture_name(image)).casefold() or "image"
