"""A study in which no arm differs from another, of the published runs' own residuals: how much is decided in it?"""

import importlib
from collections import Counter, defaultdict
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import binom

from manifold_lab.core import contrasts
from manifold_lab.core.shown import DataFrame
from manifold_lab.core.statistics import FAILS, HOLDS
from manifold_lab.report import claims as paper
from manifold_lab.report.tables import pick, read_csv
from manifold_lab.sweeps.training_run import FINAL

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parent.parent.parent
STUDIES = ("fig6a_nonlinearity", "fig6b_shortcut", "ext_shortcut_x_nonlinearity", "tab_block")
DRAWS, FEWEST = 250, 5
WHERE = ("data", "group", "length", "arm")


def finals(study: str) -> DataFrame:
    return pick(read_csv((ROOT / "figures" / f"{study}.csv").read_text(encoding="utf-8")), kind=FINAL, state="done")


def cells(lines: DataFrame) -> dict[tuple[str | int, ...], np.ndarray]:
    """Accuracies by data, group, length and arm."""
    return {place: values.to_numpy() for place, values in lines.groupby(list(WHERE), sort=False)["test_accuracy"]}


def residuals() -> np.ndarray:
    """Of all published runs in cells of at least five, slow ones too, each in its cell's standard deviations."""
    every = [values for study in STUDIES for values in cells(finals(study)).values() if len(values) >= FEWEST]
    scaled = [(values - values.mean()) / values.std(ddof=1) * (len(values) / (len(values) - 1)) ** 0.5
              for values in every if values.std() > 0]  # fmt: skip
    return np.concatenate(scaled)


@pytest.mark.parametrize("name", STUDIES)
def test_where_no_arm_differs_a_claim_is_decided_in_at_most_five_per_cent(name: str, monkeypatch) -> None:
    monkeypatch.setattr(contrasts, "runs_to_decide", lambda *_, **__: None)  # told beside a verdict, slow
    study, lines, pool = importlib.import_module(f"experiments.{name}").STUDY, finals(name), residuals()
    rng, decided = np.random.default_rng(0), Counter[str]()
    spreads = {place: values.std(ddof=1) if len(values) > 2 else 0.02 for place, values in cells(lines).items()}
    scale = np.array([spreads[place] for place in lines[list(WHERE)].itertuples(index=False, name=None)])
    for _ in range(DRAWS):
        drawn = lines.assign(test_accuracy=0.5 + scale * rng.choice(pool, len(lines)))
        families = defaultdict(list)
        for claim in study.claims(drawn):
            families["/".join(claim.id.split("/")[:2])].append(claim)
        decided.update(family for family, rows in families.items() if paper.combined(rows) in (HOLDS, FAILS))
    allowed = binom.ppf(1 - 1e-4, DRAWS, 0.05)
    assert {family: count for family, count in decided.items() if count > allowed} == {}
