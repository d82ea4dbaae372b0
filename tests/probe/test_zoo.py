"""Networks from libraries, files and other code: their own preprocessing, and one line where they cannot be had."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from manifold_lab import stream
from manifold_lab.core.errors import InputError
from manifold_lab.models import weights
from manifold_lab.probe import zoo


class Raises(nn.Module):
    def forward(self, _x: torch.Tensor) -> torch.Tensor:
        raise RuntimeError("no\nsuch shape")


def tiny() -> nn.Module:
    return nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2))


def leaves() -> nn.Module:
    raise SystemExit(3)


@pytest.mark.parametrize("name", ["efficientnet_b1", "mobilenet_v3_small"])
def test_torchvision_models_get_the_images_of_their_own_preset(name: str, tmp_path: Path) -> None:
    from torchvision import models  # noqa: PLC0415

    image = Image.fromarray(np.random.default_rng(0).integers(0, 256, (400, 360, 3), dtype=np.uint8))
    image.save(tmp_path / "a.png")
    (found,) = zoo.batches(zoo.network(f"torchvision:{name}"), str(tmp_path), 1, 1)
    expected = models.get_model_weights(name).DEFAULT.transforms()(image)
    assert torch.allclose(found[0], expected, atol=1e-5)


@pytest.mark.parametrize("name", ["efficientnet_b0", "mobilenetv3_small_050", "vit_tiny_patch16_224"])
def test_timm_models_get_the_images_of_their_own_configuration(name: str, tmp_path: Path) -> None:
    import timm  # noqa: PLC0415

    image = Image.fromarray(np.random.default_rng(0).integers(0, 256, (400, 360, 3), dtype=np.uint8))
    image.save(tmp_path / "a.png")
    subject = zoo.network(f"timm:{name}")
    (found,) = zoo.batches(subject, str(tmp_path), 1, 1)
    expected = timm.data.create_transform(**timm.data.resolve_data_config({}, model=subject.model))(image)
    assert torch.allclose(found[0], expected, atol=1e-5)


def test_an_untrained_segmentation_model_fetches_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("fetched")

    monkeypatch.setattr(torch.hub, "load_state_dict_from_url", refuse)
    assert zoo.network("torchvision:lraspp_mobilenet_v3_large").shape == (3, 520, 520)


@pytest.mark.parametrize(("name", "reason"), [
    ("resnet18", "did you mean 'torchvision:resnet18'"), ("mynet.py:tiny", "did you mean 'mynet:tiny'"),
    ("timm:mobilenetv2_10", "did you mean .mobilenetv2_1"), ("torchvision:r3d_18", "clips or pairs of frames"),
    (":", "needs both"), ("torch.nn:", "needs both"), ("torch.nn:Linear", "could not be made"),
    ("json:loads", "could not be made"), ("builtins:exit", "could not be made"), (".x:y", "cannot import"),
    ("tests.probe.test_zoo:leaves", "SystemExit"), ("builtins:dict", "not a torch module"),
])  # fmt: skip
def test_names_that_give_no_network_are_one_line(name: str, reason: str) -> None:
    with pytest.raises(InputError, match=reason) as refusal:
        zoo.network(name)
    assert "\n" not in str(refusal.value)


def test_a_forward_pass_that_raises_is_one_line() -> None:
    subject = zoo.LoadedModel(Raises(), (3, 4, 4), zoo.IMAGENET, "")
    with pytest.raises(InputError, match=r"an image of 3x4x4 raised RuntimeError: no such shape$"):
        zoo.check_forward(subject, torch.device("cpu"))


def test_colour_images_are_refused_by_a_grey_network(tmp_path: Path) -> None:
    Image.fromarray(np.zeros((9, 9, 3), np.uint8)).save(tmp_path / "a.png")
    with pytest.raises(InputError, match="has 3 channels, the model wants 1"):
        list(zoo.batches(zoo.network("digits"), str(tmp_path), 1, 1))


def test_noise_is_drawn_batch_by_batch_and_does_not_depend_on_the_batch() -> None:
    subject = zoo.LoadedModel(tiny(), (3, 5, 7), zoo.IMAGENET, "")
    one, many = (torch.cat(list(zoo.batches(subject, zoo.NOISE, 10, batch))) for batch in (10, 3))
    assert torch.equal(one, many)
    drawn = torch.randint(0, 256, (10, 3, 5, 7), generator=stream(0, "pictures"), dtype=torch.uint8)
    assert torch.allclose(one * torch.tensor(zoo.IMAGENET[1])[:, None, None]
                          + torch.tensor(zoo.IMAGENET[0])[:, None, None], drawn / 255, atol=1e-5)  # fmt: skip


def saved(tmp_path: Path, content: object) -> Path:
    torch.save(content, tmp_path / "w.pth")
    return tmp_path / "w.pth"


def test_prefixes_are_named_and_taken_away_when_asked(tmp_path: Path) -> None:
    state = tiny().state_dict()
    path = saved(tmp_path, {f"module.{key}": value for key, value in state.items()})
    model = tiny()
    with pytest.raises(InputError, match=r"every name begins with 'module\.'; give --strip module\.$"):
        weights.load_state(model, path)
    weights.load_state(model, path, "module.")
    assert all(torch.equal(value, state[key]) for key, value in model.state_dict().items())
    with pytest.raises(InputError, match="strip: no name in"):
        weights.load_state(model, path, "model.")


@pytest.mark.parametrize(("content", "reason"), [
    ({"state_dict": tiny().state_dict(), "epoch": 3}, r"training checkpoint with a state under 'state_dict'; save"),
    ({"model": tiny().state_dict(), "ema": tiny().state_dict()}, r"under 'model' and 'ema'; save the one you mean"),
    (tiny(), r"holds a pickled model .* run code .* save its state"),
    ([1, 2], "holds a list"), ({"epoch": 3}, "other things than tensors"),
    (nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 9)).state_dict(), r"another head .*2\.weight is"),
    (nn.Linear(3, 4).state_dict(), r"4 missing: 0\.bias, .*; 2 surplus: bias, weight$"),
])  # fmt: skip
def test_a_checkpoint_of_another_kind_is_named_with_its_remedy(content: object, reason: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=reason) as refusal:
        weights.load_state(tiny(), saved(tmp_path, content))
    assert "\n" not in str(refusal.value)


def test_weights_of_a_file_are_loaded(tmp_path: Path) -> None:
    state = tiny().state_dict()
    found = zoo.network("tests.probe.test_zoo:tiny", str(saved(tmp_path, state)))
    assert all(torch.equal(value, state[key]) for key, value in found.model.state_dict().items())
