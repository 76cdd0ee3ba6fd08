"""The table of models: what each one takes, and where it is asked for.

Adding a model is adding a row, and one in ``prices`` where its prices are known. Beside these two tables, only the
defaults of jobs name a model.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import attrs

from hailuo_async.errors import JobError

#: A submit path: the API's own prefix, then plain segments. Nothing that could leave the origin or add a query.
_PATH = re.compile(r"/api/v[0-9]+(/[A-Za-z0-9][A-Za-z0-9._-]*)+")


def _read_only(sizes: Mapping[int, tuple[str, ...]]) -> Mapping[int, tuple[str, ...]]:
    return MappingProxyType(dict(sizes))


@attrs.frozen
class Model:
    """One row: what a model accepts.

    ``sizes`` gives the resolutions that each duration (seconds) may have, the service's default first. An empty
    mapping means that the rules are not known here, and are left to the service.
    """

    slug: str
    path: str
    sizes: Mapping[int, tuple[str, ...]] = attrs.field(converter=_read_only, hash=False)
    takes_last_frame: bool = False
    camera_commands: bool = True
    fast_pretreatment: bool = False

    def __reduce__(self) -> tuple[Any, ...]:
        return _rebuild, (dict(attrs.asdict(self, recurse=False), sizes=dict(self.sizes)),)


def _rebuild(fields: dict[str, Any]) -> Model:
    return Model(**fields)


# 10 seconds only at 768P, 1080P only at 6 seconds (reference); 512P is named for hailuo-02-i2v alone (documents).
_768_1080 = MappingProxyType({6: ("768P", "1080P"), 10: ("768P",)})
_512_768_1080 = MappingProxyType({6: ("768P", "512P", "1080P"), 10: ("768P",)})
_720 = MappingProxyType({6: ("720P",)})

_ROWS = (
    Model("hailuo-2.3-i2v", "/api/v1/minimax/hailuo-2.3-i2v/async", _768_1080, fast_pretreatment=True),
    Model("hailuo-02-fl2v", "/api/v1/image-to-video/minimax/hailuo-02-fl2v/async", _768_1080, takes_last_frame=True),
    Model("hailuo-2.3-fast-i2v", "/api/v1/minimax/hailuo-2.3-fast-i2v/async", _768_1080, fast_pretreatment=True),
    Model("hailuo-02-i2v", "/api/v1/minimax/hailuo-02-i2v/async", _512_768_1080),
    Model("minimax-i2v-01", "/api/v1/minimax/minimax-i2v-01/async", _720, camera_commands=False),
    Model("minimax-i2v-01-live", "/api/v1/minimax/minimax-i2v-01-live/async", _720, camera_commands=False),
    Model("minimax-i2v-01-director", "/api/v1/minimax/minimax-i2v-01-director/async", _720),
)

MODELS: Mapping[str, Model] = MappingProxyType({row.slug: row for row in _ROWS})
"""Every model that is known here, by its slug."""


def find_model(name: object, *, takes_last_frame: bool) -> Model:
    """The row for ``name``: a slug, a slug with its provider (``minimax/…``), or a whole submit path.

    A path whose model is in the table keeps that model's rules and replaces only where it is asked for; the rules of
    any other are left to the service. Raises ``JobError`` for a name that is neither, or is of the other kind.
    """
    if not isinstance(name, str) or not name:
        raise JobError(field="model", value=name, rule="must be a model's slug or its path, a str")
    model = _at_path(name, takes_last_frame) if name.startswith("/") else MODELS.get(name.removeprefix("minimax/"))
    if model is None:
        known = ", ".join(MODELS)
        raise JobError(
            field="model", value=name, rule=f"must be one of {known}, or a whole path that begins with /api/"
        )
    if model.takes_last_frame != takes_last_frame:
        job = "FirstLastFrameToVideo" if model.takes_last_frame else "ImageToVideo"
        raise JobError(field="model", value=name, rule=f"belongs to the other kind of job: use {job} for it")
    return model


def _at_path(path: str, takes_last_frame: bool) -> Model:
    if not _PATH.fullmatch(path) or path.endswith("/async/async"):
        raise JobError(
            field="model", value=path, rule="must be /api/v1/… of plain segments, without a query, where it is a path"
        )
    slug = path.removesuffix("/async").rpartition("/")[2]
    known = MODELS.get(slug)
    if known is not None:
        return attrs.evolve(known, path=path)
    return Model(slug, path, MappingProxyType({}), takes_last_frame, fast_pretreatment=True)
