"""What can be asked for: two frozen values that check themselves when they are made.

A job that breaks a rule of the service never exists, so nothing further down has to check again. What an image holds
is looked at later, off the loop, when the job is submitted; here only its shape is checked.
"""

from __future__ import annotations

import functools
import re
import warnings
from collections.abc import Callable, Iterator
from typing import Any, TypeAlias, TypeVar

import attrs

from hailuo_async._images.frame import ImageSource, check_source
from hailuo_async.errors import JobError, UnknownCommandWarning, shown
from hailuo_async.models import CAMERA_COMMANDS, Model, find_model

#: Both seeds: "Required string length: 1 - 2000".
MAX_PROMPT_CHARACTERS = 2000
#: A key stands in file names, logs and the journal.
MAX_KEY_CHARACTERS = 200

_COMMANDS = frozenset(command.casefold() for command in CAMERA_COMMANDS)
_BRACKETS = re.compile(r"\[([^\[\]]*)\]")
#: Warnings name the line that made the job: past the check, ``__attrs_post_init__``, attrs' ``__init__`` and ours.
_STACK_ABOVE_THE_CALLER = 6

T = TypeVar("T")


def _remembers_what_was_given(cls: type[T]) -> type[T]:
    """Makes ``cls`` keep the names of the options that its caller gave.

    A body says only what the caller said: ``duration=6`` is sent where it was asked for, and left to the service's own
    default where it was not. The value alone cannot tell the two apart.
    """
    make: Callable[..., None] = cls.__init__

    @functools.wraps(make)
    def __init__(self: T, *args: Any, **options: Any) -> None:
        object.__setattr__(self, "_given", frozenset(options))
        make(self, *args, **options)

    cls.__init__ = __init__  # type: ignore[assignment]
    return cls


def _shown(image: object) -> str:
    """An image in a ``repr``: short, and without the query of a URL, which may be a signature."""
    return shown(image.partition("?")[0] if isinstance(image, str) else image)


@attrs.frozen(kw_only=True)
class _Job:
    """What both kinds of job have in common."""

    duration: int = 6
    resolution: str | None = None
    prompt_optimizer: bool = True
    key: str | None = None
    fit: bool = False
    _given: frozenset[str] = attrs.field(init=False, repr=False, eq=False)

    def _check(self, model: Model, prompt: object) -> None:
        _check_prompt(prompt)
        _check_size(model, self.duration, self.resolution)
        _check_flag("prompt_optimizer", self.prompt_optimizer)
        _check_key(self.key)
        _check_flag("fit", self.fit)
        if isinstance(prompt, str):
            _warn_of_unknown_commands(model, prompt)

    def _options(self, prompt: str | None, *flags: str) -> dict[str, object]:
        """The fields beside the images, in the seeds' order: those that the caller set."""
        names = ("prompt_optimizer", *flags, "duration")
        options: dict[str, object] = {} if prompt is None else {"prompt": prompt}
        options |= {name: getattr(self, name) for name in names if name in self._given}
        return options if self.resolution is None else {**options, "resolution": self.resolution}


@_remembers_what_was_given
@attrs.frozen
class ImageToVideo(_Job):
    """A video that starts from one picture. Making the value costs nothing; submitting it is paid for.

    ``first_frame_image`` is an http(s) URL or a data URL (``str``), a file (``pathlib.Path``), ``bytes`` or a PIL
    image: JPEG, PNG or WebP, under 20 MB, short side over 300 px, aspect ratio between 2:5 and 5:2. A ``str`` is never
    opened as a file. ``prompt`` has 1 to 2000 characters and may hold camera commands in brackets, ``[Push in]``.
    ``duration`` is in seconds, 6 or 10; ``resolution`` is ``"768P"`` or ``"1080P"`` (1080P only for 6 s), ``None`` for
    the service's default. ``fast_pretreatment`` works only with ``prompt_optimizer``. ``key`` is your own name for the
    job, at most 200 characters. ``model`` is a slug of ``MODELS``, or a whole path for one that is not in it.

    With ``fit=True`` a picture that breaks one of those rules is made to obey when the job is submitted, in a worker
    thread: its first picture if it moves, cropped at its centre to the nearest aspect ratio, scaled up, encoded anew
    under 20 MB; a GIF or BMP becomes a PNG. What was done is logged. One that obeys is sent byte for byte as it is, and
    a URL's cannot be fitted. ``fit`` itself is not sent. It needs Pillow.

    Raises ``JobError`` naming the field, the value and the rule (seed: hailuo-2.3-i2v; the other models: docs). Warns
    with ``UnknownCommandWarning`` of a bracket that is no camera command.
    """

    first_frame_image: ImageSource = attrs.field(repr=_shown)
    prompt: str | None = None
    model: str = attrs.field(default="hailuo-2.3-i2v", kw_only=True)
    fast_pretreatment: bool = attrs.field(default=False, kw_only=True)

    def __attrs_post_init__(self) -> None:
        check_source("first_frame_image", self.first_frame_image)
        model = self.target
        _check_flag("fast_pretreatment", self.fast_pretreatment)
        if self.fast_pretreatment:
            _check_fast_pretreatment(model, self.prompt_optimizer)
        self._check(model, self.prompt)

    @property
    def target(self) -> Model:
        """The row of ``MODELS`` that this job is for."""
        return find_model(self.model, takes_last_frame=False)

    @property
    def frames(self) -> dict[str, ImageSource]:
        """Its images, by the name of the field that carries them."""
        return {"first_frame_image": self.first_frame_image}

    @property
    def options(self) -> dict[str, object]:
        """Everything else that the caller set, by the name of its field."""
        return self._options(self.prompt, *_if_known(self.target, "fast_pretreatment"))


@_remembers_what_was_given
@attrs.frozen
class FirstLastFrameToVideo(_Job):
    """A video that ends on one picture, and starts from another if there is one. Submitting it is paid for.

    The first frame sets the video's size, and the last is cropped to it; without a first frame the model makes one.
    Images, ``prompt``, ``duration``, ``resolution``, ``key``, ``fit`` (of both images) and ``model`` are as in
    ``ImageToVideo``; 512P is never possible, and there is no ``fast_pretreatment``.

    Raises ``JobError`` naming the field, the value and the rule (seed: hailuo-02-fl2v). Warns with
    ``UnknownCommandWarning`` of a bracket that is no camera command.
    """

    last_frame_image: ImageSource = attrs.field(repr=_shown)
    first_frame_image: ImageSource | None = attrs.field(default=None, repr=_shown)
    prompt: str | None = None
    model: str = attrs.field(default="hailuo-02-fl2v", kw_only=True)

    def __attrs_post_init__(self) -> None:
        for field, source in self.frames.items():
            check_source(field, source)
        self._check(self.target, self.prompt)

    @property
    def target(self) -> Model:
        """The row of ``MODELS`` that this job is for."""
        return find_model(self.model, takes_last_frame=True)

    @property
    def frames(self) -> dict[str, ImageSource]:
        """Its images, by the name of the field that carries them."""
        last: dict[str, ImageSource] = {"last_frame_image": self.last_frame_image}
        return last if self.first_frame_image is None else {**last, "first_frame_image": self.first_frame_image}

    @property
    def options(self) -> dict[str, object]:
        """Everything else that the caller set, by the name of its field."""
        return self._options(self.prompt)


Job: TypeAlias = ImageToVideo | FirstLastFrameToVideo
"""Either kind of job."""


def check_job(job: object) -> Job:
    """``job``, if it is one. Raises ``JobError`` otherwise."""
    if not isinstance(job, ImageToVideo | FirstLastFrameToVideo):
        raise JobError(field="job", value=job, rule="must be an ImageToVideo or a FirstLastFrameToVideo")
    return job


def _if_known(model: Model, flag: str) -> tuple[str, ...]:
    return (flag,) if model.fast_pretreatment else ()


def _check_prompt(prompt: object) -> None:
    if prompt is None:
        return
    if not isinstance(prompt, str) or not 1 <= len(prompt) <= MAX_PROMPT_CHARACTERS:
        found = f"{len(prompt)} characters" if isinstance(prompt, str) else prompt
        raise JobError(
            field="prompt", value=found, rule=f"must be a str of 1 to {MAX_PROMPT_CHARACTERS} characters, or None"
        )
    if any("\ud800" <= character <= "\udfff" for character in prompt):
        raise JobError(field="prompt", value=prompt, rule="must hold no lone surrogates: they are not text")


def _check_size(model: Model, duration: object, resolution: object) -> None:
    if not isinstance(duration, int) or isinstance(duration, bool) or duration < 1:
        raise JobError(field="duration", value=duration, rule="must be a whole number of seconds")
    if resolution is not None and (not isinstance(resolution, str) or not resolution):
        raise JobError(field="resolution", value=resolution, rule='must be a str such as "768P", or None')
    if not model.sizes:
        return
    if duration not in model.sizes:
        choices = " or ".join(str(known) for known in model.sizes)
        raise JobError(field="duration", value=duration, rule=f"must be {choices} seconds for {model.slug}")
    if resolution is not None and resolution not in model.sizes[duration]:
        choices = " or ".join(model.sizes[duration])
        raise JobError(field="resolution", value=resolution, rule=f"must be {choices} for {duration} s of {model.slug}")


def _check_flag(field: str, value: object) -> None:
    if not isinstance(value, bool):
        raise JobError(field=field, value=value, rule="must be True or False")


def _check_fast_pretreatment(model: Model, prompt_optimizer: bool) -> None:
    if not model.fast_pretreatment:
        raise JobError(
            field="fast_pretreatment", value=True, rule=f"must be left out for {model.slug}, which has no such option"
        )
    if not prompt_optimizer:
        raise JobError(field="fast_pretreatment", value=True, rule="needs prompt_optimizer=True")


def _check_key(key: object) -> None:
    if key is None:
        return
    if not isinstance(key, str) or not 1 <= len(key) <= MAX_KEY_CHARACTERS or not key.isprintable():
        raise JobError(field="key", value=key, rule=f"must be 1 to {MAX_KEY_CHARACTERS} printable characters, or None")


def _warn_of_unknown_commands(model: Model, prompt: str) -> None:
    for command in _commands(prompt):
        if not model.camera_commands:
            why = f"{model.slug} has no camera commands"
        elif command.casefold() not in _COMMANDS:
            why = "it is not one of the fifteen camera commands"
        else:
            continue
        warning = UnknownCommandWarning(f"[{command}] will be read as plain words: {why}")
        warnings.warn(warning, stacklevel=_STACK_ABOVE_THE_CALLER)


def _commands(prompt: str) -> Iterator[str]:
    for bracket in _BRACKETS.findall(prompt):
        yield from (command.strip() for command in bracket.split(","))
