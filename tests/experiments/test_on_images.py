import importlib
import io
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

NAMES = ("ext_certificates", "ext_dimension", "ext_lesions", "fig7_activations")


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("fault", ["images", "weights"])
def test_a_file_that_cannot_be_read_is_refused_before_the_first_run(
    name: str, fault: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    files = {"images": tmp_path / "images.npz", "weights": tmp_path / "weights.pth"}
    jpeg = io.BytesIO()
    Image.new("RGB", (8, 8)).save(jpeg, "JPEG")
    held = np.frombuffer(jpeg.getvalue(), np.uint8)
    np.savez(files["images"], jpeg=held, offsets=[0, len(held)], labels=[0])
    torch.save({}, files["weights"])
    files[fault].write_text("root:x:0:0:root:/root:/bin/sh", encoding="utf-8")
    study = importlib.import_module(f"experiments.{name}").STUDY
    named = [word for kind, file in files.items() for word in (f"--{kind}", str(file))]
    assert study.main(["run", *named, "--runs", str(tmp_path / "runs")]) == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1 and said.startswith(f"error: {fault}: ") and "cannot be read" in said
    assert not (tmp_path / "runs").exists()
