"""Rows out of lines of JSON: one object a line, in the library's own terms or in those of the service's client.

The client's lines are ``{"modelSlug": …, "body": {…}}``; beside these two our ``key`` and ``fit`` may stand, which the
client passes over. ``null`` is as good as nothing, and a name that stands twice in an object is refused, for nobody can
say which of the two counts.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from hailuo_async._cli.jobfile.rows import BODY_FIELDS, LIBRARY_NAMES, OWN_FIELDS, Row, read_lines, unknown_name
from hailuo_async._cli.problems import Problem, kind_of

#: The names that may stand in a line of the service's client, and the fields of a job that they mean.
_SERVICE_NAMES: Mapping[str, str] = {
    "modelSlug": "model",
    **{f"body.{name}": name for name in BODY_FIELDS},
    **{name: name for name in OWN_FIELDS},
}


def read_json_lines(source: Path) -> Iterator[Row | Problem]:
    """A row for each line that is not blank, or what is wrong with it. Raises ``OSError``."""
    for line in read_lines(source):
        if isinstance(line, Problem):
            yield line
            continue
        place, text = line
        if text.strip():
            yield _read(place, text.rstrip())


def _read(place: str, text: str) -> Row | Problem:
    twice: list[str] = []
    try:
        found = json.loads(text, object_pairs_hook=partial(_object, twice))
    except json.JSONDecodeError as error:
        is_cut = error.pos >= len(text) or error.msg.startswith("Unterminated")
        got = "the end of the line inside it" if is_cut else error.msg
        return Problem(f"{place}, column {error.pos + 1}", None, f"is one whole JSON object; got {got}")
    except (ValueError, RecursionError):  # a number of thousands of digits, thousands of brackets in each other
        return Problem(place, None, "is one JSON object of plain values; got what is too long or too deep to be read")
    if not isinstance(found, dict):
        return Problem(place, None, f"is one JSON object; got {kind_of(found)}")
    doubled = tuple(Problem(place, name, "stands in an object only once; it is there twice") for name in twice)
    return _service_row(place, found, doubled) if found.keys() & {"modelSlug", "body"} else _row(place, found, doubled)


def _object(twice: list[str], pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """The object of these pairs. Adds to ``twice`` the names that come again."""
    found = dict(pairs)
    if len(found) < len(pairs):
        twice.extend(name for name, count in Counter(name for name, _ in pairs).items() if count > 1)
    return found


def _service_row(place: str, found: Mapping[str, object], problems: tuple[Problem, ...]) -> Row | Problem:
    body = found.get("body")
    if not isinstance(body, dict):
        return Problem(place, "body", f"is an object with the fields of a request; got {kind_of(body)}")
    if found.get("modelSlug") is None:
        return Problem(place, "modelSlug", "is required beside a body")
    beside = {name: value for name, value in found.items() if name != "body"}
    inside = {f"body.{name}": value for name, value in body.items()}
    return _row(place, beside | inside, problems, _SERVICE_NAMES)


def _row(
    place: str,
    found: Mapping[str, object],
    problems: tuple[Problem, ...],
    names: Mapping[str, str] = LIBRARY_NAMES,
) -> Row:
    values = {names[name]: value for name, value in found.items() if name in names}
    unknown = (Problem(place, name, unknown_name(name, names)) for name in found if name not in names)
    return Row(place, values, (*problems, *unknown), names)
