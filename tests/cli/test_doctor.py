"""``hailuo-async doctor``: what is missing, in a line each, and never the key."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from hailuo_async.emulator import Emulator

from ..support.commands import run


def test_each_check_that_passes_is_a_line_with_what_was_found(service: Emulator) -> None:
    result = run("doctor")
    assert (result.exit_code, result.stderr) == (0, "")
    assert result.stdout.splitlines() == [
        "ok       key       from MODELLIX_API_KEY",
        f"ok       service   {service.url} answers",
        "ok       validity  the service knows the key",
        "ok       balance   100000.00 USD",
        "ok       requests  98 left this minute",
        "ok       tasks     3 at once to begin with; the team's limit is found as jobs run",
    ]


def test_for_machines_each_finding_is_an_object(service: Emulator) -> None:
    service.service.balance = 0.0
    result = run("doctor", "--json")
    told = [json.loads(line) for line in result.stdout.splitlines()]
    assert (result.exit_code, [each["check"] for each in told if not each["ok"]]) == (1, ["balance"])
    assert told[3] == {
        "check": "balance",
        "ok": False,
        "message": "0.00 USD",
        "advice": "Top up: no job will be accepted",
    }


def test_a_key_that_the_service_does_not_know_is_told_and_not_shown(service: Emulator, tmp_path: Path) -> None:
    file = tmp_path / "key.txt"
    file.write_text("sk-stranger\n")
    result = run("doctor", "--key-file", file)
    assert (result.exit_code, "sk-stranger" in result.output) == (1, False)
    key, _, validity = result.stdout.splitlines()
    assert key == f"ok       key       from the file {file}"
    assert validity.startswith("problem  validity  the service does not know the key. Look at the dashboard")


@pytest.mark.parametrize("written", ["{key}", "\n {key} \r\n\n", "\ufeff{key}\r\n"])
def test_the_key_is_what_stands_in_its_file(written: str, service: Emulator, tmp_path: Path) -> None:
    file = tmp_path / "key.txt"
    file.write_text(written.format(key=service.api_key), "utf-8", newline="")
    assert run("doctor", "--key-file", file).exit_code == 0


@pytest.mark.parametrize("written", [b"", b"one\ntwo\n", b"o\0n\0e\0", b"\xff" * 9000])
def test_a_file_that_holds_no_key_is_named_and_not_shown(written: bytes, service: Emulator, tmp_path: Path) -> None:
    file = tmp_path / "key.txt"
    file.write_bytes(written)
    words = f"what the file {file} holds is no API key, which is printable ASCII without spaces"
    result = run("doctor", "--key-file", file)
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr == f"hailuo-async: {words} (see 'hailuo-async doctor --help')\n"


def test_without_a_key_it_still_looks_for_the_service(service: Emulator, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MODELLIX_API_KEY")
    result = run("doctor")
    assert (result.exit_code, result.stdout.splitlines()) == (
        1,
        [
            "problem  key       there is none. Set MODELLIX_API_KEY, or give --key-file",
            f"ok       service   {service.url} answers",
        ],
    )


def test_a_service_that_is_not_there_is_told_with_what_to_look_at(
    service: Emulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MODELLIX_BASE_URL", "http://127.0.0.1:1")
    result = run("doctor")
    assert result.exit_code == 1
    assert result.stdout.splitlines()[-1].startswith(
        "problem  service   http://127.0.0.1:1 does not answer as it should"
    )
    assert "Look at the network, HTTPS_PROXY and MODELLIX_BASE_URL" in result.stdout


def test_too_many_requests_are_no_reason_to_look_elsewhere(service: Emulator) -> None:
    service.service.requests_per_minute = 0
    result = run("doctor")
    assert (result.exit_code, "Try again in a minute" in result.stdout) == (1, True)


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("MODELLIX_BASE_URL", "ftp://x", "base_url 'ftp://x': must be https"),
        ("MODELLIX_API_KEY", "a b", "what MODELLIX_API_KEY holds is"),
    ],
)
def test_a_setting_that_cannot_work_is_one_line(
    name: str, value: str, words: str, service: Emulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(name, value)
    result = run("doctor")
    assert (result.exit_code, result.stdout, result.stderr.startswith(f"hailuo-async: {words}")) == (2, "", True)
