"""A transport to an emulated service in the same process: no socket, and the loop's own time.

With ``hailuo_async.testing.run_virtual`` it lets a session work through a night's batch in seconds. Only a job whose
images are not URLs needs a thread, to read them.
"""

from __future__ import annotations

import anyio
import anyio.to_thread
import attrs

from hailuo_async import emulator
from hailuo_async._rules.wire import Answer, Request, decipher, unknown, unsent
from hailuo_async.errors import ImageError

#: The server's time at the loop's time 0, in Unix seconds: an evening in 2023.
DEFAULT_EPOCH = 1_700_000_000.0


@attrs.define(eq=False)
class InMemory:
    """``Transport`` to a ``Service``, whose time is ``epoch`` plus the loop's.

    ``api_key`` is the key that requests carry. An answer takes ``latency_s``, half of it on each way: a request that is
    cancelled on its way there never arrives, and one on its way back has been worked on.
    """

    _service: emulator.Service
    _api_key: str = attrs.field(default=emulator.DEFAULT_API_KEY, repr=False, kw_only=True)
    _epoch: float = attrs.field(default=DEFAULT_EPOCH, kw_only=True)
    _latency_s: float = attrs.field(default=0.0, kw_only=True)

    async def send(self, request: Request, timeout_s: float) -> Answer:
        """Gives ``request`` to the service once. Cancelling tears the request, as on a socket."""
        try:
            body = await _read(request)
        except ImageError as error:
            return unsent(str(error), error)
        with anyio.move_on_after(timeout_s):
            return await self._exchange(request, body)
        return unknown("no answer in time")

    async def _exchange(self, request: Request, body: bytes) -> Answer:
        headers = {"Authorization": f"Bearer {self._api_key}", "Content-Type": request.content_type, **request.headers}
        await anyio.sleep(self._latency_s / 2)
        now = self._epoch + anyio.current_time()
        reply = self._service.handle(emulator.Request.to(request.method, request.path, headers, body), now)
        await anyio.sleep(self._latency_s / 2)
        match reply.delivery:
            case emulator.Delivery.HANG:
                await anyio.sleep_forever()
            case emulator.Delivery.CUT:
                return unknown("the connection was cut")
            case emulator.Delivery.TRUNCATED:
                return unknown("the answer was cut short", reply.status)
        return decipher(reply.status, reply.headers, reply.body)

    async def aclose(self) -> None:
        """Does nothing: there are no connections."""


async def _read(request: Request) -> bytes:
    if request.is_heavy:
        return await anyio.to_thread.run_sync(_joined, request)
    return _joined(request)


def _joined(request: Request) -> bytes:
    return b"".join(part if isinstance(part, bytes) else b"".join(part.pieces()) for part in request.body)
