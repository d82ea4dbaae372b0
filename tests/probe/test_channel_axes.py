"""Where channels are, and what is an activation: against counts made by hand on tensors whose axes are known."""

import contextlib
import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from manifold_lab import stream
from manifold_lab.core.errors import InputError
from manifold_lab.probe import Probe, Sampling


class Applied(nn.Module):
    """A function with layers, as a network."""

    def __init__(self, function: Callable[..., Tensor], *layers: nn.Module):
        super().__init__()
        self.layers, self.function = nn.ModuleList(layers), function

    def forward(self, x: Tensor) -> Tensor:
        return self.function(x, *self.layers)


def seeded(make: Callable[[], nn.Module]) -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return make().eval()


def rows(model: nn.Module, *batches: Tensor, measures: tuple[str, ...] = ("active",)) -> list[dict]:
    with torch.no_grad(), Probe(model, measures=measures, sampling=Sampling(positions=200)) as probe:
        for x in batches:
            model(x)
    return probe.table()


def drawn(*shape: int) -> Tensor:
    return torch.randn(shape, generator=stream(0, "x"))


def counted(y: Tensor, axis: int, low: float = 0.0, high: float = math.inf) -> tuple[int, float]:
    """Channels, and active ones per position, with the axis given by hand."""
    active = (y > low) & (y < high)
    return y.shape[axis], float(active.sum(axis).double().mean())


def causal(x: Tensor, conv: nn.Module) -> Tensor:
    return conv(x)[:, :, :-2].contiguous()


def channels_last(x: Tensor, linear: nn.Module) -> Tensor:
    return linear(x.reshape(-1, 4)).view(3, 5, 6, 8)


def shuffled(x: Tensor, conv: nn.Module) -> Tensor:
    y = conv(x)
    return y.view(len(y), 2, 4, *y.shape[2:]).transpose(1, 2).reshape(y.shape)


def window(x: Tensor, linear: nn.Module) -> Tensor:
    y = linear(x)
    return y.view(len(y), 2, 3, 2, 2, 8).permute(0, 1, 3, 2, 4, 5).contiguous().view(-1, 6, 8)


def attended(x: Tensor, conv: nn.Module) -> Tensor:
    """Attention of positions, computed by einsum and product, as (batch, channels, positions)."""
    y = conv(x).flatten(2)
    mixed = y @ torch.einsum("bcn,bcm->bnm", y, y).softmax(-1).transpose(1, 2)
    return mixed.view(len(x), 8, *x.shape[2:])


PLACES: dict[str, tuple[Callable[..., Tensor], Callable[[], nn.Module], tuple[int, ...], int]] = {
    "trimmed convolution": (causal, lambda: nn.Conv1d(4, 8, 3, padding=2), (6, 4, 50), 1),
    "residual": (lambda x, conv: causal(x, conv) + torch.cat([x, x], 1), lambda: nn.Conv1d(4, 8, 3, padding=2),
                 (6, 4, 50), 1),
    "reshaped linear": (channels_last, lambda: nn.Linear(4, 8), (3, 5, 6, 4), 3),
    "sum with the input": (lambda x, linear: x + linear(x), lambda: nn.Linear(4, 4), (3, 5, 6, 4), 3),
    "permuted convolution": (lambda x, conv: conv(x).permute(0, 2, 3, 1), lambda: nn.Conv2d(3, 8, 1), (2, 3, 5, 8), 3),
    "norm after a permutation": (lambda x, conv, norm: norm(conv(x).permute(0, 2, 3, 1)).permute(0, 3, 1, 2),
                                 lambda: nn.LayerNorm(8), (2, 3, 5, 8), 1),
    "tokens of a convolution": (lambda x, conv: conv(x).flatten(2).transpose(1, 2), lambda: nn.Conv2d(3, 8, 2, 2),
                                (2, 3, 4, 8), 2),
    "channel shuffle": (shuffled, lambda: nn.Conv2d(3, 8, 1), (2, 3, 5, 8), 1),
    "windows": (window, lambda: nn.Linear(4, 8), (3, 6, 4, 4), 2),
    "product with a parameter": (lambda x, linear: x @ linear.weight.t(), lambda: nn.Linear(4, 8), (3, 5, 8, 4), 3),
    "one axis dropped": (lambda x, conv: conv(x)[:, :, 2], lambda: nn.Conv2d(3, 8, 1), (8, 3, 5, 8), 1),
    "mean over positions": (lambda x, conv: conv(x).mean((2, 3)), lambda: nn.Conv2d(3, 8, 1), (8, 3, 5, 8), 1),
    "pooled and flattened": (lambda x, conv: functional.adaptive_avg_pool2d(conv(x), 1).flatten(1),
                             lambda: nn.Conv2d(3, 8, 1), (8, 3, 5, 8), 1),
    "transposed convolution": (lambda x, conv: conv(x), lambda: nn.ConvTranspose1d(4, 8, 2, 2), (8, 4, 5), 1),
    "volume": (lambda x, conv: conv(x), lambda: nn.Conv3d(4, 8, 1), (2, 4, 5, 8, 3), 1),
    "zero channels appended": (lambda x, conv: functional.pad(conv(x), (0, 0, 0, 0, 2, 2)), lambda: nn.Conv2d(3, 8, 1),
                               (2, 3, 5, 8), 1),
    "no batch": (lambda x, conv: conv(x), lambda: nn.Conv2d(3, 8, 1), (3, 5, 8), 0),
    "features mixed by attention": (attended, lambda: nn.Conv2d(3, 8, 1), (2, 3, 5, 8), 1),
    "einsum with a parameter": (lambda x, linear: torch.einsum("b...c,dc->b...d", x, linear.weight),
                                lambda: nn.Linear(4, 8), (3, 5, 8, 4), 3),
    "positions mixed by a parameter": (lambda x, conv: conv(x) @ conv.weight.flatten(1), lambda: nn.Conv2d(3, 8, 1),
                                       (2, 3, 5, 8), 1),
    "halves joined": (lambda x, conv: torch.cat(conv(x).chunk(2, 1)[::-1], 1), lambda: nn.Conv2d(3, 8, 1),
                      (2, 3, 5, 8), 1),
}  # fmt: skip


@pytest.mark.parametrize("name", PLACES)
def test_channels_are_counted_where_they_are(name: str) -> None:
    function, make, shape, axis = PLACES[name]
    layers = [seeded(make)]
    if name == "norm after a permutation":
        layers = [seeded(lambda: nn.Conv2d(3, 8, 1)), *layers]
    x = drawn(*shape)
    with torch.no_grad():
        y = function(x, *layers).relu()
    (row,) = rows(Applied(lambda x, *layers: function(x, *layers).relu(), *layers), x)
    assert (row["channels"], row["active_mean"]) == counted(y, axis), row["note"]
    dead = int((y.movedim(axis, 0).flatten(1) == 0).all(1).sum())
    assert row["never_active"] == dead


def test_dead_channels_behind_a_trimmed_convolution_are_found() -> None:
    conv = nn.Conv1d(4, 8, 3, padding=2)
    with torch.no_grad():
        conv.weight[:5], conv.bias[:5] = 0, -1
    (row,) = rows(Applied(lambda x, conv: causal(x, conv).relu(), conv), drawn(6, 4, 50))
    assert (row["channels"], row["never_active"]) == (8, 5)


UNKNOWN: dict[str, tuple[Callable[..., Tensor], tuple[int, ...]]] = {
    "input": (lambda x, _: x, (2, 8, 5, 5)),
    "flattened with positions": (lambda x, conv: conv(x).flatten(1), (2, 3, 5, 5)),
    "batch and channels joined": (lambda x, conv: conv(x).reshape(-1, 25), (2, 3, 5, 5)),
    "sum of two orders": (lambda x, conv: (y := conv(x)) + y.transpose(1, 2), (2, 3, 8, 8)),
    "channels averaged": (lambda x, conv: conv(x).mean(1, keepdim=True), (2, 3, 5, 5)),
    "products of channels": (lambda x, conv: (y := conv(x).flatten(2)).mT @ y, (2, 3, 5, 5)),
    "channels against positions": (lambda x, conv: (y := conv(x)[:, :, 0]) @ y, (2, 3, 8, 8)),
    "a function that is not followed": (lambda x, conv: torch.fft.fft2(conv(x)).abs(), (2, 3, 5, 5)),
}
NO_CHANNELS = ("channels averaged", "products of channels")


@pytest.mark.parametrize("name", UNKNOWN)
def test_where_channels_are_not_known_nothing_is_counted(name: str) -> None:
    function, shape = UNKNOWN[name]
    model = Applied(lambda x, conv, act: act(function(x, conv)), nn.Conv2d(3, 8, 1), nn.ReLU())
    (row,) = (row for row in rows(model, drawn(*shape), measures=("active", "spectrum")) if row["type"] == "ReLU")
    nowhere = "acts on no channels" if name in NO_CHANNELS else "where its channels are is not known"
    assert nowhere in str(row["note"])
    assert all(row[name] is None for name in ("channels", "active_mean", "never_active", "participation_ratio"))


KINDS = [torch.float16, torch.bfloat16, torch.float32, torch.float64]


@pytest.mark.parametrize("kind", KINDS, ids=str)
@pytest.mark.parametrize(
    ("act", "low", "high"),
    [(nn.Hardtanh(0, 2.3), 0, 2.3), (nn.Hardtanh(-0.1, 0.7), -0.1, 0.7), (nn.ReLU6(), 0, 6), (nn.Sigmoid(), 0, 1),
     (nn.Tanh(), -1, 1), (nn.Hardsigmoid(), 0, 1), (nn.Softsign(), -1, 1), (nn.ELU(0.3), -0.3, math.inf),
     (nn.Threshold(0.1, 0.1), 0.1, math.inf)],
    ids=lambda value: type(value).__name__ if isinstance(value, nn.Module) else "",
)  # fmt: skip
def test_a_bound_is_that_of_the_tensors_own_precision(
    act: nn.Module, low: float, high: float, kind: torch.dtype
) -> None:
    linear = seeded(lambda: nn.Linear(4, 16))
    with torch.no_grad():
        linear.weight.mul_(10)
    model, x = nn.Sequential(linear, act).to(kind), drawn(500, 4).to(kind)
    with torch.no_grad():
        y = model(x)
    low, high = torch.tensor([low, high], dtype=torch.float64).to(kind).double().tolist()
    (row,) = rows(model, x)
    assert (row["channels"], row["active_mean"]) == counted(y.double(), 1, low, high)
    assert row["high_share"] == pytest.approx(float((y.double() >= high).double().mean()))


SAME_AS: dict[str, tuple[Callable[..., Tensor], float, float]] = {
    "PReLU of 0": (lambda u: functional.prelu(u, torch.zeros(1)), 0, math.inf),
    "PReLU of -1": (lambda u: functional.prelu(u, torch.tensor([-1.0])), 0, 0),
    "PReLU of .2": (lambda u: functional.prelu(u, torch.tensor([0.2])), -math.inf, math.inf),
    "LeakyReLU of 0": (lambda u: functional.leaky_relu(u, 0.0), 0, math.inf),
    "LeakyReLU of -.5": (lambda u: functional.leaky_relu(u, -0.5), 0, 0),
    "hardtanh": (lambda u: functional.hardtanh(u, -0.2, 0.5), -0.2, 0.5),
    "hardtanh by name": (lambda u: functional.hardtanh(u, max_val=0.5, min_val=-0.2), -0.2, 0.5),
    "threshold": (lambda u: functional.threshold(u, 0.2, 0.1), 0.2, math.inf),
    "celu": (functional.celu, -1, math.inf),
    "elu of alpha 0": (lambda u: functional.elu(u, 0.0), 0, math.inf),
    "rrelu": (functional.rrelu, -math.inf, math.inf),
    "selu": (functional.selu, -1.7580993408473766, math.inf),
    "clamp": (lambda u: u.clamp(0, 6), 0, 6),
    "clamp_min": (lambda u: u.clamp_min(0), 0, math.inf),
    "clamp in place": (lambda u: u.clamp_(-0.5, 0.5), -0.5, 0.5),
    "maximum": (lambda u: torch.maximum(u, torch.zeros(())), 0, math.inf),
    "clamp by tensors": (lambda u: u.clamp(torch.tensor(-0.5), torch.tensor(0.5)), -0.5, 0.5),
}


@pytest.mark.parametrize("name", SAME_AS)
def test_an_activation_is_what_its_parameters_make_of_it(name: str) -> None:
    function, low, high = SAME_AS[name]
    linear = seeded(lambda: nn.Linear(4, 16))
    with torch.no_grad():
        y = function(linear(drawn(60, 4)))
    (row,) = rows(Applied(lambda x, linear: function(linear(x)), linear), drawn(60, 4))
    assert (row["channels"], row["active_mean"]) == counted(y, 1, low, high) and row["threshold"] == 4


@pytest.mark.parametrize(
    "module", [nn.PReLU(init=0.0), nn.LeakyReLU(0.0), nn.Threshold(0, 0), nn.Hardtanh(0, math.inf)]
)
def test_modules_that_are_relu_are_counted_and_inverted_as_relu(module: nn.Module) -> None:
    conv = seeded(lambda: nn.Conv2d(4, 12, 1))
    one, two = (rows(nn.Sequential(conv, act), drawn(5, 4, 8, 8), measures=("active", "rank"))[0]
                for act in (module, nn.ReLU()))  # fmt: skip
    assert {**one, "type": ""} == {**two, "type": ""} and one["full_rank"] is not None


NOT_COUNTED: dict[str, tuple[Callable[..., Tensor], str, str]] = {
    "shrink": (functional.hardshrink, "hardshrink()", "no interval"),
    "PReLU of several signs": (
        lambda u: functional.prelu(u, torch.tensor([-1.0, 0, 1] * 4)),
        "prelu()",
        "several signs",
    ),
    "maximum of two maps": (lambda u: torch.maximum(u, -2 * u), "maximum()", "bounds"),
    "sine": (lambda u: u.sin(), "sin()", "no activation that is known"),
    "absolute": (lambda u: u.abs(), "abs()", "no activation that is known"),
    "where": (lambda u: torch.where(u > 0, u, 0.1 * u), "where()", "no activation that is known"),
    "product with another comparison": (lambda u: u * (u > 0.1), "gt()", "no activation that is known"),
    "square": (lambda u: u**2, "pow()", "no activation that is known"),
}


@pytest.mark.parametrize("name", NOT_COUNTED)
def test_what_is_not_counted_is_named(name: str) -> None:
    function, layer, reason = NOT_COUNTED[name]
    model = Applied(lambda x, one, two: two(function(one(x))), nn.Linear(4, 12), nn.Linear(12, 2))
    found = {row["layer"]: row for row in rows(model, drawn(60, 4))}
    assert reason in str(found[layer]["note"]) and found[layer]["active_mean"] is None


def test_a_clip_without_ends_is_no_activation() -> None:
    model = Applied(lambda x, linear: linear(x).clamp(torch.tensor(-math.inf), torch.tensor(math.inf)).relu(),
                    nn.Linear(4, 12))  # fmt: skip
    assert [row["layer"] for row in rows(nn.Sequential(model, nn.Hardtanh(-math.inf, math.inf)), drawn(60, 4))] == [
        "0.relu()"
    ]


def test_an_activation_on_no_channels_is_named() -> None:
    """Attention over positions: the sigmoid of what all channels of a position have in common."""
    model = Applied(lambda x, conv: (y := conv(x)) * y.mean(1, keepdim=True).sigmoid(), nn.Conv2d(3, 8, 1))
    (row,) = rows(model, drawn(2, 3, 5, 5))
    assert (row["layer"], row["active_mean"]) == ("sigmoid()", None) and "acts on no channels" in str(row["note"])


class HardSigmoidOf6(nn.Module):
    """As public implementations of MobileNetV3 write it."""

    def __init__(self):
        super().__init__()
        self.relu = nn.ReLU6(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        return self.relu(x + 3) / 6


class HardSwishOf6(nn.Module):
    def __init__(self):
        super().__init__()
        self.sigmoid = HardSigmoidOf6()

    def forward(self, x: Tensor) -> Tensor:
        return x * self.sigmoid(x)


COMPOSED: dict[str, tuple[Callable[[Tensor], Tensor], str]] = {
    "hard swish": (lambda x: x * functional.relu6(x + 3) / 6, "hardswish()"),
    "hard swish of modules": (HardSwishOf6(), "layers.1.hardswish()"),
    "swish": (lambda x: x * x.sigmoid(), "silu()"),
    "swish of a module": (lambda x: nn.Sigmoid()(x).mul(x), "silu()"),
    "quick gelu": (lambda x: x * torch.sigmoid(1.702 * x), "quick_gelu()"),
    "gelu of tanh": (lambda x: 0.5 * x * (1 + torch.tanh((2 / math.pi) ** 0.5 * (x + 0.044715 * x**3))), "gelu_tanh()"),
    "gelu of erf": (lambda x: x * 0.5 * (1 + torch.erf(x / 2**0.5)), "gelu()"),
    "mish": (lambda x: x * functional.softplus(x).tanh(), "mish()"),
    "product with a comparison": (lambda x: x * (x > 0), "relu()"),
}


@pytest.mark.parametrize("kind", [torch.bfloat16, torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("name", COMPOSED)
def test_an_activation_that_is_written_out_is_one_layer(name: str, kind: torch.dtype) -> None:
    function, layer = COMPOSED[name]
    linear, x = seeded(lambda: nn.Linear(4, 16)).to(kind), drawn(60, 4).to(kind)
    with torch.no_grad():
        y = function(linear(x))
    act = function if isinstance(function, nn.Module) else nn.Identity()
    (row,) = rows(Applied(lambda x, linear, _: function(linear(x)), linear, act), x)
    assert (row["channels"], row["active_mean"]) == counted(y, 1)
    alike = ("gelu()", "gelu_tanh()") if kind is torch.bfloat16 and "gelu" in layer else ()
    assert row["layer"] in (layer, *alike)
    assert row["threshold"] == 4


@pytest.mark.parametrize("function", [lambda x: x * x.tanh(), lambda x: x * functional.relu6(x + 2) / 6])
def test_the_part_of_an_unknown_composition_is_not_reported_for_the_whole(function: Callable[[Tensor], Tensor]) -> None:
    found = rows(Applied(lambda x, linear: function(linear(x)), nn.Linear(4, 16)), drawn(60, 4))
    assert found and all("no activation by itself" in str(row["note"]) for row in found)
    assert all(row["active_mean"] is row["threshold"] is None for row in found)


def test_parts_are_shown_when_asked_for() -> None:
    model = Applied(lambda x, linear: (y := linear(x)) * y.sigmoid(), nn.Linear(4, 16))
    with torch.no_grad(), Probe(model, layers=("sigmoid()", "silu()")) as probe:
        model(drawn(60, 4))
    one, two = probe.table()
    assert (one["layer"], one["active_mean"], two["layer"]) == ("sigmoid()", None, "silu()")
    assert "part of the activation written out behind it" in str(one["note"]) and two["active_mean"] is not None


def test_a_gate_of_another_tensor_is_counted() -> None:
    """Squeeze and excitation: the sigmoid acts on its own features."""
    model = Applied(lambda x, conv, gate: (y := conv(x)) * gate(y.mean((2, 3), keepdim=True)).sigmoid(),
                    nn.Conv2d(3, 8, 1), nn.Conv2d(8, 8, 1))  # fmt: skip
    (row,) = rows(model, drawn(2, 3, 5, 5))
    assert (row["channels"], row["active_mean"], row["note"]) == (8, 8, "")


@pytest.mark.parametrize("inner", [False, True])
def test_a_pass_that_raises_leaves_nothing_behind(inner: bool) -> None:
    class Falls(nn.Module):
        falls = False

        def __init__(self):
            super().__init__()
            self.net, self.last = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 8), nn.ReLU()), nn.Linear(8, 2)

        def forward(self, x: Tensor) -> Tensor:
            y = self.net(x)
            return self.last(y[:, :3] if inner and self.falls else y) if inner or not self.falls else y[99]

    model, x = seeded(Falls), drawn(80, 4)
    every = ("active", "rank", "spectrum", "dimension", "preservation", "recovery")
    expected = rows(model, x, x, measures=every)
    with torch.no_grad(), Probe(model, measures=every, sampling=Sampling(positions=200)) as probe:
        for falls in (True, False, True, True, False, True):
            model.falls = falls
            with pytest.raises((RuntimeError, IndexError)) if falls else contextlib.nullcontext():
                model(x)
    assert probe.table() == expected and probe.layers["net.1"].counts.positions == 160


def test_an_error_that_a_network_catches_is_no_failed_pass() -> None:
    def forward(x: Tensor, linear: nn.Module, odd: nn.Module) -> Tensor:
        with contextlib.suppress(RuntimeError):
            odd(x)
        return linear(x).relu()

    (row,) = rows(Applied(forward, nn.Linear(4, 8), nn.Linear(5, 8)), drawn(80, 4))
    assert (row["layer"], row["channels"]) == ("relu()", 8)


def test_a_measure_that_fails_on_a_layer_is_a_note(monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*_: object) -> None:
        raise RuntimeError("no\nconvergence")

    monkeypatch.setattr(torch.linalg, "eigh", fails)
    (row,) = rows(nn.Sequential(nn.Linear(4, 8), nn.ReLU()), drawn(80, 4), measures=("active", "rank"))
    assert row["active_mean"] is not None and row["full_rank"] is None
    assert "rank failed (RuntimeError: no convergence)" in str(row["note"])


@pytest.mark.filterwarnings("ignore:`torch.jit")
def test_scripted_and_traced_modules_are_refused() -> None:
    for made in (torch.jit.script(nn.ReLU()), torch.jit.trace(nn.ReLU(), torch.ones(2, 2))):
        with pytest.raises(InputError, match="its 1 is scripted or traced"):
            Probe(nn.Sequential(nn.Linear(2, 2), made))
