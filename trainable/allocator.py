"""Memory for tensors on the CPU: kept by the process once it has it."""

import ctypes
import functools

# /usr/include/malloc.h
M_TRIM_THRESHOLD = -1
M_MMAP_THRESHOLD = -3
NEVER = 2**31 - 1  # bytes, the largest int


@functools.cache
def keep_freed_memory() -> None:
    """Tells glibc's malloc to keep freed memory for the next allocation; elsewhere nothing happens.

    By default it returns a large block to the kernel when it is freed and asks for it again a step later, when the
    kernel maps and clears it page by page: a fifth of a training step on the CPU.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):  # no glibc
        return
    mallopt(M_MMAP_THRESHOLD, NEVER)
    mallopt(M_TRIM_THRESHOLD, NEVER)
