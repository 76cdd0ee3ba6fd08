"""The bytes that are sent for an image: exact, the same each time, never of another file, and never all at once."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from hailuo_async._images.content import RAW_PIECE, FileContent, Label
from hailuo_async._images.frame import Frame, inspect_image
from hailuo_async._images.source import ImageSource
from hailuo_async.errors import ImageError

from ..support.memory import peak_memory
from ..support.pictures import FIELD, JPEG, data_url, padded


def refusal(act: Callable[[], object]) -> ImageError:
    with pytest.raises(ImageError) as caught:
        act()
    assert caught.value.field == FIELD
    return caught.value


def count(frame: Frame) -> int:
    return sum(map(len, frame.pieces()))


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["file", "bytes", "data URL"])
@pytest.mark.parametrize(
    "size", [*range(len(JPEG), len(JPEG) + 8), *(n * RAW_PIECE + more for n in (1, 2) for more in (-2, -1, 0, 1, 2))]
)
def test_the_pieces_are_the_exact_base64_of_the_content_and_as_long_as_was_said(
    size: int, kind: str, tmp_path: Path
) -> None:
    content = padded(size)
    path = tmp_path / "photo.png"
    path.write_bytes(content)
    sources: dict[str, ImageSource] = {"file": path, "bytes": content, "data URL": data_url(content, "image/png")}
    frame = inspect_image(FIELD, sources[kind])
    pieces, raw = list(frame.pieces()), list(frame.raw_pieces())
    assert b"".join(pieces) == data_url(content).encode()
    assert sum(map(len, pieces)) == frame.encoded_length
    assert (b"".join(raw), frame.size) == (content, size)
    assert max(map(len, pieces)) <= 2**18 + len("data:image/jpeg;base64,")
    assert max(map(len, raw)) <= RAW_PIECE


def test_the_pieces_are_the_same_each_time(photo: Path) -> None:
    frame = inspect_image(FIELD, photo)
    assert list(frame.pieces()) == list(frame.pieces())


@pytest.mark.skipif(not os.path.isdir("/proc/self/fd"), reason="counts open files where Linux lists them")
def test_a_file_is_open_only_between_the_first_piece_and_the_end(photo: Path) -> None:
    def is_open() -> bool:
        return any(
            os.path.realpath(entry.path) == os.path.realpath(photo)
            for entry in list(os.scandir("/proc/self/fd"))
            if entry.is_symlink()
        )

    frame = inspect_image(FIELD, photo)
    for pieces in (frame.pieces(), frame.raw_pieces()):
        seen = [is_open()]
        next(pieces)
        seen.append(is_open())
        pieces.close()
        seen.append(is_open())
        assert seen == [False, True, False]
    list(frame.pieces())
    assert not is_open()


def grow(path: Path) -> None:
    with path.open("ab") as file:
        file.write(b"more")


def shrink(path: Path) -> None:
    os.truncate(path, path.stat().st_size - 1)


def touch(path: Path) -> None:
    os.utime(path, ns=(0, path.stat().st_mtime_ns + 1))


def replace(path: Path) -> None:
    before = path.stat()
    other = path.with_name("other")
    other.write_bytes(path.read_bytes())
    os.utime(other, ns=(before.st_atime_ns, before.st_mtime_ns))
    other.replace(path)


def become_a_fifo(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


def become_a_directory(path: Path) -> None:
    path.unlink()
    path.mkdir()


@pytest.mark.parametrize(
    ("change", "value"),
    [
        (grow, "394220 bytes where there were 394216"),
        (shrink, "394215 bytes where there were 394216"),
        (touch, "a later time of modification"),
        (replace, "another file in its place"),
        (become_a_fifo, "a FIFO"),
        (become_a_directory, "Is a directory: {path}"),
        (Path.unlink, "No such file or directory: {path}"),
    ],
)
def test_a_file_that_changed_since_it_was_looked_at_gives_not_one_piece(
    change: Callable[[Path], None], value: str, photo: Path
) -> None:
    frame = inspect_image(FIELD, photo)
    change(photo)
    given: list[bytes] = []
    error = refusal(lambda: given.extend(frame.pieces()))
    assert (error.value, given) == (value.format(path=photo), [])


@pytest.mark.parametrize("change", [grow, shrink, touch])
def test_a_file_that_changes_while_it_is_sent_never_gives_a_whole_body(
    change: Callable[[Path], None], photo: Path
) -> None:
    frame = inspect_image(FIELD, photo)
    pieces = frame.pieces()
    given = [next(pieces)]
    change(photo)
    refusal(lambda: given.extend(pieces))
    assert sum(map(len, given)) < frame.encoded_length


def test_a_file_that_is_replaced_while_it_is_sent_goes_on_as_it_was(photo: Path) -> None:
    content = photo.read_bytes()
    pieces = inspect_image(FIELD, photo).raw_pieces()
    given = [next(pieces)]
    replace(photo)
    assert b"".join([*given, *pieces]) == content


@pytest.mark.parametrize(
    ("spoil", "value"),
    [
        (lambda text: text[:-1], "528287 characters, no multiple of 4"),
        (lambda text: text[:-3] + "===", None),
        (lambda text: text + "====", None),
        (lambda text: text + "AAA=" + "AAAA", None),
        (lambda text: text[:1000] + "\n" + text[1001:], None),
        (lambda text: text[:1000] + "-" + text[1001:], None),
        (lambda text: text[:1000] + "é" + text[1001:], None),
        (lambda text: text[:1000] + "\ud800" + text[1001:], None),
        (lambda text: text[:30] + "=" + text[31:], None),
        (lambda text: text[: 23 + 2**18 - 1] + "=" + text[23 + 2**18 :], "padding before the end"),
        (lambda text: text + " ", None),
        (lambda text: text + "\n", None),
    ],
)
def test_a_data_url_must_be_strict_base64(spoil: Callable[[str], str], value: str | None) -> None:
    text = spoil(data_url(padded(2 * RAW_PIECE + 3000)))
    error = refusal(lambda: inspect_image(FIELD, text))
    assert error.rule.startswith("must be strict base64")
    assert value is None or value == error.value


BYTE_ORDER = "/sys/kernel/cpu_byteorder"


@pytest.mark.skipif(not os.path.exists(BYTE_ORDER), reason="needs a file that says it is longer than it is")
def test_a_file_that_ends_early_gives_no_short_piece() -> None:
    content = FileContent.at(BYTE_ORDER, Label(FIELD, "cpu_byteorder"))
    error = refusal(lambda: list(content.raw_pieces()))
    assert error.value in ("7 of 4096 bytes", "4 of 4096 bytes")


# --- memory -----------------------------------------------------------------------------------------------------------


def test_looking_at_and_sending_19_mb_holds_a_few_pieces(tmp_path: Path) -> None:
    path = tmp_path / "large.jpg"
    path.write_bytes(JPEG)
    os.truncate(path, 19_000_000)
    frame = inspect_image(FIELD, path)
    assert peak_memory(lambda: inspect_image(FIELD, path)) < 100_000
    assert peak_memory(lambda: inspect_image(FIELD, path, fingerprint=True)) < 5 * RAW_PIECE
    assert peak_memory(lambda: count(frame)) < 8 * RAW_PIECE


def test_neither_bytes_nor_a_data_url_is_ever_held_twice() -> None:
    content = JPEG + bytes(10_000_000)
    url = data_url(content)
    for source in (content, url):
        frame = inspect_image(FIELD, source)
        assert peak_memory(lambda source=source: inspect_image(FIELD, source)) < 8 * RAW_PIECE  # type: ignore[misc]
        assert peak_memory(lambda frame=frame: count(frame)) < 8 * RAW_PIECE  # type: ignore[misc]
