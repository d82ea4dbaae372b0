"""Claim: looking at every activation of a network costs little more than a forward pass, and little memory.

Run      python -m benchmarks.probe
Peers    on MobileNetV2 also a hook that stores every activation as numpy and counts afterwards, as in notebooks;
         delve's saturation, of its default 52 convolutions and last layer (pip install -e '.[benchmark]';
         left out where it is missing)
Ours     active channels on all sites; the same with the covariance, of positions drawn from each image and of all
Work     logits of images at 224: MobileNetV2 1.0, its batch norms calibrated on images, and as it is built, both
         in evaluation mode; torchvision's vit_b_16 and densenet121, as they are built (pip install -e '.[vision]'; left
         out where it is missing). The contestants of a network take turns, each in a process of its own (see `turns`)
Ratios   of times of a pass, and of peaks of a process's memory: to those of a plain forward pass, and of one in a
         process that has loaded the compiler of the counting loop
"""

import functools
import logging
import resource
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from benchmarks import turns
from benchmarks.turns import Turn
from manifold_lab.core.cli import run_cli
from manifold_lab.core.errors import InputError, at_least, one_of
from manifold_lab.core.files import check_folder, publish, text
from manifold_lab.core.random_streams import stream
from manifold_lab.models.mobilenet import Activate, build
from manifold_lab.models.specs import V2
from manifold_lab.probe import Probe, Sampling
from manifold_lab.probe.counting import tally
from manifold_lab.report import tables
from manifold_lab.report.speed_table import COUNTS, COVARIANCE, DENSENET, FORWARD, MOBILENET, TRANSFORMER, UNTRAINED

PLAIN, COMPILER, STORED, DELVE = FORWARD, "plain forward, compiler loaded", "stored as numpy", "delve"
EXACT = "active and covariance of all positions"
ALL_POSITIONS = 0
MEASURES = {COUNTS: ("active",), COVARIANCE: ("active", "spectrum"), EXACT: ("active", "spectrum")}
COLUMNS = ("network", "contestant", "batch", "milliseconds", "peak_mib", "peak_ratio", "peak_besides_compiler",
           *turns.RATIO)  # fmt: skip
CASES = {
    MOBILENET: (16, (PLAIN, COMPILER, COUNTS, COVARIANCE, EXACT, STORED, DELVE)),
    UNTRAINED: (16, (PLAIN, COMPILER, COUNTS)),
    TRANSFORMER: (2, (PLAIN, COMPILER, COUNTS)),
    DENSENET: (4, (PLAIN, COMPILER, COUNTS)),
}
"""Images at a time, and contestants, by network."""


@dataclass(frozen=True)
class Run:
    """Time and memory of looking at every activation, against a plain forward pass."""

    rounds: int = 9
    """Rounds in which every contestant has its turn."""
    seconds: float = 2.0
    """Length of a turn."""
    networks: tuple[str, ...] = tuple(CASES)
    """Which of them."""
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
    """The network with running statistics of these images, for inference: activations as large as after training."""
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = None  # a plain average of the batches seen
    with torch.no_grad():
        model.train()(x)
    return model.eval()


def made(network: str, x: Tensor) -> nn.Module:
    """A network in evaluation mode.

    Raises:
        InputError: where it is torchvision's, which is not installed.
    """
    if network in (MOBILENET, UNTRAINED):
        model = build(V2, stream(0, "weights")).eval()
        return calibrated(model, x[:2]) if network == MOBILENET else model
    try:
        from torchvision.models import get_model  # noqa: PLC0415  (an extra)
    except ImportError as error:
        raise InputError(f"torchvision is missing ({error})") from None
    torch.manual_seed(0)
    return get_model(network, weights=None).eval()


def contestant(network: str, name: str) -> Turn:
    """Seconds of a pass over a turn of so many seconds; the peak of memory for a turn of no length."""
    size = (CASES[network][0], 3, 224, 224)
    x = torch.randn(size, generator=stream(0, "images")).contiguous(memory_format=torch.channels_last)
    model = made(network, x)
    context = ExitStack()
    if name in MEASURES:
        sampling = Sampling(per_image=ALL_POSITIONS) if name == EXACT else Sampling()
        context.enter_context(Probe(model, measures=MEASURES[name], sampling=sampling))
    if name == COMPILER:
        tally(torch.zeros(1 << 20, 2), (0.0, 1.0))
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


def taken(network: str, options: Run) -> tuple[dict[str, list[float]], dict[str, float]]:
    """Passes a second of every contestant in every round, and peaks of memory; those that cannot start are left out."""
    rates: dict[str, list[float]] = {}
    with ExitStack() as stack:
        makers = {name: functools.partial(contestant, network, name) for name in CASES[network][1]}
        turn = {name: stack.enter_context(turns.started(make)) for name, make in makers.items()}
        for number in range(options.rounds + 1):  # the first warms
            for name, take in list(turn.items()):
                try:
                    found = take(options.seconds)
                except InputError as error:
                    print(f"{network}, {name}: {error}")
                    del turn[name]
                    continue
                if number:
                    rates.setdefault(name, []).append(found)
        return rates, {name: take(0) for name, take in turn.items()}


def lines(network: str, options: Run) -> Iterator[dict[str, str]]:
    """A line a contestant."""
    rates, peaks = taken(network, options)
    for name, mine in rates.items():
        message = {"milliseconds": f"{1000 / float(np.median(mine)):.4g}", "peak_mib": f"{peaks[name]:.0f}",
                "peak_ratio": f"{peaks[name] / peaks[PLAIN]:.3g}",
                "peak_besides_compiler": f"{peaks[name] / peaks[COMPILER]:.3g}"}  # fmt: skip
        facts = {"network": network, "contestant": name, "batch": str(CASES[network][0])}
        yield {**facts, **message, **turns.ratio(rates[PLAIN], mine)}  # of times


def run(options: Run) -> None:
    """All contestants of a network in turns, network after network; print each line and write the csv.

    Raises:
        InputError: for a network that is none of these, or less than one round.
    """
    at_least("rounds", options.rounds, 1)
    check_folder(options.out)
    found = []
    for network in options.networks:
        for line in lines(one_of("networks", network, CASES), options):
            print("  ".join(f"{key} {value}" for key, value in line.items()), flush=True)
            found.append(line)
    publish(options.out, {"probe.csv": text(tables.to_csv(found, COLUMNS))})


if __name__ == "__main__":
    sys.exit(run_cli(Run, run, "benchmarks.probe"))
