"""Checks what callers give to a session's methods, before anything else happens and before the engine is imported.

``settings`` checks single values, such as a number of seconds, and what a session is made with.
"""

from __future__ import annotations

import inspect
import os
from collections.abc import AsyncIterable, Callable, Iterable, Mapping
from random import Random
from typing import TypeAlias

import aiohttp
import attrs

from hailuo_async._engine.generation import Generation
from hailuo_async._engine.spending_limit import SpendingLimit
from hailuo_async._io.download.values import Limits
from hailuo_async._io.transport import CLOSED, Transport
from hailuo_async.errors import ConfigError
from hailuo_async.jobs import FirstLastFrameToVideo, ImageToVideo, Job, check_key
from hailuo_async.outcomes import Success, Video
from hailuo_async.settings import count, flag, optional_count, optional_dollars, seconds

StrPath: TypeAlias = str | os.PathLike[str]
SaveAs: TypeAlias = Mapping[str, StrPath] | Callable[[Job], StrPath]
"""The path of each video: a mapping from the keys of jobs, or a callable that takes a job and returns its path."""


def check_stream(
    jobs: object, save_to: StrPath | None, save_as: object, share_uploads: object, max_jobs: object, max_cost: object
) -> tuple[SpendingLimit, ...]:
    """The stream's own spending limit, if any. Raises ``TypeError`` for what holds no jobs, and ``ConfigError``."""
    _check_jobs(jobs)
    _check_save_as(save_to, save_as)
    flag("share_uploads", share_uploads)
    own = SpendingLimit(optional_count("max_jobs", max_jobs), optional_dollars("max_cost", max_cost))
    return () if own.max_jobs is None and own.max_cost is None else (own,)


def check_download(
    video: object,
    max_bytes: object,
    timeout: object,
    *,
    key: object = None,
    overwrite: object = False,
    allow_unchecked: object = False,
) -> Limits:
    """The bounds of a download. Raises ``TypeError`` for what is not a ``Video``, ``JobError`` and ``ConfigError``."""
    _check_video(video)
    check_key(key)
    flag("overwrite", overwrite)
    is_unchecked = flag("allow_unchecked", allow_unchecked)
    return Limits(count("max_bytes", max_bytes), seconds("timeout", timeout), is_unchecked)


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


@attrs.frozen
class Parts:
    """What a session is given to work with; ``None`` where it makes its own. Raises ``ConfigError``."""

    client_session: aiohttp.ClientSession | None = None
    transport: Transport | None = None
    rng: Random | None = None

    def __attrs_post_init__(self) -> None:
        _check_client_session(self.client_session)
        is_transport = all(callable(getattr(self.transport, name, None)) for name in ("send", "aclose"))
        if not (is_transport or self.transport is None):
            rule = "must have the methods send and aclose, as Transport"
            raise ConfigError(field="transport", value=self.transport, rule=rule)
        if not isinstance(self.rng, Random | None):
            raise ConfigError(field="rng", value=self.rng, rule="must be a random.Random, or None")


def _check_client_session(session: object) -> None:
    """Raises ``ConfigError`` for what is no aiohttp session that can carry the key."""
    if session is None:
        return
    if not isinstance(session, aiohttp.ClientSession):
        raise ConfigError(field="client_session", value=session, rule="must be an aiohttp.ClientSession")
    if session.closed:
        raise ConfigError(field="client_session", value=session, rule=CLOSED)
    if session.auth is not None:
        rule = "must have no auth of its own: the key goes into that header"
        raise ConfigError(field="client_session", value="auth=(hidden)", rule=rule)


def check_grace(grace: object) -> None:
    """Raises ``ConfigError`` for what is no number of seconds. 0 and infinity are."""
    if isinstance(grace, bool) or not isinstance(grace, int | float) or not grace >= 0:
        raise ConfigError(field="grace", value=grace, rule="must be a number of seconds, 0 or more")
