"""What the trained ablations decide, on made-up lines; what is seen inside a network, against direct computations."""

import pytest

from experiments import ext_expansion, ext_shortcut_x_nonlinearity, ext_width_resolution, tab_block
from manifold_lab.core.shown import DataFrame
from manifold_lab.models import matching
from manifold_lab.sweeps import ablation
from tests.sweeps.test_comparison import final
from tests.tabled import tabled

JITTER = (0.0, 0.01, -0.01, 0.005, -0.005)


def lines(levels: dict[tuple[str, str], float]) -> DataFrame:
    """Five seeds of every (arm, group) around its level, not equally far from it."""
    return tabled(
        [
            {**final(arm, seed, level + JITTER[(seed + place) % 5] / 10), "group": group, "madds": "1000000"}
            for place, ((arm, group), level) in enumerate(levels.items())
            for seed in range(5)
        ]
    )


@pytest.mark.parametrize(("with_shortcut", "verdict"), [(0.79, "holds"), (0.60, "fails"), (0.701, "undecided")])
def test_a_shortcut_softens_only_what_is_lost_less_with_it(with_shortcut: float, verdict: str) -> None:
    found = lines({("linear", "none"): 0.7, ("relu6", "none"): 0.6, ("linear", "bottleneck"): 0.8,
                   ("relu6", "bottleneck"): with_shortcut})  # fmt: skip
    claims = ext_shortcut_x_nonlinearity.claims(found)
    assert [claim.verdict for claim in claims if claim.place == "Footnote 3"] == [verdict]


@pytest.mark.parametrize(("level", "verdict"), [(0.801, "holds"), (0.85, "fails"), (0.83, "undecided")])
def test_nearly_the_same_is_within_three_points(level: float, verdict: str) -> None:
    found = lines({("6", "0.35"): 0.8, ("8", "0.35"): level})
    claim = ext_expansion.near(found, ("0.35", 1000), "8")
    assert claim.verdict == verdict and claim.estimate.value == pytest.approx(100 * (level - 0.8), abs=0.11)
    assert claim.needed.endswith("runs an arm") == (verdict == "undecided")


@pytest.mark.slow
def test_every_factor_and_block_costs_what_the_papers_does() -> None:
    base = ablation.cifar_setting(0.35).network
    price = matching.madds(base)
    for arms in (ext_expansion.ARMS, tab_block.ARMS):
        assert all(matching.madds(arm(base)) == pytest.approx(price, rel=0.01) for arm in arms.values())


def test_multipliers_are_compared_one_at_a_time() -> None:
    assert ext_width_resolution.steps("0.25 @ 32", "0.35 @ 32") and ext_width_resolution.steps("0.35 @ 24", "0.35 @ 32")
    assert not ext_width_resolution.steps("0.25 @ 24", "0.35 @ 32")
    assert not ext_width_resolution.steps("0.25 @ 32", "0.5 @ 32")
    assert not ext_width_resolution.steps("0.35 @ 32", "0.25 @ 32")
    found = lines({("linear", "0.25 @ 32"): 0.6, ("linear", "0.35 @ 32"): 0.5})
    claims = ext_width_resolution.claims(found)
    assert [claim.id for claim in claims if claim.verdict == "fails"] == [
        "accuracy_rises/0.35@32 over 0.25@32/digits/0.35 @ 32/1000"
    ]
    others = [claim for claim in claims if claim.verdict == "not run"]
    assert len(claims) == 12 and len({claim.id for claim in claims}) == 12 and len(others) == 11
    small = lines({("linear", "0.25 @ 8"): 0.6, ("linear", "0.25 @ 6"): 0.5})
    assert [claim.verdict for claim in ext_width_resolution.claims(small)] == ["holds"]
