"""What a pass over any amount of data leaves behind: counts, a covariance, a bounded sample. No activation is kept.

What an accumulator holds is replaced and never overwritten, so that a shallow copy is a state to come back to.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor
from torch.nn import functional

from manifold_lab.probe.counting import deviations, tally
from manifold_lab.probe.layer_types import Window

CHUNK = {"cpu": 1 << 18}
"""Numbers that are worked on at a time: on a CPU so many that they stay in its cache."""
LARGE = 1 << 25
MOVED = 0.05
"""What an activation's input moves by when its channel is alive: a hundredth of ReLU6's range."""


def matrices(x: Tensor, channels: int) -> Iterator[Float[Tensor, "positions channels"]]:
    """Views of positions x channels, in order, each laid out as `x` is: of the whole batch, or of an image each."""
    last = x.movedim(channels, -1)
    if last.is_contiguous() or x.dim() < 3:
        yield last.reshape(-1, x.shape[channels])
        return
    for image in last:
        yield image.reshape(-1, x.shape[channels])


def blocks(x: Tensor, channels: int, fewest: int = 1) -> Iterator[Float[Tensor, "positions channels"]]:
    """The same in parts of at least `fewest` positions, each small enough for the cache."""
    step = max(fewest, CHUNK.get(x.device.type, LARGE) // x.shape[channels])
    for matrix in matrices(x, channels):
        yield from matrix.split(step)


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
        found = [tally(matrix, self.window) for matrix in matrices(y, channels)]
        counts = torch.cat([one.active_positions for one in found])
        self.histogram = self.histogram + torch.bincount(counts, minlength=len(self.histogram))
        self.positions += len(counts)
        for one in found:
            self.active, self.high, self.bad = self.active + one.active, self.high + one.high, self.bad | one.bad


@dataclass
class Still:
    """Channels that hardly move: the variance of those that were never farther than MOVED from where they began.

    On a CPU nothing is looked at any more when every channel has moved.
    """

    reference: Float[Tensor, " channels"] | None = None
    still: Bool[Tensor, " channels"] | None = None
    total: Float[Tensor, " channels"] | None = None
    square: Float[Tensor, " channels"] | None = None
    positions: int = 0
    over: bool = False
    """Known on a CPU only: that every channel has moved."""

    def add(self, u: Tensor, channels: int) -> None:
        """Look at one batch."""
        if self.over:
            return
        if self.reference is None:
            self.reference = u.movedim(channels, -1)[(0,) * (u.dim() - 1)].clone()
            self.still = torch.ones_like(self.reference, dtype=torch.bool)
            self.total = torch.zeros_like(self.reference, dtype=torch.float64)
            self.square = self.total.clone()
        assert self.still is not None and self.total is not None and self.square is not None
        self.positions += u.numel() // u.shape[channels]
        for matrix in matrices(u, channels) if u.device.type == "cpu" else blocks(u, channels):
            gone, total, square = deviations(matrix, self.reference, MOVED, ~self.still)
            self.still, self.total, self.square = gone == 0, self.total + total, self.square + square
        self.over = u.device.type == "cpu" and not bool(self.still.any())

    @property
    def variance(self) -> Float[Tensor, " channels"]:
        """Of each channel that never moved; infinite for the others."""
        assert self.still is not None and self.total is not None and self.square is not None
        found = (self.square - self.total**2 / self.positions) / max(1, self.positions - 1)
        return torch.where(self.still, found.clamp_min(0), torch.inf)


STRIP = 128
"""Rows of a symmetric product that are computed at a time, each from the diagonal on."""


@dataclass
class Covariance:
    """Count, mean and covariance of positions, in one pass: products of float32 around a fixed shift, sums in float64.

    The shift is the mean of the first positions that come, so that nothing cancels however far off the data lie. Of the
    symmetric product little more than one half is computed.
    """

    shift: Float[Tensor, " channels"] | None = None
    total: Float[Tensor, " channels"] | None = None
    strips: tuple[Tensor, ...] = ()
    """Of the sum of products, STRIP rows each, from the diagonal on."""
    positions: int = 0
    met: int = 0
    """Positions that the ones taken in were drawn from."""

    def add(self, y: Tensor, channels: int) -> None:
        """Take one batch in."""
        width = y.shape[channels]
        kind = torch.float64 if y.dtype == torch.float64 else torch.float32
        starts = range(0, width, STRIP)
        parts: list[Tensor] = []
        for block in blocks(y, channels, fewest=4 * width):
            x = block.to(kind)
            if self.shift is None or self.total is None:
                self.shift, self.total = x.mean(0), torch.zeros(width, dtype=torch.float64, device=y.device)
            centred = x - self.shift
            self.total = self.total + centred.sum(0)
            self.positions += len(centred)
            factors = [(centred[:, start : start + STRIP].t(), centred[:, start:]) for start in starts]
            if parts:
                for part, (left, right) in zip(parts, factors, strict=True):
                    part.addmm_(left, right)
            else:
                parts = [left @ right for left, right in factors]
        known = self.strips or [part.new_zeros((), dtype=torch.float64) for part in parts]
        self.strips = tuple(strip + part for strip, part in zip(known, parts, strict=True))

    @property
    def covariance(self) -> Float[Tensor, "channels channels"]:
        """Around the mean, divided by the number of positions less one."""
        assert self.total is not None and self.strips
        mean = self.total / self.positions
        upper = torch.cat([functional.pad(strip, (len(mean) - strip.shape[1], 0)) for strip in self.strips]).double()
        products = upper.triu() + upper.triu(1).t()
        return (products - self.positions * torch.outer(mean, mean)) / max(1, self.positions - 1)


@dataclass
class Reservoir:
    """A sample of at most `room` rows of all that came by, each equally likely, drawn from `rng` alone.

    Every row has a key, uniform in [0, 1); those with the smallest keys are kept. How many of a new batch are below the
    largest kept key is binomial, so that a batch costs in proportion to what is taken from it. `parts` are what is kept
    of each row: a tuple of tensors with as many rows each.
    """

    room: int
    rng: torch.Generator
    seen: int = 0
    keys: Float[Tensor, " rows"] = field(default_factory=lambda: torch.empty(0, dtype=torch.float64))
    parts: tuple[Tensor, ...] = ()

    def propose(self, rows: int) -> tuple[Int64[Tensor, " taken"], Float[Tensor, " taken"]]:
        """Which of the next `rows` rows to take, and their keys; `accept` must follow."""
        edge = 1.0 if len(self.keys) < self.room else float(self.keys.max())
        share = torch.tensor([float(rows), edge], dtype=torch.float64)
        taken = rows if edge == 1 else int(torch.binomial(share[:1], share[1:], generator=self.rng))
        taken = min(taken, rows)
        keys = edge * torch.rand(taken, generator=self.rng, dtype=torch.float64)
        if taken > self.room:
            keys = keys.sort().values[: self.room]
        self.seen += rows
        return distinct(rows, len(keys), self.rng), keys

    def accept(self, keys: Tensor, parts: tuple[Tensor, ...]) -> None:
        """Keep the rows that were proposed."""
        kept = torch.cat([self.keys, keys])
        merged = tuple(map(torch.cat, zip(self.parts, parts, strict=True))) if self.parts else parts
        best = kept.argsort()[: self.room].sort().values
        self.keys = kept[best]
        self.parts = tuple(part[best.to(part.device)] for part in merged)


def distinct(total: int, count: int, rng: torch.Generator) -> Int64[Tensor, " count"]:
    """So many different whole numbers below `total`, in random order."""
    if 4 * count < total:
        found = torch.unique(torch.randint(total, (2 * count + 16,), generator=rng))
        if len(found) >= count:
            return found[torch.randperm(len(found), generator=rng)[:count]]
    return torch.randperm(total, generator=rng)[:count]
