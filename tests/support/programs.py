"""Programs as a reader would run them: in a folder with pictures, against the emulator, warnings as errors."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from PIL import Image

from hailuo_async.emulator import Emulator

from .running_emulator import credentials

ROOT = Path(__file__).parents[2]


def put_pictures(folder: Path) -> Path:
    """``folder``, with the pictures that the programs speak of."""
    (folder / "pictures").mkdir()
    for name in ("cat", "evening", "morning", "pictures/a", "pictures/b"):
        Image.new("RGB", (320, 320), "teal").save(folder / f"{name}.jpg")
    return folder


def run_python(arguments: list[str], folder: Path, service: Emulator) -> subprocess.CompletedProcess[str]:
    """What ``python`` does with ``arguments`` in ``folder``, with the environment pointing at ``service``."""
    return subprocess.run(
        [sys.executable, "-X", "dev", "-W", "error", *arguments],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT), **credentials(service)},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def run_program(source: str, folder: Path, service: Emulator, *arguments: str) -> list[str]:
    """The lines that a program prints. It must end well."""
    (folder / "program.py").write_text(source, encoding="utf-8")
    done = run_python(["program.py", *arguments], folder, service)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def run_tests(source: str, folder: Path, service: Emulator) -> str:
    """What pytest says of a file of tests."""
    (folder / "test_program.py").write_text(source, encoding="utf-8")
    others = [f"-pno:{name}" for name in ("asyncio", "aiohttp", "cacheprovider")]  # the first warns of its own defaults
    done = run_python(["-m", "pytest", "-q", "-W", "error", *others, own_basetemp(folder)], folder, service)
    return done.stdout + done.stderr


def own_basetemp(folder: Path) -> str:
    """A folder of its own for a pytest: those who share one clean up at once, and their warnings are errors."""
    return f"--basetemp={folder.with_name(folder.name + '-temporary')}"
