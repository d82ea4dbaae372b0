"""The training loop against loops written out, closed forms and published update rules."""

import dataclasses
import math
import sys
import types
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

from manifold_lab import stream
from manifold_lab.core.errors import InputError
from manifold_lab.data import Augmentation, Batch, InMemory, load
from manifold_lab.data.interface import WHOLE, Share
from manifold_lab.models.mobilenet import build
from manifold_lab.models.specs import DIGITS
from manifold_lab.training import RECIPES, Bookkeeping, Outcome, Recipe, TrainingLength, learning_rate, train
from manifold_lab.training.evaluate import evaluate
from manifold_lab.training.optim import MovingAverage

QUIET = Bookkeeping(bar=False)
SHORT = Recipe(images=2560, batch_size=64, warmup_epochs=0.5)
STEPS = 40


@pytest.fixture(scope="module")
def data() -> InMemory:
    return load("digits")


def small(seed: int = 0, dropout: float = 0.0) -> nn.Sequential:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        layers = (nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Dropout(dropout))
        return nn.Sequential(*layers, nn.Linear(144, 10))


def weights(model: nn.Module) -> torch.Tensor:
    return torch.cat([value.flatten().double() for value in model.state_dict().values()])


def run(data: InMemory, model: nn.Module, bookkeeping: Bookkeeping = QUIET, **changes: object) -> Outcome:
    return train(model, data, dataclasses.replace(SHORT, **changes), seed=0, bookkeeping=bookkeeping)


def numbers(outcome: Outcome) -> Outcome:
    return dataclasses.replace(outcome, images_per_second=0.0)


def written_out(data: InMemory, model: nn.Module, smoothing: float, clip: float) -> tuple[nn.Module, list[float]]:
    """The loop in plain words: torch's SGD, the smoothed loss by its formula, the norm of gradients by hand."""
    matrices = [p for p in model.parameters() if p.ndim > 1]
    vectors = [p for p in model.parameters() if p.ndim == 1]
    groups = [{"params": matrices, "weight_decay": 0.01}, {"params": vectors, "weight_decay": 0}]
    optimizer, losses = torch.optim.SGD(groups, lr=1.0, momentum=0.9, nesterov=True), []
    for step in range(STEPS):
        epoch, batch = divmod(step, 20)
        x, y = list(data.training(SHORT.augmentation, seed=0, epoch=epoch, batch_size=64))[batch]
        logs = model(x).log_softmax(1)
        loss = ((smoothing - 1) * logs[torch.arange(64), y] - smoothing * logs.mean(1)).mean()
        optimizer.zero_grad()
        loss.backward()
        norm = math.sqrt(sum(p.grad.square().sum().item() for p in model.parameters()))
        for p in model.parameters():
            p.grad.mul_(min(1.0, clip / norm))
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(SHORT, TrainingLength(20, STEPS), step)
        optimizer.step()
        losses.append(loss.item())
    return model, losses


def test_a_run_is_the_loop_written_out(data: InMemory) -> None:
    model = small()
    outcome = run(data, model, weight_decay=0.01, label_smoothing=0.2, clip_norm=0.5)
    reference, losses = written_out(data, small(), 0.2, 0.5)
    assert torch.allclose(weights(model), weights(reference), rtol=1e-3, atol=1e-4)
    assert [row.step for row in outcome.history] == [20, 40]
    assert outcome.history[1].train_loss == pytest.approx(np.mean(losses[20:]), rel=1e-4)
    logits = reference.eval()(torch.cat([x for x, _ in data.evaluation("test", 359)]))
    y = data.splits["test"].y
    assert outcome.test.accuracy == pytest.approx((logits.argmax(1) == y).double().mean().item(), abs=3 / 359)
    assert outcome.test.loss == pytest.approx(functional.cross_entropy(logits, y).item(), rel=1e-2)


@pytest.mark.slow
def test_the_model_ends_with_the_moving_average(data: InMemory) -> None:
    model = small()
    average = MovingAverage(model, 0.9)
    for stop in range(1, STEPS + 1):  # the weights after each step are those of the plain run of that length
        fresh = small()
        run(data, fresh, images=64 * stop, schedule="constant", warmup_epochs=0)
        model.load_state_dict(fresh.state_dict())
        average.update(stop)
    averaged = small()
    outcome = run(data, averaged, ema_decay=0.9, schedule="constant", warmup_epochs=0)
    assert torch.allclose(weights(averaged), torch.cat([v.flatten().double() for v in average.state.values()]))
    assert not torch.allclose(weights(averaged), weights(model))
    assert (
        outcome.validation
        == evaluate(averaged, data, "validation", SHORT)
        != evaluate(model, data, "validation", SHORT)
    )


def test_arms_that_share_a_seed_see_the_same_batches(data: InMemory) -> None:
    def seen(model: nn.Module, seed: int) -> torch.Tensor:
        inputs: list[torch.Tensor] = []
        model[0].register_forward_hook(lambda m, x, _: inputs.append(x[0].clone()) if m.training else None)
        recipe = dataclasses.replace(SHORT, augmentation=Augmentation(pad=1, flip=True))
        train(model, data, recipe, seed=seed, bookkeeping=QUIET)
        return torch.stack(inputs)

    assert torch.equal(seen(small(0), 3), seen(small(1, dropout=0.5), 3))
    assert not torch.equal(seen(small(0), 3), seen(small(0), 4))


def test_dropout_comes_from_the_seed_and_not_from_the_caller(data: InMemory) -> None:
    first, second = small(dropout=0.5), small(dropout=0.5)
    torch.manual_seed(1)
    run(data, first)
    torch.manual_seed(2)
    before = torch.get_rng_state()
    run(data, second)
    assert torch.equal(torch.get_rng_state(), before) and not torch.are_deterministic_algorithms_enabled()
    assert torch.equal(weights(first), weights(second))


def test_dropout_is_another_one_at_every_step(data: InMemory) -> None:
    model, masks = small(dropout=0.5), []
    model[4].register_forward_hook(lambda m, x, y: masks.append((y == 0) & (x[0] != 0)) if m.training else None)
    run(data, model, learning_rate=1e-12)
    assert not torch.stack(masks).all(0).any(), "no unit is dropped forty times in a row"


def test_bookkeeping_changes_no_bit(data: InMemory, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    loud = Bookkeeping(tmp_path, checkpoint_every=7, check_every=3)
    first, second = small(), small()
    a, b = run(data, first, evaluate_every=500), run(data, second, loud, evaluate_every=500)
    assert torch.equal(weights(first), weights(second)) and numbers(a) == numbers(b)
    assert "images/s" in capsys.readouterr().err and b.images_per_second > 0


def test_history_has_a_row_for_every_epoch_and_every_evaluation(data: InMemory) -> None:
    outcome = run(data, small(), evaluate_every=640, images=2880)
    rows = [(row.kind, row.step, row.images) for row in outcome.history]
    evaluations = [("evaluation", step, 64 * step) for step in (10, 20, 30, 40)]
    assert sorted(rows) == sorted([("epoch", 20, 1280), ("epoch", 40, 2560), *evaluations, ("evaluation", 45, 2880)])
    rates = [
        learning_rate(dataclasses.replace(SHORT, images=2880), TrainingLength(20, 45), row.step - 1)
        for row in outcome.history
    ]
    assert [row.learning_rate for row in outcome.history] == rates
    by = {kind: [row.train_loss for row in outcome.history if row.kind == kind] for kind in ("epoch", "evaluation")}
    assert by["epoch"][0] == pytest.approx((by["evaluation"][0] + by["evaluation"][1]) / 2, rel=1e-12)


class BreaksAt(nn.Module):
    """Says NaN at one step of training."""

    def __init__(self, step: int):
        super().__init__()
        self.inner, self.step, self.count = small(), step, 0

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.count += self.training
        return self.inner(x) * (math.nan if self.training and self.count == self.step else 1.0)


@pytest.mark.parametrize("check_every", [1, 7, 50])
@pytest.mark.parametrize("step", [1, 22, 40])
def test_the_first_bad_step_ends_the_run_and_is_said(
    data: InMemory, tmp_path: Path, check_every: int, step: int
) -> None:
    kept = Bookkeeping(tmp_path, check_every=check_every, bar=False)
    outcome = run(data, BreaksAt(step), kept)
    assert (outcome.status, outcome.diverged_at, outcome.test) == ("diverged", step, None)
    assert [row.step for row in outcome.history] == ([20] if step > 20 else [])
    again = BreaksAt(step)
    assert run(data, again, kept) == outcome
    assert again.count == 0, "it is told again, not tried again"


def test_a_rate_that_is_too_high_diverges(data: InMemory) -> None:
    outcome = run(data, small(), learning_rate=1e30)
    assert outcome.status == "diverged" and 1 < outcome.diverged_at < 10 and outcome.history == ()


def test_test_is_looked_at_once_at_the_end(data: InMemory) -> None:
    looks: list[str] = []

    class Watched(InMemory):
        def evaluation(self, split: str, batch_size: int, share: Share = WHOLE) -> Iterator[Batch]:
            looks.append(split)
            return super().evaluation(split, batch_size, share)

    run(Watched(data.facts, data.splits), small(), evaluate_every=640)
    assert looks == ["validation"] * 4 + ["test"]


def test_bf16_and_compile_by_flag(data: InMemory, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[torch.dtype] = []
    model = small()
    model[0].register_forward_hook(lambda _m, _x, y: seen.append(y.dtype))
    monkeypatch.setattr(torch, "compile", lambda inner: seen.append(torch.int8) or inner)
    assert run(data, model, precision="bf16", images=640, compile=True).status == "finished"
    assert seen[0] == torch.int8 and set(seen[1:]) == {torch.bfloat16} and weights(model).isfinite().all()
    assert model[0].weight.dtype == torch.float32


@pytest.mark.slow
def test_the_smoke_preset_learns_the_digits_with_the_small_network(data: InMemory) -> None:
    recipe = dataclasses.replace(RECIPES["smoke"], images=10_000)
    outcome = train(build(DIGITS, stream(0, "weights")), data, recipe, seed=0, bookkeeping=QUIET)
    assert outcome.test.accuracy > 0.95


def test_tensorboard_is_missed_in_one_line_and_given_every_row(
    data: InMemory, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept, output = Bookkeeping(tmp_path, bar=False, tensorboard=True), []
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    with pytest.raises(InputError, match="pip install tensorboard"):
        run(data, small(), kept)

    class Writer:
        def __init__(self, folder: str, purge_step: int): ...
        def close(self) -> None: ...
        def add_scalar(self, *scalar: object) -> None:
            output.append(scalar)

    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", types.SimpleNamespace(SummaryWriter=Writer))
    outcome = run(data, small(), kept)
    assert ("epoch/validation/accuracy", outcome.history[-1].validation.accuracy, 2560) in output and len(output) == 8


def test_a_recipe_that_does_not_fit_the_data_is_refused(data: InMemory) -> None:
    for changes, message in (
        ({"batch_size": 2000}, "1295 images"),
        ({"augmentation": Augmentation(smallest_area=0.1)}, "digits"),
    ):
        with pytest.raises(InputError, match=message):
            run(data, small(), **changes)
    with pytest.raises(InputError, match="needs a folder"):
        Bookkeeping(tensorboard=True)
