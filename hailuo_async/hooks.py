"""Events: what a session tells the program around it while it works, and the callables that are given them.

An event is a frozen value that states one fact, once. Its ``repr`` may go into a log: the job is not in it, as its
prompt is nobody else's business, nor is the query of a signed URL. (The service's own words are, and may quote a
prompt.) It holds its job all the same, images included: who keeps events keeps those.
"""

from __future__ import annotations

import asyncio
import inspect
import logging
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Literal, NoReturn, TypeAlias

import attrs

from hailuo_async.errors import ConfigError, HailuoError, shown
from hailuo_async.jobs import Job
from hailuo_async.outcomes import Status, Video

_logger = logging.getLogger("hailuo_async")


# --- Of a job ---------------------------------------------------------------------------------------------------------


@attrs.frozen(kw_only=True)
class JobEvent:
    """Something happened to a job: what all events of a job tell."""

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
    """Seconds since the session was given it."""


@attrs.frozen(kw_only=True)
class Queued(JobEvent):
    """It waits for a slot: its images were looked at, and it is on record. Told in the task that gave the job."""


@attrs.frozen(kw_only=True)
class Sent(JobEvent):
    """Its POST begins. What follows is ``Accepted``, ``Refused``, or, where the answer is lost, neither."""

    attempt: int
    """Which POST of this job it is, from 1."""
    doubts: int
    """Earlier POSTs of it whose answers were lost (``on_unknown="resubmit"``). Each of them may be paid for."""


@attrs.frozen(kw_only=True)
class Refused(JobEvent):
    """The POST certainly was not accepted, and costs nothing. The job waits again, unless it ends with this."""

    attempt: int
    """Which POST of this job it was, from 1."""
    reason: str
    """``running_limit`` or ``request_rate`` (429), ``balance`` (402), ``authentication`` (401, 403), ``not_found``
    (404), ``rejected`` (400, 413, 422), or ``not_sent``: it never reached the service."""
    message: str
    """The service's words, or what happened instead."""
    answered_s: float
    """Seconds since it was sent."""


@attrs.frozen(kw_only=True)
class Accepted(JobEvent):
    """The service has it: it is paid for. Or it was accepted elsewhere or earlier, and is waited for from now on."""

    attempt: int
    """Which POST of this job it was, from 1; 0 for a task that was accepted elsewhere or earlier."""
    answered_s: float | None
    """Seconds since it was sent; ``None`` for a task that was accepted elsewhere or earlier."""


@attrs.frozen(kw_only=True)
class StatusSeen(JobEvent):
    """The service says where the task stands, and that is news."""

    status: Status
    ran_s: float | None
    """Seconds since it was accepted, where that is known."""


@attrs.frozen(kw_only=True)
class Ended(JobEvent):
    """It is over, and this is the last of it. There is a ``video`` or an ``error``, as whoever waits for it gets."""

    status: Status
    video: Video | None
    error: HailuoError | None
    ran_s: float | None
    """Seconds since it was accepted, where that is known."""
    late_s: float | None
    """Seconds for which its video lay at the service unnoticed, estimated where the service did not say."""


# --- Of anything else -------------------------------------------------------------------------------------------------


@attrs.frozen(kw_only=True)
class Downloaded:
    """A video was fetched and lies whole in a file. One that was found saved before is not fetched again."""

    at: float
    """When, in seconds of the session's loop."""
    task_id: str
    key: str | None
    """What the download was given as its ``key``."""
    path: Path
    bytes: int
    """The size of the file."""
    took_s: float
    """Seconds that it took to fetch it."""


@attrs.frozen(kw_only=True)
class GateClosed:
    """Requests of every kind are held back for a while."""

    at: float
    """When, in seconds of the session's loop."""
    reason: Literal["request_rate", "unreachable"]
    """The service refused a request for being one too many (429), or no connection to it could be made."""
    seconds: float
    """How long nothing is sent, as far as is known now."""


SessionEvent: TypeAlias = Queued | Sent | Refused | Accepted | StatusSeen | Ended | Downloaded | GateClosed
"""What a hook is given."""

Hook: TypeAlias = Callable[[SessionEvent], object]
"""What is called with each event. What it returns is not used."""


# --- Who is told ------------------------------------------------------------------------------------------------------


@attrs.define(eq=False)
class _Held:
    """A hook, and whether it has ever raised."""

    hook: Hook
    has_failed: bool = False


@attrs.define(eq=False)
class Hooks:
    """The hooks of a session, in the order in which they are told. Change them at any time, on the session's loop.

    A hook is a plain callable that takes one event. It is called on the session's loop at the moment of the fact, so
    the loop stands still until it returns: what takes longer than a millisecond belongs in a task or a thread. It may
    use the session: ask for ``stats()``, start a task that submits, take itself out.

    What a hook raises stops nothing. It is logged with its traceback, the first time at WARNING, later at DEBUG. A
    ``KeyboardInterrupt`` or ``SystemExit`` ends the loop, as it would from any callback, but not in the middle of the
    engine's work.
    """

    _held: list[_Held] = attrs.field(factory=list, init=False)

    def append(self, hook: Hook) -> None:
        """Tells ``hook`` of every event from now on. Raises ``ConfigError`` for what cannot be called so."""
        if not _is_plain(hook):
            rule = "must be plain callables that take an event: a coroutine function would not be awaited"
            raise ConfigError(field="hooks", value=hook, rule=rule)
        self._held.append(_Held(hook))

    def remove(self, hook: Hook) -> None:
        """Tells ``hook`` nothing more. Raises ``ValueError`` if it is not among them."""
        del self._held[list(self).index(hook)]

    def __iter__(self) -> Iterator[Hook]:
        return (held.hook for held in self._held)

    def __len__(self) -> int:
        return len(self._held)

    def tell(self, event: SessionEvent) -> None:
        """Gives ``event`` to each of them. Never raises."""
        for held in tuple(self._held):
            try:
                held.hook(event)
            except (KeyboardInterrupt, SystemExit) as wish:
                asyncio.get_running_loop().call_soon(_raise, wish)
            except BaseException:  # a CancelledError from a hook is no cancellation of whoever works here
                level = logging.DEBUG if held.has_failed else logging.WARNING
                held.has_failed = True
                advice = "correct it, or take it out of session.hooks; what it raises next is logged at DEBUG"
                _logger.log(level, "the hook %s raised: %s", shown(held.hook), advice, exc_info=True)


def _is_plain(hook: Hook) -> bool:
    return callable(hook) and not any(map(inspect.iscoroutinefunction, (hook, type(hook).__call__)))


def _raise(wish: BaseException) -> NoReturn:
    raise wish
