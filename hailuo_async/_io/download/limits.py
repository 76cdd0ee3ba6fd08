"""What bounds a download unless its caller says otherwise. Apart from the rest, which is imported when first needed."""

DEFAULT_MAX_BYTES = 2 * 2**30
DEFAULT_TIMEOUT_S = 3600.0
