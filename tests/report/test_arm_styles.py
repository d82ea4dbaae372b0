"""Arms told apart: by colour and marker, in grey, and by readers who see fewer colours, through real conversions."""

import itertools

import numpy as np
import pytest
from PIL import Image, ImageColor

from manifold_lab.report import arm_styles
from manifold_lab.report.arm_styles import ARM_STYLES, DECODER_STYLES, OTHER_STYLES, PAPER

colour = pytest.importorskip("colour", reason="pip install colour-science")
COLOURS = tuple(getattr(arm_styles, name) for name in ("BLACK", "WINE", "BLUE", "VERMILION", "SKY", "YELLOW"))
APART = 10
"""Of CIE's colour difference, of which one or two can just be seen side by side."""
APART_IN_GREY = 6
"""Of CIE's lightness, after the conversion that screens and printers use."""


def lab(rgb: np.ndarray) -> np.ndarray:
    return colour.XYZ_to_Lab(colour.sRGB_to_XYZ(rgb))


def seen(hex_colour: str, kind: str) -> np.ndarray:
    """The colour as it is seen with a kind of colour blindness (Machado, Oliveira and Fernandes 2009)."""
    linear = colour.cctf_decoding(colour.notation.HEX_to_RGB(hex_colour))
    matrix = colour.blindness.matrix_cvd_Machado2009(kind, 1.0)
    return colour.cctf_encoding(np.clip(matrix @ linear, 0, 1))


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("kind", ["Protanomaly", "Deuteranomaly", "Tritanomaly"])
def test_colours_differ_for_the_colour_blind(kind: str) -> None:
    found = [lab(seen(one, kind)) for one in COLOURS]
    assert min(np.linalg.norm(a - b) for a, b in itertools.combinations(found, 2)) > APART


def test_colours_differ_in_grey() -> None:
    image = Image.new("RGB", (len(COLOURS), 1))
    image.putdata([ImageColor.getrgb(one) for one in COLOURS])
    grey = np.asarray(image.convert("L"))[0] / 255
    lightness = [lab(np.full(3, one))[0] for one in grey]
    assert (np.diff(lightness) > APART_IN_GREY).all(), "from dark to light"
    assert max(lightness) < 80, "and none too pale for white paper"


def test_a_colour_and_a_marker_name_one_arm() -> None:
    others = {arm: style for arm, style in ARM_STYLES.items() if style != PAPER}
    assert len(set(others.values())) == len(others)
    assert {arm for arm, style in ARM_STYLES.items() if style == PAPER} == {"linear", "bottleneck", "inverted", "both"}
    for styles in (ARM_STYLES.values(), DECODER_STYLES.values(), OTHER_STYLES):
        assert {colour for colour, _ in styles} <= set(COLOURS)
