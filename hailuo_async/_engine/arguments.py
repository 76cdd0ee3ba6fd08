"""What callers of a session give: checked before anything else happens, and before the engine is imported."""

from __future__ import annotations

import inspect
import os
from collections.abc import AsyncIterable, Callable, Iterable, Mapping
from random import Random
from typing import TypeAlias

from hailuo_async._engine.generation import Generation
from hailuo_async.errors import ConfigError
from hailuo_async.jobs import FirstLastFrameToVideo, ImageToVideo, Job, check_key
from hailuo_async.outcomes import Success, Video
from hailuo_async.settings import flag

StrPath: TypeAlias = str | os.PathLike[str]
SaveAs: TypeAlias = Mapping[str, StrPath] | Callable[[Job], StrPath]
"""The path of each video: a mapping from the keys of jobs, or a callable that takes a job and returns its path."""


def check_stream(jobs: object, save_to: StrPath | None, save_as: object, share_uploads: object) -> None:
    """Raises ``TypeError`` for what holds no jobs, and ``ConfigError`` for what cannot be done with them."""
    _check_jobs(jobs)
    _check_save_as(save_to, save_as)
    flag("share_uploads", share_uploads)


def check_download(
    video: object, key: object = None, *, overwrite: object = False, allow_unchecked: object = False
) -> None:
    """Raises ``TypeError`` for what is not a ``Video``, ``JobError`` for what cannot be a key, and ``ConfigError``."""
    _check_video(video)
    check_key(key)
    flag("overwrite", overwrite)
    flag("allow_unchecked", allow_unchecked)


def _check_jobs(jobs: object) -> None:
    """Raises ``TypeError`` for one job, and for what holds no jobs at all."""
    if isinstance(jobs, ImageToVideo | FirstLastFrameToVideo):
        raise TypeError("stream() takes many jobs: give stream([job]), or generate(job) for one")
    if not isinstance(jobs, Iterable | AsyncIterable) and not hasattr(jobs, "__getitem__"):
        raise TypeError(f"stream() takes an iterable or an async iterable of jobs, not {type(jobs).__name__}")


def _check_save_as(save_to: StrPath | None, save_as: object) -> None:
    """Raises ``ConfigError`` for what names no directory or no files, and for ``save_as`` beside ``save_to``."""
    if save_to is not None and (not isinstance(save_to, str | os.PathLike) or "\0" in os.fsdecode(save_to)):
        raise ConfigError(field="save_to", value=save_to, rule="must be the path of a directory, a str or a PathLike")
    if save_as is None:
        return
    if not (isinstance(save_as, Mapping) or callable(save_as)) or inspect.iscoroutinefunction(save_as):
        rule = "must be a mapping from keys to paths, or a callable that takes a job and returns a path"
        raise ConfigError(field="save_as", value=save_as, rule=rule)
    if save_to is not None:
        raise ConfigError(field="save_as", value=save_as, rule="must stand alone: give save_to or save_as, not both")


def _check_video(given: object) -> None:
    """Raises a ``TypeError`` that says what to give, for a value that is not a ``Video``."""
    if isinstance(given, Video):
        return
    advice = "give the Video that generate() returns"
    if isinstance(given, Generation):
        advice = "await the generation first, and give the Video that it returns"
    elif isinstance(given, Success):
        advice = "give the outcome's .video"
    elif isinstance(given, str):
        advice = "await session.attach(task_id), then the generation that it returns, and give the Video"
    raise TypeError(f"a Video is needed here, not {type(given).__name__}: {advice}")


def check_rng(rng: object) -> Random | None:
    """``rng``, if it makes random numbers. Raises ``ConfigError`` otherwise."""
    if rng is None or isinstance(rng, Random):
        return rng
    raise ConfigError(field="rng", value=rng, rule="must be a random.Random, or None")


def check_grace(grace: object) -> None:
    """Raises ``ConfigError`` for what is no number of seconds. 0 and infinity are."""
    if isinstance(grace, bool) or not isinstance(grace, int | float) or not grace >= 0:
        raise ConfigError(field="grace", value=grace, rule="must be a number of seconds, 0 or more")
