"""Claim: our MobileNetV2 runs and trains faster than the plain loop, and never slower than torchvision's.

Run      python -m benchmarks.network
Peers    torchvision's mobilenet_v2 as its documentation uses it, and our network in the plain NCHW loop, which is what
         the common training scripts do
Ours     inference: norms folded, compiled; training: the default, channels-last, and the same compiled
Work     logits of a batch; a step of SGD with momentum on a cross-entropy loss. The same weights, batches and threads

All contestants take turns, round after round; a ratio is the median over the rounds of peer / ours in the same round,
with its exact interval.
"""

import dataclasses
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from manifold_lab import stats, tables
from manifold_lab.doors import enter
from manifold_lab.errors import InputError
from manifold_lab.files import check_folder, publish, text
from manifold_lab.inference import compiled, folded
from manifold_lab.mobilenet import build, initialise
from manifold_lab.netspec import V2, NetworkSpec
from manifold_lab.spec import stream

CASES = {(224, 8): (1.0, 0.35), (32, 128): (1.0, 0.35)}
"""(resolution, batch) -> widths. At 32 every stem has stride 1, as the common CIFAR code sets it."""
COLUMNS = (
    "work", "resolution", "batch", "width", "contestant", "peer", "images_per_second", "ratio", "low", "high", "n",
    "threads", "torch",
)  # fmt: skip
PLAIN, VISION = "plain NCHW loop", "torchvision"
OURS = {"inference": ("folded", "folded, compiled"), "training": ("default (channels-last)", "compiled")}


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


def inference(resolution: int, width: int | float) -> dict[str, Callable[[Tensor], object]]:
    """Ways to logits, peers first."""
    ours = build(spec(resolution, width), stream(0, "weights")).eval()
    nchw = plain(build(spec(resolution, width), stream(0, "weights")).eval())
    return {
        VISION: vision(resolution, width).eval(),
        PLAIN: nchw,
        "folded": folded(ours),
        "folded, compiled": compiled(ours),
    }


def training(resolution: int, width: int | float) -> dict[str, Callable[[Tensor], object]]:
    """Training steps, peers first."""
    models = {
        VISION: vision(resolution, width),
        PLAIN: plain(build(spec(resolution, width), stream(0, "weights"))),
        **{name: build(spec(resolution, width), stream(0, "weights")) for name in OURS["training"]},
    }
    return {name: step(model.train(), name == "compiled") for name, model in models.items()}


def step(model: nn.Module, compile_it: bool) -> Callable[[Tensor], object]:
    """One step of SGD on the first class."""
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9)
    forward = torch.compile(model) if compile_it else model
    loss = nn.CrossEntropyLoss()

    def work(x: Tensor) -> object:
        optimizer.zero_grad(set_to_none=True)
        loss(forward(x), torch.zeros(len(x), dtype=torch.int64)).backward()
        optimizer.step()
        return None

    return work


def rate(work: Callable[[Tensor], object], x: Tensor, seconds: float) -> float:
    """Pictures per second over a turn of at least this length."""
    start, done = time.perf_counter(), 0
    while (spent := time.perf_counter() - start) < seconds:
        work(x)
        done += len(x)
    return done / spent


def compete(kind: str, case: tuple[int, int], width: int | float, options: Run) -> list[dict[str, str]]:
    """One line per contestant of ours and peer."""
    resolution, batch = case
    x = torch.randn((batch, 3, resolution, resolution), generator=stream(0, "pictures"))
    ways = (inference if kind == "inference" else training)(resolution, width)
    rates: dict[str, list[float]] = {name: [] for name in ways}
    with torch.inference_mode(kind == "inference"):
        for work in ways.values():
            rate(work, x, 0.1)  # compiles, packs, warms
        for _ in range(options.rounds):
            for name, work in ways.items():
                rates[name].append(rate(work, x, options.seconds))
    return [
        line(kind, (resolution, batch, width), (ours, peer), rates) for ours in OURS[kind] for peer in (VISION, PLAIN)
    ]


def line(
    kind: str, case: tuple[int, int, int | float], pair: tuple[str, str], rates: dict[str, list[float]]
) -> dict[str, str]:
    """Ours over the peer."""
    ours, peer = pair
    ratio = stats.median(np.array(rates[ours]) / np.array(rates[peer]))
    return {
        "work": kind,
        **dict(zip(("resolution", "batch", "width"), map(str, case), strict=True)),
        "contestant": ours,
        "peer": peer,
        "images_per_second": f"{np.median(rates[ours]):.4g}",
        **dict(zip(("ratio", "low", "high"), (f"{v:.3g}" for v in (ratio.value, ratio.low, ratio.high)), strict=True)),
        "n": str(ratio.n),
        "threads": str(torch.get_num_threads()),
        "torch": torch.__version__,
    }


def run(options: Run) -> None:
    """All cases; print each line as it comes and write the csv."""
    check_folder(options.out)
    lines = []
    for kind in OURS:
        for case, widths in CASES.items():
            for width in widths:
                found = compete(kind, case, width, options)
                lines += found
                for one in found:
                    print("  ".join(f"{key} {value}" for key, value in one.items()), flush=True)
    publish(options.out, {"network.csv": text(tables.to_csv(lines, COLUMNS))})


if __name__ == "__main__":
    sys.exit(enter(Run, run, "benchmarks.network"))
