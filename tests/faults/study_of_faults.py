"""A study of three tiny runs, done, failed and stopped, for faults to be injected into."""

import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path

from matplotlib.figure import Figure

from manifold_lab.core.config import key
from manifold_lab.core.shown import DataFrame
from manifold_lab.report.tables import ClaimResult
from manifold_lab.sweeps import run_lock, runner, store, study
from manifold_lab.sweeps.records import as_json
from manifold_lab.sweeps.store import Result, Run


@dataclasses.dataclass(frozen=True)
class Spec:
    seed: int = 0
    rate: float = 0.1
    widths: tuple[int, ...] = (8, 16)


DONE, HEALTHY, FAILED, STOPPED, OLD = SPECS = tuple(Spec(seed) for seed in range(5))


def measure(spec: Spec, _folder: Path) -> Result:
    if spec == FAILED:
        raise ValueError("this run fails")
    return Result({"test_accuracy": 0.5 + spec.seed / 16, "test_loss": 1.25}, history(spec))


def history(spec: Spec) -> list[dict[str, float]]:
    return [{"step": step, "accuracy": 0.25 + spec.seed / 32 + step / 64} for step in range(4)]


def rows(runs: Sequence[Run]) -> list[dict[str, str]]:
    found = []
    for run in runs:
        if run.numbers:
            last = store.history(run)[-1]
            found.append({"seed": str(run.spec.seed), "value": f"{run.numbers['test_accuracy']:.6g}", **last})
    return found


def figure(_: DataFrame) -> Figure:
    return Figure(figsize=(1, 1))


def claims(_: DataFrame) -> list[ClaimResult]:
    return []


CARD = "Paper  none\nClaims  none\nRun  tests\nDiffers  none"
STUDY = study.Study(
    name="faulty", card=CARD, grid=lambda _: SPECS, measure=measure, rows=rows, figure=figure, claims=claims
)


def folder(root: Path, spec: Spec) -> Path:
    return root / "runs" / "faulty" / key(spec)


def make(root: Path) -> None:
    """The five runs: done, done, failed, stopped, and done by a release without digests."""
    work = runner.Work(measure)
    for spec in SPECS:
        if spec != STOPPED:
            runner.run_one(work, Run(spec, folder(root, spec)))
    stopped = folder(root, STOPPED)
    stopped.mkdir()
    claim = run_lock.acquire(stopped)
    store.begin(STOPPED, stopped)
    (stopped / "progress.json").write_text('{"step": 3, "steps": 7, "images_per_second": 12.5, "seconds_left": 2.0}')
    run_lock.release(claim)
    old = folder(root, OLD) / "result.json"
    record = json.loads(old.read_text())
    del record["digest"], record["history_sha256"]
    old.write_text(as_json(record))
