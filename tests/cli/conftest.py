from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from hailuo_async.emulator import Emulator

from ..support.commands import write_pictures
from ..support.joblists import draw_pictures
from ..support.running_emulator import credentials, emulator_in_thread


@pytest.fixture
def service(monkeypatch: pytest.MonkeyPatch) -> Iterator[Emulator]:
    """A service that the command takes for the real one."""
    with emulator_in_thread() as emulator:
        for name, value in credentials(emulator).items():
            monkeypatch.setenv(name, value)
        yield emulator


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder with the files of jobs and the pictures. The command runs in the one above it."""
    monkeypatch.chdir(tmp_path)
    Path("in").mkdir()
    draw_pictures(Path("in"))
    return Path("in")


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    return write_pictures(tmp_path / "pictures")
