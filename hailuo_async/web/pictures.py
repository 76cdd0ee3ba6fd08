"""The pictures of the page's own jobs, kept so that its cards show them and a job can be tried again.

Files are named by a digest of the job's id: nothing that a request says becomes a path.
"""

from __future__ import annotations

import hashlib
import shutil
from pathlib import Path

import attrs

from hailuo_async.jobs import Job
from hailuo_async.web.forms import Form

_FRAMES = ("first", "last")
_HEADS = ((b"\xff\xd8\xff", "image/jpeg"), (b"\x89PNG\r\n\x1a\n", "image/png"), (b"RIFF", "image/webp"))


@attrs.define(eq=False)
class Pictures:
    """The folder of the pictures. Every method blocks."""

    folder: Path
    _names: set[str] = attrs.field(factory=set, init=False)

    def open(self) -> None:
        """Makes the folder, if there is none, and looks what is in it."""
        self.folder.mkdir(parents=True, exist_ok=True)
        self._names = {path.name for path in self.folder.iterdir()}

    def has(self, id: str) -> bool:
        """Whether there is a picture of that job. Does not block."""
        return any(_name(id, frame) in self._names for frame in _FRAMES)

    def find(self, id: str) -> dict[str, Path]:
        """The pictures of a job, by ``first`` and ``last``."""
        paths = {frame: self.folder / _name(id, frame) for frame in _FRAMES}
        return {frame: path for frame, path in paths.items() if path.is_file()}

    def keep(self, id: str, form: Form) -> None:
        """Takes the files of ``form`` in. Those that a job of this id has already stay: they may be under way."""
        for field, picture in form.pictures.items():
            if isinstance(picture, Path):
                name = _name(id, "last" if field == "last_frame_image" else "first")
                kept = self.folder / name
                if not kept.exists():
                    shutil.move(picture, kept)
                form.pictures[field] = kept
                self._names.add(name)

    def copy_of(self, id: str, job: Job) -> None:
        """Keeps the pictures of ``job``, where they are bytes or files."""
        for field, picture in job.frames.items():
            name = _name(id, "last" if field == "last_frame_image" else "first")
            if isinstance(picture, bytes):
                (self.folder / name).write_bytes(picture)
            elif isinstance(picture, Path):
                shutil.copyfile(picture, self.folder / name)
            self._names.add(name)

    def copy(self, id: str, new_id: str) -> dict[str, Path]:
        """The pictures of ``id`` once more, as those of ``new_id``."""
        for frame, path in self.find(id).items():
            copied = self.folder / _name(new_id, frame)
            if not copied.exists():
                shutil.copyfile(path, copied)
            self._names.add(copied.name)
        return self.find(new_id)

    def remove(self, id: str) -> None:
        """Removes the pictures of a job that was not taken."""
        for frame in _FRAMES:
            name = _name(id, frame)
            (self.folder / name).unlink(missing_ok=True)
            self._names.discard(name)

    def mime(self, path: Path) -> str:
        """What ``path`` holds, by its first bytes."""
        with path.open("rb") as file:
            head = file.read(16)
        return next((mime for start, mime in _HEADS if head.startswith(start)), "application/octet-stream")


def _name(id: str, frame: str) -> str:
    return f"{hashlib.sha256(id.encode(errors='replace')).hexdigest()[:40]}-{frame}"
