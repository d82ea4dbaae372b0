"""The probe: against a brute-force forward that keeps everything, numpy, and networks whose answers are known."""

import numpy as np
import pytest
import torch
from torch import nn

from manifold_lab import metrics, stream, theory
from manifold_lab.core.errors import InputError
from manifold_lab.metrics.active_rows import active_rows
from manifold_lab.models.mobilenet import Network
from manifold_lab.probe import LAYER_KINDS, MEASURES, LayerRecord, Probe, Sampling
from manifold_lab.probe.accumulators import ActiveCounts, Covariance, Reservoir
from manifold_lab.probe.measures import ridge_r2
from manifold_lab.probe.tracing import effective
from tests.networks import pictures, small


def kept(model: nn.Module, x: torch.Tensor) -> dict[str, torch.Tensor]:
    """Every ReLU6's output, positions x channels, by the plain way: keep it all."""
    found: dict[str, torch.Tensor] = {}

    def keep(name: str):
        return lambda _module, _inputs, y: found.update({name: y.movedim(1, -1).flatten(0, 2).clone()})

    sites = [(name, module) for name, module in model.named_modules() if getattr(module, "name", "") == "relu6"]
    handles = [module.register_forward_hook(keep(name)) for name, module in sites]
    with torch.no_grad():
        model(x)
    for handle in handles:
        handle.remove()
    return found


def looked(model: nn.Module, *batches: torch.Tensor, **asked: object) -> Probe:
    with torch.no_grad(), Probe(model, **asked) as probe:  # type: ignore[arg-type]
        for x in batches:
            model(x)
    return probe


@pytest.fixture(scope="module")
def network() -> Network:
    model = small()
    with torch.no_grad():
        for module in model.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.weight.mul_(4)  # so that some outputs are clipped at 6
    return model


@pytest.mark.parametrize("layout", [torch.channels_last, torch.contiguous_format], ids=["last", "first"])
def test_counts_are_those_of_a_forward_that_keeps_everything(network: Network, layout: torch.memory_format) -> None:
    x = pictures(3).contiguous(memory_format=layout)
    model = network.to(memory_format=layout)  # type: ignore[call-overload]
    rows = {row["layer"]: row for row in looked(model, x).table()}
    everything = kept(model, x)
    assert list(rows) == list(everything) and len(rows) == 35
    clipped = 0
    for name, y in everything.items():
        active, row = (y > 0) & (y < 6), rows[name]
        count = active.sum(1).numpy()
        assert (row["active_min"], row["active_max"]) == (count.min(), count.max())
        assert row["active_mean"] == pytest.approx(count.mean())
        for cut in ("q05", "q25", "q50", "q75", "q95"):
            share = int(cut[1:]) / 100
            assert row[f"active_{cut}"] == np.quantile(count, share, method="inverted_cdf")
        assert row["low_share"] == pytest.approx((y <= 0).double().mean().item(), abs=1e-12)
        assert row["high_share"] == pytest.approx((y >= 6).double().mean().item(), abs=1e-12)
        assert row["never_active"] == int((y <= 0).all(0).sum())
        assert row["always_saturated"] == int((y >= 6).all(0).sum())
        if row["threshold"]:
            assert row["below_threshold"] == pytest.approx((count < row["threshold"]).mean())
        clipped += int((y >= 6).sum())
    assert clipped > 100


@pytest.mark.parametrize("window", [(0.0, 6.0), (0.0, 1.0), (0.0, np.inf), (-1.0, 1.0), (-np.inf, np.inf)])
@pytest.mark.parametrize("kind", [torch.float32, torch.float64, torch.bfloat16])
@pytest.mark.parametrize("width", [3, 40, 1280])
def test_counts_of_a_batch_are_plain_counts(window: tuple[float, float], kind: torch.dtype, width: int) -> None:
    low, high = window
    y = 4 * torch.randn((2, width, 9, 11), generator=stream(0, "y"))
    y = y.clamp(max(low, -50), min(high, 50)).to(kind)
    counts = ActiveCounts.empty(window, width, y.device)
    counts.add(y, 1)
    counts.add(y.contiguous(memory_format=torch.channels_last), 1)
    flat = y.movedim(1, -1).flatten(0, 2)
    active = (flat > low) & (flat < high)
    assert torch.equal(counts.active, 2 * active.sum(0)) and torch.equal(counts.high, 2 * (flat >= high).sum(0))
    assert torch.equal(counts.histogram, 2 * torch.bincount(active.sum(1), minlength=width + 1))
    assert not counts.bad.any()
    y[1, width // 2, 3, 4] = np.nan
    counts.add(y, 1)
    assert counts.bad.nonzero().flatten().tolist() == [width // 2]


@pytest.mark.slow
def test_two_half_passes_are_one_and_order_does_not_matter(network: Network) -> None:
    x = pictures(6)
    halves, whole, turned = (
        looked(network, *batches, measures=["active", "spectrum"]).table()
        for batches in ((x[:2], x[2:]), (x,), (x[2:], x[:2]))
    )
    for one, two, three in zip(whole, halves, turned, strict=True):
        for name, value in one.items():
            if name in MEASURES["active"].columns:
                assert value == two[name] == three[name] or value == pytest.approx(two[name])
            elif name in MEASURES["spectrum"].columns and value is not None:
                assert two[name] == pytest.approx(value, rel=1e-3) and three[name] == pytest.approx(value, rel=1e-3)


def test_covariance_is_numpys_also_far_from_zero() -> None:
    x = torch.randn((3000, 7), generator=stream(0, "x"), dtype=torch.float64) @ torch.diag(
        torch.arange(1.0, 8).double()
    )
    far = (x + 1e4).float()
    streamed = Covariance()
    for part in far.split(700):
        streamed.add(part, 1)
    expected = np.cov(far.double().numpy().T)
    assert np.abs(streamed.covariance.numpy() - expected).max() < 1e-5 * np.abs(expected).max()
    shares = metrics.covariance_shares(streamed.covariance)
    values = np.sort(np.linalg.eigvalsh(expected))[::-1] / np.trace(expected)
    assert metrics.participation_ratio_of(shares).item() == pytest.approx(1 / (values**2).sum(), rel=1e-5)
    assert metrics.effective_rank_of(shares).item() == pytest.approx(np.exp(-(values * np.log(values)).sum()), rel=1e-5)
    assert metrics.directions_for(shares) == int(np.searchsorted(values.cumsum(), 0.99)) + 1


def test_the_reservoir_is_even_bounded_and_seeded() -> None:
    def sampled(seed: int) -> list[int]:
        reservoir = Reservoir(50, stream(seed, "reservoir"))
        for start in range(0, 1000, 100):
            taken, keys = reservoir.propose(100)
            reservoir.accept(keys, (start + taken,))
        assert len(reservoir.keys) == 50 and reservoir.seen == 1000
        return reservoir.parts[0].tolist()

    assert sampled(0) == sampled(0) != sampled(1) and len(set(sampled(0))) == 50
    tenths = np.histogram(np.concatenate([sampled(seed) for seed in range(200)]), bins=10, range=(0, 1000))[0]
    assert ((tenths - 1000) ** 2 / 1000).sum() < 30  # chi-squared of 9 degrees of freedom


def test_rank_is_numpys_and_the_inverse_gives_the_input_back(network: Network) -> None:
    probe = looked(network, pictures(2), measures=["rank"], sampling=Sampling(positions=128))
    rows = [row for row in probe.table() if row["threshold"]]
    assert len(rows) == 17 and all(row["full_rank"] is not None for row in rows)
    for row in rows[::4]:
        layer: LayerRecord = probe.layers[str(row["layer"])]
        matrix, offset = effective(layer.chain)
        y, x = (part.double() for part in layer.sample.parts[:2])
        inside = (y > 0) & (y < 6)
        tolerance = max(matrix.shape) * float(np.finfo(np.float32).eps)
        full, smallest = [], []
        for mask in inside.numpy():
            values = np.linalg.svd(matrix.numpy()[mask], compute_uv=False)
            full.append(mask.sum() >= layer.chain.inputs and values.min() > tolerance * values.max())
            smallest.append(values.min() if len(values) else 0)
        assert row["full_rank"] == pytest.approx(np.mean(full))
        if any(full):
            assert row["singular_value"] == pytest.approx(
                float(torch.tensor(smallest)[torch.tensor(full)].median()), rel=1e-6
            )
            assert row["inversion_error_full_rank"] < 1e-6
        rows_there = active_rows(matrix[None], inside[None], tolerance)
        again = rows_there.solve(torch.where(inside, y - offset, 0)[None])[0]
        assert row["inversion_error"] == pytest.approx(float(((again - x) ** 2).sum() / (x**2).sum()), abs=1e-9)


class Known(nn.Module):
    """A k-dimensional input orthonormally expanded to n channels, then to 2n channels as B and -B, and rectified."""

    def __init__(self, k: int = 3, n: int = 8):
        super().__init__()
        rng = stream(0, "known")
        self.widen = nn.Conv2d(k, n, 1, bias=False)
        self.expand = nn.Conv2d(n, 2 * n, 1, bias=False)
        self.norm, self.act = nn.BatchNorm2d(2 * n), nn.ReLU(inplace=True)
        frame = torch.linalg.qr(torch.randn((n, n), generator=rng)).Q
        with torch.no_grad():
            self.widen.weight[:, :, 0, 0] = torch.linalg.qr(torch.randn((n, k), generator=rng)).Q
            self.expand.weight[:, :, 0, 0] = torch.cat([frame, -frame])
        self.norm.eps = 0
        self.eval()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.act(self.norm(self.expand(self.widen(x))))


def test_a_network_whose_answers_are_known() -> None:
    x = torch.randn((40, 3, 10, 10), generator=stream(0, "x"))
    every = ["active", "rank", "spectrum", "dimension", "preservation", "recovery"]
    (row,) = looked(Known(), x, measures=every).table()
    assert (row["threshold"], row["active_min"], row["active_max"], row["below_threshold"]) == (8, 8, 8, 0)
    assert (row["full_rank"], row["singular_value"], row["condition"]) == pytest.approx((1, 1, 1))
    assert row["inversion_error"] < 1e-10 and row["ridge_r2"] > 0.9999  # x = B'(y+ - y-): linear in y
    assert row["mle"] == pytest.approx(3, abs=0.35) and row["two_nn"] == pytest.approx(3, abs=0.35)
    assert (row["input_dimension"], row["kept"], row["lost"]) == (3, 1, 0)
    assert row["kept_predicted"] == pytest.approx(theory.preserved_fraction(16, 4), abs=0.01)


def test_a_rectified_orthonormal_map_loses_what_theory_says() -> None:
    model = Known(k=8)
    model.expand = nn.Conv2d(8, 8, 1, bias=False)
    model.norm = nn.BatchNorm2d(8).eval()
    with torch.no_grad():
        model.expand.weight[:, :, 0, 0] = torch.eye(8)
    x = torch.randn((50, 8, 10, 10), generator=stream(0, "x"))
    (row,) = looked(model, x, measures=["active", "rank"], sampling=Sampling(positions=5000)).table()
    assert row["active_mean"] == pytest.approx(4, abs=0.1) and row["below_threshold"] == pytest.approx(
        1 - 2**-8, abs=0.004
    )
    assert row["inversion_error"] == pytest.approx(0.5, abs=0.06)  # half of the coordinates are gone
    assert row["full_rank"] == pytest.approx(2**-8, abs=0.02)


def test_the_ridge_sees_what_is_linear_and_what_is_not() -> None:
    x, images = torch.randn((400, 4), generator=stream(0, "x"), dtype=torch.float64), torch.arange(400)
    wide = torch.cat([x, x @ torch.ones(4, 60, dtype=torch.float64)], dim=1)
    noise = torch.randn((400, 4), generator=stream(1, "x"), dtype=torch.float64)
    for y, low, high in ((wide, 0.9999, 1), (noise, -0.1, 0.1), (x[:, :2], 0.4, 0.6)):
        found = ridge_r2(x, y, images)
        assert found is not None and low < found < high


def test_the_ridge_is_tested_on_images_that_it_was_not_fitted_on() -> None:
    of_image, images = torch.randn((40, 4), generator=stream(0, "x"), dtype=torch.float64), torch.arange(40)
    codes = torch.eye(40, dtype=torch.float64)
    each = images.repeat_interleave(8)
    found = ridge_r2(of_image[each], codes[each], each)  # every image has a coordinate of its own: nothing carries over
    assert found is not None and found < 0.1
    assert ridge_r2(of_image[each], codes[each], torch.arange(len(each))) == pytest.approx(1, abs=0.01)
    assert ridge_r2(of_image[:12], of_image[:12], images[:12] % 3) is None


def test_every_sampled_position_knows_its_image() -> None:
    model = nn.Sequential(nn.Conv2d(1, 1, 1, bias=False), nn.ReLU())
    model[0].weight.data.fill_(1)
    x = torch.arange(12.0)[:, None, None, None].expand(12, 1, 5, 7)
    probe = Probe(model, measures=["recovery"], sampling=Sampling(positions=60))
    with torch.no_grad(), probe:
        for part in x.split(5):
            model(part)
    y, inputs, images = probe.layers["1"].sample.parts
    assert torch.equal(images, y[:, 0].long()) and torch.equal(images, inputs[:, 0].long()) and len(images.unique()) > 8


def test_words_that_are_no_layer_or_measure_are_refused(network: Network) -> None:
    with pytest.raises(InputError, match=r"layers: 'nonlinear' is no layer of this model; allowed: nonlinearity"):
        Probe(network, "nonlinear")
    with pytest.raises(InputError, match="measures: 'actve' is unknown; did you mean 'active'"):
        Probe(network, measures=["actve"])
    with pytest.raises(InputError, match="never ran"):
        looked(network).table()
    with pytest.raises(InputError, match="is compiled"):
        Probe(torch.compile(network, backend="eager"))  # type: ignore[arg-type]
    assert set(LAYER_KINDS) >= {"nonlinearity", "bottleneck"}


def test_points_at_equal_distances_have_no_dimension_and_the_table_says_so() -> None:
    """The corners of a simplex: every estimate of dimension from ratios of distances is infinite."""
    linear = nn.Linear(40, 40, bias=False)
    nn.init.eye_(linear.weight)
    with torch.no_grad(), Probe(nn.Sequential(linear, nn.ReLU()), measures=("dimension", "preservation")) as probe:
        probe.model(torch.eye(40))
    (row,) = probe.table()
    assert row["mle"] is row["two_nn"] is row["kept"] is None and row["points"] == 40
    assert str(row["note"]).count("have no finite dimension") == 2
