"""A stamp says what the bytes of an unfinished video are of: which resource, in which state, with which checksums.

It lies beside the part as JSON. What is found there may be torn, damaged or another program's: then there is no stamp.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os

import attrs

from hailuo_async._io.download.exclusive import is_plain_file

#: A stamp has some 300 bytes. A larger file is not one of ours, and is not read.
_MAX_BYTES = 2**16
_READ_FLAGS = os.O_RDONLY | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)


@attrs.frozen
class Stamp:
    """What bytes are of: which resource, which state of it (``None``: not known), and its checksums in hex."""

    of: str
    validator: str | None = None
    checksums: dict[str, str] = attrs.field(factory=dict)


@attrs.frozen
class StampedBytes:
    """A stamp as it lies on the disk: the first ``size`` bytes of the part are there and bear it."""

    stamp: Stamp
    size: int


def new_hash(algorithm: str) -> hashlib._Hash:
    """A hash by its name. Here it is a checksum against accidents, so MD5 is as good as any."""
    return hashlib.new(algorithm, usedforsecurity=False)


def read_stamp(path: str) -> StampedBytes | None:
    """The stamp at ``path``, if a whole one lies there. Blocks, but never waits for another program."""
    try:
        if not is_plain_file(path):
            return None
        with open(os.open(path, _READ_FLAGS), "rb") as file:
            return _structure(json.loads(file.read(_MAX_BYTES)))
    except (OSError, ValueError, RecursionError):  # RecursionError: json, of a text nested some thousand deep
        return None


def write_stamp(path: str, stamped: StampedBytes) -> None:
    """Writes a new stamp. Blocks. Raises ``OSError``, also if something lies at ``path``."""
    with open(path, "x", encoding="utf-8") as file:
        json.dump(attrs.asdict(stamped), file)


def remove_stamp(path: str) -> None:
    """Removes the stamp at ``path``. What is not a plain file is another program's, and stays. Blocks."""
    with contextlib.suppress(FileNotFoundError):
        if is_plain_file(path):
            os.unlink(path)


def _structure(content: object) -> StampedBytes:
    """Raises ``ValueError`` if ``content`` is no stamp."""
    import cattrs  # takes milliseconds, and few programs ever come here

    try:
        return cattrs.Converter().structure(content, StampedBytes)
    except cattrs.BaseValidationError as error:
        raise ValueError("not a stamp") from error
