"""The limit on requests a minute: fixed windows of server time, and the headers that state them."""

from __future__ import annotations

import math
import random
from email.utils import formatdate

import attrs

from .wire import Refusal

WINDOW_S = 60


@attrs.define
class RequestWindow:
    """Counts the requests of the current minute. Refused ones count too."""

    _number: int = 0
    _used: int = 0

    def count(self, now: float) -> None:
        number = int(now // WINDOW_S)
        if number != self._number:
            self._number, self._used = number, 0
        self._used += 1

    def exceeds(self, limit: int) -> bool:
        return self._used > limit

    def headers(self, limit: int) -> dict[str, str]:
        """The headers of every answer: the limit, what is left of it, and when it is whole again (Unix seconds)."""
        return {
            "X-RateLimit-Limit": str(limit),
            "X-RateLimit-Remaining": str(max(0, limit - self._used)),
            "X-RateLimit-Reset": str(self._resets_at),
        }

    @property
    def _resets_at(self) -> int:
        return (self._number + 1) * WINDOW_S

    def refusal(self, limit: int, now: float, dice: random.Random) -> Refusal:
        """The refusal of a request over the limit.

        Half of them carry ``Retry-After``: in seconds, or as a date.
        """
        headers = {}
        form = dice.choice(("none", "none", "seconds", "date"))
        if form == "seconds":
            headers["Retry-After"] = str(math.ceil(self._resets_at - now))
        elif form == "date":
            headers["Retry-After"] = formatdate(self._resets_at, usegmt=True)
        return Refusal(429, f"Rate limit exceeded: {limit} requests per minute", headers)
