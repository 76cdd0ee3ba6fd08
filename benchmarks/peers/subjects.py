"""Who is measured."""

from __future__ import annotations

from collections.abc import Sequence

import attrs

from benchmarks.machine import installed_version
from benchmarks.targets import FLOOR, LIBRARY, SAFE_FLOOR, STREAM


@attrs.frozen(kw_only=True)
class Subject:
    """A client, on one of its transports, driven in one way."""

    name: str
    where: str
    """The module of ``benchmarks.peers`` that has its ``client``, a class."""
    client: str
    transport: str = ""
    needs: Sequence[str] = ()
    """Packages. The first is measured, and its version is reported."""
    calls: str = ""
    """Those by which it is driven."""
    note: str = ""
    """What a reader of its figures must know."""

    @property
    def problem(self) -> str:
        """Why it cannot be measured here; empty if it can."""
        missing = [package for package in self.needs if installed_version(package) is None]
        return f"absent: {missing[0]} is not installed" if missing else ""

    def __str__(self) -> str:
        words = [self.name]
        if self.needs:
            words += [installed_version(self.needs[0]) or "", f"({self.transport})"]
        return " ".join(filter(None, words))


OURS = Subject(name=LIBRARY, where="ours", client="Ours", calls="generate")
MISUSED = Subject(name=f"{LIBRARY}, one session for all loops", where="ours", client="OursMisused", calls="generate")

STREAMED = Subject(name=STREAM, where="ours", client="OursStreamed", calls="stream")

BARE = Subject(
    name=FLOOR,
    where="bare",
    client="Bare",
    note=f"100 pooled connections, as many requests as {LIBRARY}; it knows how long a job takes; a POST on a "
    "connection that the server has just dropped is in doubt, and paid twice if it is sent again",
)
BARE_ALONE = Subject(
    name=SAFE_FLOOR, where="bare", client="BareAlone", note="the same; no POST goes over a connection that may be gone"
)
#: For jobs with a picture.
BARE_IN_PIECES = Subject(
    name=f"{FLOOR}, bodies in pieces", where="bare", client="BareInPieces", note="eight pictures at a time"
)

#: Each as it comes.
DEFAULTS = (
    Subject(
        name="fal-client",
        where="fal",
        client="Fal",
        calls="AsyncClient.subscribe",
        transport="httpx",
        needs=("fal-client",),
        note="asks every 0.1 s, its default; on plain http, which spares it the TLS",
    ),
    Subject(
        name="replicate",
        where="replicate",
        client="Replicate",
        calls="Client.async_run",
        transport="httpx",
        needs=("replicate",),
        note="the service holds the answer to the POST until the job is done",
    ),
    Subject(
        name="runwayml",
        where="runway",
        client="Runway",
        calls="image_to_video.create, wait_for_task_output",
        transport="httpx",
        needs=("runwayml",),
        note="asks every 4.5 to 7.5 s; no setting changes that",
    ),
    Subject(
        name="openai",
        where="openai",
        client="OpenAI",
        calls="videos.create_and_poll",
        transport="httpx",
        needs=("openai",),
        note="asks at once and then every second, its default",
    ),
)
#: For 1,000 jobs these need minutes.
SLOW = tuple(subject for subject in DEFAULTS if subject.name in ("fal-client", "runwayml"))
#: Each on the fastest transport that it can be given, at the best pace that its public calls allow.
FASTEST = (
    Subject(
        name="replicate",
        where="replicate",
        client="ReplicateOnAiohttp",
        calls="Client.async_run",
        transport="aiohttp, held",
        needs=("replicate", "httpx-aiohttp"),
        note="as by default, on a transport handed in: fewest requests",
    ),
    Subject(
        name="replicate",
        where="replicate",
        client="ReplicateAsking",
        calls="predictions.async_create, async_wait",
        transport="aiohttp",
        needs=("replicate", "httpx-aiohttp"),
        note="on a transport handed in; asks every 0.5 s: soonest done",
    ),
    Subject(
        name="runwayml",
        where="runway",
        client="RunwayOnAiohttp",
        calls="image_to_video.create, tasks.retrieve",
        transport="aiohttp",
        needs=("runwayml", "httpx-aiohttp"),
        note="asked every 0.5 s, in a loop of the caller's",
    ),
    Subject(
        name="openai",
        where="openai",
        client="OpenAIOnAiohttp",
        calls="videos.create_and_poll",
        transport="aiohttp",
        needs=("openai", "aiohttp"),
        note="asks at once and then every 0.5 s",
    ),
)
