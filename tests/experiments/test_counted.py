"""The experiments that count or compute: what refutes a claim makes it fail, and what does not tell leaves it open."""

import math
import tomllib
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.stats import binom

from experiments import (
    ext_split,
    fig1_spiral,
    fig6_wirings,
    tab2_network,
    tab3_memory,
    tab4_cost,
    tab5_heads,
    tab_appendix,
    thm1_preserved,
)
from experiments.rules.tab_appendix import STATEMENTS
from manifold_lab.core.shown import DataFrame
from manifold_lab.core.statistics import Estimate, counted
from manifold_lab.models import profiler
from manifold_lab.models.mobilenet import ConvNormAct, build
from manifold_lab.models.specs import V2
from manifold_lab.report.printed import Printed
from manifold_lab.report.tables import ClaimResult, pick, read_claims, read_csv
from tests.tabled import tabled

ROOT = Path(__file__).parent.parent.parent
STUDIES = (
    ext_split,
    fig1_spiral,
    fig6_wirings,
    tab2_network,
    tab3_memory,
    tab4_cost,
    tab5_heads,
    tab_appendix,
    thm1_preserved,
)


def published(name: str, *text_columns: str) -> DataFrame:
    return read_csv((ROOT / "figures" / f"{name}.csv").read_text(encoding="utf-8"), text_columns)


def verdicts(claims: list[ClaimResult]) -> dict[str, str]:
    return {claim.id: claim.verdict for claim in claims}


@pytest.mark.parametrize("study", STUDIES, ids=lambda module: module.STUDY.name)
def test_the_registry_names_rows_that_are_published(study) -> None:
    registry = tomllib.loads((ROOT / "manifold_lab/report/claims/claims.toml").read_text(encoding="utf-8"))
    asked = [entry["decided_by"] for entry in registry["claim"] if "decided_by" in entry]
    asked += [one for entry in registry["erratum"] for one in entry["shown"] if isinstance(one, str)]
    name = study.STUDY.name
    there = [one.id for one in read_claims((ROOT / "figures" / f"{name}_claims.csv").read_text(encoding="utf-8"))]
    mine = [one for one in asked if one.startswith(f"{name}.")]
    assert mine and all(any(row == one or row.startswith(f"{one}/") for row in there) for one in mine)


@pytest.mark.parametrize(
    ("printed", "count", "matches", "said"),
    [
        (Printed("3.4", 10**6), 3_470_760, True, "matches as printed (cut off)"),
        (Printed("3.4", 10**6), 3_504_872, False, "differs by +3.1 %"),
        (Printed("1600", place="100"), 1568, True, "matches as printed"),
        (Printed("199"), 98, False, "differs by -51 %"),
        (Printed("19"), 17, False, "differs by -11 %"),
    ],
)
def test_a_count_is_compared_to_the_digits_that_are_printed(printed, count, matches, said) -> None:
    assert (printed.matches(count), printed.compared(count)) == (matches, said)


def test_table_2_fails_on_a_row_that_is_not_met_as_printed() -> None:
    tables = {part: published(f"tab2_network{part and '_' + part}") for part in ("", "counts")}
    wrong = {**tables, "": tables[""].replace("112x112x32", "112x112x31").assign(printed=tables[""]["printed"])}
    assert [verdicts(tab2_network.claims(one))["sizes"] for one in (tables, wrong)] == ["holds", "fails"]


def test_separable_layers_save_what_the_formula_of_their_channels_says() -> None:
    together, least, most = tab2_network.separable_factors(V2)
    assert least == pytest.approx(9 * 16 / (9 + 16)) and most == pytest.approx(9 * 320 / (9 + 320))
    assert least < together < most


def test_the_published_grid_fails_where_a_count_is_off_by_one_digit() -> None:
    tables = {"": published("tab4_cost", *tab4_cost.STUDY.text_columns), "grid": published("tab4_cost_grid")}
    wrong = {
        **tables,
        "grid": tables["grid"].replace({"madds": {tables["grid"]["madds"][0]: 12_000_000}}),
    }  # 11.93 million
    assert [verdicts(tab4_cost.claims(one))["authors_list"] for one in (tables, wrong)] == ["holds", "fails"]


@pytest.mark.parametrize(
    ("low", "high", "verdict"),
    [(0.8, 0.9, "holds"), (1.1, 1.2, "fails"), (0.9, 1.1, "undecided"), (math.nan, math.nan, "undecided")],
)
def test_a_ratio_of_times_is_decided_only_away_from_one(low: float, high: float, verdict: str) -> None:
    row = {
        "ratio": 0.8 if math.isnan(low) else (low + high) / 2,
        "low": low,
        "high": high,
        "n": 5,
        "paper_ratio": "0.66",
    }
    assert tab4_cost._time_claim("V2", row).verdict == verdict


def test_the_narrow_shortcut_saves_where_wide_tensors_must_outlive_their_block() -> None:
    blocks = tabled(tab3_memory.shortcuts(("bottleneck", "expansion")))
    eighth = pick(blocks, block=8).set_index("shortcut")
    ratio = {rule: eighth[rule]["expansion"] / eighth[rule]["bottleneck"] for rule in tab3_memory.RULES}
    assert ratio["by_operator"] == 1 and ratio["as_one"] == (2 * 64 + 2 * 384) / (2 * 64)


def test_a_split_that_costs_more_work_or_memory_is_seen() -> None:
    common = {"allocated": "10", "ratio": "1.5", "low": "1.4", "high": "1.6", "n": "30"}
    lines = [{"parts": str(parts), "madds": "5", **common} for parts in ext_split.PARTS]
    lines[0]["allocated"] = "20"
    block = {"alive": "130", "ends": "100", "largest_channel": "10"}
    found = ext_split.claims({"": tabled(lines), "blocks": tabled([block])})
    assert {claim.verdict for claim in found} == {"holds"}
    lines[2]["madds"] = "6"
    worse = verdicts(ext_split.claims({"": tabled(lines), "blocks": tabled([block, {**block, "alive": "131"}])}))
    assert (worse["same_madds"], worse["least_memory"]) == ("fails", "fails")
    open_ends = [{**line, "low": "0.9", "high": "2.1"} for line in lines]
    assert {claim.verdict for claim in ext_split.time_claims(tabled(open_ends))} == {"undecided"}


def test_as_many_shortcuts_between_expansions_as_between_bottlenecks() -> None:
    claim = fig6_wirings.claims(tabled(fig6_wirings.wirings(fig6_wirings.WIRINGS)))[0]
    assert (claim.verdict, claim.estimate.value) == ("holds", 10)


def test_distribution_of_a_constant_is_a_step() -> None:
    levels = fig1_spiral.distribution(3, np.full(10, 0.5))
    assert {line["estimate"] for line in levels} == {0.5}
    assert [levels[0]["level"], levels[-1]["level"]] == ["0.0", "1.0"]


def test_the_caption_of_figure_1_is_open_where_no_interval_tells() -> None:
    wide = published("fig1_spiral").assign(low=-9.0, high=9.0)
    assert {claim.verdict for claim in fig1_spiral.claims(wide)} == {"undecided"}


@pytest.mark.parametrize("name", STATEMENTS)
def test_every_estimated_statement_of_the_appendix_can_be_open(name: str) -> None:
    row = pick(published("tab_appendix"), claim=name).iloc[0]
    found = tab_appendix.estimate(row)
    holds = STATEMENTS[name][3]
    if row["n"] > 0:
        assert holds(found) is not None and holds(Estimate(found.value, -9.0, 9.0, 2)) is None
    else:
        assert holds(counted(found.value)) in (True, False)


@pytest.mark.slow
def test_the_appendix_fails_what_is_wrong_and_holds_what_is_right() -> None:
    found = tab_appendix.theorem_1(2000) | tab_appendix.lemma_2(400) | tab_appendix.decoder(100)
    judged = {name: STATEMENTS[name][3](estimate) for name, estimate in found.items()}
    assert [judged[name] for name in ("collapsed_fraction", "theorem_1_relu6", "theorem_1_bias")] == [False] * 3
    assert found["collapsed_fraction"].covers(1 - 0.8125)
    assert found["theorem_1_bias"].low > 0.8125 > found["theorem_1_relu6"].high
    assert judged["lemma_2_if"] and judged["lemma_2_only_if"] and not judged["lemma_2_everywhere"]
    raw = found["pinv_gives_back"]
    assert raw.covers(0.25) and not math.isclose(raw.low, raw.high)


def line_of(spec: thm1_preserved.Spec) -> dict[str, str]:
    return thm1_preserved.row(spec)


def cell(kept: int, n: int, law: float) -> dict[str, float]:
    return {"estimate": kept / n, "n": n, "theory": law}


def test_the_theorem_holds_fails_or_is_open_by_what_its_cells_show() -> None:
    near, far, few = cell(1250, 2500, 0.51), cell(1250, 2500, 0.6), cell(50, 100, 0.5)
    tables = (tabled(cells) for cells in ([near] * 20, [near] * 20 + [far], [near] * 20 + [few], []))
    assert [thm1_preserved.agreement(table)[1] for table in tables] == ["holds", "fails", "undecided", "not run"]


@pytest.mark.slow
def test_equivalence_is_wrong_in_at_most_5_percent_at_the_margin() -> None:
    n, law = 2500, 0.5
    kept = np.arange(n + 1)
    says_inside = np.array([thm1_preserved.margin_tests(k, n, law)[0] < 0.05 for k in kept])
    says_outside = np.array([thm1_preserved.margin_tests(k, n, law)[1] < 0.05 for k in kept])
    for truth in (law - thm1_preserved.MARGIN, law + thm1_preserved.MARGIN):
        chance = binom.pmf(kept, n, truth)
        assert chance[says_inside].sum() <= 0.05 and chance[says_outside].sum() <= 0.05


def test_the_papers_bound_is_judged_at_the_networks_own_expansions() -> None:
    network = build(V2)
    widths = {block.expand.conv.in_channels for block in network.blocks if isinstance(block.expand, ConvNormAct)}
    assert widths == thm1_preserved.EXPANDED
    at_six = {**line_of(thm1_preserved.Spec(2, 6.0, draws=100)), "estimate": ""}

    def bound(verdict: str) -> ClaimResult:
        lines = [{**at_six, "inputs": str(n), "bound": verdict} for n in sorted(widths)]
        return thm1_preserved.claims(tabled([{**at_six, "bound": "fails"}, *lines]))[-1]

    assert [bound(verdict).verdict for verdict in ("holds", "fails")] == ["holds", "fails"]
    assert bound("holds").estimate.value == len(widths)


def test_heads_cost_what_a_convolution_of_torch_counts() -> None:
    network = torch.nn.Sequential(
        torch.nn.Conv2d(6, 6, 3, padding=1, groups=6, bias=False), torch.nn.Conv2d(6, 8, 1, bias=False)
    )
    cost = profiler.cost(profiler.profile(network, (6, 5, 5)))
    assert tab5_heads.convolution(6, 8, 5, kernel=3, separable=True).tolist() == [cost.parameters, cost.madds]
    plain = torch.nn.Sequential(torch.nn.Conv2d(6, 8, 3, padding=1, bias=False))
    cost = profiler.cost(profiler.profile(plain, (6, 5, 5)))
    assert tab5_heads.convolution(6, 8, 5, kernel=3).tolist() == [cost.parameters, cost.madds]
