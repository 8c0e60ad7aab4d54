"""Give memory that was freed back to the system, where the C library would keep it.

glibc keeps what is freed between pieces that are in use, in a heap for each thread. States come and
go in another size for each stretch of a long document, so without this a document of a million
tokens ends up with several times the memory that any stretch of it takes.
"""

import ctypes
from collections.abc import Callable
from functools import cache


def give_back_free_pages() -> None:
    """Hand free pages of all heaps back; takes milliseconds. Elsewhere than on glibc: nothing."""
    trim = _malloc_trim()
    if trim is not None:
        trim(0)


@cache
def _malloc_trim() -> Callable[[int], int] | None:
    try:
        found: Callable[[int], int] | None = getattr(ctypes.CDLL(None), "malloc_trim", None)
    except (OSError, TypeError):  # a system whose programs have no such table, as Windows
        return None
    return found
