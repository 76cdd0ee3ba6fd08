"""The one clock of the engine: its loop's."""

from __future__ import annotations

import asyncio


def loop_time() -> float:
    """Seconds of the running loop.

    It is what ``anyio.current_time`` gives, at a fifth of its price, and also where a timer runs: outside any task,
    where anyio knows of no loop.
    """
    return asyncio.get_running_loop().time()
