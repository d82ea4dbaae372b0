"""MobileNeXt's sandglass block against the inverted residual at matched multiply-adds: where the shortcut is wide.

Paper    Zhou et al. 2020, arXiv:2007.02269; Sandler et al. 2018, arXiv:1801.04381, section 3.3
Claims   a block whose shortcut and depthwise convolutions are wide beats the inverted residual at equal multiply-adds;
         its bottleneck must be linear too
Run      python -m experiments.ext_sandglass run
Differs  CIFAR-10 at width 0.35 and short trainings instead of ImageNet. MobileNetV2's rows with all channels scaled by
         one factor until the counted multiply-adds match, instead of rows of its own; both depthwise convolutions in
         every block, where its code leaves some out. ReLU6 everywhere but behind the bottleneck and the last
         convolution of a block. `--smoke` runs the digits
"""

import functools

from experiments.tab_block import matched
from manifold_lab.report.arm_styles import YELLOW, styles_of
from manifold_lab.sweeps import ablation
from manifold_lab.sweeps.comparison import Comparison, ExpectedOrder
from manifold_lab.sweeps.trained_study import Arms, Headline, trained_study

ARMS: dict[str, ablation.Arm] = {
    "inverted": lambda base: base,
    "sandglass": lambda base: matched(base, block="sandglass"),
    "sandglass relu6": lambda base: matched(base, block="sandglass", bottleneck_activation="relu6"),
}
SETTINGS = {"0.35": ablation.cifar_setting(0.35, ablation.SHORT_ONLY)}
STYLES = styles_of(dict.fromkeys(("inverted", "sandglass"))) | {"sandglass relu6": (YELLOW, "P")}
EXPECTED = [
    ExpectedOrder("sandglass_beats_inverted", "Zhou et al. 2020",
                  "the sandglass block is better than the inverted residual, at equal multiply-adds",
                  "sandglass", "inverted"),
    ExpectedOrder("sandglass_needs_a_linear_bottleneck", "Zhou et al. 2020",
                  "in a sandglass too a linear bottleneck is better than one with ReLU6", "sandglass",
                  "sandglass relu6"),
]  # fmt: skip
HEADLINE = Headline(
    "sandglass_beats_inverted", "The sandglass block beats the inverted residual at equal multiply-adds",
    "The sandglass block does not beat the inverted residual at equal multiply-adds",
)  # fmt: skip
STUDY = trained_study(
    name="ext_sandglass",
    card=__doc__,
    grid=functools.partial(ablation.grid, ARMS, SETTINGS),
    arms=Arms(comparison=Comparison(STYLES, "width"), expected=EXPECTED, headline=HEADLINE),
    caption="Sandglass blocks and inverted residuals at matched multiply-adds.",
)


if __name__ == "__main__":
    raise SystemExit(STUDY.main())
