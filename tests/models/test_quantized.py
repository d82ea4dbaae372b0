"""Networks in int8: near the float network, by int8 kernels, and refused in one line where that cannot be."""

import dataclasses
import functools
from collections import Counter

import pytest
import torch

from manifold_lab import data, stream
from manifold_lab.core.errors import InputError
from manifold_lab.models import quantized as int8
from manifold_lab.models.mobilenet import Activate, Network, build
from manifold_lab.models.profiler import OPERATOR_LAYERS
from manifold_lab.models.specs import DIGITS
from manifold_lab.training import Recipe, train
from tests.networks import pictures, small

X = pictures(16) + 2 * torch.randn((16, 3, 1, 1), generator=stream(0, "colours"))
RELU = {"expansion_activation": "relu", "depthwise_activation": "relu", "outer_activation": "relu"}


@functools.cache
def trained(**changes: str) -> tuple[Network, torch.Tensor]:
    """A network that tells digits apart, and images that it was not trained on: a random one answers all alike."""
    network, images = build(dataclasses.replace(DIGITS, **changes), stream(0, "weights")), data.load("digits")
    train(network, images, Recipe(images=5000, batch_size=64), seed=0)
    return network.eval(), next(x for x, _ in images.evaluation("test", 100))


def operations(model: torch.fx.GraphModule) -> Counter[str]:
    return Counter(str(getattr(node.target, "__name__", node.target)).split(".")[-1] for node in model.graph.nodes)


@pytest.mark.slow
@pytest.mark.parametrize("changes", [{}, RELU], ids=["relu6", "relu"])
def test_int8_is_near_float_and_done_by_int8_kernels(changes: dict[str, str]) -> None:
    network, x = trained(**changes)
    before = {name: value.clone() for name, value in network.state_dict().items()}
    found = int8.quantized(network, [x[:50], x[50:]])
    with torch.no_grad():
        exact, near = network(x), found(x)
    assert ((near - exact).norm() / (exact - exact.mean(0)).norm()) < 0.3
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())
    convolutions = sum(isinstance(part, OPERATOR_LAYERS) for part in network.modules()) - 1
    done = operations(found)
    assert done["conv2d"] + done["conv2d_relu"] == convolutions
    activated = sum(part.name != "linear" for part in network.modules() if isinstance(part, Activate))
    assert done["conv2d_relu"] == (activated if changes else 0)


@pytest.mark.slow
def test_finer_steps_are_nearer() -> None:
    """Calibrated on images four times as bright, the grid has a quarter of the steps where the images lie."""
    network, x = trained()
    with torch.no_grad():
        exact = network(x)
        errors = [float((int8.quantized(network, [scale * x])(x) - exact).norm()) for scale in (1, 4, 16)]
    assert errors == sorted(errors) and errors[0] < 0.5 * errors[-1]


def test_what_cannot_be_quantised_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InputError, match="no images to calibrate on"):
        int8.quantized(small(), [])
    with pytest.raises(InputError, match="training mode"):
        int8.quantized(small().train(), [pictures()])
    monkeypatch.setattr(int8, "ENGINES", ("abacus",))
    with pytest.raises(InputError, match="no int8 kernels; one of abacus"):
        int8.quantized(small(), [pictures()])
