"""A study whose runs take no time, or end in every way that a run can: python tests/tiny.py VERB."""

import os
import signal
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import torch

from manifold_lab.core.errors import DivergedError
from manifold_lab.sweeps.store import Result


@dataclass(frozen=True)
class Tiny:
    seed: int = 0
    arm: str = "plain"
    ends: str = "well"


CARD = "Paper  none\nClaims  none\nRun  tiny\nDiffers  none"
GRIDS = {
    "good": tuple(Tiny(seed, arm) for arm in ("plain", "better") for seed in range(6)),
    "mixed": tuple(Tiny(seed, ends=ends) for seed in range(2) for ends in ("error", "divergence", "death", "well")),
    "waiting": (Tiny(), Tiny(ends="late"), Tiny(1, ends="late"), Tiny(1)),
}


def grid(smoke: bool) -> tuple[Tiny, ...]:
    return GRIDS[os.environ.get("TINY", "good")][: 2 if smoke else None]


def measure(spec: Tiny, folder: Path) -> Result:
    """Note who ran, then end as told; `late` ends when a file named go is there."""
    with (folder / "ran").open("a") as file:
        file.write(f"{os.getpid()}\n")
    if spec.ends == "error":
        raise ValueError("this run\nfails")
    if spec.ends == "divergence":
        raise DivergedError(7, "the loss is nan")
    if spec.ends == "death":
        os.kill(os.getpid(), signal.SIGKILL)
    while spec.ends == "late" and not (folder.parent / "go").exists():
        time.sleep(0.02)
    time.sleep(0.03)
    history = [{"step": step, "loss": 1 / (step + 1)} for step in range(3)]
    return Result({"value": spec.seed + 0.5 * (spec.arm == "better"), "threads": torch.get_num_threads()}, history)


def ran(folder: Path) -> list[int]:
    """The processes that ran a run, in order."""
    path = folder / "ran"
    return [int(line) for line in path.read_text().split()] if path.exists() else []


def main() -> int:
    from matplotlib.figure import Figure  # noqa: PLC0415  (workers need no figure)

    from manifold_lab.core import statistics  # noqa: PLC0415
    from manifold_lab.report import tables  # noqa: PLC0415
    from manifold_lab.sweeps import study, study_commands  # noqa: PLC0415

    def rows(runs):
        return [{"arm": run.spec.arm, "seed": run.spec.seed, "value": run.numbers["value"]}
                for run in runs if run.numbers]  # fmt: skip

    def claims(lines):
        arms = {arm: mine.set_index("seed")["value"].to_dict() for arm, mine in lines.groupby("arm")}
        both = statistics.paired(arms["better"], arms["plain"])
        verdict = statistics.verdict(both.exceeds(0))
        return [tables.ClaimResult("better", "here", "better is better", "mean", both.difference, verdict)]

    whole = study.Study(name="tiny", card=CARD, grid=grid, measure=measure, rows=rows, claims=claims,
                        figure=lambda _: Figure(figsize=(1, 1)), program=(__file__,))  # fmt: skip
    return study_commands.main(whole)


if __name__ == "__main__":
    sys.exit(main())
