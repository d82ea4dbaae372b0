"""Mutual information through a layer whose noise is known."""

import math

import torch
from jaxtyping import Float
from torch import Tensor

from manifold_lab.core import domain
from manifold_lab.core.errors import InputError

LOST = 0.01
"""Nats by which rounding may move a log-likelihood."""


def known_channel_information(
    codebook: Float[Tensor, "draws points ambient"], sigma: int | float, queries: int, generator: torch.Generator
) -> Float[Tensor, " draws"]:
    """I(point; code + N(0, sigma^2 I)) in nats, for a point drawn evenly from the sample.

    E log p(z|t) - log mean_t' p(z|t') by Monte Carlo over `queries` noisy codes, at evenly spaced points. exp of it is
    the number of points that can be told apart at this noise; it cannot exceed log(points), so the sample must be
    finer than sigma. The noise is added because a deterministic map has infinite or constant information (Goldfeld et
    al. 2019, arXiv:1810.05728). Does not see anything finer than sigma: say sigma, and the scale of the code.

    Raises:
        InputError: for a code that is not finite, fewer than one query, or a sigma that is not above zero or is too
            small beside the code for its precision.
    """
    sigma = domain.number("sigma", sigma, 0, above=True)
    domain.whole("queries", queries, 1)
    codebook, exponent = domain.unit_scale(domain.tensor("codebook", codebook, "draws points ambient").detach())
    sigma = math.ldexp(sigma, -exponent)
    _, points, ambient = codebook.shape
    codebook = codebook - codebook.mean(1, keepdim=True)  # squares of a far-off code would cancel
    square = float((codebook**2).sum(-1).max())
    if not square * torch.finfo(codebook.dtype).eps <= LOST * sigma**2:
        raise InputError(
            f"sigma: {math.ldexp(sigma, exponent):g} is lost in the precision of {codebook.dtype} beside codes of "
            f"length {math.ldexp(math.sqrt(square), exponent):g}; give a larger one"
        )
    sent = torch.linspace(0, points - 1, queries).round().long().to(codebook.device)
    noise = torch.randn((len(codebook), queries, ambient), generator=generator, dtype=torch.float64)
    noise = sigma * noise.to(codebook)
    received = codebook[:, sent] + noise
    size = -(codebook**2).sum(-1)[:, None] / (2 * sigma**2)
    log_likelihood = torch.baddbmm(size, received, codebook.mT, alpha=1 / sigma**2)
    own = -(noise**2).sum(-1) / (2 * sigma**2) + (received**2).sum(-1) / (2 * sigma**2)
    return (own - torch.logsumexp(log_likelihood, dim=-1) + math.log(points)).mean(-1)
