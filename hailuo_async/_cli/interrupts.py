"""What signals do while a session runs: they end it in good order, so that nothing that is paid for is lost.

    Ctrl-C             stops: the command sends nothing more, and waits for what runs
    Ctrl-C again       quits: the command waits no longer
    SIGTERM, SIGHUP    quit at once: their sender does not wait for minutes, or the terminal has gone

Before and after that every signal ends the command, as ``hailuo_async_command`` has arranged.
"""

from __future__ import annotations

import asyncio
import contextlib
import signal
from collections.abc import Callable, Iterator

_SIGNALS = ("SIGINT", "SIGTERM", "SIGHUP")


@contextlib.contextmanager
def interruptible(stop: Callable[[], None], quit: Callable[[], None]) -> Iterator[None]:
    """Calls ``stop`` at the first Ctrl-C, and ``quit`` at the second Ctrl-C or at any other signal.

    Holds for the running loop until the context ends; then each signal has its former handler. A signal that the
    process ignored when it began stays ignored (nohup).
    """
    loop = asyncio.get_running_loop()
    numbers = [number for name in _SIGNALS if (number := getattr(signal, name, None)) is not None]
    before = {number: handler for number in numbers if (handler := signal.getsignal(number)) is not signal.SIG_IGN}

    def restore() -> None:
        for number, handler in before.items():
            if loop.remove_signal_handler(number):
                signal.signal(number, handler)

    def quit_now() -> None:
        restore()
        quit()

    def interrupted() -> None:
        loop.add_signal_handler(signal.SIGINT, quit_now)
        stop()

    with contextlib.suppress(NotImplementedError):  # Windows: Ctrl-C cancels the run there, which is to quit
        for number in before:
            loop.add_signal_handler(number, interrupted if number == signal.SIGINT else quit_now)
    try:
        yield
    finally:
        with contextlib.suppress(NotImplementedError):
            restore()
