"""Back from outputs to inputs, by the activation's own inverse, behind every operator and norm that folds into it."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torchvision.ops import FrozenBatchNorm2d

from manifold_lab import stream
from manifold_lab.activations import ACTIVATIONS
from manifold_lab.models.mobilenet import Activate
from manifold_lab.probe import Probe, Sampling, inverse
from manifold_lab.probe.inverse import solved

NORMS: dict[str, Callable[[], nn.Module]] = {
    "batch norm": lambda: nn.BatchNorm2d(12), "synchronised": lambda: nn.SyncBatchNorm(12),
    "frozen": lambda: FrozenBatchNorm2d(12),
}  # fmt: skip


def drawn(*shape: int) -> Tensor:
    return torch.randn(shape, generator=stream(0, "x"))


def row(model: nn.Module, x: Tensor, *measures: str) -> dict:
    with torch.no_grad(), Probe(model, measures=measures or ("active", "rank"), sampling=Sampling(500)) as probe:
        model(x)
    (found,) = probe.table()
    return found


def lively(model: nn.Module) -> nn.Module:
    for name, tensor in (*model.named_parameters(), *model.named_buffers()):
        if tensor.is_floating_point():
            low = 0.5 if name.endswith(("norm.weight", "var")) or "1.weight" in name else -0.5
            nn.init.uniform_(tensor.detach(), low, low + 1, generator=stream(0, name))
    return model.eval()


def least_squares(matrix: np.ndarray, offset: np.ndarray, u: np.ndarray, active: np.ndarray, x: np.ndarray) -> float:
    """The error of the least-squares solution on the active rows, by numpy, position by position."""
    error = 0.0
    for mask, values, point in zip(active, u, x, strict=True):
        back = np.linalg.lstsq(matrix[mask], (values - offset)[mask], rcond=1e-6)[0] if mask.any() else 0 * point
        error += float(((back - point) ** 2).sum())
    return error / float((x**2).sum())


INJECTIVE: dict[str, Callable[[Tensor], Tensor]] = {
    "relu": lambda u: u > 0,
    "relu6": lambda u: (u > 0) & (u < 6),
    "abs": lambda u: u > torch.inf,
    **dict.fromkeys(("leaky_relu", "tanh"), lambda u: u > -torch.inf),
    **dict.fromkeys(("gelu", "silu", "hardswish"), lambda u: u > 0),
}
"""By hand: the inputs that no other input shares its output with, as far as they are an interval."""


@pytest.mark.parametrize("name", [name for name in ACTIVATIONS if name != "identity"])
def test_every_activation_is_undone_by_its_own_inverse(name: str) -> None:
    model, x = lively(nn.Sequential(nn.Linear(4, 6), Activate(name))), 1.5 * drawn(100, 4)
    with torch.no_grad():
        u = model[0](x.double().float())
    found = row(model, x)
    matrix, offset = (part.detach().double().numpy() for part in (model[0].weight, model[0].bias))
    expected = least_squares(matrix, offset, u.double().numpy(), INJECTIVE[name](u).numpy(), x.double().numpy())
    assert found["inversion_error"] == pytest.approx(expected, abs=1e-5), found["note"]
    assert ("lower bound" in str(found["note"])) == (name in ("gelu", "silu", "hardswish", "abs"))
    assert found["active_mean"] == pytest.approx(float(INJECTIVE[name](u).sum(1).double().mean()))


def test_a_linear_layer_is_no_activation() -> None:
    with torch.no_grad(), Probe(nn.Sequential(nn.Linear(4, 6), Activate("linear")), ["*"]) as probe:
        probe.model(drawn(5, 4))
    assert all("nonlinearity" not in layer.kinds for layer in probe.layers.values())


@pytest.mark.parametrize(("act", "name"), [(nn.GELU(), "gelu"), (nn.SiLU(), "silu"), (nn.Tanh(), "tanh"),
                                           (nn.ReLU6(), "relu6"), (nn.Hardswish(), "hardswish")])  # fmt: skip
def test_torchs_modules_are_inverted_like_ours(act: nn.Module, name: str) -> None:
    one, two = (row(lively(nn.Sequential(nn.Linear(4, 6), made)), drawn(100, 4)) for made in (act, Activate(name)))
    assert {**one, "type": ""} == {**two, "type": ""} and one["full_rank"] is not None


@pytest.mark.parametrize("name", NORMS)
def test_norms_with_fixed_statistics_fold(name: str) -> None:
    model = lively(nn.Sequential(nn.Conv2d(4, 12, 1), NORMS[name](), nn.ReLU()))
    found = row(model, drawn(3, 4, 6, 6), "active", "rank")
    assert found["threshold"] == 4 and found["full_rank"] > 0 and found["inversion_error_full_rank"] < 1e-8


OPERATORS: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...]]] = {
    "Conv1d": (lambda: nn.Conv1d(4, 12, 1), (3, 4, 9)),
    "Conv1d of stride 2": (lambda: nn.Conv1d(4, 12, 1, stride=2), (3, 4, 9)),
    "Conv3d": (lambda: nn.Conv3d(4, 12, 1), (3, 4, 3, 3, 3)),
    "ConvTranspose1d": (lambda: nn.ConvTranspose1d(4, 12, 1), (3, 4, 9)),
    "ConvTranspose2d": (lambda: nn.ConvTranspose2d(4, 12, 1), (3, 4, 5, 5)),
}


@pytest.mark.parametrize("name", OPERATORS)
def test_operators_of_one_position_have_a_threshold_and_an_inverse(name: str) -> None:
    make, shape = OPERATORS[name]
    found = row(lively(nn.Sequential(make(), nn.ReLU())), drawn(*shape))
    assert found["threshold"] == 4 and found["full_rank"] > 0 and found["inversion_error_full_rank"] < 1e-8


@pytest.mark.parametrize("make", [lambda: nn.ConvTranspose2d(4, 12, 2, 2), lambda: nn.Conv1d(4, 12, 3)])
def test_operators_of_several_positions_have_none(make: Callable[[], nn.Module]) -> None:
    model = make()
    shape = (2, 4, 6, 6) if isinstance(model, nn.ConvTranspose2d) else (2, 4, 9)
    assert row(nn.Sequential(model, nn.ReLU()), drawn(*shape))["threshold"] is None


def test_a_norm_by_example_leaves_no_threshold_and_says_so() -> None:
    found = row(nn.Sequential(nn.Conv2d(4, 12, 1), nn.GroupNorm(3, 12), nn.ReLU()), drawn(3, 4, 6, 6))
    assert found["threshold"] is None and found["active_mean"] is not None and "GroupNorm" in str(found["note"])


def test_a_batch_norm_without_running_statistics_is_no_fixed_map() -> None:
    model = nn.Sequential(nn.Conv2d(4, 12, 1), nn.BatchNorm2d(12, track_running_stats=False), nn.ReLU()).eval()
    found = row(model, drawn(3, 4, 6, 6))
    assert found["full_rank"] is None and "statistics of each batch" in str(found["note"])


def test_weights_that_are_not_what_ran_are_not_inverted() -> None:
    class Standardised(nn.Conv2d):
        def forward(self, x: Tensor) -> Tensor:
            weight = self.weight - self.weight.mean((1, 2, 3), keepdim=True)
            return nn.functional.conv2d(x, weight / weight.std((1, 2, 3), keepdim=True))

    found = row(nn.Sequential(Standardised(4, 12, 1), nn.ReLU()), drawn(3, 4, 6, 6))
    assert found["full_rank"] is None and "not that of its weights" in str(found["note"])


def test_fewer_rows_than_columns_are_solved_by_the_smaller_gram_matrix() -> None:
    """DenseNet's 1x1 convolutions have up to 1024 inputs for 128 outputs; numpy's pseudo-inverse is the oracle."""
    rng = stream(0, "wide")
    matrix, x = (torch.randn(shape, generator=rng, dtype=torch.float64) for shape in ((12, 90), (7, 90)))
    inside = torch.rand((7, 12), generator=rng) > 0.4
    right = torch.where(inside, x @ matrix.mT, 0)
    full, _, _, error, size = solved(matrix, right, inside, x)
    for place, mask in enumerate(inside.numpy()):
        back = np.linalg.pinv(matrix.numpy()[mask]) @ right[place].numpy()[mask]
        assert float(error[place]) == pytest.approx(float(((back - x[place].numpy()) ** 2).sum()), rel=1e-9)
    assert not full.any() and torch.equal(size, (x**2).sum(1))


def test_large_layers_are_decomposed_at_fewer_positions_or_not_at_all(monkeypatch: pytest.MonkeyPatch) -> None:
    """The first linear layer of VGG has 25,088 inputs and 4,096 outputs: a copy for each position has no room."""
    sizes: list[tuple[int, ...]] = []
    decompose = torch.linalg.eigh
    monkeypatch.setattr(torch.linalg, "eigh", lambda x: sizes.append(tuple(x.shape)) or decompose(x))
    monkeypatch.setattr(inverse, "CUBES", 10 * 24**3)
    monkeypatch.setattr(inverse, "CELLS", 4 * 24 * 24)
    found = row(nn.Sequential(nn.Linear(3000, 24), nn.ReLU()), drawn(50, 3000))
    assert (
        found["rank_positions"] == 10 and found["full_rank"] == 0 and sizes == [(4, 24, 24), (4, 24, 24), (2, 24, 24)]
    )
    monkeypatch.setattr(inverse, "LARGEST", 23)
    found = row(nn.Sequential(nn.Linear(3000, 24), nn.ReLU()), drawn(50, 3000))
    assert found["full_rank"] is None and "24 rows or columns are too many" in str(found["note"])


def test_a_share_that_is_kept_does_not_exceed_one() -> None:
    """Counts that float32 does not divide exactly: three thirds of positions."""
    linear = nn.Linear(1, 8)
    with torch.no_grad():
        linear.weight.fill_(1)
        linear.bias.copy_(torch.arange(8.0) - 4)
    found = row(nn.Sequential(linear, nn.ReLU()), 3 * drawn(999, 1), "active", "preservation")
    assert 0 <= found["kept"] <= 1 and 0 <= found["kept_predicted"] <= 1
    always = row(nn.Sequential(linear, nn.LeakyReLU()), 3 * drawn(999, 1), "active", "preservation")
    assert always["kept"] == always["kept_predicted"] == 1
