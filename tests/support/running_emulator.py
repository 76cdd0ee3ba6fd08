"""The emulator in a thread of its own, for tests whose client is another thread or another process."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

from anyio.from_thread import start_blocking_portal

from hailuo_async.emulator import Emulator

from .https import speak_https
from .service import settle


@contextlib.contextmanager
def emulator_in_thread(*, tls: bool = False, **settings: Any) -> Iterator[Emulator]:
    """A running emulator, whose tasks take 0.2 s unless ``settings`` say otherwise. With ``tls`` it speaks https."""
    emulator = Emulator(**{"generation_s": 0.2, "spread": 0, **settings})
    with start_blocking_portal() as portal, portal.wrap_async_context_manager(emulator):
        if tls:
            portal.call(speak_https, emulator)
        yield emulator
        if tls:
            portal.call(settle)  # asyncio's TLS ends some turns of the loop after its client


def credentials(emulator: Emulator) -> dict[str, str]:
    """The environment variables that lead a session to the emulator."""
    return {"MODELLIX_API_KEY": emulator.api_key, "MODELLIX_BASE_URL": emulator.url}
