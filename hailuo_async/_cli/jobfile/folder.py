"""The pictures of a folder; every other file in it is counted and named.

A picture's key is its name without the ending; in a subfolder the folders' names stand before it. Of two pictures with
the same key the second has its ending in it, ``cat-png``: a number would move on with the next picture.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path

import attrs

from hailuo_async._cli.jobfile.names import short_name, title
from hailuo_async.jobs import MAX_KEY_CHARACTERS

#: A file whose name ends so counts as a picture: if it is none, a line says so.
_SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".webp"})
#: Pictures that the service does not take, and that ``fit`` turns into PNGs.
_FITTED_SUFFIXES = {
    **dict.fromkeys((".heic", ".heif"), "HEIC"),
    **dict.fromkeys((".tif", ".tiff"), "TIFF"),
    ".gif": "GIF",
    ".bmp": "BMP",
    ".avif": "AVIF",
}
_OTHERS = (
    ("folder", "folders", " (--recursive goes into them)"),
    ("hidden", "hidden", ""),
    ("other file", "other files", ""),
)
_HEAD_BYTES = 12


@attrs.frozen
class Pictures:
    """The pictures of a folder, and the counts of everything else in it."""

    found: Mapping[str, Path]
    """By their keys."""
    twice: Mapping[Path, Path]
    """Pictures without a key of their own, and the picture that has their key."""
    others: Counter[str]
    """Counts of what is left out: pictures that only ``--fit`` takes, by format, and the names of ``_OTHERS``."""

    @property
    def left_out(self) -> str:
        """One line about what is left out, and how to take it in; empty if nothing is."""
        formats = sorted(set(self.others) & set(_FITTED_SUFFIXES.values()))
        pictures = ", ".join(f"{self.others[name]} {name}" for name in formats)
        words = [f"{pictures} (--fit makes pictures of them that the service takes)"] if pictures else []
        for one, several, advice in _OTHERS:
            if count := self.others[one]:
                words.append(f"{count} {one if count == 1 else several}{advice}")
        return ", ".join(words)


def find_pictures(folder: Path, *, is_recursive: bool = False, fit: bool = False) -> Pictures:
    """The pictures in ``folder``, by content or by ending, in the order of their names.

    With ``fit``, also the formats that can be fitted. Raises ``OSError`` if the folder cannot be read.
    """
    found: dict[str, Path] = {}
    twice: dict[Path, Path] = {}
    others: Counter[str] = Counter()
    for path in _walk(folder, others, is_recursive=is_recursive):
        made_of = _FITTED_SUFFIXES.get(path.suffix.lower())
        if made_of is not None and not fit:
            others[made_of] += 1
        elif made_of is None and path.suffix.lower() not in _SUFFIXES and not _begins_like_a_picture(path):
            others["other file"] += 1
        elif (key := _key(path, folder, found)) is not None:
            found[key] = path
        else:
            twice[path] = found[_keys(path, folder)[1]]
    return Pictures(found, twice, others)


def _walk(folder: Path, others: Counter[str], *, is_recursive: bool) -> Iterator[Path]:
    """The files of a folder. A link to a folder is not followed, for it may lead round."""
    for path in sorted(folder.iterdir()):
        if path.name.startswith("."):
            others["hidden"] += 1
        elif path.is_dir():
            if is_recursive and not path.is_symlink():
                yield from _walk(path, others, is_recursive=True)
            else:
                others["folder"] += 1
        elif path.is_file():
            yield path
        else:
            others["other file"] += 1  # a FIFO, say


def _keys(path: Path, folder: Path) -> tuple[str, str]:
    """The picture's key, and its key if another picture has the first one."""
    parents = path.relative_to(folder).parent.parts
    name = "-".join([*(os.fsencode(part).decode(errors="surrogateescape") for part in parents), title(path.name)])
    ending = f"-{path.suffix.removeprefix('.')}"
    longest = MAX_KEY_CHARACTERS
    return short_name(name, longest), short_name(name, longest - len(ending)) + ending


def _key(path: Path, folder: Path, taken: Mapping[str, Path]) -> str | None:
    return next((key for key in _keys(path, folder) if key not in taken), None)


def _begins_like_a_picture(path: Path) -> bool:
    try:
        with path.open("rb") as file:
            head = file.read(_HEAD_BYTES)
    except OSError:
        return False
    is_webp = head.startswith(b"RIFF") and head.endswith(b"WEBP")
    return is_webp or head.startswith((b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n"))
