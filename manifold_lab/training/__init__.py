"""The one training loop, for any network and any data; a run that is killed goes on as if nothing had happened."""

from manifold_lab.training.loop import Bookkeeping, train
from manifold_lab.training.outcome import HistoryRow, Metrics, Outcome
from manifold_lab.training.recipe import RECIPES, Recipe, TrainingLength, evaluates, learning_rate, training_length

__all__ = [
    "RECIPES",
    "Bookkeeping",
    "HistoryRow",
    "Metrics",
    "Outcome",
    "Recipe",
    "TrainingLength",
    "evaluates",
    "learning_rate",
    "train",
    "training_length",
]
