"""What the answers to one download mean: which bytes they bring, and whether those go on from what is held.

No I/O and no clock: ``Transfer`` is told the head of each answer and each piece of its body, in order. Invariants:

- Bytes count as held only in order, from the first one on. An answer that does not continue them begins anew.
- Checksums are those of an answer with the whole. An answer with the rest may speak of the rest alone.
- What is refused for good is a ``DownloadError``; what another try may bring is ``Again``, a new URL ``Expired``.
"""

from __future__ import annotations

import base64
import contextlib
import email.utils
import hashlib
import re
from collections.abc import Mapping

import attrs

from hailuo_async._io.download.stamp import Stamp, new_hash
from hailuo_async.errors import DownloadError
from hailuo_async.outcomes import without_query

_EXPIRED = frozenset({401, 403, 404, 410})
_LATER = frozenset({408, 425, 429})
_PAGES = frozenset({"text/html", "application/xhtml+xml", "application/json", "application/xml", "text/xml"})
_LOOKS_LIKE_A_PAGE = re.compile(rb'(?:\xef\xbb\xbf)?\s*(?:<!doctype|<html|<\?xml|\{\s*["}])', re.IGNORECASE)
_STRONG_ETAG = re.compile(r'"[\x21\x23-\x7e]*"')
_CONTENT_RANGE = re.compile(r"bytes (\d+)-\d+/(\d+)")
_DIGEST = re.compile(r"(sha-256|sha-512|md5)\s*=\s*:?([A-Za-z0-9+/]+=*):?", re.IGNORECASE)


@attrs.define(eq=False)
class Again(Exception):
    """This try failed, the next may not."""

    reason: str


@attrs.define(eq=False)
class Expired(Exception):
    """The URL is not valid, or no longer."""

    status: int


def _resource(task_id: str | None, url: str) -> str:
    """A name for what ``url`` leads to, that holds no secret: a validator means nothing for any other resource."""
    return hashlib.sha256(f"{task_id}\n{without_query(url)}".encode(errors="surrogatepass")).hexdigest()


def _validator(headers: Mapping[str, str]) -> str | None:
    """What ``If-Range`` may carry: a strong ETag, or a date that RFC 9110 (8.8.2.2) counts as strong."""
    if _STRONG_ETAG.fullmatch(headers.get("ETag", "")):
        return headers["ETag"]
    try:
        changed, now = (email.utils.parsedate_to_datetime(headers.get(name, "")) for name in ("Last-Modified", "Date"))
        return headers["Last-Modified"] if now.timestamp() - changed.timestamp() >= 1 else None
    except (ValueError, OverflowError):
        return None


def _checksums(headers: Mapping[str, str]) -> dict[str, str]:
    """The checksums that a whole answer gives, by algorithm, in hex. What cannot be one is not read as one."""
    given = [
        ("md5", headers.get("Content-MD5", "")),
        ("sha-256", headers.get("x-amz-checksum-sha256", "")),
        *_DIGEST.findall(f"{headers.get('Digest', '')},{headers.get('Repr-Digest', '')}"),
    ]
    found = {}
    for name, text in given:
        algorithm = name.lower().replace("-", "")
        with contextlib.suppress(ValueError):
            value = base64.b64decode(text, validate=True)
            if len(value) == new_hash(algorithm).digest_size:
                found[algorithm] = value.hex()
    return found


@attrs.define(kw_only=True)
class Transfer:
    """One resource under way: where it is asked for, how much of it is held, and what the rest must be."""

    url: str
    task_id: str | None
    max_bytes: int
    stamp: Stamp = attrs.field()
    held: int = 0
    total: int | None = None
    spoilt: bool = False

    @stamp.default
    def _of_the_url(self) -> Stamp:
        return Stamp(_resource(self.task_id, self.url))

    def move(self, url: str) -> None:
        """Goes on at a new URL; from zero if it seems to lead to something else."""
        self.url = url
        if _resource(self.task_id, url) != self.stamp.of:
            self._forget()

    def headers(self) -> dict[str, str]:
        """For the next request: the bytes as they are, and only those that are missing."""
        headers = {"Accept-Encoding": "identity"}
        if self.held and self.stamp.validator is not None:
            headers |= {"Range": f"bytes={self.held}-", "If-Range": self.stamp.validator}
        return headers

    def begin(self, status: int, headers: Mapping[str, str]) -> None:
        """Reads the head of an answer. Raises ``Again``, ``Expired`` or ``DownloadError`` if no video follows."""
        asked_for_rest = "Range" in self.headers()
        if status in _EXPIRED:
            raise Expired(status)
        if status in _LATER or status >= 500:
            raise Again(f"the server answered {status}")
        if asked_for_rest and (status == 416 or (status == 206 and not self._continues(headers))):
            self._forget()
            raise Again("the server has no rest of what it sent before")
        if status != 200 and not (asked_for_rest and status == 206):
            raise DownloadError(reason=f"the server answered {status}")
        _check_form(headers)
        if status == 200:
            self._start(headers)
        if self.total is not None and self.total > self.max_bytes:
            raise self.useless(f"it has {self.total} bytes, more than {self.max_bytes}")

    def take(self, piece: bytearray) -> int:
        """Counts the next piece and says where it belongs. Raises ``DownloadError`` if it cannot be right."""
        offset = self.held
        if offset == 0 and _LOOKS_LIKE_A_PAGE.match(piece):
            raise self.useless("the server sent a page, not a video")
        self.held += len(piece)
        if self.total is not None and self.held > self.total:
            raise self.useless(f"the server sent more than the {self.total} bytes that it had told")
        if self.held > self.max_bytes:
            raise self.useless(f"it is larger than {self.max_bytes} bytes")
        return offset

    def end(self) -> None:
        """Raises ``Again`` if bytes are missing, ``DownloadError`` if there never were any."""
        if self.total is not None and self.held < self.total:
            raise Again(f"the answer ended after {self.held} of {self.total} bytes")
        if self.held == 0:
            raise DownloadError(reason="the server sent nothing")

    def useless(self, reason: str) -> DownloadError:
        """The error for what no further try makes good: nothing of what came is worth keeping."""
        self._forget()
        self.spoilt = True
        return DownloadError(reason=reason)

    def _forget(self) -> None:
        self.held, self.total, self.stamp = 0, None, Stamp(_resource(self.task_id, self.url))

    def _start(self, headers: Mapping[str, str]) -> None:
        """Begins with the first byte of a whole answer."""
        self._forget()
        self.stamp = attrs.evolve(self.stamp, validator=_validator(headers), checksums=_checksums(headers))
        if "Content-Length" in headers:
            self.total = int(headers["Content-Length"])
        elif "Transfer-Encoding" not in headers and not self.stamp.checksums:
            raise DownloadError(reason="the server does not tell its length, so a cut would look like its end")

    def _continues(self, headers: Mapping[str, str]) -> bool:
        """Whether a 206 is the rest of what is held. Some servers send one although the resource has changed."""
        told = _CONTENT_RANGE.fullmatch(headers.get("Content-Range", ""))
        if told is None or int(told[1]) != self.held or self.total not in (None, int(told[2])):
            return False
        self.total = int(told[2])
        return _validator(headers) in (None, self.stamp.validator)


def _check_form(headers: Mapping[str, str]) -> None:
    if headers.get("Content-Encoding", "identity").lower() != "identity":
        raise DownloadError(reason="the server sent it compressed, although asked not to")
    if headers.get("Content-Type", "").partition(";")[0].strip().lower() in _PAGES:
        raise DownloadError(reason="the server sent a page, not a video")
