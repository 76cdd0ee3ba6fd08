"""Where pictures were looked into before they had a folder of their own: kept for programs that import it from here."""

from hailuo_async._images.frame import Frame
from hailuo_async._images.frame import inspect_image as look_at
from hailuo_async._images.source import ImageSource, check_source

__all__ = ["Frame", "ImageSource", "check_source", "look_at"]
