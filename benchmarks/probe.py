"""Claim: looking at every ReLU6 of MobileNetV2 costs little more than a forward pass, and little memory.

Run      python -m benchmarks.probe
Peers    a hook that stores every activation as numpy and counts afterwards, as notebooks do; delve's saturation, of
         what it looks at by default: 52 convolutions and the last layer (pip install -e '.[benchmark]'; left out where
         it is missing)
Ours     active channels on all 35 sites; the same with the covariance
Work     logits of 16 pictures at 224, MobileNetV2 1.0, its batch norms calibrated on pictures. All take turns, each in
         a process of its own (see `turns`). Ratios are of times of a pass, and of peaks of a process's memory
"""

import functools
import logging
import resource
import sys
import tempfile
import time
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from benchmarks import turns
from benchmarks.turns import Turn
from manifold_lab.core.cli import run_cli
from manifold_lab.core.errors import InputError
from manifold_lab.core.files import check_folder, publish, text
from manifold_lab.core.random_streams import stream
from manifold_lab.models.mobilenet import Activate, build
from manifold_lab.models.specs import V2
from manifold_lab.probe import Probe
from manifold_lab.report import tables

PLAIN, COUNTS, BOTH, STORED, DELVE = "plain forward", "active", "active and covariance", "stored as numpy", "delve"
MEASURES = {COUNTS: ("active",), BOTH: ("active", "spectrum")}
COLUMNS = ("contestant", "milliseconds", "peak_mib", "peak_ratio", *turns.RATIO)


@dataclass(frozen=True)
class Run:
    """Time and memory of looking at every activation, against a plain forward pass."""

    rounds: int = 9
    """Rounds in which every contestant has its turn."""
    seconds: float = 2.0
    """Length of a turn."""
    batch: int = 16
    """Pictures at a time."""
    out: Path = Path("benchmarks")
    """Folder for probe.csv."""


def store(model: nn.Module, x: Tensor) -> None:
    """Keep everything, then count."""
    kept: list[np.ndarray] = []
    sites = [module for module in model.modules() if isinstance(module, Activate) and module.name == "relu6"]
    handles = [site.register_forward_hook(lambda _module, _inputs, y: kept.append(y.numpy())) for site in sites]
    model(x)
    for handle in handles:
        handle.remove()
    for y in kept:
        active = (y > 0) & (y < 6)
        active.sum(1).min(), active.mean((0, 2, 3))


def calibrated(model: nn.Module, x: Tensor) -> nn.Module:
    """The network with running statistics of these pictures, for inference: activations as large as after training."""
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = None  # a plain average of the batches seen
    with torch.no_grad():
        model.train()(x)
    return model.eval()


def contestant(name: str, batch: int) -> Turn:
    """Seconds of a pass over a turn of so many seconds; the peak of memory for a turn of no length."""
    x = torch.randn((batch, 3, 224, 224), generator=stream(0, "pictures")).contiguous(memory_format=torch.channels_last)
    model = calibrated(build(V2, stream(0, "weights")), x[:2])
    context = ExitStack()
    if name in MEASURES:
        context.enter_context(Probe(model, measures=MEASURES[name]))
    if name == DELVE:
        _delve(model)

    def turn(seconds: int | float) -> float:
        if not seconds:
            return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        start, done = time.perf_counter(), 0
        with torch.no_grad():
            while time.perf_counter() - start < seconds:
                store(model, x) if name == STORED else model(x)
                done += 1
        return done / (time.perf_counter() - start)

    return turn


def _delve(model: nn.Module) -> None:
    """Its saturation of the convolutions, as its documentation attaches it.

    Raises:
        InputError: where it is not installed.
    """
    try:
        from delve import SaturationTracker  # type: ignore[import-not-found]  # noqa: PLC0415
    except ImportError as error:
        raise InputError(f"delve is missing ({error})") from None
    logging.getLogger("delve.logger").setLevel(logging.WARNING)
    SaturationTracker(tempfile.mkdtemp(), save_to="csv", modules=model, stats=["lsat"], device="cpu")


def run(options: Run) -> None:
    """All contestants in turns; print each line and write the csv."""
    check_folder(options.out)
    makers = {name: functools.partial(contestant, name, options.batch) for name in (PLAIN, COUNTS, BOTH, STORED, DELVE)}
    rates: dict[str, list[float]] = {}
    peaks: dict[str, float] = {}
    with ExitStack() as stack:
        turn = {name: stack.enter_context(turns.started(make)) for name, make in makers.items()}
        for number in range(options.rounds + 1):  # the first warms
            for name, take in list(turn.items()):
                try:
                    found = take(options.seconds)
                except InputError as error:
                    print(f"{name}: {error}")
                    del turn[name]
                    continue
                if number:
                    rates.setdefault(name, []).append(found)
        peaks = {name: take(0) for name, take in turn.items()}
    lines = []
    for name, mine in rates.items():
        ratio = turns.ratio(rates[PLAIN], mine)  # of times
        told = {"milliseconds": f"{1000 / float(np.median(mine)):.4g}", "peak_mib": f"{peaks[name]:.0f}",
                "peak_ratio": f"{peaks[name] / peaks[PLAIN]:.3g}"}  # fmt: skip
        lines.append({"contestant": name, **told, **ratio})
        print("  ".join(f"{key} {value}" for key, value in lines[-1].items()), flush=True)
    publish(options.out, {"probe.csv": text(tables.to_csv(lines, COLUMNS))})


if __name__ == "__main__":
    sys.exit(run_cli(Run, run, "benchmarks.probe"))
