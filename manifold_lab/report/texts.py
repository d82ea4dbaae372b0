"""Prose and csv kept together: python -m manifold_lab.report [--check | --html FOLDER | --serve].

A text holds blocks between `<!-- begin NAME -->` and `<!-- end NAME -->`; each is a function of published csv files.
The page is another function of them.
"""

import dataclasses
import re
from collections.abc import Callable, Sequence
from pathlib import Path

from manifold_lab.core.errors import InputError, one_of
from manifold_lab.core.files import check_folder, publish, text
from manifold_lab.models import mobilenet, specs
from manifold_lab.report import claims as paper
from manifold_lab.report import html as page
from manifold_lab.report import network_table, results_table
from manifold_lab.report.claims import ClaimVerdict
from manifold_lab.report.options import ReportOptions
from manifold_lab.report.tables import MISSING, Lines, claim_sentence, markdown, percent, read_csv

TEXTS = page.TEXTS


def _read(path: Path) -> Lines:
    try:
        return read_csv(path.read_text(encoding="utf-8"))
    except OSError:
        raise InputError(f"{path} is missing: run the command that publishes it first") from None


def _asked(numbers: Lines) -> list[int]:
    """The dims that were asked for: those with a typical draw."""
    return sorted({int(line["dim"]) for line in numbers if line["statistic"] == results_table.TYPICAL})


def spiral_table(root: Path) -> str:
    """The terminal's table as markdown."""
    numbers = _read(root / "figures" / "spiral.csv")
    body = [line for dim in _asked(numbers) for line in results_table.summary_rows(numbers, dim)]
    return markdown(results_table.RESULT_HEAD, body)


def spiral_words(root: Path) -> str:
    """One sentence per dim."""
    numbers = _read(root / "figures" / "spiral.csv")
    return "\n".join(f"- {results_table.dim_sentence(numbers, dim)}" for dim in _asked(numbers))


FINDING = ("where", "claim", "its number", "measured", "value", "on what", "verdict", "command", "commit", "cost")


def verdict_table(found: Sequence[ClaimVerdict]) -> str:
    """Claims beside what was measured, one per line."""
    return markdown(FINDING, [_finding(one) for one in found])


def _finding(one: ClaimVerdict) -> list[str]:
    command = f"`{one.command}`" if one.command else MISSING
    words = [one.claim.place, one.claim.says, one.claim.printed or MISSING, one.measured, one.value]
    return [*words, one.claim.on or MISSING, f"**{one.verdict}**", command, one.commit, one.cost]


def claims_block(root: Path) -> str:
    """Every claim of the paper, in its order, and how many stand how."""
    found = paper.verdicts(root)
    told = paper.verdict_counts(one.verdict for one in found)
    return f"Of {len(found)} claims {told}.\n\n{verdict_table(found)}"


def beyond_block(root: Path) -> str:
    """What was decided besides."""
    return verdict_table(paper.beyond_the_paper(root))


def errata_block(root: Path) -> str:
    """What the paper prints wrongly, each with the numbers that show it and the command that computes them."""
    lines = []
    for erratum in paper.paper_errata():
        lines.append(f"{erratum.number}. {erratum.says}")
        lines += [f"   - {said}: **{value}**, by `{command}`" for said, value, command in paper.evidence(erratum, root)]
    return "\n".join(lines)


def table_block(stem: str) -> Callable[[Path], str]:
    """A block that is a published table as it stands."""

    def block(root: Path) -> str:
        path = root / "figures" / f"{stem}.md"
        if not path.is_file():
            raise InputError(f"{path} is missing: run the command that publishes it first")
        return path.read_text(encoding="utf-8").strip()

    return block


def lesions(root: Path) -> str:
    """One sentence per kind of lesion."""
    intact, *lines = _read(root / "figures" / "ext_lesions.csv")
    kinds = list(dict.fromkeys(line["kind"] for line in lines))
    words = [f"- Intact: top-1 {_share(intact)} of {intact['n']} pictures."]
    for kind in kinds:
        *single, together = [line for line in lines if line["kind"] == kind]
        worst = min(single, key=lambda line: float(line["difference"]))
        least = max(single, key=lambda line: float(line["difference"]))
        words.append(
            f"- `{kind}`: one block at a time, the change of top-1 is between {_change(worst)} points (block "
            f"{worst['block']}) and {_change(least)} (block {least['block']}); in all {together['blocks']} blocks, "
            f"{_change(together)}, which leaves {_share(together)}."
        )
    return "\n".join(words)


def _share(line: dict[str, str]) -> str:
    value, low, high = (100 * float(line[f"top1{end}"]) for end in ("", "_low", "_high"))
    return f"{value:.1f} % ({low:.1f} to {high:.1f})"


def _change(line: dict[str, str]) -> str:
    value, low, high = (100 * float(line[f"difference{end}"]) for end in ("", "_low", "_high"))
    return f"{value:+.1f} ({low:+.1f} to {high:+.1f})"


def bound(root: Path) -> str:
    """The paper's last bound beside the exact value, at the network's own expansion."""
    lines = [line for line in _read(root / "figures" / "thm1_preserved.csv") if line["expansion"] == "6"]
    head = ("n", "m = 6n", "log2 of the lost fraction, exact", "the bound, -m/2", "the bound")
    keys = ("inputs", "dim", "log2_lost", "log2_bound")
    return markdown(head, [[f"{float(line[key]):.6g}" for key in keys] + [line["bound"]] for line in lines])


def speed(root: Path) -> str:
    """Ratios of the benchmark."""
    lines = _read(root / "benchmarks" / "spiral.csv")
    head = ("dim", "precision", "computed", "numpy loop, s", "ours, s", "ratio", "of bandwidth", "of arithmetic")
    keys = ("dim", "dtype", "work", "peer_seconds", "ours_seconds", "ratio")
    shares = ("share_of_bandwidth", "share_of_arithmetic")
    body = [[line[key] for key in keys] + [percent(float(line[key])) for key in shares] for line in lines]
    note = f"{lines[0]['draws']} draws of {lines[0]['points']} points; medians of {lines[0]['rounds']} rounds in turns."
    return markdown(head, body) + "\n\n" + note


def network_speed(root: Path) -> str:
    """Ratios of the network's benchmark."""
    lines = _read(root / "benchmarks" / "network.csv")
    head = ("work", "resolution", "batch", "width", "ours", "pictures/s", "peer", "ratio", results_table.RESULT_HEAD[3])
    keys = ("work", "resolution", "batch", "width", "contestant", "images_per_second", "peer", "ratio")
    body = [[line[key] for key in keys] + [f"{line['low']} to {line['high']}"] for line in lines]
    first = lines[0]
    note = _rounds(first)
    return markdown(head, body) + "\n\n" + note


def _rounds(line: dict[str, str]) -> str:
    return f"Medians of {line['n']} rounds in turns, {line['threads']} threads, torch {line['torch']}."


def training_speed(root: Path) -> str:
    """Ratio of whole epochs, and what a cell spends around its steps."""
    first, *around = _read(root / "benchmarks" / "training.csv")
    head = ("ours", "pictures/s", "peer", "ratio", results_table.RESULT_HEAD[3])
    keys = ("contestant", "images_per_second", "peer", "ratio")
    ends = MISSING if first["low"] == "nan" else f"{first['low']} to {first['high']}"
    body = [[first[key] for key in keys] + [ends]]
    note = _rounds(first)
    spent = ", ".join(f"{line['work']} {line['seconds']} s" for line in around)
    whole = percent(sum(float(line["share"]) for line in around))
    told = (
        f"Around the steps of a cell of the ablations, as long as it is at this rate: {spent}; together {whole} of it."
    )
    return markdown(head, body) + f"\n\n{note} {told}"


def probe_speed(root: Path) -> str:
    """Time and memory of looking at every activation, against the forward pass alone."""
    lines = _read(root / "benchmarks" / "probe.csv")
    head = ("contestant", "ms", "time / plain", results_table.RESULT_HEAD[3], "peak MiB", "peak / plain")
    body = [
        [line["contestant"], line["milliseconds"], line["ratio"], f"{line['low']} to {line['high']}", line["peak_mib"],
         line["peak_ratio"]]
        for line in lines
    ]  # fmt: skip
    first = lines[0]
    note = _rounds(first)
    return markdown(head, body) + f"\n\n{note}"


def network_door(_root: Path) -> str:
    """The beginning and the end of what the network's door prints."""
    made = mobilenet.build(dataclasses.replace(specs.V2, width=0.5))
    lines = network_table.network_rows(made)
    rows = [lines[0], *lines[3:6], lines[-1]]
    return f"{markdown(network_table.NETWORK_HEAD, rows)}\n\n{network_table.totals(made)}"


def study_door(root: Path) -> str:
    """What publishing Figure 6a says, with its numbers."""
    lines = _read(root / "figures" / "fig6a_nonlinearity_claims.csv")
    return "\n".join(f"- {claim_sentence(line)}: {paper.claim_value(line)}" for line in lines)


TEXT_BLOCKS: dict[str, Callable[[Path], str]] = {
    "spiral-table": spiral_table,
    "spiral-words": spiral_words,
    "network-door": network_door,
    "study-door": study_door,
    "claims": claims_block,
    "errata": errata_block,
    "beyond": beyond_block,
    "bound": bound,
    "speed": speed,
    "network-speed": network_speed,
    "training-speed": training_speed,
    "probe-speed": probe_speed,
    "table-2": table_block("tab2_network"),
    "table-3": table_block("tab3_memory"),
    "table-3-peaks": table_block("tab3_memory_peaks"),
    "table-4": table_block("tab4_cost"),
    "figure-6a": table_block("fig6a_nonlinearity"),
    "figure-6b": table_block("fig6b_shortcut"),
    "two-switches": table_block("ext_shortcut_x_nonlinearity"),
    "blocks": table_block("tab_block"),
    "expansions": table_block("ext_expansion"),
    "lesions": lesions,
}


def filled(content: str, root: Path) -> str:
    """The text with every marked block made anew.

    Raises:
        InputError: for a block that nobody knows how to fill, or a csv that is missing.
    """

    def fill(found: re.Match[str]) -> str:
        name = one_of("block", found[1], TEXT_BLOCKS)
        return f"<!-- begin {name} -->\n{TEXT_BLOCKS[name](root)}\n<!-- end {name} -->"

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
    for name in TEXTS:
        content = (options.root / name).read_text(encoding="utf-8")
        fresh = filled(content, options.root)
        if options.check and fresh != content:
            raise InputError(f"{name} and the csv files differ; run python -m manifold_lab.report")
        if fresh != content:
            path = options.root / name
            publish(path.parent, {path.name: text(fresh)})
