"""The inverted residual against the classic one that it inverts, and against MobileNetV1's stack, at matched MAdds.

Paper    Sandler et al. 2018, arXiv:1801.04381, sections 3.3 and 5, Table 4
Claims   inverted residuals make better use of multiply-adds than the blocks before them
Run      python -m experiments.tab_block run
Differs  CIFAR-10 at width 0.35 and short trainings instead of ImageNet. Each rival's channels are scaled until its
         counted multiply-adds come nearest the inverted network's; parameters then differ. The classic block has no
         ReLU6 behind its wide output, as the inverted one has none behind its narrow one; MobileNetV1's stack has ReLU6
         everywhere and no shortcut, as published. One learning rate, 0.1, serves all three: what tuning would give the
         rivals was not tried. `--smoke` runs the digits
"""

import dataclasses
import functools

from manifold_lab.models import matching
from manifold_lab.models.specs import NetworkSpec
from manifold_lab.report.arm_styles import styles_of
from manifold_lab.sweeps import ablation
from manifold_lab.sweeps.comparison import Comparison, ExpectedOrder
from manifold_lab.sweeps.trained_study import Arms, Headline, trained_study


def matched(base: NetworkSpec, **fields: str | int) -> NetworkSpec:
    """The base with another block, its channels in whole steps of one so that the match is near."""
    rival = dataclasses.replace(base, round_to=1, **fields)  # type: ignore[arg-type]
    return matching.at_madds(rival, matching.madds(base))


ARMS: dict[str, ablation.Arm] = {
    "inverted": lambda base: base,
    "classic": lambda base: matched(base, block="classic"),
    "separable": lambda base: matched(base, block="separable", bottleneck_activation="relu6", shortcut="none"),
}
SETTINGS = {"0.35": ablation.cifar_setting(0.35), "digits": ablation.digits_setting()}
CONTRAST = Comparison(styles_of(ARMS), "width")
EXPECTED = [
    ExpectedOrder(
        f"inverted_beats_{arm}", place,
        f"inverted residuals are better than {other}, at equal multiply-adds", "inverted", arm,
    )
    for arm, place, other in (
        ("classic", "Section 3.3 (ours)", "classic ones"), ("separable", "Figure 5", "MobileNetV1's stack"),
    )
]  # fmt: skip
HEADLINE = Headline(
    "inverted_beats_classic", "Inverted residuals beat classic ones at equal multiply-adds",
    "Inverted residuals do not beat classic ones at equal multiply-adds",
)  # fmt: skip
STUDY = trained_study(
    name="tab_block",
    card=__doc__,
    grid=functools.partial(ablation.grid, ARMS, SETTINGS),
    arms=Arms(comparison=CONTRAST, expected=EXPECTED, headline=HEADLINE),
    caption="Three kinds of block at matched multiply-adds.",
)


if __name__ == "__main__":
    raise SystemExit(STUDY.main())
