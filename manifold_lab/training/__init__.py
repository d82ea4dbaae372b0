"""The one training loop, for any network and any data; a run that is killed goes on as if nothing had happened."""

from manifold_lab.training.loop import Bookkeeping, train
from manifold_lab.training.outcome import HistoryRow, Metrics, Outcome
from manifold_lab.training.recipe import PRESETS, Plan, Recipe, evaluates, learning_rate, plan

__all__ = [
    "PRESETS",
    "Bookkeeping",
    "HistoryRow",
    "Metrics",
    "Outcome",
    "Plan",
    "Recipe",
    "evaluates",
    "learning_rate",
    "plan",
    "train",
]
