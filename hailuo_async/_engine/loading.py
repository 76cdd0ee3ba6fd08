"""Imports the engine when it is first needed, so that ``import hailuo_async`` takes little more than aiohttp's time.

That is before the first session opens. An import reads files, so it leaves the loop: it takes a thread, once in the
life of a process. With the engine comes what anyio imports at its own first use.
"""

from __future__ import annotations

import asyncio
import importlib
import sys
from collections.abc import Awaitable, Callable
from random import Random
from typing import TYPE_CHECKING, TypeAlias

import aiohttp

from hailuo_async._engine.quota import Money
from hailuo_async._engine.state import EngineState
from hailuo_async._io.transport import Transport
from hailuo_async.hooks import Hooks
from hailuo_async.settings import Settings

if TYPE_CHECKING:
    from hailuo_async._engine.engine import Engine
    from hailuo_async._io.journal.writer import JournalWriter

_MODULES = ("hailuo_async._engine.wiring", "anyio._backends._asyncio")

OpenJournal: TypeAlias = "Callable[..., Awaitable[JournalWriter]]"


def import_engine() -> None:
    """Imports what a session without a journal needs. Blocks: it reads files."""
    for module in _MODULES:
        importlib.import_module(module)


async def start_engine(
    settings: Settings,
    state: EngineState,
    transport: Transport | None,
    client_session: aiohttp.ClientSession | None,
    rng: Random,
    hooks: Hooks,
    money: Money,
    open_journal: OpenJournal | None,
) -> Engine:
    """As ``wiring.start_engine``, after the engine was imported. ``open_journal`` replaces its own, if given."""
    if not all(module in sys.modules for module in _MODULES):
        await asyncio.to_thread(import_engine)
    from hailuo_async._engine import wiring

    journal = open_journal or wiring.open_journal
    return await wiring.start_engine(settings, state, transport, client_session, rng, hooks, money, journal)
