"""Tables 5 to 7: what detection and segmentation cost, backbones counted on a pass, heads by formula.

Paper    Sandler et al. 2018, arXiv:1801.04381, Tables 5 to 7, sections 6.2 and 6.3
Claims   SSDLite has 2.1M parameters and 0.35B multiply-adds against SSD's 14.8M and 1.25B; MobileNetV2 with SSDLite is
         20 times more efficient and 10 times smaller than YOLOv2; segmentation needs 2.5 times fewer multiply-adds than
         with MobileNetV1, which needs 4.9 to 5.7 times fewer than ResNet-101
Run      python -m experiments.tab5_heads publish
Differs  nothing is trained or built but the backbones. The paper does not define the heads: ours are those of the
         authors' object detection code (six feature maps, 3 and 6 anchors, 80 classes and background, extra layers of
         512, 256, 256, 128 channels) and DeepLabv3's (256 channels, 21 classes), at 320 and 512. YOLOv2's and
         ResNet-101's costs are the paper's
"""

import dataclasses

import numpy as np

from manifold_lab.models import profiler
from manifold_lab.models.mobilenet import build
from manifold_lab.models.specs import V1, V2, NetworkSpec
from manifold_lab.report.printed import Printed, counted_claims
from manifold_lab.report.tables import ClaimResult, DataFrame, Document, Record, pick
from manifold_lab.sweeps.study import MAIN, computed_study

IMAGE, SEGMENTED = 320, 512
"""Resolutions of detection and of segmentation."""
SIZES, ANCHORS = (20, 10, 5, 3, 2, 1), (3, 6, 6, 6, 6, 6)
"""Sides of the feature maps that SSD predicts from, and boxes at each of their positions."""
EXTRA = (512, 256, 256, 128)
"""Channels of the maps behind the backbone, each by a 1x1 convolution to half of them and a 3x3 one of stride 2."""
OUTPUTS = 80 + 1 + 4
"""Numbers per box: classes, background, and its corners."""
HEAD_WIDTH, SEGMENTS = 256, 21
"""Channels of DeepLabv3's branches, and PASCAL's classes with background."""
PRINTED = {
    "SSD": ("14.8", "1.25"), "SSDLite": ("2.1", "0.35"), "MobileNetV2 + SSDLite": ("4.3", "0.8"),
    "MobileNetV1 + SSDLite": ("5.1", "1.3"), "MobileNetV1, ASPP": ("11.15", "14.25"),
    "MobileNetV2, ASPP": ("4.52", "5.8"), "MobileNetV2": ("2.11", "2.75"),
}  # fmt: skip
"""Millions of parameters and thousands of millions of multiply-adds; segmentation with output stride 16."""
YOLO, RESNET = (50.7, 17.5), {"16": (81.0, 14.25), "8, multi-scale": (4870.6, 941.9)}
"""YOLOv2's millions and thousands of millions; ResNet-101's and MobileNetV1's thousands of millions in Table 7."""
HEAD = {"table": "table", "network": "network", "paper_parameters": "params, M (paper)", "parameters": "params",
        "paper_madds": "MAdds, B (paper)", "madds": "MAdds"}  # fmt: skip
CAPTION = (
    "Costs of Tables 5 to 7 of arXiv:1801.04381: backbones counted on a forward pass with norms, heads by formula "
    f"without. {profiler.COUNTING_CONVENTION}"
)


Cost = np.ndarray
"""Parameters and multiply-adds of one image."""


def convolution(inputs: int, outputs: int, size: int, *, kernel: int = 1, separable: bool = False) -> Cost:
    """A convolution whose output has size x size positions; separable: depthwise, then pointwise."""
    weights = inputs * (kernel**2 + outputs) if separable else inputs * kernel**2 * outputs
    return np.array([weights, weights * size**2])


def ssd(separable: bool, channels: tuple[int, int]) -> Cost:
    """SSD's layers on top of two feature maps of the backbone: extra maps, and predictions from all six.

    Boxes and classes have predictors of their own, each with its own depthwise convolution where they are separable.
    """
    maps, total = (*channels, *EXTRA), np.zeros(2, int)
    for size, inputs, anchors in zip(SIZES, maps, ANCHORS, strict=True):
        for numbers in (4, OUTPUTS - 4):
            total += convolution(inputs, anchors * numbers, size, kernel=3, separable=separable)
    for before, size, inputs, outputs in zip(SIZES[1:], SIZES[2:], maps[1:], EXTRA, strict=False):
        total += convolution(inputs, outputs // 2, before)
        total += convolution(outputs // 2, outputs, size, kernel=3, separable=separable)
    return total


def deeplab(inputs: int, size: int, *, pyramid: bool) -> Cost:
    """DeepLabv3's head: a 1x1 branch and the image's mean, with the pyramid three atrous 3x3 branches besides."""
    branches = 5 if pyramid else 2
    total = convolution(inputs, HEAD_WIDTH, size) + convolution(inputs, HEAD_WIDTH, 1)
    for _ in range(branches - 2):
        total += convolution(inputs, HEAD_WIDTH, size, kernel=3)
    return total + convolution(branches * HEAD_WIDTH, HEAD_WIDTH, size) + convolution(HEAD_WIDTH, SEGMENTS, size)


def backbone(spec: NetworkSpec, resolution: int, *, stride_16: bool = False, last: bool = True) -> Cost:
    """A network without its classifier; with an output stride of 16, and without the last convolution, where asked."""
    rows = spec.rows
    if stride_16:  # atrous convolutions cost what others of their output size cost
        at = max(place for place, row in enumerate(rows) if row[3] == 2)
        rows = (*rows[:at], (*rows[at][:3], 1), *rows[at + 1 :])
    made = dataclasses.replace(spec, resolution=resolution, rows=rows)
    seen = profiler.profile(build(made), (made.in_channels, resolution, resolution))
    dropped = ("classifier",) if last else ("classifier", "last")
    cost = profiler.cost([one for one in seen if one.name.partition(".")[0] not in dropped])
    return np.array([cost.parameters, cost.madds])


def costs() -> dict[str, Cost]:
    """Every network that has a printed cost."""
    v2, v1 = (576, 1280), (512, 1024)
    size = SEGMENTED // 16
    narrow = backbone(V2, SEGMENTED, stride_16=True, last=False)
    return {
        "SSD": ssd(False, v2),
        "SSDLite": ssd(True, v2),
        "MobileNetV2 + SSDLite": backbone(V2, IMAGE) + ssd(True, v2),
        "MobileNetV1 + SSDLite": backbone(V1, IMAGE) + ssd(True, v1),
        "MobileNetV1, ASPP": backbone(V1, SEGMENTED, stride_16=True) + deeplab(1024, size, pyramid=True),
        "MobileNetV2, ASPP": narrow + deeplab(320, size, pyramid=True),
        "MobileNetV2": narrow + deeplab(320, size, pyramid=False),
    }


def tables(_smoke: bool) -> dict[str, list[Record]]:
    """One line per network."""
    lines = []
    for name, cost in costs().items():
        parameters, madds = PRINTED[name]
        table = "5" if name.startswith("SSD") else "6" if "SSD" in name else "7"
        known = {"table": table, "network": name, "paper_parameters": parameters, "paper_madds": madds}
        lines.append(known | dict(zip(("parameters", "madds"), cost.tolist(), strict=True)))
    return {MAIN: lines}


PARTS_JUDGED = (
    ("SSD", "ssd", "Table 5"), ("SSDLite", "ssdlite", "Table 5"), ("MobileNetV2 + SSDLite", "detector", "Table 6"),
    ("MobileNetV2", "segmenter", "Table 7"),
)  # fmt: skip
"""The networks whose printed costs are claims, with their claims' names and places."""


def claims(table: DataFrame) -> list[ClaimResult]:
    """Printed costs and the ratios that the text makes of them."""
    judged = []
    for network, name, place in PARTS_JUDGED:
        row = pick(table, network=network).iloc[0]
        for key, unit, what in (("parameters", 10**6, "M parameters"), ("madds", 10**9, "B multiply-adds")):
            printed, measured = Printed(row[f"paper_{key}"]), f"{what} by the count and the head's formula"
            says = f"{network}: {printed.digits}{what}"
            judged.append((f"{name}_{key}", place, says, measured, int(row[key]) / unit, printed))
    detector = pick(table, network="MobileNetV2 + SSDLite").iloc[0]
    smaller, cheaper = YOLO[0] * 1e6 / int(detector["parameters"]), YOLO[1] * 1e9 / int(detector["madds"])
    v1, v2 = (float(PRINTED[name][1]) for name in ("MobileNetV1, ASPP", "MobileNetV2, ASPP"))
    most, least = (resnet / ours for resnet, ours in RESNET.values())
    own = "ratio of Table 7's own numbers"
    return counted_claims([
        *judged,
        ("yolo_parameters", "Section 6.2", "MobileNetV2 + SSDLite is 10 times smaller than YOLOv2",
         "YOLOv2's printed parameters / ours", smaller, smaller >= 10),
        ("yolo_madds", "Section 6.2", "... and 20 times more efficient", "YOLOv2's printed multiply-adds / ours",
         cheaper, cheaper >= 20),
        ("v1_ratio", "Section 6.3", "segmentation needs about 2.5 times fewer operations than with MobileNetV1", own,
         v1 / v2, Printed("2.5")),
        ("resnet_most", "Section 6.3", "MobileNetV1 needs 4.9 to 5.7 times fewer multiply-adds than ResNet-101: 5.7",
         f"{own}, output stride 16", most, Printed("5.7")),
        ("resnet_least", "Section 6.3", "MobileNetV1 needs 4.9 to 5.7 times fewer multiply-adds than ResNet-101: 4.9",
         f"{own}, output stride 8", least, Printed("4.9")),
    ])  # fmt: skip


STUDY = computed_study(
    name="tab5_heads",
    card=__doc__,
    tables=tables,
    claims=claims,
    table=lambda published: Document(CAPTION, HEAD, published),
    text_columns=("paper_madds", "paper_parameters"),
)


if __name__ == "__main__":
    raise SystemExit(STUDY.main())
