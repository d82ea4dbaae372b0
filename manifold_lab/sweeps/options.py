"""What each command of a study asks for; the command line is derived from it."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import tyro

from manifold_lab.core.cli import Json, Presets, Quiet
from manifold_lab.report.styles import DEFAULT_STYLE
from manifold_lab.sweeps import slurm
from manifold_lab.sweeps.slurm import Slurm

DEFAULT = "reproduce"
"""The command that is meant where none is given."""


@dataclass(frozen=True)
class GridOptions:
    """What every command asks for."""

    smoke: bool = False
    """A small grid, to see that it runs."""
    images: str = ""
    """Trained comparisons: a folder such as ImageNet's (train/CLASS, val/CLASS), for the paper's network and recipe on
    it instead. Measurements on images: an .npz of jpeg, offsets and labels."""
    weights: Path | None = None
    """A checkpoint of MobileNetV2 1.0, for measurements on images; without one the published weights are fetched."""
    runs: Path = Path("runs")
    """Folder of the stored runs."""
    quiet: Quiet = False
    json: Json = False


@dataclass(frozen=True)
class PlanOptions(GridOptions):
    """What would run."""

    workers: int = 1
    """Processes at a time."""


@dataclass(frozen=True)
class RunOptions(PlanOptions):
    """Run what is missing."""

    only: str = ""
    """The key of the one run to make, or its beginning."""
    launcher: str = ""
    """Where runs are made: here, pool, slurm, or print for the commands; if empty here, with many workers pool."""
    retry_failed: bool = False
    """Make failed runs again, and only those."""
    retry_damaged: bool = False
    """Make damaged runs again, and only those; their damaged files are put aside."""
    processes_per_run: int = 1
    """Processes that train one network together."""
    runs_per_job: int = 1
    """Runs that are made one after another in one job or command."""
    wait: bool = False
    """Wait until what was submitted has ended."""
    slurm: Slurm = field(default_factory=slurm.readable_defaults)
    """What each job asks of Slurm."""


@dataclass(frozen=True)
class WorkerOptions(GridOptions):
    """Make some runs in this process, as a workflow's rule or a job does."""

    keys: Annotated[tyro.conf.Positional[tuple[str, ...]], tyro.conf.arg(metavar="KEY ...")] = ()
    """The keys of the runs to make."""
    job: bool = False
    """Those of the job that this process is a part of, instead."""


@dataclass(frozen=True)
class StatusOptions(GridOptions):
    """How every run stands."""

    every: bool = False
    """Name every run, the done ones too."""


@dataclass(frozen=True)
class PublishOptions(GridOptions):
    """Make csv, figure, claims."""

    out: Path | None = None
    """Folder for the csv files and figures; by default figures, with --smoke out."""
    redraw: bool = False
    """From the csv files that are there instead of from runs: figure, tables and verdicts anew."""
    style: str = DEFAULT_STYLE
    """Whose column width and fonts the figure has."""


@dataclass(frozen=True)
class RunAndPublishOptions(RunOptions, PublishOptions):
    """Run what is missing, then publish."""


def commands() -> Presets[GridOptions]:
    """What each command is for and what it asks for; made when words are read, because a lab's defaults are in it."""
    return {
        DEFAULT: ("run what is missing, then publish", RunAndPublishOptions()),
        "plan": ("what would run, and for how long", PlanOptions()),
        "run": ("run what is missing", RunOptions()),
        "worker": ("run what is named by key, for other schedulers", WorkerOptions()),
        "status": ("how every run stands", StatusOptions()),
        "publish": ("csv, figure, tables and claims of what is there", PublishOptions()),
    }
