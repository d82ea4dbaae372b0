"""Weights: there and back, strictly, against torchvision's own network and on real pictures."""

import dataclasses
import errno
import functools
import hashlib
import http.server
import os
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from torch import nn
from torchvision import models

from manifold_lab import stream
from manifold_lab.core.errors import InputError
from manifold_lab.data import image_files as samples
from manifold_lab.models import weights
from manifold_lab.models.fold import folded
from manifold_lab.models.mobilenet import build
from manifold_lab.models.specs import V1, V1_TENSORFLOW, V2, NetworkSpec
from tests.networks import SMALL, lively, pictures, small


@pytest.mark.parametrize("spec", [SMALL, dataclasses.replace(V1, width=0.25)], ids=["inverted", "separable"])
def test_a_network_goes_to_the_common_layout_and_back(spec: NetworkSpec) -> None:
    network = lively(build(spec, stream(0, "weights")))
    back = weights.from_pytorch_layout(spec, weights.to_pytorch_layout(network))
    assert torch.equal(back(pictures(1, spec)), network(pictures(1, spec)))


def test_a_network_is_saved_and_loaded_and_foreign_files_are_refused(tmp_path: Path) -> None:
    network, path = small(), tmp_path / "net.safetensors"
    weights.save_weights(network, path)
    assert torch.equal(weights.load_weights(SMALL, path)(pictures()), network(pictures()))
    with pytest.raises(InputError, match="of another shape"):
        weights.load_weights(dataclasses.replace(SMALL, num_classes=11), path)
    with pytest.raises(InputError, match=r"missing: blocks\.1\.bridge|1 missing|missing"):
        weights.load_weights(dataclasses.replace(SMALL, shortcut="projected"), path)
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(InputError, match="cannot be read"):
        weights.load_weights(SMALL, path)
    with pytest.raises(InputError, match="there is no file"):
        weights.load_weights(SMALL, tmp_path / "none.pth")


def test_a_file_that_would_run_code_or_has_another_hash_is_refused(tmp_path: Path) -> None:
    torch.save({"weight": Path.cwd}, tmp_path / "code.pth")
    torch.save({}, tmp_path / "net-0123456f.pth")
    for name, reason in (("code.pth", "would run code from the file"), ("net-0123456f.pth", "SHA-256")):
        with pytest.raises(InputError, match=reason):
            weights.load_weights(SMALL, tmp_path / name)


def test_a_date_at_a_names_end_is_no_hash_and_the_message_says_what_was_taken_for_one(tmp_path: Path) -> None:
    for name in ("net-20240101.pth", "net-abcdef0.pth", "net.pth"):
        torch.save(weights.to_pytorch_layout(small()), tmp_path / name)
        assert torch.equal(weights.load_weights(SMALL, str(tmp_path / name))(pictures()), small()(pictures()))
    torch.save(weights.to_pytorch_layout(small()), tmp_path / "net-2024beef.pth")
    with pytest.raises(InputError, match=r"not the 2024beef at its name's end; .*rename it if that is no hash"):
        weights.load_weights(SMALL, tmp_path / "net-2024beef.pth")


def test_a_loaded_network_shares_nothing_with_the_callers_tensors() -> None:
    state = weights.to_pytorch_layout(small())
    network = weights.from_pytorch_layout(SMALL, state)
    before = network(pictures()).clone()
    for value in state.values():
        value.zero_()
    assert torch.equal(network(pictures()), before) and before.abs().max() > 0


@pytest.mark.parametrize("kind", [torch.float16, torch.float64])
def test_numbers_of_another_type_are_refused(kind: torch.dtype, tmp_path: Path) -> None:
    state = {key: value.to(kind) if value.is_floating_point() else value
             for key, value in weights.to_pytorch_layout(small()).items()}  # fmt: skip
    torch.save(state, tmp_path / "net.pth")
    message = str(kind).removeprefix("torch.")
    with pytest.raises(InputError, match=rf"of another type: .* {message}, not float32"):
        weights.load_weights(SMALL, tmp_path / "net.pth")


def test_saving_makes_the_folder_and_leaves_the_old_file_where_the_disk_is_full(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "new" / "net.safetensors"
    weights.save_weights(small(), str(path))

    written = Path.write_bytes

    def full(scratch: Path, content: bytes) -> None:
        written(scratch, content[:100])
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(InputError, match="No space left on device"):
        weights.save_weights(build(SMALL, stream(1, "weights")), path)
    assert [one.name for one in path.parent.iterdir()] == [path.name]
    assert torch.equal(weights.open_weights(path)(pictures()), small()(pictures()))
    with pytest.raises(InputError, match="cannot write into /dev/null"):
        weights.save_weights(small(), "/dev/null/net.safetensors")


def test_logits_are_those_of_torchvisions_own_network() -> None:
    theirs = models.mobilenet_v2(weights=None).eval()
    for module in theirs.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.running_var, 0.5, 1.5, generator=stream(0, "norms"))
            nn.init.uniform_(module.bias, -0.5, 0.5, generator=stream(1, "norms"))
    ours = weights.from_pytorch_layout(V2, theirs.state_dict())
    x = pictures(2, V2)
    with torch.no_grad():
        assert torch.allclose(ours(x), theirs(x), rtol=1e-4, atol=1e-5 * theirs(x).abs().max().item())
    assert set(weights.to_pytorch_layout(ours)) == set(theirs.state_dict())


@pytest.fixture
def published(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A server of one checkpoint under its hashed name, known to the library as `ours`."""

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            pass

    torch.save(weights.to_pytorch_layout(small()), tmp_path / "net.pth")
    digest = hashlib.sha256((tmp_path / "net.pth").read_bytes()).hexdigest()
    path = (tmp_path / "net.pth").rename(tmp_path / f"net-{digest[:8]}.pth")
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=str(tmp_path)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    monkeypatch.setitem(weights.URLS, "ours", f"http://127.0.0.1:{server.server_port}/{path.name}")
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "cache"))
    yield path
    server.shutdown()
    server.server_close()


def test_weights_are_fetched_by_name_once(published: Path) -> None:
    fetched = weights.fetch_weights(SMALL, "ours")
    assert torch.equal(fetched(pictures()), small()(pictures()))
    published.unlink()
    assert torch.equal(weights.fetch_weights(SMALL, "ours")(pictures()), small()(pictures()))


def test_a_download_that_is_missing_or_of_another_hash_is_refused(published: Path) -> None:
    with pytest.raises(InputError, match="weights: 'mobilenet' is unknown"):
        weights.fetch_weights(SMALL, "mobilenet")
    published.write_bytes(published.read_bytes() + b"0")
    with pytest.raises(InputError, match=r"could not fetch .*hash"):
        weights.fetch_weights(SMALL, "ours")
    published.unlink()
    with pytest.raises(InputError, match=r"could not fetch .*404"):
        weights.fetch_weights(SMALL, "ours")


DATA = os.environ.get("MANIFOLD_LAB_DATA", "")
V1_SMALL = dataclasses.replace(V1_TENSORFLOW, width=0.25)
REAL: list[tuple[NetworkSpec, str, samples.Scale, float]] = [
    (V2, "mobilenet_v2-b0353104.pth", samples.IMAGENET, 0.836),
    (V1_SMALL, "keras_mobilenet_v1_0.25_224.pt", samples.SYMMETRIC, 0.588),
]


@pytest.mark.slow
@pytest.mark.skipif(not DATA, reason="MANIFOLD_LAB_DATA names no folder with weights and pictures")
@pytest.mark.parametrize(("spec", "name", "scale", "known"), REAL, ids=["v2", "v1"])
def test_published_weights_classify_the_sample_pictures(
    spec: NetworkSpec, name: str, scale: samples.Scale, known: float
) -> None:
    network = folded(weights.load_weights(spec, Path(DATA) / "weights" / name))
    shown = samples.load_images(Path(DATA) / "imagenet_samples.npz")
    with torch.inference_mode():
        found = torch.cat([network(samples.normalised(x, scale)).argmax(1) for x in shown.x.split(20)])
    right = int((found == shown.labels).sum())
    assert abs(right - 1000 * known) <= 2  # decoders of JPEG may differ in a last bit


@pytest.mark.slow
@pytest.mark.skipif(not DATA, reason="MANIFOLD_LAB_DATA names no folder with weights and pictures")
def test_tensorflows_weights_need_their_own_padding() -> None:
    path = Path(DATA) / "weights" / "keras_mobilenet_v1_0.25_224.pt"
    x = samples.normalised(samples.load_images(Path(DATA) / "imagenet_samples.npz").x[::10], samples.SYMMETRIC)
    symmetric = dataclasses.replace(V1_SMALL, padding="symmetric")
    with torch.inference_mode():
        best = [weights.load_weights(spec, path)(x).argmax(1) for spec in (V1_SMALL, symmetric)]
    right = [int((one == torch.arange(0, 1000, 10)).sum()) for one in best]
    assert right[0] > right[1]
