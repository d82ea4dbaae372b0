"""Where a number came from: the versions, the commit, the machine."""

import functools
import importlib.metadata
import platform
import subprocess
from pathlib import Path

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
    """The commit of the checkout that this code runs from, marked where its files are changed; None outside of one.

    Asked once in a process: the code that runs is the one that was there at its start.
    """
    here = Path(__file__)

    def git(*words: str) -> str:
        done = subprocess.run(["git", "-C", here.parent, *words], capture_output=True, text=True, check=True)
        return done.stdout.strip()

    try:
        git("ls-files", "--error-unmatch", here.name)
        return git("rev-parse", "HEAD") + (" with changes" if git("status", "--porcelain", "--", ".") else "")
    except (OSError, subprocess.CalledProcessError):
        return None


def device() -> str:
    """What computed in this process: the GPU where torch has used one, else the processor."""
    if torch.cuda.is_initialized():
        return torch.cuda.get_device_name()
    try:
        told = Path("/proc/cpuinfo").read_text(encoding="utf-8")
        return next(line.partition(": ")[2] for line in told.splitlines() if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()
