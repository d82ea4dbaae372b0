"""Two processes that train one network against one process that trains it alone.

Run as a script by torchrun it is one of the two.
"""

import dataclasses
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

import manifold_lab
from manifold_lab import stream
from manifold_lab.data import Augmentation, load
from manifold_lab.models.mobilenet import build
from manifold_lab.models.specs import DIGITS
from manifold_lab.sweeps import runner
from manifold_lab.training import Bookkeeping, Recipe, distributed, train

pytestmark = pytest.mark.slow

BATCH = 63
"""Odd, so that the two parts of a batch differ."""
RECIPE = Recipe(
    images=20 * BATCH, batch_size=BATCH, learning_rate=0.01, ema_decay=0.99, label_smoothing=0.1, clip_norm=1.0,
    augmentation=Augmentation(pad=1, flip=True, cutout=2),
)  # fmt: skip
RECIPES = {"sgd": RECIPE, "rmsprop": dataclasses.replace(RECIPE, optimizer="rmsprop")}
ROUNDING = 1e-6
"""Of losses and weights near one, after twenty small steps in double precision of a loss in single precision."""


class Wide(nn.Module):
    """A network in double precision, so that rounding stays small."""

    def __init__(self) -> None:
        super().__init__()
        self.network = build(dataclasses.replace(DIGITS, dropout=0.2), stream(0, "weights")).double()

    def forward(self, x: Tensor) -> Tensor:
        return self.network(x.double())


def go(recipe: str, folder: Path | None = None, images: int = RECIPE.images) -> dict[str, object]:
    """Train; the weights in the end, and what the run tells."""
    model, message = Wide(), list[int]()
    kept = Bookkeeping(folder, checkpoint_every=4, bar=False, report=lambda step, *_: message.append(step))
    outcome = train(
        model, load("digits"), dataclasses.replace(RECIPES[recipe], images=images), seed=0, bookkeeping=kept
    )
    row = outcome.history[-1]
    return {"weights": model.state_dict(), "losses": [row.train_loss, row.validation.loss, outcome.test.loss],
            "pictures": outcome.test.pictures, "told": message}  # fmt: skip


def main(folder: Path) -> None:
    torch.set_num_threads(1)
    with distributed.join_processes() as here:
        for recipe in RECIPES:
            (folder / str(here.rank)).mkdir(exist_ok=True)
            torch.save(go(recipe, folder / str(here.rank) / recipe), folder / f"{recipe}-{here.rank}.pt")


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("pair")
    command = [sys.executable, "-m", "torch.distributed.run", *runner.ON_LOOPBACK, "--nproc-per-node=2"]
    environment = runner.TOGETHER | os.environ | {"PYTHONPATH": str(Path(manifold_lab.__file__).parents[1])}
    subprocess.run([*command, __file__, str(folder)], check=True, capture_output=True, env=environment)
    return folder


def read(folder: Path, recipe: str, rank: int) -> dict:
    return torch.load(folder / f"{recipe}-{rank}.pt", weights_only=True)


@pytest.mark.parametrize("recipe", RECIPES)
def test_two_processes_end_where_one_does_to_rounding(pair: Path, recipe: str) -> None:
    alone, first, second = go(recipe), read(pair, recipe, 0), read(pair, recipe, 1)
    for name, value in alone["weights"].items():
        torch.testing.assert_close(first["weights"][name], value, rtol=ROUNDING, atol=ROUNDING)
        assert torch.equal(first["weights"][name], second["weights"][name])
    assert first["losses"] == pytest.approx(alone["losses"], rel=ROUNDING) and first["losses"] == second["losses"]
    assert first["pictures"] == alone["pictures"]


def test_only_the_first_process_keeps_books(pair: Path) -> None:
    assert {path.name for path in (pair / "0" / "sgd").iterdir()} == {"checkpoint-a.pt", "checkpoint-b.pt"}
    assert list((pair / "1").iterdir()) == []
    assert (read(pair, "sgd", 0)["told"], read(pair, "sgd", 1)["told"]) == ([4, 8, 12, 16, 20], [])


def test_what_two_began_one_may_end(pair: Path) -> None:
    (pair / "0" / "sgd" / "checkpoint-a.pt").unlink()  # the newer one, of the end
    message = go("sgd", pair / "0" / "sgd")
    assert message["losses"] == pytest.approx(go("sgd")["losses"], rel=ROUNDING)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
