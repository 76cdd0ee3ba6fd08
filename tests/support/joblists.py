"""Files of jobs, in a folder with pictures, and what is read from them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from PIL import Image

from hailuo_async._cli.jobfile.joblist import JobList, read_jobs

URL = "https://example.com/sea.jpg"


def draw_pictures(folder: Path) -> None:
    """Two pictures that are good and one that is too small."""
    for name, side in {"cat.png": 320, "dog.png": 340, "small.png": 300}.items():
        Image.new("RGB", (side, side)).save(folder / name)


def read(folder: Path, name: str, content: str | bytes) -> JobList:
    path = folder / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return read_jobs(path)


def read_lines(folder: Path, *rows: Mapping[str, object]) -> JobList:
    return read(folder, "jobs.jsonl", "".join(json.dumps(row) + "\n" for row in rows))


def told(found: JobList) -> list[str]:
    """The problems in full, of what is in a folder called ``in``."""
    return [str(problem).removeprefix("in/") for problem in found.problems]
