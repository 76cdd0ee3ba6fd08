"""The engine is imported when it is first needed, and never on the loop."""

from __future__ import annotations

import subprocess
import sys

import pytest

_WHERE_IT_IS_IMPORTED = """
import asyncio
import sys
import threading

from hailuo_async import AsyncSession

where = set()

def note(event, arguments):
    if event == "import" and arguments[0] == "hailuo_async._engine.engine":
        where.add(threading.current_thread() is threading.main_thread())

sys.addaudithook(note)

async def main():
    async with AsyncSession(api_key="key", base_url="http://127.0.0.1:1"):
        pass

asyncio.run(main())
print(where)
"""

_ON_A_CLOCK_THAT_WAITS_FOR_NO_THREAD = """
from hailuo_async import AsyncSession, ImageToVideo
from hailuo_async.emulator import Service
from hailuo_async.testing import InMemory, run_virtual

async def main():
    service = Service()
    async with AsyncSession(transport=InMemory(service), api_key=service.api_key) as session:
        return (await session.generate(ImageToVideo("https://pictures.example/cat.jpg"))).task_id

print(bool(run_virtual(main)))
"""

_HOW_OFTEN_ALL_GARBAGE_IS_COLLECTED = """
import asyncio
import gc

{before}
from hailuo_async import AsyncSession

def full_collections():
    return gc.get_stats()[-1]["collections"]

async def main():
    before = full_collections()
    for _ in range(2):
        async with AsyncSession(api_key="key", base_url="http://127.0.0.1:1"):
            pass
    return full_collections() - before

print(asyncio.run(main()))
"""


def printed(program: str) -> str:
    """What a program prints in a fresh process."""
    return subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout.strip()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("before", "times"),
    [
        pytest.param("", 1, id="that was never collected whole"),
        pytest.param("gc.collect()", 0, id="that was"),
        pytest.param("gc.disable()", 0, id="that collects nothing"),
    ],
)
def test_the_first_full_collection_of_a_process_comes_before_its_first_job(before: str, times: int) -> None:
    assert printed(_HOW_OFTEN_ALL_GARBAGE_IS_COLLECTED.format(before=before)) == str(times)


@pytest.mark.slow
def test_importing_the_library_does_not_import_what_downloads() -> None:
    assert printed("import sys, hailuo_async; print('hailuo_async._io.download.client' in sys.modules)") == "False"


@pytest.mark.slow
def test_the_first_session_of_a_process_imports_the_engine_in_a_thread() -> None:
    assert printed(_WHERE_IT_IS_IMPORTED) == "{False}"


@pytest.mark.slow
def test_the_first_session_of_a_process_needs_no_thread_where_it_is_given_a_transport() -> None:
    assert printed(_ON_A_CLOCK_THAT_WAITS_FOR_NO_THREAD) == "True"
