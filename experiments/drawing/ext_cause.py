"""The figure of `experiments.ext_cause`: accuracy lost against what stays readable, curves, learning rates."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from manifold_lab.core import contrasts, statistics
from manifold_lab.report import plots
from manifold_lab.report.arm_styles import ARM_STYLES, label_of
from manifold_lab.report.tables import DataFrame, pick, unique
from manifold_lab.sweeps import comparison_figure

CAPTION = (
    "CIFAR-10, width 0.35. Marks are means over runs (in brackets how many), bars "
    f"{statistics.PERCENT} intervals, those in (a) by Welch against linear. Lines in (a) join arms of one family by "
    "how much stays readable. Noise: Gaussian, as much as leaves a normal channel as readable as the named activation "
    "does."
)
UNMEASURED = " A dashed line with its band is an arm whose R² was not measured."

BESIDE = 1.04
"""Between the marks of one learning rate, as a factor on its axis, so that none hides another."""


@dataclass(frozen=True)
class Dose:
    """One arm: test accuracies in percent, and the measured linear R² of the runs that have it."""

    accuracies: Sequence[float]
    linear_r2: Sequence[float]


@dataclass(frozen=True)
class Panels:
    """What is drawn: arms by dose, families as lines, rows of the curves, accuracies by learning rate."""

    dose: Mapping[str, Dose]
    families: Mapping[str, Sequence[str]]
    curves: DataFrame
    rates: Mapping[str, Mapping[str, Sequence[float]]]


def draw(panels: Panels, title: str, tuning: str, length: int) -> Figure:
    """Dose and curves, and learning rates where there are several; the reading of the rule is the title."""
    several = len({rate for found in panels.rates.values() for rate, values in found.items() if values}) > 1
    with plots.style():
        found = plots.shaped(3.3)
        axes = found.subplots(1, 2 + several)
        draw_dose(axes[0], panels)
        names = [f"{length:,} images", draw_training(axes[1], panels)]
        if several:
            draw_rates(axes[2], panels)
            names.append(f"learning rates, {length:,} images")
        plots.letter(axes, names)
        unmeasured = UNMEASURED * any(not arm.linear_r2 for arm in panels.dose.values())
        return plots.captioned(found, title, CAPTION + unmeasured + tuning, plots.handles_of(axes[:1]))


def draw_dose(ax: Axes, panels: Panels) -> None:
    """Accuracy lost against what stays linearly readable: one line per family, controls as single marks."""
    at: dict[str, tuple[float, float]] = {}
    linear = panels.dose["linear"].accuracies if "linear" in panels.dose else ()
    for arm, found in panels.dose.items():
        lost = contrasts.contrast([(linear, 1.0), (found.accuracies, -1.0)]).estimate
        lost = statistics.Estimate(0.0, 0.0, 0.0, len(linear)) if arm == "linear" else lost
        label = f"{label_of(arm)} ({len(found.accuracies)})"
        if found.linear_r2 and linear:
            at[arm] = (float(np.mean(found.linear_r2)), lost.value)
            plots.draw_point(ax, (at[arm][0], lost), ARM_STYLES[arm], label=label)
        elif linear:
            draw_unmeasured(ax, lost, ARM_STYLES[arm][0], f"{label}, R² not measured")
    for arms in panels.families.values():
        line = [at[arm] for arm in arms if arm in at]
        if line:
            ax.plot(*zip(*line, strict=True), color=ARM_STYLES[arms[-1]][0], lw=0.7)
    ax.axhline(0, color="0.5", lw=0.6)
    ax.set(xlabel="measured linear R², mean over bottlenecks", ylabel="test accuracy lost, points")


def draw_unmeasured(ax: Axes, lost: statistics.Estimate, colour: str, label: str) -> None:
    """An arm without a place on the axis of R²: what it loses as a line across, its interval as a band."""
    ax.axhline(lost.value, color=colour, lw=0.9, ls="--", label=label, zorder=1)
    if not np.isnan(lost.low):
        ax.axhspan(lost.low, lost.high, color=colour, alpha=0.1, lw=0, zorder=0)


def draw_training(ax: Axes, panels: Panels) -> str:
    """Validation accuracy over the longest training that several arms have; what the panel shows."""
    there = {length: unique(mine, "arm") for length, mine in panels.curves.groupby("length")}
    longest = max([length for length, arms in there.items() if len(arms) > 1] or there, default=0)
    runs: set[int] = set()
    for place, arm in enumerate(arm for arm in panels.rates if arm in there.get(longest, ())):
        style = comparison_figure.curve_style(ARM_STYLES[arm], place) | {"label": label_of(arm)}
        runs |= comparison_figure.draw_curve(ax, pick(panels.curves, arm=arm, length=longest), style)
    ax.set(xlabel="images seen, thousands", ylabel="validation accuracy, %", xlim=(0, None))
    if runs:
        ax.legend(frameon=False, loc="lower right")
    return f"{longest:,} images, {comparison_figure.many(runs or {0})}"


def draw_rates(ax: Axes, panels: Panels) -> None:
    """Test accuracy against the learning rate, of the arms that decide."""
    shown = list(dict.fromkeys(rate for found in panels.rates.values() for rate, values in found.items() if values))
    for place, (arm, found) in enumerate(panels.rates.items()):
        aside = BESIDE ** (place - (len(panels.rates) - 1) / 2)
        for rate, values in found.items():
            if values:
                plots.draw_point(ax, (aside * float(rate), statistics.mean(np.array(values))), ARM_STYLES[arm])
    ax.set(xscale="log", xlabel="learning rate", ylabel="test accuracy, %")
    ax.set_xticks([float(rate) for rate in shown], shown)
    ax.minorticks_off()
