"""The models that the emulator plays, a row each, and the three spellings of their paths."""

from __future__ import annotations

from collections.abc import Sequence

import attrs

PROVIDER = "minimax"
TYPE = "image-to-video"


@attrs.frozen
class Model:
    """What one model takes. Resolutions run from the default on."""

    name: str
    description: str
    required: tuple[str, ...] = ("first_frame_image",)
    optional: tuple[str, ...] = ()
    durations: tuple[int, ...] = (6, 10)
    resolutions: tuple[str, ...] = ("768P", "1080P")
    pretreats: bool = False
    """Whether it has the field ``fast_pretreatment``."""

    @property
    def slug(self) -> str:
        return f"{PROVIDER}/{self.name}"

    @property
    def model_id(self) -> str:
        """The name that answers carry: a hyphen where the slug has its slash (seed of hailuo-02-fl2v)."""
        return f"{PROVIDER}-{self.name}"

    @property
    def images(self) -> tuple[str, ...]:
        return self.required + self.optional


def _first_generation(name: str, description: str) -> Model:
    return Model(name, description, durations=(6,), resolutions=("720P",))


MODELS = {
    model.name: model
    for model in (
        Model("hailuo-2.3-i2v", "Image to video, Hailuo 2.3", pretreats=True),
        Model("hailuo-2.3-fast-i2v", "Image to video, Hailuo 2.3, the quick one", pretreats=True),
        Model("hailuo-02-i2v", "Image to video, Hailuo 02", resolutions=("768P", "512P", "1080P")),
        Model(
            "hailuo-02-fl2v",
            "First and last frame to video, Hailuo 02",
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


def listing() -> list[dict[str, str]]:
    """The rows that ``/api/v1/models`` answers."""
    return [
        {
            "slug": model.slug,
            "type": TYPE,
            "description": model.description,
            "docs_url": f"https://docs.modellix.ai/{model.slug}",
        }
        for model in MODELS.values()
    ]
