"""Which request is for what, and the reading of its body: the pure half of the service."""

from __future__ import annotations

from .catalogue import find_address
from .facts import API
from .faults import Kind
from .fields import Submission, read_submission
from .uploads import Upload, read_upload
from .wire import Refusal, Request

RESULTS = "/results/"

#: What ``read`` finds in a request: a job, a file, what is wrong with it, or nothing, where there is nothing to read.
Reading = Submission | Upload | Refusal | None


def kind_of(request: Request) -> Kind:
    """What a request is for, by its method and path."""
    if request.path.startswith(RESULTS):
        return Kind.DOWNLOAD
    if request.method == "POST" and request.path.startswith(API) and not is_upload(request):
        return Kind.SUBMIT
    if request.method == "GET" and request.path.startswith(f"{API}tasks/"):
        return Kind.QUERY
    return Kind.OTHER


def read(request: Request) -> Reading:
    """Reads and checks a request's body. Pure, and safe in any thread; a large body takes long."""
    try:
        if is_upload(request):
            return read_upload(request)
        address = find_address(segments(request)) if kind_of(request) is Kind.SUBMIT else None
        return read_submission(address.model, request) if address is not None else None
    except Refusal as refusal:
        return refusal


def is_upload(request: Request) -> bool:
    return request.method == "POST" and request.path == f"{API}media/files"


def segments(request: Request) -> list[str]:
    """The pieces of a request's path after ``/api/v1``; of any other path, from its first slash on."""
    return request.path.removeprefix(API).split("/")


def methods_at(pieces: list[str]) -> tuple[str, ...]:
    """The methods that a path after ``/api/v1`` answers; none if there is nothing at it."""
    match pieces:
        case ["tasks", _] | ["models"] | ["apikey", "validate"] | ["team", "balance"]:
            return ("GET",)
        case ["media", "files"]:
            return ("GET", "POST")
        case ["media", "files", _]:
            return ("DELETE",)
    return ("POST",) if find_address(pieces) is not None else ()
