"""Claim: the probe's counts are exact on the classification families of torchvision and timm, or it says why not.

Run      python -m benchmarks.families
Peer     a forward pass that keeps the output of every activation and counts with the axis of the channels labelled by
         hand (`AXES`). It finds activations its own way: modules by their class, functions below torch's Python
         interface, as the operators of ATen that run
Work     the smallest network of each family found, random weights, two small images of noise
Writes   docs/families.csv and families.md: per family how many activations ran, how many counts are exact, and every
         other one with what the probe says of it
"""

import csv
import dataclasses
import fnmatch
import functools
import math
import sys
import warnings
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import timm
import torch
import torchvision
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from manifold_lab.core.cli import run_cli
from manifold_lab.core.errors import InputError
from manifold_lab.core.files import check_folder, publish, text
from manifold_lab.core.random_streams import stream
from manifold_lab.probe import Probe
from manifold_lab.report import tables

INFINITY = math.inf
SIZES = (64, 96, 128, 160, 224, 240, 256, 320, 384, 448, 512)
MODULES: dict[str, tuple[float, float]] = {
    **dict.fromkeys(("ReLU", "GELU", "GELUTanh", "QuickGELU", "SiLU", "Swish", "Hardswish", "HardSwish", "Mish",
                     "HardMish"), (0, INFINITY)),
    "ReLU6": (0, 6), **dict.fromkeys(("Sigmoid", "Hardsigmoid", "HardSigmoid"), (0, 1)), "Tanh": (-1, 1),
    **dict.fromkeys(("LeakyReLU", "PReLU"), (-INFINITY, INFINITY)), "ELU": (-1, INFINITY), "Softplus": (0, INFINITY),
}  # fmt: skip
"""Active outputs by the class of a module, with its usual parameters."""
ATEN: dict[str, tuple[float, float]] = {
    **dict.fromkeys(("relu", "gelu", "silu", "hardswish", "mish", "softplus"), (0, INFINITY)),
    **dict.fromkeys(("sigmoid", "hardsigmoid"), (0, 1)), "tanh": (-1, 1), "leaky_relu": (-INFINITY, INFINITY),
    "hardtanh": (0, 6),
}  # fmt: skip
"""The same by the operator of ATen; hardtanh is what relu6 becomes."""
FAMILIES: dict[str, str] = {
    "torchvision alexnet": "alexnet",
    "torchvision vgg": "vgg11_bn",
    "torchvision resnet": "resnet18",
    "torchvision resnext": "resnext50_32x4d",
    "torchvision wide_resnet": "wide_resnet50_2",
    "torchvision squeezenet": "squeezenet1_0",
    "torchvision densenet": "densenet121",
    "torchvision inception": "inception_v3",
    "torchvision googlenet": "googlenet",
    "torchvision shufflenetv2": "shufflenet_v2_x0_5",
    "torchvision mobilenetv2": "mobilenet_v2",
    "torchvision mobilenetv3": "mobilenet_v3_small",
    "torchvision mnasnet": "mnasnet0_5",
    "torchvision efficientnet": "efficientnet_b0",
    "torchvision efficientnet_v2": "efficientnet_v2_s",
    "torchvision regnet": "regnet_x_400mf",
    "torchvision vision_transformer": "vit_b_16",
    "torchvision swin_transformer": "swin_t",
    "torchvision swin_transformer_v2": "swin_v2_t",
    "torchvision convnext": "convnext_tiny",
    "torchvision maxvit": "maxvit_t",
    "timm beit": "beit_base_patch16_224",
    "timm byoanet": "halonet_h1",
    "timm byobnet": "test_byobnet",
    "timm cait": "cait_xxs24_224",
    "timm coat": "coat_tiny",
    "timm convit": "convit_tiny",
    "timm convmixer": "convmixer_768_32",
    "timm convnext": "test_convnext",
    "timm cpubone": "cpubone_nano",
    "timm crossvit": "crossvit_9_240",
    "timm csatv2": "csatv2",
    "timm cspnet": "cs3darknet_focus_s",
    "timm cspnext": "cspnext_tiny",
    "timm davit": "davit_tiny",
    "timm deepseek_vit": "deepseek_vit_412m",
    "timm deit": "deit_tiny_distilled_patch16_224",
    "timm densenet": "densenet121",
    "timm dla": "dla46_c",
    "timm dpn": "dpn48b",
    "timm edgenext": "edgenext_xx_small",
    "timm efficientformer": "efficientformer_l1",
    "timm efficientformer_v2": "efficientformerv2_s0",
    "timm efficientnet": "test_efficientnet",
    "timm efficientvim": "efficientvim_m1",
    "timm efficientvit_mit": "efficientvit_b0",
    "timm efficientvit_msra": "efficientvit_m0",
    "timm eva": "eva02_tiny_patch14_224",
    "timm fasternet": "fasternet_t0",
    "timm fastvit": "fastvit_t8",
    "timm focalnet": "focalnet_tiny_srf",
    "timm gcvit": "gcvit_xxtiny",
    "timm gemma4_vit": "gemma4_vit_167m",
    "timm ghostnet": "ghostnet_050",
    "timm hardcorenas": "hardcorenas_a",
    "timm hgnet": "hgnetv2_b0",
    "timm hiera": "hiera_tiny_224",
    "timm hieradet_sam2": "hieradet_small",
    "timm hrnet": "hrnet_w18_small",
    "timm iformer": "iformer_t",
    "timm inception_next": "inception_next_atto",
    "timm inception_resnet_v2": "inception_resnet_v2",
    "timm inception_v3": "inception_v3",
    "timm inception_v4": "inception_v4",
    "timm lcnetv2": "lcnetv2_small",
    "timm levit": "levit_128s",
    "timm lowformer": "lowformer_b0",
    "timm mambaout": "mambaout_femto",
    "timm maxxvit": "maxxvit_rmlp_nano_rw_256",
    "timm metaformer": "poolformer_s12",
    "timm mlp_mixer": "mixer_s32_224",
    "timm mobilenetv3": "lcnet_035",
    "timm mobilenetv5": "mobilenetv5_base",
    "timm mobilevit": "mobilevit_xxs",
    "timm mvitv2": "mvitv2_tiny",
    "timm naflexvit": "naflexvit_base_patch16_gap",
    "timm nasnet": "nasnetalarge",
    "timm nest": "nest_tiny",
    "timm nextvit": "nextvit_small",
    "timm nfnet": "test_nfnet",
    "timm pit": "pit_ti_224",
    "timm pnasnet": "pnasnet5large",
    "timm pvt_v2": "pvt_v2_b0",
    "timm qwen3_vit": "qwen3_vit_88m",
    "timm rdnet": "rdnet_tiny",
    "timm regnet": "regnety_002",
    "timm repghost": "repghostnet_050",
    "timm repvit": "repvit_m0_9",
    "timm res2net": "res2net50_14w_8s",
    "timm resnest": "resnest14d",
    "timm resnet": "test_resnet",
    "timm resnetv2": "resnetv2_18",
    "timm rexnet": "rexnet_100",
    "timm selecsls": "selecsls42",
    "timm senet": "legacy_seresnet18",
    "timm sequencer": "sequencer2d_s",
    "timm shvit": "shvit_s1",
    "timm sknet": "skresnet18",
    "timm starnet": "starnet_s050",
    "timm swiftformer": "swiftformer_xs",
    "timm swin_transformer": "swin_tiny_patch4_window7_224",
    "timm swin_transformer_v2": "swinv2_tiny_window8_256",
    "timm swin_transformer_v2_cr": "swinv2_cr_tiny_224",
    "timm tiny_vit": "tiny_vit_5m_224",
    "timm tnt": "tnt_s_patch16_224",
    "timm tresnet": "tresnet_m",
    "timm twins": "twins_pcpvt_small",
    "timm vgg": "vgg11",
    "timm visformer": "visformer_tiny",
    "timm vision_transformer": "test_vit",
    "timm vision_transformer_hybrid": "vit_tiny_r_s16_p8_224",
    "timm vision_transformer_relpos": "test_vit_relpos",
    "timm vision_transformer_sam": "samvit_base_patch16_224",
    "timm vitamin": "vitamin_small_224",
    "timm volo": "volo_d1_224",
    "timm vovnet": "ese_vovnet19b_slim_dw",
    "timm xception": "legacy_xception",
    "timm xception_aligned": "xception41",
    "timm xcit": "xcit_nano_12_p16_224",
}
"""A small network of each family; a family of timm is a module of `timm.models`."""
Label = dict[int, tuple[int, ...]]
"""The axes of the channels by the number of dimensions."""
IMAGES: Label = {4: (1,), 3: (2,), 2: (1,)}
TOKENS: Label = {4: (3,), 3: (2,), 2: (1,), 5: (4,)}
HEADS: Label = {4: (1,), 3: (0,)}
"""The heads of a position bias."""
FLAT: Label = {3: (1,)}
"""Images whose positions are joined."""
SEVERAL: Label = {4: (1, 3)}
"""Heads, and the channels of each."""
AXES: dict[str, Label] = {
    "swin_transformer_v2/*.attn.()*": HEADS, "swin*/*": TOKENS, "convnext/*": TOKENS,
    "maxvit/*attention*": TOKENS, "maxxvit/*attn*": TOKENS,
    "mambaout/stem*": IMAGES, "mambaout/*": TOKENS, "hieradet_sam2/*": TOKENS, "gcvit/*.mlp*": TOKENS,
    "nest/*": TOKENS, "volo/network*": TOKENS, "edgenext/*mlp*": TOKENS, "vision_transformer_sam/*mlp*": TOKENS,
    "sequencer/*": TOKENS, "csatv2/stages.?.*.act": TOKENS,
    "efficientvim/*.mixer.act*": FLAT, "efficientvit_mit/*.kernel_func*": SEVERAL,
}  # fmt: skip
"""By a pattern of FAMILY/LAYER, read from the networks' sources; the first that fits, else `IMAGES`."""
OF_PARAMETERS = ("convit/blocks.*.attn.()*", "efficientvim/stages.?.blocks.?.()*")
"""Functions that act on parameters, and on no data: the sigmoid of gates."""
COLUMNS = ("family", "network", "activations", "exact", "of_parameters", "wrong", "not_counted", "also_named")


def axes(family: str, layer: str, y: Tensor) -> tuple[int, ...]:
    """The label of an activation's output."""
    found = next(
        (label for pattern, label in AXES.items() if fnmatch.fnmatchcase(f"{family}/{layer}", pattern)), IMAGES
    )
    return found[y.dim()]


@dataclass(frozen=True)
class Counted:
    """What brute force counts of one activation, or the probe says of it."""

    layer: str
    channels: int | None
    active_mean: float | None
    active_min: int | None
    never_active: int | None
    note: str = ""


class BruteForce(TorchDispatchMode):
    """Counts every activation that runs, in order."""

    def __init__(self, model: nn.Module, family: str):
        super().__init__()
        self.family, self.found = family, list[Counted]()
        self.inside: list[tuple[str, bool]] = []
        self.calls = Counter[str]()
        self.handles = list(self._attached(model))

    def _attached(self, model: nn.Module) -> Iterator[Any]:
        for name, module in model.named_modules():
            bounds = MODULES.get(type(module).__name__)
            yield module.register_forward_pre_hook(functools.partial(self._enter, name, bounds))
            yield module.register_forward_hook(functools.partial(self._leave, name, bounds))

    def _enter(self, name: str, bounds: tuple[float, float] | None, *_: object) -> None:
        self.inside.append((name, bounds is not None))

    def _leave(self, name: str, bounds: tuple[float, float] | None, _module: object, _x: object, y: object) -> None:
        self.inside.pop()
        if bounds is not None and isinstance(y, Tensor):
            self._count(name, y, bounds)

    def _count(self, name: str, y: Tensor, bounds: tuple[float, float]) -> None:
        self.calls[name] += 1
        layer = name if self.calls[name] == 1 else f"{name}#{self.calls[name]}"
        places = axes(self.family, layer, y)
        last = y.movedim(places, tuple(range(-len(places), 0))).flatten(-len(places)).flatten(0, -2)
        count = ((last > bounds[0]) & (last < bounds[1])).sum(1)
        self.found.append(Counted(layer, last.shape[1], float(count.double().mean()), int(count.min()),
                                  int((last <= bounds[0]).all(0).sum())))  # fmt: skip

    def __torch_dispatch__(
        self, function: Any, _types: object, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        y = function(*args, **(kwargs or {}))
        name = str(function.overloadpacket.__name__).strip("_")
        if self.inside and name in ATEN and not any(bounds for _, bounds in self.inside):
            self._count(".".join(filter(None, (self.inside[-1][0], "()"))), y, ATEN[name])
        return y


def brute_force(model: nn.Module, x: Tensor, family: str) -> list[Counted]:
    """The counts of a forward pass, in order of execution."""
    with torch.no_grad(), BruteForce(model, family) as mode:
        model(x)
    for handle in mode.handles:
        handle.remove()
    return mode.found


def probed(model: nn.Module, x: Tensor) -> list[Counted]:
    """What the probe says, in order of execution."""
    with torch.no_grad(), Probe(model) as probe:
        model(x)
    names = [field.name for field in dataclasses.fields(Counted)]
    return [Counted(**{name: row.get(name) for name in names}) for row in probe.table() if row["calls"]]  # type: ignore[arg-type]


def place(layer: str) -> str:
    """The module that an activation runs in; a function's name is left out."""
    head, _, number = layer.partition("#")
    called = head.endswith("()")
    return (head.rpartition(".")[0] + "()" if called else head) + ("" if called or not number else f"#{number}")


def matched(ours: list[Counted], theirs: list[Counted]) -> Iterator[tuple[Counted | None, Counted | None]]:
    """Pairs of what the probe and brute force found: by module, and in order within it."""
    left: dict[str, list[Counted]] = {}
    for one in ours:
        left.setdefault(place(one.layer), []).append(one)
    for one in theirs:
        same = left.get(place(one.layer), [])
        yield (same.pop(0) if same else None), one
    for rest in left.values():
        yield from ((one, None) for one in rest)


def same(one: Counted, other: Counted) -> bool:
    """Whether every count agrees; means of the same whole numbers agree to rounding."""
    exact = ("channels", "active_min", "never_active")
    mean = math.isclose(one.active_mean or 0, other.active_mean or 0, rel_tol=1e-12)
    return mean and all(getattr(one, name) == getattr(other, name) for name in exact)


def judged(family: str, ours: list[Counted], theirs: list[Counted]) -> dict[str, str]:
    """A line of the csv: every activation is exact, of parameters, wrong, or not counted for a reason."""
    numbers, reasons, others = Counter[str](), Counter[str](), Counter[str]()
    for one, other in matched(ours, theirs):
        if other is None:
            assert one is not None
            others[f"{one.layer.rpartition('.')[2]}: {one.note or 'counted'}"] += 1
        elif one is None and any(fnmatch.fnmatchcase(f"{family}/{other.layer}", name) for name in OF_PARAMETERS):
            numbers["of_parameters"] += 1
        elif one is None or one.active_mean is None:
            reasons["not seen" if one is None else one.note] += 1
        else:
            numbers["exact" if same(one, other) else "wrong"] += 1
    line = {name: str(numbers[name]) for name in ("exact", "of_parameters", "wrong")}
    return {"activations": str(len(theirs)), **line, "not_counted": listed(reasons), "also_named": listed(others)}


def listed(counts: Counter[str]) -> str:
    """Reasons and how often."""
    return "; ".join(f"{number} x {reason}" for reason, number in counts.items())


def made(source: str, name: str) -> tuple[nn.Module, Tensor]:
    """A network with random weights and the smallest input of SIZES that it takes.

    Raises:
        InputError: where it takes none.
    """
    errors = []
    for size in SIZES:
        try:
            with torch.random.fork_rng():
                torch.manual_seed(0)
                model = _built(source, name, size)
            x = torch.randn((2, 3, size, size), generator=stream(0, "images"))
            with torch.no_grad():
                model(x)
        except Exception as error:  # each network refuses a size in its own way
            errors.append(f"{size}: {type(error).__name__}: {' '.join(str(error).split())[:100]}")
            continue
        return model, x
    raise InputError(f"{source} {name} takes no size: {'; '.join(errors)}")


def _built(source: str, name: str, size: int) -> nn.Module:
    if source == "torchvision":
        more: dict[str, Any] = {"image_size": size} if name.startswith("vit") else {}
        return lively(torchvision.models.get_model(name, weights=None, **more))
    try:
        return lively(timm.create_model(name, img_size=size))
    except TypeError:
        return lively(timm.create_model(name))


def lively(model: nn.Module) -> nn.Module:
    """A network in evaluation mode whose norms and zero-initialised layers are away from the identity."""
    for name, parameter in model.named_parameters():
        if parameter.dim() < 2:
            nn.init.normal_(parameter, float(name.endswith("weight")), 0.3)
    return model.eval()


def examined(family: str, name: str) -> dict[str, str]:
    """The line of one family."""
    source, _, rest = family.partition(" ")
    model, x = made(source, name)
    return {"family": family, "network": name, **judged(rest, probed(model, x), brute_force(model, x, rest))}


@dataclass(frozen=True)
class Run:
    """Compare the probe with brute force on a network of every family that has no line yet."""

    only: str = "*"
    """A pattern of families, such as "torchvision *"."""
    again: bool = False
    """Also families that have a line."""
    out: Path = Path("docs")
    """Folder for families.csv and families.md."""


def run(options: Run) -> None:
    """Compare family by family, and write after each."""
    check_folder(options.out)
    warnings.filterwarnings("ignore")
    path = options.out / "families.csv"
    lines = (
        {line["family"]: line for line in csv.DictReader(path.read_text("utf-8").splitlines())} if path.exists() else {}
    )
    for family, name in FAMILIES.items():
        if not fnmatch.fnmatchcase(family, options.only) or (family in lines and not options.again):
            continue
        try:
            lines[family] = examined(family, name)
        except InputError as error:
            print(f"{family}: {error}", flush=True)
            continue
        print("  ".join(lines[family].values()), flush=True)
        ordered = [lines[one] for one in FAMILIES if one in lines]
        publish(
            options.out, {"families.csv": text(tables.to_csv(ordered, COLUMNS)), "families.md": text(page(ordered))}
        )


def page(lines: list[dict[str, str]]) -> str:
    """The page for readers."""
    sums = {name: sum(int(line[name]) for line in lines) for name in ("activations", "exact", "of_parameters", "wrong")}
    met = {line["family"] for line in lines}
    missing = [f"{family} ({name})" for family, name in FAMILIES.items() if family not in met]
    of_data = sums["activations"] - sums["of_parameters"]
    share = sums["exact"] / max(1, of_data)
    head = "| family | network | activations | exact | wrong | not counted, and why | also named |"
    rows = [f"| {line['family']} | {line['network']} | {line['activations']} | {line['exact']} | {line['wrong']} | "
            f"{_also(line)} | {line['also_named']} |" for line in lines]  # fmt: skip
    return "\n".join((
        "# What the probe sees of the classification families", "",
        "One small network of each family of torchvision and timm, with random weights and two small images of noise.",
        "The counts of active channels are compared with a forward pass that keeps every activation's output, counted",
        "with the channels' axis labelled by hand (`benchmarks/families.py`). *Exact*: channels, mean and minimum",
        "of active channels and channels that never leave their low end are all equal. *Also named*: lines of the",
        "probe's table for functions that brute force does not look for.", "",
        f"{len(lines)} families, {of_data:,} activations on data: {share:.1%} exact, {sums['wrong']} wrong.",
        f"torch {torch.__version__}, torchvision {torchvision.__version__}, timm {timm.__version__}.", "",
        "```console", "python -m benchmarks.families", "```", "",
        head, "| --- | --- | ---: | ---: | ---: | --- | --- |", *rows, "",
        *([f"Not run: {', '.join(missing)}.", ""] if missing else []),
    ))  # fmt: skip


def _also(line: dict[str, str]) -> str:
    given = int(line["of_parameters"])
    parameters = f"{given} x acts on parameters, not on data" if given else ""
    return "; ".join(filter(None, (parameters, line["not_counted"])))


if __name__ == "__main__":
    sys.exit(run_cli(Run, run, "benchmarks.families"))
