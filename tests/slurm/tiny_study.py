"""A study whose runs end in every way that a job can: python tests/slurm/tiny_study.py VERB, its grid named by GRID."""

import dataclasses
import os
import signal
import sys
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from matplotlib.figure import Figure

from manifold_lab import data, stream
from manifold_lab.models.mobilenet import build
from manifold_lab.models.specs import DIGITS
from manifold_lab.sweeps import run_lock, study, study_commands
from manifold_lab.sweeps.store import Result, Run
from manifold_lab.training import Bookkeeping, Recipe, checkpoint, train
from manifold_lab.training.distributed import current

STEPS, EVERY, HELD_AT = 40, 5, 22
RECIPE = Recipe(images=STEPS * 64, batch_size=64, ema_decay=0.99)
GIGABYTES = 3


@dataclass(frozen=True)
class Spec:
    seed: int = 0
    ends: str = "well"


GRIDS = {
    "good": tuple(Spec(seed) for seed in range(4)),
    "mixed": tuple(Spec(seed, ends) for seed in range(2) for ends in ("error", "death", "well", "well too")),
    "many": tuple(Spec(seed) for seed in range(1200)),
    "training": tuple(Spec(seed, "held") for seed in range(4)),
    "together": (Spec(0, "trained"),),
    "stuck": (Spec(0, "stuck"),),
    "memory": (Spec(0, "memory"), Spec(1)),
}


def grid(_smoke: bool) -> tuple[Spec, ...]:
    return GRIDS[os.environ["GRID"]]


def measure(spec: Spec, folder: Path) -> Result:
    """Note the node and, of a training, the step from which it goes on; then end as told."""
    if current().first:
        with (folder / "ran").open("a") as file:
            file.write(f"{run_lock.host()} {steps_kept(folder)}\n")
    if spec.ends == "error":
        raise ValueError("this run fails")
    if spec.ends == "death":
        os.kill(os.getpid(), signal.SIGKILL)
    if spec.ends == "memory":
        print(len(bytearray(os.urandom(1)) * (GIGABYTES << 30)))
    while spec.ends == "stuck":
        time.sleep(0.1)
    if spec.ends in ("held", "trained"):
        return trained(spec, folder)
    return Result({"value": spec.seed})


def trained(spec: Spec, folder: Path) -> Result:
    """A small network's weights in the end; the first start of a job is held in the middle until it is disturbed."""
    model = build(DIGITS, stream(spec.seed, "weights"))
    first = run_lock.JOB in os.environ and not int(os.environ.get("SLURM_RESTART_COUNT") or 0)

    def report(step: int, steps: int, speed: float) -> None:
        (folder / "progress.json").write_text(f'{{"step": {step}, "steps": {steps}, "images_per_second": {speed}}}')
        while spec.ends == "held" and first and step > HELD_AT:
            time.sleep(0.05)

    recipe = RECIPE
    if spec.ends == "trained":  # to be compared to rounding, which small steps in double precision keep small
        model.double().register_forward_pre_hook(lambda _model, inputs: (inputs[0].double(),))
        recipe = dataclasses.replace(RECIPE, learning_rate=0.01)
    torch.set_num_threads(1)
    kept = Bookkeeping(
        folder, checkpoint_every=EVERY, check_every=1, bar=False, report=report if current().first else None
    )
    outcome = train(model, data.load("digits"), recipe, seed=spec.seed, bookkeeping=kept)
    weights = torch.cat([value.double().flatten() for value in model.state_dict().values()])
    assert outcome.test is not None
    return Result({"weights": weights.tolist(), "loss": outcome.history[-1].train_loss, "test": outcome.test.loss})


def steps_kept(folder: Path) -> int:
    """The step of the newest checkpoint."""
    found = [folder / name for name in checkpoint.SLOTS if (folder / name).exists()]
    return max((checkpoint.read_checkpoint(path, torch.device("cpu"))["step"] for path in found), default=0)


def rows(runs: Sequence[Run]) -> Iterable[dict[str, str]]:
    return [{"seed": str(run.spec.seed), "state": run.state} for run in runs]


PROGRAM = (str(Path(__file__).resolve()),)
CARD = "Paper  none\nClaims  none\nRun  tests\nDiffers  none"
STUDY = study.Study(
    name="tiny", card=CARD, grid=grid, measure=measure, rows=lambda runs: list(rows(runs)),
    figure=lambda _: Figure(),
    claims=lambda _: [], program=PROGRAM,
)  # fmt: skip

if __name__ == "__main__":
    sys.exit(study_commands.main(STUDY))
