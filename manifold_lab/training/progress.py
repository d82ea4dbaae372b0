"""Where a run stands, and what it has seen: all of it plain values, to be written into a checkpoint."""

import dataclasses
import math
from dataclasses import dataclass, field
from typing import Any

from manifold_lab.training.outcome import EPOCH, EVALUATION, HistoryRow, Metrics


@dataclass
class Progress:
    """Steps done, seconds spent in them, rows so far, and sums and counts of losses since the last row of each kind."""

    step: int = 0
    seconds: float = 0.0
    diverged_at: int | None = None
    history: list[HistoryRow] = field(default_factory=list)
    sums: dict[str, float] = field(default_factory=lambda: {EPOCH: 0.0, EVALUATION: 0.0})
    counts: dict[str, int] = field(default_factory=lambda: {EPOCH: 0, EVALUATION: 0})
    gradients: dict[int, dict[str, float]] = field(default_factory=dict)
    """Norm of the gradient by step and part of the model."""

    def take(self, losses: list[float]) -> int | None:
        """Add losses one by one, so that sums do not depend on how often one looks; the place of the first bad one."""
        for place, loss in enumerate(losses):
            if not math.isfinite(loss):
                return place
            for kind in self.sums:
                self.sums[kind] += loss
                self.counts[kind] += 1
        return None

    def mean(self, kind: str) -> float:
        """Mean loss since the last row of a kind; a new one begins."""
        mean = self.sums[kind] / self.counts[kind]
        self.sums[kind], self.counts[kind] = 0.0, 0
        return mean


def to_state(progress: Progress) -> dict[str, Any]:
    """Dictionaries, lists and numbers."""
    return dataclasses.asdict(progress)


def from_state(state: dict[str, Any]) -> Progress:
    """The way back."""
    rows = [HistoryRow(**{**row, "validation": Metrics(**row["validation"])}) for row in state["history"]]
    return Progress(**{**state, "history": rows})
