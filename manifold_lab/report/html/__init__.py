"""The report as one page that needs nothing else: claims, figures, tables, and a spiral to play with.

The template, its style and its scripts lie beside this file; everything that they show is filled in here.
"""

import base64
import dataclasses
import functools
import gzip
import hashlib
import json
import re
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import jinja2

from manifold_lab.report import claims as paper
from manifold_lab.report import plots
from manifold_lab.report.answers import Answer, answers
from manifold_lab.report.html import explorer
from manifold_lab.report.html.explorer import EXPLORED
from manifold_lab.report.html.server import serve, server
from manifold_lab.report.markdown import table_cells

__all__ = ["EXPLORED", "PAGE_NAME", "TEXTS", "build_page", "serve", "server"]

PAGE_NAME = "index.html"
TEXTS = ("README.md", "docs/spiral.md", "docs/network.md", "docs/experiments.md", "docs/gallery.md", "docs/speed.md",
         "experiments/README.md", "paper_repro.md")  # fmt: skip
SCRIPTS = ("table.js", "page.js", "channel.js", "panels.js", "explorer.js")
NOT_DRAWN = re.compile(r"<\?xml.*?\?>|<!DOCTYPE.*?>|<metadata>.*?</metadata>|<!--.*?-->", re.DOTALL)
"""Parts of a drawing that nobody sees."""
SIZE = re.compile(r'viewBox="0 0 (?P<width>[\d.]+) (?P<height>[\d.]+)"')


@dataclasses.dataclass(frozen=True)
class Figure:
    """A published figure: its drawing, packed, its size in points, and what it shows in words."""

    svg: str
    width: str
    height: str
    description: str


def page_figures(root: Path, stems: Iterable[str]) -> dict[str, Figure]:
    """The figures of these experiments, where they have one."""
    known = descriptions(root)
    found = {}
    for stem in stems:
        path = root / "figures" / f"{stem}.svg"
        svg = NOT_DRAWN.sub("", path.read_text(encoding="utf-8")).strip() if path.is_file() else ""
        size = SIZE.search(svg)
        if size:
            description = known.get(stem, f"Figure of experiments/{stem}.py")
            drawing = re.sub(r"\n\s*", "\n", svg).encode()
            found[stem] = Figure(packed(drawing), size["width"], size["height"], description)
    return found


def descriptions(root: Path) -> dict[str, str]:
    """What the texts say in place of each picture, by stem."""
    texts = "".join((root / name).read_text(encoding="utf-8") for name in TEXTS if (root / name).is_file())
    return {stem: description for description, stem in re.findall(r"!\[([^\]]+)\]\(figures/(\w+)\.png\)", texts)}


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


@dataclasses.dataclass(frozen=True)
class Group:
    """The claims of one part of the paper, or of one experiment beyond it."""

    name: str
    claims: Sequence[paper.ClaimVerdict]

    @property
    def stems(self) -> list[str]:
        """The experiments that decide them."""
        return list(dict.fromkeys(one.stem for one in self.claims if one.lines))


def by_place(found: Iterable[paper.ClaimVerdict], place: Callable[[str], str]) -> list[Group]:
    """Claims by the part of the paper that they stand in, in the order in which the parts come."""
    parts: dict[str, list[paper.ClaimVerdict]] = {}
    for one in found:
        parts.setdefault(place(one.claim.place), []).append(one)
    return [Group(name, mine) for name, mine in parts.items()]


def section(place: str) -> str:
    """The part of the paper that a place belongs to.

    >>> [section(place) for place in ("Section 3.2, 3", "Table 4", "Figure 7b", "Lemma 2", "After Theorem 1")]
    ['Section 3', 'Table 4', 'Figure 7', 'Appendix A', 'Appendix A']
    """
    if re.match(r"(Lemma|Theorem|After Theorem)", place):
        return "Appendix A"
    found = re.match(r"(Sections?|Tables?|Figure|Footnote) (\d+)", place)
    return f"{found[1].removesuffix('s')} {found[2]}" if found else place.partition(" (")[0]


def anchor(name: str) -> str:
    """The id of a heading, as Markdown gives it."""
    return name.lower().replace(" ", "-")


def page_link(link: str) -> str:
    """Where on the page the claims of an answer stand, for its place in the text; none for a figure.

    >>> page_link("#figure-6"), page_link("#errata-of-the-paper"), page_link("figures/ext_cause.png")
    ('figure-6', 'errata', '')
    """
    return "errata" if link.startswith("#errata") else link[1:] if link.startswith("#") else ""


def policy(scripts: Iterable[str]) -> str:
    """The page's content security policy: these scripts and no others, images of its own, nothing from elsewhere."""
    digests = [base64.b64encode(hashlib.sha256(script.encode()).digest()).decode() for script in scripts]
    allowed = " ".join(f"'sha256-{digest}'" for digest in digests)
    return f"default-src 'none'; style-src 'unsafe-inline'; script-src {allowed}; img-src data: blob:; base-uri 'none'"


def answer_details(answer: Answer, root: Path) -> list[tuple[str, list[list[str]]]]:
    """What an answer's study says further: paragraphs without emphasis, or the cells of tables."""
    return [(block.replace("*", ""), table_cells(block)) for block in answer.details(root)]


def build_page(root: Path) -> str:
    """The page, as HTML.

    Raises:
        InputError: where the checkout has no published claims.
    """
    asked, beside, besides = paper.verdicts(root), paper.neighbours_verdicts(root), paper.beyond_the_paper(root)
    stems = list(dict.fromkeys(one.stem for one in [*asked, *beside, *besides] if one.lines))
    shown = {
        "parts": [
            ("claims", "The paper's claims", by_place(asked, section)),
            ("neighbours", "The neighbours' claims", by_place(beside, section)),
            ("beyond", "Beyond the paper", by_place(besides, section)),
        ],
        "answers": [
            (one.sentence(root), one.evidence(root), one.figure, page_link(one.link), answer_details(one, root))
            for one in answers()
        ],
        "asked": len(asked),
        "verdicts": paper.VERDICTS,
        "counts": Counter(one.verdict for one in [*asked, *beside, *besides]),
        "stands": paper.verdict_counts(one.verdict for one in asked),
        "errata": [(one, paper.evidence(one, root)) for one in paper.paper_errata()],
        "figures": page_figures(root, stems),
        "tables": tables(root, stems),
    }
    scripts = [f"\n{_piece(name)}" for name in SCRIPTS]
    theme = {
        "colours": colours(),
        "shades": {"light": explorer.shades(0, 0.88), "dark": explorer.shades(0.3, 1)},
        "explorer": json.dumps(explorer.knowledge()),
        "scripts": scripts,
        "policy": policy(scripts),
    }
    return _environment().get_template("page.html.j2").render(**shown, **theme, piece=_piece, anchor=anchor)
