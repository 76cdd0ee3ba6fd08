"""Whether a film is whole, by its own boxes: for answers that do not say how long they are, or say it wrongly.

An MP4 (QuickTime, M4V) is a row of boxes, and each begins with its own size. Followed from the first byte on, they show
where the film ends: a cut leaves the last box short. No I/O; the pieces come in order, and only the headers are read.
"""

from __future__ import annotations

import attrs

#: The boxes that such a film may begin with.
_FIRST_BOXES = frozenset({b"ftyp", b"styp", b"moov", b"mdat", b"moof", b"wide", b"free", b"skip", b"pnot"})
#: The boxes that hold a film's index and its pictures.
_SUBSTANCE = frozenset({b"moov", b"mdat", b"moof"})
#: Films have a handful of boxes at this level, or some thousand in small fragments. More are not worth the loop's time.
_MAX_BOXES = 5_000
#: The most boxes before the index and the pictures. A film of more boxes without either is of an unknown kind.
_OPENING_BOXES = 3
#: How other videos and pictures begin: Matroska and WebM, AVI and WebP, GIF, JPEG, PNG.
_MEDIA = (b"\x1aE\xdf\xa3", b"RIFF", b"GIF8", b"\xff\xd8\xff", b"\x89PNG")


def begins_as_media(piece: bytes | bytearray) -> bool:
    """Whether these first bytes are those of a video or a picture."""
    return piece[4:8] in _FIRST_BOXES or piece.startswith(_MEDIA)


@attrs.define
class Boxes:
    """Follows the boxes of a film from its first byte on."""

    _is_followed: bool = True
    _seen: int = 0
    _next: int = 0
    """Where the next box begins."""
    _header: bytearray = attrs.field(factory=bytearray)
    _names: list[bytes] = attrs.field(factory=list)

    @property
    def is_film(self) -> bool:
        """Whether every box so far could be followed, and there was one."""
        return self._is_followed and bool(self._names)

    @property
    def is_whole(self) -> bool:
        """Whether the last box ends where the bytes end, and the film has both its index and its pictures.

        A film that was cut between two boxes lacks one of the two: the one that the server puts last.
        """
        has_index, has_pictures = b"moov" in self._names, b"mdat" in self._names or b"moof" in self._names
        is_complete = has_index if has_pictures else not has_index and len(self._names) > _OPENING_BOXES
        return self.is_film and self._next == self._seen and is_complete

    @property
    def is_cut(self) -> bool:
        """Whether the bytes end in the middle of its index or its pictures."""
        return self.is_film and self._next > self._seen and self._names[-1] in _SUBSTANCE

    def take(self, piece: bytes | bytearray) -> None:
        """The next bytes of the film."""
        begin, self._seen = self._seen, self._seen + len(piece)
        while self._is_followed and (at := self._next + len(self._header) - begin) < len(piece):
            self._header += piece[at : at + self._header_size() - len(self._header)]
            if len(self._header) == self._header_size():
                self._step()

    def _header_size(self) -> int:
        """16 bytes where the size does not fit into the first four, which then say 1."""
        return 16 if len(self._header) >= 8 and self._header[:4] == b"\0\0\0\1" else 8

    def _step(self) -> None:
        """Goes on to the next box. A size of 0 means "to the end of the file", which says nothing of where that is."""
        header, name = self._header, bytes(self._header[4:8])
        size = int.from_bytes(header[8:] or header[:4])
        is_known = bool(self._names) or name in _FIRST_BOXES
        self._is_followed = is_known and size >= len(header) and len(self._names) < _MAX_BOXES
        self._names.append(name)
        self._next += size
        self._header = bytearray()
