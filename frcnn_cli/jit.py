"""How our kernels are compiled: by Numba, once per machine, to run without the interpreter's lock."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import numba

Function = TypeVar("Function", bound=Callable[..., Any])


def kernel(**options: Any) -> Callable[[Function], Function]:
    """A function compiled on its first call; the machine code is kept on disk where some folder can be written.

    Args:
        options: of `numba.njit`, beside `nogil` and `cache`.
    """

    def compiled(function: Function) -> Function:
        try:
            made: Function = numba.njit(nogil=True, cache=True, **options)(function)
        except (
            RuntimeError
        ):  # neither the package's folder nor the user's cache can be written: compile in every process
            made = numba.njit(nogil=True, **options)(function)
        return made

    return compiled


def is_cached(function: Callable[..., Any]) -> bool:
    """Whether a kernel's machine code is kept on disk."""
    return type(getattr(function, "_cache", None)).__name__ != "NullCache"
