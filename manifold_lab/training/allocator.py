"""The C library's allocator, told not to give memory back between one step and the next."""

import ctypes

TRIM_THRESHOLD, MMAP_MAX = -1, -4
"""Names of glibc's mallopt, from its malloc.h."""


def keep_memory() -> bool:
    """From now on, memory that this process frees stays with it, for its next tensors; whether that can be had here.

    Out of the box glibc maps every large block from the system and unmaps it when it is freed, so that each step of a
    network on the CPU pays again for the zeroing of all its pages; mallopt(3) tells it otherwise. No number changes;
    the process holds its peak until it ends. Only glibc has it; elsewhere nothing happens.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, TypeError, OSError):
        return False
    return bool(mallopt(MMAP_MAX, 0)) and bool(mallopt(TRIM_THRESHOLD, -1))
