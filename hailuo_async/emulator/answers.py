"""The bodies that answer submits and queries, in every form that the service was seen to give them."""

from __future__ import annotations

from decimal import Decimal

from .facts import API
from .settings import ReasonIn, Settings
from .tasks import Task
from .wire import Reply, json_reply


def answer_submit(task: Task, settings: Settings, *, typed: bool) -> Reply:
    """The answer to a submit that was accepted. By the oldest (``typed``) path it has no ``get_result``."""
    data = _basics(task, "pending")
    if not typed:
        origin = settings.get_result_origin or settings.origin
        data["get_result"] = {"method": "GET", "url": f"{origin}{API}tasks/{task.task_id}"}
    return json_reply(200, _envelope(data, settings))


def answer_query(task: Task, settings: Settings, now: float, url: str) -> Reply:
    """The answer about a task: its status and, once it has succeeded, its film under ``url`` and what it cost."""
    status = task.status(now)
    data = _basics(task, status)
    message = "success"
    if status == "failed":
        message = _give_reason(data, settings)
    if status == "success":
        data["duration"] = round(task.took_s * 1000)
        data["result"] = {
            "resources": [_resource(task, url)],
            "metadata": {"request_id": task.task_id.replace("task-", "req-")},
        }
        data["billing"] = {"status": "succeeded", "amount": format_usd(task.cost)}
        data["result_expires_at"] = round((task.ends_at + settings.results_last_s) * 1000)
    elif status in ("failed", "canceled") and not task.cost:
        data["billing"] = {"status": status, "amount": format_usd(task.cost)}
    return json_reply(200, _envelope(data, settings, message))


def format_usd(amount: Decimal) -> str:
    """An amount as the service writes it: with four decimals (customer)."""
    return f"{amount:.4f}"


def _envelope(data: dict[str, object], settings: Settings, message: str = "success") -> dict[str, object]:
    if not settings.bare_answers:
        return {"code": 0, "message": message, "data": data}
    return {"success": True, "data": data} | ({} if message == "success" else {"message": message})


def _basics(task: Task, status: str) -> dict[str, object]:
    return {"status": status, "task_id": task.task_id, "model_id": task.submission.model.model_id}


def _give_reason(data: dict[str, object], settings: Settings) -> str:
    """Puts the reason where the settings want it. Returns the envelope's message."""
    match settings.reason_in:
        case ReasonIn.ERROR:
            data["error"] = {"code": settings.fail_code, "message": settings.fail_reason}
        case ReasonIn.ERROR_TEXT:
            data["error"] = settings.fail_reason
        case ReasonIn.ERROR_MESSAGE | ReasonIn.MESSAGE:
            data[settings.reason_in.value] = settings.fail_reason
        case ReasonIn.ENVELOPE:
            return settings.fail_reason
    return "success"


def _resource(task: Task, url: str) -> dict[str, object]:
    width, height = task.size
    return {"url": url, "type": "video", "width": width, "height": height, "format": "mp4", "role": "primary"}
