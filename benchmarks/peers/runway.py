"""runwayml: ``AsyncRunwayML.image_to_video.create``, then ``wait_for_task_output``, which asks every 4.5 to 7.5 s."""

from __future__ import annotations

import asyncio
import base64
from importlib import import_module
from pathlib import Path
from types import TracebackType
from typing import Any

from benchmarks.peers.clients import API_KEY, PICTURE_URL, Client, Setup


class Runway(Client):
    """On httpx. A picture goes along as a data URL."""

    def __init__(self, setup: Setup) -> None:
        self._runwayml: Any = import_module("runwayml")
        address = f"{setup.base_url}/runway"
        self._client = self._runwayml.AsyncRunwayML(api_key=API_KEY, base_url=address, **self._options())
        self._picture = setup.picture

    def _options(self) -> dict[str, Any]:
        return {}

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._client.close()

    async def make(self, prompt: str) -> str:
        task = await self._submit(prompt)
        done = await task.wait_for_task_output()
        return str(done.output[0])

    async def _submit(self, prompt: str) -> Any:
        return await self._client.image_to_video.create(
            model="gen4_turbo", prompt_image=self._image(), prompt_text=prompt, ratio="1280:720", duration=5
        )

    def _image(self) -> str:
        if self._picture is None:
            return PICTURE_URL
        encoded = base64.b64encode(Path(self._picture).read_bytes()).decode("ascii")
        return f"data:image/jpeg;base64,{encoded}"

    async def warm_up(self) -> None:
        task = await self._submit("warming up")
        await self._client.tasks.retrieve(task.id)


class RunwayOnAiohttp(Runway):
    """On aiohttp, by its own ``DefaultAioHttpClient``, and asking ``tasks.retrieve`` itself every half second."""

    def _options(self) -> dict[str, Any]:
        return {"http_client": self._runwayml.DefaultAioHttpClient()}

    async def make(self, prompt: str) -> str:
        task = await self._submit(prompt)
        while True:
            await asyncio.sleep(0.5)
            found = await self._client.tasks.retrieve(task.id)
            if found.status == "SUCCEEDED":
                return str(found.output[0])
