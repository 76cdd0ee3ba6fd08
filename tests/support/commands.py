"""The command line as a test uses it: in this process, as a child of it, and at a terminal."""

from __future__ import annotations

import contextlib
import json
import os
import pty
import select
import signal
import subprocess
import sys
import termios
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import attrs
from click.testing import CliRunner, Result
from PIL import Image

from hailuo_async.cli import main
from hailuo_async.emulator import Emulator

ROOT = Path(__file__).parent.parent.parent
#: A child that has not come so far by then hangs.
PATIENCE_S = 60.0
INTERRUPT = "\x03"


def write_jobs(folder: Path, count: int, image: str = "https://example.com/cat.jpg") -> Path:
    """A file of jobs with the keys ``a``, ``b``, … and the prompts ``scene a``, …, all of the same image.

    They may be sent in any order: where a video may be saved, and what a picture holds, is looked at in threads.
    """
    Image.new("RGB", (320, 320), "teal").save(folder / "picture.jpg")
    keys = "abcdefgh"[:count]
    jobs = [{"key": key, "first_frame_image": image, "prompt": f"scene {key}"} for key in keys]
    (folder / "jobs.jsonl").write_text("".join(f"{json.dumps(job)}\n" for job in jobs))
    return folder / "jobs.jsonl"


def write_pictures(folder: Path) -> Path:
    """A folder with two pictures, one of them named like none, and things that are no pictures."""
    (folder / "album.jpg").mkdir(parents=True)
    Image.new("RGB", (320, 320), "navy").save(folder / "Cat.JPG", "JPEG")
    Image.new("RGB", (320, 320), "olive").save(folder / "dog", "PNG")
    (folder / "notes.txt").write_text("RIFF and so on")
    (folder / ".hidden.jpg").write_bytes(b"")
    return folder


def paid(service: Emulator) -> dict[str | None, int]:
    """How often each prompt was paid for."""
    return {prompt: len(task_ids) for prompt, task_ids in service.ledger.accepted.items()}


def once(keys: str) -> dict[str | None, int]:
    """What is paid for if each of the jobs of ``write_jobs`` was, once."""
    return {f"scene {key}": 1 for key in keys}


def names_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.glob("*.mp4"))


def facts(output: str) -> dict[str | None, dict[str, Any]]:
    """The objects of stdout, by their keys. Fails for a line that is none, and for a key that is told twice."""
    objects = [json.loads(line) for line in output.splitlines()]
    by_key = {each["key"]: each for each in objects}
    assert len(by_key) == len(objects)
    return by_key


def statuses(output: str) -> dict[str | None, str]:
    """What became of each job, from the objects of stdout."""
    return {key: each["status"] for key, each in facts(output).items()}


# --- In this process, where there is no terminal ---


def run(*arguments: str | Path, stdin: str | None = None, env: dict[str, str] | None = None) -> Result:
    """The command with ``env`` added to ours."""
    return CliRunner(env=env).invoke(main, [str(each) for each in arguments], input=stdin, prog_name="hailuo-async")


# --- As a child ---


def command(*arguments: str | Path) -> list[str]:
    return [sys.executable, "-W", "error", "-m", "hailuo_async", *map(str, arguments)]


def environment(*first: Path, **more: str) -> dict[str, str]:
    """Ours as it is now, with the package, and what is in ``first`` before it, in reach."""
    return {**os.environ, "PYTHONPATH": os.pathsep.join(map(str, (*first, ROOT))), **more}


@contextlib.contextmanager
def child(*arguments: str | Path, env: dict[str, str], **options: Any) -> Iterator[subprocess.Popen[str]]:
    """The command at work, its output in pipes, and killed if the test leaves it before it has ended."""
    options = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "stdin": subprocess.DEVNULL, **options}
    with subprocess.Popen(command(*arguments), env=env, text=True, **options) as process:
        try:
            yield process
        finally:
            if process.poll() is None:
                process.send_signal(signal.SIGKILL)


def wait_until(holds: Callable[[], bool]) -> None:
    """Returns as soon as it holds. Fails if it never does."""
    deadline = time.monotonic() + PATIENCE_S
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.01)


# --- At a terminal ---


@attrs.define
class Terminal:
    """A command at a terminal of its own, which it can be asked at and interrupted from."""

    process: subprocess.Popen[bytes]
    _ours: int
    _bytes: bytes = b""
    _awaited: int = 0

    @property
    def shown(self) -> str:
        """Everything that was written to it so far."""
        return self._bytes.decode(errors="replace")

    def type(self, text: str) -> None:
        """As at its keyboard."""
        os.write(self._ours, text.encode())

    def wait_for(self, words: str) -> None:
        """Returns when ``words`` were written, after those that were waited for before. Fails if they never are."""
        while words not in self.shown[self._awaited :]:
            assert self._read(), self.shown
        self._awaited = self.shown.index(words, self._awaited) + len(words)

    def hang_up(self) -> None:
        """As when its window is closed."""
        os.close(self._ours)

    def end(self) -> int:
        """The exit code."""
        while self._read():
            pass
        return self.process.wait(PATIENCE_S)

    def _read(self) -> bool:
        """Whether there was more to read: the last writer has closed it otherwise, which Linux tells as an error."""
        ready, _, _ = select.select([self._ours], [], [], PATIENCE_S)
        assert ready, self.shown
        try:
            piece = os.read(self._ours, 65536)
        except OSError:
            return False
        self._bytes += piece
        return bool(piece)


@contextlib.contextmanager
def terminal(*arguments: str | Path, env: dict[str, str], columns: int = 100) -> Iterator[Terminal]:
    """The command with stdin, stdout and stderr at a terminal, which is the one that its session belongs to."""
    ours, theirs = pty.openpty()
    termios.tcsetwinsize(ours, (24, columns))
    env = {"TERM": "xterm-256color", **env, "TERMINAL": os.ttyname(theirs)}
    env.pop("COLUMNS", None)
    take_it = ["sh", "-c", 'exec "$0" "$@" <"$TERMINAL"']  # a session's leader gets the terminal that it opens first
    with subprocess.Popen(
        [*take_it, *command(*arguments)],
        env=env,
        stdin=subprocess.DEVNULL,
        stdout=theirs,
        stderr=theirs,
        start_new_session=True,
    ) as process:
        os.close(theirs)
        try:
            yield Terminal(process, ours)
        finally:
            if process.poll() is None:
                process.send_signal(signal.SIGKILL)
            with contextlib.suppress(OSError):  # hung up
                os.close(ours)
