"""``python -m hailuo_async``: the command line."""

from __future__ import annotations

from hailuo_async.cli import main

if __name__ == "__main__":
    main(prog_name="hailuo-async")
