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

from manifold_lab.decoders import Moments
from manifold_lab.embeddings import Embedding

FEATURES = 6
"""Per point: 1, x1, x2, x1^2, x1 x2, x2^2."""


@dataclass(frozen=True)
class PlaneCurve:
    """Points of the plane sorted by angle, with cumulative sums of their features (all, even and odd points)."""

    angle: Float[Tensor, " points"]
    order: Int[Tensor, " points"]
    sums: Float[Tensor, "halves edges features"]

    @property
    def total(self) -> Float[Tensor, " features"]:
        """Features summed over all points."""
        return self.sums[0, -1]


def plane_curve(x: Float[Tensor, "points 2"]) -> PlaneCurve:
    """Prepare a sample of the plane; `halves` are all points, every other one, and the rest."""
    angle, order = torch.sort(torch.atan2(x[:, 1], x[:, 0]))
    u, v = x[order].unbind(1)
    feature = torch.stack([torch.ones_like(u), u, v, u * u, u * v, v * v], dim=1)
    even = (order % 2 == 0)[:, None]
    halves = torch.stack([feature, feature * even, feature * ~even])
    return PlaneCurve(angle, order, torch.nn.functional.pad(halves.cumsum(1), (0, 0, 1, 0)))


@dataclass(frozen=True)
class Cones:
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

    def _walk(self, per_row: Float[Tensor, "draws ambient features"]) -> Float[Tensor, "draws cones features"]:
        """Sum of `per_row` over the rows that are on, in each cone."""
        steps = torch.cat([per_row, -per_row], dim=1)
        steps = steps.gather(1, self._edges[1][..., None].expand(-1, -1, per_row.shape[-1]))
        first = (per_row * self.on_first[..., None]).sum(1, keepdim=True)
        return torch.cat([first, first + steps.cumsum(1)], dim=1)

    def _weighted(self, per_row: Tensor, left: float, right: float) -> Tensor:
        """Sum of `per_row` times the left or right weight of each row, in each cone."""
        walked = (right - left) * self._walk(per_row)
        return walked if left == 0 else walked + left * per_row.sum(1, keepdim=True)

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
        return self._weighted(torch.ones_like(self.start)[..., None], *self._readable).squeeze(-1).round()

    @cached_property
    def features(self) -> Float[Tensor, "draws cones features"]:
        """Features summed over the points of each cone."""
        inner = self.curve.sums[0][self.index]
        first, last = torch.zeros_like(inner[:, :1]), self.curve.total.expand_as(inner[:, :1])
        return torch.diff(torch.cat([first, inner, last], dim=1), dim=1)

    @cached_property
    def maps(self) -> Float[Tensor, "draws cones 4"]:
        """The 2x2 matrix x -> inverse f(Tx) of each cone, row by row."""
        outer = self.embedding.inverse.mT[..., :, None] * self.embedding.matrix[..., None, :]
        return self._weighted(outer.flatten(-2), *self.slopes)

    def share(self, cone: Float[Tensor, "draws cones"]) -> Float[Tensor, " draws"]:
        """Mean over points of a quantity that is constant on each cone."""
        return (self.features[..., 0] * cone).sum(1) / self.curve.total[0]

    def injective(self) -> Bool[Tensor, " draws"]:
        """Whether the layer is one-to-one on the whole plane: at least two active rows in every cone."""
        return (self.active_count >= 2).all(1)

    def linear_products(
        self, weight: Float[Tensor, "draws cones"] | None = None
    ) -> tuple[Float[Tensor, " draws"], Float[Tensor, " draws"], Float[Tensor, " draws"]]:
        """Sums over points of x_hat.x, x_hat.x_hat and x.x for x_hat = inverse f(Tx), each cone times its `weight`."""
        a, b, c, d = self.maps.unbind(-1)
        features = self.features if weight is None else self.features * weight[..., None]
        uu, uv, vv = features[..., 3:].unbind(-1)
        cross = a * uu + (b + c) * uv + d * vv
        square = (a * a + c * c) * uu + 2 * (a * b + c * d) * uv + (b * b + d * d) * vv
        return cross.sum(1), square.sum(1), (uu + vv).sum(1)

    def exact_error(self) -> Float[Tensor, " draws"]:
        """Relative squared error of least squares on the active rows: what the projection on their span leaves."""
        rows = self.embedding.matrix
        gram = torch.stack([rows[..., 0] ** 2, rows[..., 0] * rows[..., 1], rows[..., 1] ** 2], dim=-1)
        p, q, r = self._weighted(gram, *self._readable).unbind(-1)
        uu, uv, vv = self.features[..., 3:].unbind(-1)
        along = (p * uu + 2 * q * uv + r * vv) / (p + r)
        left = torch.where(self.active_count == 1, uu + vv - along, torch.where(self.active_count == 0, uu + vv, 0))
        return left.sum(1) / (self.curve.total[3] + self.curve.total[5])

    def affine_moments(self) -> tuple[Moments, Moments]:
        """Moments of (x, y) over the points to fit on and over those held out."""
        return self._moments(1), self._moments(2)

    def _moments(self, half: int) -> Moments:
        sums = self.curve.sums[half] / self.curve.sums[half, -1, 0]
        rows, (left, right) = self.embedding.matrix, self.slopes
        x, xx = sums[-1, 1:3], _square(sums[-1, 3:])
        arc = self._arc(sums)
        relu = (rows * arc[..., 1:3]).sum(-1)
        x_relu = (_square(arc[..., 3:]) @ rows[..., None]).squeeze(-1).mT
        step = right - left
        u_relu = rows @ x_relu
        xy = left * xx @ rows.mT + step * x_relu
        yy = left**2 * rows @ xx @ rows.mT + left * step * (u_relu + u_relu.mT) + step**2 * self._relu_relu(sums)
        return Moments(x, left * rows @ x + step * relu, xx, xy, yy)

    def _before(self, sums: Tensor, angle: Tensor) -> Tensor:
        return sums[torch.searchsorted(self.curve.angle, angle)]

    def _arc(self, sums: Tensor) -> Float[Tensor, "draws ambient features"]:
        """Features summed over the half turn on which each row is on."""
        inside = self._before(sums, self.end) - self._before(sums, self.start)
        return inside + self.on_first[..., None] * sums[-1]

    def _relu_relu(self, sums: Tensor) -> Float[Tensor, "draws ambient ambient"]:
        """Mean of ReLU(u_i) ReLU(u_j): rows i and j are both on from the later start to the other's end."""
        until = self._before(sums, self.end) + self.on_first[..., None] * sums[-1]
        since = self._before(sums, self.start)
        ahead = self.start[:, None, :] - self.start[:, :, None]
        first = torch.where(ahead >= 0, ahead, ahead + 2 * math.pi) < math.pi
        rows = self.embedding.matrix
        total = torch.zeros_like(ahead)
        for feature, i, j in ((3, 0, 0), (4, 0, 1), (4, 1, 0), (5, 1, 1)):
            both = until[:, :, None, feature] - since[:, None, :, feature] - (ahead < 0) * sums[-1, feature]
            total = total + rows[:, :, None, i] * rows[:, None, :, j] * both
        return torch.where(first, total, total.mT)


def _square(upper: Float[Tensor, "*shape 3"]) -> Float[Tensor, "*shape 2 2"]:
    return upper[..., [0, 1, 1, 2]].unflatten(-1, (2, 2))


def reconstruct(cones: Cones) -> Float[Tensor, "draws points 2"]:
    """x_hat = inverse f(Tx) of every point, at a cost that does not depend on m: one 2x2 matrix per cone."""
    curve = cones.curve
    points = torch.arange(len(curve.angle), device=curve.angle.device)
    cone = torch.searchsorted(cones.index, points.expand(len(cones.index), -1).contiguous(), right=True)
    maps = cones.maps.gather(1, cone[..., None].expand(-1, -1, 4)).unflatten(-1, (2, 2))
    u = torch.stack([curve.sums[0, 1:, f] - curve.sums[0, :-1, f] for f in (1, 2)], dim=-1)
    x_hat = (maps @ u[..., None]).squeeze(-1)
    return torch.empty_like(x_hat).index_copy_(1, curve.order, x_hat)
