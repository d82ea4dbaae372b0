"""What a random layer's activation does to the rank of its output, against the ratio of its widths: no training.

Paper    Han, Yun, Heo and Yoo 2020 (ReXNet), arXiv:2007.00992, section 3; Sandler et al. 2018, arXiv:1801.04381
Claims   a nonlinearity lifts the rank of f(Wx) above the rank of x, SiLU more than ReLU6; the smaller the ratio of
         input to output channels, the lower the rank; the rank is read as what the layer can express
Run      python -m experiments.ext_rexnet_rank publish
Differs  one fully connected layer (a 1x1 convolution at one position), Gaussian weights of variance one over the input
         channels, standard normal inputs, ten of them an output channel, centred. Two ranks: the numerical one, of the
         singular values in single precision above the usual threshold, which for smooth functions measures their decay;
         and the effective one, the exponential of the entropy of the variances (Roy and Vetterli 2007), without any
         threshold. The linear layer stands beside them: it has the lowest rank and loses nothing
"""

import functools
from collections.abc import Sequence
from typing import Any

import matplotlib as mpl
import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor

from manifold_lab import activations, metrics
from manifold_lab.core import contrasts, statistics
from manifold_lab.core.random_streams import stream
from manifold_lab.metrics.active_rows import active_rows
from manifold_lab.metrics.spectrum import effective_rank_of
from manifold_lab.report import plots
from manifold_lab.report.arm_styles import ARM_STYLES
from manifold_lab.report.printed import counted_claims
from manifold_lab.report.tables import ClaimResult, DataFrame, Estimate, Record, estimated_claim, pick, rounded, unique
from manifold_lab.sweeps.study import MAIN, Caption, Headline, captioned_figure, computed_study

NAME = "ext_rexnet_rank"
OUTPUTS = 96
RATIOS = (1 / 12, 1 / 6, 1 / 4, 1 / 3, 1 / 2, 2 / 3, 1.0)
SIXTH = 1 / 6
"""The ratio of MobileNetV2's expansions."""
HALF = 1 / 2
"""The ratio where ReLU keeps about half of all points."""
LINEAR, KEPT = "identity", "kept"
NONLINEAR = ("relu", "relu6", "leaky_relu", "silu", "gelu", "hardswish", "tanh")
RANKS = {"numerical": "numerical rank", "effective": "effective rank"}
VISIBLE = 0.005
"""Share of the output channels below which two curves lie on each other."""
POINTS = 10
"""Inputs for every output channel."""
STYLES = {name: ARM_STYLES[name] for name in NONLINEAR} | {LINEAR: ARM_STYLES["linear"]}


def tables(smoke: bool) -> dict[str, list[Record]]:
    """The lines of every ratio."""
    draws, outputs = (4, 24) if smoke else (30, OUTPUTS)
    return {MAIN: [line for ratio in RATIOS for line in lines(ratio, draws, outputs)]}


def lines(ratio: float, draws: int, outputs: int) -> list[Record]:
    """One line per activation, kind of rank and layer, so that layers stay paired, and per layer what ReLU keeps."""
    inputs, found = round(ratio * outputs), dict[tuple[str, str], list[float]]()
    for draw in range(draws):
        rng = stream(0, NAME, inputs, outputs, draw)
        x = torch.randn((POINTS * outputs, inputs), generator=rng)
        weight = torch.randn((outputs, inputs), generator=rng) / inputs**0.5
        for name in (LINEAR, *NONLINEAR):
            for kind, value in ranks(activations.named(name)(x @ weight.mT)).items():
                found.setdefault((name, kind), []).append(value / outputs)
        if ratio == HALF:
            found.setdefault((KEPT, ""), []).append(kept(weight, x[:outputs]))
    return [
        {"ratio": ratio, "inputs": inputs, "outputs": outputs, "activation": name, "rank": kind, "draw": draw,
         "value": value}
        for (name, kind), values in found.items()
        for draw, value in enumerate(values)
    ]  # fmt: skip


def ranks(y: Tensor) -> dict[str, float]:
    """Both ranks of centred outputs, points x channels."""
    values = torch.linalg.svdvals(y - y.mean(0))
    threshold = max(y.shape) * torch.finfo(y.dtype).eps * values[0]
    shares = values.double() ** 2 / (values.double() ** 2).sum()
    return {"numerical": float((values > threshold).sum()), "effective": float(effective_rank_of(shares))}


def kept(weight: Tensor, x: Tensor) -> float:
    """The share of inputs that ReLU leaves one preimage."""
    relu, before = activations.named("relu"), x @ weight.mT
    rows = active_rows(weight[None].double(), relu.is_active(relu(before))[None])
    return float(metrics.preserved(rows).double().mean())


def values(table: DataFrame, activation: str, kind: str, ratio: float) -> np.ndarray:
    """Ranks of every layer, as shares of the output channels."""
    return pick(table, activation=activation, rank=kind, ratio=rounded(ratio))["value"].to_numpy()


judged = functools.partial(estimated_claim, place="Han et al. 2020")
"""A claim of this study."""


def claims(table: DataFrame) -> list[ClaimResult]:
    """What a nonlinearity lifts, which lifts more, what the ratio does, and what a rank does not say."""
    at = functools.partial(values, table, kind="effective", ratio=SIXTH)
    unit = "effective rank / output channels, one input channel for six of output"
    lifts = {name: statistics.mean(at(name) - at(LINEAR)) for name in NONLINEAR}
    least = min(lifts, key=lambda name: lifts[name].low)
    gap = statistics.mean(at("silu") - at("relu6"))
    span = f"ratio {RATIOS[-1]:g} − ratio {RATIOS[0]:.2g}"
    ends = [values(table, "relu6", "effective", ratio) for ratio in (RATIOS[-1], RATIOS[0])]
    rise = contrasts.contrast([(ends[0], 1.0), (ends[1], -1.0)]).estimate
    return [
        judged("nonlinearity_lifts_rank", "every nonlinearity lifts the rank of a random layer's output",
               f"{unit}, nonlinear − linear, the smallest, {least}", lifts[least], lifts[least].exceeds(0)),
        judged("rank_rises_with_ratio", "the smaller the ratio of channels, the lower the rank, with ReLU6",
               f"effective rank / output channels, {span}", rise, rise.exceeds(0)),
        judged("silu_above_relu6", "SiLU lifts the rank more than ReLU6 does", f"{unit}, silu − relu6", gap,
               gap.exceeds(0)),
        *numerical(table),
        information(table),
    ]  # fmt: skip


def numerical(table: DataFrame) -> list[ClaimResult]:
    """In how many cells the numerical rank is short of full, which is what it could tell apart."""
    cells = [values(table, name, "numerical", ratio) for name in NONLINEAR for ratio in RATIOS]
    short = sum(bool((cell < 1).any()) for cell in cells)
    says = "the numerical rank tells nonlinearities and ratios apart"
    measure = f"of {len(cells)} nonlinearities and ratios, those where a layer's numerical rank is not full"
    return counted_claims([
        ("numerical_rank_tells", "Han et al. 2020 (ours)", says, measure, short, short > len(cells) / 2)
    ])  # fmt: skip


def information(table: DataFrame) -> ClaimResult:
    """Whether the layer of higher rank keeps more: ReLU against the linear layer, which keeps every point."""
    relu, linear = (values(table, name, "effective", HALF) for name in ("relu", LINEAR))
    lift, lost = statistics.mean(relu - linear), statistics.mean(values(table, KEPT, "", HALF) - 1.0)
    measure = f"share of points with one preimage, relu − linear, ratio {HALF:g}; effective rank by {lift.value:+.2g}"
    says = "the layer whose output has the higher rank keeps more points apart"
    return judged("rank_is_information", says, measure, lost, same_sign(lift, lost))


def same_sign(lift: Estimate, change: Estimate) -> bool | None:
    """Whether two changes are surely of one sign, or surely of two."""
    up, more = lift.exceeds(0), change.exceeds(0)
    return None if up is None or more is None else up == more


def alike(table: DataFrame, kind: str) -> list[list[str]]:
    """The activations by curve: those whose mean ranks are equal at every ratio, to what an eye can see, share one."""
    found: dict[tuple[float, ...], list[str]] = {}
    for name in unique(pick(table, rank=kind), "activation"):
        means = np.array([statistics.mean(values(table, name, kind, ratio)).value for ratio in RATIOS])
        same = next((known for known in found if np.abs(means - known).max() < VISIBLE), tuple(means))
        found.setdefault(same, []).append(name)
    return list(found.values())


def together(names: Sequence[str]) -> str:
    """What a curve of several activations is called."""
    if len(names) > len(NONLINEAR) / 2:
        others = [name for name in NONLINEAR if name not in names]
        return "all other nonlinearities" if others else "all nonlinearities"
    return " = ".join("linear" if name == LINEAR else name for name in names)


def curves(ax: Axes, table: DataFrame, kind: str) -> None:
    """A rank against the ratio, by activation; bars are over layers."""
    for names in alike(table, kind):
        colour, mark = STYLES[names[0]]
        found = [statistics.mean(values(table, names[0], kind, ratio)) for ratio in RATIOS]
        plots.draw_intervals(ax, RATIOS, found, fmt=f"{mark}-", color=colour, ms=3, lw=0.7, elinewidth=0.6,
                             label=together(names))  # fmt: skip
    size = mpl.rcParams["legend.fontsize"]
    ax.text(SIXTH + 0.01, 0.5, "MobileNetV2", rotation=90, va="bottom", color="0.4", fontsize=size)
    ax.axvline(SIXTH, color="0.6", lw=0.6, ls=":", zorder=0)
    ax.set(xlabel="input channels / output channels", ylim=(0, 1.05))
    ax.set_ylabel(f"{RANKS[kind]} / output channels")


HEADLINE = Headline(
    "nonlinearity_lifts_rank", "Every nonlinearity lifts the effective rank of a random layer's output",
    "Some nonlinearity does not lift the effective rank of a random layer's output",
)  # fmt: skip


def draw(figure: Figure, table: DataFrame) -> Caption:
    """Both ranks side by side."""
    axes = figure.subplots(1, 2)
    for ax, kind in zip(axes, RANKS, strict=True):
        curves(ax, table, kind)
    axes[0].legend(frameon=False, loc="lower right")
    plots.letter(axes, RANKS.values())
    handles: Any = axes[1].get_legend_handles_labels()[0]
    handles.sort(key=lambda curve: curve[0].get_ydata()[-1], reverse=True)  # a legend that reads as the curves do
    layers = len(values(table, LINEAR, "effective", SIXTH))
    note = (
        f"Random layers of {OUTPUTS} output channels, {layers} a ratio; bars: Student's {statistics.PERCENT} "
        f"interval over layers. Activations whose curves are nowhere further apart than {VISIBLE:g} share one."
    )
    return note, handles


FIGURE = captioned_figure(draw, claims, HEADLINE, 3.0)
STUDY = computed_study(name=NAME, card=__doc__, tables=tables, figure=FIGURE, claims=claims)


if __name__ == "__main__":
    raise SystemExit(STUDY.main())
