"""Which channels are active at a point, and what that says of the point (Lemma 2 and its kin).

The smallest singular value of the active rows and the pullback log-volume, which grade how well a preserved point can
be recovered, are properties of `active_rows.ActiveRows`.
"""

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from manifold_lab.core import domain
from manifold_lab.metrics.active_rows import ActiveRows


def active_count(active: Bool[Tensor, "*draws points ambient"]) -> Int[Tensor, "*draws points"]:
    """Number of active channels at each point, the c of the formulas.

    Does not see whether the active rows are independent, nor how near to the threshold a channel is.

    Raises:
        InputError: for anything but booleans.
    """
    return domain.flags("active", active, "* points ambient").sum(-1)


def preserved(rows: ActiveRows) -> Bool[Tensor, "draws points"]:
    """Lemma 2 by rank: the active rows span R^n, so that y has no other preimage in R^n.

    Does not see the exceptional points on the boundary of cells that are unique although the rank is short (erratum
    8; a set of measure zero), and not how noisy the recovery would be: see `rows.smallest_singular_value`.
    """
    return rows.rank == rows.inputs


def preserved_on_manifold(
    active: Bool[Tensor, "*draws points ambient"], intrinsic: int, inputs: int
) -> Bool[Tensor, "*draws points"]:
    """Enough active rows, min(n, k + 1), for almost every point of a k-manifold to be unique on that manifold.

    Holds for rows in general position (Sauer, Yorke and Casdagli 1991). Does not see the measure-zero set of points
    that still have a twin; for every point, min(n, 2k + 1) rows are needed.

    Raises:
        InputError: for anything but booleans, or dimensions below one.
    """
    needed = min(domain.whole("inputs", inputs, 1), domain.whole("intrinsic", intrinsic, 1) + 1)
    return active_count(active) >= needed


def dimension_loss(active: Bool[Tensor, "*draws points ambient"], intrinsic: int) -> Float[Tensor, "*draws points"]:
    """Share of the k dimensions that is flattened at each point: (k - c)_+ / k.

    Averaged over points it is the information-dimension loss (Geiger and Kubin 2016). Does not see folding (two sheets
    sent onto each other keep their dimension), nor anything about a smooth activation.

    Raises:
        InputError: for anything but booleans, or a dimension below one.
    """
    domain.whole("intrinsic", intrinsic, 1)
    return (intrinsic - active_count(active)).clamp_min(0).double() / intrinsic


def collapsed_pairs(y: Float[Tensor, "draws points ambient"]) -> Float[Tensor, " draws"]:
    """Fraction of the pairs of points that have exactly the same image.

    Sees collapse to a point only: two pieces of a curve squeezed onto one axis hardly ever meet exactly.

    Raises:
        InputError: for numbers that are not finite, or fewer than two points.
    """
    y = domain.tensor("y", y, "draws points:2 ambient").detach()
    points = y.shape[1]
    sizes = [torch.unique(image, dim=0, return_counts=True)[1].double() for image in y]
    return torch.stack([(size * (size - 1)).sum() for size in sizes]) / (points * (points - 1))
