"""Where and with what figures were made, so that they can be made again."""

from __future__ import annotations

import os
import platform
import subprocess
import textwrap
from collections.abc import Iterator, Mapping
from datetime import datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import attrs

from benchmarks.tables import WIDTH

#: Packages whose versions are reported, or that they are absent.
PACKAGES = (
    "hailuo-async",
    "aiohttp",
    "anyio",
    "attrs",
    "cattrs",
    "fal-client",
    "replicate",
    "runwayml",
    "openai",
    "httpx",
    "httpx-aiohttp",
    "matplotlib",
)

_ROOT = Path(__file__).parents[1]


@attrs.frozen(kw_only=True)
class Machine:
    """A machine, what is installed on it, and the moment."""

    at: str
    """Local time of the machine, in ISO 8601."""
    commit: str | None
    """Of the checkout; ``None`` where there is none."""
    python: str
    packages: Mapping[str, str | None]
    """Version by name; ``None`` for one that is absent."""
    system: str
    processor: str
    cores: int
    memory_mb: int
    load: float
    """Processes that wanted to run, on average over the last minute. What else ran slows everything that is timed."""

    @classmethod
    def here(cls) -> Machine:
        """This one, now."""
        return cls(
            at=datetime.now().astimezone().isoformat(timespec="seconds"),
            commit=_commit(),
            python=f"{platform.python_implementation()} {platform.python_version()}",
            packages={package: installed_version(package) for package in PACKAGES},
            system=platform.platform(),
            processor=_processor(),
            cores=os.cpu_count() or 1,
            memory_mb=os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2**20,
            load=os.getloadavg()[0],
        )

    def __str__(self) -> str:
        return "\n".join(line for words in self._words() for line in textwrap.wrap(words, WIDTH))

    def _words(self) -> Iterator[str]:
        there = [f"{name} {version}" for name, version in self.packages.items() if version is not None]
        absent = [name for name, version in self.packages.items() if version is None]
        yield f"{self.at}, commit {self.commit or 'unknown'}, {self.python}"
        size = f"{self.cores} cores, {self.memory_mb / 1024:.0f} GiB"
        yield f"{self.processor}, {size}, load {self.load:.1f}, {self.system}"
        yield ", ".join(there) + (f"; absent: {', '.join(absent)}" if absent else "")


def installed_version(package: str) -> str | None:
    """``None`` if it is not installed."""
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _commit() -> str | None:
    """Short, and marked with a + if files differ from it."""
    command = ["git", "describe", "--always", "--dirty=+", "--exclude=*"]
    try:
        found = subprocess.run(command, cwd=_ROOT, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return None
    return found.stdout.strip()


def _processor() -> str:
    """The model, if Linux reports it."""
    try:
        lines = Path("/proc/cpuinfo").read_text("utf-8").splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    models = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(models, platform.machine())
