"""Signed URLs: the holder of one may fetch the film until it expires, and a URL cannot be made up."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Mapping
from urllib.parse import urlencode

import attrs

from .wire import Refusal


def same_secret(one: str, other: str) -> bool:
    """Whether the two are equal, in a time that does not tell how far they agree."""
    return hmac.compare_digest(_encoded(one), _encoded(other))


def _encoded(text: str) -> bytes:
    return text.encode(errors="surrogatepass")  # headers that are not UTF-8 come with lone surrogates


@attrs.frozen
class Signer:
    """Makes and checks the queries of result URLs, with its own secret."""

    secret: bytes = attrs.field(repr=False)

    def sign(self, path: str, expires_at: float) -> str:
        """``path`` with a query that opens it until ``expires_at`` (Unix seconds, to the millisecond)."""
        expires = f"{expires_at:.3f}"
        return f"{path}?{urlencode({'expires': expires, 'sig': self._signature(path, expires)})}"

    def check(self, path: str, query: Mapping[str, str], now: float) -> None:
        """Raises ``Refusal`` with 403 unless ``query`` opens ``path`` at ``now``."""
        expires = query.get("expires", "")
        if not same_secret(self._signature(path, expires), query.get("sig", "")):
            raise Refusal.of(403, "the signature of this URL is not valid")
        if now >= float(expires):
            raise Refusal.of(403, "this URL has expired")

    def _signature(self, path: str, expires: str) -> str:
        return hmac.new(self.secret, _encoded(f"{path}\n{expires}"), hashlib.sha256).hexdigest()
