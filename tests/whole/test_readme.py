"""The README: its code as its readers would run it, each block a program of its own, and what its tables say."""

from __future__ import annotations

import re
import tomllib
from collections import Counter
from decimal import Decimal
from pathlib import Path

import pytest

import hailuo_async
from hailuo_async import HailuoError, Journal
from hailuo_async.emulator import Emulator

from ..support.programs import ROOT, run_program, run_tests

README = (ROOT / "README.md").read_text(encoding="utf-8")
MAX_LINES = 350


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)


#: Every Python block, in the order of the README. One that is added needs a name here, and a test.
_NAMES = ("one", "many", "resolve", "cost", "mounted", "route", "testing")
BLOCKS = dict(zip(_NAMES, blocks("python"), strict=True))


RESOLVE = """
import asyncio, sys
from hailuo_async import AsyncSession

async def main(key: str) -> None:
    async with AsyncSession(journal="batch.db") as session:
        {call}

asyncio.run(main(sys.argv[1]))
"""


@pytest.mark.slow
def test_one_video(folder: Path, service: Emulator) -> None:
    assert run_program(BLOCKS["one"], folder, service) == ["cat.mp4: the service took 0.2 s"]
    assert (folder / "cat.mp4").stat().st_size == 4096
    assert list(service.ledger.accepted) == ["[Push in] the cat looks up"]


@pytest.mark.slow
def test_a_batch_goes_on_where_it_was_and_sends_an_unknown_job_again_only_when_told_to(
    folder: Path, service: Emulator
) -> None:
    (folder / "pictures" / "bad.jpg").write_text("no picture")
    service.next_fault("submit", "cut_after")
    first = [line.split()[0] for line in run_program(BLOCKS["many"], folder, service)]
    again = [line.split()[0] for line in run_program(BLOCKS["many"], folder, service)]
    assert Counter(first) == Counter(again) == {"saved": 1, "failed": 2}
    assert service.ledger.posts == 2

    with Journal.open(folder / "batch.db") as journal:
        (key,) = (record.key for record in journal.records(state="unknown"))
    assert (
        run_program(
            RESOLVE.format(call=BLOCKS["resolve"].partition("#")[0].replace('task_id="…"', "resubmit=True")),
            folder,
            service,
            str(key),
        )
        == []
    )
    third = Counter(line.split()[0] for line in run_program(BLOCKS["many"], folder, service))
    assert third == {"saved": 2, "failed": 1}
    assert sorted(path.name for path in (folder / "videos").iterdir()) == ["a.mp4", "b.mp4"]
    assert service.ledger.posts == 3


@pytest.mark.slow
def test_what_it_costs(folder: Path, service: Emulator) -> None:
    before, after = run_program(BLOCKS["cost"], folder, service)
    assert re.fullmatch(r"\d\.\d+ to \d\.\d+ USD", before)
    cost, spent = after.split()
    assert Decimal(cost) == Decimal(spent) == service.ledger.spent > 0


@pytest.mark.slow
def test_the_tests_pass(folder: Path, service: Emulator) -> None:
    assert "2 passed" in run_tests(BLOCKS["testing"], folder, service)
    assert service.ledger.requests.total() == 0  # they had an emulator of their own


@pytest.mark.slow
def test_the_web_application_is_mounted_and_takes_routes_of_its_own(folder: Path, service: Emulator) -> None:
    asked = """
with TestClient(app) as client:
    made = client.post("/videos/", files={"image": open("cat.jpg", "rb")}, data={"prompt": "a cat"})
    client.get(made.headers["location"] + "/events")
    print(made.status_code, client.get(made.headers["location"]).json()["status"])
print([route.path for route in app.routes if "clips" in route.path])
"""
    imports = """
import warnings

warnings.simplefilter("ignore")  # Starlette asks for another client
from fastapi import Request, Response
from starlette.testclient import TestClient
from hailuo_async.web.reply import create
"""
    program = imports + BLOCKS["mounted"] + BLOCKS["route"] + asked
    assert run_program(program, folder, service) == ["202 success", "['/clips']"]


# --- What it says about the project ---


def test_the_two_commands_are_those_of_the_project() -> None:
    demo, tests = (block.strip() for block in blocks("sh"))
    make = "python3 -m venv .venv && .venv/bin/pip install -q -e"
    assert demo == f'{make} ".[cli,emulator]" && .venv/bin/hailuo-async demo'
    assert tests == f'{make} ".[dev]" && .venv/bin/python -m pytest -n auto --dist worksteal'
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert project["optional-dependencies"].keys() >= {"cli", "emulator", "dev"}
    assert project["scripts"] == {"hailuo-async": "hailuo_async_command:main"}
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


def test_every_error_has_the_status_of_its_class() -> None:
    rows = re.findall(r"^\| (`\w+`(?:, `\w+`)*) \|.*\| (\d{3}) \|$", README, re.MULTILINE)
    table = {name: int(status) for names, status in rows for name in re.findall(r"\w+", names)}
    assert table == {name: getattr(hailuo_async, name).http_status for name in table}


def test_it_can_be_read_at_a_sitting_and_from_a_package_index() -> None:
    assert len(README.splitlines()) <= MAX_LINES
    links = re.findall(r"\]\(([^)]+)\)", README)
    assert [link for link in links if not link.startswith("https://")] == []


def test_every_file_that_is_named_is_there() -> None:
    names = re.findall(r"`((?:tests|benchmarks|\.github)/[\w./-]*|[A-Z]+\.md)`", README)
    assert len(names) > 3
    assert [name for name in names if not (ROOT / name).exists()] == []
