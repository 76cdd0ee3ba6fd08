"""Checks the image of a job by its type and form alone: nothing is opened or read here.

A job checks its images with `check_source` when it is made. ``frame`` looks inside them when the job is submitted.
Only http(s) and data URLs are text: in a web handler a ``str`` may come from a stranger, who would name our files.
"""

from __future__ import annotations

import inspect
import io
import os
import re
import sys
from typing import IO, TYPE_CHECKING, TypeAlias, TypeGuard
from urllib.parse import urlsplit

from hailuo_async._images.content import Label

if TYPE_CHECKING:
    import PIL.Image

#: An http(s) or data URL, a file's path, the bytes of a picture, a file that is open for reading them, or a picture of
#: Pillow's. A ``str`` is never a file's name.
ImageSource: TypeAlias = "str | os.PathLike[str] | bytes | IO[bytes] | PIL.Image.Image"

#: Our own limit: servers refuse longer URLs, and checking a stranger's must stay cheap.
MAX_URL_CHARACTERS = 8192

_DATA_URL = re.compile(r"data:image/[a-z0-9.+-]+(;[a-z0-9-]+=[^;,]*)*;base64,", re.IGNORECASE)
_MAX_DATA_URL_PREFIX = 256
#: What most URLs look like. One that does breaks no rule, and is not split.
_PLAIN_URL = re.compile(r"https?://[A-Za-z0-9.-]*[A-Za-z0-9](/[!-~]*)?")
_SHOWN_CHARACTERS = 80

_SOURCES = "must be an http(s) URL, a data URL, a pathlib.Path, bytes, a binary file object or a PIL.Image.Image"
_STRING = "must be an http(s) URL or a data:image/...;base64, URL; for a file use pathlib.Path"


def check_source(field: str, source: object) -> None:
    """Checks that ``source`` can be the image of ``field``, from its shape alone. Reads nothing, opens nothing.

    Quick for a data URL of any length. Raises `ImageError`.
    """
    if isinstance(source, str):
        _check_string(field, source)
    elif isinstance(source, bytes):
        if not source:
            raise Label(field, "bytes").error(source, "must not be empty")
    elif isinstance(source, bytearray | memoryview):
        rule = "must be bytes, which cannot change while the job waits: use bytes(...)"
        raise Label(field, "image").error(type(source).__name__, rule)
    elif is_file_object(source):
        _check_file_object(field, source)
    elif not (isinstance(source, os.PathLike) or is_pil_image(source)):
        raise Label(field, "image").error(type(source).__name__, _SOURCES)


def is_data_url(text: str) -> bool:
    return text[:5].lower() == "data:"


def is_web_url(source: object) -> TypeGuard[str]:
    """Whether a checked ``source`` is an http(s) URL, which the service fetches itself."""
    return isinstance(source, str) and not is_data_url(source)


def is_file_object(source: object) -> TypeGuard[IO[bytes]]:
    """Whether ``source`` has a ``read``. A path that has one, as in some libraries, is still a path."""
    return callable(getattr(source, "read", None)) and not isinstance(source, os.PathLike)


def is_pil_image(source: object) -> TypeGuard[PIL.Image.Image]:
    """Whether ``source`` is an image of Pillow's."""
    # Without importing Pillow: a program that has not imported it has no image of it.
    module = sys.modules.get("PIL.Image")
    return module is not None and isinstance(source, module.Image)


def _check_file_object(field: str, source: IO[bytes]) -> None:
    if isinstance(source, io.TextIOBase):
        raise Label(field, "file object").error(type(source).__name__, 'must be open for bytes: open(path, "rb")')
    if inspect.iscoroutinefunction(source.read):  # UploadFile of Starlette and FastAPI, aiofiles, aiohttp's bodies
        rule = "must be read without await: give .file of an upload, or the bytes"
        raise Label(field, "file object").error(type(source).__name__, rule)


def _check_string(field: str, text: str) -> None:
    if is_data_url(text):
        found = _DATA_URL.match(text, 0, _MAX_DATA_URL_PREFIX)
        if found is None or found.end() == len(text):
            rule = "must begin with data:image/<type>;base64, and go on with the image"
            raise Label(field, "data URL").error(text[:_SHOWN_CHARACTERS].partition(",")[0], rule)
    elif text[:8].lower().startswith(("http://", "https://")):
        problem = _url_problem(text)
        if problem is not None:
            raise Label(field, "URL").error(shown_url(text), problem)
    else:
        raise Label(field, "str").error(shown_url(text), _STRING)


def _url_problem(url: str) -> str | None:
    """The rule that an http(s) URL breaks."""
    if len(url) > MAX_URL_CHARACTERS:
        return f"a URL must have at most {MAX_URL_CHARACTERS} characters"
    if _PLAIN_URL.fullmatch(url):
        return None
    if " " in url or not url.isprintable():
        return "a URL must have no spaces or control characters"
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname, parts.port  # the port is checked when it is asked for
    except ValueError:
        return "a URL must have a valid host and port"
    if "@" in parts.netloc:
        return "a URL must not carry a user name or password"
    return None if host else "a URL must have a host"


def shown_url(text: str) -> str:
    """The part of a URL that may be shown: no query or fragment, which may be signed, and no user or password."""
    shown = text[:MAX_URL_CHARACTERS].partition("?")[0].partition("#")[0]
    return (re.sub(r"//[^/]*@", "//", shown) if "@" in shown else shown)[:_SHOWN_CHARACTERS]


def file_name(path: str | bytes) -> str:
    """The file's name, made safe for one line of a log."""
    name = os.fsdecode(os.path.basename(path) or path)
    return name if name.isprintable() else ascii(name)[1:-1]
