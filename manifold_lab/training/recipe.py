"""How a network is trained, as a value; presets, and the learning rate's schedule in closed form."""

import math
from dataclasses import dataclass, field

from manifold_lab.core.config import check_types
from manifold_lab.core.errors import InputError, above, at_least, one_of
from manifold_lab.data import Augmentation

OPTIMIZERS = ("sgd", "rmsprop")
SCHEDULES = ("constant", "cosine", "exponential")
PRECISIONS = ("fp32", "bf16")


@dataclass(frozen=True)
class Recipe:
    """What changes a trained network, but for the network, the data and the seed.

    `images`: length of the training, in images seen; short and long runs of a recipe are this number apart.
    `optimizer`: sgd (Nesterov's momentum) or rmsprop (in TensorFlow's form, with `rms_decay` and `epsilon`).
    `schedule`: after `warmup_epochs` of linear rise constant, cosine to zero, or exponential: times `decay_rate` every
    `decay_epochs`, in stairs. `ema_decay`: the final weights are this moving average. `evaluate_every`: images
    between two evaluations besides those at the ends of epochs; 0 for none.
    """

    images: int = 9_000_000
    batch_size: int = 128
    optimizer: str = "sgd"
    learning_rate: int | float = 0.1
    momentum: int | float = 0.9
    rms_decay: int | float = 0.9
    epsilon: int | float = 1.0
    schedule: str = "cosine"
    warmup_epochs: int | float = 0
    decay_rate: int | float = 0.98
    decay_epochs: int | float = 1
    weight_decay: int | float = 5e-4
    decay_norms_and_biases: bool = False
    label_smoothing: int | float = 0
    ema_decay: int | float | None = None
    clip_norm: int | float | None = None
    augmentation: Augmentation = field(default_factory=Augmentation)
    evaluate_every: int = 0
    precision: str = "fp32"
    channels_last: bool = True
    compile: bool = False
    deterministic: bool = True

    def __post_init__(self) -> None:
        """Refuse what cannot be trained with, naming the field and what is allowed."""
        check_types(self)
        one_of("optimizer", self.optimizer, OPTIMIZERS)
        one_of("schedule", self.schedule, SCHEDULES)
        one_of("precision", self.precision, PRECISIONS)
        for name in ("images", "batch_size"):
            at_least(name, getattr(self, name), 1)
        for name in ("warmup_epochs", "weight_decay", "evaluate_every"):
            at_least(name, getattr(self, name), 0)
        for name in ("learning_rate", "epsilon", "decay_rate", "decay_epochs"):
            above(name, getattr(self, name), 0)
        if self.clip_norm is not None:
            above("clip_norm", self.clip_norm, 0)
        for name in ("momentum", "rms_decay", "label_smoothing", "ema_decay"):
            if not 0 <= (getattr(self, name) or 0) < 1:
                raise InputError(f"{name}: {getattr(self, name)} is not allowed; it must be at least 0 and below 1")
        if self.optimizer == "sgd" and not self.momentum:
            raise InputError("momentum: 0 is not allowed with sgd, which is Nesterov's; it must be above 0 and below 1")


PAPER_RECIPE = Recipe(
    images=7_000_000 * 96, batch_size=96, optimizer="rmsprop", learning_rate=0.045,
    schedule="exponential", decay_epochs=2.5, weight_decay=4e-5, label_smoothing=0.1, ema_decay=0.9999,
    augmentation=Augmentation(flip=True, smallest_area=0.08),
)  # fmt: skip
"""Section 6.1 of arXiv:1801.04381 for as many steps as Figure 6 shows, of one worker instead of 16, with what the
authors' code adds: label smoothing, the moving average, decay every 2.5 epochs instead of every one, and an epsilon of
one (`opt_epsilon` of tensorflow/models, research/slim/train_image_classifier.py)."""
CIFAR_RECIPE = Recipe(warmup_epochs=1, augmentation=Augmentation(pad=4, flip=True))
SMOKE_RECIPE = Recipe(images=20_000, batch_size=64, warmup_epochs=1)
RECIPES = {"paper": PAPER_RECIPE, "cifar": CIFAR_RECIPE, "smoke": SMOKE_RECIPE}
"""`cifar`: 200 epochs of CIFAR's 45,000 training images. `smoke`: seconds on the digits."""


@dataclass(frozen=True)
class TrainingLength:
    """A recipe's length on a data set: steps in an epoch (an incomplete last batch is left out) and in all."""

    epoch: int
    steps: int


def training_length(recipe: Recipe, images: int) -> TrainingLength:
    """Steps of a recipe with so many training images.

    Raises:
        InputError: if a batch is larger than the training set.

    >>> training_length(Recipe(images=20_000, batch_size=64), 1295)
    TrainingLength(epoch=20, steps=312)
    """
    if recipe.batch_size > images:
        raise InputError(f"batch_size: {recipe.batch_size} is not allowed; there are {images} images to train on")
    return TrainingLength(images // recipe.batch_size, max(1, round(recipe.images / recipe.batch_size)))


def evaluates(recipe: Recipe, step: int) -> bool:
    """Whether the step, the last of `step` finished ones, is where a recipe looks at validation within an epoch.

    >>> [step for step in range(8) if evaluates(Recipe(batch_size=100, evaluate_every=250), step)]
    [3, 5]
    """
    every, seen = recipe.evaluate_every, step * recipe.batch_size
    return bool(every) and step > 0 and seen // every > (seen - recipe.batch_size) // every


def learning_rate(recipe: Recipe, length: TrainingLength, step: int) -> float:
    """The rate of the step after `step` finished ones: the linear rise times the schedule.

    Cosine begins at the rise's end; the exponential's epochs are counted from the start, as TensorFlow's are.
    """
    rise = recipe.warmup_epochs * length.epoch
    warm = min(1.0, (step + 1) / rise) if rise else 1.0
    if recipe.schedule == "exponential":
        return recipe.learning_rate * warm * recipe.decay_rate ** (step // (recipe.decay_epochs * length.epoch))
    if recipe.schedule == "cosine":
        done = max(0.0, step - rise) / max(1.0, length.steps - rise)
        return recipe.learning_rate * warm * (1 + math.cos(math.pi * done)) / 2
    return recipe.learning_rate * warm
