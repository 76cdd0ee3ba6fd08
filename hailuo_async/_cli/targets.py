"""The files for the videos of a batch: the same for the same jobs at every run, and safe on every platform."""

from __future__ import annotations

import itertools
import os
import shutil
import tempfile
from collections.abc import Collection
from pathlib import Path

import attrs
import click

from hailuo_async._io.filenames import DEFAULT_SUFFIX, MAX_NAME_BYTES, file_name

#: A video of six seconds has one to five megabytes.
_MIN_FREE_BYTES = 8_000_000


def make_folder(folder: Path) -> None:
    """Makes ``folder``, and tests that a file can be written there, before its video is paid for.

    Raises ``click.UsageError`` if not, and ``OSError`` if it cannot be made.
    """
    folder.mkdir(parents=True, exist_ok=True)
    try:
        with tempfile.TemporaryFile(dir=folder):
            pass
        free = shutil.disk_usage(folder).free
    except OSError as error:
        raise click.UsageError(f"{click.format_filename(folder)} cannot be written to: {error.strerror}") from None
    if free < _MIN_FREE_BYTES:
        raise click.UsageError(f"the disk of {click.format_filename(folder)} is full: a video needs some megabytes")


def check_name(target: Path) -> None:
    """Raises ``click.UsageError`` if ``target`` cannot have its name here, before its video is paid for."""
    try:
        os.fsencode(target)
    except UnicodeEncodeError as error:
        reason = f"{target.name!a} cannot be the name of a file in {error.encoding}: set LC_ALL=C.UTF-8"
        raise click.UsageError(reason) from None


@attrs.define(eq=False)
class TargetFiles:
    """Gives each key of a batch a file in its folder.

    The library's rule turns ``Cat`` into ``Cat-…`` with a piece of its hash, as there may be a ``cat`` some day. Here
    all keys are known, so a key keeps its capitals unless another one differs from it only in these.
    """

    folder: Path
    alike: Collection[str] = ()
    """The keys, in small letters, that differ from another only in their capitals."""
    renewed: Collection[str] = ()
    """Keys of jobs that are made anew. No file is overwritten: each of them gets a new name."""
    near: Collection[str] = ()
    """Keys that begin like one of those: their files are not for it."""
    _free: dict[str, Path] = attrs.field(factory=dict, init=False)

    def __call__(self, key: str) -> Path:
        """The file for the video of ``key``. Looks at the disk once for each renewed key."""
        if key not in self.renewed:
            return self._usual(key)
        if key not in self._free:
            path, taken = self._usual(key), {*map(self._usual, self.near), *self._free.values()} - {self._usual(key)}
            numbered = (path.with_stem(f"{path.stem}-{number}") for number in itertools.count(2))
            every = itertools.chain([path], numbered)
            self._free[key] = next(free for free in every if free not in taken and not free.exists())
        return self._free[key]

    def _usual(self, key: str) -> Path:
        return self.folder / (file_name(key) if key.lower() in self.alike else _with_capitals(key))


def _with_capitals(key: str) -> str:
    lower, name = key.lower(), key + DEFAULT_SUFFIX
    # The lower case may be shorter: a Kelvin sign has three bytes, and its "k" one.
    is_kept = file_name(lower) == lower + DEFAULT_SUFFIX and len(name.encode()) <= MAX_NAME_BYTES
    return name if is_kept else file_name(key)
