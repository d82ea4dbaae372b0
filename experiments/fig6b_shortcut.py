"""Figure 6b: the shortcut between bottlenecks against between expansions, against none.

Paper    Sandler et al. 2018, arXiv:1801.04381, Figure 6b
Claims   a shortcut between bottlenecks is better than one between expansions, and than none; both leads get smaller
         with training
Run      python -m experiments.fig6b_shortcut run
Differs  CIFAR-10 at width 0.35 and short trainings instead of ImageNet: it tests the sign, not the size. The paper
         leaves the wiring between expansions undefined: ours is drawn in figures/fig6_wirings. Beyond the paper:
         `projected`, which also crosses strides and changes of channels by a 1x1 convolution. `--smoke` runs the digits
"""

import functools

from manifold_lab.report.arm_styles import styles_of
from manifold_lab.report.plots import data_name
from manifold_lab.report.tables import ClaimResult, DataFrame, pick
from manifold_lab.sweeps import ablation, comparison, gap_over_training
from manifold_lab.sweeps.trained_study import Arms, Headline, trained_study
from manifold_lab.sweeps.training_run import FINAL

ARMS = {name: ablation.variant(shortcut=name) for name in ("bottleneck", "expansion", "none", "projected")}
SETTINGS = {"0.35": ablation.cifar_setting(0.35), "1": ablation.cifar_setting(1.0, ablation.SHORT_ONLY)}
SETTINGS["digits"] = ablation.digits_setting()
CONTRAST = comparison.Comparison(styles_of(ARMS), "width")
EXPECTED = [
    comparison.ExpectedOrder(
        f"beats_{arm}", "Figure 6b", f"a shortcut between bottlenecks is better than {other}", "bottleneck", arm
    )
    for arm, other in (
        ("expansion", "one between expansions (in the paper by 0.48 points)"),
        ("none", "none (in the paper by 1.50)"),
    )
]
SHRINKING = [
    comparison.ExpectedOrder(
        f"lead_over_{arm}_shrinks", "Figure 6b",
        f"the lead over {other} gets smaller with training (in the paper {paper})", "bottleneck", arm,
    )
    for arm, other, paper in (
        ("expansion", "a shortcut between expansions", "from 1.45 points to 0.48"),
        ("none", "no shortcut", "from more than 2.65 points to 1.50"),
    )
]  # fmt: skip
HEADLINE = Headline(
    "beats_", "A shortcut between bottlenecks beats one between expansions, and none",
    "A shortcut between bottlenecks does not beat both of its rivals",
    "Whether a shortcut between bottlenecks beats its rivals is undecided",
)  # fmt: skip


def claims(table: DataFrame) -> list[ClaimResult]:
    """Whether the shortcut between bottlenecks is better, everywhere; whether by less after longer training."""
    found = comparison.comparison_claims(table, CONTRAST, EXPECTED)
    return found + gap_over_training.gap_shrinks_with_training(table, CONTRAST, SHRINKING)


def dearer(table: DataFrame) -> str:
    """Which arms cost more multiply-adds than the paper's, and by how much: a caption's last sentence."""
    group, first = table[["group", "data"]].iloc[0]
    price = pick(table, group=group, kind=FINAL).groupby("arm", sort=False)["madds"].first().to_dict()
    own = price.get(CONTRAST.reference, 0)
    more = [f"{arm} {100 * (madds / own - 1):+.1f} %" for arm, madds in price.items() if own and madds != own]
    return f" Multiply-adds against {CONTRAST.reference}, {data_name(first)}: {', '.join(more)}." if more else ""


STUDY = trained_study(
    name="fig6b_shortcut",
    card=__doc__,
    grid=functools.partial(ablation.grid, ARMS, SETTINGS),
    arms=Arms(comparison=CONTRAST, expected=[*EXPECTED, *SHRINKING], headline=HEADLINE, note=dearer),
    caption="Figure 6b: what the shortcut joins.",
    claims=claims,
    at_scale=functools.partial(ablation.at_scale, ARMS),
)


if __name__ == "__main__":
    raise SystemExit(STUDY.main())
