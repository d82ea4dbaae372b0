"""Loss and accuracy of a network on a split."""

import contextlib
from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional

from manifold_lab.data import Data
from manifold_lab.training import distributed
from manifold_lab.training.outcome import Metrics
from manifold_lab.training.recipe import Recipe

BATCH = 500


def autocast(recipe: Recipe, device: torch.device) -> contextlib.AbstractContextManager[object]:
    """The recipe's precision for a forward pass."""
    return torch.autocast(device.type, torch.bfloat16, enabled=recipe.precision == "bf16")


def in_layout(recipe: Recipe, x: Tensor) -> Tensor:
    """A batch in the recipe's memory layout."""
    return x.contiguous(memory_format=torch.channels_last if recipe.channels_last else torch.contiguous_format)


@torch.no_grad()
def evaluate(
    model: nn.Module, data: Data, split: str, recipe: Recipe, state: Mapping[str, Tensor] | None = None
) -> Metrics:
    """Metrics of a model, or of another state of it, in evaluation mode; the device is waited for once.

    Several processes share the batches, and know the same metrics in the end.
    """
    was_training, losses, right = model.training, [], []
    model.eval()
    for x, y in data.evaluation(split, BATCH, distributed.current().share):
        with autocast(recipe, data.device):
            batch = in_layout(recipe, x)
            logits = model(batch) if state is None else functional_call(model, dict(state), (batch,))
        losses.append(functional.cross_entropy(logits.float(), y, reduction="sum"))
        right.append((logits.argmax(1) == y).sum())
    model.train(was_training)
    images = data.size(split)
    sums = [sum(torch.stack(part).tolist()) if part else 0.0 for part in (losses, right)]
    loss, hits = distributed.summed(torch.tensor(sums, dtype=torch.float64)).tolist()
    return Metrics(loss / images, hits / images, images)
