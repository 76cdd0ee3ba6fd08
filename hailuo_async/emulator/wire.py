"""What goes in and out of the emulator's core: requests, replies, refusals.

Plain values. ``Delivery`` says how the server sends a reply, or loses it.
"""

from __future__ import annotations

import enum
import json
from collections.abc import Mapping
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit

import attrs

from .announcements import WebhookPost
from .facts import CATEGORIES
from .films import FilmOrder


def _lowered(headers: Mapping[str, str]) -> dict[str, str]:
    return {name.lower(): value for name, value in headers.items()}


@attrs.frozen
class Request:
    """One request as the core sees it: ``path`` decoded, header names in lower case, the ``body`` whole."""

    method: str
    path: str
    query: Mapping[str, str] = attrs.field(factory=dict)
    headers: Mapping[str, str] = attrs.field(factory=dict, converter=_lowered)
    body: bytes = attrs.field(default=b"", repr=False)
    connection: str = ""
    """Names the connection that it came on, for the ledger."""

    @classmethod
    def to(cls, method: str, url: str, headers: Mapping[str, str] | None = None, body: bytes = b"") -> Request:
        """The request for ``url``, whole or a path with its query."""
        parts = urlsplit(url)
        return cls(method, unquote(parts.path), dict(parse_qsl(parts.query)), headers or {}, body)


class Delivery(enum.Enum):
    """How a reply reaches the client."""

    WHOLE = "whole"
    CUT = "cut"
    """The connection is closed and no byte of the reply is sent."""
    HANG = "hang"
    """Nothing is sent, and the connection stays open until the server closes."""
    TRUNCATED = "truncated"
    """The headers promise the whole body, half of it is sent, and the connection is closed."""


@attrs.frozen
class Reply:
    """What the core answers. With ``film`` set, the body is that film, or the part of it that was asked for."""

    status: int
    headers: Mapping[str, str] = attrs.field(factory=dict)
    body: bytes = attrs.field(default=b"", repr=False)
    delivery: Delivery = Delivery.WHOLE
    film: FilmOrder | None = None
    preceded_by: WebhookPost | None = None
    """A webhook to be called before this reply is sent."""

    def adding(self, headers: Mapping[str, str]) -> Reply:
        """The same reply with these headers, too."""
        return attrs.evolve(self, headers={**self.headers, **headers})

    def json(self) -> Any:
        """The JSON of its body. Raises ``ValueError`` if the body is not JSON."""
        return json.loads(self.body)


@attrs.frozen
class Refusal(Exception):
    """The service says no: nothing was created, nothing is paid. ``message`` is ``"<Category>: <detail>"``."""

    status: int
    message: str
    headers: Mapping[str, str] = attrs.field(factory=dict)

    @classmethod
    def of(cls, status: int, detail: str) -> Refusal:
        """The refusal with this status, whose category follows from it."""
        return cls(status, f"{CATEGORIES[status]}: {detail}")


def json_reply(status: int, content: object) -> Reply:
    return Reply(status, {"Content-Type": "application/json"}, json.dumps(content).encode())


def success(data: Mapping[str, object]) -> Reply:
    """200 with the envelope of a success."""
    return json_reply(200, {"code": 0, "message": "success", "data": data})


def refused(refusal: Refusal) -> Reply:
    """The envelope of a refusal: ``code`` is the HTTP status, and there is no ``data``."""
    reply = json_reply(refusal.status, {"code": refusal.status, "message": refusal.message})
    return reply.adding(refusal.headers)
