"""``OutcomeStream``: a caller's handle on a stream."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Coroutine
from typing import TYPE_CHECKING, Any

from hailuo_async.outcomes import Outcome

if TYPE_CHECKING:
    from hailuo_async._engine.stream import Stream


class OutcomeStream(AsyncGenerator[Outcome, None]):
    """What ``AsyncSession.stream`` returns: an async generator of outcomes that can also be stopped."""

    def __init__(self, stream: Stream) -> None:
        self._stream = stream
        self._outcomes = stream.outcomes()  # nothing else holds it, so a handle that is dropped ends the stream

    def stop(self) -> None:
        """Sends nothing more. What runs at the service is still waited for, saved and yielded; then the stream ends.

        Jobs that were pulled and not sent are taken back: they cost nothing, and no outcome tells of them. Returns at
        once; may be called any number of times, from any task of the session's loop, and by what reads the stream.
        """
        self._stream.stop_nowait()

    def __anext__(self) -> Coroutine[Any, Any, Outcome]:
        return self._outcomes.__anext__()

    def asend(self, value: None) -> Coroutine[Any, Any, Outcome]:
        """The next outcome, as of any async generator."""
        return self._outcomes.asend(value)

    def athrow(self, *error: Any) -> Coroutine[Any, Any, Outcome]:
        """Leaves the stream with ``error``."""
        return self._outcomes.athrow(*error)

    def aclose(self) -> Coroutine[Any, Any, None]:
        """Leaves the stream: nothing more is pulled, sent or saved. Tasks that run go on at the service."""
        return self._outcomes.aclose()
