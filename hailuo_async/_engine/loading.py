"""Imports the engine when it is first needed, so that ``import hailuo_async`` takes little more than aiohttp's time.

That is before the first session opens. An import reads files, so it leaves the loop: it takes a thread, once in the
life of a process. With the engine comes what anyio imports at its own first use.
"""

from __future__ import annotations

import asyncio
import gc
import importlib
import sys
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    from hailuo_async._io.journal.writer import JournalWriter

_MODULES = ("hailuo_async._engine.wiring", "anyio._backends._asyncio")

OpenJournal: TypeAlias = "Callable[..., Awaitable[JournalWriter]]"


def import_engine() -> None:
    """Imports what a session without a journal needs. Blocks: it reads files."""
    for module in _MODULES:
        importlib.import_module(module)


async def load_engine() -> None:
    """Imports the engine in a thread, unless that was done before."""
    if not all(module in sys.modules for module in _MODULES):
        await asyncio.to_thread(_load)


def _load() -> None:
    """Imports the engine, and has a young process make its first full garbage collection.

    That one is due about now, looks at all that was imported so far, and would hold up the first jobs for ten
    milliseconds. In a process that has had it, a full collection may take seconds, so none is caused there.
    """
    import_engine()
    if gc.isenabled() and not gc.get_stats()[-1]["collections"]:
        gc.collect()
