"""One thread at a time for an object that the caller gave to several jobs.

A PIL image is decoded when its pixels are first asked for, through one file and one decoder; a file object has one
position. Two threads in it at once read garbage, which would be sent and paid for.
"""

from __future__ import annotations

import contextlib
import threading
import weakref
from collections.abc import Iterator

#: By the object's ``id``, as long as a thread holds the lock or waits for it. Shared by all sessions of the process:
#: the same picture may be given to two of them, which know nothing of each other.
_locks: weakref.WeakValueDictionary[int, threading.Lock] = weakref.WeakValueDictionary()
_guard = threading.Lock()


@contextlib.contextmanager
def exclusive(shared: object) -> Iterator[None]:
    """Waits until no other thread is in here with ``shared``. Blocks: for worker threads."""
    with _guard:
        lock = _locks.get(id(shared))
        if lock is None:
            lock = _locks[id(shared)] = threading.Lock()
    with lock:
        yield
