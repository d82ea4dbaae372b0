"""Is clip(Wx + b, 0, high) injective on a ball or a sphere? Certified, refuted by two points, or not decided.

The domain is covered by regions, each a cone between two radii. A region is settled where rows that are active on all
of it span R^n; the others are halved. If all are settled, every point of the domain has n independent active rows. That
is sufficient for injectivity (Lemma 2; Haider, Ehler and Balazs, arXiv:2307.09672); on a sphere it is not necessary.
All statements hold up to rounding of float64.
"""

import itertools
import math
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from manifold_lab.core import domain
from manifold_lab.core.errors import InputError
from manifold_lab.theory.bias import INDEPENDENT, Facets, Inputs, Rows, facets, least_in_cones, lower_bound, unit_rows

CERTIFIED, REFUTED, NOT_DECIDED = "certified", "refuted", "not decided"
HALVED_INPUTS, REGION_LIMIT = 4, 100_000
"""Inputs above which regions are not halved, and regions after which a domain is given up as not decided."""
TRIED, TRIED_IN_ALL = 8, 64
"""Points without n independent active rows at which two points with one output are sought, in each round of halving."""
ROUNDING = 1e-10
"""Relative to the domain's radius: what is closer to the edge of being active than this is neither in nor out."""
OPPOSITE = 1e-12
"""Length of the sum of two unit rows that are taken for opposite."""
Point = Float[Tensor, " inputs"]
Twins = Float[Tensor, "2 inputs"]
Directions = Float[Tensor, "free inputs"]
Active = Bool[Tensor, "regions ambient"]
"""The rows that are active at every point of a region."""


@dataclass(frozen=True)
class RectifiedLayer:
    """x -> clip(Wx + b, 0, high): ReLU, or ReLU6 with high = 6. A row at or above its upper clip is not active."""

    matrix: Rows
    bias: Float[Tensor, " ambient"]
    high: float = math.inf

    def __post_init__(self) -> None:
        """Refuse what is no layer."""
        matrix = domain.tensor("matrix", self.matrix, "ambient inputs")
        bias = domain.tensor("bias", self.bias, "ambient")
        domain.same_length("matrix, bias", matrix, bias)
        if not float(domain.values("high", self.high, ndim=0)) > 0:
            raise InputError(f"high: {self.high} is not allowed; it must be above 0")

    def __call__(self, x: Inputs) -> Float[Tensor, "points ambient"]:
        """The layer's outputs."""
        return (x @ self.matrix.mT + self.bias).clamp(0, self.high)

    def active(self, x: Inputs) -> Bool[Tensor, "points ambient"]:
        """Rows strictly between the clips."""
        y = x @ self.matrix.mT + self.bias
        return (y > 0) & (y < self.high)

    def around(self, centre: Point) -> "RectifiedLayer":
        """The same layer as a function of x - centre, in float64."""
        matrix = self.matrix.detach().double()
        return RectifiedLayer(matrix, self.bias.detach().double() + matrix @ centre.double(), self.high)


@dataclass(frozen=True)
class Certificate:
    """What is known of a layer on a domain.

    Args:
        verdict: CERTIFIED, REFUTED or NOT_DECIDED.
        method: How it was found, in words.
        singular_value: Where certified, a lower bound on the smallest singular value of the active rows anywhere.
        twins: Where refuted, two points of the domain with one output.
    """

    verdict: str
    method: str
    singular_value: float | None = None
    twins: Twins | None = None


@dataclass(frozen=True)
class _Regions:
    """Cones of unit corners between two radii."""

    corners: Float[Tensor, "regions inputs inputs"]
    inner: Float[Tensor, " regions"]
    outer: Float[Tensor, " regions"]

    def pick(self, which: Bool[Tensor, " regions"]) -> "_Regions":
        return _Regions(self.corners[which], self.inner[which], self.outer[which])

    def centres(self) -> Float[Tensor, "regions inputs"]:
        middle = torch.nn.functional.normalize(self.corners.sum(1), dim=1)
        return middle * (self.inner + self.outer)[:, None] / 2


def certify(layer: RectifiedLayer, radius: float, sphere: bool = False) -> Certificate:
    """Decide injectivity on the ball |x| <= radius, or on the sphere |x| = radius; another centre by `layer.around`.

    In turn: rows that are active on the whole ball; the sufficient bias of facets, up to `bias.FACET_INPUTS` inputs;
    regions that are halved, up to HALVED_INPUTS inputs, which can also refute. Above that it is not decided.

    Raises:
        InputError: for a radius that is not finite and above zero.
    """
    radius = domain.number("radius", radius, 0, above=True)
    layer = layer.around(layer.matrix.new_zeros(layer.matrix.shape[1]))
    inputs = layer.matrix.shape[1]
    if sphere and (ball := certify(layer, radius)).verdict == CERTIFIED:
        return ball
    if found := _spanned(layer, _with_opposites(layer, _on_the_whole_ball(layer, radius), radius, sphere)):
        return Certificate(CERTIFIED, "rows, or one of two opposite rows, that are active on the whole ball", found)
    cones = _cones(layer.matrix)
    if cones is not None and (found := _by_facets(layer, cones, radius, sphere)):
        return Certificate(CERTIFIED, "facets", found)
    if inputs > HALVED_INPUTS:
        why = f"{inputs} inputs are above {HALVED_INPUTS}, and the sufficient bias is exceeded"
        return Certificate(NOT_DECIDED, why)
    return _by_halving(layer, _first(layer, cones, radius, sphere), radius, sphere)


def _cones(matrix: Rows) -> Facets | None:
    """The rows that span the cones of facets; None where there are none."""
    try:
        return facets(matrix)
    except InputError:
        return None


def _on_the_whole_ball(layer: RectifiedLayer, radius: float) -> Bool[Tensor, "1 ambient"]:
    reach = radius * layer.matrix.norm(dim=1)
    return ((layer.bias > reach) & (layer.bias + reach < layer.high))[None]


def _with_opposites(layer: RectifiedLayer, active: Active, radius: float, sphere: bool) -> Active:
    """Also the shorter of two opposite rows, as in [W; -W], where one or the other is active at every point.

    Either sees the same direction, so the shorter one stands for the pair, unless one of them is active anyway. Not
    with an upper clip, nor for a direction with more than two rows.
    """
    unit, lengths = unit_rows(layer.matrix), layer.matrix.norm(dim=1)
    if layer.high < math.inf or not bool((lengths > 0).all()):
        return active
    opposite = torch.cdist(unit, -unit, compute_mode="donot_use_mm_for_euclid_dist") < OPPOSITE
    single, partner = opposite.sum(1) == 1, opposite.int().argmax(1)
    number, shift = torch.arange(len(unit), device=unit.device), layer.bias / lengths
    shorter = (lengths < lengths[partner]) | ((lengths == lengths[partner]) & (number < partner))
    covered = shift + shift[partner] >= (1 if sphere else -1) * ROUNDING * radius
    return active | (single & single[partner] & shorter & covered & ~active[:, partner])


def _spanned(layer: RectifiedLayer, active: Bool[Tensor, "1 ambient"]) -> float | None:
    """Smallest singular value of rows that span R^n; None where they do not."""
    spans, smallest = _spanning(layer.matrix, active)
    return float(smallest) if bool(spans) else None


def _spanning(matrix: Rows, active: Active) -> tuple[Bool[Tensor, " regions"], Float[Tensor, " regions"]]:
    """Whether the active rows span R^n, judged by unit rows, and the smallest singular value of the rows themselves."""
    unit, weight = unit_rows(matrix), active.double()
    smallest = [
        torch.linalg.eigvalsh(torch.einsum("ra,ai,aj->rij", weight, rows, rows))[:, 0].clamp_min(0).sqrt()
        for rows in (unit, matrix)
    ]
    return smallest[0] > INDEPENDENT, smallest[1]


def _by_facets(layer: RectifiedLayer, simplices: Facets, radius: float, sphere: bool) -> float | None:
    """Smallest singular value over the facets where the bias is sufficient and no upper clip is reached."""
    lengths = layer.matrix.norm(dim=1)
    if bool((layer.bias + radius * lengths >= layer.high).any()):
        return None
    unit = unit_rows(layer.matrix)
    if bool((torch.linalg.svdvals(unit[simplices])[:, -1] <= INDEPENDENT).any()):
        return None
    sufficient = least_in_cones(unit, simplices)
    # On the ball a row may be active at the edge only, as a ball is convex; on the sphere it may not.
    edge = ROUNDING if sphere else -ROUNDING
    needed = -layer.bias / (radius * lengths) + edge
    enough = needed <= (sufficient if sphere else sufficient.clamp(max=0))
    return float(torch.linalg.svdvals(layer.matrix[simplices])[:, -1].min()) if bool(enough.all()) else None


def _by_halving(layer: RectifiedLayer, regions: _Regions, radius: float, sphere: bool) -> Certificate:
    seen, tried, smallest = 0, 0, math.inf
    while len(regions.inner):
        seen += len(regions.inner)
        if seen > REGION_LIMIT:
            return Certificate(NOT_DECIDED, f"more than {REGION_LIMIT} regions")
        spans, singular = _spanning(layer.matrix, _active_throughout(layer, regions, radius, sphere))
        smallest = min(smallest, float(torch.where(spans, singular, math.inf).min()))
        regions = regions.pick(~spans)
        centres = regions.centres()
        lacking = centres[~_spanning(layer.matrix, layer.active(centres))[0]]
        for x in lacking[:TRIED]:
            if (twins := find_twins(layer, x, radius, sphere)) is not None:
                return Certificate(REFUTED, "two points with one output", twins=twins)
            tried += 1
        if tried >= TRIED_IN_ALL:
            return Certificate(NOT_DECIDED, "points without n independent active rows, yet no two with one output")
        regions = _halved(regions)
    return Certificate(CERTIFIED, f"{seen} regions", smallest)


def _first(layer: RectifiedLayer, simplices: Facets | None, radius: float, sphere: bool) -> _Regions:
    """The cones of the facets, or where there are none the orthants."""
    if simplices is not None:
        corners = unit_rows(layer.matrix)[simplices]
    else:
        signs = torch.tensor(list(itertools.product((1.0, -1.0), repeat=layer.matrix.shape[1])))
        corners = torch.diag_embed(signs).to(layer.matrix)
    outer = corners.new_full((len(corners),), radius)
    if not sphere and layer.high == math.inf and not bool(layer.bias.any()):
        return _Regions(corners, outer / 2, outer / 2)  # without bias and clip, all radii have the same active rows
    return _Regions(corners, outer if sphere else torch.zeros_like(outer), outer)


def _least_values(matrix: Rows, regions: _Regions) -> Float[Tensor, "regions ambient"]:
    """A lower bound on <w_i, x> over each region."""
    bound = lower_bound((regions.corners @ matrix.mT).amin(1), regions.corners)
    on_sphere = torch.maximum(bound, -matrix.norm(dim=1))
    return torch.where(on_sphere >= 0, regions.inner[:, None] * on_sphere, regions.outer[:, None] * on_sphere)


def _active_throughout(layer: RectifiedLayer, regions: _Regions, radius: float, sphere: bool) -> Active:
    """Rows that are active at every point of a region; on the ball a row may be active at the region's edge only."""
    edge = (1 if sphere else -1) * ROUNDING * radius * layer.matrix.norm(dim=1)
    low = _least_values(layer.matrix, regions) + layer.bias
    high = layer.bias - _least_values(-layer.matrix, regions)
    return _with_opposites(layer, (low >= edge) & (high <= layer.high - edge), radius, sphere)


def _halved(regions: _Regions) -> _Regions:
    """Each region in two, across its longest edge: between two corners, or between the radii."""
    if not len(regions.inner):
        return regions
    number = torch.arange(len(regions.inner), device=regions.inner.device)
    inputs = regions.corners.shape[1]
    angle = torch.cdist(regions.corners, regions.corners).flatten(1)
    first, second = angle.argmax(1) // inputs, angle.argmax(1) % inputs
    middle = torch.nn.functional.normalize(regions.corners[number, first] + regions.corners[number, second], dim=1)
    height = (regions.inner + regions.outer) / 2
    upright = regions.outer - regions.inner > regions.outer * angle.amax(1)
    parts = []
    for corner, inner, outer in ((first, regions.inner, height), (second, height, regions.outer)):
        cut = regions.corners.clone()
        cut[number[~upright], corner[~upright]] = middle[~upright]
        parts.append((cut, torch.where(upright, inner, regions.inner), torch.where(upright, outer, regions.outer)))
    return _Regions(*(torch.cat(part) for part in zip(*parts, strict=True)))


def find_twins(layer: RectifiedLayer, x: Point, radius: float, sphere: bool = False) -> Twins | None:
    """Two points of the ball or sphere with one output, x itself or near it, where the active rows at x do not span.

    Both outputs were computed and agree. None where there are none of this kind; that refutes nothing.
    """
    active = layer.active(x[None])[0]
    _, singular, directions = torch.linalg.svd(unit_rows(layer.matrix)[active], full_matrices=True)
    kernel = directions[int((singular > INDEPENDENT).sum()) :]
    found = (_mirrored if sphere else _shifted)(layer, x, kernel, radius)
    for twin in found:
        pair = torch.stack([x, twin])
        y = layer(pair)
        apart, scale = float((x - twin).norm()), radius * float(layer.matrix.norm(dim=1).max())
        if apart > math.sqrt(ROUNDING) * radius and float((y[0] - y[1]).abs().max()) <= ROUNDING * 1e-3 * scale:
            return pair
    return None


def _shifted(layer: RectifiedLayer, x: Tensor, kernel: Directions, radius: float) -> list[Point]:
    """Along each direction that no active row sees, half as far as the others stay inactive and x in the ball."""
    found = []
    y = layer.matrix @ x + layer.bias
    room = torch.where(y <= 0, -y, y - layer.high)[~layer.active(x[None])[0]]
    for direction in kernel:
        speed = (layer.matrix @ direction).abs()[~layer.active(x[None])[0]]
        free = torch.cat([room / speed.clamp_min(torch.finfo(speed.dtype).tiny), (radius - x.norm())[None]])
        found.append(x + direction * free.min() / 2)
    return found


def _mirrored(_layer: RectifiedLayer, x: Tensor, kernel: Directions, _radius: float) -> list[Point]:
    """The mirror images of x along directions that no active row sees, which stay on the sphere, farthest first."""
    if not len(kernel):
        return []
    towards = torch.nn.functional.normalize(kernel.mT @ (kernel @ x), dim=0)
    aside = kernel - (kernel @ towards)[:, None] * towards
    aside = torch.nn.functional.normalize(aside[aside.norm(dim=1).argmax()], dim=0)
    turns = [math.pi / 2 * 0.5**step for step in range(12)] if len(kernel) > 1 else [math.pi / 2]
    along = [math.sin(turn) * towards + math.cos(turn) * aside for turn in turns]
    return [x - 2 * (x @ direction) * direction for direction in along]
