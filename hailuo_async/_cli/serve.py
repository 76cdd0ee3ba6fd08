"""Serves the page: on this machine alone, unless there is a token. Needs the extra ``web``."""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import secrets
import socket
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import attrs
import click

from hailuo_async._cli.extras import install_hint
from hailuo_async._cli.interrupts import interruptible
from hailuo_async._cli.keys import open_session
from hailuo_async._cli.output import echo, emit
from hailuo_async.jobs import Job
from hailuo_async.settings import JournalLocation

try:
    import uvicorn

    from hailuo_async.web.page import Page
except ModuleNotFoundError as error:
    raise click.UsageError(f"{error}: the page needs the extra 'web': {install_hint('web')}") from None

#: Connections at once; more are answered 503. Each viewer has one for news, and players have a few.
_MAX_CONNECTIONS = 500
#: Seconds that open answers have when the server stops.
_GRACE_S = 3


@attrs.frozen(kw_only=True)
class Address:
    """Where the page is served. ``token`` is what a visitor has to give; ``None`` where only this machine gets in."""

    host: str
    port: int
    token: str | None = attrs.field(repr=False)

    @property
    def is_own(self) -> bool:
        """Whether only this machine reaches it."""
        try:
            return self.host == "localhost" or ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return False

    def hosts(self, port: int) -> frozenset[str]:
        """What ``Host`` may say; nothing for anything, where the token keeps others out."""
        if not self.is_own:
            return frozenset()
        names = {"127.0.0.1", "localhost", "[::1]", f"[{self.host}]" if ":" in self.host else self.host}
        return frozenset({f"{name}:{port}" for name in names} | (names if port == 80 else set()))


def check_address(host: str, port: int, token: str | None) -> Address:
    """The address; an empty ``token`` is made up. Raises ``click.UsageError`` for one that others reach without one."""
    if token == "":
        token = secrets.token_urlsafe(16)
        echo(f"The token: {token}")
    address = Address(host=host, port=port, token=token)
    if not address.is_own and token is None:
        raise click.UsageError(f"others could pay with your key at {host}: give --token as well")
    return address


def page_over(key_file: Path | None, journal: JournalLocation, folder: Path, max_running: int | None) -> Page:
    """The page over a journal, with the key that is found. Raises as ``open_session``, and ``OSError``."""
    folder.mkdir(parents=True, exist_ok=True)
    session = open_session(key_file, journal=journal, journal_prompts=True, keep_jobs=True, max_running=max_running)
    return Page(make_session=lambda: session, journal=journal, folder=folder)


def serve_page(page: Page, address: Address, *, jobs: Mapping[str, Job] | None = None) -> None:
    """Serves ``page`` until a signal, and closes its session in good order. ``jobs`` are submitted at the start."""
    asyncio.run(_serve(page, address, jobs or {}))


async def _serve(page: Page, address: Address, jobs: Mapping[str, Job]) -> None:
    with _listening(address) as listening:
        port = listening.getsockname()[1]
        app = page.app(hosts=address.hosts(port), token=address.token)
        async with page.opened():
            for key, job in jobs.items():
                await page.add(key, job)
            server = _Server(page, app)
            shown = f"[{address.host}]" if ":" in address.host else address.host
            with interruptible(server.stop, server.stop):
                emit(f"http://{shown}:{port}/")
                await server.serve(sockets=[listening])


def _listening(address: Address) -> socket.socket:
    family = socket.AF_INET6 if ":" in address.host else socket.AF_INET
    try:
        return socket.create_server((address.host, address.port), family=family)
    except OSError as error:
        where, reason = f"{address.host}, port {address.port}", str(error.strerror).partition(" (while")[0]
        raise click.UsageError(f"cannot serve at {where}: {reason}: give another --host or --port") from None


class _Server(uvicorn.Server):
    """uvicorn, without its own handling of signals: it would end the process before the session is closed."""

    def __init__(self, page: Page, app: Any) -> None:
        super().__init__(
            uvicorn.Config(
                app,
                lifespan="off",
                log_config=None,
                access_log=False,
                limit_concurrency=_MAX_CONNECTIONS,
                timeout_graceful_shutdown=_GRACE_S,
            )
        )
        self._page = page

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leaves signals to ``interruptible``."""
        yield

    def stop(self) -> None:
        """Takes no more requests, and ends."""
        self.should_exit = True
        self._page.stop()
