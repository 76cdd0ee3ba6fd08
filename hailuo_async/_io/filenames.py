"""Names for the files that videos are saved in, safe on every platform, and never the same for two keys.

A key comes from the caller, who may have it from a stranger. A name keeps it as it is only where every file system
keeps it as it is: no separators, no reserved names, no capitals (``A`` and ``a`` are one file on some systems) and
no letters that some systems compose again. Any other key is made harmless and marked with a piece of its own hash.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import re
import unicodedata
from pathlib import Path, PurePosixPath
from urllib.parse import urlsplit

from hailuo_async.errors import DownloadError

#: The longest name, in UTF-8. Most systems stop at 255: the rest is for the endings of what lies beside it.
MAX_NAME_BYTES = 200
DEFAULT_SUFFIX = ".mp4"

_PART_SUFFIX = ".part"

_SUFFIXES = frozenset({".avi", ".gif", ".jpeg", ".jpg", ".m4v", ".mkv", ".mov", ".mp4", ".png", ".webm", ".webp"})
_FORBIDDEN = frozenset('<>:"/\\|?*')
#: Control and format characters (which can turn a name round), surrogates, private and unassigned ones, line ends,
#: and spaces that are not the plain one.
_FORBIDDEN_CATEGORIES = frozenset({"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp", "Zs"})
#: Names of Windows' devices, which they keep with any ending.
_RESERVED = re.compile(r"(?:con|prn|aux|nul|conin\$|conout\$|(?:com|lpt)[0-9¹²³])\s*(?:\.|$)", re.IGNORECASE)
_MARK_DIGITS = 12
_MARKED = re.compile(rf"-[0-9a-f]{{{_MARK_DIGITS}}}$")


def file_name(key: str, suffix: str = DEFAULT_SUFFIX) -> str:
    """The name of the file for ``key``: at most 200 bytes, one path component, safe on every platform.

    Two keys never get the same name, also where capitals do not count. The same key always gets the same one.
    """
    stem = _harmless(key)
    if stem == key and _is_kept_everywhere(key) and len(_encoded(key + suffix)) <= MAX_NAME_BYTES:
        return key + suffix
    mark = "-" + hashlib.sha256(_encoded(key)).hexdigest()[:_MARK_DIGITS]
    room = MAX_NAME_BYTES - len(_encoded(mark + suffix))
    return (_encoded(stem)[:room].decode(errors="ignore") or "video") + mark + suffix


def suffix_for(format_name: str | None, url: str) -> str:
    """The ending for a resource, by the service's word for its format or else by its URL; ``.mp4`` if neither says one.

    Only endings of pictures and videos: a URL cannot make the file something that a double click would run.
    """
    by_format = f".{format_name.lower()}" if format_name is not None else ""
    try:
        spelled = PurePosixPath(urlsplit(url).path).suffix.lower()
    except ValueError:
        spelled = ""
    return next((suffix for suffix in (by_format, spelled) if suffix in _SUFFIXES), DEFAULT_SUFFIX)


def part_name(name: str) -> str:
    """The name of the unfinished file beside the file ``name``: that and ``.part``, or a shorter one with a mark.

    The target may have a name as long as the file system takes, and its neighbours need room for their endings.
    """
    encoded = _encoded(name)
    if len(encoded) <= MAX_NAME_BYTES:
        return f"{name}{_PART_SUFFIX}"
    mark = hashlib.sha256(encoded).hexdigest()[:_MARK_DIGITS]
    return f"{encoded[:MAX_NAME_BYTES].decode(errors='ignore')}-{mark}{_PART_SUFFIX}"


def private_name(part: str, mark: str) -> str:
    """The path of a part that is one download's alone, on a file system without locks."""
    return f"{part.removesuffix(_PART_SUFFIX)}.{mark}{_PART_SUFFIX}"


def is_directory(target: str | os.PathLike[str]) -> bool:
    """Whether ``target`` means a directory: it is one, or is written as one. Looks at the disk, so off the loop."""
    path = os.fspath(target)
    return path.endswith(tuple(filter(None, (os.sep, os.altsep)))) or os.path.isdir(path)


def make_directory(directory: Path) -> None:
    """Makes ``directory`` if there is none. Blocks. Raises ``DownloadError`` if there can be no files in it."""
    try:
        directory.mkdir(parents=True, exist_ok=True)
        if not os.access(directory, os.W_OK | os.X_OK):
            raise OSError(errno.EACCES, os.strerror(errno.EACCES))
    except (OSError, ValueError) as error:
        raise DownloadError(reason=f"cannot hold videos: {_words(error)}", path=str(directory)) from error


def check_target(file: Path) -> None:
    """Raises ``DownloadError`` if ``file`` cannot be made: it is there, or its name or directory cannot be. Blocks."""
    try:
        _check_names(file)
        file.lstat()
    except FileNotFoundError:
        return
    except (OSError, ValueError) as error:
        raise DownloadError(reason=f"cannot be written: {_words(error)}", path=str(file)) from error
    raise DownloadError(reason="is there already: move it away, or save elsewhere", path=str(file))


def _words(error: OSError | ValueError) -> str:
    """What the system says of a name. ``ValueError``: it holds NUL, or letters that this system cannot spell."""
    return (isinstance(error, OSError) and error.strerror) or str(error)


def _check_names(file: Path) -> None:
    """Raises ``OSError`` if a directory that is still to be made, or the file in it, cannot have its name there."""
    # For a path through a missing directory the system says only that, and not that a name in it is too long.
    existing = next(path for path in (file, *file.parents) if path.exists())  # "." and "/" have no parents
    for name in file.relative_to(existing).parts:
        with contextlib.suppress(FileNotFoundError):
            (existing / name).lstat()


def target_for(
    target: str | os.PathLike[str], *, is_directory: bool, key: str | None, task_id: str, suffix: str = DEFAULT_SUFFIX
) -> Path:
    """The file to save to: ``target`` itself, or in it one named by the job's key or else by the task's id."""
    path = Path(target)
    return path / file_name(task_id if key is None else key, suffix) if is_directory else path


def _encoded(text: str) -> bytes:
    return text.encode(errors="surrogatepass")


def _harmless(key: str) -> str:
    """``key`` without what some platform refuses or reads in another way. Different keys may become the same."""
    plain = "".join("_" if _is_forbidden(character) else character for character in key).strip(" .")
    return f"_{plain}" if _RESERVED.match(plain) else plain


def _is_forbidden(character: str) -> bool:
    return character in _FORBIDDEN or (character != " " and unicodedata.category(character) in _FORBIDDEN_CATEGORIES)


def _is_kept_everywhere(key: str) -> bool:
    """Whether no system takes ``key`` for another kept one: in one case, composed, and not looking marked."""
    return key != "" and unicodedata.normalize("NFC", key).upper().casefold() == key and _MARKED.search(key) is None
