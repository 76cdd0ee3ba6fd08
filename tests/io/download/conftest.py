"""Downloads of a session of its own, that does not wait between its tries."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncGenerator

import pytest

from hailuo_async._io.download.client import Downloads

from ...support.https import trusting


@pytest.fixture
async def downloads() -> AsyncGenerator[Downloads, None]:
    """They trust the stand-ins that speak https."""
    made = Downloads(allow_private_network=True, waits_s=(0.0, 0.0, 0.0), tls=trusting())
    async with contextlib.aclosing(made):
        yield made
