"""Networks looked into, as cells of the store: at step 0, with published weights, and along a training."""

import functools
import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from rich.console import Console
from rich.progress import track
from torch import Tensor, nn

from manifold_lab import data
from manifold_lab.core.config import key
from manifold_lab.core.errors import InputError
from manifold_lab.core.random_streams import stream
from manifold_lab.data import DataOptions, image_files
from manifold_lab.models import weights
from manifold_lab.models.mobilenet import Network, build
from manifold_lab.models.specs import NetworkSpec
from manifold_lab.probe import Probe, Sampling
from manifold_lab.probe.layer_types import NONLINEARITY
from manifold_lab.probe.measures import CONSTANT, constant_inputs
from manifold_lab.sweeps import runner, store
from manifold_lab.sweeps.store import Cell, Result
from manifold_lab.training import Bookkeeping, Recipe, evaluates, train

INITIAL, TRAINED, TRAINING = "initial", "trained", "training"
STAGES = (1, 10, 100)
"""Pictures after which the minimum of a trained network is looked at, besides the end."""
RANDOM = "random"


@dataclass(frozen=True)
class ProbeSource:
    """Where pictures and weights are on this machine, and how many pictures go at a time: no part of what is measured.

    Without pictures, random ones; without weights, published ones fetched by name.
    """

    pictures: Path | None
    weights: Path | None
    batch: int
    runs: Path

    @property
    def digest(self) -> str:
        """The pictures as a cell names them: the first digits of their file's SHA-256.

        Raises:
            InputError: for a file that cannot be read.
        """
        if self.pictures is None:
            return RANDOM
        try:
            return hashlib.sha256(self.pictures.read_bytes()).hexdigest()[:16]
        except OSError as error:
            raise InputError(f"pictures: {self.pictures} cannot be read ({error.strerror})") from None


@dataclass(frozen=True)
class Look:
    """A network of a spec at step 0, by seed, or trained; the pictures it is shown; and what is looked at."""

    kind: str
    seed: int
    network: NetworkSpec
    pictures: str
    count: int
    layers: tuple[str, ...] = (NONLINEARITY,)
    measures: tuple[str, ...] = ("active",)
    sampling: Sampling = Sampling()  # noqa: RUF009  (frozen)


@dataclass(frozen=True)
class Training:
    """A training that is looked into whenever it is evaluated, with so many validation pictures."""

    network: NetworkSpec
    recipe: Recipe
    data: str
    seed: int
    count: int = 500


def shown(look: Look, source: ProbeSource) -> Iterator[Tensor]:
    """Batches of the pictures."""
    if source.pictures is None:
        side = look.network.resolution
        x = torch.randint(0, 256, (look.count, 3, side, side), generator=stream(0, "smoke"), dtype=torch.uint8)
    else:
        x = image_files.load_images(source.pictures).x[: look.count]
    for part in x.split(source.batch):
        yield image_files.normalised(part, image_files.IMAGENET)


def probed_network(look: Look, source: ProbeSource) -> Network:
    """The network, in the mode that it is looked at: at step 0 training, where norms use their batch's statistics."""
    if look.kind == INITIAL or source.pictures is None:
        return build(look.network, stream(look.seed, "weights")).train(look.kind == INITIAL)
    if source.weights is not None:
        return weights.load_weights(look.network, source.weights)
    return weights.fetch_weights(look.network, "mobilenet_v2")


def run_probe(look: Look, _folder: Path, source: ProbeSource) -> Result:
    """The table of a network on all pictures; for `active`, after how many of STAGES a minimum fell below."""
    model, seen, early = probed_network(look, source), 0, dict[str, int]()
    batches = track(shown(look, source), look.kind, total=-(-look.count // source.batch), console=Console(stderr=True))
    with torch.inference_mode(), Probe(model, look.layers, look.measures, look.sampling) as probe:
        for x in batches:
            for part in x.split(1) if not seen and look.kind == TRAINED else (x,):
                model(part)
                seen += len(part)
                if "active" in look.measures and (seen in STAGES or seen == look.count):
                    below = [str(row["layer"]) for row in probe.table() if row["below_threshold"]]
                    early = {name: early.get(name, seen) for name in below}
    rows = []
    for row in probe.table():
        name = str(row["layer"])
        more = silent(model, probe, name) if "active" in look.measures else {}
        rows.append({**row, "first_below": early.get(name), "pictures": seen, **more})
    return Result({"layers": len(rows)}, rows)


def silent(model: nn.Module, probe: Probe, layer: str) -> dict[str, int]:
    """Channels whose norm never varied in training, and how many of them have an input that is constant here."""
    norm, constant = model.get_submodule(layer.removesuffix("act") + "norm"), constant_inputs(probe.layers[layer])
    assert isinstance(norm, nn.BatchNorm2d) and norm.running_var is not None and constant is not None
    still = norm.running_var < CONSTANT
    return {"silent_norm": int(still.sum()), "both": int((still & constant).sum())}


def along(training: Training, _folder: Path) -> Result:
    """Train, and look into the network at step 0 and at every evaluation; what looking changes in norms is put back."""
    options = DataOptions(resolution=training.network.resolution)
    found = data.load(training.data, seed=training.seed, options=options)
    model, rows = build(training.network, stream(training.seed, "weights")), list[dict[str, object]]()
    size = training.recipe.batch_size

    def look(step: int) -> None:
        kept = {name: value.clone() for name, value in model.state_dict().items()}
        model.train(step == 0)
        with torch.no_grad(), Probe(model) as probe:
            seen = 0
            for x, _ in found.evaluation("validation", 100):
                model(x.contiguous(memory_format=torch.channels_last))
                seen += len(x)
                if seen >= training.count:
                    break
        model.load_state_dict(kept)
        model.train()
        rows.extend({**row, "images": step * size, "pictures": seen} for row in probe.table())

    def told(step: int, steps: int, _speed: float) -> None:
        if step == steps or evaluates(training.recipe, step):
            look(step)

    look(0)
    keeping = Bookkeeping(None, bar=False, tell=told)
    train(model, found, training.recipe, seed=training.seed, bookkeeping=keeping)
    return Result({"layers": len(rows)}, rows)


def regular(spec: Look | Training, rows: list[dict[str, str]]) -> list[dict[str, str]]:
    """The rows of a cell; of a training those at step 0, at evaluations and at the end: some were kept with more."""
    if isinstance(spec, Look):
        return rows
    size, ends = spec.recipe.batch_size, (0, max(int(row["images"]) for row in rows))
    return [row for row in rows if (seen := int(row["images"])) in ends or evaluates(spec.recipe, seen // size)]


def looked(spec: Look | Training, source: ProbeSource, shelf: str) -> Cell:
    """What was measured of a spec, measured now where it never was, on a shelf of the runs.

    Raises:
        InputError: where that does not end well.
    """
    work = runner.Work(along if isinstance(spec, Training) else functools.partial(run_probe, source=source))
    cell = runner.run_cell(work, store.state(spec, source.runs / shelf / key(spec)))
    if cell.state != store.DONE:
        raise InputError(f"{cell.folder}: it is {cell.state}; {cell.note}")
    return cell
