"""Memory of the host process."""

import ctypes
import sys

# Parameters of mallopt(3), from malloc.h.
_M_TRIM_THRESHOLD, _M_TOP_PAD, _M_MMAP_MAX, _M_ARENA_MAX = -1, -2, -4, -8


def keep_freed_memory() -> bool:
    """Tells glibc to keep the memory it is given back instead of returning it to the system.

    XLA's CPU backend allocates its temporary buffers anew each step. By default glibc returns large
    blocks at once, and each step spends a fifth of its time faulting the same pages in again. Call
    it before the first computation, where the CPU is the device.

    Returns:
        Whether the C library took the settings (only glibc has them).
    """
    if not sys.platform.startswith("linux"):
        return False
    try:
        mallopt = ctypes.CDLL("libc.so.6").mallopt
    except (OSError, AttributeError):
        return False
    settings = [
        (_M_ARENA_MAX, 1),  # other arenas cannot grow past 64 MiB
        (_M_MMAP_MAX, 0),
        (_M_TRIM_THRESHOLD, -1),
        (_M_TOP_PAD, 256 * 2**20),
    ]
    return all(mallopt(name, value) == 1 for name, value in settings)
