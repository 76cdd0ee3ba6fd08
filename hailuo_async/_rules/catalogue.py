"""What the service lists, as far as it can be believed: its models with their prices, and the team's uploads."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from decimal import Decimal
from typing import Any

from hailuo_async._rules.moments import read_moment
from hailuo_async._rules.task_ids import is_task_id
from hailuo_async._rules.wire import Answer, single_line
from hailuo_async.money import read_amount
from hailuo_async.outcomes import Upload
from hailuo_async.prices import ModelInfo


def read_models(answer: Answer) -> tuple[ModelInfo, ...] | None:
    """The models in the answer; ``None`` if it has no list of models. An entry without a slug is left out."""
    if not answer.is_2xx:
        return None
    for place in (answer.whole, answer.data):
        found = place.get("models") if isinstance(place, dict) else None
        if isinstance(found, list):
            return tuple(_read_each(found))
    return None


def read_uploads(answer: Answer) -> tuple[Upload, ...] | None:
    """The uploads in the answer; ``None`` if it has no list of uploads."""
    whole = answer.whole if isinstance(answer.whole, dict) else {}
    data = whole.get("data")
    inner = data if isinstance(data, dict) else {}
    for found in (data, inner.get("files"), inner.get("items"), whole.get("files")):
        if isinstance(found, list) and answer.is_2xx:
            uploads = (read_upload(item) for item in found if isinstance(item, dict))
            return tuple(upload for upload in uploads if upload is not None)
    return None


def read_upload(item: Mapping[str, Any]) -> Upload | None:
    """One upload; ``None`` without an id that could stand in a path."""
    file_id = item.get("file_id")
    if not is_task_id(file_id):
        return None
    size = item.get("size")
    is_size = isinstance(size, int) and not isinstance(size, bool) and 0 <= size < 1e12
    url, filename = _url(item.get("url")), _text(item.get("filename"))
    return Upload(file_id, url, filename, size if is_size else None, read_moment(item.get("created_at")))


def _read_each(found: list[object]) -> Iterator[ModelInfo]:
    for item in found:
        if isinstance(item, dict) and (slug := _text(item.get("slug"))):
            low, high = _read_price(item.get("price"))
            kind, unit, description = (_text(item.get(name)) for name in ("type", "unit", "description"))
            yield ModelInfo(slug, kind, low, high, unit, _url(item.get("docs_url")), description)


def _read_price(price: object) -> tuple[Decimal | None, Decimal | None]:
    """The range of a price. It needs both ends, and 0 is not a price: a missing price must not read as free."""
    fields: Mapping[str, Any] = price if isinstance(price, dict) else {"fixed": price}
    fixed = fields.get("fixed")
    ends = [read_amount(fields.get(name) if fixed is None else fixed) for name in ("min", "max")]
    known = sorted(end for end in ends if end)
    return (known[0], known[1]) if len(known) == 2 else (None, None)


def _url(value: object) -> str | None:
    """A URL to the letter: without its query, which may be a signature, it leads nowhere."""
    return value if isinstance(value, str) and value.isprintable() else None


def _text(value: object) -> str | None:
    return single_line(value) if isinstance(value, str) else None
