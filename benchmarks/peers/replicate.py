"""replicate: ``Client.async_run``. The service holds the answer to its POST until the prediction is done."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import Any

from benchmarks.peers.clients import API_KEY, PICTURE_URL, Client, Setup


class Replicate(Client):
    """On httpx. A picture is handed over as an open file, as in its documentation: it is uploaded first."""

    def __init__(self, setup: Setup) -> None:
        replicate: Any = import_module("replicate")
        self._client = replicate.Client(API_KEY, base_url=f"{setup.base_url}/replicate", **self._options())
        self._picture = setup.picture

    def _options(self) -> dict[str, Any]:
        return {}

    async def make(self, prompt: str) -> str:
        with self._image() as image:
            return await self._run(prompt, image)

    @contextmanager
    def _image(self) -> Iterator[object]:
        if self._picture is None:
            yield PICTURE_URL
        else:
            with Path(self._picture).open("rb") as file:
                yield file

    async def _run(self, prompt: str, image: object) -> str:
        inputs = {"prompt": prompt, "first_frame_image": image}
        return str(await self._client.async_run("minimax/hailuo-2.3", input=inputs))


class ReplicateOnAiohttp(Replicate):
    """On aiohttp, by the ``transport`` that its client hands on to httpx."""

    def _options(self) -> dict[str, Any]:
        return {"transport": import_module("httpx_aiohttp").AiohttpTransport()}


class ReplicateAsking(ReplicateOnAiohttp):
    """Not held, but asking every half second, its default: ``async_create``, then ``async_wait``."""

    async def _run(self, prompt: str, image: object) -> str:
        inputs = {"prompt": prompt, "first_frame_image": image}
        prediction = await self._client.models.predictions.async_create("minimax/hailuo-2.3", input=inputs)
        await prediction.async_wait()
        return str(prediction.output)
