"""Whether the gap of two arms gets smaller with training: in points, log-odds and errors, and within the longest runs.

Points alone do not tell: where both arms get better, equal odds are fewer points. The paper's own contrast is between
an early and the last evaluation of one training, whose learning rate falls in between.
"""

import dataclasses
import itertools
from collections.abc import Callable, Mapping, Sequence

import numpy as np
from scipy import special

from manifold_lab.core.shown import DataFrame, frame
from manifold_lab.report.tables import ClaimResult, pick
from manifold_lab.sweeps import comparison
from manifold_lab.sweeps.comparison import POINTS, TEST_POINTS, Comparison, ExpectedOrder, Place, change_of_gap, judged
from manifold_lab.sweeps.store import DONE
from manifold_lab.sweeps.training_run import CURVE, FINAL

SCALES: Mapping[str, tuple[str, Callable[[np.ndarray], np.ndarray]]] = {
    "": (TEST_POINTS, lambda share: POINTS * share),
    "_in_log_odds": ("log-odds of test accuracy", special.logit),
    "_in_error_ratio": ("log of the ratio of errors", lambda share: -np.log1p(-share)),
}
"""What a gap is measured in, by the end of the claim's id."""


def gap_shrinks_with_training(
    runs: DataFrame, contrast: Comparison, expected: Sequence[ExpectedOrder]
) -> list[ClaimResult]:
    """Whether a claim's gap is smaller after the longest training than before, by claim, group and scale."""
    found = []
    for claim, group in itertools.product(expected, comparison.groups(runs)):
        shortest, *longer = comparison.lengths(runs, group)
        if longer:
            places = ((group, shortest), (group, longer[-1]))
            found += _between(runs, contrast, claim, places)
            found += _within(runs, contrast, claim, places)
    return found


def _between(
    runs: DataFrame, contrast: Comparison, claim: ExpectedOrder, places: tuple[Place, Place]
) -> list[ClaimResult]:
    """The gap after the shortest training minus that after the longest, on every scale that has numbers for it."""
    made = []
    for end, (unit, scale) in SCALES.items():
        shares = runs["test_accuracy"].astype(float)
        scaled = runs.assign(test_accuracy=scale(shares.to_numpy()) / POINTS)
        if np.isinf(scaled["test_accuracy"]).any():
            continue
        measure = f"{comparison.where(runs, contrast, places[0], unit)}: gap there minus gap at {places[1][1]:,}"
        tested = change_of_gap(claim.pair, *places)
        made.append(judged(scaled, dataclasses.replace(claim, id=claim.id + end), tested, measure))
    return made


def _within(
    runs: DataFrame, contrast: Comparison, claim: ExpectedOrder, places: tuple[Place, Place]
) -> list[ClaimResult]:
    """The gap of validation accuracy early in the longest trainings minus that at their end; a change for each run."""
    (group, shortest), (_, longest) = places
    curves = pick(runs, kind=CURVE, group=group, length=longest)
    same = {"kind": FINAL, "group": group, "length": longest, "state": DONE, "data": comparison.data_of(runs, group)}
    changes = [
        same | {"arm": arm, "seed": seed, "test_accuracy": _since(curve, shortest)}
        for (arm, seed), curve in curves.groupby(["arm", "seed"], sort=False)
    ]
    if not changes:
        return []
    on = comparison.where(runs, contrast, places[1], "points of validation accuracy")
    measure = f"{on}: gap at {shortest:,} of them minus gap at the end, within a training"
    named = dataclasses.replace(claim, id=f"{claim.id}_within")
    return [judged(frame(changes), named, change_of_gap(claim.pair, places[1]), measure)]


def _since(curve: DataFrame, images: int) -> float:
    """Validation accuracy at the evaluation that is nearest to so many images, less that of the last one."""
    accuracy, nearest = curve["validation_accuracy"].to_numpy(), (curve["images"] - images).abs().to_numpy().argmin()
    return float(accuracy[nearest] - accuracy[-1])
