"""What went wrong with a connection, in words for users."""

from __future__ import annotations

import asyncio
import errno
import os
import ssl

import aiohttp

#: The peer went away, before the answer or in the middle of it.
_CUT = (aiohttp.ServerDisconnectedError, aiohttp.ClientPayloadError, ConnectionResetError, BrokenPipeError)
#: The same as numbers of the system. aiohttp gives none where its own socket was closed already.
_CUT_NUMBERS = frozenset({errno.ECONNRESET, errno.EPIPE, errno.ECONNABORTED, None})
#: How the words of the TLS library begin. The number beside them is its own, and not the system's.
_TLS_WORDS = ("[SSL", "[X509", "EOF occurred in violation of protocol")
#: What to check if a certificate is refused, by OpenSSL's number of the reason.
_CERTIFICATE_ADVICE = {
    **dict.fromkeys((9, 10), "check the clock of this machine"),
    **dict.fromkeys((62, 64), "check the URL, and whether a proxy or a login page answers instead"),
}
_TRUST_ADVICE = "check the certificates that this machine trusts (SSL_CERT_FILE), and whether a proxy reads along"


def describe(error: BaseException) -> str:
    """Words that hold no URL and no credentials: aiohttp's own may name a signed URL, or a proxy with its password."""
    if isinstance(error, aiohttp.ConnectionTimeoutError):
        return "no connection in time"
    if isinstance(error, asyncio.TimeoutError):
        return "no answer in time"
    if isinstance(error, aiohttp.ClientConnectorError):
        return f"cannot connect to {error.host}: {_why_not_connected(error.os_error)}"
    if isinstance(error, aiohttp.ClientHttpProxyError):
        return f"the proxy refused the connection: HTTP {error.status}"
    if isinstance(error, UnicodeError | aiohttp.InvalidURL):
        return "the host name in the URL is not valid"
    if isinstance(error, _CUT):
        return "the connection was cut"
    if isinstance(error, aiohttp.ClientOSError):  # what aiohttp makes of a system's error; its words may name the URL
        return "the connection was cut" if error.errno in _CUT_NUMBERS else f"the connection failed: {_reason(error)}"
    if isinstance(error, aiohttp.ClientConnectionError):  # TLS to a proxy, and in it TLS that CPython could not begin
        return "the connection failed"
    if isinstance(error, aiohttp.ClientResponseError):
        return "the answer is no HTTP that can be read"
    if isinstance(error, OSError) and error.strerror:
        return f"{type(error).__name__}: {error.strerror}"
    return type(error).__name__


def _why_not_connected(error: OSError) -> str:
    """Why there is no connection, and for what TLS refuses also what to check."""
    if isinstance(error, ssl.SSLCertVerificationError):
        advice = _CERTIFICATE_ADVICE.get(error.verify_code, _TRUST_ADVICE)
        return f"its certificate is refused: {error.verify_message.rstrip('.')}; {advice}"
    if isinstance(error, ssl.SSLError) and error.reason == "WRONG_VERSION_NUMBER":
        return "there is no TLS: check the port, and whether it is https"
    if isinstance(error, _CUT):  # in the middle of its TLS handshake, where there are often no other words
        return error.strerror or "the connection was cut"
    return error.strerror or type(error).__name__


def _reason(error: OSError) -> str:
    """The TLS library's words, or the system's for the number."""
    words = error.strerror or ""
    return words if words.startswith(_TLS_WORDS) else os.strerror(error.errno or 0)
