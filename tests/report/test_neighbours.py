"""The other papers' claims: one engine, a file a paper, and what has no runs is not run."""

from pathlib import Path

import pytest

from experiments.rules import ext_cause_neighbours as neighbours_rule
from manifold_lab.report import claims as paper
from manifold_lab.report.claims import published_rows, study_of
from manifold_lab.report.texts import neighbours_block
from tests.tabled import tabled

ROOT = Path(__file__).parent.parent.parent
HIGH, LOW = [64.0, 65.0, 66.0, 64.0, 66.0], [60.0, 61.0, 60.0, 61.0, 62.0]


def test_every_neighbour_has_a_number_of_its_own_and_every_claim_rows_that_decide_it() -> None:
    papers = paper.neighbour_papers()
    assert {one.arxiv for one in papers} >= {"2007.00992", "1603.05027", "2007.02269", "1511.02580", "1905.12784"}
    assert len({one.arxiv for one in papers}) == len(papers)
    studies = {path.stem for path in (ROOT / "experiments").glob("*.py")}
    asked = [claim.decided_by for one in papers for claim in one.claims]
    assert all(study_of(one) in studies for one in asked)
    there = paper.published(ROOT)
    assert {one for one in asked if study_of(one) in there and not published_rows(ROOT, one)} == set()


def test_a_table_a_paper_with_a_verdict_for_every_claim() -> None:
    message = neighbours_block(ROOT)
    for one in paper.neighbour_papers():
        assert f"### {one.name}" in message and f"arXiv:{one.arxiv}" in message
        assert all(claim.says in message for claim in one.claims)
    found = paper.neighbours_verdicts(ROOT)
    assert {one.verdict for one in found} <= set(paper.VERDICTS) - {paper.NOT_TESTABLE}
    assert all(one.verdict == "not run" for one in found if not one.lines)


def test_rows_that_a_neighbour_asks_for_are_not_beyond_the_paper() -> None:
    asked = {line.id for one in paper.neighbours_verdicts(ROOT) for line in one.lines}
    assert asked and all(line.id not in asked for one in paper.beyond_the_paper(ROOT) for line in one.lines)


@pytest.mark.parametrize(
    ("behind", "before", "verdict"),
    [
        (HIGH, LOW, "holds"),
        (LOW, HIGH, "fails"),
        (LOW, LOW[::-1], "undecided"),
        (HIGH[:4], LOW, "undecided"),
        ([], LOW, "not run"),
    ],
)
def test_the_order_of_addition_and_relu_and_gradients_are_decided_from_five_runs_on(
    behind: list[float], before: list[float], verdict: str
) -> None:
    runs = {"after_sum": behind, "relu6": before}
    assert neighbours_rule.before_the_sum(runs, "cifar10/120000").verdict == verdict
    norms = {"linear": behind, "relu6": before}
    at_another = neighbours_rule.gradients(norms, "cifar10/120000", ", at another learning rate")
    assert at_another.verdict == verdict
    assert at_another.id == f"{neighbours_rule.THROUGH}/at_another_learning_rate/cifar10/120000"
    assert neighbours_rule.gradients(norms, "cifar10/120000").id == f"{neighbours_rule.THROUGH}/cifar10/120000"


def test_gradients_are_those_of_the_first_block_in_the_middle_of_a_run() -> None:
    lines = [
        {"arm": "linear", "seed": seed, "block": block, "images": images, "gradient_norm": norm}
        for seed in (0, 1)
        for block, scale in ((0, 1), (1, 50))
        for images, norm in ((0, 9 * scale), (60032, scale * 10**seed), (120000, 7 * scale))
    ]
    assert neighbours_rule.first_gradients(tabled(lines)) == {"linear": [0.0, 1.0]}
