import math

import mpmath
import numpy as np
import pytest
import torch
from scipy import special

from manifold_lab import ACTIVATIONS, custom, named
from manifold_lab.core.errors import InputError

U = torch.linspace(-9, 9, 1801, dtype=torch.float64)
TEXTBOOK = {
    "identity": lambda u: u,
    "relu": lambda u: np.maximum(u, 0),
    "relu6": lambda u: np.clip(u, 0, 6),
    "leaky_relu": lambda u: np.where(u < 0, 0.01 * u, u),
    "gelu": lambda u: u * special.ndtr(u),
    "silu": lambda u: u * special.expit(u),
    "hardswish": lambda u: u * np.clip(u + 3, 0, 6) / 6,
    "tanh": np.tanh,
    "abs": np.abs,
}


@pytest.mark.parametrize("name", sorted(ACTIVATIONS))
def test_functions_are_the_textbooks(name):
    assert named(name)(U).numpy() == pytest.approx(TEXTBOOK[name](U.numpy()), abs=1e-12)


@pytest.mark.parametrize("name", sorted(ACTIVATIONS))
def test_active_outputs_are_those_that_no_other_input_gives(name):
    tail = torch.logspace(1, 6, 50, dtype=torch.float64)
    u = torch.cat([-tail.flip(0), U + 0.0037, tail])  # off the kinks
    values = named(name)(u).numpy()
    active = named(name).is_active(named(name)(u)).numpy()
    for i in range(50, len(u) - 50, 5):
        apart = np.sign(values - values[i])
        once = (apart == 0).sum() == 1 and (np.diff(apart[apart != 0]) != 0).sum() == 1
        assert active[i] == once


@pytest.mark.parametrize("name", [name for name in sorted(ACTIVATIONS) if name != "abs"])
def test_the_inverse_undoes_the_function_on_its_window(name):
    activation = named(name)
    low, high = activation.window
    u = torch.cat([U[U.abs() < 8], torch.logspace(-12, 0.9, 500, dtype=torch.float64)])
    u = u[(low < u) & (high > u)]
    assert len(u) > 300
    assert activation.is_active(activation(u)).all()
    rounding = 1e-8 if name == "tanh" else 3e-15  # atanh amplifies near its ends
    assert activation.inverse(activation(u)).numpy() == pytest.approx(
        u.numpy(), rel=rounding, abs=1e-9 if name == "tanh" else 0
    )


@pytest.mark.parametrize("name", ["gelu", "silu"])
def test_tables_of_inverses_are_right_to_rounding(name):
    y = np.concatenate([np.logspace(-9, 1.7, 60), np.arange(1, 20) / 128, [np.nextafter(9.0, 0), 9.0, 40.0]])
    found = named(name).inverse(torch.from_numpy(y)).numpy()
    gate = mpmath.ncdf if name == "gelu" else (lambda u: 1 / (1 + mpmath.exp(-u)))
    with mpmath.workdps(40):
        for value, u in zip(y, found, strict=True):
            exact = mpmath.findroot(lambda v, value=value: v * gate(v) - mpmath.mpf(value), mpmath.mpf(float(u)))
            assert abs(u / exact - 1) < 6e-16


def test_inverses_keep_shape_and_precision_and_pass_what_lies_outside():
    y = torch.tensor([[-0.1, 0.0], [0.5, 1e6]], dtype=torch.float32)
    found = named("gelu").inverse(y.mT)
    assert found.dtype == torch.float32 and found.shape == (2, 2)
    assert torch.equal(found[0, 0], y[0, 0]) and torch.equal(found[1, 1], y[1, 1])
    assert named("gelu")(found[0, 1]) == pytest.approx(0.5, rel=1e-6)


@pytest.mark.parametrize("name", sorted(ACTIVATIONS))
def test_slopes_are_stated_exactly_where_the_function_is_homogeneous(name):
    activation = named(name)
    homogeneous = torch.allclose(activation(2.5 * U), 2.5 * activation(U), atol=1e-12)
    assert (activation.slopes is not None) == homogeneous
    if activation.slopes:
        left, right = activation.slopes
        assert torch.allclose(activation(U), torch.where(U < 0, left * U, right * U))


@pytest.mark.parametrize("name", sorted(ACTIVATIONS))
def test_folding_functions_are_those_that_are_not_monotone(name):
    assert named(name).folds == bool((named(name)(U).diff() < 0).any())


def test_unknown_activation_names_the_nearest():
    with pytest.raises(InputError, match="did you mean 'relu6'"):
        named("rellu6")


def test_a_name_of_ours_cannot_be_taken():
    with pytest.raises(InputError, match="belongs to a built-in"):
        custom("relu", torch.relu)


@pytest.mark.parametrize(("function", "message"), [
    (torch.log, "must be finite"), (lambda u: 1 / u, "must be finite"), (lambda u: u > 0, "floating-point"),
    (lambda u: u.sum(), "shape"), (lambda _u: 0.0, "tensor"),
])  # fmt: skip
def test_callables_that_are_no_activation_are_refused_at_once(function, message):
    with pytest.raises(InputError, match=message):
        custom("mine", function)


def test_a_callable_that_fails_only_on_large_inputs_is_refused_when_it_does():
    mine = custom("mine", lambda u: torch.where(u > 100, math.nan, u))
    assert torch.equal(mine(U), U)
    with pytest.raises(InputError, match=r"mine\(200\) is nan"):
        mine(torch.tensor([1.0, 200.0]))


def test_a_callable_without_a_window_does_not_say_what_is_active():
    with pytest.raises(InputError, match="give window"):
        custom("mine", torch.nn.functional.softplus).is_active(U)


def test_a_callable_with_a_window_is_read_back_there():
    mine = custom("shifted", lambda u: torch.relu(u - 1), window=(1.0, math.inf), inverse=lambda y: y + 1)
    active = mine.is_active(mine(U))
    assert torch.equal(active, U > 1)
    assert torch.allclose(mine.inverse(mine(U))[active], U[active])


@pytest.mark.parametrize("name", sorted(ACTIVATIONS))
def test_functions_are_compiled_without_a_break(name):
    compiled = torch.compile(named(name).function, backend="eager", fullgraph=True)
    assert torch.equal(compiled(U), named(name)(U))
