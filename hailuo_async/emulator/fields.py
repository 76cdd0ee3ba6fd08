"""From the body of a submit to a checked submission: every field, every rule of its model, in one pure step.

The step decodes base64 of up to two images, so for a large body it belongs off the loop.
"""

from __future__ import annotations

import binascii
import hashlib
import json
import re
from collections.abc import Mapping
from decimal import Decimal
from typing import Any, TypeVar
from urllib.parse import urlsplit

import attrs

from .catalogue import Model
from .facts import MAX_IMAGE_BYTES, MAX_PROMPT, MIN_SHORT_SIDE_PX
from .films import Picture
from .pictures import inspect_image
from .wire import Refusal, Request

_Choice = TypeVar("_Choice", int, str)
_DATA_URL = re.compile(r"data:image/[\w.+-]+;base64,", re.IGNORECASE)


@attrs.frozen
class Submission:
    """A job that the service would accept: its pictures, its prompt, its length and its size."""

    model: Model
    prompt: str | None
    seconds: int
    resolution: str
    first: Picture | None
    last: Picture | None
    unknown: tuple[str, ...] = ()
    """Names of fields that the model does not have: the service ignores them, the ledger keeps them."""

    @property
    def price_per_s(self) -> Decimal:
        """USD for a second of this video, by the list."""
        return self.model.prices[self.resolution, self.seconds]


def read_submission(model: Model, request: Request) -> Submission:
    """The submission in a request's body. Raises ``Refusal`` with 400 or 415 for the first rule that it breaks."""
    content = _read_object(request)
    for name in model.required:
        if name not in content:
            raise Refusal(400, f"Missing required parameter: {name}")
    _check_switch(content, "prompt_optimizer")
    if model.pretreats:
        _check_switch(content, "fast_pretreatment")
    prompt = _read_prompt(content)
    seconds = _read_choice(content, "duration", model.durations)
    resolution = _read_choice(content, "resolution", model.resolutions)
    if (seconds == 10 and resolution != "768P") or (resolution == "1080P" and seconds != 6):
        raise Refusal(400, f"Invalid parameters: duration {seconds} is not offered at resolution {resolution}")
    pictures = {name: _read_picture(content, name) for name in model.images if name in content}
    return Submission(
        model=model,
        prompt=prompt,
        seconds=seconds,
        resolution=resolution,
        first=pictures.get("first_frame_image"),
        last=pictures.get("last_frame_image"),
        unknown=_unknown(model, content),
    )


def _read_object(request: Request) -> dict[str, Any]:
    if request.headers.get("content-type", "").partition(";")[0].strip().lower() != "application/json":
        raise Refusal.of(415, "Content-Type must be application/json")
    try:
        content = json.loads(request.body)
    except (ValueError, RecursionError):
        raise Refusal(400, "Invalid format: the body is not JSON") from None
    if not isinstance(content, dict):
        raise Refusal(400, "Invalid format: the body is not a JSON object")
    return content


def _unknown(model: Model, content: Mapping[str, Any]) -> tuple[str, ...]:
    known = {"prompt", "prompt_optimizer", "duration", "resolution", *model.images}
    if model.pretreats:
        known.add("fast_pretreatment")
    return tuple(sorted(content.keys() - known))


def _check_switch(content: Mapping[str, Any], name: str) -> None:
    if not isinstance(content.get(name, True), bool):
        raise Refusal(400, f"Invalid parameters: {name} must be a boolean")


def _read_text(content: Mapping[str, Any], name: str) -> str:
    text = content[name]
    if not isinstance(text, str):
        raise Refusal(400, f"Invalid parameters: {name} must be a string")
    if not text:
        raise Refusal(400, f"Value out of range: {name} must have at least 1 character")
    return text


def _read_prompt(content: Mapping[str, Any]) -> str | None:
    if "prompt" not in content:
        return None
    prompt = _read_text(content, "prompt")
    if len(prompt) > MAX_PROMPT:
        raise Refusal(400, f"Value out of range: prompt must have at most {MAX_PROMPT} characters")
    if any("\ud800" <= character <= "\udfff" for character in prompt):
        raise Refusal(400, "Invalid format: prompt holds half a surrogate pair")
    return prompt


def _read_choice(content: Mapping[str, Any], name: str, offered: tuple[_Choice, ...]) -> _Choice:
    """The field's value, or its default, which stands first in ``offered``."""
    value: _Choice = content.get(name, offered[0])
    choices = ", ".join(map(str, offered))
    if type(value) is not type(offered[0]):  # not isinstance: True is no number of seconds
        raise Refusal(400, f"Invalid parameters: {name} must be one of {choices}")
    if value not in offered:
        raise Refusal(400, f"Value out of range: {name} must be one of {choices}")
    return value


def _read_picture(content: Mapping[str, Any], name: str) -> Picture:
    text = _read_text(content, name)
    prefix = _DATA_URL.match(text)
    if prefix is not None:
        return _read_data(name, text[prefix.end() :])
    if not _is_web_address(text):
        raise Refusal(400, f"Invalid format: {name} must be an http(s) URL or a base64 data URL of an image")
    return Picture(source=text)


def _is_web_address(text: str) -> bool:
    try:
        parts = urlsplit(text)
        return parts.scheme in ("http", "https") and bool(parts.hostname)
    except ValueError:  # such as "http://[::1"
        return False


def _read_data(name: str, encoded: str) -> Picture:
    try:
        data = binascii.a2b_base64(encoded, strict_mode=True)
    except ValueError:
        raise Refusal(400, f"Invalid format: {name} is not valid base64") from None
    if len(data) >= MAX_IMAGE_BYTES:
        raise Refusal(400, f"Value out of range: {name} must be smaller than 20 MB")
    image = inspect_image(data)
    if image is None:
        raise Refusal(400, f"Invalid format: {name} must be JPG, PNG or WebP")
    width, height = image.size
    if min(image.size) <= MIN_SHORT_SIDE_PX:
        raise Refusal(400, f"Value out of range: {name} must have a short side over 300 px; it is {width}x{height}")
    if 5 * min(image.size) < 2 * max(image.size):
        raise Refusal(400, f"Value out of range: {name} must have an aspect of 2:5 to 5:2; it is {width}x{height}")
    return Picture(source=f"sha256:{hashlib.sha256(data).hexdigest()}", data=data, size=image.size)
