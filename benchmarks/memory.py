"""How much memory this process holds and has held at most, as the operating system counts it."""

from __future__ import annotations

import sys
from pathlib import Path

STATUS = Path("/proc/self/status")
CLEAR = Path("/proc/self/clear_refs")
FORGET_PEAK = "5"
BYTES_PER_KIB = 1024


def resident_bytes() -> int | None:
    """Returns the resident set of this process now, or None where the system does not say."""
    return _status_bytes("VmRSS")


def peak_resident_bytes() -> int | None:
    """Returns the largest resident set of this process so far (see `forget_peak`), or None where nothing says it.

    On Linux it is read from /proc: `getrusage` starts a new process off with what its parent held.
    """
    peak = _status_bytes("VmHWM")
    if peak is not None or sys.platform == "win32":
        return peak
    import resource

    largest = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return largest if sys.platform == "darwin" else largest * BYTES_PER_KIB


def forget_peak() -> bool:
    """Makes the largest resident set so far the one of now; returns whether the system can do so.

    Importing a library may hold more for a moment than is left afterwards, which would hide what a model needs.
    """
    try:
        CLEAR.write_text(FORGET_PEAK)
    except OSError:
        return False
    return True


def _status_bytes(field: str) -> int | None:
    if not STATUS.exists():
        return None
    for line in STATUS.read_text().splitlines():
        name, _, value = line.partition(":")
        if name == field:
            return int(value.split()[0]) * BYTES_PER_KIB
    return None
