"""How a session wakes another one on the same machine: a datagram to a name in Linux's abstract space.

The datagram may carry a message, which the session checks before it acts on it. Any program may send one, and one may
get lost: a session that is woken refreshes at once, and one that is not a little later. Where there are no
such names (other systems, another network namespace) the bell wakes no session.
"""

from __future__ import annotations

import contextlib
import hashlib
import socket
import sys
from collections.abc import Iterable

import attrs

#: Bytes of a message, and messages that are kept of those that came at once.
_LONGEST_MESSAGE, _MOST_MESSAGES = 1024, 64


@attrs.define(eq=False)
class Bell:
    """One session's bell, and the hand that rings those of others. Lives on the journal's thread."""

    _socket: socket.socket | None = attrs.field(default=None, init=False)

    def listen(self, topic: str) -> None:
        """Listens under that name, if the system has such names and this one is free."""
        self.close()
        if sys.platform != "linux":
            return
        bell = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
        try:
            bell.bind(_address(topic))
        except OSError:
            bell.close()
        else:
            self._socket = bell

    def fileno(self) -> int | None:
        """Readable when it was rung."""
        return None if self._socket is None else self._socket.fileno()

    def ring(self, topics: Iterable[str], message: str = "") -> None:
        """Rings the bells of those names, where there are any. Never waits."""
        for topic in topics:
            if self._socket is not None:
                with contextlib.suppress(OSError):
                    self._socket.sendto(message.encode(), _address(topic))

    def quiet(self) -> frozenset[str]:
        """Forgets that it was rung. Returns the messages that came with it, a bounded number of them."""
        messages: set[str] = set()
        with contextlib.suppress(OSError):
            while self._socket is not None:
                message = self._socket.recv(_LONGEST_MESSAGE)
                if message and len(messages) < _MOST_MESSAGES:
                    messages.add(message.decode("utf-8", "replace"))
        return frozenset(messages)

    def close(self) -> None:
        """Stops listening."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None


def _address(topic: str) -> bytes:
    return b"\0hailuo-async/" + hashlib.sha256(topic.encode()).hexdigest()[:40].encode()
