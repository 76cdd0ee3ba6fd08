"""The programs in ``tests/examples``, run as a reader would run them. The web application has a file of its own."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from PIL import Image

from hailuo_async.emulator import Emulator

from ..support.programs import ROOT, run_program, run_tests

EXAMPLES = ROOT / "tests" / "examples"


def run(name: str, folder: Path, service: Emulator, *arguments: str) -> list[str]:
    return run_program((EXAMPLES / f"{name}.py").read_text("utf-8"), folder, service, *arguments)


BATCH = """
import asyncio
from hailuo_async import AsyncSession, ImageToVideo

async def main() -> None:
    async with AsyncSession(journal="batch.db") as session:
        [outcome] = [each async for each in session.stream([ImageToVideo("https://example.com/cat.jpg", key="cat")])]
        print(type(outcome).__name__)

asyncio.run(main())
"""


@pytest.mark.slow
def test_the_errors_example_says_nothing_when_there_is_none(folder: Path, service: Emulator) -> None:
    assert run("errors", folder, service) == []


@pytest.mark.slow
def test_the_errors_example_names_what_is_wrong_with_the_job(folder: Path, service: Emulator) -> None:
    Image.new("RGB", (10, 10)).save(folder / "cat.jpg")
    (line,) = run("errors", folder, service)
    assert line.startswith("first_frame_image ")
    assert "300 px" in line
    assert service.ledger.posts == 0


@pytest.mark.slow
def test_the_errors_example_tells_of_a_lost_answer(folder: Path, service: Emulator) -> None:
    service.next_fault("submit", "cut_after")
    (line,) = run("errors", folder, service)
    assert line.startswith("perhaps paid for, sent at 1")
    assert (service.ledger.posts, service.ledger.submits_accepted) == (1, 1)


@pytest.mark.slow
def test_the_progress_example_counts_what_is_done_and_what_runs(folder: Path, service: Emulator) -> None:
    assert run("progress", folder, service)[-1].startswith("2 done, 0 of ")
    assert sorted(path.name for path in (folder / "videos").iterdir()) == ["a.mp4", "b.mp4"]


@pytest.mark.slow
def test_a_hook_is_told_what_happens(folder: Path, service: Emulator) -> None:
    accepted, ended = run("watch", folder, service)
    ((task_id,),) = service.ledger.accepted.values()
    assert (accepted, ended) == (f"cat is {task_id}", "cat ended: success")


@pytest.mark.slow
def test_an_instrumented_session_works_without_an_sdk(folder: Path, service: Emulator) -> None:
    assert run("traced", folder, service) == []
    assert service.ledger.submits_accepted == 1


@pytest.mark.slow
def test_the_example_of_tests_passes(folder: Path, service: Emulator) -> None:
    tests = (EXAMPLES / "example_tests.py").read_text("utf-8")
    said = run_tests(tests, folder, service)
    assert f"{len(re.findall('^async def test_', tests, re.MULTILINE))} passed" in said
    assert service.ledger.requests.total() == 0  # they had an emulator of their own


@pytest.mark.slow
def test_a_night_passes_in_seconds(folder: Path, service: Emulator) -> None:
    assert run("night", folder, service) == ["200 videos in 1.7 hours"]
    assert service.ledger.requests.total() == 0


@pytest.mark.slow
def test_the_handle_example_tells_the_task_id_and_each_status(folder: Path, service: Emulator) -> None:
    task_id, *statuses = run("handle", folder, service)
    assert service.ledger.accepted == {None: [task_id]}
    assert (statuses[0], statuses[-1]) == ("pending", "success")
    assert service.ledger.paid_s == 10
    assert (folder / "day.mp4").exists()


@pytest.mark.slow
def test_what_is_unknown_is_named_and_sent_again_when_its_owner_says_so(folder: Path, service: Emulator) -> None:
    service.next_fault("submit", "cut_after")
    run_program(BATCH, folder, service)
    assert run("resolve", folder, service, "cat") == ["unknown: cat"]
    run_program(BATCH, folder, service)
    assert service.ledger.posts == 2
    assert run("resolve", folder, service) == []


@pytest.mark.slow
def test_the_limits_example_tells_the_balance_and_what_is_left(folder: Path, service: Emulator) -> None:
    account, stats = run("limits", folder, service)
    assert account == "True 100000.0"
    assert re.fullmatch("0 of 2 run, 0 wait, 9[89] requests left", stats)  # 99 where a minute ended between the two
