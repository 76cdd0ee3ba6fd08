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

_FIELDS = ("first_frame_image", "last_frame_image")


@attrs.define(eq=False)
class Pictures:
    """The folder of the pictures. Every method but ``has`` blocks."""

    folder: Path
    _names: set[str] = attrs.field(factory=set, init=False)

    def open(self) -> None:
        """Makes the folder, if there is none, and looks what is in it."""
        self.folder.mkdir(parents=True, exist_ok=True)
        self._names = {path.name for path in self.folder.iterdir()}

    def has(self, id: str) -> bool:
        return any(_name(id, field) in self._names for field in _FIELDS)

    def find(self, id: str) -> dict[str, Path]:
        """The pictures of a job, by its fields."""
        paths = {field: self.folder / _name(id, field) for field in _FIELDS}
        return {field: path for field, path in paths.items() if path.is_file()}

    def keep(self, id: str, form: Form) -> None:
        """Takes the files of ``form`` in. Those that a job of this id has already stay: they may be under way."""
        for field, picture in form.pictures.items():
            if isinstance(picture, Path):
                kept = self._place(id, field)
                if not kept.exists():
                    shutil.move(picture, kept)
                form.pictures[field] = kept

    def copy_of(self, id: str, job: Job) -> None:
        """Keeps the pictures of ``job``, where they are bytes or files."""
        for field, picture in job.frames.items():
            if isinstance(picture, bytes):
                self._place(id, field).write_bytes(picture)
            elif isinstance(picture, Path):
                shutil.copyfile(picture, self._place(id, field))

    def copy(self, id: str, new_id: str) -> dict[str, Path]:
        """The pictures of ``id`` once more, as those of ``new_id``."""
        for field, path in self.find(id).items():
            copied = self._place(new_id, field)
            if not copied.exists():
                shutil.copyfile(path, copied)
        return self.find(new_id)

    def remove(self, id: str) -> None:
        """Removes the pictures of a job that was not taken."""
        for field in _FIELDS:
            (self.folder / _name(id, field)).unlink(missing_ok=True)
            self._names.discard(_name(id, field))

    def _place(self, id: str, field: str) -> Path:
        self._names.add(_name(id, field))
        return self.folder / _name(id, field)


def _name(id: str, field: str) -> str:
    digest = hashlib.sha256(id.encode(errors="replace")).hexdigest()[:40]
    return f"{digest}-{'last' if field == 'last_frame_image' else 'first'}"
