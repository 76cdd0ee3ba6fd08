from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from hailuo_async.emulator import Emulator

from ..support.service import KEY


@pytest.fixture
async def emulator() -> AsyncIterator[Emulator]:
    """A service whose tasks are done soon."""
    async with Emulator(api_key=KEY, generation_s=0.02, spread=0.0, max_running=5) as emulator:
        yield emulator
