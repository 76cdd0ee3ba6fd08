"""Talking to the emulator, in memory and on a socket: requests as a client writes them, and what is read of replies."""

from __future__ import annotations

import base64
import json
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import aiohttp

from hailuo_async.emulator import DEFAULT_API_KEY, Emulator, Reply, Request, Service

NOW = 1_800_000_000.0
START = "https://example.com/start-frame.jpg"
I2V = "/api/v1/minimax/hailuo-2.3-i2v/async"
FL2V = "/api/v1/image-to-video/minimax/hailuo-02-fl2v/async"
IMAGES = {"hailuo-02-fl2v": "last_frame_image"}
MODELS = (
    "hailuo-2.3-i2v",
    "hailuo-2.3-fast-i2v",
    "hailuo-02-i2v",
    "hailuo-02-fl2v",
    "minimax-i2v-01",
    "minimax-i2v-01-live",
    "minimax-i2v-01-director",
)


def ask(method: str, url: str, body: bytes = b"", **headers: str) -> Request:
    key = {"Authorization": f"Bearer {DEFAULT_API_KEY}"}
    return Request.to(method, url, key | {name.replace("_", "-"): text for name, text in headers.items()}, body)


def submit(content: object, path: str = I2V) -> Request:
    return ask("POST", path, json.dumps(content).encode(), Content_Type="application/json")


def job(**fields: object) -> Request:
    return submit({"first_frame_image": START, **fields})


def accepted(service: Service, now: float = NOW, **fields: object) -> str:
    reply = service.handle(job(**fields), now)
    assert reply.status == 200, reply.body
    return str(reply.json()["data"]["task_id"])


def queried(service: Service, task_id: str, now: float) -> dict[str, Any]:
    reply = service.handle(ask("GET", f"/api/v1/tasks/{task_id}"), now)
    assert reply.status == 200, reply.body
    data: dict[str, Any] = reply.json()["data"]
    return data


def refusal(reply: Reply) -> tuple[int, str]:
    envelope = reply.json()
    assert envelope.keys() == {"code", "message"}
    assert envelope["code"] == reply.status
    return reply.status, envelope["message"].partition(":")[0]


def png(width: int, height: int, size: int = 100) -> bytes:
    head = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR" + struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return head + bytes(size - len(head))


def data_url(data: bytes, kind: str = "image/png") -> str:
    return f"data:{kind};base64,{base64.b64encode(data).decode()}"


@asynccontextmanager
async def served(**settings: Any) -> AsyncIterator[tuple[Emulator, aiohttp.ClientSession]]:
    """A running emulator whose tasks end at once, and a client that has its key."""
    async with Emulator(**{"generation_s": 0.0, **settings}) as emulator:
        headers = {"Authorization": f"Bearer {emulator.api_key}"}
        async with aiohttp.ClientSession(emulator.url, headers=headers) as client:
            yield emulator, client
