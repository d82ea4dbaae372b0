"""Experiments that measure inside networks: their verdicts on made-up lines, and their stored runs found again."""

from pathlib import Path

import numpy as np
import pytest
from scipy import stats as scipy_stats

from experiments import ext_dimension, fig7_activations
from manifold_lab.core.config import key
from manifold_lab.report.tables import ClaimResult, Record
from manifold_lab.sweeps import probe_run, store
from manifold_lab.sweeps.probe_run import ProbeSource
from tests.tabled import tabled

ROOT = Path(__file__).parent.parent.parent


def verdicts(claims: list[ClaimResult]) -> dict[str, str]:
    return {claim.id: claim.verdict for claim in claims}


def stored_digest(study: str) -> str:
    """The digest of the images that the stored runs of a study name."""
    records = store.stored(ROOT / "runs" / study).values()
    return next(record["spec"]["pictures"] for record in records if "pictures" in record["spec"])


@pytest.mark.parametrize("study", ["fig7_activations", "ext_dimension"])
def test_the_grid_finds_every_stored_run(study: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ProbeSource, "digest", stored_digest(study))
    module = {"fig7_activations": fig7_activations, "ext_dimension": ext_dimension}[study]
    specs, _ = module.on_images(ProbeSource(Path("images.npz"), None, 20, ROOT / "runs"))
    assert {key(spec) for spec in specs} == set(store.stored(ROOT / "runs" / study))


@pytest.mark.slow
def test_a_training_is_measured_at_step_0_and_at_evaluations(tmp_path: Path) -> None:
    training = fig7_activations.trainings(smoke=True)[0]
    rows = probe_run.measure_training(training, tmp_path).history
    assert sorted({row["images"] for row in rows}) == [0, 512, 1024]
    crowded = [{"images": str(images)} for images in (0, 448, 512, 640, 1024)]
    kept = probe_run.at_evaluations(training, crowded)
    assert [row["images"] for row in kept] == ["0", "512", "1024"]


def sites(network: str, seed: int, mean: float, band: float, first_below: str = "", images: str = "") -> list[Record]:
    """Three marked sites of 100 channels, of which the first falls below its threshold or none does."""
    return [
        {"network": network, "seed": str(seed), "data": "", "images": images, "layer": f"blocks.{place}.expand.act",
         "drawn": "1", "pictures": "1000", "channels": "100", "threshold": "16", "active_q05": str(50 - 50 * band),
         "active_q95": str(50 + 50 * band), "fraction_mean": str(mean), "silent_norm": "0", "constant_input": "0",
         "both": "0", "first_below": first_below if place == 0 else "",
         "below_threshold": "0.001" if first_below and place == 0 else "0"}
        for place in range(3)
    ]  # fmt: skip


def figure_7(mean: float, band: float, step_0: tuple[float, ...] = (0.49, 0.5, 0.51)) -> dict[str, str]:
    initial = [line for seed, value in enumerate(step_0) for line in sites("initial", seed, value, value / 5)]
    trained = sites("trained", 0, mean, band)
    return verdicts(fig7_activations.claims(tabled([*initial, *trained])))


def test_figure_7_is_judged_by_the_networks_at_step_0_and_not_by_sites() -> None:
    assert figure_7(0.5, 0.1)["mean_unchanged"] == "holds" and figure_7(0.6, 0.1)["mean_unchanged"] == "fails"
    assert figure_7(0.54, 0.1)["mean_unchanged"] == "undecided", "the interval over seeds holds .05"
    assert [figure_7(0.5, band)["spread_doubled"] for band in (0.3, 0.2, 0.1)] == ["holds", "undecided", "fails"]
    assert [figure_7(0.5, band)["spread_grown"] for band in (0.15, 0.1, 0.05)] == ["holds", "undecided", "fails"]
    wide = figure_7(0.5, 0.1, step_0=(0.4, 0.5, 0.6))
    assert (wide["half_at_step_0"], wide["tight_at_step_0"]) == ("undecided", "holds")


def test_all_but_two_is_said_for_every_number_of_images() -> None:
    two = tabled([*sites("trained", 0, 0.5, 0.1, "1")[:1], *sites("trained", 0, 0.5, 0.1, "100")])
    found = {claim.id: claim.estimate.value for claim in fig7_activations.above(two, "marked")}
    assert [found[f"all_but_two/marked/{images}"] for images in (1, 10, 100, 1000)] == [1, 1, 2, 2]
    assert verdicts(fig7_activations.above(two, "marked"))["all_but_two/marked/1000"] == "holds"
    assert verdicts(fig7_activations.above(two[:1], "every"))["all_but_two/every/1000"] == "fails"


@pytest.mark.parametrize(("seeds", "verdict"), [(3, "undecided"), (5, "holds")])
def test_fewer_than_five_trainings_decide_nothing(seeds: int, verdict: str) -> None:
    noise = np.random.default_rng(0).normal(0, 0.001, seeds)
    lines = [line for seed in range(seeds) for images, band in (("0", 0.1), ("100", 0.2 + noise[seed]))
             for line in sites("training", seed, 0.5 + noise[seed] * (images == "0"), band, images=images)]  # fmt: skip
    mean, spread = fig7_activations.along(tabled(lines))
    assert (mean.verdict, spread.verdict) == (verdict, verdict)
    assert spread.needed == ("5 trainings" if seeds == 3 else "")
    assert fig7_activations.along(tabled(lines).head(0)) == []


def bottlenecks(
    network: str, seed: int, dimensions: tuple[float, ...], error: float, whole: tuple[float, ...]
) -> list[Record]:
    """Layers of 21 channels, the last of them the pooled features, with dimensions of positions and of whole maps."""
    names = [f"blocks.{place}.project.norm" for place in range(len(dimensions) - 1)] + [ext_dimension.LAST]
    return [
        {"network": network, "seed": str(seed), "layer": name, "channels": "21", "pictures": "1000", "mle": str(k),
         "mle_error": str(error), "two_nn": str(k), "two_nn_error": str(error), "points": "4000",
         "two_nn_pictures": str(map_k), "two_nn_error_pictures": "2", "points_pictures": "1000"}
        for name, k, map_k in zip(names, dimensions, whole, strict=True)
    ]  # fmt: skip


def dimension(
    dimensions: tuple[float, ...], error: float = 0.1, whole: tuple[float, ...] = (50, 90, 30, 20)
) -> dict[str, str]:
    untrained = [line for seed, k in enumerate((14.9, 15.0, 15.1))
                 for line in bottlenecks("initial", seed, (k,) * 4, error, whole)]  # fmt: skip
    return verdicts(ext_dimension.claims(tabled([*bottlenecks("trained", 0, dimensions, error, whole), *untrained])))


def test_a_dimension_is_below_the_channels_where_its_whole_interval_is() -> None:
    name = "fewer_dimensions_than_channels/trained/mle"
    assert dimension((9, 9, 9, 0))[name] == "holds" and dimension((9, 9, 25, 0))[name] == "fails"
    assert dimension((9, 9, 20, 0), error=1)[name] == "undecided" == dimension((9, 9, 22, 0), error=1)[name]
    embeds = "enough_channels_to_embed/trained"
    assert [dimension((9, 9, k, 0))[embeds] for k in (9, 10.1, 11)] == ["holds", "undecided", "fails"]
    assert dimension((9, 9, 9, 0))["enough_channels_to_embed/initial"] == "fails"


def test_one_layer_above_its_bound_is_shown_by_so_many_networks() -> None:
    first = (12.0, 9.5, 14.0)
    lines = [line for seed, k in enumerate(first) for line in bottlenecks("initial", seed, (k, 9.0), 0.1, (0, 0))]
    table, bounds = tabled(lines), [10.0, 10.0]
    count, of = ext_dimension.more(table, "mle", bounds).split(maxsplit=1)
    assert of == "untrained networks"
    draws = np.random.default_rng(0).normal(np.mean(first), np.std(first, ddof=1), (4000, int(count)))
    shown = scipy_stats.ttest_1samp(draws, 10.0, axis=1).pvalue < 0.05 / 2
    assert abs(shown.mean() - 0.8) < 0.05
    assert ext_dimension.more(table, "mle", [20.0, 20.0]) == "more untrained networks"
    assert ext_dimension.more(tabled(lines[:2]), "mle", bounds) == "more positions"


def test_training_lowers_the_dimension_against_the_untrained_networks() -> None:
    name = "training_lowers_dimension"
    assert [dimension((k, k, k, 0))[name] for k in (9, 14.9, 18)] == ["holds", "undecided", "fails"]
    assert dimension((9, 9, 9, 0), error=9)[name] == "undecided", "the trained network's own error counts"


def test_rise_and_fall_of_whole_maps_are_decided_by_intervals() -> None:
    found = dimension((9,) * 4, whole=(85, 90, 30, 20))
    assert (found["whole_maps_rise"], found["whole_maps_fall"]) == ("undecided", "holds")
    assert dimension((9,) * 4)["whole_maps_rise"] == "holds"
    assert dimension((9,) * 4, whole=(90, 50, 30, 20))["whole_maps_rise"] == "fails"
    last = "last_layer_as_published"
    assert [dimension((9,) * 4, whole=(50, 90, 30, k))[last] for k in (19, 25, 40)] == ["holds", "undecided", "fails"]
