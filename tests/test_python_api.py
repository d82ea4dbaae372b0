"""What a user types in Python: tables, axes and short texts of the objects that the package exports."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from matplotlib import pyplot as plt
from torch import nn

from manifold_lab import InputError, NetworkSpec, Probe, build, compare, measure_spiral, models, spiral
from manifold_lab.core.random_streams import stream
from manifold_lab.models import mobilenet, weights
from manifold_lab.models.specs import DIGITS
from manifold_lab.sweeps.study import Study

SMALL = ("--dims", "2", "5", "--draws", "50", "--points", "200")


@pytest.fixture(autouse=True)
def closed() -> Iterator[None]:
    yield
    plt.close("all")


@pytest.fixture
def probe() -> Probe:
    model = nn.Sequential(nn.Conv2d(3, 8, 1), nn.ReLU(), nn.Conv2d(8, 4, 1), nn.ReLU())
    with Probe(model) as probe:
        model(torch.randn(2, 3, 5, 5, generator=stream(0, "x")))
    return probe


def test_a_probes_frame_has_the_values_of_its_table(probe: Probe) -> None:
    made = probe.frame()
    for place, row in enumerate(probe.table()):
        for name, value in row.items():
            shown = made[name][place]
            assert shown == value or (value in (None, "") and (shown == "" or np.isnan(shown)))
    assert made["channels"].sum() == 12


def test_a_probe_draws_what_its_frame_says_on_axes_that_pyplot_knows(probe: Probe) -> None:
    count, fraction = probe.plot()
    (mean,) = (line for line in count.get_lines() if line.get_label() == "mean")
    np.testing.assert_allclose(mean.get_ydata(), probe.frame()["active_mean"])
    assert plt.gcf() is count.figure is fraction.figure


def test_a_probe_says_what_it_is_before_and_after_a_pass(probe: Probe) -> None:
    assert "Probe of Sequential" in repr(probe) and "2 layers, 1 forward pass>" in repr(probe)
    assert probe._repr_html_().count("<tr") == 3
    assert "0 forward passes" in Probe(nn.Sequential(nn.ReLU()))._repr_html_()


def test_a_networks_frame_sums_to_its_cost_by_hand() -> None:
    made = build(DIGITS, 0).frame()
    convolutions = [module for module in build(DIGITS, 0).modules() if isinstance(module, nn.Conv2d | nn.Linear)]
    assert made["parameters"].sum() == sum(p.numel() for module in convolutions for p in module.parameters())
    assert len(made) == len(convolutions) == len(build(DIGITS).frame())


def test_a_network_draws_its_costs() -> None:
    network = build(DIGITS, 0)
    axes, made = network.plot(), network.frame()
    for ax, name in zip(axes, ("MAdds", "parameters", "in_out"), strict=True):
        assert [bar.get_height() for bar in ax.patches[: len(made)]] == made[name].tolist()


def test_a_seed_is_its_stream() -> None:
    ours, theirs = build(DIGITS, 3).state_dict(), build(DIGITS, stream(3, "weights")).state_dict()
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)
    assert not torch.equal(build(DIGITS, 4).state_dict()["stem.conv.weight"], ours["stem.conv.weight"])


def test_a_network_without_numbers_says_so_at_its_first_forward_pass() -> None:
    network = build(DIGITS)
    with pytest.raises(InputError, match="shapes only: built without a generator"):
        network(torch.zeros(1, 1, 8, 8))
    assert network(torch.zeros(1, 1, 8, 8, device="meta")).shape == (1, 10)
    network.load_state_dict(build(DIGITS, 0).state_dict(), assign=True)
    assert network.eval()(torch.zeros(1, 1, 8, 8)).isfinite().all()


def test_published_weights_are_had_at_width_one_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InputError, match=r"width: 0\.5 has no published weights; .* allowed at width 1\.0 only"):
        models.mobilenet_v2(pretrained=True, width=0.5)
    fetched: list[tuple[NetworkSpec, str]] = []
    monkeypatch.setattr(weights, "fetch_weights", lambda *asked: fetched.append(asked) or mobilenet.build(asked[0]))
    assert models.mobilenet_v2(pretrained=True).spec == NetworkSpec() and fetched == [(NetworkSpec(), "mobilenet_v2")]
    assert models.mobilenet_v2(width=0.5).spec == NetworkSpec(width=0.5) and len(fetched) == 1


@pytest.mark.slow
def test_the_spirals_function_gives_the_bytes_of_its_command(tmp_path: Path) -> None:
    assert spiral.main([*SMALL, "--out", str(tmp_path / "typed"), "--quiet"]) == 0
    found = measure_spiral(dims=[2, 5], draws=50, points=200, quiet=True)
    found.save(tmp_path / "called")
    names = {path.name for path in (tmp_path / "typed").iterdir()}
    assert names == {path.name for path in (tmp_path / "called").iterdir()} and len(names) == 7
    for name in ("spiral.csv", "spiral_points.csv"):
        assert (tmp_path / "typed" / name).read_bytes() == (tmp_path / "called" / name).read_bytes()


@pytest.mark.slow
def test_the_spirals_frames_and_figures_are_its_lines() -> None:
    found = measure_spiral(dims=(2, 5), draws=50, points=200, quiet=True, style="neurips2024")
    kept = found.frame().query("quantity == 'preserved_fraction' and statistic == 'mean'").set_index("dim")
    assert kept.loc[5, "theory"] == pytest.approx(13 / 16)  # 1 - 2 (1 + 5) / 2^6, Theorem 1 at n = 2
    assert len(found.points_frame()) == 200 * (1 + 2 * 2) and set(found.summary()["dim"]) == {2, 5}
    axes = found.plot()
    assert {"(a) input", "(b) dim 2", "(c) dim 5"} <= {ax.get_title() for ax in axes} and len(
        found.plot_statistics()
    ) == 4
    assert axes[0].figure.get_size_inches()[0] == pytest.approx(5.5)  # NeurIPS' text width in inches
    assert "dims 2, 5, 50 draws" in repr(found) and len(found.sentences()) == 2


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"dim": (2,)}, "did you mean 'dims'"),
        ({"activation": "rellu"}, "did you mean 'relu'"),
        ({"dims": [0]}, "dims: 0"),
    ],
)
def test_the_spirals_function_refuses_as_the_command_does(options: dict[str, object], message: str) -> None:
    with pytest.raises(InputError, match=message):
        measure_spiral(**options)


@pytest.fixture(scope="module")
def study() -> Study:
    arms = {name: replace(DIGITS, depthwise_activation=name) for name in ("relu6", "linear")}
    return compare(arms, better="relu6", worse="linear", name="mine")


@pytest.mark.slow
def test_a_study_runs_draws_and_saves_from_python(study: Study, tmp_path: Path) -> None:
    found = study.run(smoke=True, runs=tmp_path / "runs")
    again = study.result(smoke=True, runs=tmp_path / "runs")
    assert found.frame().equals(again.frame()) and "4 done" in repr(found)
    scores = found.frame().query("kind == 'final'").groupby("arm")["test_accuracy"].mean()
    (verdict,) = found.verdicts().to_dict("records")
    assert verdict["estimate"] == pytest.approx(100 * (scores["relu6"] - scores["linear"]))
    assert len(found.plot()) == 2 and "<table" in found._repr_html_()
    names = {path.name for path in found.save(tmp_path / "out")}
    assert {"mine.csv", "mine_claims.csv", "mine.png", "mine.tex"} <= names


def test_a_study_says_what_it_is_and_that_nothing_ran(study: Study, tmp_path: Path) -> None:
    assert repr(study) == "<Study mine: relu6 is better than linear.>" and "Claims" in study._repr_html_()
    with pytest.raises(InputError, match="no run is done yet"):
        study.result(smoke=True, runs=tmp_path)
