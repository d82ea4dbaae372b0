"""No estimated claim is decided by a bare value: where no interval and no corrected p-value decides, none does."""

import importlib
from pathlib import Path

import pytest

from experiments import thm1_preserved
from experiments.rules import ext_cause as rule
from manifold_lab.core import contrasts, resampling, statistics
from manifold_lab.core.statistics import NOT_RUN, UNDECIDED, Estimate
from manifold_lab.report.tables import ClaimResult
from manifold_lab.sweeps.study import Study, file_stem

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parent.parent.parent
STUDIES = sorted(path.stem for path in (ROOT / "experiments").glob("[!_]*.py"))
COMPARISONS = ("exceeds", "below", "within")


def published_claims(study: Study) -> list[ClaimResult]:
    """The claims of the published csv files; none where the study has not been published."""
    paths = {part: ROOT / "figures" / f"{file_stem(study.name, part)}.csv" for part in study.parts}
    if not all(path.is_file() for path in paths.values()):
        return []
    contents = {part: path.read_text(encoding="utf-8") for part, path in paths.items()}
    return list(study.claims(study.published(contents)))


@pytest.mark.parametrize("name", STUDIES)
def test_every_estimated_claim_can_come_out_undecided(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resampling, "RESAMPLES", 50)
    for kind in (Estimate, statistics.Paired, contrasts.Contrast):
        for comparison in COMPARISONS:
            monkeypatch.setattr(kind, comparison, lambda _self, *_bounds: None, raising=False)
    monkeypatch.setattr(
        contrasts, "holm", lambda p_values: dict.fromkeys(p_values, 1.0)
    )  # by which the cause's rule goes
    monkeypatch.setattr(thm1_preserved, "margin_tests", lambda *_cell: (1.0, 1.0))
    monkeypatch.setattr(rule, "one_curve", lambda _runs: None)
    estimated = [claim for claim in published_claims(importlib.import_module(f"experiments.{name}").STUDY)
                 if claim.estimate.low < claim.estimate.high]  # fmt: skip
    assert {claim.id: claim.verdict for claim in estimated if claim.verdict not in (UNDECIDED, NOT_RUN)} == {}
