"""The options of the spiral's command, checked before torch is loaded."""

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from manifold_lab.activations import ACTIVATIONS
from manifold_lab.core.cli import About, Json, Quiet, choice, run_cli
from manifold_lab.core.errors import InputError, one_of
from manifold_lab.core.files import check_folder
from manifold_lab.core.lazy import lazy_function
from manifold_lab.random_layer import specs
from manifold_lab.random_layer.specs import ManifoldSpec, MonteCarlo
from manifold_lab.report.styles import DEFAULT_STYLE, FORMATS, STYLES

ABOUT = About(examples=(
    "python -m manifold_lab.spiral --dims 2 3 5 15 30",
    "python -m manifold_lab.spiral --dims 3 15 --manifold sphere --activation gelu --style neurips2024 --out out/",
))  # fmt: skip

TURNS = f"Turns of the spiral; {ManifoldSpec.turns:g} by default."


@dataclass(frozen=True)
class SpiralOptions:
    """How much an activation destroys of a manifold in a random embedding: Figure 1 of MobileNetV2, measured."""

    dims: Annotated[tuple[int, ...], tyro.conf.arg(metavar="M [M ...]")] = MonteCarlo.dims
    """Ambient dimensions m of the panels: one or more whole numbers of at least 1."""
    draws: int = MonteCarlo.draws
    """Random matrices T per dim."""
    points: int = MonteCarlo.points
    """Points of the manifold."""
    manifold: Annotated[str, choice(specs.MANIFOLDS)] = ManifoldSpec.name
    turns: Annotated[float | None, tyro.conf.arg(help=TURNS)] = None
    radius: float = ManifoldSpec.radius
    """Largest |x| (a blob's standard deviation). Matters where an activation is not homogeneous, as ReLU6."""
    inputs: int | None = ManifoldSpec.inputs
    """Input dimension n, for a line, trigonometric curve, sphere or blob; by default each one's own."""
    embedding: Annotated[str, choice(specs.LAWS)] = MonteCarlo.embedding
    activation: Annotated[str, choice(ACTIVATIONS)] = MonteCarlo.activation
    bias: float = MonteCarlo.bias
    """Added to every row of Tx before the activation, in the units of x."""
    decoder: Annotated[str, choice(specs.DECODERS, "Of the figure's upper row, one of")] = "pinv"
    sigma: float = MonteCarlo.sigma
    """Standard deviation of the noise for the mutual information (nats), after scaling the code by sqrt(2/m)."""
    seed: int = MonteCarlo.seed
    """Equal seeds give equal csv files, byte for byte."""
    out: Path = Path("figures")
    """Folder for the figures, spiral.csv, spiral_points.csv and spiral.json."""
    formats: Annotated[tuple[str, ...], tyro.conf.arg(metavar="FORMAT [FORMAT ...]")] = ("png", "pdf")
    """File formats of the figures: png, pdf, svg."""
    style: Annotated[str, choice(STYLES, "Whose text width and fonts", "VENUE")] = DEFAULT_STYLE
    device: str = "cpu"
    """cpu, cuda or cuda:N; the random draws are the same on each."""
    dtype: Annotated[str, choice(specs.DTYPES, "What it is computed in")] = MonteCarlo.dtype
    quiet: Quiet = False
    json: Json = False

    @property
    def survey(self) -> MonteCarlo:
        """The part that changes numbers.

        Raises:
            InputError: for a value that is not allowed.
        """
        shared = {f.name: getattr(self, f.name) for f in dataclasses.fields(MonteCarlo) if hasattr(self, f.name)}
        if self.turns is not None:
            specs.check_turns(one_of("manifold", self.manifold, specs.MANIFOLDS), self.turns)
        turns = ManifoldSpec.turns if self.turns is None else self.turns
        manifold = ManifoldSpec(self.manifold, turns, self.radius, self.inputs)
        return MonteCarlo(**shared | {"manifold": manifold})


def check_options(options: SpiralOptions) -> None:
    """Refuse what can be refused without sampling a point: the spec, device, formats, style, decoder, folder.

    Raises:
        InputError: naming the option and what is allowed.
    """
    _ = options.survey
    one_of("activation", options.activation, ACTIVATIONS)
    one_of("style", options.style, STYLES)
    one_of("decoder", options.decoder, specs.DECODERS)
    if not options.formats:
        raise InputError(f"formats: none given; allowed: {', '.join(FORMATS)}")
    for name in options.formats:
        one_of("formats", name, FORMATS)
    one_of("device", options.device.partition(":")[0], ("cpu", "cuda"))
    check_folder(options.out)


def run(options: SpiralOptions) -> None:
    """Measure, draw, write and print.

    Raises:
        InputError: for anything that the options ask for and cannot be had.
    """
    check_options(options)
    lazy_function("manifold_lab.spiral.pipeline.run")(options)


def main(arguments: list[str] | None = None) -> int:
    """Run the command; its exit status."""
    return run_cli(SpiralOptions, run, "manifold_lab.spiral", arguments, ABOUT)
