"""What is said of a connection that failed: words, and neither URLs nor credentials."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import aiohttp
import pytest

from hailuo_async._io.wording import describe

SECRET: Any = SimpleNamespace(host="proxy.example", port=1, ssl=None, real_url="https://u:s3cret@h/x?sig=s3cret")


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (TimeoutError(), "no answer in time"),
        (aiohttp.ServerTimeoutError("https://h/x?sig=s3cret"), "no answer in time"),
        (aiohttp.ConnectionTimeoutError("https://h/x?sig=s3cret"), "no connection in time"),
        (aiohttp.ClientConnectorError(SECRET, OSError(111, "refused")), "cannot connect to proxy.example: refused"),
        (aiohttp.ClientConnectorError(SECRET, OSError("s3cret")), "cannot connect to proxy.example: OSError"),
        (
            aiohttp.ClientConnectorError(SECRET, ConnectionResetError()),
            "cannot connect to proxy.example: the connection was cut",
        ),
        (aiohttp.ClientHttpProxyError(SECRET, (), status=407), "the proxy refused the connection: HTTP 407"),
        (aiohttp.ClientResponseError(SECRET, (), message="s3cret"), "the answer is no HTTP that can be read"),
        (aiohttp.ServerDisconnectedError("s3cret"), "the connection was cut"),
        (aiohttp.ClientPayloadError("s3cret"), "the connection was cut"),
        (ConnectionResetError(104, "reset"), "the connection was cut"),
        (aiohttp.ClientOSError(104, "reset"), "the connection was cut"),
        (aiohttp.ClientOSError(None, "For https://h/x?sig=s3cret"), "the connection was cut"),
        (aiohttp.ClientOSError(32, "Can not write request body for https://h/x"), "the connection was cut"),
        (aiohttp.ClientOSError(113, "for https://h/x?sig=s3cret"), "the connection failed: No route to host"),
        (aiohttp.ClientOSError(1, "[SSL: BAD_RECORD_MAC]"), "the connection failed: [SSL: BAD_RECORD_MAC]"),
        (
            aiohttp.ClientOSError(8, "EOF occurred in violation of protocol (_ssl.c:1006)"),
            "the connection failed: EOF occurred in violation of protocol (_ssl.c:1006)",
        ),
        (aiohttp.ClientConnectionError("https://h/x?sig=s3cret"), "the connection failed"),
        (OSError(28, "No space left on device"), "OSError: No space left on device"),
        (OSError("s3cret"), "OSError"),
        (aiohttp.InvalidURL("https://h/x?sig=s3cret"), "the host name in the URL is not valid"),
        (RuntimeError("s3cret"), "RuntimeError"),
    ],
)
def test_each_failure_has_words_of_its_own_and_no_secret(error: Exception, words: str) -> None:
    assert describe(error) == words
