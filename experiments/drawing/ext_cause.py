"""The figure of `experiments.ext_cause`: accuracy lost against what stays readable, curves, learning rates."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from manifold_lab.core import contrasts, statistics
from manifold_lab.report import plots
from manifold_lab.report.plots import pick
from manifold_lab.report.tables import Lines
from manifold_lab.sweeps import comparison, comparison_figure


@dataclass(frozen=True)
class Dose:
    """One arm: test accuracies in percent, and the measured linear R² of the runs that have it."""

    accuracies: Sequence[float]
    linear_r2: Sequence[float]


@dataclass(frozen=True)
class Panels:
    """What is drawn: arms by dose, families as lines, lines of the curves, accuracies by learning rate, styles."""

    dose: Mapping[str, Dose]
    families: Mapping[str, Sequence[str]]
    curves: Lines
    rates: Mapping[str, Mapping[str, Sequence[float]]]
    styles: Mapping[str, tuple[str, str]]


def draw(panels: Panels, title: str, length: str) -> Figure:
    """All three panels, the reading of the rule above them."""
    with plots.style():
        found = Figure(figsize=(mpl.rcParams["figure.figsize"][0], 2.9), layout="constrained")
        axes = found.subplots(1, 3, width_ratios=(1.3, 1, 0.9))
        draw_dose(axes[0], panels, length)
        draw_training(axes[1], panels)
        draw_rates(axes[2], panels)
        found.suptitle(title, size="small")
        handles, labels = axes[0].get_legend_handles_labels()
        found.legend(handles, labels, loc="outside lower center", ncols=7, frameon=False)
        return plots.fixed_layout(found)


def draw_dose(ax: Axes, panels: Panels, length: str) -> None:
    """Accuracy lost against what stays linearly readable: one line per family, controls as single marks."""
    at: dict[str, tuple[float, float]] = {}
    linear = panels.dose["linear"].accuracies if "linear" in panels.dose else ()
    for arm, found in panels.dose.items():
        lost = contrasts.contrast([(linear, 1.0), (found.accuracies, -1.0)]).estimate
        if found.linear_r2 and linear:
            at[arm] = (float(np.mean(found.linear_r2)), lost.value)
            label = f"{arm} ({len(found.accuracies)})"
            plots.draw_point(ax, (at[arm][0], lost), panels.styles[arm], label=label)
    for arms in panels.families.values():
        line = [at[arm] for arm in arms if arm in at]
        if line:
            ax.plot(*zip(*line, strict=True), color=panels.styles[arms[-1]][0], lw=0.7)
    ax.axhline(0, color="0.5", lw=0.6)
    ax.set(xlabel="measured linear R² (mean over bottlenecks)", ylabel="test accuracy lost, points")
    ax.set_title(f"a  {int(length):,} images (n)", loc="left")


def draw_training(ax: Axes, panels: Panels) -> None:
    """Validation accuracy over the longest training."""
    longest = max(map(int, comparison.unique(panels.curves, "length")), default=0)
    for arm in panels.rates:
        one = pick(panels.curves, arm=arm, length=str(longest))
        if one:
            comparison_figure.draw_curve(ax, one, {"color": panels.styles[arm][0], "label": arm, "ls": "-"})
    ax.set(xlabel="images seen, thousands", ylabel="validation accuracy, %")
    ax.set_title(f"b  {longest:,} images", loc="left")


def draw_rates(ax: Axes, panels: Panels) -> None:
    """Test accuracy against the learning rate, of the arms that decide."""
    shown = list(dict.fromkeys(rate for found in panels.rates.values() for rate in found))
    for arm, found in panels.rates.items():
        for rate, values in found.items():
            if values:
                plots.draw_point(ax, (float(rate), statistics.mean(np.array(values))), panels.styles[arm])
    ax.set(xscale="log", xlabel="learning rate", ylabel="test accuracy, %")
    ax.set_xticks([float(rate) for rate in shown], shown)
    ax.minorticks_off()
    ax.set_title("c  learning rates", loc="left")
