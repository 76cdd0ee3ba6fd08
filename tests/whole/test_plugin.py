"""The pytest plugin: what its fixture gives to a test here, and whole projects that use it in a pytest of their own."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from pathlib import Path

import anyio
import pytest

from hailuo_async import (
    AsyncSession,
    ImageToVideo,
    InsufficientBalanceError,
    RequestRejectedError,
    SubmissionUnknownError,
    Video,
)
from hailuo_async.emulator import Emulator, FaultRates, Faults
from hailuo_async.testing.plugin import build_emulator

from ..support.programs import own_basetemp

JOB = ImageToVideo("https://example.com/cat.jpg", prompt="a cat")


async def make_video() -> Video:
    async with AsyncSession() as session:
        return await session.generate(JOB)


@pytest.mark.slow
def test_a_session_that_is_told_nothing_meets_the_emulator(modellix: Emulator) -> None:
    video = asyncio.run(make_video())
    assert video.url.startswith(modellix.url)
    assert modellix.ledger.accepted == {"a cat": [video.task_id]}


@pytest.mark.slow
async def test_a_test_on_a_loop_has_it_too(modellix: Emulator) -> None:
    video = await make_video()
    assert modellix.ledger.accepted == {"a cat": [video.task_id]}


@pytest.mark.slow
async def test_a_child_process_meets_it_too(modellix: Emulator) -> None:
    program = "import asyncio, hailuo_async as h\nasync def main():\n async with h.AsyncSession() as s:\n  "
    program += "print((await s.account()).is_valid)\nasyncio.run(main())"
    done = await anyio.run_process([sys.executable, "-c", program])
    assert done.stdout.split() == [b"True"]
    assert modellix.ledger.requests.total() == 2


def test_two_emulators_do_not_know_of_each_other(modellix: Emulator) -> None:
    """Each test has one of its own: this one has seen nothing of those above."""
    assert modellix.ledger.requests.total() == 0


def test_faults_that_the_test_plans_are_met_in_their_order(modellix: Emulator) -> None:
    modellix.next_fault("submit", "error_500")
    modellix.next_fault("submit", "refuse")
    for error in (SubmissionUnknownError, RequestRejectedError):
        with pytest.raises(error):
            asyncio.run(make_video())
    assert [entry.status for entry in modellix.ledger.of("submit")] == [500, 400]


@pytest.mark.slow
def test_rates_that_the_test_replaces_hold_from_then_on(modellix: Emulator) -> None:
    modellix.faults = Faults(submit=FaultRates(refuse=1))
    with pytest.raises(RequestRejectedError):
        asyncio.run(make_video())
    modellix.faults = Faults()
    asyncio.run(make_video())
    assert (modellix.ledger.posts, modellix.ledger.submits_accepted) == (2, 1)


# --- Settings ---


@pytest.mark.modellix(max_running=1, api_key="from-the-class", video_size=10)
class TestMarks:
    @pytest.mark.modellix(balance=0, api_key="from-the-test")
    def test_those_of_the_test_are_added_to_those_of_its_class_and_win(self, modellix: Emulator) -> None:
        service = modellix.service
        assert (service.max_running, service.balance, service.video_size) == (1, 0, 10)
        assert os.environ["MODELLIX_API_KEY"] == modellix.api_key == "from-the-test"
        with pytest.raises(InsufficientBalanceError):
            asyncio.run(make_video())


def test_without_a_mark_tests_are_quick_and_alike() -> None:
    service, plain = build_emulator([]).service, Emulator().service
    assert (service.generation_s, service.spread, service.requests_per_minute) == (0.1, 0.0, 1_000_000)
    assert (service.max_running, service.seed, service.faults) == (plain.max_running, plain.seed, plain.faults)


def test_a_tier_in_a_mark_sets_both_limits() -> None:
    service = build_emulator([pytest.mark.modellix(tier="$100").mark]).service
    assert (service.max_running, service.requests_per_minute) == (20, 200)


@pytest.mark.parametrize(
    ("mark", "problem"),
    [
        (pytest.mark.modellix(generation_s=-1), "generation_s=-1: generation_s must be at least 0; got -1"),
        (pytest.mark.modellix(max_running="3", seed=1), "max_running='3': '<=' not supported"),
        (
            pytest.mark.modellix(seed=1, generation=2),
            "there is no setting 'generation'; there are api_key, tier, max_running, ",
        ),
        (pytest.mark.modellix(port=80), "there is no setting 'port'; "),
        (pytest.mark.modellix(0.5), "0.5 has no name: give each setting by its name, as in generation_s=0.5"),
        (pytest.mark.modellix(spread=2, fail_rate=3), r"spread=2: spread .* 0 to 1; got 2; fail_rate=3: fail_rate "),
    ],
    ids=["out of range", "another type", "unknown", "not the emulator's to choose", "without a name", "several"],
)
def test_a_wrong_setting_is_named(mark: pytest.MarkDecorator, problem: str) -> None:
    with pytest.raises(pytest.fail.Exception, match=f"^@pytest.mark.modellix: {problem}"):
        build_emulator([mark.mark])


# --- Projects of users ---

HEAD = """
import asyncio, os
import pytest
from hailuo_async import AsyncSession, ImageToVideo, InsufficientBalanceError

async def make_video():
    async with AsyncSession() as session:
        return await session.generate(ImageToVideo("https://example.com/cat.jpg"))
"""

PLAIN = """
def test_before():
    assert not {"MODELLIX_API_KEY", "MODELLIX_BASE_URL"} & os.environ.keys()

def test_plain(modellix):
    video = asyncio.run(make_video())
    assert modellix.ledger.accepted == {None: [video.task_id]}

test_after = test_before

@pytest.mark.modellix(generation=1)
def test_wrong(modellix):
    pytest.fail("it was run")
"""

ON_A_LOOP = """
async def test_on_a_loop(modellix):
    video = await make_video()
    assert modellix.ledger.accepted == {None: [video.task_id]}

@pytest.fixture
def ledger(modellix):
    return modellix.ledger

@pytest.mark.modellix(balance=0)
async def test_with_a_mark(ledger):
    with pytest.raises(InsufficientBalanceError):
        await make_video()
    assert (ledger.posts, ledger.submits_accepted) == (1, 0)
"""

MARKED_ANYIO = """
pytestmark = pytest.mark.anyio

@pytest.fixture
def anyio_backend():
    return "asyncio", {"debug": True}
"""

MARKED_ASYNCIO = """
pytestmark = pytest.mark.asyncio
"""

HANDLER = """
from aiohttp import web

async def handler(request):
    return web.json_response((await make_video()).task_id)

async def test_a_handler(aiohttp_client, modellix):
    app = web.Application()
    app.router.add_get("/", handler)
    client = await aiohttp_client(app)
    async with client.get("/") as answer:
        assert modellix.ledger.accepted == {None: [await answer.json()]}
"""

ASYNCIO = "-oasyncio_default_fixture_loop_scope=function"  # it warns where this is not set
NO_ASYNCIO = ("-pno:asyncio", "-pno:aiohttp")


def run(folder: Path, code: str, *options: str) -> str:
    """What pytest says of a project that consists of one file of tests, run with ``options``."""
    (folder / "test_project.py").write_text(code, encoding="utf-8")
    strict = ("-Werror", "--strict-markers", "--strict-config", "-pno:cacheprovider")
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", *strict, own_basetemp(folder), *options],
        cwd=folder,
        env={name: value for name, value in os.environ.items() if not name.startswith(("MODELLIX_", "PYTEST_"))},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    return done.stdout + done.stderr


@pytest.mark.slow
@pytest.mark.parametrize(
    ("code", "options", "passed"),
    [
        pytest.param(MARKED_ANYIO + ON_A_LOOP, NO_ASYNCIO, 2, id="anyio"),
        pytest.param(MARKED_ASYNCIO + ON_A_LOOP, (ASYNCIO, "-pno:aiohttp", "-pno:anyio"), 2, id="asyncio, strict"),
        pytest.param(ON_A_LOOP, (ASYNCIO, "-oasyncio_mode=auto", "-pno:aiohttp"), 2, id="asyncio, auto"),
        pytest.param(MARKED_ASYNCIO + ON_A_LOOP + HANDLER, (ASYNCIO,), 3, id="all three at once"),
    ],
)
def test_it_works_with_whoever_runs_coroutine_tests(
    tmp_path: Path, code: str, options: tuple[str, ...], passed: int
) -> None:
    said = run(tmp_path, HEAD + code, *options)
    assert said.splitlines()[-1].startswith(f"{passed} passed in "), said


@pytest.mark.slow
def test_it_works_alone_leaves_no_trace_and_fails_no_test_but_the_one_with_the_wrong_setting(tmp_path: Path) -> None:
    said = run(tmp_path, HEAD + PLAIN, *NO_ASYNCIO, "-pno:anyio")
    assert said.splitlines()[-1].startswith("3 passed, 1 error in "), said
    assert "\n@pytest.mark.modellix: there is no setting 'generation'; there are " in said
    assert "Traceback" not in said


@pytest.mark.slow
def test_switched_off_nothing_of_it_is_there(tmp_path: Path) -> None:
    code = """
import pytest, sys

def test_nothing(request):
    assert [name for name in sys.modules if name.startswith(("hailuo", "aiohttp"))] == []
    assert [line for line in request.config.getini("markers") if line.startswith("modellix")] == []
    with pytest.raises(pytest.FixtureLookupError):
        request.getfixturevalue("modellix")
"""
    said = run(tmp_path, code, *NO_ASYNCIO, "-pno:hailuo_async")
    assert said.splitlines()[-1].startswith("1 passed in "), said


@pytest.mark.slow
def test_a_run_that_does_not_use_it_imports_nothing_of_the_package(tmp_path: Path) -> None:
    code = """
import sys

def test_nothing():
    assert "hailuo_async_pytest" in sys.modules
    assert [name for name in sys.modules if name.startswith(("hailuo_async.", "aiohttp", "attr"))] == []
"""
    said = run(tmp_path, code, *NO_ASYNCIO, "-pno:anyio")
    assert said.splitlines()[-1].startswith("1 passed in "), said
