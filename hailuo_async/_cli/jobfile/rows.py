"""A row of a file of jobs, by the names of a job's fields.

``jsonlines`` and ``spreadsheet`` read rows out of text; ``fields`` says what their values mean. A fault in a file never
raises here: it becomes a `Problem`, and the next row is read.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Mapping
from functools import lru_cache
from pathlib import Path

import attrs

from hailuo_async._cli.problems import Problem

#: The fields that the service calls by the same names.
BODY_FIELDS = (
    "first_frame_image",
    "last_frame_image",
    "prompt",
    "duration",
    "resolution",
    "prompt_optimizer",
    "fast_pretreatment",
)
OWN_FIELDS = ("key", "fit")

#: The names that may stand in a row of our own, and the fields of a job that they mean.
LIBRARY_NAMES: Mapping[str, str] = {name: name for name in (*BODY_FIELDS, "model", *OWN_FIELDS)}
#: Other names of some of them, as the command line has.
_OTHER_NAMES = {
    "image": "first_frame_image",
    "first": "first_frame_image",
    "first_frame": "first_frame_image",
    "first_image": "first_frame_image",
    "last": "last_frame_image",
    "last_frame": "last_frame_image",
    "last_image": "last_frame_image",
}

#: A longer name is not compared with ours: that takes long.
_LONGEST_NAME = 40
#: ``{name}`` in a prompt stands for what is in that column, ``{{name}}`` for itself.
PLACEHOLDER = re.compile(r"\{\{([^{}\n]*)\}\}|\{([^{}\n]*)\}")


@attrs.define
class Row:
    """One row, by the names of a job's fields. A value of ``None`` was not given."""

    place: str
    values: Mapping[str, object]
    problems: tuple[Problem, ...] = ()
    """The problems of its names."""
    names: Mapping[str, str] = LIBRARY_NAMES
    """The fields that its names mean."""
    has_columns: bool = False
    more: Mapping[str, object] = attrs.field(factory=dict)
    """All of its values by its own names: a prompt may name them in braces."""

    def problem(self, field: str, message: str, *, can_fit: bool = False) -> Problem:
        """A problem with the value of ``field``, under the name that it has in the file."""
        name = next((name for name, meant in self.names.items() if meant == field), field)
        place = f"{self.place}, column {name}" if self.has_columns else self.place
        return Problem(place, name, message, can_fit=can_fit)


class PictureRow(Row):
    """A picture of a folder, whose place is its name."""

    def problem(self, field: str, message: str, *, can_fit: bool = False) -> Problem:
        """A problem of the picture, which its place names, or of an option, such as a prompt with its name in it."""
        name = None if field.endswith("_image") else field
        return Problem(self.place, name, message.removeprefix(f"({Path(self.place).name}) "), can_fit=can_fit)


@lru_cache(256)
def meant_by(name: str) -> str | None:
    """The field that a column or a name in an object means, ``None`` for no field: capitals and spaces do not count."""
    plain = "_".join(name.lower().replace("-", " ").replace("_", " ").split())
    return LIBRARY_NAMES.get(plain) or _OTHER_NAMES.get(plain)


def named_in(prompt: object) -> set[str]:
    """The names that ``prompt`` has in braces."""
    if not isinstance(prompt, str) or "{" not in prompt:
        return set()
    return {found[2].strip().casefold() for found in PLACEHOLDER.finditer(prompt) if found[2] is not None}


def unknown_name(name: str, names: Iterable[str]) -> str:
    """The message for a name that is not among ``names``."""
    near = difflib.get_close_matches(name.lower(), names, n=1) if len(name) <= _LONGEST_NAME else []
    return f"is no field; did you mean {near[0]}?" if near else f"is no field; the fields are {', '.join(names)}"
