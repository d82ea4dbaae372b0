"""The training loop."""

import hashlib
import re
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from manifold_lab.core.config import key
from manifold_lab.core.errors import InputError, at_least
from manifold_lab.core.random_streams import stream_seed
from manifold_lab.data import Batch, Data
from manifold_lab.training.allocator import keep_memory
from manifold_lab.training.checkpoint import Checkpoints, State
from manifold_lab.training.display import Watch
from manifold_lab.training.distributed import broadcast, current, summed
from manifold_lab.training.distributed_layers import shared_batch
from manifold_lab.training.evaluate import autocast, evaluate, in_layout
from manifold_lab.training.optim import MovingAverage, arithmetic, gradient_norms, make_optimizer
from manifold_lab.training.outcome import DIVERGED_STATUS, EPOCH, EVALUATION, FINISHED, HistoryRow, Metrics, Outcome
from manifold_lab.training.progress import Progress, from_state, to_state
from manifold_lab.training.recipe import Recipe, TrainingLength, evaluates, learning_rate, training_length


@dataclass(frozen=True)
class Bookkeeping:
    """How a run is kept and shown; nothing of it changes a weight or a row.

    `folder`: where checkpoints go; without one a kill loses the run. `checkpoint_every`, `check_every`: steps between
    two checkpoints, and between two checks of the losses, for which the device is waited for. `bar`: progress on
    standard error. `tensorboard`: scalars in FOLDER/tensorboard. `report`: called at every check with the steps done,
    the steps in all, and images a second.
    """

    folder: Path | None = None
    checkpoint_every: int = 1000
    check_every: int = 50
    bar: bool = True
    tensorboard: bool = False
    report: Callable[[int, int, float], None] | None = None

    def __post_init__(self) -> None:
        """Refuse what cannot be kept."""
        at_least("checkpoint_every", self.checkpoint_every, 1)
        at_least("check_every", self.check_every, 1)
        if self.tensorboard and self.folder is None:
            raise InputError("tensorboard: it needs a folder to write into; give the run a folder, or leave it off")


DEFAULT_BOOKKEEPING = Bookkeeping()
ADDRESS = r" at 0x[0-9a-f]+"
"""What differs from process to process in the words of a function that a network holds."""


def train(
    model: nn.Module,
    data: Data,
    recipe: Recipe,
    *,
    seed: int,
    bookkeeping: Bookkeeping = DEFAULT_BOOKKEEPING,
) -> Outcome:
    """Train `model` in place on the data's device; it ends with the recipe's final weights, in evaluation mode.

    With a folder, the run may be killed at any moment: called again with the same arguments and the same initial
    weights, it ends with the very bits that it would have ended with, and a run that ended only says so again. Every
    draw is a function of the seed and of its place (epoch, image, step), so that no generator has a state to lose;
    chance inside the model must be torch's own. Test is looked at once, at the end. The process keeps the memory that
    it frees (see `allocator`), for the speed of it.

    Raises:
        InputError: for a recipe that does not fit the data, or a folder that holds another run or takes no files.
    """
    data.check(recipe.augmentation)
    keep_memory()
    folder = bookkeeping.folder
    length = training_length(recipe, data.size("train"))
    with (
        arithmetic(recipe, data.device),
        shared_batch(_placed(model, data, recipe), current(), recipe.batch_size) as forward,
    ):
        run = _Run(model, data, recipe, length, seed=seed, forward=forward)
        checkpoints = None if folder is None else Checkpoints(folder, _name(model, data, recipe, seed))
        if checkpoints is not None:
            run.take_up(checkpoints)
        logs = folder / "tensorboard" if folder is not None and bookkeeping.tensorboard and run.ranks.first else None
        images = length.steps * recipe.batch_size
        with Watch(run.images, images, bar=bookkeeping.bar and run.ranks.first, tensorboard=logs) as watch:
            run.go(bookkeeping, checkpoints, watch)
        return run.outcome()


def _name(model: nn.Module, data: Data, recipe: Recipe, seed: int) -> str:
    """What tells a run from every other: recipe, seed, data, the network's form and its initial weights.

    A field that is added to recipe or facts with a default renames no run that is under way.
    """
    digest = hashlib.sha256()
    for part in (key(recipe), seed, key(data.facts), data.size("train"), model):
        digest.update(re.sub(ADDRESS, "", repr(part)).encode())
    for name, value in model.state_dict().items():
        digest.update(name.encode())
        digest.update(value.detach().cpu().flatten().view(torch.uint8).numpy())
    return digest.hexdigest()


def _placed(model: nn.Module, data: Data, recipe: Recipe) -> nn.Module:
    """The model on the data's device, in the recipe's memory layout."""
    layout: Any = torch.channels_last if recipe.channels_last else torch.contiguous_format
    place: Any = model  # some releases of torch leave this argument out of their annotations
    place.to(device=data.device, memory_format=layout)
    return model


class _Run:
    """A run in the making: everything that changes from step to step; `forward` is the model as its steps call it."""

    def __init__(
        self, model: nn.Module, data: Data, recipe: Recipe, length: TrainingLength, *, seed: int, forward: nn.Module
    ):
        self.model, self.data, self.recipe, self.length, self.seed = model, data, recipe, length, seed
        self.ranks = current()
        self.forward = torch.compile(forward) if recipe.compile else forward
        self.weights = [weight for weight in model.parameters() if weight.requires_grad]
        self.optimizer = make_optimizer(recipe, model)
        self.average = None if recipe.ema_decay is None else MovingAverage(model, recipe.ema_decay)
        self.progress = Progress()
        self.pending: list[Tensor] = []
        """Losses since the last look, on their device."""

    def go(self, bookkeeping: Bookkeeping, checkpoints: Checkpoints | None, watch: Watch) -> None:
        """From wherever it stands to the end, or to the first loss that is not finite."""
        self.model.train()
        began = time.perf_counter()
        for x, y in self.batches():
            self.pending.append(self.step(x, y))
            self.progress.step += 1
            due, save = self.due(), self.every(bookkeeping.checkpoint_every)
            if due or save or self.every(bookkeeping.check_every):
                self.check_losses()
                self.progress.seconds += time.perf_counter() - began
                watch.report(self.images, self.speed)
                if bookkeeping.report is not None and self.ranks.first:
                    bookkeeping.report(self.progress.step, self.length.steps, self.speed)
                self.rows(due, watch)
                if checkpoints is not None and self.ranks.first and (save or self.over):
                    checkpoints.save(self.progress.step, self.state())
                began = time.perf_counter()
            if self.progress.diverged_at is not None:
                return

    @property
    def images(self) -> int:
        """Images seen."""
        return self.progress.step * self.recipe.batch_size

    @property
    def speed(self) -> float:
        """Images a second, without evaluations and checkpoints, over every process that had a part in it."""
        return self.images / self.progress.seconds if self.progress.seconds else 0.0

    @property
    def over(self) -> bool:
        """Whether nothing is left to do."""
        return self.progress.diverged_at is not None or self.progress.step >= self.length.steps

    def batches(self) -> Iterator[Batch]:
        """From the place where the run stands to its end, epoch after epoch."""
        while not self.over:
            epoch, start = divmod(self.progress.step, self.length.epoch)
            batches = self.data.training(
                self.recipe.augmentation, seed=self.seed, epoch=epoch, batch_size=self.recipe.batch_size, start=start,
                share=self.ranks.share,
            )  # fmt: skip
            for batch in batches:
                yield batch
                if self.over:
                    return

    def step(self, x: Tensor, y: Tensor) -> Tensor:
        """One update; the loss stays on the device."""
        recipe, done = self.recipe, self.progress.step
        torch.manual_seed(stream_seed(self.seed, "network", done))
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate(recipe, self.length, done)
        with autocast(recipe, self.data.device):
            logits = self.forward(in_layout(recipe, x))
        loss = functional.cross_entropy(logits.float(), y, label_smoothing=float(recipe.label_smoothing))
        loss = loss * (len(y) * self.ranks.size / recipe.batch_size)  # of parts that differ in size, averaged
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        if done == 0 or evaluates(recipe, done + 1):
            self.progress.gradients[done + 1] = gradient_norms(self.model)
        if recipe.clip_norm is not None:
            nn.utils.clip_grad_norm_(self.weights, recipe.clip_norm)
        self.optimizer.step()
        if self.average is not None:
            self.average.update(done + 1)
        return loss.detach()

    def every(self, steps: int) -> bool:
        """Whether the run stands at a multiple of so many steps."""
        return self.progress.step % steps == 0

    def due(self) -> list[str]:
        """Kinds of rows that are to be written now; the last step always has one."""
        kinds = [EPOCH] if self.every(self.length.epoch) else []
        if evaluates(self.recipe, self.progress.step):
            kinds.append(EVALUATION)
        return kinds or ([EVALUATION] if self.over else [])

    def check_losses(self) -> None:
        """Fetch the losses since the last look; the first that is not finite ends the run."""
        first = self.progress.step - len(self.pending)
        losses = summed(torch.stack(self.pending)) / self.ranks.size  # the device is waited for once
        bad, self.pending = self.progress.take(losses.tolist()), []
        if bad is not None:
            self.progress.diverged_at = first + bad + 1

    def rows(self, kinds: list[str], watch: Watch) -> None:
        """Evaluate, and write what is due."""
        if not kinds or self.progress.diverged_at is not None:
            return
        step = self.progress.step
        validation = self.evaluate("validation")
        if not validation.finite:
            self.progress.diverged_at = step
            return
        rate = learning_rate(self.recipe, self.length, step - 1)
        for kind in kinds:
            loss = self.progress.mean(kind)
            row = HistoryRow(kind, step, self.images, step / self.length.epoch, rate, loss, validation)
            self.progress.history.append(row)
            watch.row(row)

    def evaluate(self, split: str) -> Metrics:
        """Metrics of the weights that the run would end with now."""
        state = None if self.average is None else self.average.state
        return evaluate(self.model, self.data, split, self.recipe, state)

    def state(self) -> State:
        """Everything that is needed to go on."""
        return {
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "average": None if self.average is None else self.average.state,
            "progress": to_state(self.progress),
        }

    def take_up(self, checkpoints: Checkpoints) -> None:
        """Go on from the newest checkpoint; where there is none write one, so that a bad folder is told at once.

        The others go on from what the first process found: a network file system may show them an older one.
        """
        state = checkpoints.load(self.data.device) if self.ranks.first else None
        if state is None and self.ranks.first:
            checkpoints.save(self.progress.step, self.state())
        state = broadcast(state)
        if state is None:
            return
        self.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        if self.average is not None:
            self.average.load(state["average"])
        self.progress = from_state(state["progress"])

    def outcome(self) -> Outcome:
        """The final weights into the model, and the run as a value."""
        history, speed = tuple(self.progress.history), self.speed
        if self.average is not None:
            self.model.load_state_dict(self.average.state)
        self.model.eval()
        if self.progress.diverged_at is not None:
            return Outcome(
                DIVERGED_STATUS, history, None, None, speed, self.progress.diverged_at, self.progress.gradients
            )
        test = evaluate(self.model, self.data, "test", self.recipe)
        return Outcome(FINISHED, history, history[-1].validation, test, speed, gradients=self.progress.gradients)
