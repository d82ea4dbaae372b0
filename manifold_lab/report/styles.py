"""Figure styles of the venues and formats of figure files, by name; drawing libraries are loaded when a figure is."""

import functools
from collections.abc import Callable
from typing import Any

from manifold_lab.core.lazy import lazy_function


def _bundle(name: str, **options: str) -> Callable[[], dict[str, Any]]:
    return functools.partial(lazy_function(f"tueplots.bundles.{name}"), **options)


STYLES: dict[str, Callable[[], dict[str, Any]]] = {
    "cvpr2024": _bundle("cvpr2024", column="full"),
    "icml2024": _bundle("icml2024", column="full"),
    "neurips2024": _bundle("neurips2024"),
    "iclr2024": _bundle("iclr2024"),
    "jmlr2001": _bundle("jmlr2001"),
    "tmlr2023": _bundle("tmlr2023"),
}
"""Full-width figures of the venues; their text widths and font sizes come from tueplots."""
DEFAULT_STYLE = "cvpr2024"
FORMATS = ("png", "pdf", "svg")
