"""Claim: our MobileNetV2 runs and trains faster than the plain loop, and never slower than torchvision's.

Run      python -m benchmarks.network
Peers    torchvision's mobilenet_v2 as its documentation uses it, and our network in the plain NCHW loop, which is what
         the common training scripts do; the same with the memory kept, to tell what the layout does alone
Ours     inference: norms folded, compiled; training: what `train` does, channels-last with the memory kept from step to
         step, and the same compiled
Work     logits of a batch; a step of SGD with momentum on a cross-entropy loss. The same weights, batches and threads

All take turns (see `turns`).
"""

import dataclasses
import functools
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from benchmarks import turns
from benchmarks.turns import Turn
from manifold_lab.core.cli import run_cli
from manifold_lab.core.errors import InputError
from manifold_lab.core.files import check_folder, publish, text
from manifold_lab.core.random_streams import stream
from manifold_lab.models.fold import compiled_network, folded
from manifold_lab.models.mobilenet import build, initialise
from manifold_lab.models.specs import V2, NetworkSpec
from manifold_lab.report import tables
from manifold_lab.training.allocator import keep_memory

CASES = {(224, 8): (1.0, 0.35), (32, 128): (1.0, 0.35)}
"""(resolution, batch) -> widths. At 32 every stem has stride 1, as the common CIFAR code sets it."""
COLUMNS = (
    "work", "resolution", "batch", "width", "contestant", "peer", "images_per_second", *turns.RATIO,
)  # fmt: skip
VISION, PLAIN, KEPT = "torchvision", "plain NCHW loop", "plain NCHW loop, memory kept"
FOLDED, FAST, DEFAULT, COMPILED = "folded", "folded, compiled", "default", "compiled"
PEERS = {"inference": (VISION, PLAIN), "training": (VISION, PLAIN, KEPT)}
OURS = {"inference": (FOLDED, FAST), "training": (DEFAULT, COMPILED)}
Work = Callable[[Tensor], object]


@dataclass(frozen=True)
class Run:
    """Throughput of the network against torchvision's and the plain loop."""

    rounds: int = 9
    """Rounds in which every contestant has its turn."""
    seconds: float = 1.0
    """Length of a turn."""
    out: Path = Path("benchmarks")
    """Folder for network.csv."""


def spec(resolution: int, width: int | float) -> NetworkSpec:
    """The network of a case."""
    return dataclasses.replace(V2, resolution=resolution, width=width, stem_stride=2 if resolution == 224 else 1)


def vision(resolution: int, width: int | float) -> nn.Module:
    """Torchvision's network, with initial weights from our generator.

    Raises:
        InputError: where torchvision is not installed.
    """
    try:
        from torchvision.models import mobilenet_v2  # noqa: PLC0415  (an extra)
    except ImportError:
        raise InputError("torchvision is not installed; it is the extra `vision`") from None
    model: Any = mobilenet_v2(weights=None, width_mult=float(width))
    model.features[0][0].stride = (spec(resolution, width).stem_stride,) * 2
    initialise(model, stream(0, "weights"))
    found: nn.Module = model
    return found


def plain(module: nn.Module) -> nn.Module:
    """The module laid out as NCHW."""
    anything: Any = module  # some releases of torch leave this argument out of their annotations
    laid_out: nn.Module = anything.to(memory_format=torch.contiguous_format)
    return laid_out


def inference(name: str, resolution: int, width: int | float) -> Work:
    """A contestant's way to logits."""
    if name == VISION:
        return vision(resolution, width).eval()
    ours = build(spec(resolution, width), stream(0, "weights")).eval()
    ways: dict[str, Callable[[], Work]] = {
        PLAIN: lambda: plain(ours),
        FOLDED: lambda: folded(ours),
        FAST: lambda: compiled_network(ours),
    }
    return ways[name]()


def training(name: str, resolution: int, width: int | float) -> Work:
    """A contestant's step of SGD on the first class."""
    if name not in (VISION, PLAIN):
        keep_memory()
    model: Any = vision(resolution, width) if name == VISION else build(spec(resolution, width), stream(0, "weights"))
    model = plain(model) if name in (PLAIN, KEPT) else model
    optimizer = torch.optim.SGD(model.train().parameters(), lr=0.01, momentum=0.9)
    forward = torch.compile(model) if name == COMPILED else model
    loss = nn.CrossEntropyLoss()

    def work(x: Tensor) -> object:
        optimizer.zero_grad(set_to_none=True)
        loss(forward(x), torch.zeros(len(x), dtype=torch.int64)).backward()
        optimizer.step()
        return None

    return work


def rate(work: Work, x: Tensor, seconds: float) -> float:
    """Images per second over a turn of at least this length."""
    start, done = time.perf_counter(), 0
    while (spent := time.perf_counter() - start) < seconds:
        work(x)
        done += len(x)
    return done / spent


def contestant(kind: str, name: str, case: tuple[int, int, int | float]) -> Turn:
    """Images per second over a turn of so many seconds."""
    resolution, batch, width = case
    work = (inference if kind == "inference" else training)(name, resolution, width)
    x = torch.randn((batch, 3, resolution, resolution), generator=stream(0, "images"))

    def turn(seconds: float) -> float:
        with torch.inference_mode(kind == "inference"):
            return rate(work, x, seconds)

    return turn


def compete(kind: str, case: tuple[int, int, int | float], options: Run) -> list[dict[str, str]]:
    """One line per contestant of ours and peer."""
    makers = {name: functools.partial(contestant, kind, name, case) for name in (*PEERS[kind], *OURS[kind])}
    rates = turns.rates(makers, options.seconds, options.rounds)
    return [line(kind, case, (ours, peer), rates) for ours in OURS[kind] for peer in PEERS[kind]]


def line(
    kind: str, case: tuple[int, int, int | float], pair: tuple[str, str], rates: dict[str, list[float]]
) -> dict[str, str]:
    """Ours over the peer."""
    ours, peer = pair
    return {
        "work": kind,
        **dict(zip(("resolution", "batch", "width"), map(str, case), strict=True)),
        "contestant": ours,
        "peer": peer,
        "images_per_second": f"{np.median(rates[ours]):.4g}",
        **turns.ratio(rates[ours], rates[peer]),
    }


def run(options: Run) -> None:
    """All cases; print each line as it comes and write the csv."""
    check_folder(options.out)
    lines = []
    for kind in OURS:
        for case, widths in CASES.items():
            for width in widths:
                found = compete(kind, (*case, width), options)
                lines += found
                for one in found:
                    print("  ".join(f"{key} {value}" for key, value in one.items()), flush=True)
    publish(options.out, {"network.csv": text(tables.to_csv(lines, COLUMNS))})


if __name__ == "__main__":
    sys.exit(run_cli(Run, run, "benchmarks.network"))
