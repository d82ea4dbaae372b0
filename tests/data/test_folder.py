"""Pictures in folders: torchvision's transforms, chance by picture, and what is said of a folder that is wrong."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from experiments import fig1_spiral, fig6a_nonlinearity
from manifold_lab.core.errors import InputError
from manifold_lab.data import Augmentation, DataOptions, Folder, load
from manifold_lab.sweeps.options import PlanOptions
from manifold_lab.sweeps.training_run import run_training
from manifold_lab.training import RECIPES

CROPPED = Augmentation(flip=True, smallest_area=0.2)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two classes of eight training and two test pictures, of different sizes."""
    rng = np.random.default_rng(0)
    for part, count in (("train", 8), ("val", 2)):
        for name in ("cat", "dog"):
            (tmp_path / part / name).mkdir(parents=True)
            for i in range(count):
                pixels = rng.integers(0, 256, (20 + i, 30, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(tmp_path / part / name / f"{i}.png")
    return tmp_path


def read(path: Path, **changes: object) -> Folder:
    options = DataOptions(**({"validation": 0.25, "resolution": 16, "workers": 0} | changes))
    data = load(f"imagefolder:{path}", options=options)
    assert isinstance(data, Folder)
    return data


def pictures(data: Folder, augmentation: Augmentation = CROPPED, start: int = 0, epoch: int = 0) -> torch.Tensor:
    return torch.stack([x for x, _ in data.training(augmentation, seed=0, epoch=epoch, batch_size=4, start=start)])


def test_a_folder_gives_three_splits_of_its_classes(folder: Path) -> None:
    data = read(folder)
    assert data.facts.classes == ("cat", "dog")
    assert [data.size(split) for split in ("train", "validation", "test")] == [12, 4, 4]
    names = {path for split in data.samples.values() for path, _ in split}
    assert len(names) == 20
    assert [label for _, label in data.samples["validation"]] == [0, 0, 1, 1]


def test_evaluation_cuts_the_centre_as_torchvision_does(folder: Path) -> None:
    from torchvision.transforms import v2  # noqa: PLC0415

    data = read(folder)
    x, y = next(data.evaluation("test", 4))
    assert y.tolist() == [0, 0, 1, 1]
    reference = v2.Compose([
        v2.Resize(18), v2.CenterCrop(16), v2.ToImage(), v2.ToDtype(torch.float32, scale=True),
        v2.Normalize([0.485, 0.456, 0.406], [0.229, 0.224, 0.225]),
    ])  # fmt: skip
    for picture, (path, _) in zip(x, data.samples["test"], strict=True):
        with Image.open(path) as image:
            assert torch.allclose(picture, reference(image), atol=1e-5)


def test_chance_depends_on_the_picture_and_not_on_the_readers(folder: Path) -> None:
    alone, many = pictures(read(folder)), pictures(read(folder, workers=2))
    assert alone.shape == (3, 4, 3, 16, 16)
    assert torch.equal(alone, many)
    assert torch.equal(pictures(read(folder), start=1), alone[1:])
    assert not torch.equal(alone, pictures(read(folder), epoch=1))


def test_equal_pictures_are_cropped_differently(folder: Path) -> None:
    files = sorted((folder / "train").glob("*/*.png"))
    for path in files:
        path.write_bytes(files[0].read_bytes())
    x = pictures(read(folder), Augmentation(smallest_area=0.2)).flatten(0, 1).flatten(1)
    assert (torch.cdist(x, x) + torch.eye(12)).min() > 0.1


def test_reading_leaves_the_global_generator_alone(folder: Path) -> None:
    torch.manual_seed(0)
    before = torch.get_rng_state()
    files = read(folder).training(CROPPED, seed=0, epoch=0, batch_size=4)
    next(files)
    expected = torch.Generator().set_state(before)
    torch.empty((), dtype=torch.int64).random_(generator=expected)  # the loader's own seed
    assert torch.equal(torch.get_rng_state(), expected.get_state())


def test_pictures_are_flipped_in_half_of_the_cases_only(folder: Path) -> None:
    data = read(folder)
    plain, flipped = pictures(data, Augmentation()), pictures(data, Augmentation(flip=True))
    mirrored = (flipped == plain.flip(4)).flatten(2).all(2)
    same = (flipped == plain).flatten(2).all(2)
    assert (mirrored ^ same).all() and 0 < mirrored.sum() < 12


@pytest.mark.parametrize("workers", [0, 1])
def test_a_picture_that_cannot_be_read_is_one_line(folder: Path, workers: int) -> None:
    for path in (folder / "train" / "cat").iterdir():
        path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(InputError, match=r"cat/\d\.png cannot be read") as message:
        pictures(read(folder, workers=workers))
    assert len(str(message.value).splitlines()) == 1 and str(message.value).startswith("data: ")


def test_an_empty_class_or_other_classes_are_named(folder: Path) -> None:
    (folder / "val" / "fox").mkdir()
    with pytest.raises(InputError, match="fox") as message:
        read(folder)
    assert len(str(message.value).splitlines()) == 1
    (folder / "val" / "cat" / "0.png").rename(folder / "val" / "fox" / "0.png")
    with pytest.raises(InputError, match="other classes in train than in test, such as 'fox'"):
        read(folder)


def test_a_folder_is_not_padded(folder: Path) -> None:
    with pytest.raises(InputError, match="not padded"):
        read(folder).check(Augmentation(pad=4))


@pytest.mark.slow
def test_the_papers_figure_at_its_own_scale_is_one_option(folder: Path, tmp_path: Path) -> None:
    trials = fig6a_nonlinearity.STUDY.at_scale(str(folder))
    assert {(trial.network.num_classes, trial.network.width, trial.network.resolution) for trial in trials} == {
        (2, 1.0, 224)
    }
    assert {trial.recipe for trial in trials} == {RECIPES["paper"]}
    assert fig6a_nonlinearity.STUDY.runs(PlanOptions(images=str(folder), runs=tmp_path))[0].spec == trials[0]
    small = dataclasses.replace(trials[0].network, resolution=32)
    short = dataclasses.replace(trials[0].recipe, batch_size=4, images=8)
    found = run_training(dataclasses.replace(trials[0], network=small, recipe=short), tmp_path / "run")
    assert 0 <= found.numbers["test_accuracy"] <= 1


def test_a_study_without_a_scale_of_images_and_a_wrong_folder_say_so(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="fig1_spiral takes none"):
        fig1_spiral.STUDY.runs(PlanOptions(images="x"))
    with pytest.raises(InputError, match="smoke takes none"):
        fig6a_nonlinearity.STUDY.runs(PlanOptions(images="x", smoke=True))
    with pytest.raises(InputError, match="there is no folder"):
        fig6a_nonlinearity.STUDY.runs(PlanOptions(images=str(tmp_path / "none")))
