"""A stand-in for the Modellix API, for tests, demonstrations and simulations.

``Emulator`` runs it on a socket; ``Service`` is its core, without I/O and with the time as an argument. It shares no
code with the client: a misreading of the API in one must show in the other. ``facts`` says what it takes the service
to do, and from which source. Nothing here needs more than the client does, except to render films, for which the
extra ``emulator`` brings PyAV and Pillow.
"""

from __future__ import annotations

from .announcements import WebhookPost
from .facts import RUNNING_LIMIT_WORDINGS, TIERS
from .faults import Fault, FaultRates, Faults, Kind
from .ledger import Entry, Ledger
from .server import Emulator
from .service import Service
from .settings import DEFAULT_API_KEY, ReasonIn
from .wire import Delivery, Refusal, Reply, Request

__all__ = [
    "DEFAULT_API_KEY",
    "RUNNING_LIMIT_WORDINGS",
    "TIERS",
    "Delivery",
    "Emulator",
    "Entry",
    "Fault",
    "FaultRates",
    "Faults",
    "Kind",
    "Ledger",
    "ReasonIn",
    "Refusal",
    "Reply",
    "Request",
    "Service",
    "WebhookPost",
]
