"""The lines that `experiments.ext_cause` publishes of its runs: trainings, bottlenecks, and gradients."""

from collections.abc import Sequence

from manifold_lab.report.tables import Record
from manifold_lab.sweeps import training_run
from manifold_lab.sweeps.store import Run

BOTTLENECK, GRADIENT = "bottleneck", "gradient"
"""Kinds of lines."""


def rows(runs: Sequence[Run]) -> list[Record]:
    """The lines of every training, then one per run and block, and one per run, block and look at the gradients."""
    found = training_run.training_rows(runs)
    blank = dict.fromkeys(training_run.TRAINING_COLUMNS)
    for run in runs:
        of = {"arm": run.spec.arm, "group": run.spec.group, "data": run.spec.data, "seed": run.spec.seed}
        row = blank | of | {"length": run.spec.recipe.images, "state": run.state}
        for one in run.numbers.get("bottlenecks", ()):
            found.append(row | {"kind": BOTTLENECK} | {name: five_digits(value) for name, value in one.items()})
        norms = run.numbers.get("gradient_norms", {})
        steps = sorted(norms, key=int)
        for step in dict.fromkeys(steps[place] for place in (0, len(steps) // 2, -1) if steps):
            record = row | {"kind": GRADIENT, "images": int(step) * run.spec.recipe.batch_size}
            blocks = {name.removeprefix("blocks."): norm for name, norm in norms[step].items() if "blocks." in name}
            found += [record | {"block": block, "gradient_norm": five_digits(norm)} for block, norm in blocks.items()]
    return found


def five_digits(value: float | None) -> float | None:
    """A number as it is published."""
    return None if value is None else float(f"{value:.5g}")
