"""The command ``hailuo-async``: what has to stand before the package is imported, which takes half a second.

This module lies beside the package, as importing any part of the package imports all of it. Until a handler stands, the
kernel drops a signal that is sent to the first process of a container: the command would go on, and pay for videos that
its owner wants ended.
"""

from __future__ import annotations

import signal
import sys

_INTERRUPTED = 130


def main() -> None:
    """Runs the command line. SIGTERM and SIGHUP end it as Ctrl-C does, unless they were to be ignored (nohup)."""
    for name in ("SIGTERM", "SIGHUP"):  # there is no SIGHUP on Windows
        number = getattr(signal, name, None)
        if number is not None and signal.getsignal(number) is signal.SIG_DFL:
            signal.signal(number, signal.default_int_handler)
    try:
        from hailuo_async.cli import main as run
    except KeyboardInterrupt:
        sys.exit(_INTERRUPTED)
    run()
