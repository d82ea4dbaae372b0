"""A classification task whose information content is known: regions of a manifold, embedded in R^n."""

import math
from dataclasses import dataclass, field

import torch
from jaxtyping import Float, Int
from torch import Tensor

from manifold_lab.core.config import check_types
from manifold_lab.core.errors import at_least, one_of
from manifold_lab.core.random_streams import stream
from manifold_lab.data.in_memory import InMemory, Split, hold_out, in_memory
from manifold_lab.data.interface import DatasetInfo
from manifold_lab.random_layer import embeddings, manifolds
from manifold_lab.random_layer.manifolds import ManifoldSpec

TEST_SHARE = 0.2


@dataclass(frozen=True)
class ManifoldTask:
    """Which of `classes` regions of the manifold a point lies in, seen in R^ambient.

    With `centres` = 0 the regions are stretches of equal size along `manifolds.Points.position`, so that a class is a
    connected arc of a curve; on a surface one coordinate then tells the class. With more, every class is that many
    points of the manifold, drawn at random, and all points that none of another class is nearer to: with more centres
    in all than dimensions, every coordinate tells of the class.
    """

    manifold: ManifoldSpec = field(default_factory=lambda: ManifoldSpec("trigonometric"))
    ambient: int = 16
    embedding: str = "orthonormal"
    classes: int = 8
    points: int = 4000
    centres: int = 0

    def __post_init__(self) -> None:
        """Refuse what cannot be sampled."""
        check_types(self)
        one_of("embedding", self.embedding, embeddings.LAWS)
        at_least("classes", self.classes, 2)
        at_least("ambient", self.ambient, manifolds.dimensions(self.manifold)[0])
        at_least("points", self.points, 10 * self.classes * max(1, self.centres))
        at_least("centres", self.centres, 0)

    @property
    def information(self) -> float:
        """Nats that a point tells of its class, at most: just that for stretches, which are equally likely."""
        return math.log(self.classes)


def points(task: ManifoldTask, seed: int) -> tuple[Float[Tensor, "points ambient 1 1"], Tensor]:
    """Embedded points of a task in float32, as images of one pixel, and their classes."""
    sampled = manifolds.sample(task.manifold, task.points, stream(seed, "manifold"))
    shape = (1, task.ambient, sampled.x.shape[1])
    matrix = embeddings.draw_embedding(task.embedding, shape, stream(seed, "embedding")).matrix[0]
    x = (sampled.x @ matrix.T).to(torch.float32)
    return x[:, :, None, None], classes(task, sampled, seed)


def classes(task: ManifoldTask, sampled: manifolds.Points, seed: int) -> Int[Tensor, " points"]:
    """The class of every point of a sample."""
    if not task.centres:
        rank = sampled.position.argsort(stable=True).argsort(stable=True)
        return rank * task.classes // len(rank)
    chosen = torch.randperm(len(sampled.x), generator=stream(seed, "centres"))[: task.centres * task.classes]
    return torch.cdist(sampled.x, sampled.x[chosen]).argmin(1) % task.classes


def manifold(task: ManifoldTask, *, share: int | float, seed: int) -> InMemory:
    """The task's points in three splits; one point in five is for the test.

    All channels are scaled alike, by the root of their mean square, and nothing is moved: the manifold keeps its form.
    """
    x, y = points(task, seed)
    kept, held = hold_out(y, TEST_SHARE, stream(seed, "test"))
    scale = x[kept].square().mean().sqrt().item()
    names = tuple(f"{'region' if task.centres else 'stretch'} {k}" for k in range(task.classes))
    facts = DatasetInfo("manifold", names, (0.0,) * task.ambient, (scale,) * task.ambient, resolution=1, full_scale=1)
    everything = Split(x, y)
    return in_memory(facts, everything.take(kept), everything.take(held), share=share, seed=seed)
