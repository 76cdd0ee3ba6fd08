"""A relay before a server, which counts round trips, and can fall silent."""

from __future__ import annotations

import contextlib
import selectors
import socket
import threading
import time
from collections.abc import Iterator

import attrs


@attrs.define(eq=False)
class Relay:
    """Passes bytes on between each client and the server on ``port`` of this machine."""

    port: int
    """Of the server."""
    trips: int = 0
    """How often a client has spoken after it had an answer, or for the first time."""
    is_silent: bool = False
    """Whether nothing passes for now. The connections stay."""
    _listening: socket.socket = attrs.field(init=False)
    _selector: selectors.BaseSelector = attrs.field(factory=selectors.DefaultSelector, init=False)
    _answered: set[socket.socket] = attrs.field(factory=set, init=False)
    """Clients that have had an answer since they spoke."""
    _is_over: bool = attrs.field(default=False, init=False)

    def __attrs_post_init__(self) -> None:
        self._listening = socket.create_server(("127.0.0.1", 0))
        self._selector.register(self._listening, selectors.EVENT_READ)

    @property
    def address(self) -> int:
        """The port that clients connect to."""
        return int(self._listening.getsockname()[1])

    def run(self) -> None:
        """Until it is over."""
        while not self._is_over:
            if self.is_silent:
                time.sleep(0.01)
                continue
            for key, _ in self._selector.select(0.02):
                if key.data is None:
                    self._take()
                else:
                    self._pass(key.fileobj, *key.data)  # type: ignore[arg-type]
        for key in list(self._selector.get_map().values()):
            key.fileobj.close()  # type: ignore[union-attr]
        self._selector.close()

    def end(self) -> None:
        """Ends it soon."""
        self._is_over = True

    def _take(self) -> None:
        client, _ = self._listening.accept()
        server = socket.create_connection(("127.0.0.1", self.port))
        self._selector.register(client, selectors.EVENT_READ, (server, True))
        self._selector.register(server, selectors.EVENT_READ, (client, False))
        self._answered.add(client)

    def _pass(self, source: socket.socket, target: socket.socket, is_client: bool) -> None:
        if source.fileno() < 0:
            return  # its other end has closed both in this turn
        data = b""
        with contextlib.suppress(ConnectionError):
            data = source.recv(1 << 16)
        if is_client and data:
            self.trips += source in self._answered
            self._answered.discard(source)
        elif data:
            self._answered.add(target)
        if data:
            with contextlib.suppress(ConnectionError):
                target.sendall(data)
                return
        for each in (source, target):
            self._selector.unregister(each)
            each.close()


@contextlib.contextmanager
def relayed(port: int) -> Iterator[Relay]:
    """A relay to that port, in a thread of its own."""
    relay = Relay(port)
    thread = threading.Thread(target=relay.run)
    thread.start()
    try:
        yield relay
    finally:
        relay.end()
        thread.join()
