"""Where a nonlinearity is needed: the expansion's, the depthwise convolution's, or either.

Paper    Sandler et al. 2018, arXiv:1801.04381, Table 1 and section 3.3
Claims   none by the paper, which puts ReLU6 behind both; users of its code ask whether the expansion's is a mistake
Run      python -m experiments.ext_positions run
Differs  CIFAR-10 at width 0.35 and short trainings: linear behind the expansion, behind the depthwise convolution, and
         behind both, against the paper's. `--smoke` runs the digits
"""

import functools

from manifold_lab.report.arm_styles import styles_of
from manifold_lab.sweeps import ablation
from manifold_lab.sweeps.comparison import Comparison, ExpectedOrder
from manifold_lab.sweeps.trained_study import Arms, Headline, trained_study

ARMS = {
    "both": lambda base: base,
    "depthwise only": ablation.variant(expansion_activation="linear"),
    "expansion only": ablation.variant(depthwise_activation="linear"),
    "neither": ablation.variant(expansion_activation="linear", depthwise_activation="linear"),
}
SETTINGS = {"0.35": ablation.cifar_setting(0.35, ablation.SHORT_ONLY)}
EXPECTED = [
    ExpectedOrder(f"both_beats_{arm.replace(' ', '_')}", "Table 1 (ours)", f"ReLU6 behind both is better than {says}",
                  "both", arm)
    for arm, says in (
        ("depthwise only", "behind the depthwise convolution alone"), ("expansion only", "behind the expansion alone"),
        ("neither", "none"),
    )
]  # fmt: skip
HEADLINE = Headline(
    "both_beats_depthwise_only", "ReLU6 behind both convolutions beats ReLU6 behind the depthwise one alone",
    "ReLU6 behind the depthwise convolution alone beats ReLU6 behind both",
)  # fmt: skip
STUDY = trained_study(
    name="ext_positions",
    card=__doc__,
    grid=functools.partial(ablation.grid, ARMS, SETTINGS),
    arms=Arms(comparison=Comparison(styles_of(ARMS), "width"), expected=EXPECTED, headline=HEADLINE),
    caption="Where ReLU6 stands in a block.",
)


if __name__ == "__main__":
    raise SystemExit(STUDY.main())
