"""Is it information loss that makes ReLU6 in the bottleneck worse? Trained networks, bottleneck by bottleneck.

Paper    Sandler et al. 2018, arXiv:1801.04381, section 3.2
Claims   ReLU6 in a bottleneck hurts because it destroys information on a manifold of interest. If so, the loss that
         dimension k and channels n predict, P(Binomial(n, 1/2) <= k), ranks what ReLU6 costs, bottleneck by bottleneck
Run      python -m experiments.ext_information run
Differs  The networks are those of fig6a_nonlinearity (trained first where they are missing). The manifold is what the
         validation images span at single positions of a bottleneck, its dimension the maximum-likelihood estimate of 20
         neighbours, which reads high dimensions low (ext_dimension says by how much); that of 5 neighbours and TwoNN's,
         of two, stand beside it. The linear networks were trained a second time for these measurements, as the weights
         of the stored trainings were not kept: equal to rounding at the start, not at the end. The cost is a lesion's:
         ReLU6 put behind one bottleneck of a network trained without it. Training would mend a part of it, and so does
         one fixed affine map behind it, fitted on other images: the cost is reported with and without one, and what the
         map does not mend is not thereby lost. Five networks of one architecture are not five independent studies of
         its bottlenecks: the block is the replicate, and intervals are by resampling blocks. Cost and predicted loss
         both fall along the network; depth stands beside every predictor as its rival. `--smoke` runs the digits
"""

import functools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.figure import Figure

from experiments.drawing.ext_information import draw_costs, draw_sizes, over_depth
from manifold_lab.core import resampling, statistics
from manifold_lab.core.resampling import rank_correlation
from manifold_lab.models.repair import AFFINE
from manifold_lab.report import deciding, plots
from manifold_lab.report.tables import ClaimResult, DataFrame, Estimate, Record, estimated_claim, pick
from manifold_lab.sweeps import ablation, information_run, store
from manifold_lab.sweeps.information_run import ALL_BLOCKS, REPAIRED_COSTS, InformationRun, RepairRun
from manifold_lab.sweeps.store import Run
from manifold_lab.sweeps.study import Headline, Study, captioned_figure

ARMS = {name: ablation.variant(bottleneck_activation=name) for name in ("linear", "relu6")}
COLUMNS = ("arm", "group", "seed", "block", "channels", "shortcut", "dimension", "dimension_5", "two_nn", "active",
           "predicted_lost", "measured_lost", *REPAIRED_COSTS)  # fmt: skip
REPAIRED = f"cost_{AFFINE}"
"""What ReLU6 costs with an affine map behind it."""
MOST = 0.5
PREDICTORS = {
    "predicted_lost": "goes with the predicted loss, P(Binomial(n, 1/2) ≤ k)",
    "predicted_lost_5": "goes with the predicted loss, k of 5 neighbours instead of 20",
    "predicted_lost_two_nn": "goes with the predicted loss, k by TwoNN",
    "measured_lost": "goes with the measured loss: positions with at most k active channels",
    "earliness": "falls along the network (the rival of every loss)",
}
"""What might rank the cost; each grows with it if so."""
OTHER_DIMENSIONS = {"predicted_lost_5": "dimension_5", "predicted_lost_two_nn": "two_nn"}
AGREE = 0.05
"""To so much, a share of positions, prediction and count count as equal."""


@dataclass(frozen=True)
class Where:
    """Which bottlenecks are ranked, and what is held fixed: depth and shortcut also tell them apart."""

    name: str
    phrase: str
    around: bool = False
    given: tuple[str, ...] = ()


ALL = Where("all", "all bottlenecks")
PLACES = (
    ALL,
    Where("shortcut", "bottlenecks with a shortcut", around=True),
    Where("given_depth", "all bottlenecks, given their depth", given=("earliness",)),
    Where("given_shortcut", "all bottlenecks, given whether a shortcut goes around", given=("around",)),
    Where("given_both", "all bottlenecks, given both", given=("earliness", "around")),
)


def grid(smoke: bool) -> tuple[information_run.Spec, ...]:
    """The short trainings of Figure 6a at width 0.35; those with linear bottlenecks are repaired as well."""
    every = ablation.grid(ARMS, {"0.35": ablation.cifar_setting(0.35)}, smoke)
    trainings = [one for one in every if smoke or one.recipe.images == ablation.SHORT_IMAGES]
    linear = [one for one in trainings if one.arm == "linear"]
    return (*map(InformationRun, trainings), *map(RepairRun, linear))


def rows(runs: Sequence[Run]) -> list[Record]:
    """One line per bottleneck of every network that was measured, and one for all of a network that was repaired."""
    repaired = {(run.spec.training, row["block"]): row for run in runs if isinstance(run.spec, RepairRun)
                for row in store.history(run)}  # fmt: skip
    measured = [(run.spec.training, row) for run in runs if isinstance(run.spec, InformationRun)
                for row in store.history(run)]  # fmt: skip
    found = [(of, repaired.get((of, row["block"]), {}) | row) for of, row in measured]
    found += [(of, row) for (of, block), row in repaired.items() if block == ALL_BLOCKS]
    return [
        {"arm": of.arm, "group": of.group, "seed": of.seed} | {name: row.get(name) for name in COLUMNS[3:]}
        for of, row in found
    ]


def single(table: DataFrame) -> DataFrame:
    """The rows of single bottlenecks, with all that might rank the cost; nan where it was not measured."""
    mine = table[table["block"] != ALL_BLOCKS].astype({"block": int, "channels": int})
    mine = mine.assign(earliness=-mine["block"], around=mine["shortcut"] != "none")
    for name, dimension in OTHER_DIMENSIONS.items():
        pairs = mine.reindex(columns=["channels", dimension]).to_numpy(float)
        mine[name] = [np.nan if np.isnan(k) else information_run.predicted_lost(int(n), k) for n, k in pairs.tolist()]
    return mine


def networks(table: DataFrame, where: Where = ALL) -> list[DataFrame]:
    """The rows of each network with linear bottlenecks."""
    linear = pick(single(table), arm="linear", **({"shortcut": "identity"} if where.around else {}))
    return [mine for _, mine in linear.groupby("seed", sort=False)]


def correlation(columns: Sequence[np.ndarray], order: np.ndarray, pairing: np.ndarray | slice = slice(None)) -> float:
    """The mean over networks of the correlation of predictor and cost in some bottlenecks.

    Args:
        columns: of each network: predictor, cost, and what is held fixed.
        order: the bottlenecks, which may repeat.
        pairing: the order of the costs among them.
    """
    found = [rank_correlation(x[order], y[order][pairing], *(one[order] for one in given)) for x, y, *given in columns]
    known = [value for value in found if np.isfinite(value)]
    return float(np.mean(known)) if known else np.nan


def columns_of(table: DataFrame, predictor: str, where: Where, cost: str = "cost") -> list[np.ndarray]:
    """Predictor, cost and what is held fixed, of every network that has them."""
    wanted = [predictor, cost, *where.given]
    found = [mine.reindex(columns=wanted).to_numpy(float).T for mine in networks(table, where)]
    return [one for one in found if np.isfinite(one).all()]


def claims(table: DataFrame) -> list[ClaimResult]:
    """What ranks the cost, in all bottlenecks, in some, and given more; whether better than depth; what it rests on."""
    ranked = [goes_with(table, name, where) for where in PLACES for name in PREDICTORS
              if name not in (*where.given, *OTHER_DIMENSIONS) or where == ALL]  # fmt: skip
    ranked += [goes_with(table, name, ALL, REPAIRED) for name in ("predicted_lost", "measured_lost", "earliness")]
    better = [beats_depth(table, name) for name in ("predicted_lost", "measured_lost")]
    back = [comes_back(table, False), comes_back(table, True)]
    return [*ranked, *better, *back, agreeing(table), threatened(table)]


def comes_back(table: DataFrame, together: bool) -> ClaimResult:
    """Whether an affine map behind ReLU6 brings back most of its cost, one block at a time or in all, over networks."""
    mine = table[(table["block"] == ALL_BLOCKS) == together]
    mine = mine.dropna(subset=REPAIRED) if REPAIRED in mine else mine.head(0)
    shares = [1 - part[REPAIRED].sum() / part["cost"].sum() for _, part in mine.groupby("seed") if part["cost"].sum()]
    found = statistics.mean(np.array(shares)) if shares else statistics.NO_RUNS
    where, name = ("in all bottlenecks", "all") if together else ("one bottleneck at a time", "each")
    says = f"ReLU6 {where} of a network trained without it: an affine map behind brings back most of the cost"
    return claim(f"comes_back/{name}", says, "share of the lost accuracy that comes back, map fitted on other images",
                 found, found.exceeds(MOST), needed=deciding.seeds(shares, MOST, "networks"))  # fmt: skip


claim = functools.partial(estimated_claim, place="Section 3.2 (ours)")
"""A claim of this study."""


def goes_with(table: DataFrame, predictor: str, where: Where, cost: str = "cost") -> ClaimResult:
    """Whether a predictor ranks the cost: by resampling blocks, and where nothing is held fixed by permuting them too.

    Both have to decide: of few blocks the bootstrap alone decides a few per cent too often.
    """
    columns, rng = columns_of(table, predictor, where, cost), np.random.default_rng(0)
    blocks = len(columns[0][0]) if columns else 0
    found = resampling.resampled(blocks, functools.partial(correlation, columns), rng)
    p_value, holds = None, found.exceeds(0)
    if blocks and not where.given:
        pairs = functools.partial(correlation, columns, np.arange(blocks))
        p_value = resampling.permutation_p(blocks, pairs, rng)
        holds = holds if p_value < 1 - statistics.LEVEL else None
    behind, end = (", with an affine map behind it,", "/repaired") if cost == REPAIRED else ("", "")
    says = f"what ReLU6 costs at a bottleneck{behind} {PREDICTORS[predictor]}"
    many = f"mean over {len(columns)} networks" if columns else "mean over networks"
    measure = f"Spearman's correlation with the lesion's cost, {where.phrase}, {many}, by resampling blocks"
    name = f"cost_goes_with/{predictor}/{where.name}{end}"
    return claim(name, says, measure, found if blocks else statistics.NO_RUNS, holds, p_value=p_value,
                 needed=deciding.replicates(found, 0, "such bottlenecks"))  # fmt: skip


def beats_depth(table: DataFrame, predictor: str) -> ClaimResult:
    """Whether a loss ranks the cost better than the mere place along the network does."""
    mine, rival = (columns_of(table, name, ALL) for name in (predictor, "earliness"))
    blocks = len(mine[0][0]) if mine else 0

    def gap(order: np.ndarray) -> float:
        return correlation(mine, order) - correlation(rival, order)

    found = resampling.resampled(blocks, gap, np.random.default_rng(0))
    loss = PREDICTORS[predictor].removeprefix("goes with ")
    says = f"what ReLU6 costs at a bottleneck is ranked better by {loss} than by depth"
    measure = "difference of two Spearman's correlations with the lesion's cost, all bottlenecks, by resampling blocks"
    return claim(f"better_than_depth/{predictor}", says, measure, found, found.exceeds(0),
                 needed=deciding.replicates(found, 0, "such bottlenecks"))  # fmt: skip


def agreeing(table: DataFrame) -> ClaimResult:
    """How far the loss that is predicted for random signs is from the one that is counted, bottleneck by bottleneck."""
    found = [np.abs(mine["predicted_lost"] - mine["measured_lost"]).to_numpy() for mine in networks(table)]
    apart = np.mean(found, axis=0) if found else np.zeros(0)
    gap = resampling.resampled(len(apart), lambda order: float(apart[order].mean()), np.random.default_rng(0))
    says = f"random signs predict the positions with at most k active channels (to {AGREE:g})"
    measure = "predicted − counted share, absolute, mean over bottlenecks and networks, by resampling blocks"
    return claim("random_signs_predict_the_count", says, measure, gap, gap.within(AGREE),
                 needed=deciding.replicates(gap, AGREE, "such bottlenecks"))  # fmt: skip


def threatened(table: DataFrame) -> ClaimResult:
    """Whether the argument predicts any loss to speak of, at these dimensions; of this architecture's bottlenecks."""
    found = [float((mine["predicted_lost"] > 0.01).mean()) for mine in networks(table)]
    share = statistics.mean(np.array(found))
    says = "the manifold argument predicts that ReLU6 would lose more than 1 % of positions in most bottlenecks of this architecture"  # noqa: E501
    return claim("most_bottlenecks_lose", says, "share of its bottlenecks, over trained networks", share,
                 share.exceeds(0.5), needed=deciding.seeds(found, 0.5, "networks"))  # fmt: skip


HEADLINE = Headline(
    "better_than_depth/predicted_lost",
    "Over all blocks, the predicted loss ranks what ReLU6 costs better than depth does",
    "Over all blocks, mere depth ranks what ReLU6 costs better than the predicted loss does",
    "Whether the predicted loss ranks what ReLU6 costs better than depth is undecided",
)  # fmt: skip


def draw(figure: Figure, table: DataFrame) -> str:
    """Channels, dimension and active channels over depth; losses over depth; cost against predicted loss."""
    mine = pick(single(table), arm="linear")
    (sizes, lost), (by_depth, by_loss) = figure.subplots(2, 2)
    draw_sizes(sizes, mine)
    over_depth(lost, mine, "predicted_lost", plots.MEASURED, "-", marker=".", label="predicted, P(Bin(n, 1/2) ≤ k)")
    over_depth(lost, mine, "measured_lost", plots.LOST_COLOUR, "--", marker="o", mfc="white",
               label="counted, active ≤ k")  # fmt: skip
    lost.set(xlabel="block", ylabel="share of positions", ylim=(-0.03, 1.03))
    lost.legend(frameon=False, loc="upper right")
    draw_costs(by_depth, mine, "block", "block")
    by_depth.set_xticks(range(0, 17, 4))
    draw_costs(by_loss, mine, "predicted_lost", "predicted share lost")
    by_loss.legend(frameon=False, loc="upper left")
    ranks = [goes_with(table, name, ALL).estimate for name in ("earliness", "predicted_lost")]
    costs = [f"{name}{f', ρ = {one.value:.2f}' * bool(one.n)}" for name, one in zip(
        ("cost of ReLU6 by depth", "by predicted loss"), ranks, strict=True)]  # fmt: skip
    plots.letter((sizes, lost, by_depth, by_loss), ("what must fit through", "positions lost", *costs))
    return (
        f"{len(networks(table))} networks trained on CIFAR-10 with linear bottlenecks: a mark is a block of one, "
        "lines are means. k: MLE of 20 neighbours at single positions. ρ: Spearman's, mean over networks"
        + correlations_text(ranks, better_than_depth(table)[0].estimate)
    )


def better_than_depth(table: DataFrame) -> list[ClaimResult]:
    """The claim that decides the title."""
    return [beats_depth(table, "predicted_lost")]


def correlations_text(ranks: Sequence[Estimate], difference: Estimate) -> str:
    """Both correlations' intervals, and that of their difference, which decides the title."""
    if not difference.n:
        return "."
    depth, loss = (f"{one.low:.2f} to {one.high:.2f}" for one in ranks)
    apart = f"{difference.value:.2f} ({difference.low:.2f} to {difference.high:.2f})".replace("-", "−")
    return (
        f", {statistics.PERCENT} intervals over {difference.n} blocks: {depth} by depth (the earlier, the dearer), "
        f"{loss} by the predicted loss; predicted loss minus depth: {apart}."
    )


STUDY = Study(
    name="ext_information",
    card=__doc__,
    grid=grid,
    measure=information_run.measure,
    rows=rows,
    figure=captioned_figure(draw, better_than_depth, HEADLINE, 4.9),
    claims=claims,
)


if __name__ == "__main__":
    raise SystemExit(STUDY.main())
