"""The fixture ``modellix``: the emulator for tests of programs that use this library.

The emulator serves on a socket, from a thread and a loop of its own, so tests on any loop, and child processes, can use
it. While it serves, the test's thread may plan faults, replace the rates and settings, and read the sums of the ledger,
``ledger.of(kind)`` and ``list(ledger.entries)``. The server changes each of these in a single call in C or a single
assignment, so the test never sees half a change. A request is in the ledger before its answer leaves.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import attrs
import pytest
from anyio.from_thread import start_blocking_portal

from hailuo_async.emulator import Emulator, Service
from hailuo_async.emulator.settings import Settings

#: Tests are quick, and take the same course each time. No test sends a million requests: reaching a limit would hold it
#: up to the end of the wall clock's minute, and without any limit the answers would lack the headers.
DEFAULTS: dict[str, float] = {"generation_s": 0.1, "spread": 0.0, "requests_per_minute": 1_000_000}


@contextlib.contextmanager
def serve(marks: list[pytest.Mark]) -> Iterator[Emulator]:
    """An emulator with the settings of ``marks``, the nearest first, that serves from a thread of its own."""
    emulator = build_emulator(marks)
    with start_blocking_portal() as portal, portal.wrap_async_context_manager(emulator):
        yield emulator


def build_emulator(marks: list[pytest.Mark]) -> Emulator:
    """An emulator with the settings of ``marks``, the nearest first. Fails the test if there cannot be one."""
    problems = [problem for mark in marks for problem in _problems(mark)]
    if problems:
        pytest.fail(f"@pytest.mark.modellix: {'; '.join(problems)}", pytrace=False)
    settings: dict[str, Any] = {**DEFAULTS}
    for mark in reversed(marks):
        if "tier" in mark.kwargs:
            settings.pop("requests_per_minute", None)
        settings |= mark.kwargs
    return Emulator(**settings)


def _problems(mark: pytest.Mark) -> Iterator[str]:
    """The problems of the settings of ``mark``, each checked by itself so that the message can name it."""
    known = [field.name for field in attrs.fields(Settings) if field.name != "origin"]
    for value in mark.args:
        yield f"{value!r} has no name: give each setting by its name, as in generation_s=0.5"
    for name, value in mark.kwargs.items():
        if name not in known:
            yield f"there is no setting {name!r}; there are {', '.join(known)}"
            continue
        try:
            Service(**{name: value})
        except (TypeError, ValueError) as error:
            yield f"{name}={value!r}: {error}"
