"""What each service says: that a task was accepted, and how it stands. Shapes alone; nothing here counts or waits."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

import attrs

Json: TypeAlias = "dict[str, Any]"

_CREATED_AT = "2026-01-01T00:00:00.000Z"


@attrs.frozen
class Said:
    """What an answer may be made from."""

    task_id: str
    path: str
    """Of the request, without its query."""
    origin: str
    """Of the server: ``http://host:port``."""

    @property
    def video_url(self) -> str:
        return f"https://videos.invalid/{self.task_id}.mp4"


@attrs.frozen
class Service:
    """One protocol."""

    accepted: Callable[[Said], Json]
    running: Callable[[Said], Json]
    done: Callable[[Said], Json]
    holds: bool = False
    """Whether a POST that says ``Prefer: wait`` is answered when its task is done, as a query would be."""


# --- the service of this library --------------------------------------------------------------------------------------


def _envelope(data: Json) -> Json:
    return {"code": 0, "message": "success", "data": data}


def _modellix_accepted(said: Said) -> Json:
    return _envelope({"status": "pending", "task_id": said.task_id, "model_id": "minimax/hailuo-2.3-i2v"})


def _modellix_running(said: Said) -> Json:
    return _envelope({"status": "processing", "task_id": said.task_id, "model_id": "minimax/hailuo-2.3-i2v"})


def _modellix_done(said: Said) -> Json:
    video = {"url": said.video_url, "type": "video", "width": 1366, "height": 768, "format": "mp4", "role": "primary"}
    data = {"status": "success", "task_id": said.task_id, "model_id": "minimax/hailuo-2.3-i2v", "duration": 500}
    return _envelope({**data, "result": {"resources": [video], "metadata": {"request_id": said.task_id}}})


# --- fal --------------------------------------------------------------------------------------------------------------


def _fal_accepted(said: Said) -> Json:
    url = f"{said.origin}/fal/requests/{said.task_id}"
    ways = {"response_url": url, "status_url": f"{url}/status", "cancel_url": f"{url}/cancel"}
    return {"status": "IN_QUEUE", "request_id": said.task_id, "queue_position": 0, **ways}


def _fal_running(said: Said) -> Json:
    return {"status": "IN_PROGRESS", "request_id": said.task_id, "logs": None}


def _fal_done(said: Said) -> Json:
    if said.path.endswith("/status"):
        return {"status": "COMPLETED", "request_id": said.task_id, "logs": None, "metrics": {"inference_time": 0.5}}
    return {"video": {"url": said.video_url, "content_type": "video/mp4"}}


# --- replicate --------------------------------------------------------------------------------------------------------


def _replicate(said: Said, status: str, output: str | None) -> Json:
    url = f"{said.origin}/replicate/v1/predictions/{said.task_id}"
    return {
        "id": said.task_id,
        "model": "minimax/hailuo-2.3",
        "version": "hidden",
        "status": status,
        "input": {},
        "output": output,
        "logs": "",
        "error": None,
        "metrics": {},
        "created_at": _CREATED_AT,
        "started_at": None,
        "completed_at": None,
        "urls": {"get": url, "cancel": f"{url}/cancel"},
    }


def replicate_file(origin: str, number: int) -> Json:
    """The answer to an upload, the one that any of the clients here sends."""
    facts = {"id": f"file-{number}", "name": "picture.jpg", "content_type": "image/jpeg", "size": 0, "etag": ""}
    urls = {"get": f"{origin}/replicate/v1/files/file-{number}"}
    return {**facts, "checksums": {}, "metadata": {}, "created_at": _CREATED_AT, "expires_at": None, "urls": urls}


# --- runway -----------------------------------------------------------------------------------------------------------


def _runway_accepted(said: Said) -> Json:
    return {"id": said.task_id, "estimatedCost": {"credits": 25}}


def _runway_running(said: Said) -> Json:
    return {"id": said.task_id, "status": "PENDING", "createdAt": _CREATED_AT, "estimatedCost": {"credits": 25}}


def _runway_done(said: Said) -> Json:
    task = {"id": said.task_id, "status": "SUCCEEDED", "createdAt": _CREATED_AT, "cost": {"credits": 25}}
    return {**task, "output": [said.video_url]}


# --- openai -----------------------------------------------------------------------------------------------------------


def _openai(said: Said, status: str, progress: int) -> Json:
    kind = {"object": "video", "model": "sora-2", "seconds": "4", "size": "720x1280"}
    return {"id": said.task_id, "created_at": 1767225600, "status": status, "progress": progress, **kind}


#: By the first part of a request's path.
SERVICES = {
    "api": Service(_modellix_accepted, _modellix_running, _modellix_done),
    "fal": Service(_fal_accepted, _fal_running, _fal_done),
    "replicate": Service(
        accepted=lambda said: _replicate(said, "starting", None),
        running=lambda said: _replicate(said, "processing", None),
        done=lambda said: _replicate(said, "succeeded", said.video_url),
        holds=True,
    ),
    "runway": Service(_runway_accepted, _runway_running, _runway_done),
    "openai": Service(
        accepted=lambda said: _openai(said, "queued", 0),
        running=lambda said: _openai(said, "in_progress", 50),
        done=lambda said: _openai(said, "completed", 100),
    ),
}
