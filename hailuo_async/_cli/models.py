"""Shows what each model takes and costs, by the table here or by the service."""

from __future__ import annotations

from collections.abc import Iterator

from hailuo_async._cli.money import price_range
from hailuo_async._cli.output import emit, json_line, tell
from hailuo_async.models import MODELS, Model
from hailuo_async.prices import PRICES, ModelInfo, Price
from hailuo_async.session import AsyncSession


def show(*, is_json: bool) -> None:
    """Prints every model that is known here, with the list prices."""
    for model in MODELS.values():
        if is_json:
            emit(json_line(_facts(model)))
        else:
            for line in _lines(model):
                tell(line)


def _lines(model: Model) -> Iterator[str]:
    yield model.slug
    yield f"  images   {'last frame; first frame if wanted' if model.takes_last_frame else 'first frame'}"
    extras = ["camera commands" if model.camera_commands else "no camera commands"]
    extras += ["--fast-pretreatment"] if model.fast_pretreatment else []
    yield f"  prompt   {', '.join(extras)}"
    for duration, resolutions in model.sizes.items():
        for resolution in resolutions:
            price = PRICES.get(model.slug, {}).get((resolution, duration))
            yield f"  {duration:>2} s     {resolution:<5}  {_price(price, duration)}"


def _price(price: Price | None, duration: int) -> str:
    if price is None:
        return "price not known"
    return f"{price_range(price.low * duration, price.high * duration)}  ({price.as_of})"


def _facts(model: Model) -> dict[str, object]:
    prices = PRICES.get(model.slug, {})
    return {
        "model": model.slug,
        "images": ["last_frame_image", "first_frame_image"] if model.takes_last_frame else ["first_frame_image"],
        "camera_commands": model.camera_commands,
        "fast_pretreatment": model.fast_pretreatment,
        "sizes": [
            _size_facts(duration, resolution, prices.get((resolution, duration)))
            for duration, resolutions in model.sizes.items()
            for resolution in resolutions
        ],
    }


def _size_facts(duration: int, resolution: str, price: Price | None) -> dict[str, object]:
    low, high = (None, None) if price is None else (str(price.low * duration), str(price.high * duration))
    return {"duration": duration, "resolution": resolution, "usd_low": low, "usd_high": high}


async def show_live(session: AsyncSession, *, is_json: bool) -> None:
    """Prints what the service offers now. Raises ``ServiceError``."""
    async with session:
        offered = await session.models()
    for info in offered:
        if is_json:
            emit(json_line(_live_facts(info)))
            continue
        known = (
            ""
            if info.slug.removeprefix("minimax/") in MODELS
            else "  (not in the table of this version: give its whole path)"
        )
        tell(f"{info.slug}  {info.type or ''}".rstrip() + known)
        tell(f"  {_live_price(info)}")
        if info.docs_url:
            tell(f"  {info.docs_url}")


def _live_price(info: ModelInfo) -> str:
    if info.price_low is None or info.price_high is None:
        return "the service names no price"
    low = "" if info.price_low == info.price_high else f"{info.price_low} to "
    return f"{low}{info.price_high} {info.unit or 'USD'}"


def _live_facts(info: ModelInfo) -> dict[str, object]:
    return {
        "model": info.slug,
        "type": info.type,
        "usd_low": None if info.price_low is None else str(info.price_low),
        "usd_high": None if info.price_high is None else str(info.price_high),
        "unit": info.unit,
        "docs_url": info.docs_url,
    }
