"""What a Monte Carlo of random layers may be asked for: its spec, and the facts of manifolds, laws and decoders.

Imports no torch, so that a command knows its options, and refuses bad ones, before torch is loaded.
"""

from collections.abc import Callable
from dataclasses import dataclass, field

from manifold_lab.core.config import check_types
from manifold_lab.core.errors import InputError, above, at_least, one_of, within
from manifold_lab.core.shown import Shown

PAPER_DIMS = (2, 3, 5, 15, 30)
"""The panels of Figure 1 of the paper."""
DTYPES = ("float64", "float32")
"""Precisions of the arithmetic, by torch's names."""
MAX_COUNT = 10**6
"""Most draws, and most points: a share's interval is 0.1 % wide then."""
SIZES = (1e-6, 1e6)
"""Least and greatest radius, or other number beside x: where squares of it and of x stay within a float32."""
MAX_TURNS = 1e6
DECODERS = {
    "pinv": "pinv (the paper)",
    "pinv_gain": "pinv / gain",
    "pinv_scale": "pinv, best scale",
    "affine": "best affine map",
    "exact": "exact (active rows)",
    "preimage": "middle of the preimages",
}
"""The decoders by name, and their labels in figures."""


@dataclass(frozen=True)
class Kind:
    """One family of manifolds.

    Args:
        inputs: lowest and highest input dimension n.
        default_inputs: n where none is asked for.
        intrinsic: dimension k of the manifold itself, from n.
    """

    inputs: tuple[int, int]
    default_inputs: int
    intrinsic: Callable[[int], int]


MANIFOLDS: dict[str, Kind] = {
    "spiral": Kind((2, 2), 2, lambda _n: 1),
    "circle": Kind((2, 2), 2, lambda _n: 1),
    "line": Kind((2, 1024), 2, lambda _n: 1),
    "trigonometric": Kind((2, 1024), 6, lambda _n: 1),
    "swiss_roll": Kind((3, 3), 3, lambda _n: 2),
    "sphere": Kind((2, 1024), 3, lambda n: n - 1),
    "torus": Kind((3, 3), 3, lambda _n: 2),
    "blob": Kind((2, 1024), 2, lambda n: n),
}
"""The manifolds by name; `manifolds.SAMPLERS` draws their points."""


@dataclass(frozen=True)
class Law:
    """What the closed forms may assume of the rows of a random matrix T.

    Args:
        general_position: almost surely any n rows are independent.
        isotropic: the law does not change under rotations of R^n.
        sign_symmetric: p(T) = p(DT) for diagonal signs D, all that Theorem 1 needs.
        square: T is the first n columns of a square matrix, which its decoder inverts.
    """

    general_position: bool = True
    isotropic: bool = False
    sign_symmetric: bool = True
    square: bool = False


LAWS: dict[str, Law] = {
    "gaussian": Law(isotropic=True),
    "orthonormal": Law(isotropic=True),
    "uniform": Law(),
    "rademacher": Law(general_position=False),
    "zero_pad": Law(isotropic=True, square=True),
}
"""The laws by name, drawn by `embeddings.DRAWS`; every law has entries of mean zero and variance one. `zero_pad` is
the variant of many public scripts: x is padded with zeros to R^m, multiplied by a square Gaussian matrix, and brought
back by that matrix's true inverse."""


@dataclass(frozen=True, repr=False)
class ManifoldSpec(Shown):
    """Which manifold, where it lies and how large it is."""

    name: str = "spiral"
    turns: float = 3.0
    radius: float = 1.0
    inputs: int | None = None

    def __post_init__(self) -> None:
        """Refuse what cannot be built."""
        check_types(self)
        one_of("manifold", self.name, MANIFOLDS)
        above("turns", self.turns, 0)
        within("turns", self.turns, 0, MAX_TURNS)
        if self.turns != ManifoldSpec.turns:
            check_turns(self.name, self.turns)
        within("radius", self.radius, *SIZES)
        low, high = MANIFOLDS[self.name].inputs
        if self.inputs is not None and not low <= self.inputs <= high:
            allowed = str(low) if low == high else f"{low} to {high}"
            raise InputError(f"inputs: {self.inputs} is not allowed for {self.name}; allowed: {allowed}")


def check_turns(name: str, turns: int | float) -> None:
    """Refuse turns of anything but a spiral.

    Raises:
        InputError: naming the manifold.
    """
    if name != "spiral":
        raise InputError(f"turns: {turns:g} is not allowed for {name}; only a spiral has turns")


def dimensions(spec: ManifoldSpec) -> tuple[int, int]:
    """Input dimension n and intrinsic dimension k of a manifold, without sampling it."""
    kind = MANIFOLDS[spec.name]
    inputs = spec.inputs or kind.default_inputs
    return inputs, kind.intrinsic(inputs)


@dataclass(frozen=True, repr=False)
class MonteCarlo(Shown):
    """Everything that changes a number of a Monte Carlo over random layers, and nothing else."""

    dims: tuple[int, ...] = PAPER_DIMS
    draws: int = 1000
    points: int = 1000
    manifold: ManifoldSpec = field(default_factory=ManifoldSpec)
    embedding: str = "gaussian"
    activation: str = "relu"
    bias: float = 0.0
    sigma: float = 0.03
    information_draws: int = 24
    seed: int = 0
    dtype: str = "float64"

    def __post_init__(self) -> None:
        """Refuse what cannot be run."""
        check_types(self)
        if not self.dims:
            raise InputError("dims: none given; give one or more whole numbers of at least 1, as in --dims 2 3 5 15 30")
        for dim in self.dims:
            at_least("dims", dim, 1)
        within("draws", self.draws, 1, MAX_COUNT)
        within("points", self.points, 8, MAX_COUNT)
        at_least("information_draws", self.information_draws, 1)
        within("sigma", self.sigma, *SIZES)
        within("bias", self.bias, -SIZES[1], SIZES[1])
        at_least("seed", self.seed, 0)
        one_of("embedding", self.embedding, LAWS)
        one_of("dtype", self.dtype, DTYPES)
        if LAWS[self.embedding].square and min(self.dims) < self.inputs:
            raise InputError(f"dims: {min(self.dims)} is below the input's dimension, which zero_pad does not allow")

    @property
    def inputs(self) -> int:
        """Input dimension n."""
        return dimensions(self.manifold)[0]
