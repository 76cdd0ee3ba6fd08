"""Turns the values of one row into a job, or into all of its problems.

A text for an image is an http(s) URL, a data URL, or else the path of a picture. Here, and only here, a ``str`` becomes
a file, as the author of the jobs file also runs the command. A relative path counts from the folder that the jobs file
is in, wherever the command is run. A ``~`` at its beginning is a home; no variables and no wildcards are expanded.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeAlias
from urllib.parse import unquote

import attrs

from hailuo_async._cli.jobfile.rows import PLACEHOLDER, Row
from hailuo_async._cli.problems import Problem, error_message, type_name
from hailuo_async._images.source import ImageSource
from hailuo_async.errors import ImageError, JobError, UnknownCommandWarning, shown
from hailuo_async.jobs import FirstLastFrameToVideo, ImageToVideo, Job, unknown_commands
from hailuo_async.models import MODELS, find_model

_Kind: TypeAlias = type[ImageToVideo] | type[FirstLastFrameToVideo]

_IMAGES = ("first_frame_image", "last_frame_image")
_LONGEST_SCHEME = 16
_HERE = Path()
IMAGE_RULE = "must be an http(s) URL, a data URL, or the path of a picture"
_QUERY = re.compile("[?#]")
_RESOLUTION = re.compile(r"[0-9]+p")
#: Replaces an image that is missing or wrong, so that the other fields can be checked. It is never looked at.
_STAND_IN = Path()
#: Replaces a model that is wrong: no rules are known of it.
_ANY_MODEL = "/api/v1/any"
TAKEN = {kind: frozenset(field.alias for field in attrs.fields(kind)) for kind in (ImageToVideo, FirstLastFrameToVideo)}
_MODEL = {kind: attrs.fields(kind).model.default for kind in TAKEN}


@attrs.define(eq=False)
class JobRow:
    """A row and its meaning. A wrong value is taken out of the fields, so that every problem is found."""

    row: Row
    kind: _Kind
    fields: dict[str, Any]
    """The arguments of the job."""
    problems: list[Problem]

    @property
    def key(self) -> str | None:
        return self.fields.get("key")

    @property
    def images(self) -> dict[str, ImageSource]:
        """The images that can be looked at, the first frame's first."""
        return {name: self.fields[name] for name in _IMAGES if self.fields.get(name, _STAND_IN) is not _STAND_IN}

    @property
    def is_fitted(self) -> bool:
        return self.fields.get("fit") is True

    @property
    def size(self) -> tuple[object, ...]:
        """What its price depends on: two jobs of one size cost the same."""
        return self.kind, self.fields.get("model"), self.fields.get("duration"), self.fields.get("resolution")

    @property
    def doubts(self) -> tuple[str, ...]:
        """What the user should know of a job that can be sent: brackets that are no camera commands."""
        prompt = self.fields.get("prompt")
        if not isinstance(prompt, str) or "[" not in prompt:
            return ()
        model = self.fields.get("model", _MODEL[self.kind])
        return tuple(unknown_commands(find_model(model, takes_last_frame=self.kind is FirstLastFrameToVideo), prompt))

    def job(self, key: str | None = None) -> Job:
        """The job, under that key or its own. Raises ``JobError`` for a row with problems."""
        fields = self.fields if key is None else {**self.fields, "key": key}
        if not self.doubts:
            return self.kind(**fields)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UnknownCommandWarning)
            return self.kind(**fields)

    def refuse(self, field: str, found: str | JobError) -> None:
        message = found if isinstance(found, str) else error_message(found)
        self.problems.append(self.row.problem(field, message, can_fit=isinstance(found, ImageError) and found.can_fit))

    def check(self) -> tuple[str, ...]:
        """Makes the job, and makes it again without each field that it refuses. Returns the doubts."""
        while True:
            try:
                self.job()
            except JobError as error:
                self.refuse(error.field, error)
                if error.field in _IMAGES:
                    self.fields[error.field] = _STAND_IN
                elif error.field == "model":
                    self.fields["model"] = _ANY_MODEL
                else:
                    del self.fields[error.field]  # what is not given is never refused: every model takes the defaults
            else:
                return self.doubts


def read_job_row(row: Row, base: Path, defaults: Mapping[str, object]) -> JobRow:
    """The row and its meaning. ``check`` on it checks everything but the inside of its images.

    Relative paths begin at ``base``. ``defaults`` are values for fields that the row does not give, without ``None``.
    """
    fields = {**defaults, **{name: value for name, value in row.values.items() if value is not None}}
    job_row = JobRow(row, kind_of(fields), fields, list(row.problems))
    _normalise(fields)
    _take_images(job_row, base)
    _fill_prompt(job_row)
    _leave_out_what_it_does_not_take(job_row)
    return job_row


def kind_of(fields: Mapping[str, object]) -> _Kind:
    """The kind of job that the model is for, if it is known here, and else the images."""
    model = fields.get("model")
    known = MODELS.get(model.removesuffix("/async").rpartition("/")[2]) if isinstance(model, str) else None
    takes_last_frame = "last_frame_image" in fields if known is None else known.takes_last_frame
    return FirstLastFrameToVideo if takes_last_frame else ImageToVideo


def _normalise(fields: dict[str, Any]) -> None:
    """Gives a value that has two spellings one of them, so that the same job gets the same name."""
    model, duration, resolution = fields.get("model"), fields.get("duration"), fields.get("resolution")
    if isinstance(model, str) and model.removeprefix("minimax/") in MODELS:
        fields["model"] = model.removeprefix("minimax/")
    if isinstance(duration, float) and duration.is_integer():
        fields["duration"] = int(duration)
    if isinstance(resolution, str):
        fields["resolution"] = _RESOLUTION.sub(lambda found: found[0].upper(), resolution)


def _fill_prompt(job_row: JobRow) -> None:
    """Replaces names in braces in the prompt by the row's values, and ``{name}`` by the picture's name."""
    prompt = job_row.fields.get("prompt")
    if not isinstance(prompt, str) or "{" not in prompt:
        return
    known = {name.strip().casefold(): value for name, value in job_row.row.more.items()}
    known.setdefault("name", picture_name(next(iter(job_row.images.values()), "")))

    def fill(found: re.Match[str]) -> str:
        name = found[2]
        if name is None:
            return f"{{{found[1]}}}"
        value = known.get(name.strip().casefold())
        if isinstance(value, str | int | float) and value != "":
            return str(value)
        rule = (
            "is empty here"
            if name.strip().casefold() in known
            else f"names nothing here; there is {', '.join(f'{{{each}}}' for each in known)}"
        )
        job_row.refuse("prompt", f"{{{name}}} {rule}; {{{{{name}}}}} means the word in braces itself")
        return found[0]

    job_row.fields["prompt"] = PLACEHOLDER.sub(fill, prompt)


def picture_name(image: object) -> str:
    """The name of a file, or of the file in a URL, without its ending; empty for a data URL."""
    if isinstance(image, Path):
        return image.stem
    if str(image)[:4].lower() != "http":
        return ""
    _, _, path = _QUERY.split(str(image), 1)[0].partition("://")[2].partition("/")
    name = unquote(path).rstrip("/").rpartition("/")[2]
    dot = name.rfind(".")
    return name[:dot] if 0 < dot < len(name) - 1 else name


def _take_images(job_row: JobRow, base: Path) -> None:
    for name in _IMAGES:
        given = job_row.fields.get(name)
        if given is None:
            continue
        job_row.fields[name] = _STAND_IN if (source := find_image(given, base)) is None else source
        if source is None:
            found = shown(given.partition("?")[0]) if isinstance(given, str) else type_name(given)
            job_row.refuse(name, f"{IMAGE_RULE}; got {found}")
    required = "last_frame_image" if job_row.kind is FirstLastFrameToVideo else "first_frame_image"
    if required not in job_row.fields:
        job_row.refuse(required, "is required")
        job_row.fields[required] = _STAND_IN


def find_image(given: object, base: Path = _HERE) -> str | Path | None:
    """The image's URL or path; ``None`` if it is neither."""
    if isinstance(given, Path):
        return given
    if not isinstance(given, str) or not given.strip():
        return None
    begin = given[:_LONGEST_SCHEME].lower()
    if begin.startswith(("http://", "https://", "data:")):
        return given
    if "://" in begin:
        return None
    try:
        return base / Path(given).expanduser()
    except RuntimeError:  # there is no such user
        return base / given


def _leave_out_what_it_does_not_take(job_row: JobRow) -> None:
    for name in job_row.fields.keys() - TAKEN[job_row.kind]:
        if job_row.fields.pop(name) is not False:  # a flag that is off asks for nothing
            model = job_row.fields.get("model", _MODEL[job_row.kind])
            job_row.refuse(name, f"is not taken by {model}")
