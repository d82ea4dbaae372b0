"""The spiral's command as a function: the same options, and a value with the same tables and figures."""

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from manifold_lab.core.errors import one_of
from manifold_lab.core.files import publish
from manifold_lab.core.shown import Axes, DataFrame
from manifold_lab.report import interactive, results_table, spiral_figure, tables
from manifold_lab.spiral import pipeline
from manifold_lab.spiral.command import SpiralOptions, check_options


@dataclass(frozen=True, eq=False, repr=False)
class SpiralResult:
    """What the spiral's command measured.

    Args:
        options: of the command.
        numbers: the rows of spiral.csv.
        points: the rows of spiral_points.csv.
    """

    options: SpiralOptions
    numbers: DataFrame
    points: DataFrame

    def frame(self) -> DataFrame:
        """Every estimate with interval, n, quantiles over draws and theory, as spiral.csv has it."""
        return self.numbers.copy()

    def summary(self) -> DataFrame:
        """The table that the command prints."""
        rows = results_table.summary_table(self.numbers, pipeline.dims_shown(self.options))
        return tables.read_csv(tables.to_csv(dict(zip(results_table.RESULT_HEAD, row, strict=True)) for row in rows))

    def points_frame(self) -> DataFrame:
        """The points of the picture: input, and decoded by each decoder in the typical draw of each dim."""
        return self.points.copy()

    def plot(self) -> list[Axes]:
        """Draw Figure 1: the typical draw of each dim, decoded the paper's way above and exactly below; its axes."""
        return interactive.adopted(spiral_figure.draw_figure(self.points, self.numbers, self.options.style))

    def plot_statistics(self) -> list[Axes]:
        """Draw what is preserved, the dimension lost, errors and information over draws, against dim; the four axes."""
        return interactive.adopted(spiral_figure.draw_statistics(self.numbers, self.options.style))

    def sentences(self) -> list[str]:
        """One for each dim."""
        return pipeline.sentences(self.options, self.numbers)

    def save(self, out: Path | str) -> list[Path]:
        """Write the files of the command into a folder; their paths.

        Raises:
            InputError: where it cannot be written.
        """
        return publish(Path(out), pipeline.files(self.options, self.numbers, self.points))

    def __repr__(self) -> str:
        dims = ", ".join(map(str, pipeline.dims_shown(self.options)))
        what = f"{self.options.activation} on a {self.options.manifold}"
        return f"<SpiralResult of {what}, dims {dims}, {self.options.draws} draws>"

    def _repr_html_(self) -> str:
        return self.summary()._repr_html_() + "".join(f"<p>{line}</p>" for line in self.sentences())


def measure_spiral(**options: Any) -> SpiralResult:
    """Measure what an activation destroys of a manifold in random embeddings, as `python -m manifold_lab.spiral` does.

    >>> measure_spiral(dims=(2, 15), draws=50, points=200, quiet=True)
    <SpiralResult of relu on a spiral, dims 2, 15, 50 draws>

    Args:
        options: of the command, by the names of `SpiralOptions`; nothing is written before `save`.

    Raises:
        InputError: for a name or a value that is not allowed.
    """
    for name in options:
        one_of("option", name, [field.name for field in dataclasses.fields(SpiralOptions)])
    made: dict[str, Any] = {name: tuple(value) if isinstance(value, list) else value for name, value in options.items()}
    asked = SpiralOptions(**made)
    check_options(asked)
    return SpiralResult(asked, *pipeline.measured_tables(asked))
