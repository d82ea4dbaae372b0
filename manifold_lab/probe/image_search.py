"""Images with given activations, sought from afar or from near the truth, by L-BFGS, smooth first.

Source: Mahendran and Vedaldi 2015, arXiv:1412.0035.
"""

from collections.abc import Callable, Sequence

import torch
from jaxtyping import Float
from torch import Tensor

SMOOTHNESS = (1.0, 0.1, 0.01, 0.001)
"""Weights of the squared differences of neighbouring pixels, one stage of a search after the other."""
Map = Callable[[Tensor], Tensor]


def search(
    function: Map,
    y: Float[Tensor, "images ..."],
    start: Float[Tensor, "images channels height width"],
    steps: int,
    smoothness: Sequence[float] = SMOOTHNESS,
) -> Float[Tensor, "images channels height width"]:
    """Images with these activations: L-BFGS from a start, for every weight of smoothness in turn.

    The images are sought together, each with its own activations, and share the length of their steps.

    Args:
        function: from images to activations; its parameters need no gradient.
        y: what they should be.
        start: where the search begins.
        steps: of each stage.
        smoothness: weights of `roughness`; the relative squared error of the activations has weight 1.
    """
    x = start.detach().clone().requires_grad_(True)
    size = y.square().flatten(1).sum(1).clamp_min(torch.finfo(y.dtype).tiny)
    for weight in smoothness:
        optimiser = torch.optim.LBFGS([x], max_iter=steps, history_size=20, line_search_fn="strong_wolfe",
                                      tolerance_grad=0, tolerance_change=1e-12)  # fmt: skip

        def loss(weight: float = weight, optimiser: torch.optim.Optimizer = optimiser) -> Tensor:
            optimiser.zero_grad()
            value = ((function(x) - y).square().flatten(1).sum(1) / size).sum() + weight * roughness(x)
            value.backward()
            return value

        optimiser.step(loss)
    return x.detach()


def roughness(x: Float[Tensor, "images channels height width"]) -> Float[Tensor, ""]:
    """Mean squared difference of pixels that are neighbours in a column, and in a row, summed over images."""
    return sum((x.diff(dim=axis).square().flatten(1).mean(1).sum() for axis in (2, 3)), x.new_zeros(()))


def near(
    image: Float[Tensor, "images channels height width"], share: float, generator: torch.Generator
) -> Float[Tensor, "images channels height width"]:
    """Where a control starts: white noise added, of so large a share of the image's variance."""
    noise = torch.randn(image.shape, generator=generator, dtype=image.dtype)
    noise = noise / noise.flatten(1).norm(dim=1).view(-1, 1, 1, 1)
    spread = (image - image.mean((2, 3), keepdim=True)).flatten(1).norm(dim=1).view(-1, 1, 1, 1)
    return image + share**0.5 * spread * noise
