"""Optimizers, the moving average of weights, and the arithmetic's conditions."""

import contextlib
import math
import os
import re
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from manifold_lab.training.recipe import Recipe

CUBLAS_VARIABLE, CUBLAS_DETERMINISTIC = "CUBLAS_WORKSPACE_CONFIG", ":4096:8"


class TensorFlowRMSprop(torch.optim.Optimizer):
    """RMSprop as TensorFlow's RMSPropOptimizer computes it, with momentum and coupled weight decay.

    g = gradient + weight_decay w; mean square = rms_decay mean square + (1 - rms_decay) g², starting at one;
    velocity = momentum velocity + rate g / sqrt(mean square + epsilon); w = w - velocity. torch.optim.RMSprop starts
    the mean square at zero, adds epsilon outside the root, and multiplies the velocity by today's rate.
    """

    def __init__(self, params: Any, lr: float, rms_decay: float, momentum: float, epsilon: float):
        super().__init__(params, dict(lr=lr, rms_decay=rms_decay, momentum=momentum, epsilon=epsilon, weight_decay=0.0))

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]
        """Update every weight that has a gradient."""
        assert closure is None
        for group in self.param_groups:
            weights = [weight for weight in group["params"] if weight.grad is not None]
            if weights:
                self._update(weights, group)

    def _update(self, weights: list[Tensor], group: dict[str, Any]) -> None:
        states = [self._state(weight) for weight in weights]
        squares, velocities = ([state[name] for state in states] for name in ("square", "velocity"))
        gradients: Any = [weight.grad for weight in weights]
        if group["weight_decay"]:
            gradients = torch._foreach_add(gradients, weights, alpha=group["weight_decay"])
        torch._foreach_mul_(squares, group["rms_decay"])
        torch._foreach_addcmul_(squares, gradients, gradients, value=1 - group["rms_decay"])
        roots = torch._foreach_add(squares, group["epsilon"])
        torch._foreach_sqrt_(roots)
        torch._foreach_mul_(velocities, group["momentum"])
        torch._foreach_addcdiv_(velocities, gradients, roots, value=group["lr"])
        torch._foreach_sub_(weights, velocities)

    def _state(self, weight: Tensor) -> dict[str, Tensor]:
        state: dict[str, Tensor] = self.state[weight]
        if not state:
            state["square"], state["velocity"] = torch.ones_like(weight), torch.zeros_like(weight)
        return state


def make_optimizer(recipe: Recipe, model: nn.Module) -> torch.optim.Optimizer:
    """The recipe's optimizer; vectors and scalars, which are norms and biases, decay only by choice."""
    weights = [weight for weight in model.parameters() if weight.requires_grad]
    spared = [weight for weight in weights if weight.ndim <= 1 and not recipe.decay_norms_and_biases]
    kept = {id(weight) for weight in spared}
    decayed = [weight for weight in weights if id(weight) not in kept]
    groups = [
        {"params": decayed, "weight_decay": float(recipe.weight_decay)},
        {"params": spared, "weight_decay": 0.0},
    ]
    groups = [group for group in groups if group["params"]]
    rate, momentum = float(recipe.learning_rate), float(recipe.momentum)
    if recipe.optimizer == "sgd":
        return torch.optim.SGD(groups, lr=rate, momentum=momentum, nesterov=True, fused=_can_fuse(weights))
    return TensorFlowRMSprop(groups, rate, float(recipe.rms_decay), momentum, float(recipe.epsilon))


def _can_fuse(weights: Sequence[Tensor]) -> bool:
    """Whether torch has its one-pass update for them."""
    return all(weight.device.type in ("cpu", "cuda") and weight.is_floating_point() for weight in weights)


MODEL_PART = re.compile(r"[^.]+(\.\d+)?")
"""The part of a model that a weight belongs to, by its name: `stem`, `blocks.3`, `layer1.0`."""


def gradient_norms(model: nn.Module) -> dict[str, float]:
    """The Euclidean norm of the gradient of each part of a model, over all its weights that have one."""
    squares: dict[str, list[Tensor]] = {}
    for name, weight in model.named_parameters():
        found = MODEL_PART.match(name)
        if weight.grad is not None and found:
            squares.setdefault(found.group(), []).append(weight.grad.float().square().sum())
    return {part: math.sqrt(torch.stack(found).sum()) for part, found in squares.items()}


class MovingAverage:
    """An exponential moving average of a model's whole state, batch norm's statistics included.

    After n steps the decay is min(decay, (1 + n) / (10 + n)), as in TensorFlow's ExponentialMovingAverage with a step
    count, so that a short run is not an average of initial weights. Integers are copied.
    """

    def __init__(self, model: nn.Module, decay: float):
        self.decay = decay
        self.source = {name: value.detach() for name, value in model.state_dict().items()}
        self.state = {name: value.clone() for name, value in self.source.items()}
        floats = [name for name, value in self.state.items() if value.is_floating_point()]
        self._averaged = [self.state[name] for name in floats]
        self._followed = [self.source[name] for name in floats]
        others = [name for name in self.state if name not in set(floats)]
        self._copied = [self.state[name] for name in others]
        self._counted = [self.source[name] for name in others]

    @torch.no_grad()
    def update(self, step: int) -> None:
        """Take in the weights after `step` steps."""
        decay = min(self.decay, (1 + step) / (10 + step))
        torch._foreach_lerp_(self._averaged, self._followed, 1 - decay)
        if self._copied:
            torch._foreach_copy_(self._copied, self._counted)

    @torch.no_grad()
    def load(self, state: dict[str, Tensor]) -> None:
        """Continue from a saved average."""
        for name, value in self.state.items():
            value.copy_(state[name])


@contextlib.contextmanager
def arithmetic(recipe: Recipe, device: torch.device) -> Iterator[None]:
    """Deterministic kernels by the recipe's choice, else the fastest; everything global is put back afterwards."""
    memory: Any = torch.utils.deterministic
    old = torch.are_deterministic_algorithms_enabled(), torch.is_deterministic_algorithms_warn_only_enabled()
    fill, benchmark = memory.fill_uninitialized_memory, torch.backends.cudnn.benchmark
    if recipe.deterministic and device.type == "cuda":
        os.environ.setdefault(CUBLAS_VARIABLE, CUBLAS_DETERMINISTIC)
    try:
        torch.use_deterministic_algorithms(recipe.deterministic)
        memory.fill_uninitialized_memory = False
        torch.backends.cudnn.benchmark = not recipe.deterministic
        with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
            yield
    finally:
        torch.use_deterministic_algorithms(old[0], warn_only=old[1])
        memory.fill_uninitialized_memory = fill
        torch.backends.cudnn.benchmark = benchmark
