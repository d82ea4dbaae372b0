"""Runs that measure inside networks: at initialisation, with trained weights, and along a training."""

import dataclasses
import functools
import hashlib
import itertools
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import torch
from rich.console import Console
from rich.progress import track
from torch import Tensor, nn
from torch.optim.swa_utils import update_bn

from manifold_lab import data
from manifold_lab.core.errors import SourceError
from manifold_lab.core.random_streams import stream
from manifold_lab.data import DataOptions, image_files
from manifold_lab.data.image_files import LabelledImages
from manifold_lab.models import weights
from manifold_lab.models.mobilenet import Network, build
from manifold_lab.models.specs import DIGITS, V2, NetworkSpec
from manifold_lab.probe import Probe, Sampling
from manifold_lab.probe.measures import CONSTANT, constant_inputs
from manifold_lab.probe.names import NONLINEARITY
from manifold_lab.sweeps import store
from manifold_lab.sweeps.runner import Measure
from manifold_lab.sweeps.store import Result, Run
from manifold_lab.training import Bookkeeping, Recipe, evaluates, train

INITIAL, SETTLED, TRAINED, TRAINING = "initial", "settled", "trained", "training"
"""Initial weights with norms by the batch, with norms by all images, trained ones, and weights along a training."""
STAGES = (1, 10, 100)
"""Numbers of images after which a trained network's minimum is compared with the threshold, besides all of them."""
RANDOM = "random"
SMALL = dataclasses.replace(DIGITS, in_channels=3, resolution=32)
"""The network that random images are shown."""
BATCH = 100
"""Images at a time, where a network is measured along its training."""


@dataclass(frozen=True)
class ProbeSource:
    """Where images and weights are on this machine, and how many images go at a time: no part of what is measured.

    Args:
        images: an .npz of jpeg, offsets and labels; without one, random images.
        weights: a checkpoint of MobileNetV2 1.0; without one, published weights are fetched by name.
        batch: images at a time.
        runs: the folder of stored runs.
    """

    images: Path | None
    weights: Path | None
    batch: int
    runs: Path

    @property
    def digest(self) -> str:
        """The images as a spec names them: the first digits of their file's SHA-256.

        Raises:
            SourceError: for a file that cannot be read.
        """
        if self.images is None:
            return RANDOM
        try:
            return hashlib.sha256(self.images.read_bytes()).hexdigest()[:16]
        except OSError as error:
            raise SourceError(f"images: {self.images} cannot be read ({error.strerror})") from None

    def sized(self, count: int, smoke: int) -> tuple[NetworkSpec, int]:
        """MobileNetV2 and so many of the file's images; without a file a small network and so many random ones."""
        return (SMALL, smoke) if self.images is None else (V2, count)

    def load(self, count: int, network: NetworkSpec) -> LabelledImages:
        """The first images with their labels; random ones of the network's size where there is no file.

        Raises:
            SourceError: for a file that cannot be read.
        """
        if self.images is not None:
            found = image_files.load_images(self.images)
            return LabelledImages(found.x[:count], found.labels[:count])
        rng, size = stream(0, "smoke"), (count, 3, network.resolution, network.resolution)
        x = torch.randint(0, 256, size, generator=rng, dtype=torch.uint8)
        return LabelledImages(x, torch.randint(0, network.num_classes, (count,), generator=rng))

    def check(self) -> None:
        """Read images and weights as every run of a grid will.

        Raises:
            SourceError: for a file that is missing, damaged or of another kind.
        """
        if self.images is not None:
            image_files.load_images(self.images)
        if self.images is not None and self.weights is not None:
            weights.read_state(self.weights)

    def batches(self, images: LabelledImages) -> Iterator[Tensor]:
        """Batches of images, normalised as ImageNet's."""
        for part in images.x.split(self.batch):
            yield image_files.normalised(part, image_files.IMAGENET)

    def trained_network(self, network: NetworkSpec) -> Network:
        """The network with trained weights, in evaluation mode; with initial ones where there are no images.

        Raises:
            SourceError: for a file of weights that does not fit.
        """
        if self.images is None:
            return build(network, stream(0, "weights")).eval()
        if self.weights is not None:
            return weights.load_weights(network, self.weights)
        return weights.fetch_weights(network, "mobilenet_v2")


@dataclass(frozen=True)
class ProbeRun:
    """A network at initialisation, by seed, or trained; the images that it is shown; and what is measured.

    Args:
        kind: `INITIAL`, `SETTLED` or `TRAINED`.
        seed: of the initial weights.
        network: its spec.
        images: the digest of their file (`ProbeSource.digest`).
        count: the first so many of them.
        layers: as of `Probe`.
        measures: as of `Probe`.
        sampling: as of `Probe`.
    """

    KEY_NAME: ClassVar[str] = "Look"

    kind: str
    seed: int
    network: NetworkSpec
    images: str = field(metadata={"key_name": "pictures"})
    count: int
    layers: tuple[str, ...] = (NONLINEARITY,)
    measures: tuple[str, ...] = ("active",)
    sampling: Sampling = Sampling()  # noqa: RUF009  (frozen)


@dataclass(frozen=True)
class ProbedTraining:
    """A training during which the network is measured at every evaluation, on the first `count` validation images.

    Args:
        network: its spec.
        recipe: of the training.
        data: trained and measured on.
        seed: of weights and data.
        count: the first so many images.
        measures: as of `Probe`; with `active` alone, norms at step 0 use the statistics of their batch, else those of
            these images.
    """

    KEY_NAME: ClassVar[str] = "Training"

    network: NetworkSpec
    recipe: Recipe
    data: str
    seed: int
    count: int = 500
    measures: tuple[str, ...] = ("active",)


Spec = ProbeRun | ProbedTraining


def measure_on(source: ProbeSource) -> Measure:
    """What runs a spec on these images."""
    return functools.partial(measure, source=source)


def measure(spec: Spec, folder: Path, source: ProbeSource) -> Result:
    """A row per layer; along a training, a row per layer and evaluation."""
    return measure_training(spec, folder) if isinstance(spec, ProbedTraining) else measure_network(spec, source)


def probed_network(run: ProbeRun, source: ProbeSource) -> Network:
    """The network; at initialisation in training mode, in which norms use the statistics of their batch, or settled."""
    if run.kind == TRAINED:
        return source.trained_network(run.network)
    model = build(run.network, stream(run.seed, "weights")).train()
    if run.kind == SETTLED:
        settle_norms(model, source.batches(source.load(run.count, run.network)))
    return model


def settle_norms(model: nn.Module, batches: Iterable[Tensor]) -> None:
    """Give the norms the statistics of these images, and leave training mode: then a network at step 0 is one map."""
    update_bn(batches, model)
    model.eval()


def measure_network(run: ProbeRun, source: ProbeSource) -> Result:
    """The table of a network on all images; for `active`, after how many of STAGES a minimum fell below."""
    model, seen, early = probed_network(run, source), 0, dict[str, int]()
    shown = source.batches(source.load(run.count, run.network))
    batches = track(shown, run.kind, total=-(-run.count // source.batch), console=Console(stderr=True))
    with torch.inference_mode(), Probe(model, run.layers, run.measures, run.sampling) as probe:
        for x in batches:
            for part in x.split(1) if not seen and run.kind == TRAINED else (x,):
                model(part)
                seen += len(part)
                if "active" in run.measures and (seen in STAGES or seen == run.count):
                    below = [str(row["layer"]) for row in probe.table() if row["below_threshold"]]
                    early = {name: early.get(name, seen) for name in below}
    rows = []
    for row in probe.table():
        name = str(row["layer"])
        more = silent(model, probe, name) if "active" in run.measures else {}
        rows.append({**row, "first_below": early.get(name), "pictures": seen, **more})
    return Result({"layers": len(rows)}, rows)


def silent(model: nn.Module, probe: Probe, layer: str) -> dict[str, int]:
    """Channels whose norm never varied in training, and how many of them have an input that is constant here."""
    norm, constant = model.get_submodule(layer.removesuffix("act") + "norm"), constant_inputs(probe.layers[layer])
    assert isinstance(norm, nn.BatchNorm2d) and norm.running_var is not None and constant is not None
    still = norm.running_var < CONSTANT
    return {"silent_norm": int(still.sum()), "both": int((still & constant).sum())}


def measure_training(training: ProbedTraining, _folder: Path) -> Result:
    """Train, and measure the network at step 0 and at every evaluation; norms are left as they were."""
    options = DataOptions(resolution=training.network.resolution)
    found = data.load(training.data, seed=training.seed, options=options)
    model, rows = build(training.network, stream(training.seed, "weights")), list[dict[str, object]]()
    size = training.recipe.batch_size

    def shown() -> Iterator[Tensor]:
        for x, _ in itertools.islice(found.evaluation("validation", BATCH), -(-training.count // BATCH)):
            yield x.contiguous(memory_format=torch.channels_last)

    def probe_now(step: int) -> None:
        kept = {name: value.clone() for name, value in model.state_dict().items()}
        model.train(step == 0)
        if step == 0 and training.measures != ProbedTraining.measures:
            settle_norms(model, shown())
        with torch.no_grad(), Probe(model, measures=training.measures) as probe:
            seen = sum(len(model(x)) for x in shown())
        found_now = probe.table()  # before the norms go back: some measures read the maps as they are now
        model.load_state_dict(kept)
        model.train()
        rows.extend({**row, "images": step * size, "pictures": seen} for row in found_now)

    def at_step(step: int, steps: int, _speed: float) -> None:
        if step == steps or evaluates(training.recipe, step):
            probe_now(step)

    probe_now(0)
    keeping = Bookkeeping(None, bar=False, report=at_step)
    train(model, found, training.recipe, seed=training.seed, bookkeeping=keeping)
    return Result({"layers": len(rows)}, rows)


def at_evaluations(spec: Spec, rows: list[dict[str, str]]) -> list[dict[str, str]]:
    """The rows of a run; of a training those of step 0, evaluations and the end: some were stored with more."""
    if isinstance(spec, ProbeRun) or not rows:
        return rows
    size, ends = spec.recipe.batch_size, (0, max(int(row["images"]) for row in rows))
    return [row for row in rows if (seen := int(row["images"])) in ends or evaluates(spec.recipe, seen // size)]


def layer_rows(runs: Sequence[Run]) -> Iterator[dict[str, Any]]:
    """A row per network, moment of its training and layer: what the network is, and what was measured."""
    for run in runs:
        kind, on = (run.spec.kind, "") if isinstance(run.spec, ProbeRun) else (TRAINING, run.spec.data)
        for row in at_evaluations(run.spec, store.history(run)):
            yield {"network": kind, "data": on, "seed": run.spec.seed, **row}
