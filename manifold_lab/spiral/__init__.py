"""The main command: python -m manifold_lab.spiral --dims 2 3 5 15 30.

Figure 1 of MobileNetV2 (arXiv:1801.04381), with how much was lost, where, by what, with what spread, beside theory.
"""

from typing import TYPE_CHECKING

from manifold_lab.core.lazy import lazy_imports
from manifold_lab.spiral.command import SpiralOptions, main

if TYPE_CHECKING:
    from manifold_lab.spiral.pipeline import survey
    from manifold_lab.spiral.result import SpiralResult, measure_spiral

__all__, __getattr__ = lazy_imports(__name__)
