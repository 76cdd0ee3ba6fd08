"""Keys for people, made of the names of files. They stay what they are: a job whose key changes is paid for again."""

from __future__ import annotations

import itertools
import os
from collections.abc import Collection
from pathlib import Path

#: Two such names and a number make a key of at most 200 characters, and a file name of at most 255 bytes.
_NAME_BYTES = 90


def title(file_name: str) -> str:
    """The name of a file without its ending, the same in every locale: its bytes are taken for UTF-8."""
    return os.fsencode(Path(file_name).stem).decode(errors="surrogateescape")


def short_name(name: str, max_bytes: int = _NAME_BYTES) -> str:
    """``name`` as a part of a key and of a file's name: printable, and never too long for them."""
    if name.isprintable() and len(name) * 4 <= max_bytes:
        return name
    printable = "".join(character if character.isprintable() else "_" for character in name)
    return printable.encode()[:max_bytes].decode(errors="ignore")


def free_name(name: str, taken: Collection[str], suffix: str = "") -> str:
    """``name`` with ``suffix``, or the first of ``name-2``, ``name-3``, … with it that is not ``taken``."""
    numbered = (f"{name}-{number}{suffix}" for number in itertools.count(2))
    return next(free for free in itertools.chain([name + suffix], numbered) if free not in taken)
