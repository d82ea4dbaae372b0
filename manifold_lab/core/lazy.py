"""Modules that are imported when they are first needed, so that options are known before torch is loaded."""

import importlib
from collections.abc import Callable, Mapping
from typing import Any

from manifold_lab.core.starting import LOADING


def lazy_function(name: str) -> Callable[..., Any]:
    """A function whose module is imported at the first call.

    Args:
        name: the function with its module, such as `torch.nn.functional.gelu`.
    """
    module, _, attribute = name.rpartition(".")

    def call(*arguments: Any, **options: Any) -> Any:
        with LOADING:
            function = getattr(importlib.import_module(module), attribute)
        return function(*arguments, **options)

    return call


def lazy_attributes(package: str, names: Mapping[str, str]) -> Callable[[str], Any]:
    """The `__getattr__` of a package whose public names are imported from its modules when they are first used.

    Source: PEP 562.

    Args:
        package: its `__name__`.
        names: the public names of each module, separated by blanks; none where the module itself is public.
    """
    homes = {name: module for module, found in names.items() for name in found.split() or [module]}

    def get(name: str) -> Any:
        if name not in homes:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        module = importlib.import_module(f"{package}.{homes[name]}")
        return getattr(module, name) if names[homes[name]] else module

    return get
