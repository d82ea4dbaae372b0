"""A layer seen as a channel: x -> Tx + bias -> activation -> y, and back by a decoder; one frozen value."""

import math
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from manifold_lab import metrics
from manifold_lab.activations import Activation
from manifold_lab.core.errors import InputError
from manifold_lab.core.shown import Shown
from manifold_lab.metrics.active_rows import ActiveRows, active_rows
from manifold_lab.random_layer import decoders
from manifold_lab.random_layer.embeddings import Embedding


@dataclass(frozen=True, repr=False)
class RandomLayer(Shown):
    """A batch of random layers that see the same points; what they send, and what can be had back of it."""

    x: Float[Tensor, "points inputs"]
    embedding: Embedding
    activation: Activation
    bias: float = 0.0

    @cached_property
    def y(self) -> Float[Tensor, "draws points ambient"]:
        """What arrives."""
        return self.activation(self.x @ self.embedding.matrix.mT + self.bias)

    @cached_property
    def active(self) -> Bool[Tensor, "draws points ambient"]:
        """The outputs that have exactly one preimage."""
        return self.activation.is_active(self.y)

    @cached_property
    def rows(self) -> ActiveRows:
        """The active rows, decomposed."""
        return active_rows(self.embedding.matrix, self.active)

    @property
    def preserved(self) -> Bool[Tensor, "draws points"]:
        """Lemma 2, by rank: x is the only point of R^n with this y (only sufficient if the activation folds)."""
        return metrics.preserved(self.rows)

    def linear(self, scale: float = 1.0) -> Float[Tensor, "draws points inputs"]:
        """Decode by scale * pinv(T) (or the embedding's own inverse)."""
        return decoders.linear_decode(self.embedding.inverse, self.y, self.bias, scale)

    def linear_products(self, weight: Float[Tensor, "draws points"] | None = None) -> decoders.Products:
        """Sums over points of x_hat.x, x_hat.x_hat and x.x for x_hat = linear(), each point times its `weight`."""
        x_hat, x = self.linear(), self.x.expand(len(self.y), -1, -1)
        w = torch.ones_like(x_hat[..., 0]) if weight is None else weight
        return tuple((w * (a * b).sum(-1)).sum(1) for a, b in ((x_hat, x), (x_hat, x_hat), (x, x)))  # type: ignore[return-value]

    def affine_moments(self) -> tuple[decoders.AffineMoments, decoders.AffineMoments]:
        """Moments of the points that an affine decoder is fitted on (every other one) and of those held out."""
        return tuple(decoders.moments(self.x[half::2], self.y[:, half::2]) for half in (0, 1))  # type: ignore[return-value]

    def affine(self) -> Float[Tensor, "draws points inputs"]:
        """Decode by the affine map fitted on every other point."""
        return decoders.fit_affine(self.affine_moments()[0])(self.y)

    def exact(self) -> Float[Tensor, "draws points inputs"]:
        """Decode by least squares on the active rows."""
        value = self.activation.inverse(torch.where(self.active, self.y, 1.0)) - self.bias
        return decoders.exact_decode(self.rows, value, self.active)

    def preimage(self, draw: int) -> decoders.Preimage:
        """All preimages of each point of one draw, within the box around the data.

        Raises:
            InputError: for an activation that folds: its preimages are not polyhedra.
        """
        if self.activation.folds:
            raise InputError(f"decoder: preimage does not work with {self.activation.name}, which is not monotone")
        u = (self.x @ self.embedding.matrix[draw].mT).double().cpu().numpy()
        y, active = self.y[draw].double().cpu().numpy(), self.active[draw].cpu().numpy()
        floor, ceiling = self.activation.outputs
        first, last = self.activation.window or (-math.inf, math.inf)
        low = np.where(active, u, np.where(y >= ceiling, last - self.bias, -math.inf))
        high = np.where(active, u, np.where(y <= floor, first - self.bias, math.inf))
        x = self.x.double().cpu().numpy()
        return decoders.preimage(self.embedding.matrix[draw].double().cpu().numpy(), low, high, (x.min(0), x.max(0)))
