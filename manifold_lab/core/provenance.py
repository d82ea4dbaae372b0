"""Where a number came from: the versions, the commit, the machine."""

import functools
import importlib.metadata
import json
import platform
import subprocess
import time
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import psutil
import torch


def versions(*packages: str) -> dict[str, str]:
    """Python's and torch's version, this package's and those of `packages`."""
    return {
        "python": platform.python_version(),
        "torch": str(torch.__version__),  # with the build: +cpu, +cu130
        **{name: importlib.metadata.version(name) for name in ("manifold_lab", *packages)},
    }


@functools.cache
def commit() -> str | None:
    """The commit of the checkout that this code runs from, marked where its code is changed; None outside of one.

    Asked once in a process: the code that runs is the one that was there at its start. Code is the package, and the
    experiments and benchmarks beside it.
    """
    here = Path(__file__)
    package = here.parent.parent
    code = (package, *(package.parent / name for name in ("experiments", "benchmarks")))

    def git(*arguments: str) -> str:
        done = subprocess.run(["git", "-C", here.parent, *arguments], capture_output=True, text=True, check=True)
        return done.stdout.strip()

    try:
        git("ls-files", "--error-unmatch", here.name)
        changed = git("status", "--porcelain", "--", *map(str, code))
        return git("rev-parse", "HEAD") + (" with changes" if changed else "")
    except (OSError, subprocess.CalledProcessError):
        return None


def device() -> str:
    """What computed in this process: the GPU where torch has used one, else the processor."""
    if torch.cuda.is_initialized():
        return torch.cuda.get_device_name()
    try:
        content = Path("/proc/cpuinfo").read_text(encoding="utf-8")
        return next(line.partition(": ")[2] for line in content.splitlines() if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


@dataclass(frozen=True)
class Made:
    """How a published result came to be: the commits of the code that measured, what it took, on what."""

    commits: tuple[str, ...]
    """Empty where the code was no checkout."""
    seconds: int | float
    """Of all processes together."""
    devices: tuple[str, ...]
    least: bool = False
    """Whether of some runs that were cut short only the last attempt is known, so that it took more."""
    missing: int = 0
    """Runs of the grid that were not made when it was published."""
    missing_seconds: float | None = None
    """What those would take one after another, by what finished runs took; None where that is not known."""

    def text(self) -> str:
        """As JSON, to be published beside the result."""
        known = {name: round(value, 1) for name, value in asdict(self).items() if isinstance(value, float)}
        return json.dumps(asdict(self) | known, indent=2) + "\n"


def here() -> Made:
    """For a result that this process computes: what it took since its start."""
    code = commit()
    return Made((code,) if code else (), time.time() - psutil.Process().create_time(), (device(),))


def is_whole(run: Mapping[str, Any]) -> bool:
    """Whether the seconds of a stored run are those of all its attempts: older releases told the last one's alone."""
    return run.get("attempt", 1) == 1 or "earlier" in run


def joined(runs: Iterable[Mapping[str, Any]]) -> Made:
    """For a result of many stored runs: all their commits and devices, and the sum of what they took."""
    each = list(runs)
    names = {key: tuple(dict.fromkeys(run[key] for run in each if run.get(key))) for key in ("commit", "device")}
    seconds, least = sum(run["seconds"] for run in each), not all(map(is_whole, each))
    return Made(names["commit"], seconds, names["device"], least)
