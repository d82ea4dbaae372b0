"""The look of every input dimension n, the same in all figures of random layers."""

import matplotlib as mpl
import numpy as np

from manifold_lab.report import plots

SHOWN = (2, 3, 4, 8, 16, 24, 32, 160)
"""The input dimensions that figures tell apart."""
LOOKS = {
    n: (mpl.colors.to_hex(plots.ALONG(shade)), mark)
    for n, shade, mark in zip(SHOWN, np.linspace(0, 1, len(SHOWN)), "osD^vPX*", strict=True)
}
"""Colour and marker, darker where n is smaller."""
