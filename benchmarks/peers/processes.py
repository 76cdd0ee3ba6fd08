"""A server and a client at work, each in a process of its own, so that what is measured is the client's alone."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import attrs

from benchmarks.peers.clients import Setup
from benchmarks.peers.server import Ledger, Options

#: Longer takes no client here, but one that is stuck.
PATIENCE_S = 300.0

_ROOT = Path(__file__).parents[2]


class BrokenClientError(Exception):
    """A client came to no end of its own: it broke down, or got stuck. The message says how."""


@attrs.frozen
class Told:
    """A caller's outcome of one job."""

    word: str
    """``video``; ``doubt``, an error that says that the job may have been accepted; or ``error``, any other."""
    task_id: str = ""
    """Where the caller was given it, by the video or by the error."""
    error: str = ""


@attrs.frozen
class Report:
    """A client's figures, its callers' outcomes, job by job, and the server's view."""

    measured: Mapping[str, float]
    told: Sequence[Told]
    ledger: Ledger


def run(how: str, where: str, client: str, options: Options, setup: Setup) -> Report:
    """Lets a client do its work against a fresh server. Takes as long as the client does.

    ``how`` is a function of ``benchmarks.peers.child``; ``client`` is a class in the module ``where``. The server's
    address in ``setup`` is filled in. Raises ``BrokenClientError``.
    """
    with subprocess.Popen(
        _command("server", attrs.asdict(options)), cwd=_ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as server:
        try:
            assert server.stdout is not None
            facing = setup._replace(base_url=server.stdout.readline().strip())
            said = _said_by_child([how, where, client, facing._asdict()])
            ledger = json.loads(server.communicate()[0])
        finally:
            server.kill()
    return Report(said.get("measured", {}), [Told(*each) for each in said["told"]], Ledger(**ledger))


def _command(module: str, words: object) -> list[str]:
    return [sys.executable, "-m", f"benchmarks.peers.{module}", json.dumps(words)]


def _said_by_child(words: object) -> Any:
    no_proxies = {name: value for name, value in os.environ.items() if not name.lower().endswith("_proxy")}
    try:
        child = subprocess.run(
            _command("child", words), cwd=_ROOT, env=no_proxies, capture_output=True, text=True, timeout=PATIENCE_S
        )
    except subprocess.TimeoutExpired:
        raise BrokenClientError(f"not done after {PATIENCE_S:.0f} s") from None
    if child.returncode:
        raise BrokenClientError(child.stderr.strip().splitlines()[-1])
    return json.loads(child.stdout)
