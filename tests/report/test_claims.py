"""The paper's claims beside what decides them, and the experiment of its appendix."""

import dataclasses
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from experiments import tab2_network, tab_appendix
from manifold_lab.core import contrasts, provenance, statistics
from manifold_lab.core.errors import InputError
from manifold_lab.models.specs import V2
from manifold_lab.report import claims as paper
from manifold_lab.report.answers import answers
from manifold_lab.report.claims import Claim, ClaimVerdict, published_rows, study_of
from manifold_lab.report.tables import ClaimResult, claim_value, read_claims, to_csv, verdict_text
from manifold_lab.report.texts import verdict_table

ROOT = Path(__file__).parent.parent.parent
PLACES = (
    "Figure 1", "Section 3.2, 1", "Section 3.2, 2", "Section 3.2, 3", "Section 3.3", "Table 1", "Table 2", "Table 3",
    "Table 4", "Section 5.1", "Figure 5", "Figure 6a", "Figure 6b", "Section 6.4", "Lemma 1", "Lemma 2", "Theorem 1",
    "After Theorem 1", "Figure 7a", "Figure 7b",
)  # fmt: skip
LINE = {"id": "some.claim", "place": "here", "says": "it is so", "measure": "that",
        "command": "python -m experiments.some", "p": "", "within": "", "needed": ""}  # fmt: skip


def line(verdict: str, estimate: str = "2", low: str = "1", high: str = "3", **more: str) -> ClaimResult:
    row = LINE | {"verdict": verdict, "estimate": estimate, "low": low, "high": high, "n": "1000"} | more
    return read_claims(to_csv([row]))[0]


def finding(*verdicts: str, p: str = "") -> ClaimVerdict:
    rows = [line(verdict, id=f"some.claim/{place}", p=p) for place, verdict in enumerate(verdicts)]
    return ClaimVerdict(Claim("here", "it is so", decided_by="some.claim"), rows)


def test_every_place_of_the_paper_has_a_claim_and_every_claim_a_way_to_be_decided() -> None:
    claims = paper.paper_claims()
    assert all(any(place in claim.place for claim in claims) for place in PLACES)
    assert all(bool(claim.decided_by) != bool(claim.why) for claim in claims)
    assert all(claim.on for claim in claims if claim.decided_by)
    assert [erratum.number for erratum in paper.paper_errata()] == list(range(1, 15))


def test_an_undecided_claim_of_one_row_says_within_how_much_and_what_would_decide() -> None:
    found = ClaimVerdict(finding("undecided").claim, [line("undecided", low="1", high="3", needed="12 runs an arm")])
    assert found.within == " (within ±1; 12 runs an arm would decide)"
    assert finding("holds").within == finding("undecided", "holds").within == ""


def test_every_published_row_that_is_undecided_says_what_would_decide_and_no_other_does() -> None:
    rows = [row for found in paper.published(ROOT).values() for row in found]
    assert {row.id for row in rows if bool(row.needed) != (row.verdict == "undecided")} == set()
    searched = line("undecided", estimate="1", low="", high="", needed="a better search")
    assert verdict_text(searched) == "undecided (a better search would decide)"


def test_a_claim_that_was_not_run_says_what_its_study_lacks() -> None:
    made = provenance.Made((), 60.0, (), missing=70, missing_seconds=7200.0)
    for here, message in (
        (made, " (70 runs of some are missing: about 2 h one after another)"),
        (dataclasses.replace(made, missing_seconds=None), " (70 runs of some are missing)"),
        (dataclasses.replace(made, missing=0, missing_seconds=None), ""),
    ):
        known = json.loads(here.text())
        claim = finding().claim
        assert ClaimVerdict(claim, [line("not run", estimate="")], known).within == message
        assert ClaimVerdict(claim, [line("holds")], known).within == ""


def test_what_is_published_is_found_by_the_claims_that_name_it() -> None:
    there = paper.published(ROOT)
    asked = [claim.decided_by for claim in paper.paper_claims() if claim.decided_by]
    asked += [one for erratum in paper.paper_errata() for one in erratum.shown]
    asked += [part.row for answer in answers() for part in answer.part]
    assert {one for one in asked if study_of(one) in there and not published_rows(ROOT, one)} == set()
    studies = {path.stem for path in (ROOT / "experiments").glob("[!_]*.py")}
    assert {one for one in asked if study_of(one) not in studies} == set()


def test_every_published_row_stands_somewhere() -> None:
    shown = [
        one
        for found in (paper.verdicts(ROOT), paper.neighbours_verdicts(ROOT), paper.beyond_the_paper(ROOT))
        for finding in found
        for one in finding.lines
    ]
    shown += [one for erratum in paper.paper_errata() for asked in erratum.shown for one in published_rows(ROOT, asked)]
    ids = {one.id for one in shown}
    assert all(one.id in ids for lines in paper.published(ROOT).values() for one in lines)


@pytest.mark.parametrize(
    ("verdicts", "expected", "value"),
    [
        (("holds",), "holds", "2 (1 to 3; n = 1,000)"),
        (("holds",) * 7, "holds", "of 7, 7 hold"),
        (("holds",) * 6 + ("undecided",), "holds", "of 7, 6 hold, 1 is undecided"),
        (("holds",) * 5 + ("undecided", "fails"), "fails", "of 7, 5 hold, 1 fails, 1 is undecided"),
        (("not run",) * 7, "not run", "of 7, 7 are not run"),
        ((), "not run", "–"),
    ],
)
def test_a_claim_of_several_counted_rows_fails_where_one_does(
    verdicts: tuple[str, ...], expected: str, value: str
) -> None:
    found = finding(*verdicts)
    assert found.verdict == expected
    assert re.sub(r"\s", " ", found.value) == value
    assert found.command == "python -m experiments.some"


@pytest.mark.parametrize(
    ("rows", "expected"),
    [
        ([("holds", "0.001"), ("undecided", "0.5")], "holds"),
        ([("holds", "0.04"), ("undecided", "0.5")], "undecided"),
        ([("holds", "0.001"), ("fails", "0.001")], "undecided"),
        ([("fails", "0.001"), ("undecided", "0.9"), ("not run", "")], "fails"),
    ],
)
def test_tested_rows_decide_a_claim_after_holms_correction(rows: list[tuple[str, str]], expected: str) -> None:
    lines = [line(verdict, id=f"some.claim/{place}", p=p) for place, (verdict, p) in enumerate(rows)]
    assert paper.combined(lines) == expected


@pytest.mark.slow
def test_a_claim_of_many_rows_without_an_effect_is_decided_in_at_most_five_per_cent() -> None:
    """Six trained rows of five runs an arm each, whose spread is that of the real arms."""
    draws, many, decided = np.random.default_rng(0), 1000, 0
    for _ in range(many):
        lines = []
        for place in range(6):
            groups = [(draws.normal(0, spread, 5), sign) for spread, sign in ((2.5, 1.0), (0.9, -1.0))]
            found = contrasts.contrast(groups)
            verdict = statistics.verdict(found.exceeds(0))
            lines.append(line(verdict, id=f"some.claim/{place}", p=f"{found.p_value:.3g}"))
        decided += paper.combined(lines) in ("holds", "fails")
    assert decided / many < 0.05 + 3 * (0.05 * 0.95 / many) ** 0.5


def test_a_few_rows_are_said_one_by_one_by_what_sets_them_apart() -> None:
    wide = [line(verdict, id=f"some.claim/{width}", measure=f"points, cifar10, {width}, paired")
            for verdict, width in (("holds", "0.25"), ("fails", "0.5"))]  # fmt: skip
    found = dataclasses.replace(finding(), lines=wide)
    number = "2 (1 to 3; n = 1,000)"
    assert re.sub(r"\s", " ", found.value) == f"0.25: {number} holds; 0.5: {number} fails"
    assert found.measured == "points, cifar10, paired"


def test_one_row_without_runs_is_missing_and_not_counted() -> None:
    found = dataclasses.replace(finding(), lines=[line("not run", estimate="")])
    assert (found.value, found.measured) == ("–", found.lines[0].measure)


def test_what_cannot_be_tested_says_why_and_names_no_command() -> None:
    found = ClaimVerdict(Claim("there", "it flies", why="no wings here"), [])
    assert (found.verdict, found.measured, found.command) == ("not testable here", "no wings here", "")


def test_numbers_are_said_as_they_were_got() -> None:
    message = [claim_value(line("holds", *ends)) for ends in (("3", "3", "3"), ("0.5", "", ""), ("", "", ""))]
    assert message[0] == "3" and message[1].startswith("0.5 (no interval") and message[2] == "–"


def test_missing_commit_and_cost_are_shown_as_missing(tmp_path: Path) -> None:
    (row,) = [one for one in verdict_table([finding("holds")]).splitlines() if "experiments.some" in one]
    assert [cell.strip(" |") for cell in row.split(" | ")[-2:]] == ["–", "–"]
    made = provenance.Made(("0123456789abcdef with changes", "fedcba9876543210"), 7200.0, ("a processor",))
    message = ClaimVerdict(finding("holds").claim, [line("holds")], json.loads(made.text()))
    assert (message.commit, message.cost) == ("0123456 with changes, fedcba9", "2 h")
    with pytest.raises(InputError, match="holds no claims"):
        paper.published(tmp_path)


def test_many_runs_are_said_as_one() -> None:
    runs = [{"commit": "a", "seconds": 2.5, "device": "x"}, {"commit": None, "seconds": 1.5, "device": "x"}]
    assert provenance.joined(runs) == provenance.Made(("a",), 4.0, ("x",))


@pytest.mark.slow
def test_the_commit_is_marked_where_package_or_experiments_differ_from_it(tmp_path: Path) -> None:
    for name in ("package", "experiments", "figures"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "one.py").touch()
    (tmp_path / "package" / "core").mkdir()
    shutil.copy(provenance.__file__, tmp_path / "package" / "core")

    def git(*words: str) -> str:
        who = ("-c", "user.name=n", "-c", "user.email=e")
        return subprocess.run(["git", *who, *words], cwd=tmp_path, check=True, capture_output=True, text=True).stdout

    def message() -> str:
        asked = [sys.executable, "-c", "import provenance; print(provenance.commit())"]
        quiet = {**os.environ, "PYTHONDONTWRITEBYTECODE": "1"}
        done = subprocess.run(
            asked, cwd=tmp_path / "package" / "core", env=quiet, check=True, capture_output=True, text=True
        )
        return done.stdout.strip()

    assert message() == "None"
    git("init")
    git("add", ".")
    git("commit", "-m", "one")
    commit = git("rev-parse", "HEAD").strip()
    (tmp_path / "figures" / "one.py").write_text("x = 1\n")
    assert message() == commit
    (tmp_path / "experiments" / "one.py").write_text("x = 1\n")
    assert message() == f"{commit} with changes"


def test_extents_of_preimages_that_are_known() -> None:
    x = torch.tensor([[[0.5, -0.5]]], dtype=torch.float64)
    whole = tab_appendix.extents(torch.eye(2, dtype=torch.float64)[None], x)
    assert whole[0] == pytest.approx(1.0)  # the second coordinate: anything from -1 to 0
    both = torch.cat([torch.eye(2), -torch.eye(2)]).double()[None]
    assert tab_appendix.extents(both, x)[0] == pytest.approx(0, abs=1e-9)


def test_every_even_block_costs_what_table_1_says() -> None:
    assert tab2_network.by_formula(V2) == (12, 12)
