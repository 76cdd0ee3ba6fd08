"""Files of jobs, in a folder with pictures, and what is read from them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import attrs
from PIL import Image

from hailuo_async._cli.jobfile.joblist import JobList, Problem, ReadOptions, read_jobs
from hailuo_async.jobs import Job

URL = "https://example.com/sea.jpg"


def draw_pictures(folder: Path) -> None:
    """Two pictures that are good and one that is too small."""
    for name, side in {"cat.png": 320, "dog.png": 340, "small.png": 300}.items():
        Image.new("RGB", (side, side)).save(folder / name)


@attrs.frozen
class Listed:
    """A list of jobs at a glance."""

    jobs: dict[str, Job]
    places: dict[str, str]
    problems: tuple[Problem, ...] = ()
    notes: tuple[Problem | str, ...] = ()
    labels: dict[str, str] = attrs.field(factory=dict, eq=False)

    @property
    def seconds(self) -> int:
        return sum(job.duration for job in self.jobs.values())


def listed(found: JobList) -> Listed:
    """All that is in ``found``; of a list with something wrong in it as a whole, no jobs."""
    is_whole = any(problem.is_whole for problem in found.problems)
    entries = [] if is_whole else list(found.entries())
    assert is_whole or len(entries) == len(found)
    return Listed(
        {entry.key: entry.job for entry in entries},
        {entry.key: entry.place for entry in entries},
        tuple(found.problems),
        tuple(found.notes),
        {entry.key: entry.label for entry in entries if entry.label is not None},
    )


def read_list(source: Path, options: ReadOptions | None = None) -> Listed:
    return listed(read_jobs(source, options))


def read(folder: Path, name: str, content: str | bytes) -> Listed:
    path = folder / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return read_list(path)


def read_lines(folder: Path, *rows: Mapping[str, object]) -> Listed:
    return read(folder, "jobs.jsonl", "".join(json.dumps(row) + "\n" for row in rows))


def told(found: Listed) -> list[str]:
    """The problems in full, of what is in a folder called ``in``."""
    return [str(problem).removeprefix("in/") for problem in found.problems]
