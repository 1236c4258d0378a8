"""How kernels are compiled: by Numba, once per machine, to run without the global interpreter lock."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import numba

Function = TypeVar("Function", bound=Callable[..., Any])


def kernel(**options: Any) -> Callable[[Function], Function]:
    """Compiles a function on its first call and stores the machine code on disk if a cache folder is writable.

    Args:
        options: passed to `numba.njit`, in addition to `nogil` and `cache`.
    """

    def decorate(function: Function) -> Function:
        try:
            compiled: Function = numba.njit(nogil=True, cache=True, **options)(function)
        except RuntimeError:  # no writable cache folder: compile in every process
            compiled = numba.njit(nogil=True, **options)(function)
        _load_quickly(compiled)
        return compiled

    return decorate


def _load_quickly(function: Any) -> None:
    """Lets a kernel be loaded from disk without all that Numba needs for compiling: 0.03 s instead of 0.33 s.

    Before it looks into the cache, Numba imports the implementations of everything that a kernel could call, and for
    linear algebra scipy.linalg. Machine code needs only the runtime. If it is not on disk, Numba compiles, and imports
    them then. This replaces a method of an instance; if Numba changes, it loads as it did before.
    """
    cache: Any = getattr(function, "_cache", None)
    if not all(hasattr(cache, name) for name in ("_load_overload", "_guard_against_spurious_io_errors")):
        return

    def load_overload(signature: Any, context: Any) -> Any:
        from numba.core.runtime import rtsys

        rtsys.initialize(context)
        with cache._guard_against_spurious_io_errors():
            return cache._load_overload(signature, context)

    cache.load_overload = load_overload


def is_cached(function: Callable[..., Any]) -> bool:
    """Whether the machine code of a kernel is stored on disk."""
    return type(getattr(function, "_cache", None)).__name__ != "NullCache"


def needs_compiling(*kernels: Callable[..., Any]) -> bool:
    """Whether any of these kernels has no machine code on disk yet, so that its first call takes seconds."""
    return not all(_has_machine_code(function) for function in kernels)


def _has_machine_code(function: Callable[..., Any]) -> bool:
    # Numba has no public way to ask; if this one disappears, no message about compiling is printed.
    index = getattr(getattr(function, "_cache", None), "_cache_file", None)
    if index is None:
        return not hasattr(function, "_cache")
    try:
        return bool(index._load_index())  # {} if the source has changed since
    except AttributeError:
        return True
    except (OSError, EOFError, ValueError):
        return False
