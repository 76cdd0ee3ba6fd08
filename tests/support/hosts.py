"""Sessions of one team at work, on a virtual clock, with real files.

They reach their journal through lines that take a round trip, as a server's would. The lines do the work of the
journals' threads on the loop.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from pathlib import Path
from random import Random
from typing import Any

from benchmarks.hosts import Host, Hosts, Night
from benchmarks.processes import run_processes
from hailuo_async import ImageToVideo
from hailuo_async.emulator import Service


def job(name: str) -> ImageToVideo:
    return ImageToVideo("https://example.com/cat.jpg", prompt=name, key=name)


def hosts_at_work(path: Path, sessions: int, work: Callable[[list[Host]], Awaitable[None]], **facts: float) -> None:
    """Opens so many sessions on one journal, and has them do their work."""

    async def main() -> None:
        settings: dict[str, Any] = {
            "max_running": 2,
            "requests_per_minute": None,
            "generation_s": 1e6,
            "spread": 0.0,
            **facts,
        }
        service = Service(ledger_entries=0, balance=1e9, **settings)
        night = Night(Hosts(), service, path / "journal.db", Random(0))
        hosts = [night.make_host() for _ in range(sessions)]
        for host in hosts:
            await host.session.__aenter__()
        try:
            await work(hosts)
        finally:
            for host in reversed(hosts):
                await host.session.aclose()

    run_processes(main)
