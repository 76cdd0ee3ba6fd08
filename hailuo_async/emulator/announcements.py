"""The deliveries to webhooks, as values."""

from __future__ import annotations

from collections.abc import Mapping
from urllib.parse import urlsplit

import attrs

from .facts import WEBHOOK_EVENTS
from .faults import Fault


@attrs.frozen(order=True)
class Announcement:
    """One delivery, due at ``due_at`` (Unix seconds of the server's clock)."""

    due_at: float
    number: int
    """Keeps the order of those that are due at the same time."""
    task_id: str
    ended_at: float
    url: str = attrs.field(repr=False)
    delivery_id: str
    retry: int = 0
    fault: Fault | None = None

    @property
    def path(self) -> str:
        """Where on the receiver it goes, without the query, which may hold a secret."""
        return urlsplit(self.url).path or "/"

    def headers(self, status: str) -> dict[str, str]:
        """The headers of the POST about a task that ended with ``status``."""
        return {
            "Content-Type": "application/json",
            "X-Modellix-Event": WEBHOOK_EVENTS[status],
            "X-Modellix-Task-ID": self.task_id,
            "X-Modellix-Delivery-ID": self.delivery_id,
            "X-Modellix-Retry-Count": str(self.retry),
        }


@attrs.frozen
class WebhookPost:
    """One POST to a webhook, to be sent now. Its answer goes to ``Service.settle_webhook``."""

    announcement: Announcement
    headers: Mapping[str, str]
    body: bytes = attrs.field(repr=False)

    @property
    def url(self) -> str:
        """Where it is sent."""
        return self.announcement.url

    @property
    def task_id(self) -> str:
        """The task whose end it tells."""
        return self.announcement.task_id
