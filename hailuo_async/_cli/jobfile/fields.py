"""What one row asks for: from the values that stand in it to a job, or to all that is wrong with them.

A text for an image is an http(s) URL, a data URL, or else the path of a picture. Here, and only here, a ``str`` becomes
a file, for whoever wrote the jobs file also runs the command. A relative path counts from the folder that the jobs file
is in, wherever the command is run. Nothing in it is expanded: no ``~``, no variables, no wildcards.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeAlias

import attrs

from hailuo_async._cli.jobfile.rows import Row
from hailuo_async._cli.problems import Problem, kind_of, words_of
from hailuo_async._images.source import ImageSource
from hailuo_async.errors import JobError, UnknownCommandWarning, shown
from hailuo_async.jobs import FirstLastFrameToVideo, ImageToVideo, Job
from hailuo_async.models import MODELS

_Kind: TypeAlias = type[ImageToVideo] | type[FirstLastFrameToVideo]

_IMAGES = ("first_frame_image", "last_frame_image")
_LONGEST_SCHEME = 16
#: In place of an image that is missing or wrong, so that the other fields can be checked. It is never looked at.
_STAND_IN = Path()
#: In place of a model that is wrong: one of which no rules are known.
_ANY_MODEL = "/api/v1/any"


@attrs.define
class JobRow:
    """A row and its meaning. What is wrong is taken out of the fields, so that what else is wrong is found too."""

    row: Row
    kind: _Kind
    fields: dict[str, Any]
    """The arguments of the job."""
    problems: list[Problem]
    notes: list[Problem] = attrs.field(factory=list, init=False)
    """What does not hinder the job, and is worth knowing."""

    @property
    def key(self) -> str | None:
        """The name that the row gives its job."""
        key = self.fields.get("key")
        return key if isinstance(key, str) else None

    @property
    def images(self) -> dict[str, ImageSource]:
        """The images that can be looked at, the first frame's first."""
        return {name: self.fields[name] for name in _IMAGES if self.fields.get(name, _STAND_IN) is not _STAND_IN}

    @property
    def is_fitted(self) -> bool:
        """Whether its images are to be made to obey."""
        return self.fields.get("fit") is True

    def refuse(self, field: str, words: str) -> None:
        """Notes what is wrong with ``field``."""
        self.problems.append(self.row.problem(field, words))

    def job(self, key: str | None = None) -> Job:
        """The job, under that key. Only for a row without problems."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UnknownCommandWarning)  # it is among the notes
            return self.kind(**{**self.fields, "key": key})


def read_job_row(row: Row, base: Path) -> JobRow:
    """What ``row`` asks for, with everything checked but the inside of its images. ``base`` is where paths begin."""
    fields = {name: value for name, value in row.values.items() if value is not None}
    order = JobRow(row, _kind(fields), fields, list(row.problems))
    _normalise(fields)
    _take_images(order, base)
    _leave_out_what_it_does_not_take(order)
    _check(order)
    return order


def _kind(fields: Mapping[str, object]) -> _Kind:
    """What the model is for, if it is known here, and else what the images are for."""
    model = fields.get("model")
    known = MODELS.get(model.removesuffix("/async").rpartition("/")[2]) if isinstance(model, str) else None
    takes_last_frame = "last_frame_image" in fields if known is None else known.takes_last_frame
    return FirstLastFrameToVideo if takes_last_frame else ImageToVideo


def _normalise(fields: dict[str, Any]) -> None:
    """One spelling for what may be spelled in two ways: the same job has the same name in both."""
    model, duration = fields.get("model"), fields.get("duration")
    if isinstance(model, str) and model.removeprefix("minimax/") in MODELS:
        fields["model"] = model.removeprefix("minimax/")
    if isinstance(duration, float) and duration.is_integer():
        fields["duration"] = int(duration)


def _take_images(order: JobRow, base: Path) -> None:
    for name in _IMAGES:
        given = order.fields.get(name)
        if given is None:
            continue
        order.fields[name] = _source(given, base)
        if order.fields[name] is _STAND_IN:
            found = shown(given.partition("?")[0]) if isinstance(given, str) else kind_of(given)
            order.refuse(name, f"is an http(s) URL, a data URL, or the path of a picture; got {found}")
    required = "last_frame_image" if order.kind is FirstLastFrameToVideo else "first_frame_image"
    if required not in order.fields:
        order.refuse(required, "is required")
        order.fields[required] = _STAND_IN


def _source(given: object, base: Path) -> str | Path:
    """Where the image is; `_STAND_IN` if nobody can tell."""
    if not isinstance(given, str) or not given.strip():
        return _STAND_IN
    begin = given[:_LONGEST_SCHEME].lower()
    if begin.startswith(("http://", "https://", "data:")):
        return given
    return _STAND_IN if "://" in begin else base / given


def _leave_out_what_it_does_not_take(order: JobRow) -> None:
    model = order.fields.get("model", attrs.fields(order.kind).model.default)
    taken = {field.alias for field in attrs.fields(order.kind)}
    for name in [name for name in order.fields if name not in taken]:
        if order.fields.pop(name) is not False:  # a flag that is off asks for nothing
            order.refuse(name, f"is not taken by {model}")


def _check(order: JobRow) -> None:
    """Lets the job check itself, and again without each field that it refuses."""
    while True:
        try:
            with warnings.catch_warnings(record=True) as caught:
                warnings.simplefilter("always")
                order.kind(**order.fields)
        except JobError as error:
            order.refuse(error.field, words_of(error))
            if error.field in _IMAGES:
                order.fields[error.field] = _STAND_IN
            elif error.field == "model":
                order.fields["model"] = _ANY_MODEL
            else:
                del order.fields[error.field]  # what is not given is never refused: every model takes the defaults
        else:
            order.notes += [order.row.problem("prompt", str(warning.message)) for warning in caught]
            return
