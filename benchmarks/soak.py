"""A batch that is killed again and again, against a service that errs: is every job paid for once, and none lost?

The emulator runs in a process of its own, with faults, and its ledger says what was paid for. In each round a batch
with a journal is killed with SIGKILL at random moments and run again, until it may come to its end; the last run tells
how each job ended, and that is held against the ledger and the disk. Beside it lives one session through all rounds,
whose callers are cancelled at random; at rest it may not grow.

What may be paid for and not told of is only what the journal has named as unknown: those wait for their owner's word.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from random import Random
from types import TracebackType
from typing import Any, Self

import attrs
from PIL import Image

from benchmarks.children import PICTURES, VIDEO_BYTES, Size, Told

JOBS, KILLS = 60, 5
"""In each round."""
LONGEST_LIFE_S = 0.8
#: By how much a session at rest may have grown in the second half of a soak: what the allocator keeps, and
#: connections that have not noticed yet that they are idle.
SLACK = Size(memory_mb=8.0, tasks=2, files=8)

_ROOT = Path(__file__).parents[1]


class Program:
    """One of ``benchmarks.children`` at work, spoken to in lines of JSON. Ended with its context, if it is not yet."""

    def __init__(self, name: str, **options: object) -> None:
        command = [sys.executable, "-m", "benchmarks.children", name, json.dumps(options)]
        pipe = subprocess.PIPE
        self._name = name
        self._process = subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True, cwd=_ROOT)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.kill()
        for end in (self._process.stdin, self._process.stdout):
            if end is not None:
                end.close()

    def say(self, words: object) -> None:
        """Tells it something."""
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(words) + "\n")
        self._process.stdin.flush()

    def hear(self) -> Any:
        """What it says next. Raises ``EOFError`` if it ends without a word."""
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise EOFError(f"the program {self._name!r} ended before its time")
        return json.loads(line)

    @property
    def pid(self) -> int:
        """Its number for the kernel."""
        return self._process.pid

    def kill(self) -> bool:
        """Ends it with SIGKILL. Whether it was still at work."""
        self._process.kill()
        return self._process.wait() != 0


@attrs.frozen(kw_only=True)
class Round:
    """What one batch came to, and the size of the session beside it."""

    kills: int
    cancels: int
    paid: int
    unknown: int
    """Jobs that the journal has named as unknown: they may have been paid for."""
    twice: Sequence[str]
    """The prompts of those that were paid for more than once, and were not named."""
    lost: Sequence[str]
    """The prompts of those that were not named, and whose video does not lie on the disk."""
    size: Size

    def __str__(self) -> str:
        return (
            f"{self.kills} kills, {self.cancels} cancels, {self.paid} paid, {len(self.twice)} twice, "
            f"{len(self.lost)} lost, {self.unknown} unknown and named; beside it {_told(self.size)}"
        )


def soak(minutes: float, kills: int | None = None, seed: int = 0) -> int:
    """Goes round for so many minutes, or until so many kills. Prints each round and a verdict; 1 if it is a bad one.

    Raises ``EOFError`` if a program breaks down or gets stuck; what it said of that stands on the standard error.
    """
    rng, rounds, end = Random(seed), list[Round](), time.monotonic() + minutes * 60
    with tempfile.TemporaryDirectory() as directory, ExitStack() as programs:
        root = Path(directory)
        for number in range(PICTURES):
            Image.effect_noise((320, 320), 90).save(root / f"{number}.png")
        service = programs.enter_context(Program("service", seed=seed))
        url = service.hear()
        steady = programs.enter_context(Program("steady", base_url=url, home=_home(root, "steady"), seed=seed))
        while time.monotonic() < end and (kills is None or sum(each.kills for each in rounds) < kills):
            name = f"round {len(rounds) + 1}"
            steady.say(name)
            rounds.append(_round(service, steady, url, _home(root, name), name, rng))
            print(f"{name}: {rounds[-1]}", flush=True)
    return judge(rounds)


def _home(root: Path, name: str) -> str:
    home = root / name
    home.mkdir()
    return str(home)


def _round(service: Program, steady: Program, url: str, home: str, name: str, rng: Random) -> Round:
    prompts = [f"{name} job {number}" for number in range(JOBS)]

    def begin() -> Program:
        batch = Program("batch", base_url=url, home=home, prompts=prompts, seed=rng.getrandbits(32))
        batch.hear()
        return batch

    kills = 0
    for _ in range(KILLS):
        with begin() as batch:
            time.sleep(rng.uniform(0.0, LONGEST_LIFE_S))
            kills += batch.kill()
    with begin() as batch:
        end = batch.hear()
    told = {prompt: Told(*each) for prompt, each in end["told"].items()}
    size = Size(*steady.hear())
    service.say(name)
    paid: dict[str, list[str]] = service.hear()
    unknown = {prompt for prompt, each in told.items() if each.word == "unknown"}
    return Round(
        kills=kills,
        cancels=end["cancels"],
        paid=sum(len(paid.get(prompt, ())) for prompt in prompts),
        unknown=len(unknown),
        twice=[prompt for prompt, tasks in paid.items() if len(tasks) > 1 and prompt not in unknown],
        lost=[prompt for prompt in prompts if prompt not in unknown and not is_delivered(prompt, told, paid)],
        size=size,
    )


def is_delivered(prompt: str, told: Mapping[str, Told], paid: Mapping[str, Sequence[str]]) -> bool:
    """Whether the video of a task that was paid for lies on the disk, whole."""
    end = told.get(prompt)
    if end is None or end.path is None or end.task_id not in paid.get(prompt, ()):
        return False
    return Path(end.path).is_file() and Path(end.path).stat().st_size == VIDEO_BYTES


def judge(rounds: Sequence[Round]) -> int:
    """Prints what all of them came to. 1 if a job was paid for twice or lost, or the session beside them grew."""
    twice, lost = ([prompt for each in rounds for prompt in getattr(each, name)] for name in ("twice", "lost"))
    half = (len(rounds) + 1) // 2
    before, after = _largest(rounds[:half]), _largest(rounds[half:] or rounds)
    is_flat = all(
        now <= then + more for now, then, more in zip(*map(attrs.astuple, (after, before, SLACK)), strict=True)
    )
    print(
        f"{sum(each.kills for each in rounds)} kills and {sum(each.cancels for each in rounds)} cancels "
        f"in {len(rounds) * JOBS} jobs: {len(twice)} paid twice, {len(lost)} lost, "
        f"{sum(each.unknown for each in rounds)} unknown and named; "
        f"from {_told(before)} to {_told(after)}, {'flat' if is_flat else 'GROWING'}"
    )
    for prompt in twice:
        print(f"PAID TWICE: {prompt}")
    for prompt in lost:
        print(f"LOST: {prompt}")
    return int(bool(twice or lost) or not is_flat)


def _largest(rounds: Sequence[Round]) -> Size:
    """The most of each figure."""
    return Size(*map(max, zip(*(attrs.astuple(each.size) for each in rounds), strict=True)))


def _told(size: Size) -> str:
    return f"{size.memory_mb:.1f} MB, {size.tasks} tasks, {size.files} files"
