"""Every public function of theory, metrics and statistics at the edges of its domain.

Each argument of each function is replaced in turn. The function then raises an InputError of one line, or its answer is
right: that of the same numbers in another container, or nan for what is unknown.
"""

import functools
import inspect
import math
import types
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from call_checks import switched_off

from manifold_lab import metrics, stream, theory
from manifold_lab.core import contrasts, statistics
from manifold_lab.core.errors import InputError
from manifold_lab.metrics.active_rows import active_rows
from manifold_lab.metrics.linear import held_out_r2, second_moments
from manifold_lab.theory import RectifiedLayer, certify

APART = (".certificates",)
"""Modules whose answers are no numbers."""
ELSEWHERE = {"counted", "verdict", "held_out_r2", "quiet"}
"""A number or a verdict of anything; moments, which `second_moments` makes."""


@pytest.fixture(autouse=True)
def as_users_run_it():
    """Without the checks of types that the tests put before every function."""
    with switched_off():
        yield


def public() -> dict[str, Callable[..., Any]]:
    """Every public function by name."""
    named = {f"theory.{name}": getattr(theory, name) for name in theory.__all__}
    named |= {f"metrics.{name}": getattr(metrics, name) for name in metrics.__all__}
    named |= {"metrics.active_rows": active_rows, "metrics.second_moments": second_moments}
    own = {f"{module.__name__.rpartition('.')[2]}.{name}": one for module in (statistics, contrasts)
           for name, one in vars(module).items()
           if not name.startswith("_") and getattr(one, "__module__", "") == module.__name__}  # fmt: skip
    return {name: one for name, one in (named | own).items() if isinstance(one, types.FunctionType)
            and one.__name__ not in ELSEWHERE and not one.__module__.endswith(APART)}  # fmt: skip


def normal(*shape: int) -> torch.Tensor:
    return torch.randn(shape, generator=stream(0, "domain", *shape), dtype=torch.float64)


@functools.cache
def common() -> dict[str, Any]:
    """Arguments by name, for which every function answers."""
    cloud = normal(60, 3)
    return {
        "ambient": 6, "inputs": 2, "intrinsic": 2, "needed": 2, "p": 0.3, "radius": 1.5, "bias": 0.1, "k": 4,
        "matrix": normal(3, 6, 2), "x": normal(60, 2), "y": normal(60, 4), "other": normal(60, 2).flip(0),
        "points": cloud, "found": metrics.neighbours(cloud, 5), "discard": 0.1, "codebook": normal(2, 30, 4),
        "sigma": 0.5, "queries": 20, "shares": normal(4).softmax(0), "share": 0.9,
        "covariance": cloud.T @ cloud, "mass": theory.poisson_binomial(np.array([0.2, 0.7])),
        "norms": torch.tensor([1.0, 2.0]), "angle": torch.tensor([0.1, 3.0]), "function": torch.relu,
        "smallest": 0.5, "slope": 0.1, "r2": 0.5, "slopes": (0.0, 1.0), "law": "gaussian", "scale": 1.5, "active_": 3,
        "active": normal(3, 60, 6) > 0, "observed": normal(60, 3), "wanted": normal(60, 2), "tolerance": 1e-12,
        "rows": active_rows(normal(3, 6, 2), normal(3, 60, 6) > 0), "successes": 3, "n": 10,
        "values": np.linspace(0, 1, 20), "before": np.arange(9) > 3,
        "after": np.arange(9) > 5, "first": {0: 1.0, 1: 2.5}, "second": {0: 0.5, 1: 2.25}, "level": 0.9,
        "groups": [([1.0, 2.5, 2.0], 1.0), ([0.5, 1.0], -1.0)], "numerator": 1.0, "denominator": 4.0,
        "covariance_": [[0.1, 0.01], [0.01, 0.2]], "freedom": 5.0, "p_values": {"a": 0.01, "b": 0.5},
        "effect": 1.0, "spread": 2.0, "paired": False, "bound": 0.5, "starts": 4, "steps": 3,
    }  # fmt: skip


ROWS = torch.tensor([[math.cos(turn), math.sin(turn)] for turn in (0.1, 1.0, 1.9, 2.8, 3.7, 4.6, 5.5)]).double()
"""Rows all around the origin, of which all are corners of their convex hull."""


def usual(name: str) -> dict[str, Any]:
    """The same with generators as they begin, and what one function alone calls by such a name."""
    found = common() | {"generator": stream(0), "rng": np.random.default_rng(0)}
    own: dict[str, dict[str, Any]] = {
        "theory.active_probability": {"active": (-1.0, 2.0)},
        "theory.expected_log_volume": {"active": 3},
        "metrics.collapsed_pairs": {"y": normal(3, 60, 4)},
        "theory.poisson_binomial": {"p": np.array([0.2, 0.7])},
        "statistics.bounded_means": {"values": np.linspace(0, 1, 20)[None]},
        "contrasts.ratio": {"covariance": found["covariance_"]},
        "contrasts.replicates_to_decide": {"found": statistics.Estimate(0.6, 0.4, 0.8, 20)},
        **{
            f"theory.{one}": {"matrix": ROWS, "points": normal(60, 2), "sphere": True}
            for one in ("is_omnidirectional", "facet_bias", "basis_bias", "largest_planar_bias")
        },
        "theory.frame_bounds": {"matrix": ROWS, "active": normal(5, 7) > 0},
        "theory.frame_rate": {"lowest": torch.tensor([0.5, 1.0]), "largest": torch.tensor([2.0, 3.0])},
        "theory.frame_algorithm": {"matrix": ROWS, "bias": normal(7), "y": normal(5, 7)},
        "theory.spanning_margin": {"matrix": ROWS, "points": normal(60, 2), "bias": normal(7)},
    }
    return found | own.get(name, {})


def arguments(name: str) -> dict[str, Any]:
    return {one: usual(name)[one] for one in inspect.signature(public()[name]).parameters}


def numbers(answer: Any) -> np.ndarray:
    """All numbers in an answer."""
    if isinstance(answer, torch.Tensor | np.ndarray | int | float | bool):
        values = answer.detach().numpy() if isinstance(answer, torch.Tensor) else answer
        return np.asarray(values, dtype=np.float64).ravel()
    parts = (
        answer.values()
        if isinstance(answer, dict)
        else vars(answer).values()
        if hasattr(answer, "__dict__")
        else answer
    )
    return np.concatenate([numbers(part) for part in parts if part is not None])


def answer(name: str, **changed: Any) -> np.ndarray:
    return numbers(public()[name](**arguments(name) | changed))


def refused(name: str, argument: str, value: Any) -> bool:
    """Whether this is refused as it should be; an answer, of whatever numbers, is no refusal."""
    try:
        answer(name, **{argument: value})
    except InputError as error:
        assert "\n" not in str(error) and len(str(error)) < 250
        return True
    return False


def tensors(kind: Callable[[torch.Tensor], bool]) -> list[tuple[str, str]]:
    return [(name, argument) for name in public() for argument, value in arguments(name).items()
            if isinstance(value, torch.Tensor) and kind(value)]  # fmt: skip


def of_type(*kinds: type) -> list[tuple[str, str]]:
    return [(name, argument) for name in public() for argument, value in arguments(name).items()
            if type(value) in kinds]  # fmt: skip


REAL, FLAGS = tensors(lambda x: x.is_floating_point()), tensors(lambda x: x.dtype == torch.bool)
SAMPLES = {("statistics.mean", "values"), ("statistics.median", "values"), ("statistics.quantiles", "values"),
           ("contrasts.squared_error", "values")}  # fmt: skip
"""Values over draws, of which one may be unknown."""


@pytest.mark.parametrize("name", public())
def test_every_public_function_answers_with_usual_arguments(name):
    assert np.isfinite(answer(name)).all()


def with_first(x: torch.Tensor, value: float) -> torch.Tensor:
    changed = x.clone()
    changed.view(-1)[0] = value
    return changed


@pytest.mark.parametrize(("name", "argument"), REAL)
def test_tensors_that_are_no_finite_numbers_are_refused(name, argument):
    x = arguments(name)[argument]
    unknown = [with_first(x, value) for value in (math.nan, math.inf, -math.inf)]
    for value in (*unknown, x[:0], x.to(torch.complex128), x > 0, x.tolist(), None, "a"):
        assert refused(name, argument, value)


@pytest.mark.parametrize(("name", "argument"), REAL)
def test_the_same_numbers_in_another_tensor_give_the_same_answer(name, argument):
    x = arguments(name)[argument]
    strided = torch.stack([x, x + 1], -1)[..., 0]
    assert not strided.is_contiguous()
    plain = answer(name)
    for same in (strided, x.clone().requires_grad_()):
        np.testing.assert_allclose(answer(name, **{argument: same}), plain, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(("name", "argument"), REAL)
@pytest.mark.parametrize("kind", [torch.bfloat16, torch.float16])
def test_half_precision_is_computed_as_single(name, argument, kind):
    others = {one: value.float() for one, value in arguments(name).items() if (name, one) in REAL}
    x = others[argument].to(kind)
    if argument in ("shares", "covariance"):  # rounded to half precision, they may be none
        return
    found, expected = (answer(name, **others | {argument: value}) for value in (x, x.float()))
    np.testing.assert_allclose(found, expected, rtol=1e-6)


@pytest.mark.parametrize(("name", "argument"), [case for case in REAL if case[1] not in ("shares", "angle")])
def test_whole_numbers_are_computed_as_float64(name, argument):
    x = arguments(name)[argument]
    x = torch.tensor([[2, 1], [1, 2]]) if argument == "covariance" else (10 * x).round().long()
    np.testing.assert_allclose(answer(name, **{argument: x}), answer(name, **{argument: x.double()}), rtol=1e-12)


@pytest.mark.parametrize(("name", "argument"), FLAGS)
def test_activity_is_said_in_booleans(name, argument):
    x = arguments(name)[argument]
    for value in (x.double(), x.long(), x[:0], x[..., :0], x.tolist(), None):
        assert refused(name, argument, value)


EACH_POINT = ("theory.spanning_margin", "theory.basis_bias", "theory.frame_algorithm")
"""Functions of every point by itself."""
ONE_POINT = [case for case in REAL if case[1] in ("points", "x", "y", "other", "observed", "wanted")
             and case[0] not in EACH_POINT]  # fmt: skip


@pytest.mark.parametrize(("name", "argument"), ONE_POINT)
def test_one_point_of_many_is_refused(name, argument):
    x = arguments(name)[argument]
    assert refused(name, argument, x[:, :1] if x.ndim == 3 else x[:1])


@pytest.mark.parametrize(("name", "argument"), of_type(int))
def test_counts_that_are_none_are_refused(name, argument):
    for value in (2.5, 2.0, math.nan, math.inf, "2", None, np.array([1, 2]), torch.tensor(2.0)):
        assert refused(name, argument, value)
    for value in (-1, 0):
        assert refused(name, argument, value) or np.isfinite(answer(name, **{argument: value})).any() or name in (
            "statistics.proportion", "theory.expected_log_volume", "theory.log2_collapsed_fraction")  # fmt: skip


PROBABILITIES = {"p", "share", "r2", "discard", "level"}
POSITIVE = {"sigma", "radius", "smallest", "freedom", "tolerance"}


@pytest.mark.parametrize(("name", "argument"), of_type(float))
def test_numbers_that_are_none_are_refused(name, argument):
    if name == "contrasts.ratio" and argument != "freedom":  # two estimates, which may be unknown
        assert np.isnan(answer(name, **{argument: math.nan})[:3]).all()
        return
    for value in (math.nan, math.inf, -math.inf, "a", object(), 1j):
        assert refused(name, argument, value)
    if argument in PROBABILITIES | POSITIVE:
        assert refused(name, argument, -0.5)
    if argument in PROBABILITIES:
        assert refused(name, argument, 1.5)


@pytest.mark.parametrize(("name", "argument"), of_type(np.ndarray))
def test_arrays_that_are_no_numbers_are_refused_and_one_unknown_value_makes_the_answer_unknown(name, argument):
    x = arguments(name)[argument]
    for value in (x.astype(str), x.astype(np.complex128), None, x[None], "a"):
        assert refused(name, argument, value)
    if x.dtype == np.bool_:
        assert refused(name, argument, x.astype(float))
        return
    unknown = x.copy()
    unknown.ravel()[0] = math.nan
    if (name, argument) in SAMPLES:
        found = answer(name, **{argument: unknown})
        assert np.isnan(found[: 3 if len(found) > 1 else 1]).all()
    else:
        assert refused(name, argument, unknown)
    np.testing.assert_array_equal(answer(name, **{argument: np.repeat(x, 2, -1)[..., ::2]}), answer(name))


def test_moments_are_read_as_they_are_made():
    x = normal(60, 3)
    assert held_out_r2(second_moments(x[::2], x[::2]), second_moments(x[1::2], x[1::2]), 3) == pytest.approx(1)


def row(*values: Any) -> np.ndarray:
    return np.array([values])


LISTED: dict[str, Callable[[], Any]] = {
    "a negative radius": lambda: theory.active_probability(-1, 1),
    "an interval that ends before it begins": lambda: theory.active_probability(1.0, 0.0, (1.0, 0.0)),
    "a probability above one": lambda: theory.poisson_binomial(np.array([1.5, 0.5])),
    "half a row": lambda: theory.preserved_fraction(5.5, 2),
    "a law that does not sum to one": lambda: theory.preserved_of(np.array([0.5, 0.6]), 1),
    "an angle above pi": lambda: theory.arc_cosine_kernel(torch.ones(1), torch.full((1,), 3.5)),
    "three slopes": lambda: theory.best_scale(6, 2, (0.0, 1.0, 2.0)),
    "three inputs in the plane": lambda: theory.smallest_cell_singular_value(normal(3, 6, 3)),
    "a function with a pole": lambda: theory.gain(lambda z: 1 / (z - z[7]), 1.0),
    "more successes than trials": lambda: statistics.proportion(5, 3),
    "values beyond one": lambda: statistics.bounded_means(row(2.0, 3.0), np.random.default_rng(0)),
    "an unknown bounded value": lambda: statistics.bounded_means(row(0.5, math.nan), np.random.default_rng(0)),
    "pairs of unequal length": lambda: statistics.paired_proportion(np.ones(5, bool), np.ones(1, bool)),
    "no pairs": lambda: statistics.paired_proportion(np.ones(0, bool), np.ones(0, bool)),
    "a covariance beyond its variances": lambda: contrasts.ratio(1.0, 2.0, [[1, 3], [3, 1]], 5),
    "a p-value above one": lambda: contrasts.holm({"a": 1.5}),
    "no points": lambda: metrics.effective_rank(normal(0, 3)),
    "one point": lambda: metrics.participation_ratio(normal(1, 3)),
    "shares that do not sum to one": lambda: metrics.participation_ratio_of(torch.ones(3)),
    "shares of nothing": lambda: metrics.directions_for(torch.full((3,), math.nan)),
    "a negative sigma": lambda: metrics.known_channel_information(normal(1, 9, 2), -1, 5, stream(0)),
    "a sigma that is lost in float32": lambda: metrics.known_channel_information(
        normal(1, 9, 2).float(), 1e-5, 5, stream(0)),
    "clouds of unequal length": lambda: metrics.information_imbalance(normal(9, 2), normal(8, 2), stream(0)),
    "active rows of another matrix": lambda: active_rows(normal(3, 6, 2), normal(3, 9, 5) > 0),
    "more neighbours than were found": lambda: metrics.maximum_likelihood(metrics.neighbours(normal(9, 2), 3), 4),
    "every point left out": lambda: metrics.two_nn(metrics.neighbours(normal(9, 2), 3), 1.0),
    "unsorted distances": lambda: metrics.Neighbours(row(2.0, 1.0), 0.0),
}  # fmt: skip


@pytest.mark.parametrize("case", LISTED)
def test_listed_cases_are_refused_in_one_line(case):
    with pytest.raises(ValueError) as refusal:
        LISTED[case]()
    assert isinstance(refusal.value, InputError)
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize("changed", [
    {"matrix": with_first(ROWS, math.nan)}, {"matrix": ROWS[0]}, {"matrix": ROWS[:0]}, {"matrix": ROWS > 0},
    {"bias": torch.zeros(6)}, {"bias": with_first(torch.zeros(7), math.inf)}, {"high": 0.0}, {"high": math.nan},
    {"radius": 0.0}, {"radius": math.nan}, {"radius": math.inf}, {"radius": "a"},
])  # fmt: skip
def test_layers_and_balls_that_are_none_are_not_certified(changed):
    own = {"matrix": ROWS, "bias": torch.zeros(7)} | {k: v for k, v in changed.items() if k != "radius"}
    with pytest.raises(InputError):
        certify(RectifiedLayer(**own), changed.get("radius", 1.0))


def test_a_layer_in_training_is_certified_like_its_numbers():
    plain = certify(RectifiedLayer(ROWS, torch.zeros(7)), 1.0)
    learned = certify(RectifiedLayer(ROWS.clone().requires_grad_(), torch.zeros(7, requires_grad=True)), 1.0)
    assert (plain.verdict, plain.singular_value) == (learned.verdict, learned.singular_value)
