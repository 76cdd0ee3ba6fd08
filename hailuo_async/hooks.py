"""Events that a session sends to the program around it, and the hooks that receive them.

An event is a frozen value that states one fact, once. Its ``repr`` is fit for a log: it shows neither the job, as
prompts are private, nor the query of a signed URL. (It does show the service's messages, which may quote a prompt.) The
event itself holds its job, images included: a program that keeps events keeps those in memory.
"""

from __future__ import annotations

import asyncio
import inspect
import logging
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Literal, NoReturn, TypeAlias

import attrs

from hailuo_async.errors import ConfigError, HailuoError
from hailuo_async.jobs import Job
from hailuo_async.outcomes import Status, Video

_logger = logging.getLogger("hailuo_async")


# --- Of a job ---------------------------------------------------------------------------------------------------------


@attrs.frozen(kw_only=True)
class JobEvent:
    """The facts that all events of a job have."""

    at: float
    """When, in seconds of the session's loop."""
    number: int
    """The job's number in its session, in the order of taking, from 0."""
    job: Job | None = attrs.field(repr=False)
    """What was asked for; ``None`` for a task that was attached without it."""
    key: str | None
    """The caller's own name for the job."""
    task_id: str | None
    """The service's name for the task, once it was accepted."""
    waited_s: float
    """Seconds since the session was given the job."""


@attrs.frozen(kw_only=True)
class Queued(JobEvent):
    """A job waits for a slot: its images were inspected, and it is on record. Emitted in the task that gave the job."""


@attrs.frozen(kw_only=True)
class Sent(JobEvent):
    """A job's POST begins. ``Accepted`` or ``Refused`` follows or, if the answer is lost, neither."""

    attempt: int
    """Which POST of this job it is, from 1."""
    doubts: int
    """Earlier POSTs of it whose answers were lost (``on_unknown="resubmit"``). Each of them may be paid for."""


@attrs.frozen(kw_only=True)
class Refused(JobEvent):
    """The service certainly did not accept the POST, which costs nothing. The job waits again, or ends with this."""

    attempt: int
    """Which POST of this job it was, from 1."""
    reason: str
    """``running_limit`` or ``request_rate`` (429), ``balance`` (402), ``authentication`` (401, 403), ``not_found``
    (404), ``rejected`` (400, 405, 413, 415, 422), or ``not_sent``: the POST never reached the service."""
    message: str
    """The service's message, or what happened instead."""
    answered_s: float
    """Seconds since the POST was sent."""


@attrs.frozen(kw_only=True)
class Accepted(JobEvent):
    """The service accepted the job: it is paid for. Or the session now waits for a task that was accepted before."""

    attempt: int
    """Which POST of this job it was, from 1; 0 for a task that was accepted elsewhere or earlier."""
    answered_s: float | None
    """Seconds since the POST was sent; ``None`` for a task that was accepted elsewhere or earlier."""


@attrs.frozen(kw_only=True)
class StatusSeen(JobEvent):
    """The service reports a new status of the task."""

    status: Status
    ran_s: float | None
    """Seconds since the service accepted it, if known."""


@attrs.frozen(kw_only=True)
class Ended(JobEvent):
    """The job has ended: its last event. It has the ``video`` or the ``error`` that the job's waiters get."""

    status: Status
    video: Video | None
    error: HailuoError | None
    ran_s: float | None
    """Seconds since the service accepted it, if known."""
    late_s: float | None
    """Seconds between the task's end and the query that noticed it, estimated if the service did not say."""


# --- Of anything else -------------------------------------------------------------------------------------------------


@attrs.frozen(kw_only=True)
class Downloaded:
    """A video was downloaded, and the file is complete. A video that is found saved already causes no event."""

    at: float
    """When, in seconds of the session's loop."""
    task_id: str
    key: str | None
    """The ``key`` that was given to the download."""
    path: Path
    bytes: int
    """The size of the file."""
    took_s: float
    """Seconds that the download took."""


@attrs.frozen(kw_only=True)
class GateClosed:
    """The session sends no request of any kind for a while."""

    at: float
    """When, in seconds of the session's loop."""
    reason: Literal["request_rate", "unreachable"]
    """The service refused a request as one too many (429), or no connection to it could be made."""
    seconds: float
    """How long the session sends nothing, as far as is known now."""


SessionEvent: TypeAlias = Queued | Sent | Refused | Accepted | StatusSeen | Ended | Downloaded | GateClosed
"""Any event that a hook may get."""

Hook: TypeAlias = Callable[[SessionEvent], object]
"""A callable that gets each event. Its return value is not used."""


# --- Hooks ------------------------------------------------------------------------------------------------------------


@attrs.define(eq=False)
class _Held:
    """A hook, and whether it has ever raised."""

    hook: Hook
    has_failed: bool = False


@attrs.define(eq=False)
class Hooks:
    """The hooks of a session, in the order of their calls. Change them at any time, on the session's loop.

    A hook is a plain callable that takes one event. The session calls it on its loop at the moment of the fact, and the
    loop stands still until it returns: work of more than a millisecond belongs in a task or a thread. A hook may use
    the session: ask for ``stats()``, start a task that submits, remove itself.

    A hook that raises stops nothing. The session logs its exception with the traceback, the first time at WARNING,
    later at DEBUG. A ``KeyboardInterrupt`` or ``SystemExit`` ends the loop, as it would from any callback, but not in
    the middle of the engine's work.
    """

    _held: list[_Held] = attrs.field(factory=list, init=False)

    def append(self, hook: Hook) -> None:
        """Gives ``hook`` every event from now on. Raises ``ConfigError`` for a value that is not a plain callable."""
        if not _is_plain(hook):
            rule = "must be plain callables that take an event: a coroutine function would not be awaited"
            raise ConfigError(field="hooks", value=hook, rule=rule)
        self._held.append(_Held(hook))

    def remove(self, hook: Hook) -> None:
        """Gives ``hook`` no more events. Raises ``ValueError`` if it is not among the hooks."""
        del self._held[list(self).index(hook)]

    def __iter__(self) -> Iterator[Hook]:
        return (held.hook for held in self._held)

    def __len__(self) -> int:
        return len(self._held)

    def emit(self, event: SessionEvent) -> None:
        """Gives ``event`` to each hook. Never raises."""
        for held in tuple(self._held):
            try:
                held.hook(event)
            except (KeyboardInterrupt, SystemExit) as error:
                asyncio.get_running_loop().call_soon(_raise, error)
            except BaseException:  # a CancelledError from a hook must not cancel the engine's task that called it
                level = logging.DEBUG if held.has_failed else logging.WARNING
                held.has_failed = True
                advice = "correct it, or take it out of session.hooks; its next exceptions are logged at DEBUG"
                _logger.log(level, "the hook %s raised: %s", _name_of(held.hook), advice, exc_info=True)


def _is_plain(hook: Hook) -> bool:
    return callable(hook) and not any(map(inspect.iscoroutinefunction, (hook, type(hook).__call__)))


def _name_of(hook: Hook) -> str:
    """The hook's name. The ``repr`` of a bound method shows all that its object holds: secrets, or ever so much."""
    name: str = getattr(hook, "__qualname__", type(hook).__qualname__)
    return name


def _raise(error: BaseException) -> NoReturn:
    raise error
