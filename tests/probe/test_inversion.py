"""The way back through layers: exact where it must be, refused where it cannot be, and searches that prove no more."""

import math
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from manifold_lab import activations
from manifold_lab.core.errors import InputError
from manifold_lab.core.random_streams import stream
from manifold_lab.probe import image_search, inversion
from manifold_lab.probe.inversion import EXACT, FOUND, LOST, NOT_DECIDED, Layer, Step

RELU, RELU6 = activations.named("relu"), activations.named("relu6")


def draw(*shape: int, name: str = "x") -> Tensor:
    return torch.randn(shape, generator=stream(0, name), dtype=torch.float64)


def convolution(inputs: int, outputs: int, kernel: int, **options: Any) -> nn.Conv2d:
    made = nn.Conv2d(inputs, outputs, kernel, dtype=torch.float64, **options)
    for name, part in made.named_parameters():
        part.data = draw(*part.shape, name=f"{inputs} {outputs} {kernel} {name}") / part[0].numel() ** 0.5
    return made.requires_grad_(False)


def normed(channels: int) -> nn.BatchNorm2d:
    norm = nn.BatchNorm2d(channels, dtype=torch.float64).eval().requires_grad_(False)
    norm.weight.copy_(draw(channels, name="scale").abs() + 0.5)
    norm.bias.copy_(draw(channels, name="shift") / 10)
    norm.running_mean = draw(channels, name="mean") / 10
    norm.running_var = draw(channels, name="variance").abs() + 0.5
    return norm


def wide() -> list[Step]:
    """Two layers with many more outputs than inputs."""
    first = Layer(convolution(3, 24, 3, padding=1), normed(24), RELU6)
    return [Step("first", first, (3, 6, 5)), Step("second", Layer(convolution(24, 160, 1), None, RELU), (24, 6, 5))]


def through(steps: list[Step], x: Tensor) -> Tensor:
    for step in steps:
        assert step.layer is not None
        x = step.layer(x)
    return x


def test_an_image_comes_back_exactly_through_wide_layers() -> None:
    x, steps = draw(3, 3, 6, 5), wide()
    found, stopped = inversion.undo_all(steps, through(steps, x))
    assert stopped == ["", "", ""] and bool(found.spans.all())
    assert float((found.x - x).abs().max()) < 1e-5


def test_a_layer_that_loses_one_channel_is_not_exact_and_is_named() -> None:
    x, steps = draw(2, 3, 6, 5), wide()
    assert steps[1].layer is not None
    steps[1].layer.operator.weight[:, 7] = 0  # no output hears of it, whatever is active
    found, stopped = inversion.undo_all(steps, through(steps, x))
    assert stopped == ["second", "second"] and not bool(found.spans.any())
    before = wide()[:1]
    narrow = [*before, Step("narrow", Layer(convolution(24, 23, 1), None, activations.named("identity")), (24, 6, 5))]
    assert inversion.undo_all(narrow, through(narrow, x))[1] == ["narrow", "narrow"]


def test_a_step_without_an_inverse_stops_the_way_back_above_it_alone() -> None:
    x, steps = draw(1, 3, 6, 5), wide()
    y = through(steps, x)
    assert inversion.undo_all([Step("sum", None, (3, 6, 5)), *steps], y)[1] == ["sum"]


def test_images_are_judged_each_by_its_own_active_outputs() -> None:
    layer = Layer(convolution(3, 24, 3, padding=1), None, RELU)
    x = torch.cat([draw(1, 3, 6, 5), -1e3 * torch.ones(1, 3, 6, 5)])
    layer.operator.weight[:] = layer.operator.weight.abs()  # so that an image far below zero leaves nothing active
    found = inversion.undo(layer, layer(x), (3, 6, 5))
    assert found.spans.tolist() == [True, False]


@pytest.mark.parametrize(
    "options",
    [{}, {"padding": 1}, {"padding": 1, "stride": 2}, {"dilation": 2}, {"groups": 2, "padding": 1}, {"groups": 4}],
    ids=str,
)
def test_a_convolution_is_its_matrix(options: dict[str, Any]) -> None:
    operator, x = convolution(4, 8, 3, **options), draw(1, 4, 7, 6)
    matrix = inversion.convolution_matrix(operator, operator.weight.flatten(1), (4, 7, 6))
    wanted = functional.conv2d(x, operator.weight, **options)
    assert np.allclose(matrix @ x.flatten().numpy(), wanted.flatten().numpy(), atol=1e-12)


def test_the_smallest_singular_value_is_that_of_the_dense_matrix_above_what_is_decomposed_densely() -> None:
    layer, x = Layer(convolution(3, 12, 3, padding=1), None, RELU), draw(1, 3, 16, 14)
    y = layer(x)
    matrix = inversion.convolution_matrix(layer.operator, layer.operator.weight.flatten(1), (3, 16, 14))
    assert matrix.shape[1] > inversion.DENSE
    dense = matrix.toarray()[y.flatten().numpy() > 0]
    least = float(inversion.undo(layer, y, (3, 16, 14)).singular_value)
    assert math.isclose(least, np.linalg.svd(dense, compute_uv=False)[-1], rel_tol=1e-6)


class PadsItself(nn.Conv2d):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(functional.pad(x, (0, 2, 0, 2)))


def test_what_is_no_fixed_convolution_is_refused() -> None:
    y = torch.ones(1, 40, 4, 4, dtype=torch.float64)
    itself = PadsItself(2, 40, 3, dtype=torch.float64)
    with pytest.raises(InputError, match="not those of its weights"):
        inversion.undo(Layer(itself, None, RELU), y, (2, 4, 4))
    training = Layer(convolution(2, 40, 1), nn.BatchNorm2d(40, dtype=torch.float64), RELU)
    with pytest.raises(InputError, match="eval"):
        inversion.undo(training, y, (2, 4, 4))


def test_a_search_solves_a_linear_problem_and_prefers_smooth_images_where_it_has_the_choice() -> None:
    x, operator = draw(2, 1, 5, 5), convolution(1, 4, 3, padding=1)
    found = image_search.search(operator, operator(x), torch.zeros_like(x), 100, (0.0,))
    assert float((found - x).abs().max()) < 1e-4

    def means(x: Tensor) -> Tensor:
        return x.mean((2, 3))

    rough, flat = draw(2, 1, 5, 5), torch.full((2, 1, 5, 5), 2.0, dtype=torch.float64)
    smooth = image_search.search(means, means(flat), rough, 100, (1.0,))
    assert float((smooth - flat).abs().max()) < 1e-4
    assert float(image_search.roughness(image_search.search(means, means(flat), rough, 100, (0.0,)))) > 1


def test_a_control_finds_the_truth_where_a_far_start_fails_and_the_failure_is_no_loss() -> None:
    x = draw(2, 1, 5, 5).abs() + 5
    y = x.relu()
    far = image_search.search(torch.relu, y, -torch.ones_like(x), 50)
    close = image_search.search(torch.relu, y, image_search.near(x, 0.1, stream(0, "near")), 50, (0.0,))
    message = [
        (float(inversion.unexplained(one, x)[0]), float(inversion.mismatch(one.relu(), y)[0])) for one in (far, close)
    ]
    assert message[0][0] > 1 and message[1][0] < 1e-8
    assert inversion.outcome(False, message[0], message[1]) == NOT_DECIDED


def test_a_control_loses_the_share_of_directions_that_the_map_does_not_see() -> None:
    x = draw(4, 3, 16, 16)

    def pooled(x: Tensor) -> Tensor:
        return functional.avg_pool2d(x, 2)

    found = image_search.search(pooled, pooled(x), image_search.near(x, 0.1, stream(0, "near")), 50, (0.0,))
    lost = (inversion.unexplained(found, x) / 0.1).numpy()
    error = math.sqrt(2 * 0.75 * 0.25 / x[0].numel())  # of |P n|^2 / |n|^2, a beta variable
    assert np.abs(lost - 0.75).max() < 4 * error
    numbers = float(inversion.unexplained(found, x)[0]), float(inversion.mismatch(pooled(found), pooled(x))[0])
    assert inversion.outcome(False, numbers, numbers) == LOST


def test_a_control_starts_with_exactly_its_share_of_noise() -> None:
    x = draw(3, 2, 8, 8) * torch.tensor([1.0, 5, 0.1]).view(-1, 1, 1, 1) + 7
    start = image_search.near(x, 0.25, stream(0, "near"))
    assert torch.allclose(inversion.unexplained(start, x), torch.full((3,), 0.25, dtype=torch.float64))


def test_the_error_is_zero_for_the_image_and_one_for_its_mean_colour() -> None:
    x = draw(2, 3, 4, 4) + torch.tensor([0.0, 10, -10], dtype=torch.float64).view(1, 3, 1, 1)
    assert inversion.unexplained(x, x).tolist() == [0, 0]
    assert torch.allclose(inversion.unexplained(x.mean((2, 3), keepdim=True).expand_as(x), x), torch.ones(2).double())
    mirrored = 2 * x.mean((2, 3), keepdim=True) - x  # twice as far as the mean colour, so four times the square
    assert torch.allclose(inversion.unexplained(mirrored, x), 4 * torch.ones(2).double())


def test_roughness_of_a_ramp_is_its_squared_slope() -> None:
    ramp = 3 * torch.arange(6.0).view(1, 1, 1, 6).expand(2, 1, 4, 6)
    assert float(image_search.roughness(ramp)) == 2 * 9


@pytest.mark.parametrize(
    ("exact", "search", "control", "status"),
    [
        (True, (9.0, 9.0), (9.0, 9.0), EXACT),
        (False, (0.001, 0.5), (0.1, 0.5), FOUND),
        (False, (0.5, 0.001), (0.0, 0.0), LOST),
        (False, (0.5, 0.5), (0.08, 0.001), LOST),
        (False, (0.5, 0.5), (0.0, 0.0), NOT_DECIDED),
        (False, (0.5, 0.5), (0.08, 0.5), NOT_DECIDED),
        (False, (0.02, 0.001), (0.03, 0.001), NOT_DECIDED),
    ],
)
def test_only_another_image_with_the_same_output_is_a_loss(
    exact: bool, search: tuple[float, float], control: tuple[float, float], status: str
) -> None:
    assert inversion.outcome(exact, search, control) == status
