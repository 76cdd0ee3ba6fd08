"""Shows what each model takes and costs, by the table here or by the service."""

from __future__ import annotations

from collections.abc import Iterator

from hailuo_async._cli.money import price_range
from hailuo_async._cli.output import show
from hailuo_async.models import MODELS, Model
from hailuo_async.prices import PRICES, ModelInfo, Price
from hailuo_async.session import AsyncSession


def show_known(*, is_json: bool) -> None:
    """Prints every model that is known here, with the list prices."""
    for model in MODELS.values():
        show(_facts(model), *_lines(model), is_json=is_json)


def _prices(model: Model) -> Iterator[tuple[int, str, Price | None]]:
    prices = PRICES.get(model.slug, {})
    for duration, resolutions in model.sizes.items():
        for resolution in resolutions:
            yield duration, resolution, prices.get((resolution, duration))


def _lines(model: Model) -> Iterator[str]:
    yield model.slug
    yield f"  images   {'last frame; first frame if wanted' if model.takes_last_frame else 'first frame'}"
    extras = ", --fast-pretreatment" if model.fast_pretreatment else ""
    yield f"  prompt   {'' if model.camera_commands else 'no '}camera commands{extras}"
    for duration, resolution, price in _prices(model):
        cost = "price not known"
        if price is not None:
            cost = f"{price_range(price.low * duration, price.high * duration)}  ({price.as_of})"
        yield f"  {duration:>2} s     {resolution:<5}  {cost}"


def _facts(model: Model) -> dict[str, object]:
    return {
        "model": model.slug,
        "images": ["last_frame_image", "first_frame_image"] if model.takes_last_frame else ["first_frame_image"],
        "camera_commands": model.camera_commands,
        "fast_pretreatment": model.fast_pretreatment,
        "sizes": [
            {
                "duration": duration,
                "resolution": resolution,
                "usd_low": price and price.low * duration,
                "usd_high": price and price.high * duration,
            }
            for duration, resolution, price in _prices(model)
        ],
    }


async def show_offered(session: AsyncSession, *, is_json: bool) -> None:
    """Prints what the service offers now. Raises ``ServiceError``."""
    async with session:
        offered = await session.models()
    for info in offered:
        is_known = info.slug.removeprefix("minimax/") in MODELS
        known = "" if is_known else "  (not in the table of this version: give its whole path)"
        name = f"{info.slug}  {info.type or ''}".rstrip() + known
        docs = [f"  {info.docs_url}"] if info.docs_url else []
        show(_offered_facts(info), name, f"  {_offered_price(info)}", *docs, is_json=is_json)


def _offered_price(info: ModelInfo) -> str:
    if info.price_low is None or info.price_high is None:
        return "the service names no price"
    low = "" if info.price_low == info.price_high else f"{info.price_low} to "
    return f"{low}{info.price_high} {info.unit or 'USD'}"


def _offered_facts(info: ModelInfo) -> dict[str, object]:
    return {
        "model": info.slug,
        "type": info.type,
        "usd_low": info.price_low,
        "usd_high": info.price_high,
        "unit": info.unit,
        "docs_url": info.docs_url,
    }
