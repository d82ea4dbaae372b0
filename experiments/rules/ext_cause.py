"""The rule by which `experiments.ext_cause` reads its runs: of 2026-11-25, before the first run of a new arm.

What was known then, and is disclosed: test accuracies of five seeds of `linear` and `relu6` at 120,000 images and of
three at 480,000; one or two seeds of a smaller pilot with these arms (12 blocks, 16 x 16, 40,000 images). Nothing else.

An arm is compared with the midpoint of the ends: arm - (linear + relu6) / 2, by Welch's test with Satterthwaite's
degrees of freedom, two-sided at 5 % after Holm's correction over the arms. Above the midpoint it comes out *with
linear*; below it *with relu6*, or *below relu6* where it is also below relu6 itself (Welch, Holm over those arms); else
it is *undecided*. No arm has a verdict below five runs of it or of an end. A diverged run counts as guessing. Beside
the verdict stands the share of the gap, (linear - arm) / (linear - relu6), where the gap is surely above two points.

The long trainings are the answer where every arm that the reading needs has five of them; else the short ones are, and
the answer says so.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from manifold_lab.core import contrasts as stats
from manifold_lab.core.contrasts import Contrast
from manifold_lab.core.statistics import Estimate

LINEAR, RELU6 = "linear", "relu6"
FEWEST = 5
"""Runs below which nothing is decided."""
LEVEL = 0.05
LEAST_GAP = 2.0
"""Points that the gap must surely exceed for shares of it to be told."""
SAME = 0.25
"""Two arms lie on one curve where they surely differ by less than this share of the gap."""
DOSES = (("leaky_0.5", "noise_0.961"), ("leaky_0.1", "noise_0.804"))
"""Arms of both families that leave a standard normal channel equally readable."""
WITH_LINEAR, WITH_RELU6, BELOW_RELU6, UNDECIDED = "with linear", "with relu6", "below relu6", "undecided"
OUTCOMES = (WITH_LINEAR, WITH_RELU6, BELOW_RELU6, UNDECIDED)

Runs = Mapping[str, Sequence[float]]
"""Test accuracies in percent by arm; a diverged run is there as guessing."""


@dataclass(frozen=True)
class ArmOutcome:
    """One arm: its verdict, its distance from the midpoint of the ends, and its share of the gap where that is told."""

    verdict: str
    distance: Contrast
    p_value: float
    share: Estimate | None


def gap(runs: Runs) -> Contrast:
    """What ReLU6 costs: linear minus relu6, in points."""
    return stats.contrast([(runs.get(LINEAR, ()), 1.0), (runs.get(RELU6, ()), -1.0)])


def outcomes(runs: Runs) -> dict[str, ArmOutcome]:
    """Every arm but the ends."""
    arms = [arm for arm in runs if arm not in (LINEAR, RELU6)]
    enough = [arm for arm in arms if all(len(runs.get(one, ())) >= FEWEST for one in (arm, LINEAR, RELU6))]
    distances = {arm: _distance(runs, arm) for arm in arms}
    p_values = stats.holm({arm: distances[arm].p_value for arm in enough})
    low = [arm for arm in enough if p_values[arm] < LEVEL and distances[arm].estimate.value < 0]
    beyond = {arm: stats.contrast([(runs[arm], 1.0), (runs[RELU6], -1.0)]) for arm in low}
    below = stats.holm({arm: one.p_value for arm, one in beyond.items()})
    made = {}
    for arm in arms:
        p_value = p_values.get(arm, math.nan)
        verdict = UNDECIDED if not p_value < LEVEL else WITH_RELU6 if arm in low else WITH_LINEAR
        if arm in low and below[arm] < LEVEL and beyond[arm].estimate.value < 0:
            verdict = BELOW_RELU6
        made[arm] = ArmOutcome(verdict, distances[arm], p_value, share(runs, arm))
    return made


def _distance(runs: Runs, arm: str) -> Contrast:
    return stats.contrast([(runs[arm], 1.0), (runs.get(LINEAR, ()), -0.5), (runs.get(RELU6, ()), -0.5)])


def share(runs: Runs, arm: str) -> Estimate | None:
    """The share of the gap that an arm costs, with Fieller's interval; None where the gap may be below two points."""
    whole = gap(runs)
    if len(runs[arm]) < 2 or not whole.estimate.low > LEAST_GAP:
        return None
    spread = {one: stats.squared_error(runs[one]) for one in (LINEAR, RELU6, arm)}
    lost = stats.contrast([(runs[LINEAR], 1.0), (runs[arm], -1.0)])
    covariance = [
        [spread[LINEAR] + spread[arm], spread[LINEAR]],
        [spread[LINEAR], spread[LINEAR] + spread[RELU6]],
    ]
    freedom = min(lost.freedom, whole.freedom)
    return stats.ratio(lost.estimate.value, whole.estimate.value, covariance, freedom)


def one_curve(runs: Runs) -> bool | None:
    """Whether equal doses of both families cost equally, by two one-sided tests against a share of the gap.

    True where every pair does, False where a pair surely differs by more, None where that is undecided or not run.
    """
    whole = gap(runs).estimate
    if not all(len(runs.get(arm, ())) >= FEWEST for pair in DOSES for arm in (*pair, LINEAR, RELU6)):
        return None
    margin, found = SAME * whole.value, []
    for first, second in DOSES:
        groups = [(runs[first], 1.0), (runs[second], -1.0)]
        inner, outer = stats.contrast(groups, 1 - 2 * LEVEL).estimate, stats.contrast(groups, 1 - LEVEL / 2).estimate
        equal = -margin < inner.low and inner.high < margin
        apart = outer.low > margin or outer.high < -margin
        found.append(True if equal else False if apart else None)
    return False if False in found else None if None in found else True


def tuning(at_best: Runs, at_first: Runs) -> bool | None:
    """Whether the gap at each arm's best learning rate is under half of the gap at the first one.

    Args:
        at_best: fresh seeds at the rates that were best on validation.
        at_first: runs at the learning rate of the other experiments.
    """
    groups = [(at_best.get(LINEAR, ()), 1.0), (at_best.get(RELU6, ()), -1.0)]
    groups += [(at_first.get(LINEAR, ()), -0.5), (at_first.get(RELU6, ()), 0.5)]
    if any(len(values) < FEWEST for values, _ in groups):
        return None
    above_half = stats.contrast(groups).exceeds(0)
    return None if above_half is None else not above_half


TUNING = {
    True: "tuning: at each arm's best learning rate less than half of the gap is left",
    False: "not tuning: more than half of the gap is left at each arm's best learning rate",
    None: "whether it is tuning is undecided",
}
COLLAPSE = "collapse, as the paper says: losing information costs accuracy, a nonlinearity that loses none does not"
READABILITY = "what counts is what stays linearly readable; that more could be recovered in principle does not help"
BOTH = "both cost: the nonlinearity that loses nothing, and the loss without a nonlinearity, but not on one curve"
BOTH_OPEN = "both cost: the nonlinearity that loses nothing, and the loss without a nonlinearity"
NOT_INFORMATION = "not information: nonlinearity or optimisation"
NEITHER = "neither a nonlinearity that loses nothing nor loss without a nonlinearity costs what ReLU6 costs"
OPEN = "undecided"


@dataclass(frozen=True)
class Findings:
    """All that the reading depends on: outcomes of four arms, and two answers that may be None for undecided."""

    leaky: str
    noise: str
    half_gain: str = UNDECIDED
    renormed: str = UNDECIDED
    one_curve: bool | None = None
    tuning: bool | None = None


def reading(found: Findings) -> str:
    """What the outcomes mean, for every combination of them: tuning first, then the rest."""
    return f"{TUNING[found.tuning]}; {_cause(found)}"


def _cause(found: Findings) -> str:
    if UNDECIDED in (found.leaky, found.noise):
        which = [name for name, one in (("leaky .1", found.leaky), ("noise .734", found.noise)) if one == UNDECIDED]
        return f"{OPEN}: {' and '.join(which)} not separated from the midpoint of linear and ReLU6"
    leaky_costs, noise_costs = (one != WITH_LINEAR for one in (found.leaky, found.noise))
    if leaky_costs and noise_costs:
        return {True: READABILITY, False: BOTH, None: BOTH_OPEN}[found.one_curve]
    if noise_costs:
        return COLLAPSE
    if not leaky_costs:
        return NEITHER
    told = [NOT_INFORMATION]
    if found.half_gain in (WITH_RELU6, BELOW_RELU6):
        told.append("attenuated gradients")
    if found.renormed == WITH_LINEAR:
        told.append("mean and scale")
    return ": ".join([told[0], " and ".join(told[1:])]) if told[1:] else told[0]
