"""For tests and simulations of programs that use this library: nights that pass in a second.

``run_virtual`` runs a program on a loop whose clock jumps to the next timer, and ``InMemory`` carries a session's
requests to an emulated service without a socket::

    async def night() -> float:
        service = Service(generation_s=90)
        async with AsyncSession(transport=InMemory(service), api_key=service.api_key) as session:
            ...
        return anyio.current_time()

    seconds = run_virtual(night)

On such a loop a session needs jobs whose images are URLs, and can have neither a journal nor downloads: those wait for
threads and sockets. Tests that need them take the fixture ``modellix``, which pytest finds by itself. The rest works
without pytest.
"""

from __future__ import annotations

from hailuo_async.testing.in_memory import InMemory
from hailuo_async.testing.virtual_clock import DeadlockError, VirtualClockLoop, run_virtual

__all__ = ["DeadlockError", "InMemory", "VirtualClockLoop", "run_virtual"]
