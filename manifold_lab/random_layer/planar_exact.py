"""Plane curves through piecewise-linear layers, exactly and without ever forming y.

m rows cut the plane into at most 2m cones. On each cone f(Tx) is one linear map, so a decoder that is linear in y acts
as one fixed 2x2 matrix there, and the sum of any quadratic error over the points of the cone follows from their count,
sum and second moments. These are differences of cumulative sums along the angle, made once per curve; going round,
each edge of a cone switches one row, so the matrices are cumulative sums as well. A draw costs O(m log m) instead of
O(m * points). For f(u) = slope * u with a left and a right slope, no bias, and rows in general position.
"""

import math
from dataclasses import dataclass
from functools import cached_property

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from manifold_lab.core.shown import Shown
from manifold_lab.random_layer.decoders import AffineMoments, Products
from manifold_lab.random_layer.embeddings import Embedding


@dataclass(frozen=True, repr=False)
class PlaneCurve(Shown):
    """Points of the plane sorted by angle, with cumulative sums of 1, x1, x2, x1^2, x1 x2, x2^2."""

    angle: Float[Tensor, " points"]
    order: Int[Tensor, " points"]
    sums: Float[Tensor, "halves features edges"]

    @property
    def total(self) -> Float[Tensor, " features"]:
        """Features summed over all points."""
        return self.sums[0, :, -1]


def plane_curve(x: Float[Tensor, "points 2"]) -> PlaneCurve:
    """Prepare a sample of the plane; the halves of the sums are all points, every other one, and the rest."""
    angle, order = torch.sort(torch.atan2(x[:, 1], x[:, 0]))
    u, v = x[order].unbind(1)
    feature = torch.stack([torch.ones_like(u), u, v, u * u, u * v, v * v])
    even = order % 2 == 0
    halves = torch.stack([feature, feature * even, feature * ~even])
    return PlaneCurve(angle, order, torch.nn.functional.pad(halves.cumsum(-1), (1, 0)))


@dataclass(frozen=True, repr=False)
class Cones(Shown):
    """A batch of layers f(Tx) on one plane curve, seen cone by cone."""

    curve: PlaneCurve
    embedding: Embedding
    slopes: tuple[float, float]

    @cached_property
    def start(self) -> Float[Tensor, "draws ambient"]:
        """The angle in [-pi, pi) at which each row switches on; it stays on for half a turn."""
        rows = self.embedding.matrix
        angle = torch.atan2(rows[..., 1], rows[..., 0]) - math.pi / 2
        return torch.where(angle < -math.pi, angle + 2 * math.pi, angle)

    @cached_property
    def end(self) -> Float[Tensor, "draws ambient"]:
        """The angle in [-pi, pi) at which each row switches off."""
        return torch.where(self.on_first, self.start - math.pi, self.start + math.pi)

    @property
    def on_first(self) -> Bool[Tensor, "draws ambient"]:
        """Rows that are on at the angle -pi, where the walk around begins."""
        return self.start >= 0

    @cached_property
    def _edges(self) -> tuple[Tensor, Tensor]:
        return torch.sort(torch.cat([self.start, self.end], dim=1), dim=1)

    @cached_property
    def index(self) -> Int[Tensor, "draws edges"]:
        """How many points lie before each edge, in the order of angles."""
        return torch.searchsorted(self.curve.angle, self._edges[0])

    def _walk(self, per_row: Float[Tensor, "features draws ambient"]) -> Float[Tensor, "features draws cones"]:
        """Sum of `per_row` over the rows that are on, in each cone."""
        steps = torch.cat([per_row, -per_row], dim=-1)
        steps = steps.gather(-1, self._edges[1].expand(len(per_row), -1, -1))
        first = (per_row * self.on_first).sum(-1, keepdim=True)
        return torch.cat([first, steps], dim=-1).cumsum(-1)

    def _weighted(self, per_row: Tensor, left: float, right: float) -> Tensor:
        """Sum of `per_row` times the left or right weight of each row, in each cone."""
        if left == 0:
            return self._walk(right * per_row)
        return self._walk((right - left) * per_row) + left * per_row.sum(-1, keepdim=True)

    @property
    def _readable(self) -> tuple[float, float]:
        """Whether an output left and right of 0 has exactly one preimage, as weights."""
        left, right = self.slopes
        if left * right < 0:
            return 0.0, 0.0
        return float(left != 0), float(right != 0)

    @cached_property
    def active_count(self) -> Float[Tensor, "draws cones"]:
        """Active rows c in each cone."""
        return self._weighted(torch.ones_like(self.start)[None], *self._readable)[0].round()

    def _per_cone(self, feature: int) -> Float[Tensor, "draws cones"]:
        """One feature summed over the points of each cone."""
        before = torch.nn.functional.pad(self.curve.sums[0, feature][self.index], (1, 1))
        before[:, -1] = self.curve.total[feature]
        return torch.diff(before, dim=1)

    @cached_property
    def mass(self) -> Float[Tensor, "draws cones"]:
        """Points in each cone."""
        return self._per_cone(0)

    @cached_property
    def squares(self) -> tuple[Float[Tensor, "draws cones"], ...]:
        """x1^2, x1 x2 and x2^2, summed over the points of each cone."""
        return self._per_cone(3), self._per_cone(4), self._per_cone(5)

    @cached_property
    def maps(self) -> Float[Tensor, "4 draws cones"]:
        """The 2x2 matrix x -> inverse f(Tx) of each cone, row by row."""
        outer = [self.embedding.inverse[:, i] * self.embedding.matrix[..., j] for i in (0, 1) for j in (0, 1)]
        return self._weighted(torch.stack(outer), *self.slopes)

    def share(self, cone: Float[Tensor, "draws cones"]) -> Float[Tensor, " draws"]:
        """Mean over points of a quantity that is constant on each cone."""
        return (self.mass * cone).sum(1) / self.curve.total[0]

    def injective(self) -> Bool[Tensor, " draws"]:
        """Whether the layer is one-to-one on the whole plane: at least two active rows in every cone."""
        return (self.active_count >= 2).all(1)

    def linear_products(self, weight: Float[Tensor, "draws cones"] | None = None) -> Products:
        """Sums over points of x_hat.x, x_hat.x_hat and x.x for x_hat = inverse f(Tx), each cone times its `weight`."""
        (a, b, c, d), (uu, uv, vv) = self.maps, self.squares
        if weight is not None:
            uu, uv, vv = uu * weight, uv * weight, vv * weight
        cross = a * uu + (b + c) * uv + d * vv
        square = (a * a + c * c) * uu + 2 * (a * b + c * d) * uv + (b * b + d * d) * vv
        return cross.sum(1), square.sum(1), (uu + vv).sum(1)

    def exact_error(self) -> Float[Tensor, " draws"]:
        """Relative squared error of least squares on the active rows: what the projection on their span leaves."""
        u, v = self.embedding.matrix.unbind(-1)
        p, q, r = self._weighted(torch.stack([u * u, u * v, v * v]), *self._readable)
        uu, uv, vv = self.squares
        along = (p * uu + 2 * q * uv + r * vv) / (p + r)
        left = torch.where(self.active_count == 1, uu + vv - along, torch.where(self.active_count == 0, uu + vv, 0))
        return left.sum(1) / (self.curve.total[3] + self.curve.total[5])

    def affine_moments(self) -> tuple[AffineMoments, AffineMoments]:
        """Moments of (x, y) over the points to fit on and over those held out."""
        return self._moments(1), self._moments(2)

    def _moments(self, half: int) -> AffineMoments:
        sums = self.curve.sums[half] / self.curve.sums[half, 0, -1]
        rows, (left, right) = self.embedding.matrix, self.slopes
        x, xx = sums[1:3, -1], _square(sums[3:, -1])
        until, since = self._before(sums, self.end), self._before(sums, self.start)
        until = until + self.on_first * sums[:, -1, None, None]
        arc = (until - since).movedim(0, -1)
        relu = (rows * arc[..., 1:3]).sum(-1)
        x_relu = (_square(arc[..., 3:]) @ rows[..., None]).squeeze(-1).mT
        step = right - left
        u_relu = rows @ x_relu
        xy = left * xx @ rows.mT + step * x_relu
        relu_relu = self._relu_relu(until, since, sums[:, -1])
        yy = left**2 * rows @ xx @ rows.mT + left * step * (u_relu + u_relu.mT) + step**2 * relu_relu
        return AffineMoments(x, left * rows @ x + step * relu, xx, xy, yy)

    def _before(self, sums: Tensor, angle: Tensor) -> Float[Tensor, "features draws ambient"]:
        """Features summed over the points before each angle."""
        return sums[:, torch.searchsorted(self.curve.angle, angle)]

    def _relu_relu(self, until: Tensor, since: Tensor, total: Tensor) -> Float[Tensor, "draws ambient ambient"]:
        """Mean of ReLU(u_i) ReLU(u_j): rows i and j are both on from the later start to the other's end."""
        ahead = self.start[:, None, :] - self.start[:, :, None]
        wrapped = ahead < 0
        first = torch.where(wrapped, ahead + 2 * math.pi, ahead) < math.pi
        u, v = self.embedding.matrix.unbind(-1)
        uv = u[:, :, None] * v[:, None, :]
        products = (u[:, :, None] * u[:, None, :], uv + uv.mT, v[:, :, None] * v[:, None, :])
        both = torch.zeros_like(ahead)
        for feature, product in zip((3, 4, 5), products, strict=True):
            shared = until[feature][:, :, None] - since[feature][:, None, :] - wrapped * total[feature]
            both += product * shared
        return torch.where(first, both, both.mT)


def _square(upper: Float[Tensor, "*shape 3"]) -> Float[Tensor, "*shape 2 2"]:
    return upper[..., [0, 1, 1, 2]].unflatten(-1, (2, 2))


def reconstruct(cones: Cones) -> Float[Tensor, "draws points 2"]:
    """x_hat = inverse f(Tx) of every point, at a cost that hardly depends on m: each cone has one 2x2 matrix."""
    curve, embedding = cones.curve, cones.embedding
    coordinates = torch.diff(curve.sums[0, 1:3], dim=-1)
    if coordinates.device.type != "cpu":
        return _reconstruct_by_steps(cones, coordinates)
    from manifold_lab.random_layer import plane_kernel  # noqa: PLC0415  (numba takes half a second to load)

    result = coordinates.new_empty(len(embedding.matrix), len(curve.angle), 2)
    layers = embedding.matrix.contiguous().numpy(), embedding.inverse.contiguous().numpy()
    left, right = map(float, cones.slopes)
    seen = curve.angle.numpy(), (coordinates[0].numpy(), coordinates[1].numpy()), curve.order.numpy()
    plane_kernel.decode_plane(layers, (left, right), seen, result.numpy())
    return result


def _reconstruct_by_steps(cones: Cones, coordinates: Float[Tensor, "2 points"]) -> Float[Tensor, "draws points 2"]:
    """The same without a loop: a point's matrix is a running sum, along the angle, of steps from cone to cone."""
    curve, maps = cones.curve, cones.maps
    steps = maps.new_zeros(4, maps.shape[1], len(curve.angle) + 1)
    steps[..., 0] = maps[..., 0]
    steps.scatter_add_(-1, cones.index.expand(4, -1, -1), torch.diff(maps, dim=-1))
    a, b, c, d = steps.cumsum(-1)[..., :-1]
    u, v = coordinates
    return torch.stack([a * u + b * v, c * u + d * v], dim=-1)[:, curve.order.argsort()]
