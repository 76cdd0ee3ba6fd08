"""The downloads of a session, imported and made when the first is asked for: many sessions never save a video."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, cast

import anyio.to_thread
import attrs

from hailuo_async._io.http import proxy_for
from hailuo_async.errors import SessionClosedError

if TYPE_CHECKING:
    from hailuo_async._io.download.client import Downloads


@attrs.define(eq=False)
class LazyDownloads:
    """Opens the ``Downloads`` of one session once, and closes them if they were opened."""

    _allow_private_network: bool
    _downloads: Downloads | None = attrs.field(default=None, init=False)
    _is_closed: bool = attrs.field(default=False, init=False)

    async def open(self) -> Downloads:
        """The session's downloads. Raises ``SessionClosedError`` once the session is closed."""
        if self._downloads is None:
            # An import reads files, so it does not run on the loop.
            client = await anyio.to_thread.run_sync(importlib.import_module, "hailuo_async._io.download.client")
            if self._is_closed:
                raise SessionClosedError(reason="the session is closed")
            made = client.Downloads(allow_private_network=self._allow_private_network, find_proxy=proxy_for)
            self._downloads = self._downloads or cast("Downloads", made)
        return self._downloads

    async def aclose(self) -> None:
        """Closes the connections. Downloads under way, and later ones, raise ``SessionClosedError``."""
        self._is_closed = True
        if self._downloads is not None:
            await self._downloads.aclose()
