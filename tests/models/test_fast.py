"""The compiled passes of training against torch's own layers in float64, and what is left to torch."""

import copy
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from manifold_lab import stream
from manifold_lab.core.hooks import outputs_of
from manifold_lab.data import load
from manifold_lab.models.fast import norm_and_activation, plain_layers
from manifold_lab.models.layers import Activate, Convolution
from manifold_lab.models.mobilenet import build
from manifold_lab.models.specs import DIGITS
from manifold_lab.training import Bookkeeping, Recipe, train

ROUNDING = 2.0**-23
SHAPES = {"8 channels": (16, 8, 16, 16), "odd": (7, 24, 11, 10), "48 channels": (9, 48, 8, 8), "wide": (32, 336, 2, 2)}
NAMES = ("linear", "relu", "relu6", "leaky_relu")
OURS = ("NormActivationBackward", "TinyDepthwiseBackward")
Work = Callable[[Tensor], Tensor]


def images(*shape: int, name: str = "x") -> Tensor:
    """Channels-last, away from mean zero and deviation one."""
    x = 3 * torch.randn(shape, generator=stream(0, name)) + 2
    return x.contiguous(memory_format=torch.channels_last)


def norm(channels: int) -> nn.BatchNorm2d:
    layer = nn.BatchNorm2d(channels)
    nn.init.uniform_(layer.weight, -0.5, 2, generator=stream(0, "weight"))
    nn.init.uniform_(layer.bias, -1, 5, generator=stream(0, "bias"))
    return layer


def is_ours(y: Tensor) -> bool:
    return y.grad_fn is not None and y.grad_fn.name() in OURS


def results(layer: nn.Module, work: Work, x: Tensor, ours: bool = True) -> dict[str, Tensor]:
    """Output, state afterwards, and the gradients of a sum with fixed weights."""
    x = x.clone().requires_grad_()
    y = work(x)
    y.backward(images(*y.shape, name="dy").to(y.dtype))
    assert x.grad is not None and is_ours(y) == ours
    found = {"y": y.detach(), "dx": x.grad, **layer.state_dict()}
    return found | {f"d{name}": weight.grad for name, weight in layer.named_parameters() if weight.grad is not None}


def agree(found: dict[str, Tensor], exact: dict[str, Tensor], errors: float) -> None:
    """Within so many roundings of the largest number of each."""
    assert found.keys() == exact.keys()
    for name, value in exact.items():
        error = float((found[name] - value).abs().max()) / max(float(value.abs().max()), 1.0)
        assert error <= errors * ROUNDING, f"{name}: {error / ROUNDING} roundings"


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
def test_norm_and_activation_are_those_of_float64(shape: tuple[int, ...], name: str) -> None:
    x, layer, act = images(*shape), norm(shape[1]), Activate(name)
    twin = copy.deepcopy(layer).double()
    found = results(layer, lambda x: norm_and_activation(layer, act, x), x)
    agree(found, results(twin, lambda x: act(twin(x)), x.double(), False), 32)


def test_a_large_mean_costs_the_variance_no_digits() -> None:
    x = images(16, 16, 8, 8) + 3000
    layer = nn.BatchNorm2d(16, momentum=1.0)
    assert is_ours(norm_and_activation(layer, Activate("linear"), x))
    exact = x.double().var((0, 2, 3))
    assert layer.running_var is not None
    assert float((layer.running_var.double() / exact - 1).abs().max()) < 8 * ROUNDING


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("bias", [0.0, 6.0])
def test_at_the_ends_of_the_window_the_gradient_is_torch_s(name: str, bias: float) -> None:
    x = torch.ones(16, 16, 8, 8).contiguous(memory_format=torch.channels_last)
    x[::2] = -1  # mean 0, variance 1: 6 x + bias is -6, 0, 6 or 12 exactly
    layer, act = nn.BatchNorm2d(16, eps=1e-30), Activate(name)
    nn.init.constant_(layer.weight, 6.0)
    nn.init.constant_(layer.bias, bias)
    twin = copy.deepcopy(layer).double()
    found = results(layer, lambda x: norm_and_activation(layer, act, x), x)
    agree(found, results(twin, lambda x: act(twin(x)), x.double(), False), 32)


@pytest.mark.parametrize("kind", [torch.channels_last, torch.contiguous_format])
@pytest.mark.parametrize(
    "size", [(1, 1, 1), (2, 1, 1), (2, 2, 1), (1, 2, 1), (1, 1, 2), (2, 3, 2), (3, 3, 2), (3, 1, 2)]
)
def test_depthwise_convolutions_of_tiny_maps_are_those_of_float64(
    size: tuple[int, int, int], kind: torch.memory_format
) -> None:
    height, width, stride = size
    x = images(30, 24, height, width).contiguous(memory_format=kind)
    layer: nn.Module = Convolution((24, 24), 3, stride, 24)
    nn.init.normal_(layer.get_parameter("weight"), generator=stream(0, "weight"))
    twin = copy.deepcopy(layer).double()
    with plain_layers():
        exact = results(twin, twin, x.double(), False)
    agree(results(layer, layer, x), exact, 32)


@pytest.mark.parametrize("channels", [(24, 144), (96, 16), (56, 1280)])
def test_pointwise_convolutions_of_small_maps_are_those_of_float64(channels: tuple[int, int]) -> None:
    x, layer = images(64, channels[0], 4, 4), Convolution(channels, 1)
    nn.init.normal_(layer.weight, generator=stream(0, "weight"))
    twin = copy.deepcopy(layer).double()
    y = layer(x.requires_grad_())
    assert y.grad_fn.name() == "PermuteBackward0" and y.is_contiguous(memory_format=torch.channels_last)
    agree(results(layer, layer, x.detach(), False), results(twin, twin, x.detach().double(), False), 64)


def tiny(x: Tensor) -> Tensor:
    layer = Convolution((x.shape[1],) * 2, 3, 1, x.shape[1])
    nn.init.normal_(layer.weight, generator=stream(0, "weight"))
    return layer(x)


def normed(x: Tensor, act: str = "relu6") -> Tensor:
    layer = norm(x.shape[1])
    return norm_and_activation(layer.double() if x.dtype == torch.float64 else layer, Activate(act), x)


@pytest.mark.parametrize(("work", "size"), [(tiny, 2), (normed, 8)])
def test_second_derivatives_are_torch_s(work: Work, size: int) -> None:
    found = []
    for layers in (torch.enable_grad, plain_layers):
        x = images(16, 16, size, size).requires_grad_()
        with layers():
            y = work(x)
        (dx,) = torch.autograd.grad((y**3).sum(), x, create_graph=True)
        found.append(torch.autograd.grad((dx**2).sum(), x)[0])
    assert float((found[0] - found[1]).abs().max()) <= 1e-5 * float(found[1].abs().max())


@pytest.mark.parametrize(("work", "size"), [(tiny, 2), (normed, 16)])
def test_what_is_left_to_torch(work: Work, size: int) -> None:
    x = images(16, 16, size, size).requires_grad_()
    assert is_ours(work(x))
    for context in (
        torch.autocast("cpu", torch.bfloat16),
        torch.no_grad(),
        plain_layers(),
        FlopCounterMode(display=False),
    ):
        with context:
            assert not is_ours(work(x))
    gradient = torch.func.grad(lambda x: work(x).sum())(x.detach())
    assert gradient.shape == x.shape


def test_what_norms_leave_to_torch() -> None:
    x = images(16, 16, 16, 16).requires_grad_()
    assert not any(map(is_ours, (normed(x.contiguous()), normed(x[:1]), normed(x.double()), normed(x, "gelu"))))
    for layer in (
        nn.BatchNorm2d(16, momentum=None),
        nn.BatchNorm2d(16, track_running_stats=False),
        nn.GroupNorm(4, 16),
    ):
        assert not is_ours(norm_and_activation(layer, nn.Identity(), x))
    torch.set_num_threads(2)
    try:
        assert not is_ours(normed(x))
    finally:
        torch.set_num_threads(1)


def test_larger_maps_and_evaluation_are_left_to_torch() -> None:
    assert not is_ours(tiny(images(4, 8, 3, 3).requires_grad_()))
    for layer, size in ((Convolution((96, 96), 3, 1, 96), 2), (Convolution((96, 96), 1), 4)):
        x = images(64, 96, size, size).requires_grad_()
        assert layer(x).grad_fn.name() != "ConvolutionBackward0"
        assert layer.eval()(x).grad_fn.name() == "ConvolutionBackward0"


def test_hooked_and_replaced_modules_are_called() -> None:
    x = images(16, 16, 8, 8).requires_grad_()
    layer, act = norm(16), Activate("relu6")
    ours = norm_and_activation(layer, act, x)
    with outputs_of([layer, act]) as seen:
        y = norm_and_activation(layer, act, x)
    assert len(seen) == 2 and seen[1] is y and torch.allclose(y, ours, atol=1e-5)
    with outputs_of([act]) as seen:
        y = norm_and_activation(layer, act, x)
    assert len(seen) == 1 and seen[0] is y and torch.allclose(y, ours, atol=1e-5)
    layer.forward = lambda x: 0 * x  # type: ignore[method-assign, assignment]
    assert not norm_and_activation(layer, act, x).any()
    assert not is_ours(norm_and_activation(norm(16).eval(), act, x))


def curve(recipe: Recipe) -> tuple[list[float], dict[str, Tensor]]:
    """Validation losses of a short training, and the state after it."""
    network = build(DIGITS, 0)
    outcome = train(network, load("digits"), recipe, seed=0, bookkeeping=Bookkeeping(bar=False))
    return [row.validation.loss for row in outcome.history], network.state_dict()


def test_a_training_has_the_same_curve_to_rounding_and_the_same_bits_again() -> None:
    recipe = Recipe(images=12 * 64, batch_size=64, evaluate_every=4 * 64)
    losses, state = curve(recipe)
    again, same = curve(recipe)
    with plain_layers():
        plain, other = curve(recipe)
    assert losses == again and all(torch.equal(state[name], same[name]) for name in state)
    assert losses == pytest.approx(plain, rel=1e-3)
    assert any(not torch.equal(state[name], other[name]) for name in state), "torch's own layers were used in both"
