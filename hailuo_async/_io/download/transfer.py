"""What the answers to one download mean: which bytes they bring, and whether those go on from what is held.

No I/O and no clock: ``Transfer`` gets the head of each answer and each piece of its body, in order. Invariants:

- Bytes count as held only in order, from the first one on. An answer that does not continue them begins again.
- Checksums are those of an answer with the whole. An answer with the rest may speak of the rest alone.
- A ``DownloadError`` means that no try can succeed, ``Again`` that the next may, ``Expired`` that a new URL may.
- A video was paid for, so an unusual answer is used as far as its bytes can be checked. What cannot be checked is
  refused, with the rule and the option that allows it, ``allow_unchecked``.
"""

from __future__ import annotations

import base64
import contextlib
import email.utils
import hashlib
import re
from collections.abc import Mapping

import attrs

from hailuo_async._io.download.container import Boxes, begins_as_media
from hailuo_async._io.download.encoding import Inflater, encodings, is_compressed, is_readable
from hailuo_async._io.download.stamp import Stamp, new_hash
from hailuo_async._io.download.values import Limits
from hailuo_async._rules.rate_headers import read_rate_headers
from hailuo_async.errors import DownloadError, without_query

#: 203: a proxy has changed something on the way, which need not be the film.
_WHOLE = frozenset({200, 203})
_EXPIRED = frozenset({401, 403, 404, 410})
_LATER = frozenset({408, 425, 429})
_PAGES = frozenset({"text/html", "application/xhtml+xml", "application/json", "application/xml", "text/xml"})
_PAGE = "the server sent a page, not a video"
_LOOKS_LIKE_A_PAGE = re.compile(rb'(?:\xef\xbb\xbf)?\s*(?:<!doctype|<html|<\?xml|\{\s*["}])', re.IGNORECASE)
_STRONG_ETAG = re.compile(r'"[\x21\x23-\x7e]*"')
_CONTENT_RANGE = re.compile(r"bytes[ =]+(\d+)-(\d+)/(\d+|\*)")
_DIGEST = re.compile(r"(sha-256|sha-512|md5)\s*=\s*:?([A-Za-z0-9+/]+=*):?", re.IGNORECASE)


@attrs.define(eq=False)
class Again(Exception):
    """This try failed, the next may not. ``after_s``: not before so many seconds, by the server's word."""

    reason: str
    after_s: float = 0.0


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


def _is_page(headers: Mapping[str, str], *more: str) -> bool:
    return headers.get("Content-Type", "").partition(";")[0].strip().lower() in (*_PAGES, *more)


def _length(headers: Mapping[str, str]) -> int | None:
    return int(headers["Content-Length"]) if "Content-Length" in headers else None


def _length_of_unasked_part(headers: Mapping[str, str]) -> int | None:
    """How long the whole is of which a 206 brings the first bytes; often all. ``None`` if the answer does not say."""
    found = _CONTENT_RANGE.fullmatch(headers.get("Content-Range", ""))
    if found is None or int(found[1]) != 0:
        raise DownloadError(reason="the server answered 206, with a part that was not asked for")
    return None if found[3] == "*" else int(found[3])


@attrs.define(kw_only=True)
class Transfer:
    """One resource under way: where it is asked for, how much of it is held, and what the rest must be."""

    url: str = attrs.field(repr=without_query)
    task_id: str | None
    limits: Limits
    start: int = 0
    """The first byte that is wanted. What lies before it is not fetched, if the server can leave it out."""
    stamp: Stamp = attrs.field()
    held: int = attrs.field(default=attrs.Factory(lambda self: self.start, takes_self=True))
    total: int | None = None
    spoilt: bool = False
    _boxes: Boxes | None = None
    """Follows the film to its own end; ``None`` if it cannot be followed, or a checksum covers it."""
    _shows_its_end: bool = False
    """Whether the answer says how long it is."""
    _labels: tuple[str, ...] = ()
    """How the answer says that it is encoded."""
    _is_page: bool = False
    """Whether the answer says that it is a page."""
    _inflater: Inflater | None = None

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
        elif self._is_at_start:
            headers |= {"Range": f"bytes={self.start}-"}
        return headers

    @property
    def _is_at_start(self) -> bool:
        """Whether a part from ``start`` on is asked for, and nothing of it came yet."""
        return self.held == self.start > 0

    def begin(self, status: int, headers: Mapping[str, str]) -> None:
        """Reads the head of an answer. Raises ``Again``, ``Expired`` or ``DownloadError`` if no video follows."""
        asked_for_rest = "Range" in self.headers()
        if status in _EXPIRED:
            raise Expired(status)
        if status in _LATER or status >= 500:
            raise Again(f"the server answered {status}", read_rate_headers(headers).retry_after_s or 0.0)
        if asked_for_rest and (status == 416 or (status == 206 and not self._continues(headers))):
            self._forget()
            raise Again("the server has no rest of what it sent before")
        if asked_for_rest and status != 206 and _is_page(headers):
            raise DownloadError(reason=_PAGE)  # a page to log in, say: what is held stays worth keeping
        if status in _WHOLE:
            self._start(headers, _length(headers), is_chunked="chunked" in headers.get("Transfer-Encoding", "").lower())
        elif status == 206 and not asked_for_rest:
            self._start(headers, _length_of_unasked_part(headers), is_chunked=False)
        elif status != 206:
            raise DownloadError(reason=f"the server answered {status}")
        if self.total is not None and self.total > self.limits.max_bytes:
            raise self.useless(f"it has {self.total} bytes, more than {self.limits.max_bytes}")

    def inflater(self, first: bytes | bytearray, max_piece_bytes: int) -> Inflater | None:
        """What undoes the compression of the body that begins with ``first``, if it is compressed.

        Raises ``DownloadError`` for an encoding that cannot be undone here.
        """
        self._inflater = None
        if not self.limits.allow_unchecked and not is_readable(self._labels, first):
            rule = f"the server says that it is encoded as {', '.join(self._labels)!a}, which is not undone here"
            raise self.useless(f"{rule}; allow_unchecked=True saves the bytes as they come")
        if is_compressed(self._labels, first):
            # The length, the checksums and the ranges of this answer are those of the compressed bytes.
            self.total, self._boxes = None, None
            self.stamp = attrs.evolve(self.stamp, validator=None, checksums={})
            self._inflater = Inflater(max_piece_bytes)
        return self._inflater

    def take(self, piece: bytes | bytearray) -> int:
        """Counts the next piece and says where it belongs. Raises ``DownloadError`` if it cannot be right."""
        offset = self.held
        if offset == 0 and (_LOOKS_LIKE_A_PAGE.match(piece) or (self._is_page and not begins_as_media(piece))):
            raise self.useless(_PAGE)
        if self._boxes is not None:
            self._boxes.take(piece)
        self.held += len(piece)
        if self.total is not None and self.held > self.total:
            raise self.useless(f"the server sent more than the {self.total} bytes that it had announced")
        if self.held > self.limits.max_bytes:
            raise self.useless(f"it is larger than {self.limits.max_bytes} bytes")
        return offset

    def end(self) -> None:
        """Raises ``Again`` if bytes are missing, ``DownloadError`` if there never were any, or if that is not known."""
        if self.total is not None and self.held < self.total:
            raise Again(f"the answer ended after {self.held} of {self.total} bytes")
        if self._inflater is not None and not self._inflater.is_whole:
            raise Again("the compressed answer ended before its end")
        if self.held == 0:
            raise DownloadError(reason="the server sent nothing")
        if self._boxes is not None and not self.limits.allow_unchecked:
            self._check_the_end(self._boxes)

    def useless(self, reason: str) -> DownloadError:
        """The error for a download that no further try can mend. Drops what came."""
        self._forget()
        self.spoilt = True
        return DownloadError(reason=reason)

    def _check_the_end(self, boxes: Boxes) -> None:
        """Raises ``Again`` for an MP4 that was cut, and ``DownloadError`` for what does not show its own end.

        The length may be that of a part which a proxy or a disk on the way has kept: then no new try brings more.
        """
        option = "allow_unchecked=True saves it all the same"
        if self._shows_its_end:
            if boxes.is_cut:
                raise self.useless(f"the film was cut before the server sent it: download it again later, or {option}")
            return
        if boxes.is_whole:
            return
        if boxes.is_film:
            raise Again(f"the server does not say how long it is, and the film in it is not whole ({option})")
        rule = "the server does not say how long it is, so a cut would look like its end, which only an MP4 shows"
        raise self.useless(f"{rule}; {option}")

    def _forget(self) -> None:
        self.held, self.total, self.stamp = 0, None, Stamp(_resource(self.task_id, self.url))

    def _start(self, headers: Mapping[str, str], total: int | None, *, is_chunked: bool) -> None:
        """Begins with the first byte of an answer that has ``total`` bytes, or ends where its chunks do."""
        self._forget()
        self.stamp = attrs.evolve(self.stamp, validator=_validator(headers), checksums=_checksums(headers))
        self._labels = encodings(headers)
        self._is_page = _is_page(headers, "text/plain")
        self.total = total
        self._shows_its_end = total is not None or is_chunked
        self._boxes = Boxes() if self.start or not self.stamp.checksums else None

    def _continues(self, headers: Mapping[str, str]) -> bool:
        """Whether a 206 is the rest of what is held. Some servers send one although the resource has changed."""
        found = _CONTENT_RANGE.fullmatch(headers.get("Content-Range", ""))
        if found is None or found[3] == "*" or int(found[1]) != self.held or self.total not in (None, int(found[3])):
            return False
        self.total, self._boxes, self._labels = int(found[3]), None, ()
        if self._is_at_start and self.stamp.validator is None:
            self.stamp = attrs.evolve(self.stamp, validator=_validator(headers))
        return _validator(headers) in (None, self.stamp.validator)
