"""Webhooks: which task's end is announced where, when, and how often.

A delivery is a value that the core gives out when it is due. The carrier (the server, or a test on a virtual clock)
tells the core what the receiver answered. 2xx acknowledges it. 429, 5xx and a network fault bring it back,
under the same delivery id; any other answer ends it.
"""

from __future__ import annotations

import heapq
import ipaddress
import random
from urllib.parse import urlsplit

import attrs

from .announcements import Announcement
from .facts import WEBHOOK_RETRIES, WEBHOOK_URL_HEADER
from .faults import Fault
from .tasks import Task
from .wire import Refusal, Request


def read_webhook_url(request: Request) -> str | None:
    """The URL in ``X-Webhook-URL``, if there is one. Raises ``Refusal`` with 400 if it is no http(s) URL.

    The service takes public https only; a receiver under test is neither.
    """
    url = request.headers.get(WEBHOOK_URL_HEADER)
    if url is None:
        return None
    try:
        parts = urlsplit(url)
        is_usable = parts.scheme in ("http", "https") and bool(parts.hostname)
    except ValueError:  # such as "http://[::1"
        is_usable = False
    if not is_usable:
        raise Refusal(400, "Invalid parameters: X-Webhook-URL must be an https URL")
    return url


def is_loopback(url: str) -> bool:
    """Whether ``url`` leads to this machine by its wording alone: ``localhost``, 127.0.0.0/8 or ::1."""
    host = urlsplit(url).hostname or ""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


@attrs.define
class WebhookQueue:
    """The deliveries that are still to be made."""

    _ids: random.Random
    _due: list[Announcement] = attrs.field(factory=list, init=False)
    """A heap by time."""
    _held: list[Announcement] = attrs.field(factory=list, init=False)
    """Those that wait for one to overtake them, at most until they are due themselves."""
    _count: int = attrs.field(default=0, init=False)

    def announce(self, task: Task, url: str, fault: Fault | None, late_s: float) -> Announcement | None:
        """Plans the delivery for a task. Returns it instead if it is lost, or made at once."""
        late = late_s if fault in (Fault.LATE, Fault.OUT_OF_ORDER) else 0.0
        delivery_id = f"delivery-{self._ids.getrandbits(64):016x}"
        planned = Announcement(
            task.ends_at + late, self._number(), task.task_id, task.ends_at, url, delivery_id, fault=fault
        )
        match fault:
            case Fault.EARLY | Fault.LOST:
                return planned
            case Fault.OUT_OF_ORDER:
                self._held.append(planned)
            case Fault.DOUBLED:
                heapq.heappush(self._due, planned)
                heapq.heappush(self._due, attrs.evolve(planned, number=self._number()))
            case _:
                heapq.heappush(self._due, planned)
        return None

    @property
    def next_due_at(self) -> float | None:
        """When the next delivery is due, ``None`` if none is planned."""
        return min((planned.due_at for planned in (*self._due[:1], *self._held)), default=None)

    def take(self, now: float) -> list[Announcement]:
        """Removes and returns the deliveries that are due, in their order."""
        taken = []
        while self._due and self._due[0].due_at <= now:
            taken.append(heapq.heappop(self._due))
        overtaken = [held for held in self._held if held.due_at <= now or any(_overtakes(one, held) for one in taken)]
        self._held = [held for held in self._held if held not in overtaken]
        return taken + overtaken

    def try_again(self, failed: Announcement, now: float, retry_s: float) -> None:
        """Plans the next try of a delivery that failed, unless it had its last."""
        if failed.retry < WEBHOOK_RETRIES:
            due_at = now + retry_s * 2**failed.retry
            again = attrs.evolve(failed, due_at=due_at, number=self._number(), retry=failed.retry + 1)
            heapq.heappush(self._due, again)

    def _number(self) -> int:
        self._count += 1
        return self._count


def _overtakes(one: Announcement, held: Announcement) -> bool:
    return one.ended_at > held.ended_at


def is_worth_a_retry(status: int | None) -> bool:
    """Whether the service tries a delivery again that was answered so: 429, 5xx, or, with ``None``, not at all."""
    return status is None or status == 429 or status >= 500
