"""``hailuo-async emulator``, also as ``python -m hailuo_async.emulator``."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import urllib.request
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from hailuo_async.cli import main as cli
from hailuo_async.emulator import Emulator, Entry, Fault, FaultRates, Faults, Kind
from hailuo_async.emulator.__main__ import _parser, build_emulator, describe, main, read_faults

ROOT = Path(__file__).parents[2]


@pytest.mark.slow
@pytest.mark.parametrize("interruption", [signal.SIGINT, signal.SIGTERM])
def test_it_says_how_to_reach_it_serves_and_ends_cleanly_when_interrupted(interruption: signal.Signals) -> None:
    command = [sys.executable, "-m", "hailuo_async.emulator", "--plain", "--port", "0", "--api-key", "k1", "-v"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment
    ) as server:
        assert server.stdout is not None
        address, key = server.stdout.readline(), server.stdout.readline()
        assert (address.partition("=")[0], key) == ("export MODELLIX_BASE_URL", "export MODELLIX_API_KEY=k1\n")
        url = f"{address.partition('=')[2].strip()}/api/v1/apikey/validate"
        with urllib.request.urlopen(urllib.request.Request(url, headers={"Authorization": "Bearer k1"})) as answer:
            assert json.load(answer)["data"] == {"is_valid": True}
        server.send_signal(interruption)
        _, errors = server.communicate(timeout=60)
    assert (server.returncode, errors[8:]) == (0, " GET /api/v1/apikey/validate 200\n")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--spread", "2"], "spread must be from 0 to 1; got 2.0"),
        (["--fault", "nonsense=0.1"], "'nonsense' is not a valid Fault"),
        (["--fault", "upload.hang=0.1"], "'upload' is not a valid Kind"),
        (["--fault", "hang=often"], "--fault hang=often: could not convert string to float: 'often': give it as in "),
        (["--fault", "hang"], "--fault hang: could not convert string to float"),
        (["--tier", "$7"], "there is no tier '$7': give one of 'under $10', '$10', '$100',"),
        (["--fault", "download.hang=0.1"], "a download cannot meet the fault 'hang'"),
        (["--max-running", "many"], "invalid int value"),
    ],
)
def test_an_argument_that_cannot_work_is_named_and_nothing_is_served(
    arguments: list[str], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as exit_:
        main(arguments)
    assert exit_.value.code == 2
    told = capsys.readouterr().err
    assert (words in told, "Did you mean" in told) == (True, False)


def chosen(*arguments: str) -> Emulator:
    return build_emulator(_parser("emulator").parse_args(arguments))


@pytest.mark.parametrize(
    ("arguments", "limits"),
    [
        ([], (3, 100)),
        (["--tier", "$500"], (50, 500)),
        (["--tier", "$500", "--max-running", "1"], (1, 500)),
        (["--tier", "$10", "--requests-per-minute", "0"], (10, None)),
    ],
)
def test_a_tier_sets_the_limits_that_are_not_given(arguments: list[str], limits: tuple[int, int | None]) -> None:
    service = chosen(*arguments).service
    assert (service.max_running, service.requests_per_minute) == limits


def test_the_usage_names_the_command_that_was_typed(capsys: pytest.CaptureFixture[str]) -> None:
    shown = CliRunner().invoke(cli, ["emulator", "--help"], prog_name="hailuo-async")
    with pytest.raises(SystemExit):
        main(["--help"])
    words = (shown.output, capsys.readouterr().out)
    assert [text.split(" [")[0] for text in words] == [
        "usage: hailuo-async emulator",
        "usage: python -m hailuo_async.emulator",
    ]


@pytest.mark.parametrize(
    ("facts", "line"),
    [
        (
            {"kind": Kind.SUBMIT, "method": "POST", "path": "/api/v1/x", "status": 200, "task_id": "task-1"},
            "08:00:00 POST /api/v1/x 200 task-1",
        ),
        (
            {"kind": Kind.QUERY, "method": "GET", "path": "/api/v1/tasks/task-1", "status": 200, "task_id": "task-1"},
            "08:00:00 GET /api/v1/tasks/task-1 200",
        ),
        (
            {"kind": Kind.QUERY, "method": "GET", "path": "/a", "status": None, "fault": Fault.HANG},
            "08:00:00 GET /a no answer (fault: hang)",
        ),
    ],
)
def test_a_request_is_described_in_a_line(facts: dict[str, Any], line: str) -> None:
    assert describe(Entry(at=1_800_000_000.0, **facts)) == line


def test_a_port_that_no_machine_has_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as exit_:
        main(["--plain", "--port", "99999"])
    assert exit_.value.code == 2
    assert "cannot serve at 127.0.0.1, port 99999: " in capsys.readouterr().err


def test_a_port_that_is_taken_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(SystemExit) as exit_:
            main(["--plain", "--port", str(port)])
    assert exit_.value.code == 2
    assert f"cannot serve at 127.0.0.1, port {port}: " in capsys.readouterr().err


@pytest.mark.slow
def test_without_what_it_takes_to_render_it_says_what_is_missing() -> None:
    program = (
        "import sys; sys.modules['av'] = None\n"
        "from hailuo_async.emulator.__main__ import main; main(['--render', '--port', '0'])\n"
    )
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, env=environment)
    assert (ended.returncode, ended.stdout) == (2, "")
    assert ended.stderr.endswith("films need the extra 'emulator'; --plain does without\n")


def test_a_fault_is_for_one_kind_of_request_or_for_every_one_that_can_meet_it() -> None:
    assert read_faults(["query.garbage=0.1", "truncated=0.2", "wrong_task_id=0.3"]) == Faults(
        submit=FaultRates(truncated=0.2),
        query=FaultRates(garbage=0.1, truncated=0.2, wrong_task_id=0.3),
        download=FaultRates(truncated=0.2),
    )


@pytest.mark.slow
def test_importing_the_emulator_imports_nothing_that_renders_and_nothing_of_the_client() -> None:
    program = (
        "import sys, hailuo_async.emulator\n"
        "ours = {name for name in sys.modules if name.startswith('hailuo_async.')}\n"
        "print({'av', 'PIL'} & sys.modules.keys(), 'hailuo_async.emulator.rendering' in ours)\n"
    )
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    shown = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, env=environment, check=True)
    assert shown.stdout == "set() False\n"
