"""The downloads of a session: imported and made when the first is asked for, once, and never after the close."""

from __future__ import annotations

import asyncio
import subprocess
import sys

import pytest

from hailuo_async._engine.lazy_downloads import LazyDownloads
from hailuo_async.errors import SessionClosedError


async def test_all_who_ask_at_once_get_the_same_downloads() -> None:
    downloads = LazyDownloads(allow_private_network=False)
    one, other = await asyncio.gather(downloads.open(), downloads.open())
    assert one is other
    await downloads.aclose()


@pytest.mark.parametrize("is_opened", [True, False])
async def test_after_the_close_nothing_is_fetched(is_opened: bool) -> None:
    downloads = LazyDownloads(allow_private_network=True)
    if is_opened:
        await downloads.open()
    await downloads.aclose()
    with pytest.raises(SessionClosedError):
        async with (await downloads.open()).stream("http://127.0.0.1:9/x.mp4"):
            pytest.fail("it was opened")


@pytest.mark.slow
def test_importing_the_library_does_not_import_what_downloads() -> None:
    command = "import sys, hailuo_async; print('hailuo_async._io.download.client' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", command], capture_output=True, check=True).stdout == b"False\n"
