"""One thing that is wrong with what was given, in a line that fits any terminal."""

from __future__ import annotations

import attrs

from hailuo_async.errors import ImageError, JobError, shown

#: More than a screen's line or two is no clear line; and a value may be an image of 27 MB.
_MAX_CHARACTERS = 500


def one_line(text: str) -> str:
    """``text`` without what would break a line or an encoder, control characters and lone surrogates, and not long."""
    head = text[:_MAX_CHARACTERS]
    if not head.isprintable():
        head = "".join(character if character.isprintable() else ascii(character)[1:-1] for character in head)
    return head if len(text) <= _MAX_CHARACTERS else head + "…"


@attrs.frozen
class Problem:
    """One thing that is wrong, or worth knowing. ``str`` of it is the whole line."""

    where: str = attrs.field(converter=one_line)
    """The file, and in it the line and, where that is known, the column: ``jobs.jsonl, line 12, column 40``."""
    field: str | None = attrs.field(converter=attrs.converters.optional(one_line))
    """The field's name as it was given."""
    message: str = attrs.field(converter=one_line)
    """The rule, and what breaks it."""
    is_whole: bool = False
    """Whether nothing of the file can be used: what its rows ask for is not certain."""
    can_fit: bool = False
    """Whether ``--fit`` may make the picture obey the rule."""

    def __str__(self) -> str:
        if self.field is None or self.where.endswith(f", column {self.field}"):
            return f"{self.where}: {self.message}"
        return f"{self.where}: {self.field}: {self.message}"


def error_message(error: JobError) -> str:
    """What ``error`` says beside its field's name. What was found in an image is in words already."""
    if isinstance(error, ImageError):
        return f"({error.image}) found {error.value}; {error.rule}"
    return f"{error.rule}; got {shown(error.value)}"


def type_name(value: object) -> str:
    """What ``value`` is, without a look inside: it may be long, and it may be a signed URL."""
    return "nothing" if value is None else type(value).__name__
