"""A study of trained networks: arms side by side, with curves, differences, table and claims."""

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from matplotlib.figure import Figure

from manifold_lab.core.errors import one_of
from manifold_lab.core.shown import DataFrame
from manifold_lab.report.headlines import Headline, headline
from manifold_lab.sweeps import comparison, comparison_figure, training_run
from manifold_lab.sweeps.comparison import Comparison
from manifold_lab.sweeps.study import Study


@dataclass(frozen=True, kw_only=True)
class Arms:
    """What a comparison of trained networks says about its arms, checked where it is made.

    Args:
        comparison: the arms in order, each with its style.
        expected: the claims about two of them.
        headline: the figure's title by a claim's verdict; without, the figure has none.
        note: the last sentence of the figure's caption, of the published table.
    """

    comparison: Comparison
    expected: Sequence[comparison.ExpectedOrder] = ()
    headline: Headline | None = None
    note: Callable[[DataFrame], str] = lambda _: ""

    def __post_init__(self) -> None:
        """Refuse a claim about an arm that is not there, before anything is trained."""
        for claim in self.expected:
            for arm in claim.pair:
                one_of("arm", arm, list(self.comparison.styles))


def trained_study(
    *, name: str, card: str, grid: Callable[[bool], tuple[Any, ...]], arms: Arms, caption: str, **changed: Any
) -> Study:
    """A study of trained networks: arms side by side, with curves, differences, table and claims.

    Args:
        name: as of `Study`.
        card: as of `Study`.
        grid: training runs.
        arms: what is compared, and what is expected of it.
        caption: of the table.
        changed: fields of `Study` in place of those made here.

    Raises:
        InputError: for a claim about an arm that is not compared, or an arm of the smoke grid without a style.
    """
    for run in grid(True):
        one_of("arm", run.arm, list(arms.comparison.styles))
    made: dict[str, Any] = {
        "measure": training_run.run_training,
        "rows": training_run.training_rows,
        "claims": functools.partial(comparison.comparison_claims, contrast=arms.comparison, expected=arms.expected),
        "table": functools.partial(comparison.comparison_table, contrast=arms.comparison, caption=caption),
        "run_folder": training_run.TRAINING_RUNS,
    }
    made |= changed

    def figure(runs: DataFrame) -> Figure:
        title = headline(made["claims"](runs), arms.headline) if arms.headline else ""
        return comparison_figure.draw_comparison(runs, arms.comparison, title, arms.note(runs))

    return Study(name=name, card=card, grid=grid, **({"figure": figure} | made))
