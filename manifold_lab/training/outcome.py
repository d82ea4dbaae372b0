"""What a run was: its history row by row, and how it ended."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

FINISHED, DIVERGED_STATUS = "finished", "diverged"
EPOCH, EVALUATION = "epoch", "evaluation"


@dataclass(frozen=True)
class Metrics:
    """Mean cross-entropy in nats, without label smoothing, and the share of right answers of so many images."""

    loss: float
    accuracy: float
    pictures: int  # the name that stored runs have

    @property
    def finite(self) -> bool:
        """Whether the loss is a number."""
        return math.isfinite(self.loss)


@dataclass(frozen=True)
class HistoryRow:
    """A look at the run: at the end of an epoch, or at an evaluation between (`kind`).

    `step` and `images`: done so far. `train_loss`: the mean since the last row of this kind, as it was minimised.
    `validation`: of the weights that the run would end with, the moving average where the recipe has one.
    """

    kind: str
    step: int
    images: int
    epoch: float
    learning_rate: float
    train_loss: float
    validation: Metrics


@dataclass(frozen=True)
class Outcome:
    """How a run ended.

    A diverged run has no final metrics; `diverged_at` counts the step, from one, whose loss was not finite (or after
    which the validation loss was not). `gradients`: by step, the norm of the loss's gradient in the weights of every
    part of the model (`optimise.gradient_norms`).
    """

    status: str
    history: tuple[HistoryRow, ...]
    validation: Metrics | None
    test: Metrics | None
    images_per_second: float
    diverged_at: int | None = None
    gradients: Mapping[int, Mapping[str, float]] = field(default_factory=dict, compare=False)
