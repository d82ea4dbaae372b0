"""Functions that numba compiles, kept on disk where there is a place to keep them."""

import inspect
from collections.abc import Callable
from typing import Any

import numba


def compiled(**options: Any) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """A decorator: numba.njit with these options, without the checks of types that the tests put around functions."""

    def decorate(function: Callable[..., Any]) -> Callable[..., Any]:
        plain = inspect.unwrap(function)
        try:
            return numba.njit(cache=True, **options)(plain)
        except RuntimeError:  # neither this folder nor the user's can be written into
            return numba.njit(**options)(plain)

    return decorate
