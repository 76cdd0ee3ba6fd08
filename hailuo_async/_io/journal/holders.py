"""The names of sessions as holders of jobs: another process can tell from one whether its session still lives.

A lease runs out by itself, but only after a while. On Linux the kernel knows at once: a process is the same one if its
machine, its pid and the moment of its start are. Elsewhere, and for a name without these, only the lease counts.
"""

from __future__ import annotations

import os
import secrets
from pathlib import Path

PROC = Path("/proc")
#: Where ``/proc/<pid>/stat`` has the state and the moment of the start, counted from behind the name (proc(5)).
_STATE, _STARTED = 0, 19


def this_holder(proc: Path = PROC) -> str:
    """A new name for something in this process that will hold leases. Reads ``/proc``, so not on the loop."""
    pid = os.getpid()
    return f"{_machine(proc)}/{pid}/{_started(pid, proc)}/{secrets.token_hex(4)}"


def is_gone(holder: str, proc: Path = PROC) -> bool:
    """Whether the process that ``holder`` names has certainly ended. Only ever true on the machine it ran on."""
    machine, _, process = holder.partition("/")
    pid, _, rest = process.partition("/")
    if not machine or machine != _machine(proc) or not pid.isdecimal():
        return False
    return _started(int(pid), proc) != rest.partition("/")[0]


def machine() -> str:
    """How the names of all processes begin that can be asked about here."""
    return _machine(PROC) or "no machine"


def boot() -> str:
    """Names this boot of the machine, whose processes share one monotonic clock; empty where no such file is."""
    try:
        return _boot(PROC)
    except OSError:
        return ""


def _machine(proc: Path) -> str:
    """The boot and the pid namespace, in which a pid means something; nothing where there is no such file."""
    try:
        return f"{_boot(proc)}:{os.readlink(proc / 'self/ns/pid')}"
    except OSError:
        return ""


def _boot(proc: Path) -> str:
    return (proc / "sys/kernel/random/boot_id").read_text("ascii").strip()


def _started(pid: int, proc: Path) -> str:
    """When the process ``pid`` began, in the kernel's ticks; nothing if it does not run."""
    try:
        stat = (proc / str(pid) / "stat").read_text("utf-8", "replace")
    except OSError:
        return ""
    words = stat.rpartition(")")[2].split()
    return "" if words[_STATE] in "ZX" else words[_STARTED]
