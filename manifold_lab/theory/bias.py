"""The bias up to which rows keep ReLU(Wx - alpha) injective: sufficient values, and the exact one in the plane.

A layer ReLU(Wx + b) has alpha = -b. A row is active at x where <w_i, x> > alpha_i; where n independent rows are active,
no other point has the same output (Lemma 2). Every bias here is sufficient for that, and not necessary for injectivity.
Source: Haider, Ehler and Balazs, arXiv:2307.09672 and arXiv:2406.15856.
"""

import math

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from manifold_lab.core import domain
from manifold_lab.core.errors import InputError

FACET_INPUTS, FACET_LIMIT = 8, 20_000
"""Inputs, and facets of the rows' convex hull, above which facets are not computed."""
INDEPENDENT = 1e-6
"""Distance of a unit row from the span of others, and singular value of unit rows, that count as zero."""
PIVOT = 1e-12
"""Weight of a corner, and slope along it, whose sign is taken for rounding."""
SAME_PLANE = 1e-13
"""Singular value of the unit rows of a facet below which its cone holds nothing, as when a facet is cut."""
Rows = Float[Tensor, "ambient inputs"]
"""The rows w_i of a matrix."""
Inputs = Float[Tensor, "points inputs"]
Facets = Int[Tensor, "facets inputs"]
"""The n rows that span each facet."""
Corners = Float[Tensor, "cones corners inputs"]
"""The unit vectors that span each cone."""


def unit_rows(matrix: Rows) -> Rows:
    """Rows of length one in float64; a row of zeros stays zero.

    Raises:
        InputError: for a matrix that is not finite.
    """
    rows = domain.tensor("matrix", matrix, "ambient inputs").detach().double()
    return torch.nn.functional.normalize(rows, dim=1, eps=torch.finfo(rows.dtype).tiny)


def is_omnidirectional(matrix: Rows) -> bool:
    """Whether the origin is inside the convex hull of the rows, so that every direction has an active row.

    By a linear program: the rows span R^n, and a combination of them with positive weights only is zero.

    Raises:
        InputError: for a matrix that is not finite.
    """
    from scipy.optimize import linprog  # noqa: PLC0415  (half a second that few callers need)

    rows = unit_rows(matrix).cpu().numpy()
    ambient, inputs = rows.shape
    if ambient <= inputs or torch.linalg.matrix_rank(torch.from_numpy(rows), rtol=INDEPENDENT) < inputs:
        return False
    # Weights are t + mu_i with mu_i >= 0 and sum to one; t, the smallest of them, is made as large as it can be.
    balance = [[*column, column.sum()] for column in rows.T] + [[1.0] * ambient + [float(ambient)]]
    cost = [0.0] * ambient + [-1.0]
    found = linprog(cost, A_eq=balance, b_eq=[0.0] * inputs + [1.0], bounds=(0, None), method="highs")
    return bool(found.success and -found.fun * ambient > INDEPENDENT)


def facets(matrix: Rows) -> Facets:
    """Facets of the convex hull of the unit rows, each as the n rows that it is spanned by; their cones cover R^n.

    A facet with more than n rows is cut into simplices.

    Raises:
        InputError: if n is not from 2 to FACET_INPUTS, the rows are not omnidirectional, or there are too many facets.
    """
    from scipy.spatial import ConvexHull  # noqa: PLC0415  (a quarter of a second that few callers need)

    unit = unit_rows(matrix)
    inputs = unit.shape[1]
    if not 2 <= inputs <= FACET_INPUTS:
        raise InputError(f"facets: {inputs} inputs are not allowed; it must be from 2 to {FACET_INPUTS}")
    if not is_omnidirectional(matrix):
        raise InputError("facets: the rows are not omnidirectional (the origin must be inside their convex hull)")
    found = torch.from_numpy(ConvexHull(unit.cpu().numpy()).simplices).long()
    flat = torch.linalg.svdvals(unit.cpu()[found])[:, -1] < SAME_PLANE
    if len(found) > FACET_LIMIT:
        raise InputError(f"facets: {len(found)} of them are too many; at most {FACET_LIMIT} are allowed")
    return found[~flat].to(matrix.device)


def facet_bias(matrix: Rows, radius: float = 1.0, sphere: bool = False) -> Float[Tensor, " ambient"]:
    """A bias below which ReLU(Wx - alpha) is injective on the ball |x| <= radius, or on the sphere |x| = radius.

    Polytope bias estimation: over the cone of each facet its n rows are active, so alpha_i is the smallest
    <w_i, x> over the cones of the facets that hold row i; infinite for a row in none, which is not needed. On the ball
    a bias equal to it is sufficient too, as a ball is convex.

    Args:
        matrix: The rows w_i, of any length.
        radius: Of the ball or sphere around the origin, in units of x.
        sphere: The sphere alone; on the ball, which holds the origin, no alpha_i is above zero.

    Raises:
        InputError: as `facets`, or for a radius that is not finite and above zero.
    """
    radius = domain.number("radius", radius, 0, above=True)
    smallest = least_in_cones(unit_rows(matrix), facets(matrix))
    return radius * matrix.detach().double().norm(dim=1) * (smallest if sphere else smallest.clamp(max=0))


def least_in_cones(unit: Rows, simplices: Facets) -> Float[Tensor, " ambient"]:
    """The smallest <w_i, x> over unit vectors x in the cones that unit row i is a corner of; infinite without one."""
    corners = unit[simplices]
    values = (corners @ corners.mT).amin(-1)
    facet, place = (values < 0).nonzero(as_tuple=True)
    values[facet, place] = -projected_length(corners[facet], -corners[facet, place])
    smallest = torch.full_like(unit[:, 0], math.inf)
    return smallest.scatter_reduce_(0, simplices.flatten(), values.flatten(), "amin")


def projected_length(corners: Corners, vector: Float[Tensor, "cones inputs"]) -> Float[Tensor, " cones"]:
    """Length of each vector's projection onto the cone of independent unit corners; never less.

    Murty's principal pivoting on the conditions of optimality: of the corners with a wrong sign, the last one changes.
    Where rounding keeps it from ending, the length of the vector.
    """
    gram, aim = corners @ corners.mT, (corners @ vector[..., None]).squeeze(-1)
    used, eye = torch.zeros_like(aim, dtype=torch.bool), torch.eye(gram.shape[1]).to(gram)
    length, left = vector.norm(dim=1), torch.arange(len(vector), device=vector.device)
    number = torch.arange(1, gram.shape[1] + 1, device=gram.device)
    for _ in range(4 * 2 ** gram.shape[1]):
        both = used[left, :, None] & used[left, None]
        weight = torch.linalg.solve(torch.where(both, gram[left], eye), torch.where(used[left], aim[left], 0))
        slope = (gram[left] @ weight[..., None]).squeeze(-1) - aim[left]
        wrong = torch.where(used[left], weight, slope) < -PIVOT
        done = ~wrong.any(1)
        length[left[done]] = (corners[left].mT @ weight[..., None]).squeeze(-1).norm(dim=1)[done]
        left, last = left[~done], (wrong * number).argmax(1)[~done]
        used[left, last] ^= True
        if not len(left):
            break
    return length


def lower_bound(products: Float[Tensor, "cones rows"], corners: Corners) -> Float[Tensor, "cones rows"]:
    """A lower bound on <w, x> over the unit vectors x of cones, from the smallest <w, g_j> over a cone's unit corners.

    x is a sum of c_j g_j whose weights add up to between 1 and 1 / k, k the smallest <g_j, g> and g the unit vector in
    the middle: so <w, x> is at least the smallest product where that is positive, and 1 / k of it where not.
    """
    middle = torch.nn.functional.normalize(corners.sum(1), dim=1)
    narrow = (corners @ middle[..., None]).squeeze(-1).amin(1)
    wide = products / narrow.clamp_min(torch.finfo(narrow.dtype).tiny)[:, None]
    return torch.where(products >= 0, products, wide)


def largest_basis(matrix: Rows, value: Float[Tensor, "points ambient"]) -> Bool[Tensor, "points ambient"]:
    """For every point the n independent rows with the largest values, taken greedily; fewer where the rank is below n.

    Of all bases of rows, this one has the largest smallest value (the greedy algorithm on a matroid).
    """
    unit, (points, inputs) = unit_rows(matrix), (len(value), matrix.shape[1])
    order = value.argsort(dim=1, descending=True)
    span = unit.new_zeros((points, inputs, inputs))
    rank = torch.zeros(points, dtype=torch.int64, device=value.device)
    taken, number = torch.zeros_like(value, dtype=torch.bool), torch.arange(points, device=value.device)
    for place in range(value.shape[1]):
        row = unit[order[:, place]]
        for _ in range(2):  # twice, as once leaves what rounding brings back
            row = row - (span.mT @ (span @ row[..., None])).squeeze(-1)
        size = row.norm(dim=1)
        new = (size > INDEPENDENT) & (rank < inputs)
        span[number[new], rank[new]] = row[new] / size[new, None]
        taken[number[new], order[new, place]] = True
        rank += new
        if bool((rank == inputs).all()):
            break
    return taken


def spanning_margin(matrix: Rows, bias: Float[Tensor, " ambient"], points: Inputs) -> Float[Tensor, " points"]:
    """How far each point can move, in any direction, while the same n independent rows of Wx + b stay active.

    The largest t for which the rows with <w_i, x> + b_i >= t |w_i| span R^n: every b_i / |w_i| can fall by as much.
    Negative where the active rows do not span, minus infinity where no rows do. Positive margins make ReLU(Wx + b)
    injective on the union of these open balls; ReLU6's upper clip is not considered.

    Raises:
        InputError: for numbers that are not finite, and sizes that do not fit.
    """
    rows, x = _fitting(matrix, points)
    shift = domain.tensor("bias", bias, "ambient").detach().double()
    domain.same_length("matrix, bias", rows, shift)
    lengths = rows.norm(dim=1)
    slack = (x @ rows.mT + shift) / lengths
    slack = torch.where(lengths > 0, slack, -math.inf)
    return margin_of(matrix, slack)


def _fitting(matrix: Tensor, points: Tensor) -> tuple[Tensor, Tensor]:
    """Rows and points of one space, in float64."""
    rows = domain.tensor("matrix", matrix, "ambient inputs").detach().double()
    x = domain.tensor("points", points, "points inputs").detach().double()
    if rows.shape[1] != x.shape[1]:
        raise InputError(f"points: {x.shape[1]} inputs are not allowed; the matrix has {rows.shape[1]}")
    return rows, x


def margin_of(matrix: Rows, slack: Float[Tensor, "points ambient"]) -> Float[Tensor, " points"]:
    """The smallest value in the basis of largest values; minus infinity where the rows do not span."""
    basis = largest_basis(matrix, slack)
    least = torch.where(basis, slack, math.inf).amin(1)
    return torch.where(basis.sum(1) == matrix.shape[1], least, -math.inf)


def basis_bias(matrix: Rows, points: Inputs) -> Float[Tensor, " ambient"]:
    """A bias up to which n independent rows are active at each of these points, by most correlated bases, for any n.

    Each point takes the n independent unit rows with the largest <w_i, x>; alpha_i is the smallest <w_i, x> of the
    points that took row i, infinite where none did. It says nothing of points that are not in the sample.

    Raises:
        InputError: if the rows do not span R^n, for numbers that are not finite, and sizes that do not fit.
    """
    rows, x = _fitting(matrix, points)
    value = x @ unit_rows(rows).mT
    basis = largest_basis(matrix, value)
    if bool((basis.sum(1) < matrix.shape[1]).any()):
        raise InputError(f"basis_bias: the rows do not span R^{matrix.shape[1]}")
    return torch.where(basis, value, math.inf).amin(0) * rows.norm(dim=1)


def largest_planar_bias(matrix: Float[Tensor, "ambient 2"]) -> float:
    """The largest bias, the same for all unit rows of the plane, with two independent rows active at every |x| = 1.

    Exact, by brute force: the smallest of the margins at all directions where it can have a minimum, which are those
    where two rows have equal values, and those opposite to a row.

    Raises:
        InputError: for a matrix that is not finite, or has not two columns.
    """
    unit = unit_rows(matrix)
    if unit.shape[1] != 2:
        raise InputError(f"matrix: {unit.shape[1]} inputs are not allowed; it must have 2")
    equal = (unit[:, None] - unit).flatten(0, 1) @ unit.new_tensor([[0.0, 1.0], [-1.0, 0.0]])
    found = torch.cat([unit_rows(equal[equal.norm(dim=1) > INDEPENDENT]), unit])
    return float(spanning_margin(unit, unit.new_zeros(len(unit)), torch.cat([found, -found])).min())
