"""The command line: the demo, and what all commands share."""

from __future__ import annotations

import io
import json
import logging
import os
import re
import signal
import subprocess
import sys
import warnings
from pathlib import Path

import av
import click
import pytest
from PIL import Image

from hailuo_async._cli import exit_codes
from hailuo_async._cli.batch.results import JobResult
from hailuo_async._cli.commands import options
from hailuo_async._cli.extras import _requirement, install_hint
from hailuo_async._cli.output import can_ask, emit, log_to_stderr
from hailuo_async.cli import main
from hailuo_async.emulator import Emulator
from hailuo_async.errors import SubmissionUnknownError, TaskFailedError
from hailuo_async.models import MODELS

from ..support.commands import ROOT, child, command, environment, names_in, run, statuses, terminal

# --- The demo, against a service that it takes for the real one ---


@pytest.mark.slow
def test_a_run_saves_every_video_and_pays_for_each_job_once(pictures: Path, service: Emulator, tmp_path: Path) -> None:
    output = tmp_path / "new" / "videos"
    result = run("demo", pictures, "--real", "--yes", "--output", output, "--json")
    assert (result.exit_code, statuses(result.stdout)) == (0, dict.fromkeys(("Cat", "dog", "Cat-to-dog"), "saved"))
    assert "Jobs: 3 to pay for: 18 s of video, $0.97 to $1.76 by the prices of 2026-08-10.\n" in result.stderr
    assert names_in(output) == ["Cat-to-dog.mp4", "Cat.mp4", "dog.mp4"]
    assert (service.ledger.posts, service.ledger.submits_accepted) == (3, 3)


@pytest.mark.slow
def test_run_again_it_pays_only_for_what_is_missing(pictures: Path, service: Emulator, tmp_path: Path) -> None:
    output = tmp_path / "videos"
    output.mkdir()
    (output / "Cat.mp4").write_text("of the emulator's, perhaps")
    for count in ("1", "2"):
        result = run("demo", pictures, "--real", "--yes", "--output", output, "--jobs", count)
        assert result.exit_code == 0
    assert "Jobs: 1 there already, 1 to pay for: 6 s of video, $0.32 to $0.72 by the prices" in result.stderr
    assert (names_in(output), service.ledger.submits_accepted) == (["Cat-2.mp4", "Cat.mp4", "dog.mp4"], 2)


def test_without_a_yes_nothing_is_sent_nor_made(pictures: Path, service: Emulator, tmp_path: Path) -> None:
    result = run("demo", pictures, "--real", "--output", tmp_path / "videos", stdin="y\n")
    assert (result.exit_code, service.ledger.posts, (tmp_path / "videos").exists()) == (2, 0, False)


@pytest.mark.slow
def test_bad_pictures_are_told_by_their_names_and_the_others_become_videos(
    pictures: Path, service: Emulator, tmp_path: Path
) -> None:
    (pictures / os.fsdecode(b"\xff.png")).write_text("no picture")
    Image.new("RGB", (300, 300)).save(pictures / "small.png")
    result = run("demo", pictures, "--real", "--yes", "--output", tmp_path / "videos", "--jobs", "1")
    assert result.exit_code == 1
    small, unreadable, cat = result.stdout.splitlines()
    assert small.startswith("small.png  unusable")
    assert "found 300 x 300 px; short side must be over 300 px" in small
    assert (unreadable[:13], cat[:11]) == ("\ufffd.png  unusab", "Cat  saved ")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["no-such-folder"], "Directory 'no-such-folder' does not exist"),
        (["{pictures}/Cat.JPG"], "is a file"),
        (["{pictures}/album.jpg"], "there is no JPEG, PNG or WebP picture in"),
        (["{pictures}", "--jobs", "0"], "0 is not in the range x>=1"),
        (["{pictures}", "--max-running", "many"], "'many' is not a valid integer range"),
        (["{pictures}", "--output", "{pictures}/dog/videos"], "Not a directory"),
    ],
)
def test_what_cannot_be_run_is_one_line(arguments: list[str], words: str, pictures: Path) -> None:
    result = run("demo", *(argument.format(pictures=pictures) for argument in arguments))
    assert (result.exit_code, result.stdout) == (2, "")
    assert words in result.stderr.splitlines()[-1]


# --- The demo with its own emulator ---


@pytest.mark.slow
def test_without_a_key_and_a_network_a_picture_becomes_a_film_that_plays(pictures: Path, tmp_path: Path) -> None:
    output = tmp_path / "videos"
    output.mkdir()
    (output / "Cat.mp4").write_text("of yesterday")
    result = run("demo", pictures, "--output", output, "--jobs", "1", env={"MODELLIX_API_KEY": ""})
    assert (result.exit_code, result.stdout.split()[:2]) == (0, ["Cat", "saved"])
    assert result.stderr.startswith("An emulator of the service answers: nothing leaves this machine")
    with av.open(str(output / "Cat-2.mp4")) as film:
        frames = sum(1 for _ in film.decode(video=0))
        assert (film.streams.video[0].codec_context.name, frames) == ("h264", 144)


@pytest.mark.slow
def test_interrupted_twice_it_says_what_is_unfinished(pictures: Path, tmp_path: Path) -> None:
    with child("demo", pictures, "--output", tmp_path / "videos", "--json", env=environment()) as demo:
        assert demo.stderr is not None
        for words in ("3 running", "Once more"):
            while words not in demo.stderr.readline():
                assert demo.poll() is None
            demo.send_signal(signal.SIGINT)
        output, errors = demo.communicate(timeout=60)
    told = dict.fromkeys(("Cat", "dog", "Cat-to-dog"), "unfinished")
    assert (demo.returncode, statuses(output)) == (130, told)
    assert errors.endswith("3 unfinished: they go on at the service\n")


def test_without_what_renders_films_the_demo_says_what_to_install(pictures: Path, tmp_path: Path) -> None:
    (tmp_path / "av.py").write_text("raise ModuleNotFoundError('No module named av')")
    with child("demo", pictures, "--output", tmp_path / "videos", env=environment(tmp_path)) as demo:
        _, errors = demo.communicate(timeout=60)
    words = f"hailuo-async: No module named av: the emulator needs the extra 'emulator': {install_hint('emulator')}"
    assert (demo.returncode, errors.splitlines()[-1]) == (2, words)


# --- What all commands share ---


def test_the_module_is_the_same_command_as_the_script() -> None:
    done = subprocess.run(command("--help"), env=environment(), capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("Usage: hailuo-async [OPTIONS] COMMAND")
    names = {"batch", "completion", "demo", "doctor", "emulator", "generate", "resolve", "status"}
    assert names <= set(done.stdout.split())


def test_help_imports_no_more_than_the_library() -> None:
    look = "import sys, hailuo_async.cli; print({'rich', 'PIL', 'av', 'hailuo_async.emulator'} & sys.modules.keys())"
    done = subprocess.run([sys.executable, "-c", look], env=environment(), capture_output=True, text=True, timeout=60)
    assert done.stdout == "set()\n"


def test_without_its_extra_the_command_says_what_to_install(tmp_path: Path) -> None:
    (tmp_path / "click.py").write_text("raise ModuleNotFoundError('click')")
    done = subprocess.run(command("demo"), env=environment(tmp_path), capture_output=True, text=True, timeout=60)
    words = f"hailuo-async: the command line needs the extra 'cli': {install_hint('cli')}\n"
    assert (done.returncode, done.stdout, done.stderr) == (2, "", words)


@pytest.mark.parametrize(
    ("origin", "requirement"),
    [
        ({}, "'hailuo-async[cli]'"),
        ({"url": "file:///my%20code", "dir_info": {"editable": True}}, "-e '/my code[cli]'"),
        ({"url": "file:///code", "dir_info": {}}, "'/code[cli]'"),
        ({"url": "https://x.y/z", "vcs_info": {"vcs": "git"}}, "'hailuo-async[cli] @ git+https://x.y/z'"),
    ],
)
def test_an_extra_is_installed_from_where_the_package_came(origin: dict[str, object], requirement: str) -> None:
    assert _requirement("cli", origin) == requirement


def test_the_emulator_takes_its_own_options() -> None:
    result = run("emulator", "--spread", "2")
    assert (result.exit_code, "spread must be from 0 to 1; got 2.0" in result.stderr) == (2, True)
    assert "--generation-s" in run("emulator", "--help").stdout


@pytest.mark.parametrize(
    ("shell", "name", "variable"),
    [
        ("bash", ".bashrc", "HOME"),
        ("zsh", ".zshrc", "HOME"),
        ("fish", "fish/completions/hailuo-async.fish", "XDG_CONFIG_HOME"),
    ],
)
def test_it_is_put_where_a_shell_finds_it_once(shell: str, name: str, variable: str, tmp_path: Path) -> None:
    (tmp_path / ".bashrc").write_text("alias ll='ls -l'")
    given = {variable: str(tmp_path), "SHELL": f"/usr/bin/{shell}"}
    assert run("completion", "--install", env=given).stdout == f"added to {tmp_path / name}: open a new shell\n"
    written = (tmp_path / name).read_text()
    assert f"hailuo-async completion {shell}" in written
    assert run("completion", shell, "--install", env=given).stdout == f"{tmp_path / name} has it already\n"
    assert (tmp_path / name).read_text() == written


def test_without_a_shell_it_says_which_there_are() -> None:
    result = run("completion", env={"SHELL": "/bin/tcsh"})
    assert (result.exit_code, "hailuo-async completion bash|zsh|fish" in result.stderr) == (2, True)


def test_the_keys_of_a_journal_are_completed(tmp_path: Path) -> None:
    (tmp_path / "no.db").touch()
    for journal in ("no.db", "none.db"):
        asked = {"COMP_WORDS": f"hailuo-async resolve {tmp_path / journal} ", "COMP_CWORD": "3"}
        done = run(env={**asked, "_HAILUO_ASYNC_COMPLETE": "bash_complete"})
        assert (done.exit_code, done.stdout.strip()) == (0, "")


@pytest.mark.slow
@pytest.mark.parametrize("given", [["resolve", "--help"], ["batch", "--help"], ["models"]])
def test_nothing_breaks_within_a_word_on_a_narrow_terminal(given: list[str]) -> None:
    shown = {}
    for width in (40, 80):
        with terminal(*given, env=environment(), columns=width) as screen:
            assert screen.end() == 0
        shown[width] = screen.shown
        assert max(map(len, shown[width].splitlines())) <= width
    words = [re.sub(r"-\s+(?=\w)", "-", text).split() for text in shown.values()]  # a hyphen ends a line as well
    assert words[0] == words[1]


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_a_shell_is_told_how_to_complete(shell: str) -> None:
    result = run("completion", shell)
    assert (result.exit_code, "_HAILUO_ASYNC_COMPLETE" in result.stdout) == (0, True)


def test_what_a_shell_asks_is_answered() -> None:
    asked = environment(_HAILUO_ASYNC_COMPLETE="bash_complete", COMP_WORDS="hailuo-async re", COMP_CWORD="1")
    done = subprocess.run(command(), env=asked, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout) == (0, "plain,resolve\n")


@pytest.mark.parametrize(
    ("given", "words"), [("bath", "No such command 'bath'"), ("--fast", "No such option '--fast'")]
)
def test_what_there_is_none_of_is_one_line(given: str, words: str) -> None:
    result = run(given)
    assert (result.exit_code, len(result.stderr.splitlines())) == (2, 1)
    assert result.stderr.startswith(f"hailuo-async: {words}")


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (["bath"], "No such command 'bath'. Did you mean batch? (see"),
        (["list"], "No such command 'list'. Did you mean status? (see"),
        (["lst"], "No such command 'lst'. Did you mean status? (see"),
        (["help"], "No such command 'help'. Did you mean --help? (see"),
        (["gen"], "No such command 'gen'. Did you mean generate? (see"),
        (["emulator", "--prot", "1"], "unrecognized arguments: --prot 1. Did you mean --port? (see"),
        (["batch", ".", "--max-cost", "abc"], "'abc' is no amount of US dollars over 0 and under a million, such as "),
        (["batch", ".", "--max-tasks", "3"], "No such option '--max-tasks'. Did you mean --max-jobs? (see"),
        (["batch", ".", "--output-dir", "x"], "No such option '--output-dir'. Did you mean --output? (see"),
        (["generate", "x", "-v"], "No such option '-v'. Put -v before the command: hailuo-async -v generate (see"),
        (["generate", "x", "--takes", "2"], "No such option '--takes'. --takes is an option of batch (see"),
        (
            ["generate", "x", "--durration", "2"],
            "Did you mean one of: '--dry-run', '--duration', '--resolution'?) (see",
        ),
    ],
)
def test_what_may_have_been_meant_is_said(given: list[str], words: str) -> None:
    result = run(*given)
    assert (result.exit_code, words in result.stderr, len(result.stderr.splitlines())) == (2, True, 1)


@pytest.mark.parametrize(
    ("given", "seconds"), [("6", 6), ("6s", 6), ("30S", 30), ("5m", 300), ("2h", 7200), ("1.5 m", 90), ("0.5s", 0.5)]
)
def test_a_time_may_have_its_unit(given: str, seconds: float) -> None:
    assert options.duration(given) == seconds


def test_help_is_true_for_the_model_that_is_chosen() -> None:
    helps = {model: " ".join(run("batch", "--model", model, "--help").stdout.split()) for model in MODELS}
    assert "512P, 768P or 1080P;" in helps["hailuo-02-i2v"]
    assert "--duration SECONDS 6;" in helps["minimax-i2v-01"]
    assert "512P, 720P, 768P or 1080P;" in " ".join(run("batch", "--help").stdout.split())


def test_the_models_are_told_with_what_they_take_and_cost_without_a_key() -> None:
    lines = run("models", env={"MODELLIX_API_KEY": ""}).stdout.splitlines()
    assert [line for line in lines if not line.startswith(" ")] == list(MODELS)
    assert "   6 s     768P   $0.32 to $0.72  (2026-08-10)" in lines
    told = [json.loads(line) for line in run("models", "--json").stdout.splitlines()]
    assert told[1]["images"] == ["last_frame_image", "first_frame_image"]
    assert told[1]["sizes"][0] == {"duration": 6, "resolution": "768P", "usd_low": "0.3240", "usd_high": "0.3240"}


def test_the_service_tells_what_it_offers_now(service: Emulator) -> None:
    live = run("models", "--live").stdout
    assert "minimax/hailuo-2.3-i2v  image-to-video\n  0.054 to 0.12 $/sec\n" in live
    told = [json.loads(line) for line in run("models", "--live", "--json").stdout.splitlines()]
    assert {"model", "usd_low", "usd_high", "unit", "type", "docs_url"} == told[0].keys()


def test_given_nothing_it_shows_what_there_is() -> None:
    result = run()
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr.startswith("Usage: hailuo-async [OPTIONS] COMMAND [ARGS]...\n")


class Cannot(io.StringIO):
    """A stream that cannot be written."""

    def __init__(self, error: OSError) -> None:
        super().__init__()
        self.error = error

    def flush(self) -> None:
        raise self.error


@pytest.mark.parametrize(
    ("error", "code", "words"),
    [(BrokenPipeError(32, "gone"), 1, ""), (OSError(28, "full"), 2, "hailuo-async: [Errno 28] full\n")],
)
@pytest.mark.parametrize("given", [["--help"], ["batch", "--help"]])
def test_help_that_cannot_be_told_is_no_traceback(
    given: list[str], error: OSError, code: int, words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "stdout", Cannot(error))
        with pytest.raises(SystemExit) as caught:
            main(given)
    assert (caught.value.code, capsys.readouterr().err) == (code, words)


@pytest.mark.parametrize(
    ("error", "code", "words"),
    [
        (KeyboardInterrupt(), 130, "interrupted"),
        (click.Abort(), 130, "interrupted"),
        (click.ClickException("no"), 1, "no"),
        (TaskFailedError(reason="no", task_id="t"), 1, "the service gave the task up: no (task t)"),
        (FileNotFoundError(2, "No such file", "a"), 2, "a: No such file"),
        (OSError("no disk"), 2, "no disk"),
        (
            ZeroDivisionError("by\nzero"),
            1,
            r"unexpected ZeroDivisionError: by\nzero; --debug shows where: please report it",
        ),
        (ExceptionGroup("", [ExceptionGroup("", [OSError("no disk")])]), 2, "no disk"),
    ],
)
def test_whatever_is_raised_ends_in_one_line(
    error: BaseException, code: int, words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as caught, exit_codes.report_errors(is_debug=False):
        raise error
    assert (caught.value.code, capsys.readouterr()) == (code, ("", f"hailuo-async: {words}\n"))


def test_with_debug_there_is_a_traceback_too(tmp_path: Path) -> None:
    plain, deep = (run(*flag, "status", tmp_path / "none.db") for flag in ((), ("--debug",)))
    assert (plain.exit_code, deep.exit_code, len(plain.stderr.splitlines())) == (2, 2, 1)
    assert deep.stderr.startswith("Traceback (most recent call last):\n")
    assert deep.stderr.endswith(plain.stderr)


@pytest.mark.parametrize(("flags", "is_told"), [([], False), (["-v"], True), (["--debug"], True)])
def test_the_log_is_told_as_far_as_it_is_asked_for(
    flags: list[str], is_told: bool, pictures: Path, service: Emulator, tmp_path: Path
) -> None:
    Image.new("RGB", (200, 200)).save(pictures / "small.png")
    service.next_fault("submit", "refuse")
    result = run(*flags, "generate", pictures / "small.png", "--fit", "-o", tmp_path / "a.mp4")
    assert result.exit_code == 1
    assert ("hailuo-async: first_frame_image (small.png) was made to fit: " in result.stderr) == is_told
    assert ("queued -> sending" in result.stderr) == (flags == ["--debug"])


def test_the_log_and_warnings_are_lines_and_a_doubt_is_left_to_its_outcome(capsys: pytest.CaptureFixture[str]) -> None:
    logger = logging.getLogger("hailuo_async")
    for level in (logging.WARNING, logging.DEBUG):
        with log_to_stderr(level):
            logger.warning("%s", SubmissionUnknownError(reason="cut"))
            logger.error("it is %s", "odd", exc_info=ValueError("why"))
            warnings.simplefilter("always")
            warnings.warn("look", UserWarning, stacklevel=1)
    logger.warning("nobody hears this here")
    odd = "hailuo-async: it is odd\n"
    assert capsys.readouterr().err == f"{odd}hailuo-async: look\n{odd}ValueError: why\nhailuo-async: look\n"


def test_a_stream_that_was_closed_before_it_came_is_nobody() -> None:
    with pytest.MonkeyPatch.context() as patch:
        for name in ("stdin", "stdout", "stderr"):
            patch.setattr(sys, name, None)
        with log_to_stderr(logging.WARNING), sys.stdin, sys.stdout, sys.stderr:
            emit("a")
            assert [stream.name for stream in (sys.stdin, sys.stdout, sys.stderr)] == [os.devnull] * 3
            assert not can_ask()


def test_an_interrupt_ends_the_line_that_a_terminal_is_in() -> None:
    class Screen(io.StringIO):
        def isatty(self) -> bool:
            return True

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "stderr", screen := Screen())
        with pytest.raises(SystemExit), exit_codes.report_errors(is_debug=False):
            raise KeyboardInterrupt
    assert screen.getvalue() == "\nhailuo-async: interrupted\n"


def test_what_is_said_to_a_reader_that_has_gone_is_dropped() -> None:
    reader, writer = os.pipe()
    os.close(reader)
    with open(writer, "w") as pipe, pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "stdout", pipe)
        for _ in range(2):
            emit("a")


def test_a_stream_that_cannot_be_written_for_another_reason_is_an_error() -> None:
    with open("/dev/full", "w") as full, pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "stdout", full)
        with pytest.raises(click.ClickException, match="the output cannot be written: No space left on device"):
            emit("a")


# --- What the README says of it ---


def section() -> str:
    """What stands under the heading, in the README."""
    _, _, behind = (ROOT / "README.md").read_text("utf-8").partition("\n## Command line\n")
    return behind.partition("\n## ")[0]


def test_every_command_and_every_exit_code_has_a_row() -> None:
    rows = re.findall(r"^\| `(\S+?)[ `]", section(), re.MULTILINE)
    codes = {exit_codes.DONE, exit_codes.FAILED, exit_codes.USAGE, exit_codes.UNKNOWN, exit_codes.INTERRUPTED}
    assert sorted(rows) == sorted([*main.commands, *map(str, codes)])


def test_every_option_that_is_named_exists() -> None:
    commands = [main, *main.commands.values()]
    known = {name for command in commands for option in command.params for name in option.opts}
    assert set(re.findall(r"(?<![\w-])--[a-z][a-z-]+", section())) - {"--help"} <= known


def test_every_status_that_a_batch_can_have_is_named() -> None:
    assert {f"`{result}`" for result in JobResult if result is not JobResult.UNUSABLE} <= set(
        re.findall(r"`[a-z ]+`", section())
    )
