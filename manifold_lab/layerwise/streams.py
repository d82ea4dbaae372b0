"""What a pass over any amount of data leaves behind: counts, a covariance, a bounded sample. No activation is kept."""

import math
from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from manifold_lab.layerwise.sites import Window

CHUNK = {"cpu": 1 << 18}
"""Numbers that are worked on at a time: on a CPU so many that they stay in its cache."""
LARGE = 1 << 25
MOVED = 0.05
"""What an activation's input moves by when its channel is alive: a hundredth of ReLU6's range."""
EXACT = 1 << 24
"""Whole numbers up to here are exact in float32, and so are their sums in any order."""


def blocks(
    x: Tensor, channels: int, most: int = 1 << 62, fewest: int = 1
) -> Iterator[Float[Tensor, "positions channels"]]:
    """Views of positions x channels, in order, each laid out as `x` is and small enough for the cache."""
    width = x.shape[channels]
    step = min(most, max(fewest, CHUNK.get(x.device.type, LARGE) // width))
    last = x.movedim(channels, -1)
    if last.is_contiguous() or x.dim() < 3:
        yield from last.reshape(-1, width).split(step)
        return
    for picture in last:
        yield from picture.reshape(-1, width).split(step)


def like(block: Tensor) -> Tensor:
    """Room for a block in its own layout, in the precision that marks need."""
    kind = torch.float64 if block.dtype == torch.float64 else torch.float32
    return torch.empty_like(block, dtype=kind, memory_format=torch.preserve_format)


@dataclass
class ActiveCounts:
    """How many channels are active at each position, as a histogram; how often each channel is, and at the high clip.

    `window`: the open interval of active outputs. Exact: every number is a count. `bad` marks channels with NaN or
    infinite outputs; where there is one, the other numbers mean nothing.
    """

    window: Window
    histogram: Int64[Tensor, " counts"]
    active: Int64[Tensor, " channels"]
    high: Int64[Tensor, " channels"]
    bad: Bool[Tensor, " channels"]
    positions: int = 0

    @classmethod
    def empty(cls, window: Window, channels: int, device: torch.device) -> "ActiveCounts":
        """Nothing seen yet."""
        counts = [torch.zeros(size, dtype=torch.int64, device=device) for size in (channels + 1, channels, channels)]
        histogram, active, high = counts
        return cls(window, histogram, active, high, torch.zeros(channels, dtype=torch.bool, device=device))

    def add(self, y: Tensor, channels: int) -> None:
        """Count one batch."""
        marks = Marks.of(self.window, y.shape[channels])
        found = [self._marked(y, channels, marks)] if marks else map(self._compared, blocks(y, channels))
        for per_position in found:
            counts = per_position.clamp_(0, len(self.active))
            self.histogram += torch.bincount(counts, minlength=len(self.histogram))
            self.positions += len(counts)

    def _compared(self, block: Tensor) -> Tensor:
        """The plain way, for every window: active channels of each position."""
        active, high = (block > self.window[0]) & (block < self.window[1]), block >= self.window[1]
        self._channels(active.sum(0), high.sum(0), ~torch.isfinite(block).all(0))
        return active.sum(1)

    def _marked(self, y: Tensor, channels: int, marks: "Marks") -> Tensor:
        """The fast way: two products per block, of its marks with ones; the sums are split up at the end."""
        down, across, room = [], [], None
        for block in blocks(y, channels, marks.positions):
            if room is None or room.shape != block.shape:
                room = like(block)
                wide, long = room.new_ones(block.shape[1]), room.new_ones(len(block))
            marked = marks.mark(block, room)
            down.append(torch.mv(marked, wide))
            across.append(torch.mv(marked.t(), long))
        sums = torch.stack(across)
        bad = ~torch.isfinite(sums).all(0)
        active, high = marks.split(sums)
        self._channels(active.sum(0), high.sum(0), bad)
        return marks.split(torch.cat(down))[0]

    def _channels(self, active: Tensor, high: Tensor, bad: Tensor) -> None:
        self.active += active
        self.high += high
        self.bad |= bad


@dataclass(frozen=True)
class Marks:
    """Outputs of ReLU or a clipped ReLU made into marks whose sums tell two counts at once, exactly, in float32.

    An active output becomes `unit`, one at the high clip stays `clip` units, all else is 0: two passes of vector
    arithmetic, where comparisons into bytes and their sums take several times as long.
    """

    unit: float
    clip: int | None
    below: float
    """The largest float32 below the clip; without a clip the largest of all."""

    @classmethod
    def of(cls, window: Window, width: int) -> "Marks | None":
        """Marks for a window and so many channels; None where their sums would not be exact."""
        low, high = window
        below = float(np.nextafter(np.float32(high), np.float32(0)))
        if low != 0:
            return None
        if math.isinf(high):
            return cls(1.0, None, below) if width < EXACT else None
        unit = 2.0 ** (math.floor(math.log2(high)) - 11)
        clip = high / unit
        fits = clip.is_integer() and width < clip and width * clip < EXACT
        return cls(unit, int(clip), below) if fits else None

    @property
    def positions(self) -> int:
        """The most positions that may be summed."""
        return EXACT - 1 if self.clip is None else min(self.clip - 1, EXACT // self.clip)

    def mark(self, block: Tensor, room: Tensor) -> Tensor:
        """Write the marks of a block into `room`; NaN and infinity stay what they are."""
        x = block.to(room.dtype)
        torch.ops.aten.threshold.out(x, self.below, self.unit, out=room)
        torch.ops.aten.threshold_backward.grad_input(room, x, 0, grad_input=room)
        return room

    def split(self, sums: Tensor) -> tuple[Tensor, Tensor]:
        """Counts of active and of clipped outputs, of sums that are finite."""
        whole = sums.nan_to_num_(0, 0, 0) if self.unit == 1 else sums.nan_to_num_(0, 0, 0).div_(self.unit)
        if self.clip is None:
            return whole.long(), torch.zeros_like(whole, dtype=torch.int64)
        high = (whole / self.clip).floor_()  # exact: the quotient of whole numbers below EXACT
        return whole.sub_(high, alpha=self.clip).long(), high.long()


@dataclass
class Still:
    """Channels that hardly move: the variance of those that were never farther than MOVED from where they began.

    On a CPU, after the first batch, only the channels that have not moved yet are looked at.
    """

    reference: Float[Tensor, " channels"] | None = None
    still: Bool[Tensor, " channels"] | None = None
    total: Float[Tensor, " channels"] | None = None
    square: Float[Tensor, " channels"] | None = None
    positions: int = 0

    def add(self, u: Tensor, channels: int) -> None:
        """Look at one batch."""
        last = u.movedim(channels, -1)
        if self.reference is None:
            self.reference = last.flatten(0, -2)[0].clone()
            self.still = torch.ones_like(self.reference, dtype=torch.bool)
            self.total = torch.zeros_like(self.reference, dtype=torch.float64)
            self.square = self.total.clone()
            for block in blocks(u, channels):
                self.still &= ((block - self.reference).abs_() <= MOVED).all(0)
        assert self.still is not None and self.total is not None and self.square is not None
        self.positions += u.numel() // u.shape[channels]
        left = self.still.nonzero().flatten() if u.device.type == "cpu" else torch.arange(len(self.still)).to(u.device)
        if len(left):
            far = (last[..., left] - self.reference[left]).flatten(0, -2).double()
            self.still[left] &= (far.abs() <= MOVED).all(0)
            self.total[left] += far.sum(0)
            self.square[left] += (far**2).sum(0)

    @property
    def variance(self) -> Float[Tensor, " channels"]:
        """Of each channel that never moved; infinite for the others."""
        assert self.still is not None and self.total is not None and self.square is not None
        found = (self.square - self.total**2 / self.positions) / max(1, self.positions - 1)
        return torch.where(self.still, found.clamp_min(0), torch.inf)


@dataclass
class Covariance:
    """Count, mean and covariance of positions, in one pass: products of float32 around a fixed shift, sums in float64.

    The shift is the mean of the first positions that come, so that nothing cancels however far off the data lie.
    """

    shift: Float[Tensor, " channels"] | None = None
    total: Float[Tensor, " channels"] | None = None
    scatter: Float[Tensor, "channels channels"] | None = None
    positions: int = 0

    def add(self, y: Tensor, channels: int) -> None:
        """Take one batch in."""
        width = y.shape[channels]
        kind = torch.float64 if y.dtype == torch.float64 else torch.float32
        partial = torch.zeros((width, width), dtype=kind, device=y.device)
        for block in blocks(y, channels, fewest=4 * width):
            x = block.to(kind)
            if self.shift is None or self.total is None:
                self.shift, self.total = x.mean(0), torch.zeros(width, dtype=torch.float64, device=y.device)
            centred = x - self.shift
            self.total += centred.sum(0)
            self.positions += len(centred)
            partial.addmm_(centred.t(), centred)
        self.scatter = partial.double() if self.scatter is None else self.scatter.add_(partial)

    @property
    def covariance(self) -> Float[Tensor, "channels channels"]:
        """Around the mean, divided by the number of positions less one."""
        assert self.total is not None and self.scatter is not None
        mean = self.total / self.positions
        return (self.scatter - self.positions * torch.outer(mean, mean)) / max(1, self.positions - 1)


@dataclass
class Reservoir:
    """A sample of at most `room` rows of all that came by, each equally likely, drawn from `chance` alone.

    Every row has a key, uniform in [0, 1); those with the smallest keys are kept. How many of a new batch are below the
    largest kept key is binomial, so that a batch costs in proportion to what is taken from it. `parts` are what is kept
    of each row: a tuple of tensors with as many rows each.
    """

    room: int
    chance: torch.Generator
    seen: int = 0
    keys: Float[Tensor, " rows"] = field(default_factory=lambda: torch.empty(0, dtype=torch.float64))
    parts: tuple[Tensor, ...] = ()

    def propose(self, rows: int) -> tuple[Int64[Tensor, " taken"], Float[Tensor, " taken"]]:
        """Which of the next `rows` rows to take, and their keys; `accept` must follow."""
        edge = 1.0 if len(self.keys) < self.room else float(self.keys.max())
        share = torch.tensor([float(rows), edge], dtype=torch.float64)
        taken = rows if edge == 1 else int(torch.binomial(share[:1], share[1:], generator=self.chance))
        taken = min(taken, rows)
        keys = edge * torch.rand(taken, generator=self.chance, dtype=torch.float64)
        if taken > self.room:
            keys = keys.sort().values[: self.room]
        self.seen += rows
        return distinct(rows, len(keys), self.chance), keys

    def accept(self, keys: Tensor, parts: tuple[Tensor, ...]) -> None:
        """Keep the rows that were proposed."""
        kept = torch.cat([self.keys, keys])
        merged = tuple(map(torch.cat, zip(self.parts, parts, strict=True))) if self.parts else parts
        best = kept.argsort()[: self.room].sort().values
        self.keys = kept[best]
        self.parts = tuple(part[best.to(part.device)] for part in merged)


def distinct(total: int, count: int, chance: torch.Generator) -> Int64[Tensor, " count"]:
    """So many different whole numbers below `total`, in random order."""
    if 4 * count < total:
        found = torch.unique(torch.randint(total, (2 * count + 16,), generator=chance))
        if len(found) >= count:
            return found[torch.randperm(len(found), generator=chance)[:count]]
    return torch.randperm(total, generator=chance)[:count]
