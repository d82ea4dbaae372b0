"""What a reader wants to know first, put together from published rows."""

import re
from pathlib import Path

import pytest

from manifold_lab.report.answers import Answer, Part, answer_list, answers
from manifold_lab.report.claims import published_rows
from manifold_lab.report.tables import claim_value, to_csv

ROOT = Path(__file__).parent.parent.parent
ROW = {"id": "other.grows/2", "place": "Figure 9", "says": "it grows", "measure": "that", "estimate": "3.14159",
       "low": "3", "high": "4", "n": "7", "verdict": "holds", "p": "", "within": "", "needed": "",
       "command": "python -m experiments.other"}  # fmt: skip
PART = Part("other.grows", "it is {value:.1f} wide, {percent}", "it is narrow")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "figures").mkdir()
    return tmp_path


def publish(root: Path, **changed: str) -> None:
    (root / "figures" / "other_claims.csv").write_text(to_csv([ROW | changed]))


def test_at_most_seven_answers_each_with_numbers_and_a_place_that_exists() -> None:
    text = (ROOT / "paper_repro.md").read_text(encoding="utf-8")
    heads = {re.sub(r"[^a-z0-9 -]", "", line.strip("# ").lower()).replace(" ", "-") for line in text.splitlines()
             if line.startswith("#")}  # fmt: skip
    assert 3 < len(answers()) <= 7 and sorted(one.readme for one in answers() if one.readme) == [1, 2, 3]
    for answer in answers():
        assert answer.link.removeprefix("#") in heads or (ROOT / answer.link).is_file(), answer.link
        assert answer.text or all(part.holds and part.fails for part in answer.part)
        for part, line in zip(answer.part, answer.evidence(ROOT), strict=True):
            (row,) = published_rows(ROOT, part.row)
            assert line.startswith(row.verdict) and row.says in line and claim_value(row) in line


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({}, "Width: it is 3.1 wide, 314 %; it is 3.1 wide, 314 %."),
        ({"verdict": "fails"}, "Width: it is narrow; it is narrow."),
        ({"verdict": "undecided", "within": "0.5", "needed": "9 runs"},
         "Width: undecided: it grows; undecided: it grows."),
        ({"verdict": "not run", "estimate": "", "low": "", "high": "", "n": "0"},
         "Width: not run: it grows; not run: it grows."),
    ],
)  # fmt: skip
def test_the_verdict_decides_what_a_part_says(changed: dict[str, str], said: str, root: Path) -> None:
    publish(root, **changed)
    answer = Answer("#there", (PART, PART), "Width")
    assert answer.sentence(root) == said and answer.figure == ""
    (line,) = set(answer.evidence(root))
    assert line.startswith(changed.get("verdict", "holds")) and "it grows (Figure 9); that: " in line
    shown = [text.strip() for text in answer_list([answer], root, lambda one: f"({one.link})").splitlines() if text]
    folded = ["<details><summary>what it rests on</summary>", f"- {line}", f"- {line}", "</details>"]
    assert shown == [f"1. **{said}** (#there)", *folded]


def test_an_answer_opens_with_what_its_study_says(root: Path) -> None:
    answer = Answer("figures/other.png", (Part("other.grows"),), text="other")
    assert answer.sentence(root) == "Not run: other." and answer.details(root) == [] and answer.figure == "other"
    text = root / "figures" / "other_text.md"
    text.write_text("**Why so?** Since .1 is less; it is *small*.\n\nThe cost: 3.5 [.1, 7].\n\n| a |\n| --- |\n| b |\n")
    assert answer.sentence(root) == "Why so? Since .1 is less; it is small."
    assert answer.details(root) == ["The cost: 3.5 [.1, 7].", "| a |\n| --- |\n| b |"]


def test_an_answer_without_its_row_says_that_it_was_not_run(root: Path) -> None:
    (root / "figures" / "other_claims.csv").write_text("id,verdict\n")
    answer = Answer("#there", (PART,), "Width")
    assert answer.sentence(root) == "Width: not run: other.grows." and answer.evidence(root) == ["not run: other.grows"]


def test_the_cause_comes_first_with_its_tables() -> None:
    first, *others = answers()
    assert [one.text for one in answers()] == ["ext_cause", *[""] * len(others)] and first.figure == "ext_cause"
    assert any(block.startswith("| ") for block in first.details(ROOT))
