"""openai: ``AsyncOpenAI.videos.create_and_poll``."""

from __future__ import annotations

import warnings
from importlib import import_module
from pathlib import Path
from types import TracebackType
from typing import Any

from benchmarks.peers.clients import API_KEY, Client, Setup


class OpenAI(Client):
    """On httpx, asking every second, as it does by default. A picture goes along as a form's file."""

    def __init__(self, setup: Setup) -> None:
        warnings.filterwarnings("ignore", "The Sora API", DeprecationWarning)
        self._openai: Any = import_module("openai")
        self._client = self._openai.AsyncOpenAI(api_key=API_KEY, base_url=f"{setup.base_url}/openai", **self._options())
        self._picture = {"input_reference": Path(setup.picture)} if setup.picture else {}
        self._pace: dict[str, int] = {}

    def _options(self) -> dict[str, Any]:
        return {}

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._client.close()

    async def make(self, prompt: str) -> str:
        video = await self._client.videos.create_and_poll(prompt=prompt, **self._picture, **self._pace)
        return str(video.id)


class OpenAIOnAiohttp(OpenAI):
    """On aiohttp, by its own ``DefaultAioHttpClient``, asking every half second."""

    def __init__(self, setup: Setup) -> None:
        super().__init__(setup)
        self._pace = {"poll_interval_ms": 500}

    def _options(self) -> dict[str, Any]:
        return {"http_client": self._openai.DefaultAioHttpClient()}
