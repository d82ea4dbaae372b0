"""Runs that measure the lesions of a trained network, bare and with a repair behind them, on labelled images.

Lines of kind `intact` or of a lesion; `repair` is the map behind it, empty for none; `block` is empty for all blocks
together, and EACH for the sum over blocks of lesions one at a time.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from rich.console import Console
from rich.progress import track
from scipy.stats import false_discovery_control

from manifold_lab.core import resampling, statistics
from manifold_lab.core.statistics import Estimate
from manifold_lab.data import image_files
from manifold_lab.data.image_files import LabelledImages
from manifold_lab.models import lesions, repair
from manifold_lab.models.fold import folded
from manifold_lab.models.lesions import Lesion
from manifold_lab.models.mobilenet import Block, Network
from manifold_lab.models.specs import NetworkSpec
from manifold_lab.report.tables import nine_digits
from manifold_lab.sweeps.probe_run import ProbeSource
from manifold_lab.sweeps.store import Result
from manifold_lab.sweeps.study import MAIN, tables_result

TOPS = (1, 5)
EACH = "each"
RESTORED = ("restored", "restored_low", "restored_high")
"""Columns of the share of a lesion's cost that a map brings back, with its interval."""


@dataclass(frozen=True)
class LesionRun:
    """Every lesion of a trained network, one block at a time and in all, on the first images of a file.

    Args:
        network: its spec.
        images: the digest of the file of images (`ProbeSource.digest`).
        count: the first so many of them.
        maps: with which of `repair.MAPS` behind it each lesion is measured too.
    """

    network: NetworkSpec
    images: str
    count: int
    maps: tuple[str, ...] = ()


def measure(run: LesionRun, _folder: Path, source: ProbeSource) -> Result:
    """The intact network, every lesion, and every lesion with each map behind it, as lines of the csv file."""
    network = folded(source.trained_network(run.network))
    shown, cuts = source.load(run.count, run.network), lesions.every(network)
    found = hits(network, shown, [lesions.lesioned(network, cut) for cut in cuts], source.batch)
    lines = lesion_rows(cuts, found)
    mended = repaired_hits(network, shown, cuts, run.maps, source.batch)
    for name, right in zip(run.maps, mended, strict=True):
        lines += repaired_lines(name, cuts, found, right)
    return tables_result({MAIN: lines})


def hits(network: Network, shown: LabelledImages, twins: Sequence[Mapping[int, Block]], batch: int) -> np.ndarray:
    """Whether the label is among the first 1 and 5: bool, (intact and lesions) x 2 x images."""
    found = []
    batches = track(_batches(shown, batch), "images", total=-(-len(shown) // batch), console=Console(stderr=True))
    for x, labels in batches:
        best = [scores.topk(max(TOPS)).indices == labels[:, None] for scores in lesions.logits(network, x, twins)]
        found.append(torch.stack([torch.stack([one[:, :top].any(1) for top in TOPS]) for one in best]))
    return torch.cat(found, dim=2).numpy()


def _batches(shown: LabelledImages, batch: int) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    for x, labels in zip(shown.x.split(batch), shown.labels.split(batch), strict=True):
        yield image_files.normalised(x, image_files.IMAGENET), labels


def repaired_hits(
    network: Network, shown: LabelledImages, cuts: list[Lesion], maps: tuple[str, ...], batch: int
) -> np.ndarray:
    """As `hits`, of every lesion with each map behind it, fitted on the other half: maps x lesions x 2 x images."""
    found = np.zeros((len(maps), len(cuts), len(TOPS), len(shown)), dtype=bool)
    halves = [LabelledImages(shown.x[start::2], shown.labels[start::2]) for start in (0, 1)]
    batches = [(x for x, _ in _batches(half, batch)) for half in halves]
    for start, twins in enumerate(repair.cross_fitted(network, cuts, batches, maps) if maps else ()):
        mine = halves[start]
        found[..., start::2] = hits(network, mine, twins, batch)[1:].reshape(*found.shape[:3], len(mine))
    return found


def lesion_row(cut: Lesion, right: np.ndarray, intact: np.ndarray, q_value: float) -> dict[str, str]:
    """One row: shares with their intervals, and the paired change of top-1."""
    n, block = right.shape[1], str(cut.blocks[0]) if len(cut.blocks) == 1 else ""
    row = {"kind": cut.kind, "repair": "", "block": block, "blocks": str(len(cut.blocks))}
    for top, mine in zip(TOPS, right, strict=True):
        row |= _written(f"top{top}", statistics.proportion(int(mine.sum()), n))
    change = statistics.paired_proportion(intact[0], right[0])
    row |= _written("difference", change.difference)
    counts = {"lost": change.lost, "gained": change.gained, "n": n}
    return row | {key: str(count) for key, count in counts.items()} | {"p_value": nine_digits(change.p_value),
                                                                      "q_value": nine_digits(q_value)}  # fmt: skip


def _written(name: str, found: Estimate) -> dict[str, str]:
    """An estimate as three columns."""
    ends = {"": found.value, "_low": found.low, "_high": found.high}
    return {name + end: nine_digits(value) for end, value in ends.items()}


def lesion_rows(cuts: list[Lesion], found: np.ndarray) -> list[dict[str, str]]:
    """The intact network and every lesion."""
    p_values = [statistics.paired_proportion(found[0, 0], right[0]).p_value for right in found[1:]]
    q_values = false_discovery_control(p_values)
    intact = lesion_row(Lesion("intact", ()), found[0], found[0], 1.0) | {"p_value": "", "q_value": ""}
    lines = [lesion_row(cut, right, found[0], q) for cut, right, q in zip(cuts, found[1:], q_values, strict=True)]
    return [one | dict.fromkeys(RESTORED, "") for one in (intact, *lines)]


def repaired_lines(name: str, cuts: list[Lesion], found: np.ndarray, mended: np.ndarray) -> list[dict[str, str]]:
    """Every lesion with one map behind it, and each kind of lesion in sum over its blocks, one at a time."""
    lines, tops = [], found[:, 0]
    for place, cut in enumerate(cuts):
        share = restored(tops[0], tops[1 + place : 2 + place], mended[place : place + 1, 0])
        lines.append(lesion_row(cut, mended[place], found[0], np.nan) | {"repair": name} | share)
    for kind in dict.fromkeys(cut.kind for cut in cuts):
        single = [place for place, cut in enumerate(cuts) if cut.kind == kind and len(cut.blocks) == 1]
        share = restored(tops[0], tops[1:][single], mended[single, 0])
        blank = dict.fromkeys(lines[0], "") | {"n": str(found.shape[2]), "blocks": str(len(single))}
        lines.append(blank | {"kind": kind, "repair": name, "block": EACH} | share)
    return lines


def restored(intact: np.ndarray, cut: np.ndarray, mended: np.ndarray) -> dict[str, str]:
    """The share of what lesions cost in sum that their maps bring back, by resampling images; empty without a cost."""
    before, cuts, after = (one.astype(float) for one in (intact, cut, mended))
    lost, back = (before - cuts).sum(0), (after - cuts).sum(0)

    def share(images: np.ndarray) -> float:
        cost = lost[images].sum()
        return float(back[images].sum() / cost) if cost > 0 else np.nan

    return _written(RESTORED[0], resampling.resampled(len(intact), share, np.random.default_rng(0)))
