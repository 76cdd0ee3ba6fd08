"""fal-client: ``AsyncClient.subscribe``. It has one transport, httpx, which it makes itself."""

from __future__ import annotations

from importlib import import_module
from typing import Any

from benchmarks.peers.clients import API_KEY, PICTURE_URL, Client, Setup


class Fal(Client):
    """At its own interval of 0.1 s. A picture goes along as a data URL, one of the two ways in its documentation.

    It speaks to its queue over https alone. Its address, a constant of the module, is set to plain http here, as for
    everybody: that spares it the TLS.
    """

    def __init__(self, setup: Setup) -> None:
        self._fal: Any = import_module("fal_client")
        import_module("fal_client.client").QUEUE_URL_FORMAT = f"{setup.base_url}/fal/"  # type: ignore[attr-defined]
        self._client = self._fal.AsyncClient(key=API_KEY)
        self._picture = setup.picture

    async def make(self, prompt: str) -> str:
        image_url = self._fal.encode_file(self._picture) if self._picture else PICTURE_URL
        arguments = {"prompt": prompt, "image_url": image_url}
        result = await self._client.subscribe("fal-ai/minimax/hailuo-2.3/standard/image-to-video", arguments)
        return str(result["video"]["url"])
