"""How many rows make ReLU(Tx) one-to-one on all of R^n: the share of Gaussian layers against m / n, for growing n.

Paper    Maillard, Bandeira, Belius, Dokmanic and Nakajima 2023, arXiv:2302.14112; Puthawala et al. 2020,
         arXiv:2006.08464; Sandler et al. 2018, arXiv:1801.04381, whose expansions have m = 6n
Claims   for large n a Gaussian layer is injective above m / n = 7.65 (proved) and not below 3.4 (proved); the threshold
         itself is 6.698 (conjectured, by the replica method): then t = 6 lies below it
Run      python -m experiments.ext_threshold publish
Differs  the theorems speak of n to infinity. Up to n = 4 every layer is tested exactly (the origin's Tukey depth);
         above, a search over directions refutes some of them, and what it does not refute is not thereby injective: its
         curve is an upper bound on the share, and random directions alone refute fewer still. Not injective means one
         pair of points somewhere with one image. It does not mean that a typical point is lost: at t = 6 the directions
         without n active rows have the measure that Theorem 1 gives
"""

import functools
from collections.abc import Callable

import matplotlib as mpl
import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor

from experiments.thm1_preserved import EXPANDED, LOOKS, MOBILENET, Spec
from manifold_lab import theory
from manifold_lab.core import contrasts, statistics
from manifold_lab.core.random_streams import stream
from manifold_lab.core.shown import DataFrame
from manifold_lab.core.statistics import Estimate
from manifold_lab.report import deciding, plots
from manifold_lab.report.printed import counted_claims
from manifold_lab.report.tables import ClaimResult, Record, estimate_in, estimated_claim, percent, pick, rounded, unique
from manifold_lab.sweeps.study import MAIN, Headline, captioned_figure, computed_study

NAME = "ext_threshold"
EXACT, SEARCHED = (2, 3, 4), (8, 16, 24)
"""Input dimensions n whose layers are tested exactly, and those whose layers are searched alone."""
EXPANSIONS = (2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0)
NOT_BELOW, CONJECTURED, PROVED = 3.4, 6.698, 7.65
"""Thresholds of m / n: not injective below, the replica method's, injective above."""
HARD = 4.0
"""Expansions from which on it takes a search to refute a layer: below, nearly any direction does."""
RANDOM = 1024
"""Directions that are drawn and not moved."""
CHUNK = 20
"""Layers at a time, for their memory."""
NEGLIGIBLE = 1e-9
KINDS = ("exact", "search", "random")
"""How layers are tested: exactly, by a search over directions, by directions that are drawn and not moved."""


def grid(smoke: bool) -> tuple[Spec, ...]:
    """Most layers where they are small."""
    if smoke:
        return tuple(Spec(n, t, 20) for n in (2, 3, 8) for t in (3.0, 6.0, 8.0))
    draws = {2: 1000, 3: 600, 4: 200}
    return tuple(Spec(n, t, draws.get(n, 100)) for n in EXACT + SEARCHED for t in EXPANSIONS)


def lines(spec: Spec) -> list[Record]:
    """One line per test of a shape."""
    found = measured(spec)
    return [line(spec, kind, found[kind]) for kind in KINDS if kind in found]


def measured(spec: Spec) -> dict[str, int]:
    """How many of the layers are injective, and how many no direction that was tried refutes."""
    rng = stream(spec.seed, NAME, spec.inputs, spec.ambient)
    matrix = torch.randn((spec.draws, spec.ambient, spec.inputs), generator=rng, dtype=torch.float64)
    search = functools.partial(theory.fewest_active_found, generator=rng)
    tests: dict[str, Callable[[Tensor], Tensor]]
    tests = {"random": functools.partial(search, starts=RANDOM, steps=0), "search": search}
    if spec.inputs in EXACT:
        tests["exact"] = theory.tukey_depth
    return {kind: sum(int((test(part) >= spec.inputs).sum()) for part in matrix.split(CHUNK))
            for kind, test in tests.items()}  # fmt: skip


def line(spec: Spec, kind: str, injective: int) -> Record:
    """One share with its interval, the closed form where there is one, and the measure of what is lost."""
    share = statistics.proportion(injective, spec.draws)
    law = theory.injectivity_probability(spec.ambient, spec.inputs)
    bound = theory.injectivity_lower_bound(spec.ambient, spec.inputs)
    lost = 2.0 ** theory.paper_bounds(spec.ambient, spec.inputs).exact
    return {
        "inputs": spec.inputs, "expansion": spec.expansion, "test": kind, "injective": injective,
        "estimate": share.value, "low": share.low, "high": share.high, "n": share.n,
        "theory": law, "union_bound": bound, "lost": lost,
    }  # fmt: skip


def change(table: DataFrame, expansion: float) -> Estimate:
    """How the share of injective layers changes from the smallest to the largest n that is tested exactly."""
    mine = pick(table, test="exact", expansion=rounded(expansion))
    if len(mine) < 2:
        return statistics.NO_RUNS
    (few, draws), (many, others) = (map(int, mine[["injective", "n"]].iloc[end]) for end in (-1, 0))
    found = contrasts.contrast([(outcomes(few, draws), 1.0), (outcomes(many, others), -1.0)])
    return found.estimate


def outcomes(injective: int, draws: int) -> np.ndarray:
    """One for every injective layer, zero for every other."""
    return np.repeat([1.0, 0.0], [injective, draws - injective])


def claims(table: DataFrame) -> list[ClaimResult]:
    """Both proved sides at the n that are here, where t = 6 stands, and what it does not mean."""
    below, above = NOT_BELOW - 0.4, PROVED + 0.35
    found = [
        trend("more_injective_above", f"above m/n = {PROVED:g} (proved), layers are the more often injective, the "
              "larger n", above, holds=change(table, above).exceeds(0), table=table),
        trend("less_injective_below", f"below m/n = {NOT_BELOW:g} (proved), layers are the less often injective, the "
              "larger n", below, holds=change(table, below).below(0), table=table),
    ]  # fmt: skip
    found += [refuted(table, n) for n in unique(table, "inputs") if n not in EXACT]
    found.append(complete(table))
    loses = [2.0 ** theory.paper_bounds(round(MOBILENET * n), n).exact for n in sorted(EXPANDED)]
    few = sum(lost < NEGLIGIBLE for lost in loses)
    return found + counted_claims([
        ("typical_points_are_kept", "Theorem 1 (ours)",
         f"injective or not, a random expansion by t = 6 loses fewer than one direction in {1 / NEGLIGIBLE:.0e}",
         f"of {len(EXPANDED)} input dimensions n of MobileNetV2's expansions, those where it does", few,
         few == len(EXPANDED)),
    ])  # fmt: skip


judged = functools.partial(estimated_claim, place="Maillard et al. 2023")
"""A claim of this study."""


def trend(name: str, says: str, expansion: float, *, holds: bool | None, table: DataFrame) -> ClaimResult:
    """What growing n does at one expansion, by the exact test."""
    sizes = list(pick(table, test="exact", expansion=rounded(expansion))["inputs"]) or ["–"]
    measure = f"share of Gaussian layers that are injective at m = {expansion:g}n, n = {sizes[-1]} − n = {sizes[0]}"
    place = "Maillard et al. 2023" if "above" in name else "Puthawala et al. 2020"
    found = change(table, expansion)
    return judged(name, says, measure, found, holds, place=place, needed=deciding.replicates(found, 0, "layers"))


def refuted(table: DataFrame, inputs: int) -> ClaimResult:
    """Whether most layers at t = 6 are refuted; a search that does not refute them leaves it open."""
    measured = pick(table, test="search", inputs=inputs, expansion=MOBILENET)
    kept = estimate_in(measured.iloc[0]) if len(measured) else statistics.NO_RUNS
    share = Estimate(1 - kept.value, 1 - kept.high, 1 - kept.low, kept.n)
    says = f"below m/n = {CONJECTURED:g} (conjectured), thus at MobileNetV2's t = 6, most layers are not injective"
    measure = f"at least this share has fewer than n active rows in a direction that was found, n = {inputs}"
    return judged(f"mobilenet_not_injective/{inputs}", says, measure, share, share.exceeds(0.5) or None,
                  needed="a search that refutes more layers" if kept.n else "")  # fmt: skip


def complete(table: DataFrame) -> ClaimResult:
    """Of the layers that the exact test refutes, how many the search refutes: how much its upper bound is worth."""
    hard = table[table["inputs"].isin(EXACT[1:]) & (table["expansion"] >= HARD)]
    refuted = (hard["n"] - hard["injective"]).groupby(hard["test"]).sum().reindex(KINDS, fill_value=0)
    found, random = (statistics.proportion(int(refuted[kind]), int(refuted["exact"])) for kind in ("search", "random"))
    says = f"the search refutes nine in ten of the layers that are not injective, n = 3 and 4, m ≥ {HARD:g}n"
    measure = f"share of those that the exact test refutes ({RANDOM:,} random directions: {random.value:.3g})"
    return judged("search_is_nearly_complete", says, measure, found, found.exceeds(0.9), place="Method (ours)",
                  needed=deciding.replicates(found, 0.9, "layers that are not injective"))  # fmt: skip


def curve(ax: Axes, mine: DataFrame, style: tuple[str, str], label: str) -> None:
    """Shares with intervals against m / n."""
    found = [estimate_in(row) for row in mine.to_dict("records")]
    plots.draw_intervals(ax, mine["expansion"], found, fmt=f"{style[1]}-", color=style[0], ms=3, lw=0.7,
                         elinewidth=0.7, label=label)  # fmt: skip


def thresholds(ax: Axes) -> None:
    """What is proved, what is conjectured, and MobileNetV2."""
    size = mpl.rcParams["legend.fontsize"]
    known = ((NOT_BELOW, "-", "n → ∞: none below", "top"), (MOBILENET, ":", "MobileNetV2", "bottom"),
             (CONJECTURED, "--", "n → ∞: conjectured threshold", "bottom"),
             (PROVED, "-", "n → ∞: all above", "bottom"))  # fmt: skip
    paper = {"boxstyle": "square,pad=0.1", "fc": "white", "ec": "none"}
    for place, dashes, label, side in known:
        ax.axvline(place, color="0.6", lw=0.6, ls=dashes, zorder=0)
        ax.text(place + 0.06, 1.0 if side == "top" else 0.02, label, rotation=90, va=side, ha="left", color="0.4",
                fontsize=size, bbox=paper, zorder=1)  # fmt: skip
    ax.set(xlabel="expansion m / n", ylim=(-0.03, 1.03), xlim=(1.7, 8.3))


HEADLINE = Headline(
    "less_injective_below", "Below m/n = 3.4 fewer and fewer Gaussian layers are injective as n grows",
    "Even below m/n = 3.4 more Gaussian layers are injective as n grows",
    "Whether fewer Gaussian layers are injective as n grows, below m/n = 3.4, is undecided",
)  # fmt: skip


def points_lost(table: DataFrame) -> str:
    """What a layer of MobileNetV2's expansion loses of all directions, on average, at most: at the smallest n."""
    lost = pick(table, expansion=MOBILENET).groupby("inputs")["lost"].first()
    if not len(lost):
        return ""
    most = lost.idxmax()
    return (
        f" At m/n = {MOBILENET:g} layers, injective or not, lose on average at most {percent(lost[most])} of all "
        f"directions (n = {most})."
    )


def draw(figure: Figure, table: DataFrame) -> str:
    """The exact shares; what a search leaves of larger n."""
    left, right = figure.subplots(1, 2, sharey=True)
    for ax, kind in ((left, "exact"), (right, "search")):
        for n in [n for n in unique(table, "inputs") if (n in EXACT) == (kind == "exact")]:
            curve(ax, pick(table, inputs=n, test=kind), LOOKS[n], str(n))
        thresholds(ax)
        ax.legend(title="n", frameon=False, loc="upper left")
    plane = pick(table, inputs=2, test="exact")
    left.plot(plane["expansion"], plane["theory"], "x", color=plots.THEORY, ms=5, zorder=4)
    left.set_ylabel("share of Gaussian layers")
    plots.letter((left, right), ("injective, exactly", "not refuted by a search: at most so many"))
    return (
        f"At least {table['n'].min():,} layers a mark; bars: exact {statistics.PERCENT} intervals; crosses: the "
        f"closed form at n = 2.{points_lost(table)}"
    )


FIGURE = captioned_figure(draw, claims, HEADLINE, 3.1)
STUDY = computed_study(
    name=NAME,
    card=__doc__,
    tables=lambda smoke: {MAIN: [one for spec in grid(smoke) for one in lines(spec)]},
    figure=FIGURE,
    claims=claims,
)


if __name__ == "__main__":
    raise SystemExit(STUDY.main())
