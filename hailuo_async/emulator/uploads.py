"""The images that were put on the service once, to be used in many jobs."""

from __future__ import annotations

import email
from email.message import Message
from urllib.parse import quote

import attrs

from .films import Picture
from .pictures import look_at
from .wire import Refusal, Request

MAX_UPLOAD_BYTES = 16 * 1024 * 1024


@attrs.frozen
class Upload:
    """A file as it came: its name, its content, and what it shows."""

    filename: str
    kind: str
    """``jpeg``, ``png`` or ``webp``: by content."""
    picture: Picture


@attrs.frozen
class StoredUpload:
    """An upload that the service keeps, and serves at ``path``."""

    file_id: str
    upload: Upload
    created_at: float

    @property
    def path(self) -> str:
        return f"/media/{self.file_id}/{quote(self.upload.filename, safe='')}"

    @property
    def data(self) -> bytes:
        return self.upload.picture.data or b""

    def described(self, origin: str) -> dict[str, object]:
        """What an upload answers of it."""
        return {
            "file_id": self.file_id,
            "type": "image",
            "url": origin + self.path,
            "filename": self.upload.filename,
            "size": len(self.data),
            "created_at": int(self.created_at),
        }


def read_upload(request: Request) -> Upload:
    """The file in the multipart field ``file`` of a request. Raises ``Refusal`` with 400 or 413."""
    filename, data = _find_file(request)
    if len(data) > MAX_UPLOAD_BYTES:
        raise Refusal.of(413, "a file may have at most 16 MiB")
    look = look_at(data)
    if look is None:
        raise Refusal(400, "Invalid format: file must be JPG, PNG or WebP")
    return Upload(filename, look.kind, Picture(filename, data, look.size))


def _find_file(request: Request) -> tuple[str, bytes]:
    kind = _read_headers(b"Content-Type: " + request.headers.get("content-type", "").encode(errors="replace"))
    boundary = kind.get_param("boundary")
    if kind.get_content_type() != "multipart/form-data" or not isinstance(boundary, str):
        raise Refusal(400, "Invalid format: Content-Type must be multipart/form-data with a boundary")
    for part in (b"\r\n" + request.body).split(b"\r\n--" + boundary.encode())[1:-1]:
        head, _, content = part.removeprefix(b"\r\n").partition(b"\r\n\r\n")
        headers = _read_headers(head)
        if headers.get_param("name", header="content-disposition") == "file":
            return headers.get_filename("file"), content
    raise Refusal(400, "Missing required parameter: file")


def _read_headers(head: bytes) -> Message:
    return email.message_from_string(head.decode(errors="replace") + "\r\n\r\n")


@attrs.define
class Shelf:
    """The uploads by their ids. They stay, in memory, as long as the emulator does."""

    _stored: dict[str, StoredUpload] = attrs.field(factory=dict, init=False)

    def put(self, upload: Upload, now: float) -> StoredUpload:
        """Keeps ``upload`` under an id of its own."""
        stored = StoredUpload(f"file-{len(self._stored) + 1:06d}", upload, now)
        self._stored[stored.file_id] = stored
        return stored

    def find(self, path: str) -> StoredUpload | None:
        """What is served at ``path``: the id in it decides, not the name behind it."""
        match path.split("/"):
            case ["", "media", file_id, *_]:
                return self._stored.get(file_id)
        return None
