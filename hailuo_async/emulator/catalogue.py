"""The models that the emulator plays, a row each, and the three spellings of their paths."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from decimal import Decimal

import attrs

from .facts import PRICES_01, PRICES_02, PRICES_02_512P, PRICES_23, PRICES_23_FAST, PROVIDER, TYPE

_UNIT = "$/sec"


@attrs.frozen
class Model:
    """What one model takes and costs. Resolutions start with the default."""

    name: str
    description: str
    prices: Mapping[tuple[str, int], Decimal]
    """USD for a second of video, by resolution and seconds."""
    required: tuple[str, ...] = ("first_frame_image",)
    optional: tuple[str, ...] = ()
    durations: tuple[int, ...] = (6, 10)
    resolutions: tuple[str, ...] = ("768P", "1080P")
    pretreats: bool = False
    """Whether it has the field ``fast_pretreatment``."""
    featured: bool = False

    @property
    def slug(self) -> str:
        return f"{PROVIDER}/{self.name}"

    @property
    def model_id(self) -> str:
        """The name that answers carry: a hyphen where the slug has its slash, as the reference of fl2v shows."""
        return f"{PROVIDER}-{self.name}"

    @property
    def images(self) -> tuple[str, ...]:
        return self.required + self.optional

    def listed(self, *, prices_as_text: bool) -> dict[str, object]:
        """The row of this model in the answer of ``/api/v1/models``."""
        low, high = min(self.prices.values()), max(self.prices.values())
        price = {"fixed": low} if low == high else {"min": low, "max": high}
        return {
            "slug": self.slug,
            "type": TYPE,
            "description": self.description,
            "docs_url": f"https://docs.modellix.ai/{self.slug.replace('.', '-')}",
            "price": {name: f"{usd:.4f}" if prices_as_text else float(usd) for name, usd in price.items()},
            "unit": _UNIT,
        }


def _first_generation(name: str, description: str) -> Model:
    return Model(name, description, PRICES_01, durations=(6,), resolutions=("720P",))


MODELS = {
    model.name: model
    for model in (
        Model("hailuo-2.3-i2v", "Image to video, Hailuo 2.3", PRICES_23, pretreats=True, featured=True),
        Model(
            "hailuo-2.3-fast-i2v",
            "Image to video, Hailuo 2.3, the quick one",
            PRICES_23_FAST,
            pretreats=True,
            featured=True,
        ),
        Model("hailuo-02-i2v", "Image to video, Hailuo 02", PRICES_02_512P, resolutions=("768P", "512P", "1080P")),
        Model(
            "hailuo-02-fl2v",
            "First and last frame to video, Hailuo 02",
            PRICES_02,
            required=("last_frame_image",),
            optional=("first_frame_image",),
        ),
        _first_generation("minimax-i2v-01", "Image to video, the first generation"),
        _first_generation("minimax-i2v-01-live", "Image to video, the first generation, for drawings"),
        _first_generation("minimax-i2v-01-director", "Image to video, the first generation, with camera commands"),
    )
}


@attrs.frozen
class Address:
    """Where a submit was sent: its model, and whether by the oldest spelling, whose answers lack ``get_result``."""

    model: Model
    typed: bool


def find_address(segments: Sequence[str]) -> Address | None:
    """The model behind a path, given in pieces after ``/api/v1``, or ``None``.

    The service has spelled it ``{type}/{provider}/{model}/async``, ``{provider}/{model}/async`` and
    ``{provider}/{model}``.
    """
    match segments:
        case [kind, provider, name, "async"] if kind == TYPE:
            typed = True
        case [provider, name] | [provider, name, "async"]:
            typed = False
        case _:
            return None
    model = MODELS.get(name)
    return Address(model, typed) if model is not None and provider == PROVIDER else None


def list_models(*, featured: bool, prices_as_text: bool) -> list[dict[str, object]]:
    """The rows that ``/api/v1/models`` answers: all, or only the featured ones."""
    return [model.listed(prices_as_text=prices_as_text) for model in MODELS.values() if model.featured or not featured]
