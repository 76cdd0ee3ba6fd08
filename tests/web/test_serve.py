"""``hailuo-async serve``: which addresses it serves, and that a signal ends it in good order."""

from __future__ import annotations

import asyncio
import signal
import socket
from pathlib import Path

import click
import httpx
import pytest

from hailuo_async import ImageToVideo
from hailuo_async._cli.serve import Address, _serve, check_address
from hailuo_async.emulator import Emulator

from ..support.service import until
from .test_page import id_of, page_over


@pytest.mark.parametrize("host", ["0.0.0.0", "192.168.0.7", "example.com", "::"])
def test_others_reach_the_page_only_with_a_token(host: str) -> None:
    with pytest.raises(click.UsageError, match="give --token as well"):
        check_address(host, 0, None)
    assert check_address(host, 0, "secret") == Address(host=host, port=0, token="secret")
    assert check_address(host, 0, "secret").hosts(8765) == frozenset()


def test_an_empty_token_is_made_up_and_said(capsys: pytest.CaptureFixture[str]) -> None:
    token = check_address("0.0.0.0", 0, "").token
    assert token is not None
    assert len(token) >= 20
    assert token in capsys.readouterr().err


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "::1", "127.1.2.3"])
def test_on_this_machine_a_visitor_has_to_name_it(host: str) -> None:
    hosts = check_address(host, 0, None).hosts(8765)
    assert {"127.0.0.1:8765", "localhost:8765", "[::1]:8765"} <= hosts
    assert not {"example.com:8765", "127.0.0.1"} & hosts
    assert "127.0.0.1" in check_address(host, 0, None).hosts(80)


async def test_an_address_that_is_taken_is_named_and_what_to_do(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        words = f"cannot serve at 127.0.0.1, port {port}: Address already in use: give another --host or --port"
        with pytest.raises(click.UsageError, match=words):
            await _serve(page_over(tmp_path, Emulator()), check_address("127.0.0.1", port, None), {})


@pytest.mark.slow
async def test_it_serves_until_a_signal_and_makes_what_it_was_given(
    tmp_path: Path, emulator: Emulator, capsys: pytest.CaptureFixture[str]
) -> None:
    page = page_over(tmp_path, emulator)
    job = ImageToVideo("https://example.com/cat.jpg", prompt="a cat")
    serving = asyncio.ensure_future(_serve(page, check_address("127.0.0.1", 0, None), {id_of(1): job}))
    while not (url := capsys.readouterr().out.strip()):  # noqa: ASYNC110 (stdout has no event)
        await asyncio.sleep(0.005)
    async with httpx.AsyncClient(base_url=url, trust_env=False) as client:
        assert (await client.get("/")).status_code == 200
        assert (await client.get("/", headers={"Host": "elsewhere.example"})).status_code == 403
    await until(lambda: emulator.ledger.submits_accepted == 1)
    signal.raise_signal(signal.SIGINT)
    await serving
    assert emulator.ledger.posts == 1
