"""Figures for whoever types in Python: what `.plot()` of the library's objects draws."""

from typing import Any

from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter

from manifold_lab.core.shown import frame
from manifold_lab.models import profiler
from manifold_lab.models.mobilenet import Network
from manifold_lab.probe.layer import LayerRow
from manifold_lab.report import layer_figure, plots


def adopted(figure: Figure) -> list[Axes]:
    """The axes of a figure, which pyplot shows from here on, as it does its own: in a notebook, or by `plt.show()`."""
    make: Any = lambda *_, **__: figure  # noqa: E731
    plt.figure(FigureClass=make)
    return figure.axes


def plot_layers(rows: list[LayerRow], title: str, caption: str) -> list[Axes]:
    """What a probe measured, over depth: a panel for each of its measures.

    Args:
        rows: the probe's table.
        title: what was looked at.
        caption: on what the numbers rest.
    """
    return adopted(layer_figure.draw_layers(frame(rows), title, caption))


def plot_costs(network: Network) -> list[Axes]:
    """What each operator of a network costs, over depth: multiply-adds, parameters, numbers in and out."""
    seen = profiler.profile(network, network.spec.image_shape, profiler.OPERATOR_LAYERS)
    shown = {"multiply-adds": [one.madds for one in seen], "parameters": [one.parameters for one in seen],
             "in + out": [one.elements for one in seen]}  # fmt: skip
    with plots.style():
        figure = plots.shaped(3.6)
        axes = figure.subplots(len(shown), 1, sharex=True)
        for ax, (label, values) in zip(axes, shown.items(), strict=True):
            ax.bar(range(len(values)), values, color=plots.MEASURED)
            ax.set(ylabel=label)
            ax.yaxis.set_major_formatter(EngFormatter(sep=""))
        layer_figure.name_layers(axes[-1], [one.name for one in seen], room=2 * layer_figure.LABEL_ROOM)
        side = network.spec.resolution
        axes[-1].set_xlabel(f"operators in the order of execution, one image of {side} pixels a side")
        return adopted(plots.fixed_layout(figure))
