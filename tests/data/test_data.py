"""Data by name: splits, augmentation's laws, and one clear line for everything that can be wrong with a file."""

import contextlib
import dataclasses
import math
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from torchvision.transforms.v2 import functional

from manifold_lab import ManifoldSpec, stream
from manifold_lab.core.errors import InputError
from manifold_lab.data import NAMES, Augmentation, Data, DataOptions, InMemory, ManifoldTask, cache, load
from manifold_lab.data.augment import cutout, epoch_of, flip, pad_crop
from manifold_lab.data.in_memory import Split, hold_out, shrunk

CPU = torch.device("cpu")
CIFAR = Path(os.environ.get("MANIFOLD_LAB_DATA", "")) / "cifar10.npz"


def arrays(pictures: int = 20) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    x = rng.integers(0, 256, (2, pictures, 32, 32, 3), dtype=np.uint8)
    y = np.arange(pictures, dtype=np.uint8) % 10
    return {"x_train": x[0], "y_train": y, "x_test": x[1], "y_test": y, "classes": np.array(list("abcdefghij"))}


def epoch(data: Data, augmentation: Augmentation = Augmentation(), **changes: int) -> list[tuple]:  # noqa: B008
    return list(data.training(augmentation, **({"seed": 0, "epoch": 0, "batch_size": 100} | changes)))


@pytest.mark.parametrize("name", ["digits", "manifold"])
def test_sets_without_download_have_one_form(name: str) -> None:
    data = load(name)
    assert isinstance(data, Data)
    x, y = next(data.evaluation("test", 50))
    assert x.shape == (50, data.facts.channels, data.facts.resolution, data.facts.resolution)
    assert x.dtype == torch.float32 and y.dtype == torch.int64 and y.max() < len(data.facts.classes)


@pytest.mark.parametrize("name", ["digits", "manifold"])
def test_no_picture_is_in_two_splits_and_the_seed_moves_only_the_validation(name: str) -> None:
    def rows(data: InMemory, split: str) -> set[bytes]:
        return {row.numpy().tobytes() for row in data.splits[split].x}

    first, other = load(name, seed=0), load(name, seed=1)
    parts = [rows(first, split) for split in ("train", "validation", "test")]
    assert sum(map(len, parts)) == len(set.union(*parts)) > 1700
    assert rows(first, "validation") != rows(other, "validation")
    assert name == "manifold" or rows(first, "test") == rows(other, "test")


def test_digits_are_all_there_with_their_statistics() -> None:
    data = load("digits")
    assert [data.size(split) for split in ("train", "validation", "test")] == [1295, 143, 359]
    pictures = torch.cat([data.splits[split].x for split in ("train", "validation")]).double() / 255
    assert data.facts.mean[0] == pytest.approx(pictures.mean().item(), rel=1e-12)
    assert data.facts.std[0] == pytest.approx(pictures.std(unbiased=False).item(), rel=1e-12)
    x = torch.cat([x for x, _ in (*data.evaluation("train", 99), *data.evaluation("validation", 99))])
    assert abs(x.mean()) < 1e-6 and abs(x.std(unbiased=False) - 1) < 1e-6


@pytest.mark.parametrize("share", [0.1, 0.5])
def test_a_held_out_part_has_the_same_share_of_every_class(share: float) -> None:
    labels = torch.tensor([0] * 100 + [2] * 40 + [3] * 2)[torch.randperm(142, generator=stream(0, "labels"))]
    kept, held = hold_out(labels, share, stream(0, "split"))
    assert torch.equal(torch.cat([kept, held]).sort().values, torch.arange(142))
    assert labels[held].bincount(minlength=4).tolist() == [100 * share, 0, 40 * share, 1]


def test_the_synthetic_task_tells_what_it_says() -> None:
    task = ManifoldTask(ManifoldSpec("circle"), ambient=5, classes=4, points=400)
    data = load("manifold", options=DataOptions(task=task))
    x, y = (torch.cat(part) for part in zip(*(b for s in data.splits for b in data.evaluation(s, 50)), strict=True))
    assert torch.equal(y.bincount(), torch.full((4,), 100)) and task.information == math.log(4)
    flat = x[:, :, 0, 0]
    assert torch.linalg.matrix_rank(flat, rtol=1e-5) == 2, "a circle stays in a plane of R^5"
    near = torch.cdist(flat, flat).fill_diagonal_(math.inf).argmin(1)
    assert (y[near] == y).float().mean() > 0.97, "classes are arcs: but at 4 borders the neighbour has the same"
    assert data.facts.std[0] == pytest.approx(1, abs=0.1), "orthonormal columns times sqrt(5), a circle of radius one"


def test_an_epoch_holds_every_picture_once_and_depends_on_its_seed_and_number() -> None:
    data = load("digits")
    runs = {key: torch.cat([y for _, y in epoch(data, seed=key[0], epoch=key[1])]) for key in ((0, 0), (0, 1), (1, 0))}
    order = epoch_of(Augmentation(), (1295, 8), seed=0, epoch=0, device=CPU).order
    assert torch.equal(order.sort().values, torch.arange(1295))
    assert torch.equal(runs[0, 0], data.splits["train"].y[order[:1200]])
    assert not torch.equal(runs[0, 0], runs[0, 1]) and not torch.equal(runs[0, 0], runs[1, 0])


def test_an_epoch_taken_up_in_its_middle_goes_on_as_it_would_have() -> None:
    data, augmentation = load("digits"), Augmentation(pad=2, flip=True, cutout=3)
    whole, rest = epoch(data, augmentation), epoch(data, augmentation, start=7)
    assert len(whole) == 12 and len(rest) == 5
    assert all(torch.equal(a[0], b[0]) and torch.equal(a[1], b[1]) for a, b in zip(whole[7:], rest, strict=True))


def test_one_augmentation_more_moves_no_other_draw() -> None:
    plain, more = (
        epoch_of(augmentation, (50, 8), seed=0, epoch=3, device=CPU)
        for augmentation in (Augmentation(pad=2), Augmentation(pad=2, flip=True, cutout=4))
    )
    assert torch.equal(plain.order, more.order) and torch.equal(plain.draws.corner, more.draws.corner)


@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32])
def test_a_crop_is_a_window_of_the_padded_picture(dtype: torch.dtype) -> None:
    x = torch.randint(1, 256, (6, 3, 5, 5), generator=stream(0, "x")).to(dtype)
    corner = torch.tensor([[0, 0], [4, 4], [2, 2], [0, 4], [3, 1], [1, 2]])
    padded = np.pad(x.numpy(), ((0, 0), (0, 0), (2, 2), (2, 2)))
    for picture, (row, column) in enumerate(corner.tolist()):
        window = padded[picture, :, row : row + 5, column : column + 5]
        assert np.array_equal(pad_crop(x, corner, 2)[picture].numpy(), window)
    assert torch.equal(pad_crop(x, torch.full((6, 2), 2), 2), x)


def test_windows_and_flips_are_uniform(agrees) -> None:
    draws = epoch_of(Augmentation(pad=4), (20_000, 9), seed=0, epoch=0, device=CPU).draws
    for value in range(9):
        agrees((draws.corner == value).flatten(), 1 / 9)
    agrees(draws.flipped, 0.5)
    fields = torch.cat([draws.corner, draws.flipped[:, None], draws.centre], dim=1).double()
    assert (torch.corrcoef(fields.T) - torch.eye(5)).abs().max() < 4 / 20_000**0.5, "each purpose has its own chance"


def test_a_flip_is_torchvisions_where_told_and_undone_by_another() -> None:
    x, output = torch.rand(8, 3, 4, 4, generator=stream(0, "x")), torch.arange(8) % 3 == 0
    assert torch.equal(flip(x, output)[output], functional.horizontal_flip(x[output]))
    assert torch.equal(flip(x, output)[~output], x[~output])
    assert torch.equal(flip(flip(x, output), output), x)


@pytest.mark.parametrize("side", [1, 3, 4])
def test_a_cutout_is_a_square_of_zeros_cut_off_at_the_border(side: int) -> None:
    x, centre = torch.ones(3, 2, 9, 9), torch.tensor([[4, 4], [0, 8], [8, 0]])
    for picture, (row, column) in zip(cutout(x, centre, side), centre.tolist(), strict=True):
        expected = np.ones((2, 9, 9), dtype=np.float32)
        top, left = row - side // 2, column - side // 2
        expected[:, max(top, 0) : max(top + side, 0), max(left, 0) : max(left + side, 0)] = 0
        assert np.array_equal(picture.numpy(), expected)


def test_augmented_batches_are_those_steps_in_a_row() -> None:
    data, augmentation = load("digits"), Augmentation(pad=1, flip=True, cutout=2)
    rng = epoch_of(augmentation, (1295, 8), seed=5, epoch=2, device=CPU)
    index = rng.order[300:400]
    draws, raw = rng.draws.take(index), data.splits["train"].x[index]
    x = flip(pad_crop(raw, draws.corner, 1), draws.flipped).double() / 255
    x = cutout((x - data.facts.mean[0]) / data.facts.std[0], draws.centre, 2)
    assert torch.allclose(epoch(data, augmentation, seed=5, epoch=2)[3][0].double(), x, atol=1e-5)


def test_a_cached_set_is_read_with_its_exact_statistics(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    given = arrays()
    np.savez(tmp_path / "cifar10.npz", **given)
    monkeypatch.setenv(cache.FOLDER_VARIABLE, str(tmp_path))
    data = load("cifar10", options=DataOptions(validation=0.5))
    assert data.facts.classes == tuple("abcdefghij") and data.facts.resolution == 32
    assert data.facts.mean == pytest.approx((given["x_train"] / 255).mean((0, 1, 2)), rel=1e-12)
    assert data.facts.std == pytest.approx((given["x_train"] / 255).std((0, 1, 2)), rel=1e-9)
    assert np.array_equal(data.splits["test"].x.numpy(), given["x_test"].transpose(0, 3, 1, 2))


BROKEN: list[tuple[dict[str, np.ndarray], str]] = [
    (
        {"x_train": arrays()["x_train"][:, :28]},
        r"x_train is uint8 \(20, 28, 32, 3\), not uint8 \(images, 32, 32, 3\)",
    ),
    ({"x_test": arrays()["x_test"].astype(np.float32)}, "x_test is float32"),
    ({"y_train": arrays()["y_train"][:5]}, "y_train is uint8"),
    ({"y_train": arrays()["y_train"] % 9}, "y_train holds 9 different labels"),
    ({"classes": np.array(list("abc"))}, r"classes is \(3,\), not \(10,\)"),
    ({"classes": np.array([print] * 10, dtype=object)}, "cannot be read"),
]


@pytest.mark.parametrize(("changes", "message"), BROKEN)
def test_arrays_of_another_form_are_refused(changes: dict, message: str, tmp_path: Path) -> None:
    np.savez(tmp_path / "cifar10.npz", **(arrays() | changes))
    refused(message, "cifar10", root=tmp_path)


@pytest.mark.parametrize("kept", [0, 100, 20_000, -30])
def test_a_truncated_file_is_refused(kept: int, tmp_path: Path) -> None:
    path = tmp_path / "cifar10.npz"
    np.savez(path, **arrays())
    path.write_bytes(path.read_bytes()[:kept])
    refused("delete it, and it is fetched again", "cifar10", root=tmp_path)


def test_a_file_with_a_changed_byte_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "cifar10.npz"
    np.savez(path, **arrays())
    content = bytearray(path.read_bytes())
    content[5000] ^= 1
    path.write_bytes(content)
    refused("cannot be read", "cifar10", root=tmp_path)


@pytest.mark.parametrize("bit", range(8))
def test_a_file_with_a_changed_bit_in_its_headers_is_refused_or_read(bit: int, tmp_path: Path) -> None:
    path = tmp_path / "cifar10.npz"
    np.savez(path, **arrays())
    whole = path.read_bytes()
    read = 0
    places = (*range(0, 200, 3), *range(len(whole) - 300, len(whole), 3))
    for place in places:
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 1 << bit]) + whole[place + 1 :])
        with contextlib.suppress(InputError):
            assert len(load("cifar10", root=tmp_path).facts.classes) == 10
            read += 1
    assert 0 < read < len(places), "some bits mean nothing to a reader, and some are refused"


def refused(message: str, name: str, **arguments: object) -> None:
    with pytest.raises(InputError, match=message) as output:
        load(name, **arguments)
    assert len(str(output.value).splitlines()) == 1


def test_wrong_names_and_places_are_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(cache.FOLDER_VARIABLE, raising=False)
    refused("did you mean 'cifar10'", "cifar-10")
    refused("set MANIFOLD_LAB_DATA or give root", "cifar100")
    refused("there is no folder", f"imagefolder:{tmp_path / 'none'}")
    with pytest.raises(InputError, match="only an imagefolder has"):
        load("digits").check(Augmentation(smallest_area=0.1))
    with pytest.raises(InputError, match="above 0 and below 1"):
        DataOptions(validation=0)
    with pytest.raises(InputError, match="at least 2"):
        ManifoldTask(ManifoldSpec("circle"), ambient=1)
    assert NAMES[0] == "digits"


def test_a_class_that_the_split_empties_is_named(tmp_path: Path) -> None:
    np.savez(tmp_path / "cifar10.npz", **arrays(10))
    refused("class 'a' of cifar10 has no image to train on", "cifar10", root=tmp_path)


@pytest.mark.skipif(not CIFAR.is_file(), reason="MANIFOLD_LAB_DATA names no folder with cifar10.npz")
def test_cifar_has_its_known_counts_mean_and_deviation() -> None:
    data = load("cifar10")
    assert data.facts.mean == pytest.approx((0.4914, 0.4822, 0.4465), abs=5e-5)
    assert data.facts.std == pytest.approx((0.2470, 0.2435, 0.2616), abs=5e-5)
    counts = {split: part.y.bincount().tolist() for split, part in data.splits.items()}
    assert counts == {"train": [4500] * 10, "validation": [500] * 10, "test": [1000] * 10}


def test_pictures_are_averaged_down_over_areas_and_never_up() -> None:
    digits = load("digits", options=DataOptions(resolution=224))
    assert isinstance(digits, InMemory) and digits.facts.resolution == 8
    doubled = Split(digits.splits["train"].x.repeat_interleave(2, 2).repeat_interleave(2, 3), digits.splits["train"].y)
    large = InMemory(dataclasses.replace(digits.facts, resolution=16), dict.fromkeys(digits.splits, doubled))
    small = shrunk(large, 8)
    assert torch.equal(small.splits["train"].x, digits.splits["train"].x)
    x = torch.cat([x for x, _ in shrunk(large, 4).evaluation("train", 500)])
    assert x.shape[2:] == (4, 4)
    assert x.mean().item() == pytest.approx(0, abs=1e-5) and x.std(correction=0).item() == pytest.approx(1, abs=1e-5)
