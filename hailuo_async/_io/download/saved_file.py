"""Whether a file is a video that was saved before: the one, not another that has its name by now.

Everything here blocks: call it in a thread.
"""

from __future__ import annotations

import hashlib
import stat
from pathlib import Path


def is_saved_video(path: Path, size: int | None, sha256: str | None) -> bool:
    """Whether the plain file at ``path`` has this size and this digest in hex. ``False`` where either is not known.

    A journal notes both when a video is whole. The size is looked at first, so most other files are never read.
    """
    try:
        found = path.stat()
        if sha256 is None or not stat.S_ISREG(found.st_mode) or found.st_size != size:
            return False
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest() == sha256
    except (OSError, ValueError):  # ValueError: a name that no system takes
        return False
