"""Back to the image: verdicts on made-up lines, the way through a network, pictures that survive a csv file."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch

from experiments import ext_inversion
from experiments.drawing import ext_inversion as drawing
from manifold_lab import data
from manifold_lab.core.random_streams import stream
from manifold_lab.models.fold import folded
from manifold_lab.models.mobilenet import Network, build
from manifold_lab.models.specs import DIGITS, Intervention
from manifold_lab.probe.inversion import EXACT, FOUND, LOST, NOT_DECIDED
from manifold_lab.report.tables import ClaimResult, Record, pick
from manifold_lab.sweeps import inversion_run
from manifold_lab.sweeps.inversion_run import IMAGES, NEAR, STEM
from manifold_lab.sweeps.store import Run
from manifold_lab.sweeps.study import MAIN, tables_result
from tests.tabled import tabled


def lines(arm: str, errors: tuple[float, ...], statuses: tuple[str, ...], data: str = "digits") -> list[Record]:
    """One network per error, one image per status, at the stem and behind it."""
    return [
        {"data": data, "arm": arm, "seed": str(seed), "block": block, "image": str(image), "status": status,
         "error": "3", "control_error": str(NEAR * error)}
        for seed, error in enumerate(errors) for block in (str(STEM), "0", "3") for image, status in enumerate(statuses)
    ]  # fmt: skip


def verdicts(found: list[Record]) -> dict[str, ClaimResult]:
    return {claim.id: claim for claim in ext_inversion.claims({MAIN: tabled(found)})}


LOW, HIGH = (0.1, 0.12, 0.11, 0.1, 0.13), (0.5, 0.52, 0.51, 0.5, 0.53)


@pytest.mark.parametrize(
    ("linear", "relu6", "verdict"),
    [
        (LOW, HIGH, "holds"),
        (HIGH, LOW, "fails"),
        (LOW, (0.1, 0.12, 0.1, 0.13, 0.12), "undecided"),
        (LOW[:4], HIGH, "undecided"),
        ((), HIGH, "not run"),
    ],
)
def test_arms_are_compared_over_networks_five_of_each(
    linear: tuple[float, ...], relu6: tuple[float, ...], verdict: str
) -> None:
    message = verdicts([*lines("linear", linear, (FOUND,)), *lines("relu6", relu6, (LOST,))])
    claim = message["relu6_loses_more/digits/relu6"]
    assert claim.verdict == verdict and bool(claim.needed) == (verdict == "undecided")
    if len(linear) == 4:
        assert claim.needed == "5 networks an arm or more"


@pytest.mark.parametrize(
    ("statuses", "needed"),
    [
        ((FOUND,) * 7 + (LOST,), "12 images"),  # the exact test of 1/2 on 12 has power .82 there, of 11 .59
        ((LOST,) * 7 + (FOUND,), "12 images"),
        ((FOUND,) * 4 + (NOT_DECIDED,) * 2 + (LOST,) * 2, "a search that decides more images"),
        ((NOT_DECIDED,) * 8, "a search that decides more images"),
        ((FOUND,) * 4 + (LOST,) * 4, "more than 10,000 images"),
    ],
)
def test_more_images_decide_only_where_the_search_does(statuses: tuple[str, ...], needed: str) -> None:
    claim = verdicts(lines("linear", LOW, statuses))["kept/digits/linear/3"]
    assert claim.verdict == "undecided" and claim.needed == needed


def test_controls_that_went_astray_count_as_all_of_their_noise() -> None:
    found = [*lines("linear", LOW, (FOUND,)), *lines("relu6", (7.0, 8.0, 9.0, 1.0, 2.0), (LOST,))]
    assert ext_inversion.levels(pick(tabled(found), arm="relu6")) == [1.0] * 5


@pytest.mark.parametrize(
    ("statuses", "verdict"),
    [
        ((FOUND,) * 8, "holds"),
        ((EXACT,) * 4 + (FOUND,) * 4, "holds"),
        ((LOST,) * 8, "fails"),
        ((NOT_DECIDED,) * 8, "undecided"),
        ((FOUND,) * 4 + (LOST,) * 4, "undecided"),
    ],
)
def test_a_failed_search_is_no_loss(statuses: tuple[str, ...], verdict: str) -> None:
    message = verdicts(lines("linear", (0.1,), statuses))
    assert message["kept/digits/linear/0"].verdict == verdict
    assert message["decided/digits"].verdict == ("fails" if statuses[0] == NOT_DECIDED else "holds")


def test_an_image_that_one_network_loses_is_not_kept_in_all() -> None:
    found = [*lines("linear", (0.1, 0.2), (FOUND,) * 8), *lines("linear", (0.1,), (LOST,) * 8)]
    assert verdicts(found)["kept/digits/linear/0"].verdict == "fails"


def network(**fields: object) -> Network:
    made = build(dataclasses.replace(DIGITS, **fields), 0).eval()  # type: ignore[arg-type]
    return folded(made).double()


def test_the_layers_of_the_way_are_those_that_the_network_runs() -> None:
    model, x = (
        network(bottleneck_activation="relu6", shortcut="none"),
        torch.randn(2, 1, 8, 8, generator=stream(0, "x")).double(),
    )
    steps, y = list(inversion_run.steps(model, x, 1)), x
    assert [step.name for step in steps] == [
        "stem", "blocks.0.depthwise", "blocks.0.project", *(f"blocks.1.{part}" for part in
                                                            ("expand", "depthwise", "project"))]  # fmt: skip
    for step in steps:
        assert step.layer is not None and tuple(y.shape[1:]) == step.size
        y = step.layer(y)
    assert torch.allclose(y, inversion_run.until(model, 1)(x))


def test_sums_and_interventions_have_no_inverse_by_themselves() -> None:
    x = torch.zeros(1, 1, 8, 8).double()
    gains = network(intervention=Intervention(gain=0.1))
    there = {step.name: step.layer is not None for step in inversion_run.steps(gains, x, 3)}
    assert there["blocks.0.depthwise"] and not there["blocks.0.project"]
    assert not there["blocks.1"] and "blocks.1.expand" not in there and there["blocks.3.depthwise"]


def test_an_image_is_exact_at_the_stem_and_searched_behind_it() -> None:
    model = folded(build(DIGITS, 0).eval()).requires_grad_(False)
    x = torch.randn(2, 1, 8, 8, generator=stream(0, "x"))
    found, message = inversion_run.inverted(model, x, STEM, 2)
    assert [inversion_run.outcome_of(line) for line in message] == [EXACT, EXACT] and torch.allclose(
        found, x, atol=1e-5
    )
    assert all(float(line["error"]) < 1e-10 and not line["stopped"] for line in message)
    _, message = inversion_run.inverted(model, x, 0, 2)
    assert all(inversion_run.outcome_of(line) != EXACT and line["stopped"] == "blocks.0.project" for line in message)


def test_images_and_lines_of_one_search_have_the_status_of_its_numbers(tmp_path: Path) -> None:
    at = dict(zip(inversion_run.WHERE, ("digits", "linear", "0", "1", "0"), strict=True))
    numbers = {
        "stopped": "blocks.0",
        "error": "0.3",
        "mismatch": "0.001",
        "control_error": "0",
        "control_mismatch": "0",
    }
    result = tables_result({MAIN: [at | numbers], IMAGES: [at | {"block": ""}, at]})
    found = inversion_run.rows([Run(None, tmp_path, numbers=result.numbers)])
    assert found[MAIN][0]["status"] == LOST
    assert [line["status"] for line in found[IMAGES]] == ["", LOST]
    assert inversion_run.rows([]) == {}


def test_pixels_come_back_from_a_csv_file() -> None:
    run = ext_inversion.grid(True)[0]
    images = data.load(run.training.data, seed=0)
    x, _ = next(images.evaluation("test", 2))
    held = inversion_run._images({}, x, images)
    stored = images.splits["test"].x[:2, 0].double().numpy() * 255 / images.facts.full_scale  # type: ignore[attr-defined]
    for line, wanted in zip(held, stored, strict=True):
        assert np.abs(drawing.pixels(line) - wanted).max() <= 0.5 + 1e-4


def test_no_run_of_the_grid_is_there_twice_and_kept_networks_are_the_cause_experiments() -> None:
    from experiments import ext_cause  # noqa: PLC0415

    grid = ext_inversion.grid(False)
    assert len(set(grid)) == len(grid)
    trained = set(ext_cause.grid(False))
    assert all(run.training in trained for run in grid if run.training.data == "cifar10")
