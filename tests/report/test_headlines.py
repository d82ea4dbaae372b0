"""A figure's title follows the verdict of its claim."""

import importlib
from pathlib import Path

import pytest

from manifold_lab.core.statistics import Estimate
from manifold_lab.report.claims import published
from manifold_lab.report.headlines import Headline, headline
from manifold_lab.report.tables import ClaimResult

SAID = Headline("study.a_beats_b", "a beats b", "a does not beat b", "a and b are undecided")


def row(name: str, verdict: str, p_value: float | None = None) -> ClaimResult:
    found = Estimate(1.0, 0.5, 1.5, 10)
    return ClaimResult(f"study.{name}", "Figure 1", "a beats b", "points", found, verdict, "command", p_value)


@pytest.mark.parametrize(
    ("rows", "expected"),
    [
        ([row("a_beats_b/x", "holds", 0.001)], SAID.holds),
        ([row("a_beats_b/x", "fails", 0.001)], SAID.fails),
        ([row("a_beats_b/x", "undecided", 0.5)], SAID.undecided),
        ([row("a_beats_b/x", "holds", 0.001), row("a_beats_b/y", "fails", 0.001)], SAID.undecided),
        ([row("a_beats_b/x", "holds", 0.04), row("a_beats_b/y", "undecided", 0.5)], SAID.undecided),
        ([row("a_beats_b/x", "not run")], "Not run yet"),
        ([row("another/x", "holds", 0.001)], "Not run yet"),
        ([], "Not run yet"),
    ],
)
def test_the_verdict_decides_the_sentence(rows: list[ClaimResult], expected: str) -> None:
    assert headline(rows, SAID) == expected


@pytest.mark.parametrize(
    ("rows", "expected"),
    [
        ([row("a_beats_b/cifar10/1", "holds", 0.001), row("a_beats_b/digits", "undecided", 0.5)],
         "a beats b, on CIFAR-10 (digits: undecided)"),
        ([row("a_beats_b/cifar10/1", "not run"), row("a_beats_b/digits", "holds", 0.001)],
         "a beats b, on the digits (CIFAR-10: not run)"),
        ([row("a_beats_b/cifar10/1", "fails", 0.001), row("a_beats_b/digits", "undecided", 0.5)],
         "a does not beat b, on CIFAR-10 (digits: undecided)"),
        # a row that Holm's correction leaves open decides nothing of its data set
        ([row("a_beats_b/cifar10/1", "holds", 0.001), row("a_beats_b/digits/1", "holds", 0.04),
          row("a_beats_b/digits/2", "undecided", 0.4)], "a beats b, on CIFAR-10 (digits: undecided)"),
        # one length of a data set decides it, and two data sets that agree need no name
        ([row("a_beats_b/cifar10/1", "holds", 0.001), row("a_beats_b/cifar10/2", "undecided", 0.5)], SAID.holds),
        ([row("a_beats_b/cifar10", "holds", 0.001), row("a_beats_b/digits", "holds", 0.002)], SAID.holds),
        # of several claims in one sentence each has to be decided, and on one data set
        ([row("a_beats_b_first/digits", "holds", 0.001), row("a_beats_b_second/digits", "undecided", 0.5)],
         SAID.undecided),
        ([row("a_beats_b_first/digits", "holds", 0.001), row("a_beats_b_second/digits", "not run")], SAID.undecided),
        ([row("a_beats_b_first/digits", "holds", 0.001), row("a_beats_b_second/cifar10", "holds", 0.001)],
         SAID.undecided),
        ([row("a_beats_b_first/digits", "holds", 0.001), row("a_beats_b_second/digits", "fails", 0.001)],
         SAID.undecided),
    ],
)  # fmt: skip
def test_a_sentence_names_the_data_sets_that_decide_it(rows: list[ClaimResult], expected: str) -> None:
    assert headline(rows, SAID) == expected


def test_the_headline_of_every_published_study_has_rows_that_decide_it() -> None:
    root, asked = Path(__file__).parent.parent.parent, 0
    for name, rows in published(root).items():
        found = getattr(importlib.import_module(f"experiments.{name}"), "HEADLINE", None)
        if found and not found.claim.startswith("linear_beats_relu6/cifar10/last maps 4x4"):  # not run yet
            asked += 1
            assert any(row.id.startswith(f"{name}.{found.claim}") for row in rows), name
    assert asked > 8
