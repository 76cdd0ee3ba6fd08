"""What a life is like: the service and how it errs, the settings of its sessions, and their jobs, drawn from a seed."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Sequence
from decimal import Decimal
from random import Random
from typing import Any

from benchmarks.books import Books, Payer
from benchmarks.network import WatchedService
from hailuo_async import ImageToVideo
from hailuo_async.emulator import DEFAULT_API_KEY, RUNNING_LIMIT_WORDINGS, Fault, FaultRates, Faults, Service

_URL = "https://pictures.example/cat.jpg"
_SUBMIT = (
    *("refuse", "refuse_405", "rate_429", "running_429", "error_500", "cut_before", "hang_before", "error_500_after"),
    *("cut_after", "hang", "garbage", "truncated", "unknown_status", "missing_fields", "extra_fields"),
)
#: What puts jobs in doubt, and ends those that are sent again.
_STORM = ("refuse", "cut_after", "garbage", "error_500_after")
_QUERY = (
    *("rate_429", "error_500", "cut_before", "hang_before", "error_500_after", "cut_after", "hang", "garbage"),
    *("truncated", "unknown_status", "missing_fields", "extra_fields", "wrong_task_id", "strange_bill"),
    "strange_expiry",
)
_DOWNLOAD = ("error_500", "cut", "truncated")
_WEBHOOK = ("lost", "doubled", "early", "late", "out_of_order")
#: More than all jobs cost.
_RICH = 1e9


def _draw_picture(shade: int) -> bytes:
    """A small PNG of one shade."""

    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    rows = (b"\0" + bytes([shade]) * 320) * 320
    head = struct.pack(">IIBBBBB", 320, 320, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


#: A few, which jobs share.
PICTURES = tuple(map(_draw_picture, range(3)))


def draw_job(name: str, rng: Random, pictures: Sequence[bytes], *, keyless_rate: float) -> ImageToVideo:
    """A job that its prompt tells apart."""
    images: list[str | bytes] = [_URL, _URL, *pictures]
    return ImageToVideo(
        rng.choice(images),
        prompt=name,
        key=None if rng.random() < keyless_rate else name,
        duration=rng.choice((6, 10)),
        model=rng.choice(("hailuo-2.3-i2v", "hailuo-2.3-i2v", "hailuo-02-i2v")),
    )


def draw_faults(rng: Random, books: Books) -> Faults:
    """How the service errs for a while."""

    def rates(names: tuple[str, ...], most: float, least_names: int = 0) -> FaultRates:
        drawn = rng.sample(names, rng.randint(least_names, min(4, len(names))))
        return FaultRates(**{name: rng.uniform(0.0, most) for name in drawn})

    submit = rates(*rng.choice(((_SUBMIT, 0.1), (_STORM, 0.25, 4))))
    query, webhook = rates(_QUERY, 0.1), rates(_WEBHOOK, 0.2)
    books.counts["strange bills"] += query.rate(Fault.STRANGE_BILL) > 0
    return Faults(submit=submit, query=query, webhook=webhook, download=rates(_DOWNLOAD, 0.2))


def draw_account(rng: Random, service: Service) -> None:
    """Whether the service takes the team's key for a while, and what the team has left to spend."""
    service.api_key = rng.choice((*[DEFAULT_API_KEY] * 15, "its successor"))
    service.balance = rng.choice((*[_RICH] * 9, 1.0))


def calm_down(service: Service) -> None:
    """The service errs no more, its key is valid, and there is money for all jobs."""
    service.faults, service.max_running, service.others_running = Faults(), 4, 0
    service.api_key, service.balance = DEFAULT_API_KEY, _RICH


def draw_service(seed: int, rng: Random) -> WatchedService:
    """A service that keeps its books, and does not err yet."""
    service = _service(seed, rng)
    service.books = Books(service)
    return service


def _service(seed: int, rng: Random) -> WatchedService:
    return WatchedService(
        generation_s=rng.choice((5.0, 30.0, 60.0)),
        spread=rng.choice((0.0, 0.5)),
        max_running=rng.choice((2, 5, None)),
        requests_per_minute=rng.choice((100, 300, None)),
        running_limit_wordings=RUNNING_LIMIT_WORDINGS,
        fail_rate=rng.choice((0.0, 0.1)),
        cancel_rate=rng.choice((0.0, 0.05)),
        bills_failures=rng.random() < 0.5,
        bare_answers=rng.random() < 0.2,
        lag_s=rng.choice((0.0, 0.0, 10.0)),
        lies=rng.random() < 0.2,
        url_lasts_s=rng.choice((20.0, 7 * 86_400.0)),
        balance=_RICH,
        seed=seed,
    )


def draw_settings(rng: Random, payer: Payer, *, has_journal: bool) -> dict[str, Any]:
    """The settings of a session, but where its journal is."""
    payer.resubmits = rng.random() < 0.4
    payer.max_cost = rng.choice((None, None, None, Decimal("2.5"), Decimal(20)))
    payer.max_jobs = rng.choice((None, None, None, None, 5))
    return {
        "api_key": rng.choice((*[DEFAULT_API_KEY] * 12, "a-revoked-key")),
        "max_jobs": payer.max_jobs,
        "max_running": rng.choice((None, None, 1, 3)),
        "max_cost": payer.max_cost,
        "on_unknown": "resubmit" if payer.resubmits else "raise",
        "timeout": rng.choice((None, None, None, 600.0)),
        "poll_interval": rng.choice(((0.5, 30.0), (0.5, 30.0), (5.0, 5.0))),
        "webhook_url": rng.choice((None, "https://hooks.example/modellix")),
        "max_queued": rng.choice((10_000, 10_000, 8)),
        "keep_jobs": has_journal and rng.random() < 0.5,
        "journal_prompts": rng.random() < 0.5,
    }
