"""The studies of random layers: where injectivity begins, and what a rank says."""

import math

import pytest
import torch

from experiments import ext_rexnet_rank, ext_threshold
from manifold_lab import theory
from manifold_lab.core.random_streams import stream
from manifold_lab.report.tables import ClaimResult, Record, nine_digits
from tests.tabled import tabled


def verdicts(claims: list[ClaimResult]) -> dict[str, str]:
    return {claim.id: claim.verdict for claim in claims}


def test_shares_in_the_plane_are_the_closed_form_and_no_test_refutes_what_is_injective() -> None:
    spec = ext_threshold.Spec(2, 4.0, draws=400)
    found = ext_threshold.measured(spec)
    law = theory.injectivity_probability(8, 2)
    assert law == 0.625 and abs(found["exact"] / 400 - law) < 4 * math.sqrt(law * (1 - law) / 400)
    assert found["exact"] <= found["search"] and found["exact"] <= found["random"]


def line(n: int, t: float, test: str, injective: int, draws: int = 100) -> Record:
    return ext_threshold.line(ext_threshold.Spec(n, t, draws), test, injective)


def threshold(kept: int, above: tuple[int, int] = (50, 90)) -> dict[str, str]:
    """Verdicts where a search leaves so many of 100 layers of n = 16, and n = 2 and 4 have these shares at 8n."""
    lines = [line(2, 8.0, "exact", above[0]), line(4, 8.0, "exact", above[1]), line(4, 8.0, "search", 90),
             line(2, 3.0, "exact", 30), line(4, 3.0, "exact", 0), line(4, 3.0, "search", 0),
             line(4, 3.0, "random", 50), line(3, 5.0, "exact", 300, 1000), line(3, 5.0, "search", 300, 1000),
             line(16, 6.0, "search", kept)]  # fmt: skip
    return verdicts(ext_threshold.claims(tabled(lines)))


def test_layers_that_no_search_refutes_are_left_open() -> None:
    message = [threshold(kept)["mobilenet_not_injective/16"] for kept in (10, 50, 100)]
    assert message == ["holds", "undecided", "undecided"]


def test_what_growing_n_does_is_decided_by_both_shares() -> None:
    message = [threshold(10, above)["more_injective_above"] for above in ((50, 90), (70, 72), (90, 50))]
    assert message == ["holds", "undecided", "fails"]
    assert threshold(10)["less_injective_below"] == "holds"
    assert threshold(10)["search_is_nearly_complete"] == "holds", "all that were refuted exactly were refuted here"


def test_the_measure_of_what_is_lost_is_the_theorems() -> None:
    (claim,) = [one for one in ext_threshold.claims(tabled([line(2, 8.0, "exact", 9)])) if "typical" in one.id]
    lost = [1 - float(theory.preserved_fraction(6 * n, n)) for n in ext_threshold.EXPANDED]
    assert claim.verdict == "holds" and claim.estimate.value == len(lost) and max(lost) < 1e-9


def test_a_linear_layer_has_the_rank_of_its_input() -> None:
    rng = stream(0, "rank")
    x, weight = torch.randn((400, 5), generator=rng), torch.randn((20, 5), generator=rng)
    found = ext_rexnet_rank.ranks(x @ weight.mT)
    assert found["numerical"] == 5 and 1 < found["effective"] <= 5
    equal = torch.cat([torch.eye(7), -torch.eye(7)])
    assert ext_rexnet_rank.ranks(equal) == pytest.approx({"numerical": 7, "effective": 7})


def test_relu_keeps_the_share_of_points_that_the_theorem_says() -> None:
    rng, shares = stream(0, "kept"), []
    for _ in range(40):
        weight, x = torch.randn((12, 6), generator=rng), torch.randn((50, 6), generator=rng)
        shares.append(ext_rexnet_rank.kept(weight, x))
    error = torch.tensor(shares).std() / math.sqrt(len(shares))
    assert abs(sum(shares) / len(shares) - float(theory.preserved_fraction(12, 6))) < 4 * error


def ranked(**ranks: float) -> list[Record]:
    """Rows of three layers a cell: effective ranks as named at every ratio, rising with it; numerical ones full."""
    found: list[Record] = []
    levels = dict.fromkeys((ext_rexnet_rank.LINEAR, *ext_rexnet_rank.NONLINEAR), 0.5) | ranks
    for ratio in ext_rexnet_rank.RATIOS:
        common = {"ratio": nine_digits(ratio), "inputs": "", "outputs": ""}
        for draw in range(3):
            cell = common | {"draw": str(draw)}
            for name, level in levels.items():
                value = nine_digits(level * ratio * (1 + 0.01 * draw))
                found = [*found, cell | {"activation": name, "rank": "effective", "value": value},
                         cell | {"activation": name, "rank": "numerical", "value": "1"}]  # fmt: skip
            found = [*found, cell | {"activation": "kept", "rank": "", "value": nine_digits(0.5 + 0.01 * draw)}]
    return found


@pytest.mark.parametrize(
    ("ranks", "lifts", "silu", "information"),
    [
        ({"identity": 0.3, "silu": 0.7}, "holds", "holds", "fails"),
        ({"identity": 0.3, "silu": 0.4}, "holds", "fails", "fails"),
        ({"identity": 0.6}, "fails", "undecided", "holds"),
    ],
)
def test_ranks_are_compared_layer_by_layer(ranks: dict[str, float], lifts: str, silu: str, information: str) -> None:
    message = verdicts(ext_rexnet_rank.claims(tabled(ranked(**ranks))))
    assert message["nonlinearity_lifts_rank"] == lifts and message["rank_is_information"] == information
    assert message["silu_above_relu6"] == silu and message["rank_rises_with_ratio"] == "holds"
    assert message["numerical_rank_tells"] == "fails"


def test_a_line_a_layer_so_that_they_stay_paired() -> None:
    lines = ext_rexnet_rank.lines(ext_rexnet_rank.HALF, draws=2, outputs=12)
    assert len(lines) == 2 * (2 * (1 + len(ext_rexnet_rank.NONLINEAR)) + 1)
    linear = [one["value"] for one in lines if one["activation"] == "identity" and one["rank"] == "numerical"]
    assert linear == [0.5, 0.5]
