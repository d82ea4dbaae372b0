"""Schedule, optimizers and moving average against closed forms and published update rules."""

import math

import numpy as np
import pytest
import torch
from torch import nn

from manifold_lab import stream
from manifold_lab.core.errors import InputError
from manifold_lab.training import RECIPES, Recipe, TrainingLength, learning_rate, training_length
from manifold_lab.training.optim import MovingAverage, TensorFlowRMSprop, make_optimizer


@pytest.mark.parametrize("step", [0, 3, 9, 10, 11, 24, 25, 26, 50, 99])
def test_the_schedule_is_its_closed_form(step: int) -> None:
    length = TrainingLength(epoch=10, steps=100)
    warm = min(1, (step + 1) / 20)
    cosine = Recipe(learning_rate=0.4, warmup_epochs=2)
    angle = math.pi * max(0, step - 20) / 80
    assert learning_rate(cosine, length, step) == pytest.approx(0.4 * warm * math.cos(angle / 2) ** 2, rel=1e-12)
    paper = Recipe(learning_rate=0.045, schedule="exponential", decay_epochs=2.5)
    assert learning_rate(paper, length, step) == pytest.approx(0.045 * 0.98 ** (step // 25), rel=1e-12)
    flat = Recipe(learning_rate=0.4, warmup_epochs=2, schedule="constant")
    assert learning_rate(flat, length, step) == pytest.approx(0.4 * warm, rel=1e-12)


def test_the_papers_recipe_is_the_papers() -> None:
    paper, length = RECIPES["paper"], training_length(RECIPES["paper"], 1_281_167)
    assert length.steps == 7_000_000 and length.epoch == 13_345
    assert (paper.optimizer, paper.rms_decay, paper.momentum, paper.weight_decay) == ("rmsprop", 0.9, 0.9, 4e-5)
    assert (paper.label_smoothing, paper.ema_decay, paper.batch_size) == (0.1, 0.9999, 96)
    assert learning_rate(paper, length, 0) == 0.045
    assert learning_rate(paper, length, 250 * 13_345) == pytest.approx(0.045 * 0.98**100, rel=1e-12)


@pytest.mark.parametrize("weight_decay", [0.0, 0.3])
def test_rmsprop_is_tensorflows_update_rule(weight_decay: float) -> None:
    weight = nn.Parameter(torch.randn(5, generator=stream(0, "w"), dtype=torch.float64))
    optimizer = TensorFlowRMSprop([weight], lr=0.1, rms_decay=0.9, momentum=0.8, epsilon=0.01)
    optimizer.param_groups[0]["weight_decay"] = weight_decay
    w, square, velocity = weight.detach().numpy().copy(), np.ones(5), np.zeros(5)
    for step in range(6):
        rate = 0.1 / (step + 1)  # a rate that changes tells whether it is inside the velocity
        optimizer.param_groups[0]["lr"] = rate
        optimizer.zero_grad()
        (weight**3).sum().backward()
        optimizer.step()
        gradient = 3 * w**2 + weight_decay * w
        square = 0.9 * square + 0.1 * gradient**2
        velocity = 0.8 * velocity + rate * gradient / np.sqrt(square + 0.01)
        w = w - velocity
    assert np.allclose(weight.detach().numpy(), w, rtol=1e-12)


def test_the_moving_average_is_its_closed_form() -> None:
    model = nn.BatchNorm1d(1)
    average = MovingAverage(model, 0.8)
    values = torch.rand(30, generator=stream(0, "values")).tolist()
    for step, value in enumerate(values, 1):
        model.weight.data.fill_(value)
        model.num_batches_tracked.fill_(step)
        average.update(step)
    decays = [min(0.8, (1 + step) / (10 + step)) for step in range(1, 31)]
    expected = [(1 - decay) * math.prod(decays[i + 1 :]) for i, decay in enumerate(decays)]
    mean = math.prod(decays) * 1.0 + sum(share * value for share, value in zip(expected, values, strict=True))
    assert average.state["weight"].item() == pytest.approx(mean, rel=1e-5)
    assert average.state["num_batches_tracked"].item() == 30


def test_norms_and_biases_decay_by_choice() -> None:
    model = nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(4, 2))
    groups = make_optimizer(Recipe(weight_decay=0.1), model).param_groups
    assert [(group["weight_decay"], [p.ndim for p in group["params"]]) for group in groups] == [
        (0.1, [4, 2]), (0.0, [1, 1, 1, 1]),
    ]  # fmt: skip
    (group,) = make_optimizer(Recipe(decay_norms_and_biases=True), model).param_groups
    assert len(group["params"]) == 6


REFUSED = [({"optimizer": "adam"}, "allowed: sgd, rmsprop"), ({"schedule": "cosin"}, "did you mean 'cosine'"),
           ({"images": 0}, "images: 0"), ({"label_smoothing": 1.0}, "below 1"), ({"clip_norm": 0}, "above 0"),
           ({"momentum": 0}, "Nesterov"), ({"learning_rate": math.nan}, "finite")]  # fmt: skip


@pytest.mark.parametrize(("changes", "message"), REFUSED)
def test_what_cannot_be_trained_with_is_refused(changes: dict, message: str) -> None:
    with pytest.raises(InputError, match=message):
        Recipe(**changes)
