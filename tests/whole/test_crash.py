"""A batch that is killed, at every step of a job's life and at any moment: nothing is paid twice, and nothing is lost.

Each batch is a child process that ``kill -9`` ends; the service is here, and counts.
"""

from __future__ import annotations

import asyncio
import contextlib
import signal
import socket
from collections.abc import Iterator
from pathlib import Path
from random import Random

import anyio
import pytest

from hailuo_async import JournalState
from hailuo_async.emulator import Emulator

from ..support.crash_children import Child, Stage, run, running, staged
from ..support.crash_journal import count_in, locked, records_in, states_in, wait_for
from ..support.rawserver import Exchange
from ..support.service import picture, until

pytestmark = pytest.mark.anyio


class Killer:
    """Kills a child at one step of one of its jobs, from inside the service, and only once."""

    def __init__(self, step: str, path: Path | None = None) -> None:
        self.child: Child | None = None
        self._step = step
        self._path = path
        self.lock = contextlib.AsyncExitStack()

    async def __call__(self, step: str, exchange: Exchange) -> None:
        if step != self._step or self.child is None:
            return
        child, self.child = self.child, None
        if self._path is None:
            child.signal(signal.SIGKILL)
            await child.ended()
            exchange.cut()
            raise ConnectionResetError
        # It goes on, what follows cannot be written down, and then it is killed.
        await self.lock.enter_async_context(locked(self._path))
        asyncio.get_running_loop().call_later(0.3, child.signal, signal.SIGKILL)


async def killed_at(killer: Killer, stage: Stage, path: Path, **options: object) -> None:
    """Runs a batch until it is killed."""
    async with running(base_url=stage.service.origin, journal=str(path), **options) as child:
        killer.child = child
        assert await child.ended() == -signal.SIGKILL
    assert killer.child is None
    await killer.lock.aclose()


# --- Every step of a job's life ---------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize(
    ("step", "is_locked", "left", "then", "paid"),
    [
        ("head", False, JournalState.SENDING, "unknown", 0),
        ("posted", False, JournalState.SENDING, "unknown", 0),
        ("accepted", False, JournalState.SENDING, "unknown", 1),
        ("accepted", True, JournalState.SENDING, "unknown", 1),
        ("asked", False, JournalState.ACCEPTED, "success", 1),
        ("done", False, JournalState.ACCEPTED, "success", 1),
        ("done", True, JournalState.ACCEPTED, "success", 1),
    ],
    ids=["in the body", "before the acceptance", "accepted", "answered", "polling", "finished", "told"],
)
async def test_a_job_killed_at_this_step_is_delivered_or_named_and_never_paid_twice(
    path: Path, tmp_path: Path, step: str, is_locked: bool, left: JournalState, then: str, paid: int
) -> None:
    await anyio.Path(tmp_path / "0.png").write_bytes(picture(1000, 1000))
    killer = Killer(step, path if is_locked else None)
    generation_s = 600.0 if step == "asked" else 0.1  # however late it is asked about, the task runs
    async with staged(killer, generation_s=generation_s) as stage:
        await killed_at(killer, stage, path, images=str(tmp_path))
        stage.later_s = generation_s
        assert await states_in(path) == {"job-0": left}
        for _ in range(2):
            again = await run(base_url=stage.service.origin, journal=str(path), images=str(tmp_path))
            assert again.outcomes() == {"job 0": then}
        assert sum(stage.paid.values()) == paid
        assert stage.server is not None
        assert len(stage.server.posts) == 1


@pytest.mark.slow
async def test_a_batch_killed_before_its_first_job_left_nothing(path: Path) -> None:
    async with Emulator(generation_s=0.05, requests_per_minute=None) as emulator:
        async with running(base_url=emulator.url, journal=str(path), waits=True) as child:
            await child.says("open")
        assert await states_in(path) == {}
        assert (await run(base_url=emulator.url, journal=str(path))).outcomes() == {"job 0": "success"}
        assert emulator.ledger.posts == 1


@pytest.mark.slow
async def test_a_job_killed_while_it_waits_for_a_slot_is_sent_by_the_next_run(path: Path) -> None:
    async with Emulator(generation_s=600.0, requests_per_minute=None) as emulator:
        async with running(base_url=emulator.url, journal=str(path), jobs=2, max_running=1) as child:
            await wait_for(path, lambda records: len(records) == 2 and bool(records["job-0"].task_id))
            child.signal(signal.SIGKILL)
            await child.ended()
        emulator.service.generation_s, emulator.clock_offset_s = 0.1, 600.0
        assert (await states_in(path))["job-1"] is JournalState.INTENDED
        again = await run(base_url=emulator.url, journal=str(path), jobs=2)
        assert again.outcomes() == {"job 0": "success", "job 1": "success"}
        assert emulator.ledger.posts == 2


@contextlib.contextmanager
def deaf() -> Iterator[str]:
    """A server that takes no connection: its queue is full, so that whoever connects waits."""
    with contextlib.ExitStack() as held:
        listening = held.enter_context(socket.create_server(("127.0.0.1", 0), backlog=0))
        for _ in range(3):
            waiting = held.enter_context(socket.socket())
            waiting.setblocking(False)
            waiting.connect_ex(listening.getsockname())
        yield f"http://127.0.0.1:{listening.getsockname()[1]}"


@pytest.mark.slow
async def test_a_job_killed_between_its_record_and_its_connection_is_named(path: Path) -> None:
    with deaf() as url:
        async with running(base_url=url, journal=str(path)) as child:
            await wait_for(path, lambda records: [r.state for r in records.values()] == [JournalState.SENDING])
            child.signal(signal.SIGKILL)
            await child.ended()
        again = await run(base_url=url, journal=str(path))
    assert again.outcomes() == {"job 0": "unknown"}


@pytest.mark.slow
async def test_a_job_killed_in_the_middle_of_its_download_is_gone_on_with(path: Path, tmp_path: Path) -> None:
    ranges = list[str | None]()
    stamp = tmp_path / "job-0.mp4.part.json"
    killer = Killer("half")

    async def hook(step: str, exchange: Exchange) -> None:
        if step == "half":
            ranges.append(exchange.headers.get("range"))
            await until(lambda: stamp.exists() and stamp.stat().st_size)  # the first 16 MiB are written and noted
        await killer(step, exchange)

    async with staged(hook, video_size=40_000_000) as stage:
        await killed_at(killer, stage, path, downloads=str(tmp_path))
        assert not await anyio.Path(tmp_path / "job-0.mp4").exists()
        for _ in range(2):
            again = await run(base_url=stage.service.origin, journal=str(path), downloads=str(tmp_path))
            assert again.outcomes() == {"job 0": "success"}
        assert (await anyio.Path(tmp_path / "job-0.mp4").stat()).st_size == 40_000_000
        assert stage.paid == {"job 0": 1}
    assert [bool(asked) for asked in ranges] == [False, True]


@pytest.mark.slow
async def test_a_video_whose_saving_could_not_be_written_down_is_not_lost(path: Path, tmp_path: Path) -> None:
    killer = Killer("half", path)
    async with staged(killer) as stage:
        await killed_at(killer, stage, path, downloads=str(tmp_path))
        for _ in range(2):
            again = await run(base_url=stage.service.origin, journal=str(path), downloads=str(tmp_path))
            assert again.outcomes() == {"job 0": "success"}
        assert (await records_in(path))["job-0"].saved_to == str(tmp_path / "job-0.mp4")
        assert stage.paid == {"job 0": 1}


# --- At any moment ----------------------------------------------------------------------------------------------------


async def _killed_at_random(emulator: Emulator, path: Path, images: Path, rng: Random, has_keys: bool) -> Child:
    """A batch of 20 jobs that is killed five times before it may come to its end."""
    options = {"base_url": emulator.url, "journal": str(path), "jobs": 20, "has_keys": has_keys, "images": str(images)}
    for _ in range(5):
        async with running(**options):
            await anyio.sleep(rng.uniform(0.25, 0.9))
    return await run(**options)


@pytest.mark.slow
@pytest.mark.parametrize("has_keys", [True, False], ids=["keyed", "without keys"])
async def test_a_batch_killed_at_random_pays_once_and_loses_nothing(tmp_path: Path, has_keys: bool) -> None:
    for number in range(4):
        await anyio.Path(tmp_path / f"{number}.png").write_bytes(picture(400, 400, seed=number))
    rng = Random(has_keys)
    prompts = {f"job {number}" for number in range(20)}

    async def one(number: int) -> None:
        path = tmp_path / f"{number}.db"
        async with Emulator(generation_s=0.25, requests_per_minute=None, max_running=5, seed=number) as emulator:
            child = await _killed_at_random(emulator, path, tmp_path, rng, has_keys)
            paid = emulator.ledger.accepted
        outcomes, named = child.outcomes(), (await count_in(path)).get(JournalState.UNKNOWN, 0)
        unknown = {prompt for prompt, word in outcomes.items() if word == "unknown"}
        assert set(outcomes) == prompts
        assert set(outcomes.values()) <= {"success", "unknown"}
        assert len(unknown) == named
        assert {prompt: len(tasks) for prompt, tasks in paid.items() if prompt not in unknown} == dict.fromkeys(
            prompts - unknown, 1
        )
        assert all(len(tasks) == 1 for tasks in paid.values())

    async with anyio.create_task_group() as tasks:
        for number in range(3):
            tasks.start_soon(one, number)


# --- Interrupted ------------------------------------------------------------------------------------------------------


@pytest.mark.slow
async def test_an_interrupted_batch_ends_soon_with_every_task_id_on_record(path: Path) -> None:
    async with Emulator(generation_s=0.5, requests_per_minute=None, max_running=4) as emulator:
        options = {"base_url": emulator.url, "journal": str(path), "jobs": 10}
        async with running(**options) as child:
            await child.says("success")
            child.signal(signal.SIGINT)
            with anyio.fail_after(60):
                assert await child.ended() == -signal.SIGINT
        found = await records_in(path)
        tasks = {task for tasks in emulator.ledger.accepted.values() for task in tasks}
        assert {record.task_id for record in found.values() if record.task_id} == tasks
        assert {record.state for record in found.values()} <= {
            JournalState.INTENDED,
            JournalState.ACCEPTED,
            JournalState.SUCCESS,
        }
        assert {record.holder for record in found.values()} == {None}
        again = await run(**options)
        assert set(again.outcomes().values()) == {"success"}
        assert emulator.ledger.submits_accepted == 10


@pytest.mark.slow
async def test_an_interruption_waits_for_the_post_under_way_and_keeps_its_task_id(path: Path) -> None:
    child: list[Child] = []

    async def interrupt(step: str, exchange: Exchange) -> None:
        if step == "accepted":
            child[0].signal(signal.SIGINT)
            await anyio.sleep(0.3)

    async with staged(interrupt) as stage:
        async with running(base_url=stage.service.origin, journal=str(path)) as interrupted:
            child.append(interrupted)
            assert await interrupted.ended() == -signal.SIGINT
        record = (await records_in(path))["job-0"]
        assert record.state is JournalState.ACCEPTED
        assert [record.task_id] == stage.service.ledger.accepted["job 0"]
