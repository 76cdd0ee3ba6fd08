"""The rig that every test runs under.

For all tests, warnings are errors (``pyproject.toml``), and no thread, socket or child process may be left behind.
Coroutine tests run on asyncio in debug mode, without a mark (``anyio_mode = "auto"``), where no task may be left behind
either, nothing may reach the loop's exception handler, and no code of the package may block the loop.
"""

from __future__ import annotations

import asyncio.constants
import linecache
import signal
import traceback
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
from blockbuster import BlockBuster, blockbuster_ctx
from hypothesis import HealthCheck, settings

from .support.https import CERTIFICATE, EXPIRED
from .support.leaping import Leap, leaping
from .support.leftovers import Watch, children, sockets, threads, watching_the_loop
from .support.postgres import Postgres

settings.register_profile("here", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("here")  # a busy machine is not a fault


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Slow tests come first, so that no worker is idle at the end."""
    items.sort(key=lambda item: item.get_closest_marker("slow") is None)


@pytest.fixture(scope="session")
def anyio_backend() -> tuple[str, dict[str, Any]]:
    return "asyncio", {"debug": True}


@pytest.fixture(scope="session", autouse=True)
def signals_as_at_a_terminal() -> None:
    """Whatever ignores them for what it starts (``nohup``, a shell's ``&``): child processes would ignore them, too."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    for number in (signal.SIGHUP, signal.SIGTERM):
        if signal.getsignal(number) is signal.SIG_IGN:
            signal.signal(number, signal.SIG_DFL)


@pytest.fixture(scope="session", autouse=True)
def no_authority_is_trusted() -> Iterator[None]:
    """To read the certificates of all authorities takes each session and each process of a test 25 to 50 ms of CPU.

    Here one certificate is trusted, which has expired.
    """
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SSL_CERT_FILE", EXPIRED)
        yield


@pytest.fixture(scope="session", autouse=True)
def nothing_blocks_the_loop() -> Iterator[BlockBuster]:
    """A call that blocks raises, if the package made it on a running loop.

    What a test does on its own loop holds up nobody but itself, so only stacks with a frame of the package count.
    Coverage takes a lock of its own when it first meets a file, whoever runs it.
    """
    with blockbuster_ctx("hailuo_async") as watching:
        watching.functions["threading.Lock.acquire"].can_block_in("coverage/collector.py", "lock_data")
        yield watching


@pytest.fixture
def lines_may_block(nothing_blocks_the_loop: BlockBuster) -> Iterator[None]:
    """For sessions of ``support.hosts``: their lines do the work of the journals' threads on the loop."""
    nothing_blocks_the_loop.deactivate()
    yield
    nothing_blocks_the_loop.activate()


@pytest.fixture(scope="session", autouse=True)
def debug_mode_is_cheap() -> Iterator[None]:
    """In debug mode asyncio keeps a stack for each callback, task and future.

    Here it has four frames, which say who made it: that saves a tenth of the CPU of coroutine tests. And that asyncio
    does not look on the disk each time whether the sources in a stack have changed saves a quarter.
    """
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(asyncio.constants, "DEBUG_STACK_DEPTH", 4)
        patch.setattr(traceback.extract_stack, "__defaults__", (None, 4))
        patch.setattr(linecache, "checkcache", lambda filename=None: None)
        yield


@pytest.fixture
def trusted(monkeypatch: pytest.MonkeyPatch) -> None:
    """Has this machine trust the certificate of the stand-ins that speak https."""
    monkeypatch.setenv("SSL_CERT_FILE", CERTIFICATE)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A journal that is not there yet."""
    return tmp_path / "batch.db"


@pytest.fixture
async def leap() -> Leap:
    """Puts the clock of the test's loop forward. For a session that was opened after it."""
    return leaping()


@pytest.fixture(scope="session")
def postgres() -> Iterator[Postgres]:
    """A PostgreSQL server, started for the first test that asks for it. Each test takes a schema of its own."""
    server = Postgres.make()
    yield server
    server.remove()


@pytest.fixture(autouse=True)
def nothing_left_behind() -> Iterator[None]:
    """Looks when the loop is closed and every other fixture of the test is done."""
    watches = [Watch(threads), Watch(sockets), Watch(children)]
    yield
    for watch in watches:
        watch.check()


@pytest.fixture(autouse=True)
def clean_loop(nothing_left_behind: None, request: pytest.FixtureRequest) -> None:
    """Puts ``watched_loop`` under every coroutine test, below all its other fixtures."""
    if "anyio_backend" in request.fixturenames:
        request.getfixturevalue("watched_loop")


@pytest.fixture
async def watched_loop(anyio_backend: object) -> AsyncIterator[None]:
    async with watching_the_loop():
        yield
