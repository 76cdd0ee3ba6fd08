"""The images that were put on the service once, to be used in many jobs."""

from __future__ import annotations

import email
from datetime import UTC, datetime
from email.message import Message
from urllib.parse import quote

import attrs

from .facts import MAX_UPLOAD_BYTES
from .films import Picture
from .pictures import inspect_image
from .wire import Refusal, Request


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

    def described(self, origin: str, *, iso_times: bool) -> dict[str, object]:
        """What an upload and a listing answer about it."""
        return {
            "file_id": self.file_id,
            "type": "image",
            "url": origin + self.path,
            "filename": self.upload.filename,
            "size": len(self.data),
            "created_at": self._created(iso_times),
        }

    def _created(self, iso_times: bool) -> str | int:
        if not iso_times:
            return round(self.created_at * 1000)
        return datetime.fromtimestamp(self.created_at, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def read_upload(request: Request) -> Upload:
    """The file in the multipart field ``file`` of a request. Raises ``Refusal`` with 400, 413 or 415."""
    filename, data = _find_file(request)
    if len(data) > MAX_UPLOAD_BYTES:
        raise Refusal.of(413, "a file may have at most 16 MiB")
    image = inspect_image(data)
    if image is None:
        raise Refusal(400, "Invalid format: file must be JPG, PNG or WebP")
    return Upload(filename, image.kind, Picture(filename, data, image.size))


def _find_file(request: Request) -> tuple[str, bytes]:
    kind = _read_headers(b"Content-Type: " + request.headers.get("content-type", "").encode(errors="replace"))
    boundary = kind.get_param("boundary")
    if kind.get_content_type() != "multipart/form-data":
        raise Refusal.of(415, "Content-Type must be multipart/form-data")
    if not isinstance(boundary, str):
        raise Refusal(400, "Invalid format: multipart/form-data needs a boundary")
    for part in (b"\r\n" + request.body).split(b"\r\n--" + boundary.encode())[1:-1]:
        head, _, content = part.removeprefix(b"\r\n").partition(b"\r\n\r\n")
        headers = _read_headers(head)
        if headers.get_param("name", header="content-disposition") == "file":
            return headers.get_filename("file"), content
    raise Refusal(400, "Missing required parameter: file")


def _read_headers(head: bytes) -> Message:
    return email.message_from_string(head.decode(errors="replace") + "\r\n\r\n")


@attrs.define
class UploadStore:
    """The uploads that the team holds, by their ids, the oldest first."""

    _stored: dict[str, StoredUpload] = attrs.field(factory=dict, init=False)
    _count: int = attrs.field(default=0, init=False)

    def expire(self, now: float, last_s: float) -> None:
        for stored in list(self._stored.values()):
            if stored.created_at + last_s > now:
                break
            del self._stored[stored.file_id]

    def add(self, upload: Upload, now: float, max_files: int | None) -> StoredUpload:
        """Keeps ``upload`` under an id of its own. Raises ``Refusal`` with 400 if ``max_files`` are kept already."""
        if max_files is not None and len(self._stored) >= max_files:
            raise Refusal(400, f"Invalid parameters: the team may hold {max_files} files; delete one first")
        self._count += 1
        stored = StoredUpload(f"file-{self._count:06d}", upload, now)
        self._stored[stored.file_id] = stored
        return stored

    def all(self) -> list[StoredUpload]:
        return list(self._stored.values())

    def delete(self, file_id: str) -> StoredUpload:
        """Removes one upload. Raises ``Refusal`` with 404 if there is none with this id."""
        stored = self._stored.pop(file_id, None)
        if stored is None:
            raise Refusal.of(404, f"there is no file {file_id}")
        return stored

    def find(self, path: str) -> StoredUpload | None:
        """The upload that is served at ``path``: the id in it decides, not the name behind it."""
        match path.split("/"):
            case ["", "media", file_id, *_]:
                return self._stored.get(file_id)
        return None
