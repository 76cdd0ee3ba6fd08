"""How to install a missing extra, with the command that works for this installation."""

from __future__ import annotations

import json
import shlex
import sys
from importlib import metadata
from urllib.parse import unquote, urlsplit


def install_hint(extra: str) -> str:
    """The command that adds ``extra`` to the package as it was installed: of a checkout, a repository or an index."""
    return f"{shlex.quote(sys.executable)} -m pip install {_requirement(extra, _origin())}"


def _origin() -> dict[str, object]:
    try:
        found = json.loads(metadata.distribution("hailuo-async").read_text("direct_url.json") or "{}")
    except (metadata.PackageNotFoundError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def _requirement(extra: str, origin: dict[str, object]) -> str:
    url = str(origin.get("url") or "")
    if "dir_info" in origin:
        folder = unquote(urlsplit(url).path)
        info = origin["dir_info"]
        is_editable = isinstance(info, dict) and info.get("editable") is True
        return f"{'-e ' if is_editable else ''}{shlex.quote(f'{folder}[{extra}]')}"
    vcs = origin.get("vcs_info")
    if isinstance(vcs, dict) and vcs.get("vcs"):
        return shlex.quote(f"hailuo-async[{extra}] @ {vcs['vcs']}+{url}")
    return shlex.quote(f"hailuo-async[{extra}]")
