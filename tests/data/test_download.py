"""Downloads from a server of our own: fetched, checked by hash, kept as arrays, and refused whole."""

import gzip
import hashlib
import http.server
import pickle
import tarfile
import threading
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from torchvision import datasets

from manifold_lab.core.errors import InputError
from manifold_lab.data import DataOptions, cache, load


def arrays() -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    x = rng.integers(0, 256, (2, 20, 32, 32, 3), dtype=np.uint8)
    y = np.arange(20, dtype=np.uint8) % 10
    return {"x_train": x[0], "y_train": y, "x_test": x[1], "y_test": y, "classes": np.array(list("abcdefghij"))}


def refused(message: str, name: str, root: Path) -> None:
    with pytest.raises(InputError, match=message) as output:
        load(name, root=root)
    assert len(str(output.value).splitlines()) == 1


@pytest.fixture
def server(tmp_path: Path) -> Iterator[tuple[Path, str]]:
    """A folder and the address under which it is served."""
    folder = tmp_path / "served"
    folder.mkdir()
    handler = type("Quiet", (http.server.SimpleHTTPRequestHandler,), {"log_message": lambda *_: None})
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), partial(handler, directory=str(folder))) as one:
        thread = threading.Thread(target=one.serve_forever)
        thread.start()
        yield folder, f"http://127.0.0.1:{one.server_port}/"
        one.shutdown()
        thread.join()


def digest(path: Path) -> str:
    return hashlib.md5(path.read_bytes(), usedforsecurity=False).hexdigest()


@pytest.mark.filterwarnings("ignore::DeprecationWarning:torchvision.*")
def test_cifar_is_fetched_checked_and_kept(server: tuple, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kind = datasets.CIFAR10
    (folder, address), given = server, arrays()
    inner = tmp_path / kind.base_folder
    inner.mkdir()
    for part, name in (("train", "one"), ("test", "two")):
        x = given[f"x_{part}"].transpose(0, 3, 1, 2).reshape(20, -1)
        (inner / name).write_bytes(pickle.dumps({"data": x, "labels": given[f"y_{part}"].tolist()}))
        monkeypatch.setattr(kind, f"{part}_list", [[name, digest(inner / name)]])
    (inner / "names").write_bytes(pickle.dumps({"label_names": list("abcdefghij")}))
    monkeypatch.setattr(kind, "meta", {"filename": "names", "key": "label_names", "md5": digest(inner / "names")})
    with tarfile.open(folder / "pictures.tar.gz", "w:gz") as archive:
        archive.add(inner, kind.base_folder)
    monkeypatch.setattr(kind, "url", address + "pictures.tar.gz")
    monkeypatch.setattr(kind, "tgz_md5", "0" * 32)
    refused("could not fetch cifar10", "cifar10", tmp_path / "kept")
    assert list((tmp_path / "kept").iterdir()) == [], "nothing is left of a wrong download"
    monkeypatch.setattr(kind, "tgz_md5", digest(folder / "pictures.tar.gz"))
    load("cifar10", root=tmp_path / "kept")
    assert [path.name for path in (tmp_path / "kept").iterdir()] == ["cifar10.npz"]
    kept = cache.read_cached("cifar10", tmp_path / "kept" / "cifar10.npz")
    assert all(np.array_equal(kept[name], value) for name, value in given.items())


def test_fashion_is_fetched_and_no_connection_is_one_line(
    server: tuple, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kind = datasets.FashionMNIST
    folder, address = server
    x, y, resources = arrays()["x_train"][:, :28, :28, 0], arrays()["y_train"], []
    for name, _ in kind.resources:
        value = x if "images" in name else y
        header = b"\0\0\x08" + bytes([value.ndim]) + b"".join(size.to_bytes(4, "big") for size in value.shape)
        (folder / name).write_bytes(gzip.compress(header + value.tobytes()))
        resources.append((name, digest(folder / name)))
    monkeypatch.setattr(kind, "resources", resources)
    monkeypatch.setattr(kind, "mirrors", ["http://127.0.0.1:9/"])
    refused("look after the connection", "fashion-mnist", tmp_path / "kept")
    monkeypatch.setattr(kind, "mirrors", [address])
    data = load("fashion-mnist", root=tmp_path / "kept", options=DataOptions(validation=0.5))
    assert data.facts.channels == 1 and np.array_equal(data.splits["test"].x[:, 0].numpy(), x)
