"""The tables for papers: each as csv, Markdown and LaTeX that a real LaTeX compiles, or else a parser reads whole."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest
from pylatexenc.latexwalker import LatexEnvironmentNode, LatexMacroNode, LatexWalker

from manifold_lab.core.shown import frame
from manifold_lab.report import tables
from manifold_lab.report.tables import Document

ROOT = Path(__file__).parents[2]
STEMS = sorted(path.stem for path in (ROOT / "figures").glob("*.tex"))
HOSTILE = "a | b <c> \\ ~ ^ & % $ # _ { } é µ x\u0302 − ² ≤ ½ → 日 😀 \u200b ` ' \" << -- ?` [x] * @ \\\\"
LATEX = next((name for name in ("pdflatex", "lualatex", "xelatex") if shutil.which(name)), "")


def inner(nodes: list[object], name: str) -> LatexEnvironmentNode:
    """The one environment of that name."""
    (found,) = [one for one in nodes if isinstance(one, LatexEnvironmentNode) and one.environmentname == name]
    return found


def read(source: str) -> tuple[str, str, list[int]]:
    """Caption and label of a table, and how many cells each of its rows has; refused where it does not parse."""
    nodes, _, _ = LatexWalker(source, tolerant_parsing=False).get_latex_nodes()
    table = inner(nodes, "table*")
    macros = {one.macroname: one for one in table.nodelist if isinstance(one, LatexMacroNode)}
    after = {name: source[macro.pos :].partition("{")[2] for name, macro in macros.items()}
    body = inner(table.nodelist, "tabular").latex_verbatim()
    rows = [row for row in re.split(r"\\\\\n", body.partition("\\toprule\n")[2]) if "&" in row]
    cells = [len(re.findall(r"(?<!\\)&", row)) + 1 for row in rows]
    return after["caption"].rpartition("}\n")[0].partition("}\n\\label")[0], after["label"].partition("}")[0], cells


def texts(document: Document, folder: Path) -> str:
    for name, write in tables.typeset("t", document).items():
        write(folder / name)
    return (folder / "t.tex").read_text(encoding="utf-8")


@pytest.mark.parametrize("stem", STEMS)
def test_a_published_table_is_whole_in_every_format(stem: str) -> None:
    source = (ROOT / "figures" / f"{stem}.tex").read_text(encoding="utf-8")
    caption, label, cells = read(source)
    assert source.isascii() and label == f"tab:{stem}" and len(caption) > 20 and len(set(cells)) == 1
    shown = (ROOT / "figures" / f"{stem}.md").read_text(encoding="utf-8")
    rows = [line for line in shown.splitlines() if line.startswith("| ")]
    assert len(rows) - 1 == len(cells) and (ROOT / "figures" / f"{stem.removesuffix('_peaks')}.csv").is_file()
    assert all(len(re.findall(r"(?<!\\)\|", row)) - 1 == cells[0] for row in rows)


@pytest.mark.parametrize("stem", STEMS)
def test_a_caption_says_what_n_and_the_interval_are(stem: str) -> None:
    shown = (ROOT / "figures" / f"{stem}.md").read_text(encoding="utf-8")
    caption, _, head = shown.partition("\n\n| ")
    if "interval" in head.splitlines()[0]:
        assert "interval" in caption.lower() and re.search(r"\(n\)|\bn\b|1000 ImageNet images", caption)


@pytest.mark.skipif(bool(LATEX), reason="a real LaTeX reads it")
def test_the_parser_sees_a_table_that_latex_would_refuse(tmp_path: Path) -> None:
    source = texts(Document("Caption.", {"x": "x"}, frame([{"x": "1"}])), tmp_path)
    with pytest.raises(Exception, match=r"tabular|environment|nexpected"):
        read(source.replace("\\end{tabular}", "", 1))


def test_hostile_cells_stay_cells(tmp_path: Path) -> None:
    document = Document(HOSTILE, {"x": HOSTILE, "y": "y"}, frame([{"x": HOSTILE, "y": "1"}]))
    assert read(texts(document, tmp_path))[2] == [2, 2]


@pytest.mark.skipif(not LATEX, reason="no LaTeX is installed; the parser reads the tables")
def test_a_real_latex_compiles_every_table(tmp_path: Path) -> None:
    hostile = texts(Document(HOSTILE, {"x": HOSTILE}, frame([{"x": HOSTILE}])), tmp_path)
    sources = [hostile, *((ROOT / "figures" / f"{stem}.tex").read_text(encoding="utf-8") for stem in STEMS)]
    body = "\n\\clearpage\n".join(sources)
    page = f"\\documentclass[twocolumn]{{article}}\\usepackage{{booktabs}}\\begin{{document}}{body}\\end{{document}}"
    (tmp_path / "all.tex").write_text(page, encoding="utf-8")
    command = [LATEX, "-interaction=nonstopmode", "-halt-on-error", "all.tex"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False, errors="replace")
    assert done.returncode == 0, done.stdout[-2000:]
