"""Claim: a study of ten thousand runs is planned, looked at and published in seconds; and what ImageNet would cost.

Run      python -m benchmarks.cluster
Costs    7 arms x 5 seeds x 300 epochs of ImageNet on 8 GPUs a run: multiply-adds counted on a forward pass, times a
         published rate of training, which an arm is taken to miss in proportion to its multiply-adds
Study    10,000 runs whose results a fake launcher writes, in arrays that a fake queue knows, through its commands

Both fill their marked blocks in docs/cluster.md, the study at its usual size; the seconds of its commands, at any size,
are in cluster.csv.
"""

import contextlib
import dataclasses
import io
import os
import re
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from matplotlib.figure import Figure

from manifold_lab.core.cli import run_cli
from manifold_lab.core.config import key
from manifold_lab.core.files import csv_text, publish, text
from manifold_lab.models import matching
from manifold_lab.models.matching import at_madds, madds
from manifold_lab.models.mobilenet import build
from manifold_lab.models.specs import V2, NetworkSpec
from manifold_lab.report.speed_table import lines
from manifold_lab.sweeps import ablation, runner, store, study, study_commands, submissions
from manifold_lab.sweeps.store import Result, Run

PAGE, CSV = Path("docs/cluster.md"), Path("benchmarks/cluster.csv")
COLUMNS, COMMANDS, USUAL = ("runs", "command", "when", "seconds"), ("plan", "status", "publish"), 10_000
IMAGES, EPOCHS, SEEDS, GPUS = 1_281_167, 300, 5, 8
RATE, SCALING, NEWER = 2313.1, 6.72 / 8, 2470 / 1218.0
"""Images a second in training of MobileNetV2 at width 1 on one RTX 3090 in mixed precision (mobilenetv2_100 in
huggingface/pytorch-image-models, results/benchmark-train-amp-nhwc-pt112-cu113-rtx3090.csv); the share of it that is
left for each of eight, and how many times as fast an A100 is, both as for ResNet-50 in mixed precision
(NVIDIA/DeepLearningExamples, PyTorch/Classification/ConvNets/resnet50v1.5/README.md: 6.72 of 8, 2470 a second; resnet50
in the same list as above: 1218)."""
STATES = 4
"""Copies of the weights in a checkpoint: weights, moving average, mean square and velocity."""
CHECKPOINTS = 2
"""Kept of each run."""


def arms() -> dict[str, NetworkSpec]:
    """The seven arms: Figure 6a and 6b, and the two other blocks at equal multiply-adds."""
    change = {
        "linear bottleneck": {},
        "ReLU6 bottleneck": {"bottleneck_activation": "relu6"},
        "shortcut between expansions": {"shortcut": "expansion"},
        "no shortcut": {"shortcut": "none"},
        "no shortcut, ReLU6": {"shortcut": "none", "bottleneck_activation": "relu6"},
    }
    found = {name: ablation.variant(**words)(V2) for name, words in change.items()}
    others = {f"{block} block": at_madds(dataclasses.replace(V2, block=block), madds(V2)) for block in ("classic",)}
    separable = at_madds(dataclasses.replace(V2, block="separable", shortcut="none"), madds(V2))
    return found | others | {"separable block": separable}


def cost_rows() -> list[dict[str, str]]:
    """What each arm costs, and all of them."""
    found, total, reference = [], 0.0, madds(V2)
    for name, network in arms().items():
        price = matching.spec_cost(network)
        rate = RATE * reference / price.madds
        hours = IMAGES * EPOCHS / rate / SCALING / 3600
        total += SEEDS * hours
        state = sum(value.numel() * value.element_size() for value in build(network).state_dict().values())
        row = {
            "arm": name,
            "MAdds an image": f"{price.madds / 1e6:.0f} M",
            "images/s": f"{rate:.0f}",
            "hours a run on 8": f"{hours / GPUS:.1f}",
            "on 8 A100": f"{hours / GPUS / NEWER:.1f}",
            "GPU-days, 5 seeds": f"{SEEDS * hours / 24:.0f}",
            "checkpoints a run": f"{CHECKPOINTS * STATES * state / 1e6:.0f} MB",
        }
        found.append(row)
    last = dict.fromkeys(found[0], "") | {"arm": "all", "GPU-days, 5 seeds": f"{total / 24:.0f}"}
    return [*found, last]


@dataclass(frozen=True)
class Simulated:
    """A run that takes no time."""

    seed: int = 0


def measure(spec: Simulated, _folder: Path) -> Result:
    """A number and a short history."""
    return Result({"value": spec.seed}, [{"step": step, "loss": 1 / (step + 1)} for step in range(10)])


def rows(runs: Sequence[Run]) -> Iterable[dict[str, str]]:
    """One line a run that is done."""
    return ({"seed": str(run.spec.seed), "value": str(run.numbers["value"])} for run in runs if run.numbers)


def simulation(number: int) -> list[dict[str, str]]:
    """Seconds of each command while the runs of a study are absent, queued, half done and done."""
    grid = tuple(Simulated(seed) for seed in range(number))
    made = study.Study(
        name="simulated", card="Paper  none\nClaims  none\nRun  benchmark\nDiffers  none", grid=lambda _: grid,
        measure=measure, rows=lambda runs: list(rows(runs)), figure=lambda _: Figure(), claims=lambda _: [],
    )  # fmt: skip
    with tempfile.TemporaryDirectory() as name, contextlib.chdir(name):
        folder = Path("runs/simulated")
        found = [_timed(made, "plan", "all absent")]
        began = time.perf_counter()
        tasks = [((key(spec), 0),) for spec in grid]
        arrays = [submissions.announce(folder, "simulated", part, 100) for part in runner.batched(tasks, 1001)]
        found.append(_row(f"{len(arrays)} arrays written down", "submission", time.perf_counter() - began))
        with _fake_queue(arrays):
            found.append(_timed(made, "status", "all queued"))
            _finish(folder, grid[: number // 2])
            found += [_timed(made, "status", f"half done, {when} look") for when in ("first", "second")]
            found.append(_timed(made, "plan", "half done, half queued"))
        began = time.perf_counter()
        _finish(folder, grid[number // 2 :])
        found.append(_row("half of the results written", "fake launcher", time.perf_counter() - began))
        for submission in arrays:
            (submission.folder / submissions.OPEN).replace(submission.folder / submissions.ENDED)
        found += [_timed(made, "status", "all done"), _timed(made, "publish", "all done")]
    return found


def _finish(folder: Path, specs: Iterable[Simulated]) -> None:
    """The fake launcher: results without processes."""
    for spec in specs:
        provenance = {"seconds": 1.0, "attempt": 1, "commit": None, "device": None}
        store.finish(spec, folder / key(spec), measure(spec, folder), provenance)


@contextlib.contextmanager
def _fake_queue(arrays: Sequence[submissions.Submission]) -> Iterator[None]:
    """A squeue that tells of every task as waiting."""
    lines = (f"{array.name}|{task}|PENDING||Priority|1_{task}" for array in arrays for task in range(len(array.tasks)))
    Path("queue").write_text("\n".join(lines) + "\n")
    Path("bin").mkdir()
    Path("bin/squeue").write_text(f"#!/bin/sh\ncat {Path('queue').resolve()}\n")
    Path("bin/squeue").chmod(0o755)
    before = os.environ["PATH"]
    os.environ["PATH"] = f"{Path('bin').resolve()}{os.pathsep}{before}"
    try:
        yield
    finally:
        os.environ["PATH"] = before


def _timed(made: study.Study, command: str, when: str) -> dict[str, str]:
    began = time.perf_counter()
    with contextlib.redirect_stdout(io.StringIO()):
        status = study_commands.main(made, [command])
    assert status == 0, command
    return _row(when, command, time.perf_counter() - began)


def _row(when: str, what: str, seconds: float) -> dict[str, str]:
    return {"runs": when, "what": what, "seconds": f"{seconds:.2g}"}


def table(lines: Sequence[Mapping[str, str]]) -> str:
    """Markdown, numbers to the right."""
    head = list(lines[0])
    body = [[line[name] for name in head] for line in lines]
    rule = ["---", *["---:"] * (len(head) - 1)]
    return "\n".join(f"| {' | '.join(row)} |" for row in (head, rule, *body))


def filled(page: str, name: str, content: str) -> str:
    """The page with one block made anew."""
    return re.sub(rf"(<!-- begin {name} -->\n).*?(\n<!-- end {name} -->)", lambda at: at[1] + content + at[2], page,
                  flags=re.DOTALL)  # fmt: skip


def measured(number: int, found: Sequence[Mapping[str, str]]) -> list[dict[str, str]]:
    """The lines of the csv: the commands at this size, and what it has of other sizes."""
    others = [line for line in lines(CSV) if line["runs"] != str(number)]
    timed = [{"runs": str(number), "command": row["what"], "when": row["runs"], "seconds": row["seconds"]}
            for row in found if row["what"] in COMMANDS]  # fmt: skip
    return sorted([*others, *timed], key=lambda line: int(line["runs"]))


@dataclass(frozen=True)
class ClusterOptions:
    """What ImageNet would cost, and how long the commands of a large study take."""

    runs: int = USUAL
    """Of the simulated study; 0 for the costs alone."""


def run(options: ClusterOptions) -> None:
    """Fill the blocks and write the csv."""
    page = filled(PAGE.read_text(encoding="utf-8"), "imagenet-cost", table(cost_rows()))
    if options.runs:
        found = simulation(options.runs)
        publish(CSV.parent, {CSV.name: text(csv_text(measured(options.runs, found), COLUMNS))})
        if options.runs == USUAL:
            page = filled(page, "ten-thousand-runs", table(found))
    publish(PAGE.parent, {PAGE.name: text(page)})


if __name__ == "__main__":
    sys.exit(run_cli(ClusterOptions, run, "benchmarks.cluster"))
