"""The report as one page that needs nothing else: claims, figures, tables, and a spiral to play with.

The template, its style and its scripts lie beside this file; everything that they show is filled in here.
"""

import base64
import dataclasses
import functools
import gzip
import json
import math
import re
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import jinja2
import numpy as np
import torch

from manifold_lab.activations import ACTIVATIONS
from manifold_lab.random_layer.monte_carlo import draw_random_layer, layers
from manifold_lab.random_layer.specs import DECODERS, ManifoldSpec, MonteCarlo
from manifold_lab.report import claims as paper
from manifold_lab.report import plots, spiral_figure
from manifold_lab.report.html.server import serve, server

__all__ = ["PAGE_NAME", "TEXTS", "build_page", "serve", "server"]

PAGE_NAME = "index.html"
TEXTS = ("README.md", "docs/spiral.md", "docs/network.md", "docs/experiments.md", "docs/gallery.md", "docs/speed.md",
         "experiments/README.md", "paper_repro.md")  # fmt: skip
DIMS, EXPLORER_SEEDS = range(2, 31), range(16)
"""Of the matrices that the explorer can show: the first draw of each."""
EXPLORED = ("pinv", "affine", "exact")
"""The decoders that the explorer computes."""
SHADES = 16
"""Colours along the curve."""
NOT_DRAWN = re.compile(r"<\?xml.*?\?>|<!DOCTYPE.*?>|<metadata>.*?</metadata>|<!--.*?-->", re.DOTALL)
"""Parts of a drawing that nobody sees."""
SIZE = re.compile(r'viewBox="0 0 (?P<width>[\d.]+) (?P<height>[\d.]+)"')


@dataclasses.dataclass(frozen=True)
class Figure:
    """A published figure: its drawing, its size in points, and what it shows in words."""

    svg: str
    width: str
    height: str
    words: str


def page_figures(root: Path, stems: Iterable[str]) -> dict[str, Figure]:
    """The figures of these experiments, where they have one."""
    said = descriptions(root)
    found = {}
    for stem in stems:
        path = root / "figures" / f"{stem}.svg"
        svg = NOT_DRAWN.sub("", path.read_text(encoding="utf-8")).strip() if path.is_file() else ""
        size = SIZE.search(svg)
        if size:
            words = said.get(stem, f"Figure of experiments/{stem}.py")
            found[stem] = Figure(re.sub(r"\n\s*", "\n", svg), size["width"], size["height"], words)
    return found


def descriptions(root: Path) -> dict[str, str]:
    """What the texts say in place of each picture, by stem."""
    texts = "".join((root / name).read_text(encoding="utf-8") for name in TEXTS if (root / name).is_file())
    return {stem: words for words, stem in re.findall(r"!\[([^\]]+)\]\(figures/(\w+)\.png\)", texts)}


def tables(root: Path, stems: Iterable[str]) -> dict[str, dict[str, str]]:
    """The csv files of each experiment by name, its own first, its claims last; packed."""
    found = {}
    for stem in stems:
        names = [path.name for path in (root / "figures").glob(f"{stem}*.csv")]
        names.sort(key=lambda name: (name.endswith("_claims.csv"), len(name), name))
        found[stem] = {name: packed((root / "figures" / name).read_bytes()) for name in names}
    return found


def packed(content: bytes) -> str:
    """A file as the page carries it: gzip, the same bytes every time, in base64."""
    return base64.b64encode(gzip.compress(content, mtime=0)).decode()


def explorer_matrices() -> str:
    """The first T of every seed and dim, as the library draws it, in base64 of little-endian float32.

    Seeds outermost, then dims, then rows: what `python -m manifold_lab.spiral --seed S --dims M` begins with.
    """
    cpu = torch.device("cpu")
    drawn = [
        next(draw_random_layer(layer, 1, layer.bytes_per_draw)).matrix[0]
        for seed in EXPLORER_SEEDS
        for layer in layers(MonteCarlo(dims=tuple(DIMS), seed=seed, points=8), cpu)
    ]
    flat = torch.cat([matrix.flatten() for matrix in drawn]).numpy()
    return base64.b64encode(flat.astype("<f4").tobytes()).decode()


def shades() -> list[str]:
    """The colours along the curve."""
    return [plots.mpl.colors.to_hex(plots.ALONG(place)) for place in np.linspace(0, 1, SHADES)]


def explorer() -> dict[str, Any]:
    """What the spiral explorer needs to know from the library."""

    def window(name: str) -> list[float | None]:
        ends = ACTIVATIONS[name].window or (math.nan, math.nan)
        return [end if math.isfinite(end) else None for end in ends]

    return {
        "dims": [DIMS[0], DIMS[-1]],
        "seeds": [EXPLORER_SEEDS[0], EXPLORER_SEEDS[-1]],
        "matrices": explorer_matrices(),
        "points": MonteCarlo.points,
        "turns": ManifoldSpec.turns,
        "radius": ManifoldSpec.radius,
        "lostEvery": spiral_figure.LOST_EVERY,
        "activations": [
            {"name": name, "window": window(name), "folds": ACTIVATIONS[name].folds} for name in ACTIVATIONS
        ],
        "decoders": [{"name": name, "label": DECODERS[name]} for name in EXPLORED],
        "first": {"dim": 5, "seed": MonteCarlo.seed, "activation": MonteCarlo.activation, "decoder": EXPLORED[0]},
    }


def colours() -> dict[str, str]:
    """The figures' colours, by meaning, for the style sheet."""
    named = {"measured": plots.MEASURED, "lost": plots.LOST_COLOUR, "gap": plots.GAP, "ghost": plots.GHOST}
    return {name: plots.mpl.colors.to_hex(colour) for name, colour in named.items()}


@functools.cache
def _environment() -> jinja2.Environment:
    return jinja2.Environment(
        loader=jinja2.PackageLoader(__package__, ""), autoescape=True, undefined=jinja2.StrictUndefined,
        trim_blocks=True, lstrip_blocks=True,
    )  # fmt: skip


def _piece(name: str) -> str:
    """A style sheet or script that lies beside the template."""
    return _environment().loader.get_source(_environment(), name)[0]  # type: ignore[union-attr]


def build_page(root: Path) -> str:
    """The page, as HTML.

    Raises:
        InputError: where the checkout has no published claims.
    """
    asked, beside, besides = paper.verdicts(root), paper.neighbours_verdicts(root), paper.beyond_the_paper(root)
    stems = list(dict.fromkeys(one.stem for one in [*asked, *beside, *besides] if one.lines))
    shown = {
        "groups": [
            ("claims", "The paper's claims", asked),
            ("neighbours", "The neighbours' claims", beside),
            ("beyond", "Beyond the paper", besides),
        ],
        "verdicts": paper.VERDICTS,
        "counts": Counter(one.verdict for one in [*asked, *beside, *besides]),
        "stands": paper.verdict_counts(one.verdict for one in asked),
        "errata": [(one, paper.evidence(one, root)) for one in paper.paper_errata()],
        "figures": page_figures(root, stems),
        "tables": tables(root, stems),
    }
    look = {"colours": colours(), "shades": shades(), "explorer": json.dumps(explorer())}
    return _environment().get_template("page.html.j2").render(**shown, **look, piece=_piece)
