"""Whole sessions over https, as with the real service: paid once, nothing lost, and nothing left when they close."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path
from random import Random

import anyio
import pytest

from hailuo_async import AsyncSession, Failure, SessionClosedError, SubmissionUnknownError, Success
from hailuo_async._io.journal.records import JournalState
from hailuo_async.emulator import FaultRates, Faults

from ..support.crash_journal import states_in
from ..support.film_hosts import files
from ..support.https import ServerSide, connections, cutting_relay, serving
from ..support.leftovers import sockets
from ..support.running_emulator import emulator_in_thread
from ..support.service import KEY, emulated, job, settle, until

pytestmark = pytest.mark.usefixtures("trusted")

FAULTS = Faults(
    submit=FaultRates(cut_after=0.1, cut_before=0.1, truncated=0.1),
    query=FaultRates(cut_after=0.1, cut_before=0.1, truncated=0.1, error_500=0.1),
    download=FaultRates(cut=0.1, truncated=0.2),
)
#: After how many bytes a connection is cut: in the handshake, in the request or its answer, in a video; or never.
CUTS = (300, 2000, 2500, 20_000, *(None,) * 12)


@pytest.mark.slow
async def test_a_batch_over_lines_that_are_cut_anywhere_is_paid_once_and_each_task_is_saved(tmp_path: Path) -> None:
    dice, asked = Random(3), [job(f"job {number}", key=f"{number}") for number in range(24)]
    settings = {"generation_s": 0.02, "max_running": None, "requests_per_minute": None, "video_size": 50_000}
    with emulator_in_thread(tls=True, api_key=KEY, seed=1, faults=FAULTS, **settings) as emulator:
        port = int(emulator.url.rpartition(":")[2])
        async with cutting_relay(port, lambda: dice.choice(CUTS)) as own:
            emulator.service.origin = f"https://127.0.0.1:{own}"
            async with AsyncSession(api_key=KEY, base_url=emulator.url, poll_interval=(0.01, 0.05)) as session:
                outcomes = [outcome async for outcome in session.stream(asked, save_to=tmp_path)]
    saved = {outcome.key for outcome in outcomes if isinstance(outcome, Success)}
    assert {outcome.key for outcome in outcomes} == {each.key for each in asked}
    assert {type(each.error) for each in outcomes if isinstance(each, Failure)} == {SubmissionUnknownError}
    assert {len(task_ids) for task_ids in emulator.ledger.accepted.values()} == {1}
    assert {name.removesuffix(".mp4") for name in os.listdir(tmp_path)} == saved
    assert len(saved) > 6
    assert emulator.ledger.keys_leaked == 0


async def test_a_session_that_closes_while_it_shakes_hands_has_sent_nothing(path: Path) -> None:
    shaking = 0

    async def say_half(side: ServerSide) -> None:
        nonlocal shaking
        side.writer.write((await side.flight())[:100])
        shaking += 1
        await anyio.sleep_forever()

    async def hear(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await say_half(ServerSide(reader, writer, serving()))

    async with connections(hear) as port:
        before = sockets()
        async with AsyncSession(api_key=KEY, base_url=f"https://127.0.0.1:{port}", journal=path) as session:
            generations = [await session.submit(job(key=f"{number}")) for number in range(4)]
            await until(lambda: shaking)
            with anyio.fail_after(10):
                await session.aclose(grace=0)
        ends = await asyncio.gather(*generations, return_exceptions=True)
        await settle()
        assert len(sockets() - before) <= shaking  # the server's
    assert {type(end) for end in ends} == {SessionClosedError}
    assert set((await states_in(path)).values()) == {JournalState.INTENDED}


async def test_what_a_session_trusts_holds_for_its_downloads_too(tmp_path: Path) -> None:
    """``SSL_CERT_FILE`` is set after aiohttp was imported, as in a program that sets it below its imports."""
    async with emulated(tls=True, video_size=50_000) as (_, session):
        video = await session.generate(job())
        assert video.url.startswith("https://")
        await session.download(video, tmp_path / "cat.mp4")
    assert [len(film) for film in (await files(tmp_path)).values()] == [50_000]
