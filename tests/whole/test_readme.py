"""The README: its code as its readers would run it, each block a program of its own, and what its tables say."""

from __future__ import annotations

import inspect
import os
import re
import subprocess
import sys
import tomllib
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import get_args

import pytest
from PIL import Image

import hailuo_async
from hailuo_async import AsyncSession, HailuoError, Journal, SessionEvent
from hailuo_async.emulator import Emulator

from ..support.running_emulator import credentials, emulator_in_thread

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)


#: Every Python block, in the order of the README. One that is added needs a name here, and a test; for those of the
#: web handlers that is ``test_web.py``.
_NAMES = (
    "one",
    "handle",
    "many",
    "studio",
    "fastapi",
    "aiohttp",
    "errors",
    "limits",
    "batch",
    "resolve",
    "progress",
    "hooks",
    "otel",
    "testing",
    "night",
)
BLOCKS = dict(zip(_NAMES, blocks("python"), strict=True))


@pytest.fixture
def service() -> Iterator[Emulator]:
    """The emulator, in a thread of its own."""
    with emulator_in_thread() as emulator:
        yield emulator


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Where the reader stands: with the pictures that the README speaks of."""
    (tmp_path / "pictures").mkdir()
    for name in ("cat", "evening", "morning", "pictures/a", "pictures/b"):
        Image.new("RGB", (320, 320), "teal").save(tmp_path / f"{name}.jpg")
    return tmp_path


def environment(service: Emulator) -> dict[str, str]:
    return {
        **os.environ,
        "PYTHONPATH": str(ROOT),
        **credentials(service),
    }


def run(name: str, folder: Path, service: Emulator, *arguments: str) -> list[str]:
    """The lines that the block prints as a program in ``folder``."""
    (folder / f"{name}.py").write_text(BLOCKS[name], encoding="utf-8")
    command = [sys.executable, "-X", "dev", "-W", "error", f"{name}.py", *arguments]
    done = subprocess.run(
        command, cwd=folder, env=environment(service), capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


@pytest.mark.slow
def test_one_video(folder: Path, service: Emulator) -> None:
    assert run("one", folder, service) == ["cat.mp4: the service took 0.2 s"]
    assert (folder / "cat.mp4").stat().st_size == 4096
    assert list(service.ledger.accepted) == ["[Push in] the cat looks up"]


@pytest.mark.slow
def test_a_handle_and_its_updates(folder: Path, service: Emulator) -> None:
    task_id, *statuses = run("handle", folder, service)
    assert service.ledger.accepted == {None: [task_id]}
    assert (statuses[0], statuses[-1]) == ("pending", "success")
    assert service.ledger.paid_s == 10
    assert (folder / "day.mp4").exists()


@pytest.mark.slow
def test_many_videos(folder: Path, service: Emulator) -> None:
    (folder / "pictures" / "bad.jpg").write_text("no picture")
    lines = run("many", folder, service)
    assert {line.split()[0] for line in lines} == {"a", "b", "bad"}
    assert sorted(path.name for path in (folder / "videos").iterdir()) == ["a.mp4", "b.mp4"]
    assert service.ledger.posts == 2


@pytest.mark.slow
def test_the_errors_example_says_nothing_when_there_is_none(folder: Path, service: Emulator) -> None:
    assert run("errors", folder, service) == []


def test_the_errors_example_names_what_is_wrong_with_the_job(folder: Path, service: Emulator) -> None:
    Image.new("RGB", (10, 10)).save(folder / "cat.jpg")
    assert run("errors", folder, service) == ["first_frame_image short side must be over 300 px"]
    assert service.ledger.posts == 0


@pytest.mark.slow
def test_the_errors_example_tells_of_a_lost_answer(folder: Path, service: Emulator) -> None:
    service.next_fault("submit", "cut_after")
    (line,) = run("errors", folder, service)
    assert line.startswith("perhaps paid for, sent at 1")
    assert (service.ledger.posts, service.ledger.submits_accepted) == (1, 1)


def test_where_the_limits_stand(folder: Path, service: Emulator) -> None:
    account, stats = run("limits", folder, service)
    assert account == "True 100000.0"
    assert re.fullmatch("0 of 2 run, 0 wait, 9[89] requests left", stats)  # 99 where a minute ended between the two


@pytest.mark.slow
def test_a_batch_goes_on_where_it_was_and_sends_an_unknown_job_again_only_when_told_to(
    folder: Path, service: Emulator
) -> None:
    service.next_fault("submit", "cut_after")
    first = [line.split()[0] for line in run("batch", folder, service)]
    again = [line.split()[0] for line in run("batch", folder, service)]
    assert Counter(first) == Counter(again) == {"saved": 1, "failed": 1}
    assert service.ledger.posts == 2

    with Journal.open(folder / "batch.db") as journal:
        (key,) = (record.key for record in journal.records(state="unknown"))
    assert run("resolve", folder, service, str(key)) == [f"unknown: {key}"]
    assert {line.split()[0] for line in run("batch", folder, service)} == {"saved"}
    assert service.ledger.posts == 3


@pytest.mark.slow
def test_a_progress_bar(folder: Path, service: Emulator) -> None:
    assert run("progress", folder, service)[-1].startswith("2 done, 0 of ")
    assert sorted(path.name for path in (folder / "videos").iterdir()) == ["a.mp4", "b.mp4"]


@pytest.mark.slow
def test_a_hook_is_told_what_happens(folder: Path, service: Emulator) -> None:
    accepted, ended = run("hooks", folder, service)
    ((task_id,),) = service.ledger.accepted.values()
    assert (accepted, ended) == (f"cat is {task_id}", "cat ended: success")


@pytest.mark.slow
def test_an_instrumented_session_works_without_an_sdk(folder: Path, service: Emulator) -> None:
    assert run("otel", folder, service) == []
    assert service.ledger.submits_accepted == 1


@pytest.mark.slow
def test_the_tests_pass(folder: Path, service: Emulator) -> None:
    (folder / "test_example.py").write_text(BLOCKS["testing"], encoding="utf-8")
    others = ("asyncio", "aiohttp", "cacheprovider")  # the first warns of its own defaults
    command = [sys.executable, "-m", "pytest", "-q", "-W", "error", *(f"-pno:{name}" for name in others)]
    done = subprocess.run(
        command, cwd=folder, env=environment(service), capture_output=True, text=True, timeout=60, check=False
    )
    assert (done.returncode, "3 passed" in done.stdout) == (0, True), done.stdout
    assert service.ledger.requests.total() == 0  # they had an emulator of their own


@pytest.mark.slow
def test_a_night_passes_in_seconds(folder: Path, service: Emulator) -> None:
    assert run("night", folder, service) == ["200 videos in 1.7 hours"]
    assert service.ledger.requests.total() == 0


# --- What it says about the project ---


def test_the_two_commands_are_those_of_the_project() -> None:
    demo, tests = (block.strip() for block in blocks("sh"))
    make = "python3 -m venv .venv && .venv/bin/pip install -q -e"
    assert demo == f'{make} ".[cli,emulator]" && .venv/bin/hailuo-async demo'
    assert tests == f'{make} ".[dev]" && .venv/bin/python -m pytest'
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert project["optional-dependencies"].keys() >= {"cli", "emulator", "dev"}
    assert project["scripts"] == {"hailuo-async": "hailuo_async.cli:main"}
    install, _, _ = tests.rpartition(" && ")
    assert install in (ROOT / ".ci" / "run").read_text()


def first_columns(heading: str) -> set[str]:
    """What stands in backquotes in the first columns of the tables under a heading."""
    _, _, section = README.partition(f"\n## {heading}\n")
    section, _, _ = section.partition("\n## ")
    rows = re.findall(r"^\| *(`[^|]+`) *\|", section, re.MULTILINE)
    return {name for row in rows for name in re.findall(r"`([^`]+)`", row)}


def test_every_error_has_a_row() -> None:
    errors = {
        name for name, kind in vars(hailuo_async).items() if isinstance(kind, type) and issubclass(kind, HailuoError)
    }
    assert first_columns("Errors") == errors - {"HailuoError", "ServiceError"}


def test_every_event_has_a_row() -> None:
    assert first_columns("Watching it") == {event.__name__ for event in get_args(SessionEvent)}


def test_every_setting_has_a_row() -> None:
    settings = set(inspect.signature(AsyncSession).parameters)
    assert first_columns("Settings") - {"AsyncSession(…)"} == settings


def test_every_link_to_a_file_leads_to_one() -> None:
    links = re.findall(r"\]\(([^)#:]+)\)", README)
    assert links
    assert [link for link in links if not (ROOT / link).is_file()] == []
