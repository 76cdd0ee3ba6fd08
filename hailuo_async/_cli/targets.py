"""The files that the videos of a batch go to: the same for the same jobs at every run, and safe on every platform."""

from __future__ import annotations

import itertools
import shutil
import tempfile
from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path

import click

from hailuo_async._io.filenames import DEFAULT_SUFFIX, MAX_NAME_BYTES, file_name

#: A video of six seconds has one to five megabytes.
_MIN_FREE_BYTES = 8_000_000


def make_folder(folder: Path) -> None:
    """Makes ``folder``, and tries whether a file can be written there, before its video is paid for.

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


def free_targets(keys: Iterable[str], targets: Mapping[str, Path]) -> dict[str, Path]:
    """For each of ``keys`` its target or, if a file is there, one beside it that is free: no file is overwritten."""
    free = {}
    for key in keys:
        path, numbers = targets[key], itertools.count(2)
        while path.exists():
            path = targets[key].with_stem(f"{targets[key].stem}-{next(numbers)}")
        free[key] = path
    return free


def choose_names(keys: Collection[str], folder: Path) -> dict[str, Path]:
    """For each key a file in ``folder``: by the library's rule, but with its capitals if no other key has them.

    The rule makes ``Cat`` into ``Cat-…`` and a piece of its hash, as there may be a ``cat`` some day. Here all keys of
    the batch are known.
    """
    lowered = Counter(key.lower() for key in keys)
    return {key: folder / (_with_capitals(key) if lowered[key.lower()] == 1 else file_name(key)) for key in keys}


def _with_capitals(key: str) -> str:
    lower, name = key.lower(), key + DEFAULT_SUFFIX
    # The lower case may be shorter: a Kelvin sign has three bytes, and its "k" one.
    is_kept = file_name(lower) == lower + DEFAULT_SUFFIX and len(name.encode()) <= MAX_NAME_BYTES
    return name if is_kept else file_name(key)
