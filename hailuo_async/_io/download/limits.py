"""What bounds a download. Apart from the rest, which is imported when first needed."""

from __future__ import annotations

import attrs


@attrs.frozen
class Limits:
    """What bounds one download."""

    max_bytes: int = 2 * 2**30
    timeout_s: float = 3600.0
    allow_unchecked: bool = False
    """Whether bytes are taken that cannot be checked: their end may be a cut, their encoding another."""


#: What counts unless a caller says otherwise.
USUAL = Limits()
