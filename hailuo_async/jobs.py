"""The two kinds of job: frozen values that check themselves when they are made.

A job that breaks a rule of the service never exists, so nothing further down checks again. What an image holds is
inspected later, off the loop, when the job is submitted; here only its shape is checked.

A request says only what the caller said. An option that the caller did not set is left to the service, whose default
may differ for a model that is not in ``MODELS``. So a job stores for it an `Unset`, which ``attrs.evolve``, ``copy``
and ``pickle`` carry along like any value. The properties read the documented default in its place.
"""

from __future__ import annotations

import functools
import inspect
import re
import sys
import unicodedata
import warnings
from collections.abc import Callable, Iterator
from typing import Any, Generic, Literal, TypeAlias, TypeGuard, TypeVar, cast

import attrs

from hailuo_async._images.source import ImageSource, check_source
from hailuo_async.contract import CAMERA_COMMANDS, MAX_PROMPT_CHARACTERS
from hailuo_async.errors import JobError, UnknownCommandWarning, shown
from hailuo_async.models import Model, find_model

#: A key stands in file names, logs and the journal.
MAX_KEY_CHARACTERS = 200

_NO_SURROGATES = "must hold no lone surrogates: they are not text"
#: The longest duration for a model that is not in the table: a day. A larger number is a mistake.
_LONGEST_S = 86_400

_COMMANDS = frozenset(command.casefold() for command in CAMERA_COMMANDS)
_BRACKETS = re.compile(r"\[([^\[\]]*)\]")
#: Unicode's categories of control characters, and of line and paragraph separators. Everything else
#: occurs in file names: a macOS screenshot has U+202F, an emoji or a Persian word a joiner (category Cf).
_NOT_IN_A_KEY = frozenset({"Cc", "Zl", "Zp"})

#: Where code lies that makes a job and is not its caller's: this file, what attrs wrote for it, and ``attrs.evolve``.
_OF_NO_CALLER = (__file__, "<attrs generated", inspect.getfile(attrs.evolve))

T = TypeVar("T")


class Unset(Generic[T]):
    """Stands for an option that the caller did not set. Equals the service's default, and is not sent."""

    __slots__ = ("default",)

    def __init__(self, default: T) -> None:
        self.default: T = default

    def __eq__(self, other: object) -> bool:
        return self.default == (other.default if isinstance(other, Unset) else other)

    def __hash__(self) -> int:
        return hash(self.default)

    def __repr__(self) -> str:
        return repr(self.default)  # what the signature shows in help() and in editors


def _default(default: T) -> T:
    """An `Unset`, typed as what its property reads, so that ``__init__`` has the types that callers see."""
    return cast(T, Unset(default))


def _in_force(value: T | Unset[T]) -> T:
    return value.default if isinstance(value, Unset) else value


def _warns_of_positions(cls: type[T]) -> type[T]:
    """Makes ``cls`` warn where more than its first argument is given by position; old code does so."""
    make: Callable[..., None] = cls.__init__
    names = list(inspect.signature(make).parameters)[2:]

    @functools.wraps(make)
    def __init__(self: T, /, *positional: Any, **named: Any) -> None:
        if len(positional) > 1:
            given = " and ".join(f"{name}=" for name in names[: len(positional) - 1])
            words = f"{cls.__name__} takes {given} by name: two images by position are easily swapped, and paid for"
            _warn(words, DeprecationWarning)
        make(self, *positional, **named)

    cls.__init__ = __init__  # type: ignore[assignment]
    return cls


def _shown(image: object) -> str:
    """An image in a ``repr``: short, and without the query of a URL, which may be a signature."""
    return shown(image.partition("?")[0] if isinstance(image, str) else image)


@attrs.frozen(kw_only=True, repr=False)
class _Job:
    """What both kinds of job have in common."""

    _duration: Literal[6, 10] = attrs.field(default=_default(6), alias="duration")
    resolution: Literal["512P", "720P", "768P", "1080P"] | None = None
    _prompt_optimizer: bool = attrs.field(default=_default(True), alias="prompt_optimizer")
    key: str | None = None
    fit: bool = False

    @property
    def duration(self) -> int:
        """Seconds of video: what the caller set, or 6."""
        return _in_force(self._duration)

    @property
    def prompt_optimizer(self) -> bool:
        """Whether the service may rewrite the prompt: what the caller set, or true."""
        return _in_force(self._prompt_optimizer)

    def __repr__(self) -> str:
        said = (
            f"{field.alias}={_shown(value)}"
            for field in attrs.fields(type(self))
            if (value := getattr(self, field.name)) is not field.default and not isinstance(value, Unset)
        )
        return f"{type(self).__name__}({', '.join(said)})"

    def _check(self, model: Model, prompt: object) -> None:
        _check_prompt(prompt)
        _check_size(model, self.duration, self.resolution)
        _check_flag("prompt_optimizer", self.prompt_optimizer)
        check_key(self.key)
        _check_flag("fit", self.fit)
        if isinstance(prompt, str):
            for words in unknown_commands(model, prompt):
                _warn(words, UnknownCommandWarning)

    def _options(self, prompt: str | None, **flags: object) -> dict[str, object]:
        """The fields beside the images that the caller set, in the order of the service's documentation."""
        said = {"prompt_optimizer": self._prompt_optimizer, **flags, "duration": self._duration}
        options: dict[str, object] = {} if prompt is None else {"prompt": prompt}
        options |= {name: value for name, value in said.items() if not isinstance(value, Unset)}
        return options if self.resolution is None else {**options, "resolution": self.resolution}


@attrs.frozen(repr=False)
class ImageToVideo(_Job):
    """A video that starts from one picture. Making the value costs nothing; submitting it is paid for.

    ``first_frame_image`` is an http(s) URL or a data URL (``str``), a file (``pathlib.Path``), ``bytes``, a PIL image,
    or a file object that is open for reading bytes: JPEG, PNG or WebP, under 20 MB, short side over 300 px, aspect
    ratio between 2:5 and 5:2. A ``str`` is never opened as a file. A file object is read when the job is submitted,
    from its beginning, and left where it stood; nothing else may use it, close it or draw on a PIL image meanwhile.
    ``prompt`` has 1 to 2000 characters and may hold camera commands in brackets, ``[Push in]``. ``duration`` is in
    seconds, 6 or 10; ``resolution`` is ``"768P"`` or ``"1080P"`` (1080P only for 6 s), ``None`` for the service's
    default. ``fast_pretreatment`` works only with ``prompt_optimizer``. ``key`` is your own name for the job, 1 to 200
    characters without control characters and line breaks. ``model`` is a slug of ``MODELS``, or a whole path for one
    that is not in it; other durations and resolutions than those of the type are left to such a model.

    With ``fit=True``, which needs Pillow, a picture that breaks one of those rules is made to obey when the job is
    submitted, in a worker thread: its first picture if it moves, cropped at its centre to the nearest aspect ratio,
    scaled up, encoded under 20 MB. A GIF, BMP, TIFF, AVIF or, with pillow-heif installed, HEIC becomes a PNG. What
    was done is logged. One that obeys is sent byte for byte, and a URL's cannot be fitted. ``fit`` is not sent.

    Options that are not set are not sent: the service's defaults hold. ``attrs.evolve`` makes a job from another.

    Raises ``JobError`` naming the field, the value and the rule. Warns
    with ``UnknownCommandWarning`` of a bracket that is no camera command.
    """

    first_frame_image: ImageSource
    prompt: str | None = None
    model: str = attrs.field(default="hailuo-2.3-i2v", kw_only=True)
    _fast_pretreatment: bool = attrs.field(default=_default(False), alias="fast_pretreatment", kw_only=True)

    def __attrs_post_init__(self) -> None:
        check_source("first_frame_image", self.first_frame_image)
        model = self.target
        _check_flag("fast_pretreatment", self.fast_pretreatment)
        if self.fast_pretreatment:
            _check_fast_pretreatment(model, self.prompt_optimizer)
        self._check(model, self.prompt)

    @property
    def fast_pretreatment(self) -> bool:
        """Whether the service rewrites the prompt faster: what the caller set, or false."""
        return _in_force(self._fast_pretreatment)

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
        if not self.target.fast_pretreatment:  # such a model has no field of that name, not even for ``False``
            return self._options(self.prompt)
        return self._options(self.prompt, fast_pretreatment=self._fast_pretreatment)


@_warns_of_positions
@attrs.frozen(repr=False)
class FirstLastFrameToVideo(_Job):
    """A video that ends on one picture, and starts from another if there is one. Submitting it is paid for.

    ``last_frame_image`` comes first. Give everything else by name: ``first_frame_image`` and ``prompt`` by position
    still work, with a ``DeprecationWarning``. The first frame sets the video's size, and the last is cropped to it;
    without a first frame the model makes one. Images, ``prompt``, ``duration``, ``resolution``, ``key``, ``fit`` (of
    both images) and ``model`` are as in ``ImageToVideo``; 512P is never possible, and there is no
    ``fast_pretreatment``.

    Raises ``JobError`` naming the field, the value and the rule. Warns with
    ``UnknownCommandWarning`` of a bracket that is no camera command.
    """

    last_frame_image: ImageSource
    first_frame_image: ImageSource | None = None
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


def is_job(job: object) -> TypeGuard[Job]:
    """Whether ``job`` is of either kind."""
    return isinstance(job, _Job)


def check_job(job: object) -> Job:
    """``job``, if it is one. Raises ``JobError`` otherwise."""
    if not is_job(job):
        raise JobError(field="job", value=job, rule="must be an ImageToVideo or a FirstLastFrameToVideo")
    return job


def _check_prompt(prompt: object) -> None:
    if prompt is None:
        return
    if not isinstance(prompt, str) or not 1 <= len(prompt) <= MAX_PROMPT_CHARACTERS:
        found = f"{len(prompt)} characters" if isinstance(prompt, str) else prompt
        raise JobError(
            field="prompt", value=found, rule=f"must be a str of 1 to {MAX_PROMPT_CHARACTERS} characters, or None"
        )
    if "\0" in prompt:  # PostgreSQL cannot keep it
        raise JobError(field="prompt", value=prompt, rule="must hold no NUL characters: they are not text")
    if has_surrogates(prompt):
        raise JobError(field="prompt", value=prompt, rule=_NO_SURROGATES)


def has_surrogates(text: str) -> bool:
    """Whether ``text`` holds lone surrogates, which UTF-8 cannot spell."""
    return not text.isascii() and any("\ud800" <= character <= "\udfff" for character in text)


def _check_size(model: Model, duration: object, resolution: object) -> None:
    if not isinstance(duration, int) or isinstance(duration, bool) or not 1 <= duration <= _LONGEST_S:
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


def check_key(key: object) -> None:
    """Raises ``JobError`` for what cannot be a job's key."""
    if key is None:
        return
    rule = f"must be 1 to {MAX_KEY_CHARACTERS} characters, without control characters or line breaks, or None"
    if not isinstance(key, str) or not 1 <= len(key) <= MAX_KEY_CHARACTERS:
        raise JobError(field="key", value=key, rule=rule)
    if has_surrogates(key):  # of a file name in another encoding
        raise JobError(field="key", value=key, rule=_NO_SURROGATES)
    if not key.isprintable() and any(unicodedata.category(character) in _NOT_IN_A_KEY for character in key):
        raise JobError(field="key", value=key, rule=rule)


def unknown_commands(model: Model, prompt: str) -> Iterator[str]:
    """What is to be said of each bracket in ``prompt`` that is no camera command of ``model``."""
    if "[" not in prompt:
        return
    for bracket in _BRACKETS.findall(prompt):
        for command in bracket.split(","):
            if not model.camera_commands:
                why = f"{model.slug} has no camera commands"
            elif command.strip().casefold() not in _COMMANDS:
                why = "it is not one of the fifteen camera commands"
            else:
                continue
            yield f"[{command.strip()}] will be read as plain words: {why}"


def _warn(words: str, category: type[Warning]) -> None:
    """Warns at the line that made the job, be it by its class or by ``attrs.evolve``: these stack up differently."""
    level, frame = 1, sys._getframe()
    while frame.f_back is not None and frame.f_code.co_filename.startswith(_OF_NO_CALLER):
        level, frame = level + 1, frame.f_back
    warnings.warn(words, category, stacklevel=level)
