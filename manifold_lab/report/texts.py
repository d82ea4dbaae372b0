"""Prose and csv kept together: python -m manifold_lab.report [--check | --html FOLDER | --serve].

A text holds blocks between `<!-- begin NAME -->` and `<!-- end NAME -->`; each is a function of published csv files.
The page is another function of them.
"""

import dataclasses
import re
from collections.abc import Callable, Sequence
from pathlib import Path

from manifold_lab.core.errors import InputError, one_of
from manifold_lab.core.files import as_published, check_folder, publish, read_text, text
from manifold_lab.models import mobilenet, specs
from manifold_lab.report import claims as paper
from manifold_lab.report import html as page
from manifold_lab.report import network_table, pages, results_table
from manifold_lab.report.answers import answer_list, answers
from manifold_lab.report.claims import ClaimVerdict
from manifold_lab.report.options import ReportOptions
from manifold_lab.report.speed_bounds import speed_bounds
from manifold_lab.report.speed_table import SPEED_BLOCKS
from manifold_lab.report.tables import MISSING, claim_sentence, markdown, read_claims, read_csv


def spiral_table(root: Path) -> str:
    """The terminal's table as markdown."""
    numbers = read_csv(read_text(root / "figures" / "spiral.csv"))
    return markdown(results_table.RESULT_HEAD, results_table.summary_table(numbers, results_table.asked_dims(numbers)))


def spiral_text(root: Path) -> str:
    """One sentence per dim."""
    numbers = read_csv(read_text(root / "figures" / "spiral.csv"))
    return "\n".join(f"- {results_table.dim_sentence(numbers, dim)}" for dim in results_table.asked_dims(numbers))


VERDICT_HEAD = ("claim", "printed", "measured here", "verdict")
DETAIL_HEAD = ("claim", "measured", "on what", "command", "commit", "cost")


def verdict_table(found: Sequence[ClaimVerdict]) -> str:
    """Claims with number and verdict, a line each; below, folded, what was measured on what and how."""
    rows = [
        [one.claim.says, one.claim.printed or MISSING, one.value, f"**{one.verdict}**{one.within}"] for one in found
    ]
    details = [_details(one) for one in found]
    folded = f"<details><summary>how measured</summary>\n\n{markdown(DETAIL_HEAD, details)}\n\n</details>"
    return f"{markdown(VERDICT_HEAD, rows)}\n\n{folded}"


def _details(one: ClaimVerdict) -> list[str]:
    command = f"`{one.command}`" if one.command else MISSING
    return [one.claim.says, one.measured, one.claim.on or MISSING, command, one.commit, one.cost]


def by_section(found: Sequence[ClaimVerdict]) -> str:
    """Tables of claims, one a part of the paper, in the order in which the parts come."""
    return "\n\n".join(f"### {one.name}\n\n{verdict_table(one.claims)}" for one in page.by_place(found, page.section))


def claims_block(root: Path) -> str:
    """Every claim of the paper, by its parts, and how many stand how."""
    found = paper.verdicts(root)
    counts = paper.verdict_counts(one.verdict for one in found)
    return f"Of {len(found)} claims {counts}.\n\n{by_section(found)}"


def neighbours_block(root: Path) -> str:
    """Every claim of the other papers, a table a paper."""
    sections = [
        f"### {one.name}\n\n*{one.title}*, arXiv:{one.arxiv}.\n\n{verdict_table(paper.verdicts(root, one.claims))}"
        for one in paper.neighbour_papers()
    ]
    return "\n\n".join(sections)


def answers_block(root: Path) -> str:
    """What a reader wants to know first, a sentence each, with what it rests on."""
    return answer_list(answers(), root, lambda one: f"[More]({one.link})")


def beyond_block(root: Path) -> str:
    """What was decided besides."""
    return by_section(paper.beyond_the_paper(root))


def errata_block(root: Path) -> str:
    """What the paper prints wrongly, each with the numbers that show it and the command that computes them."""
    lines = []
    for erratum in paper.paper_errata():
        lines.append(f"{erratum.number}. {erratum.says}")
        lines += [f"   - {said}: **{value}**, by `{command}`" for said, value, command in paper.evidence(erratum, root)]
    return "\n".join(lines)


def table(root: Path, name: str) -> str:
    """A published table as it stands."""
    return read_text(root / "figures" / f"{name}.md").strip()


def study_text(root: Path, name: str) -> str:
    """What a study says of its numbers."""
    return read_text(root / "figures" / f"{name}_text.md").strip()


def study_claims(root: Path, name: str) -> str:
    """A study's claims, each with its verdict and number."""
    found = read_claims(read_text(root / "figures" / f"{name}_claims.csv"))
    return "\n".join(f"- {claim_sentence(one)}" for one in found)


def network_command(_root: Path) -> str:
    """The beginning and the end of what the command `network` prints."""
    made = mobilenet.build(dataclasses.replace(specs.V2, width=0.5))
    lines = network_table.cost_lines(made)
    shown = markdown(*network_table.displayed([lines[0], *lines[3:6], lines[-1]]))
    return f"{shown}\n\n{network_table.totals(made)}"


TEXT_BLOCKS: dict[str, Callable[[Path], str]] = {
    "spiral-table": spiral_table,
    "spiral-text": spiral_text,
    "network-command": network_command,
    "claims": claims_block,
    "errata": errata_block,
    "answers": answers_block,
    "neighbours": neighbours_block,
    "beyond": beyond_block,
    **SPEED_BLOCKS,
    "speed-bounds": speed_bounds,
    "experiments": pages.experiments,
    "findings": pages.findings,
    "gallery": pages.gallery,
    "probe-frame": pages.probe_frame,
}
PUBLISHED_BLOCKS: dict[str, Callable[[Path, str], str]] = {"table": table, "text": study_text, "claims": study_claims}
"""Blocks of any study, by kind: `<!-- begin table:NAME -->`."""


def filled(content: str, root: Path) -> str:
    """The text with every marked block made anew.

    Raises:
        InputError: for a block that nobody knows how to fill, or a csv that is missing.
    """

    def fill(found: re.Match[str]) -> str:
        kind, _, name = found[1].partition(":")
        with as_published(found[1]):
            if name:
                content = PUBLISHED_BLOCKS[one_of("block", kind, PUBLISHED_BLOCKS)](root, name)
            else:
                content = TEXT_BLOCKS[one_of("block", kind, TEXT_BLOCKS)](root)
        return f"<!-- begin {found[1]} -->\n{content}\n<!-- end {found[1]} -->"

    return re.sub(r"<!-- begin (\S+) -->\n.*?<!-- end \1 -->", fill, content, flags=re.DOTALL)


def run(options: ReportOptions) -> None:
    """Fill or check every text, or make the page.

    Raises:
        InputError: with --check, naming the text that is stale; for a folder or port that cannot be had.
    """
    if options.html is not None:
        check_folder(options.html)
        (written,) = publish(options.html, {page.PAGE_NAME: text(page.build_page(options.root))})
        print(f"written: {written}")
    if options.serve:
        page.serve(page.build_page(options.root), options.port)
    if options.html is None and not options.serve:
        refresh(options)


def refresh(options: ReportOptions) -> None:
    """Fill or check every text.

    Raises:
        InputError: with --check, naming the text that is stale.
    """
    for name in page.TEXTS:
        path = options.root / name
        content = read_text(path, "name a checkout with --root")
        fresh = filled(content, options.root)
        if options.check and fresh != content:
            raise InputError(f"{name} and the csv files differ; run python -m manifold_lab.report")
        if fresh != content:
            publish(path.parent, {path.name: text(fresh)})
