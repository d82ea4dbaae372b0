"""Modules that are imported when they are first needed, so that options are known before torch is loaded."""

import ast
import importlib
import sys
from collections.abc import Callable
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


def lazy_imports(package: str) -> tuple[list[str], Callable[[str], Any]]:
    """The `__all__` and `__getattr__` of a package whose public names are imported when they are first used.

    They are what it imports under `if TYPE_CHECKING:`, for readers and type checkers, and are named nowhere else.

    Source: PEP 562.

    Args:
        package: its `__name__`.
    """
    module: Any = sys.modules[package]
    blocks = [node for node in ast.parse(module.__loader__.get_source(package)).body if isinstance(node, ast.If)]
    for_readers = next(block for block in blocks if ast.unparse(block.test) == "TYPE_CHECKING")
    imports = [node for node in for_readers.body if isinstance(node, ast.ImportFrom)]
    homes = {name.name: str(node.module) for node in imports for name in node.names}

    def get(name: str) -> Any:
        if name not in homes:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        if homes[name] == package:
            return importlib.import_module(f"{package}.{name}")
        return getattr(importlib.import_module(homes[name]), name)

    return sorted(homes), get
