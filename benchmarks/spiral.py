"""Claim: the statistics of Figure 1 come at least ten times faster than from the loop that the web's scripts use.

Run      python -m benchmarks.spiral
Peer     per draw: T = randn(m, 2); Y = maximum(0, X T'); X_hat = Y pinv(T)', with numpy, 1000 points
Ours     the same x_hat for every draw and point, and the same relative error of every draw without any x_hat
Differs  ours draws T with torch: the errors agree in distribution here, and to rounding on equal T (in the tests)

Peer and ours take turns; the ratio is that of the medians over the rounds. The limits: `triad` is the bandwidth that
a + b over large arrays reaches, `gemm` the arithmetic of a large matrix product, both in the same run.
"""

import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from manifold_lab.core.cli import run_cli
from manifold_lab.core.files import publish, text
from manifold_lab.core.random_streams import stream
from manifold_lab.random_layer import embeddings, manifolds
from manifold_lab.random_layer.embeddings import Embedding
from manifold_lab.random_layer.planar_exact import Cones, plane_curve, reconstruct
from manifold_lab.random_layer.specs import DTYPES, PAPER_DIMS, ManifoldSpec
from manifold_lab.report import tables

COLUMNS = (
    "dim", "dtype", "work", "draws", "points", "rounds", "peer_seconds", "ours_seconds", "ratio", "share_of_bandwidth",
    "share_of_arithmetic",
)  # fmt: skip
CHUNK = {"error": 2048, "x_hat": 128}
"""Draws at a time: many small arrays for the error, few large ones for x_hat."""


@dataclass(frozen=True)
class Run:
    """Time Figure 1's statistics against the plain numpy loop."""

    draws: int = 10_000
    """Random matrices per dim."""
    points: int = 1000
    rounds: int = 3
    out: Path = Path("benchmarks")
    """Folder for spiral.csv."""


def peer(x: np.ndarray, dim: int, draws: int, keep: bool) -> float:
    """The plain loop; the sum over draws of the relative squared error, or of a corner of x_hat."""
    rng, total, energy = np.random.default_rng(0), 0.0, (x**2).sum()
    for _ in range(draws):
        matrix = rng.standard_normal((dim, 2)).astype(x.dtype)
        x_hat = np.maximum(0, x @ matrix.T) @ np.linalg.pinv(matrix).T
        total += float(x_hat[0, 0] if keep else ((x_hat - x) ** 2).sum() / energy)
    return total


def ours(x: torch.Tensor, dim: int, draws: int, keep: bool) -> float:
    """The same by cones, in chunks."""
    curve, generator, total = plane_curve(x), stream(0, "benchmark", dim), 0.0
    chunk = CHUNK["x_hat" if keep else "error"]
    for start in range(0, draws, chunk):
        matrix = torch.randn((min(chunk, draws - start), dim, 2), generator=generator, dtype=x.dtype)
        cones = Cones(curve, Embedding(matrix, embeddings.pseudo_inverse(matrix)), (0.0, 1.0))
        if keep:
            total += float(reconstruct(cones)[:, 0, 0].sum())
        else:
            cross, square, energy = cones.linear_products()
            total += float(((energy - 2 * cross + square) / energy).sum())
    return total


def seconds(work: Callable[[], object]) -> float:
    """Wall time of one call."""
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def bandwidth(dtype: torch.dtype) -> float:
    """Bytes per second of a + b over arrays far larger than the cache."""
    a, b, out = (torch.ones(2**24, dtype=dtype) for _ in range(3))
    return 3 * a.nbytes / min(seconds(lambda: torch.add(a, b, out=out)) for _ in range(5))


def arithmetic(dtype: torch.dtype) -> float:
    """Floating-point operations per second of a large matrix product."""
    a, b = torch.ones(1024, 1024, dtype=dtype), torch.ones(1024, 1024, dtype=dtype)
    return 2 * 1024**3 / min(seconds(lambda: a @ b) for _ in range(5))


def demand(options: Run, dim: int, dtype: torch.dtype, keep: bool) -> tuple[float, float]:
    """Bytes and operations that ours cannot do without, per run: edges, sums and maps of 2m cones, x_hat where kept."""
    size = dtype.itemsize
    edges = 2 * dim * (6 + 4 + 2 + 1)
    traffic = 2 * size * edges + (2 * size * 2 * options.points if keep else 0)
    work = 2 * dim * (30 + np.log2(2 * dim) + np.log2(options.points)) + (6 * options.points if keep else 0)
    return options.draws * traffic, options.draws * work


def compare(options: Run, dim: int, name: str, keep: bool) -> dict[str, str]:
    """One line: peer and ours in turns, after one small round of each to warm up."""
    dtype = getattr(torch, name)
    x = manifolds.sample(ManifoldSpec(), options.points, stream(0, "manifold")).x.to(dtype)
    peer(x.numpy(), dim, 100, keep)
    ours(x, dim, 2048, keep)
    pairs = [
        (seconds(lambda: peer(x.numpy(), dim, options.draws, keep)), seconds(lambda: ours(x, dim, options.draws, keep)))
        for _ in range(options.rounds)
    ]
    slow, fast = (statistics.median(times) for times in zip(*pairs, strict=True))
    traffic, work = demand(options, dim, dtype, keep)
    return {
        "dim": str(dim),
        "dtype": name,
        "work": "x_hat" if keep else "error",
        "draws": str(options.draws),
        "points": str(options.points),
        "rounds": str(options.rounds),
        "peer_seconds": f"{slow:.4g}",
        "ours_seconds": f"{fast:.4g}",
        "ratio": f"{slow / fast:.3g}",
        "share_of_bandwidth": f"{traffic / fast / bandwidth(dtype):.2g}",
        "share_of_arithmetic": f"{work / fast / arithmetic(dtype):.2g}",
    }


def run(options: Run) -> None:
    """Time every dim, precision and kind of work; print each line as it comes and write the csv."""
    lines = []
    for dim in PAPER_DIMS:
        for name in DTYPES:
            for keep in (False, True):
                lines.append(compare(options, dim, name, keep))
                print("  ".join(f"{key} {value}" for key, value in lines[-1].items()), flush=True)
    publish(options.out, {"spiral.csv": text(tables.to_csv(lines, COLUMNS))})


if __name__ == "__main__":
    sys.exit(run_cli(Run, run, "benchmarks.spiral"))
