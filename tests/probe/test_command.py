"""The probe's command: tables, figures and refusals; networks and pictures from anywhere."""

import json
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from manifold_lab import stream
from manifold_lab.core import progress
from manifold_lab.core.errors import InputError
from manifold_lab.models.mobilenet import build
from manifold_lab.models.specs import DIGITS
from manifold_lab.probe import command, options, zoo
from manifold_lab.report.tables import pick, read_csv
from tests.networks import small


def run_probe(*words: str, out: Path) -> int:
    return options.main([*words, "--out", str(out)])


@pytest.mark.slow
def test_the_command_writes_table_figure_and_origin(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ("--model", "digits", "--data", "digits", "--images", "60", "--measures", "active", "rank", "spectrum",
             "dimension", "preservation", "recovery", "information", "--points", "30", "--positions", "100")  # fmt: skip  # noqa: E501
    assert run_probe(*words, out=tmp_path) == 0
    lines = read_csv((tmp_path / "probe.csv").read_text(encoding="utf-8"))
    assert len(lines) == 11 and lines["active_mean"].notna().all()
    counts = read_csv((tmp_path / "probe_histogram.csv").read_text(encoding="utf-8"))
    assert pick(counts, layer="stem.act")["positions"].sum() == 60 * 64
    assert json.loads((tmp_path / "probe.json").read_text())["options"]["model"] == "digits"
    assert {"probe.png", "probe.pdf"} <= {made.name for made in tmp_path.iterdir()}
    assert "written:" in capsys.readouterr().out


def test_the_figure_is_as_wide_as_the_venue_s_text(tmp_path: Path) -> None:
    words = ("--model", "digits", "--data", "digits", "--images", "8", "--measures", "active", "--style", "neurips2024")
    assert run_probe(*words, out=tmp_path) == 0
    page = re.search(rb"/MediaBox \[ 0 0 ([0-9.]+)", (tmp_path / "probe.pdf").read_bytes())
    assert page is not None and float(page[1]) == pytest.approx(5.5 * 72, abs=1)  # the column of the NeurIPS style


def test_the_command_lists_layers_and_measures(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_probe("--model", "digits", "--list", out=tmp_path) == 0
    message = capsys.readouterr().out
    assert (
        "blocks.1.expand.act" in message
        and "bottleneck" in message
        and "recovery:" in message
        and not list(tmp_path.iterdir())
    )


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (("--model", "mobilenet_v9"), "model: 'mobilenet_v9' is unknown; did you mean"),
        (("--model", "0123456789abcdef"), "tells no network of ours|there is no"),
        (
            ("--model", "torchvision:resnet999"),
            r"did you mean 'resnet50'\? allowed: \d+ names, such as resnet50, [^,]+(, \w+){3}$",
        ),
        (("--model", "no.such.module:make"), "cannot import no.such.module"),
        (("--model", "digits", "--measures", "ranks"), "did you mean 'rank'"),
        (("--model", "digits", "--layers", "nothing"), "is no layer of this model"),
        (("--model", "digits", "--data", "cifar11"), "did you mean 'cifar10"),
        (("--model", "digits", "--weights", "none.pth"), "there is no file none.pth"),
        (("--model", "digits", "--images", "0"), "images: 0 is not allowed"),
        (("--model", "digits", "--points", "1000000000"), "points: 1000000000 is not allowed; it must be from 1 to"),
        (("--model", "digits", "--device", "cuda:77"), "is not on this machine"),
        (("--model", "digits", "--style", "neurips"), "style: 'neurips' is unknown; did you mean 'neurips2024'"),
    ],
)
def test_bad_input_is_one_line_and_status_2(
    words: tuple[str, ...], reason: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_probe(*words, out=tmp_path) == 2
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert line.startswith("error: ") and re.search(reason, line)
    assert not list(tmp_path.iterdir())


def made() -> nn.Module:
    return build(DIGITS, stream(0, "weights"))


def test_networks_and_images_come_from_anywhere(tmp_path: Path) -> None:
    found = zoo.network("tests.probe.test_command:made", "", resolution=8)
    assert found.shape == (3, 8, 8) and torch.equal(
        found.model(torch.zeros(1, 1, 8, 8)), made().eval()(torch.zeros(1, 1, 8, 8))
    )
    torch.save(small().state_dict(), tmp_path / "weights.pt")
    with pytest.raises(InputError, match="is not a state of this model"):
        zoo.network("tests.probe.test_command:made", str(tmp_path / "weights.pt"))
    (tmp_path / "deep").mkdir()
    for place in range(3):
        Image.fromarray(np.full((40, 60, 3), 80 * place, np.uint8)).save(tmp_path / "deep" / f"{place}.png")
    three = zoo.LoadedModel(made(), (3, 16, 16), ((0.0,) * 3, (1.0,) * 3), "")
    (batch,) = zoo.batches(three, str(tmp_path), 10, 8)
    assert batch.shape == (3, 3, 16, 16) and torch.allclose(batch[:, 0, 5, 5], torch.tensor([0, 80, 160]) / 255)
    with pytest.raises(InputError, match="holds no image"):
        list(zoo.batches(three, str(_empty(tmp_path)), 1, 1))


def _empty(tmp_path: Path) -> Path:
    (tmp_path / "empty").mkdir()
    return tmp_path / "empty"


class Called(nn.Module):
    """An activation called as a function, and a function that is no known activation."""

    def __init__(self):
        super().__init__()
        self.first, self.last = nn.Conv2d(3, 8, 1), nn.Conv2d(8, 4, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.last(self.first(x).relu()).sin()


def test_the_list_names_functions_by_what_they_are(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_probe("--model", "tests.probe.test_command:Called", "--resolution", "8", "--list", out=tmp_path) == 0
    lines = [line.split() for line in capsys.readouterr().out.splitlines() if "()" in line]
    assert [line[:3] for line in lines] == [["relu()", "ReLU", "nonlinearity"], ["sin()", "sin", "nonlinearity"]]


@pytest.mark.parametrize(("threshold", "below", "words"), [
    (16, 0.25, "1 of 1 layers"), (16, 0.0, "No position"), (16, None, ""), (None, None, "No layer here"),
])  # fmt: skip
def test_no_threshold_is_said_only_where_there_is_none(threshold: int | None, below: float | None, words: str) -> None:
    line = {"layer": "act", "threshold": threshold, "below_threshold": below}
    assert command.summary_text([line]).startswith(words) and bool(words) == bool(command.summary_text([line]))
    assert ("No layer" in command.summary_text([{"layer": "act", "threshold": threshold}])) == (not threshold)


@pytest.mark.slow
def test_a_long_look_says_how_far_it_is(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both parts of the work, the passes and the measures behind them, say a line from time to time when piped."""
    monkeypatch.setattr(progress, "LINE_EVERY", 0.005)
    assert run_probe("--model", "digits", "--images", "300", "--batch", "10", "--measures", "rank", out=tmp_path) == 0
    message = capsys.readouterr().err
    assert re.search(r"^\d+ of 30 batches, \d+ s$", message, re.M)
    assert re.search(r"^\d+ of 11 layers measured, \d+ s$", message, re.M)
    words = ("--model", "digits", "--images", "60", "--measures", "rank", "--quiet")
    assert run_probe(*words, out=tmp_path) == 0 and capsys.readouterr().err == ""
