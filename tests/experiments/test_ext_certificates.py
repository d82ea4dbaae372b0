"""Certificates of whole networks: verdicts on made-up lines, norms that are fixed, keys that stay."""

import dataclasses
from pathlib import Path

import pytest
import torch

from experiments import ext_certificates, fig7_activations
from manifold_lab.core.config import key
from manifold_lab.core.random_streams import stream
from manifold_lab.models.mobilenet import build
from manifold_lab.models.specs import DIGITS
from manifold_lab.report.tables import ClaimResult, Record
from manifold_lab.sweeps import probe_run
from manifold_lab.sweeps.probe_run import SETTLED, TRAINED, TRAINING, ProbedTraining
from tests.tabled import tabled


def verdicts(claims: list[ClaimResult]) -> dict[str, str]:
    return {claim.id: claim.verdict for claim in claims}


def layers(
    network: str, shares: tuple[float, ...], seed: int = 0, images: str = "", points: int = 1000, margin: float = 1.0
) -> list[Record]:
    blank = dict.fromkeys(ext_certificates.COLUMNS, "")
    return [
        blank | {"network": network, "seed": str(seed), "images": images, "layer": f"blocks.{place}.expand.act",
                 "certified": str(share), "certificate_points": str(points), "data": "digits",
                 "margin_median": str(margin), "data_radius": "10"}
        for place, share in enumerate(shares)
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("shares", "points", "verdict"),
    [((1.0, 0.95), 1000, "holds"), ((1.0, 0.8), 1000, "fails"), ((1.0, 0.92), 100, "undecided")],
)
def test_every_expansion_must_surely_keep_its_share(shares: tuple[float, ...], points: int, verdict: str) -> None:
    found = ext_certificates.claims(tabled(layers(TRAINED, shares, points=points)))
    assert verdicts(found) == {"expansions_certified/trained": verdict}


@pytest.mark.parametrize(
    ("untrained", "ends", "above", "towards"),
    [
        ((0.5, 0.52, 0.48), (0.5, 0.52, 0.48), "holds", "fails"),
        ((0.9, 0.92, 0.91), (0.9, 0.92, 0.91), "fails", "holds"),
        ((0.2, 0.8, 0.9), (0.2, 0.8, 0.9), "undecided", "undecided"),
        ((1.0, 1.0, 1.0), (1.0, 1.0, 1.0), "undecided", "undecided"),
    ],
)
def test_training_is_judged_over_seeds(
    untrained: tuple[float, ...], ends: tuple[float, ...], above: str, towards: str
) -> None:
    lines = layers(TRAINED, (0.7, 0.7))
    for seed, share in enumerate(untrained):
        lines = [*lines, *layers(SETTLED, (share, share), seed)]
    for seed, share in enumerate(ends):
        lines = [*lines, *layers(TRAINING, (0.7,), seed, "0"), *layers(TRAINING, (0.1,), seed, "500"),
                 *layers(TRAINING, (share,), seed, "1000")]  # fmt: skip
    claims = ext_certificates.claims(tabled(lines))
    message, needed = verdicts(claims), {claim.id: claim.needed for claim in claims}
    assert (message["trained_above_untrained"], message["training_moves_towards"]) == (above, towards)
    assert bool(needed["trained_above_untrained"]) == (above == "undecided")
    assert (needed["trained_above_untrained"] == "seeds that differ from each other") == (set(untrained) == {1.0})


@pytest.mark.parametrize(
    ("ends", "verdict"),
    [((1.2, 1.3, 1.25), "holds"), ((0.8, 0.7, 0.75), "fails"), ((0.8, 1.3, 1.0), "undecided"), ((), "undecided")],
)
def test_a_margin_is_judged_by_the_ends_of_a_training_where_no_share_can_change(
    ends: tuple[float, ...], verdict: str
) -> None:
    lines = layers(TRAINING, (1.0, 1.0), images="0")
    for seed, margin in enumerate(ends):
        lines = [*lines, *layers(TRAINING, (1.0, 1.0), seed, "0"), *layers(TRAINING, (1.0, 1.0), seed, "500", margin=9),
                 *layers(TRAINING, (1.0, 1.0), seed, "1000", margin=margin)]  # fmt: skip
    found = {claim.id: claim for claim in ext_certificates.claims(tabled(lines))}
    assert found["training_moves_towards"].verdict == "undecided"
    widens = found["training_widens_margin"]
    assert widens.verdict == verdict
    assert not ends or widens.estimate.value == pytest.approx((sum(ends) / len(ends) - 1) / 10)


def test_trainings_are_drawn_where_no_network_was_looked_at() -> None:
    lines = [row | {"images": images} for images in ("0", "1000") for row in layers(TRAINING, (1.0, 1.0))]
    drawn = ext_certificates.FIGURE(tabled(lines))
    depth, _, along = drawn.axes
    assert not any(len(line.get_xdata()) for line in depth.lines)
    assert along.lines[0].get_xdata().tolist() == [0, 1]


def test_a_settled_network_has_the_statistics_of_its_images_and_is_one_map() -> None:
    model = build(DIGITS, stream(0, "weights")).train()
    x = torch.randn((6, 1, 8, 8), generator=stream(0, "x"))
    probe_run.settle_norms(model, [x])
    norm = model.stem.norm
    before = model.stem.conv(x)
    assert not model.training and torch.allclose(norm.running_mean, before.mean((0, 2, 3)), atol=1e-6)
    assert torch.allclose(norm.running_var, before.var((0, 2, 3)), rtol=1e-5)
    assert torch.equal(model(x)[:2], model(x[:2])) or torch.allclose(model(x)[:2], model(x[:2]), atol=1e-5)


def test_what_a_training_measures_is_new_to_its_key_only_where_it_is_named() -> None:
    plain = fig7_activations.trainings(smoke=True)[0]
    assert key(plain) == key(dataclasses.replace(plain, measures=("active",)))
    assert key(plain) != key(dataclasses.replace(plain, measures=("certificate",)))


@pytest.mark.slow
def test_along_a_training_layers_are_certified_from_step_0_on(tmp_path: Path) -> None:
    training = dataclasses.replace(fig7_activations.trainings(smoke=True)[0], measures=ext_certificates.MEASURES)
    assert isinstance(training, ProbedTraining)
    rows = probe_run.measure_training(training, tmp_path).history
    first = [row for row in rows if row["images"] == 0 and str(row["layer"]).endswith("expand.act")]
    assert first and all(0 <= float(str(row["certified"])) <= 1 and row["verdict"] for row in first)
    assert sorted({row["images"] for row in rows}) == [0, 512, 1024]
