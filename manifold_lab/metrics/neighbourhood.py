"""How much of who-is-near-whom survives, and how much of x can be read off y."""

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from manifold_lab.core import domain

NEIGHBOURS = 10
JITTER = 1e-9
"""Relative size of the noise that breaks ties between collapsed points, which would otherwise be broken by their
order along the curve, and so by the answer."""
Inputs = Float[Tensor, "points inputs"]
Codes = Float[Tensor, "points ambient"]


def _pair(x: Tensor, y: Tensor, least: int) -> tuple[Tensor, Tensor]:
    """Two clouds of the same points at a scale whose squares are numbers.

    Raises:
        InputError: for numbers that are not finite, too few points, or clouds of unequal length.
    """
    x, y = (domain.unit_scale(domain.tensor(name, part, f"points:{least} channels").detach())[0]
            for name, part in (("x", x), ("y", y)))  # fmt: skip
    domain.same_length("x, y", x, y)
    return x, y


def _shaken(y: Tensor, generator: torch.Generator) -> Tensor:
    noise = torch.randn(y.shape, generator=generator, dtype=torch.float64).to(y.device)
    return y.double() + JITTER * y.double().std() * noise


def trustworthiness(x: Inputs, y: Codes, generator: torch.Generator) -> float:
    """1 when no point has new neighbours in y that it did not have in x (Venna and Kaski 2001; scikit-learn's).

    Sees what was brought together; not what was torn apart (`continuity`), nor collapse within a neighbourhood.

    Raises:
        InputError: for numbers that are not finite, fewer than 21 points, or clouds of unequal length.
    """
    x, y = _pair(x, y, 2 * NEIGHBOURS + 1)
    return _trust(x, _shaken(y, generator))


def continuity(x: Inputs, y: Codes, generator: torch.Generator) -> float:
    """1 when no point has lost neighbours of x in y: trustworthiness with the roles exchanged.

    A continuous map, ReLU's among them, keeps it high however much it collapses.

    Raises:
        InputError: as `trustworthiness`.
    """
    x, y = _pair(x, y, 2 * NEIGHBOURS + 1)
    return _trust(_shaken(y, generator), x)


def _trust(x: Tensor, y: Tensor) -> float:
    from sklearn import manifold  # noqa: PLC0415  (two seconds that only some users need)

    return float(manifold.trustworthiness(x.cpu(), y.cpu(), n_neighbors=NEIGHBOURS))


def information_imbalance(x: Inputs, y: Codes, generator: torch.Generator) -> tuple[float, float]:
    """(x to y, y to x): does the nearest neighbour in one space predict the rank in the other? 0 wholly, 1 not at all.

    Glielmo et al. 2022, PNAS Nexus 1:pgac039: twice the mean rank in the second space of each point's nearest
    neighbour in the first, over the number of points. Lost information shows as a larger second number. Sees the
    scale of nearest neighbours only; O(points^2) memory.

    Raises:
        InputError: for numbers that are not finite, fewer than two points, or clouds of unequal length.
    """
    x, y = _pair(x, y, 2)
    distances = []
    for points in (x.double(), _shaken(y, generator)):
        distance = torch.cdist(points, points, compute_mode="donot_use_mm_for_euclid_dist")
        distances.append(distance.fill_diagonal_(torch.inf))
    return _imbalance(distances[0], distances[1]), _imbalance(distances[1], distances[0])


def _imbalance(near: Tensor, far: Tensor) -> float:
    neighbour = near.argmin(1, keepdim=True)
    rank = 1 + (far < far.gather(1, neighbour)).sum(1)
    return float(2 * rank.double().mean() / len(near))


def _r2(x: Tensor, x_hat: Tensor) -> float:
    spread = ((x - x.mean(0)) ** 2).sum()
    return float(1 - ((x - x_hat) ** 2).sum() / spread) if bool((x != x[0]).any()) else float("nan")


def knn_r2(x: Inputs, y: Codes, k: int = 5) -> float:
    """R^2 of x predicted from y's k nearest neighbours, fitted on every other point and tested on the rest.

    What any smooth decoder could do at this sample size; it sees density as well as information. nan where x does not
    vary over the tested points.

    Raises:
        InputError: for numbers that are not finite, fewer than 2k points, or clouds of unequal length.
    """
    from sklearn.neighbors import KNeighborsRegressor  # noqa: PLC0415

    x, y = _pair(x, y, 2 * domain.whole("k", k, 1))
    code, target = y[::2].cpu().numpy(), x[::2].cpu().numpy().copy()
    _, group, size = np.unique(code, axis=0, return_inverse=True, return_counts=True)
    for column in target.T:  # equal codes share the mean of their targets, lest their order decide
        column[:] = (np.bincount(group.reshape(-1), weights=column) / size)[group.reshape(-1)]
    fitted = KNeighborsRegressor(k, algorithm="brute").fit(code, target)
    return _r2(x[1::2].cpu(), torch.as_tensor(fitted.predict(y[1::2].cpu())))


def linear_r2(x: Inputs, y: Codes) -> float:
    """R^2 of the best affine map from y to x, fitted on every other point and tested on the rest.

    What the next 1x1 convolution could see; a collapsed curve still has an R^2 far above 0. nan where x does not vary
    over the tested points.

    Raises:
        InputError: for numbers that are not finite, fewer than two points, or clouds of unequal length.
    """
    x, y = _pair(x, y, 2)
    y, x = y.to(torch.promote_types(x.dtype, y.dtype)), x.to(torch.promote_types(x.dtype, y.dtype))
    design = torch.cat([y, torch.ones_like(y[:, :1])], dim=1)
    weight = torch.linalg.lstsq(design[::2].cpu(), x[::2].cpu(), driver="gelsd").solution
    return _r2(x[1::2].cpu(), design[1::2].cpu() @ weight)
