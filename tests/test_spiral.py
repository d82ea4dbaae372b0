"""The main door, as a user types it."""

import json
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from manifold_lab import MonteCarlo, custom, spiral, theory
from manifold_lab.core.shown import DataFrame
from manifold_lab.report.tables import pick, read_csv

pytestmark = pytest.mark.slow

QUICK = ("--draws", "50", "--points", "200")


def typed(*words: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "manifold_lab.spiral", *words]
    return subprocess.run(command, capture_output=True, text=True, cwd=cwd, check=False)


def csv(folder: Path, name: str = "spiral.csv") -> DataFrame:
    return read_csv((folder / name).read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the command of the issue leaves behind, run in an empty folder."""
    folder = tmp_path_factory.mktemp("user")
    done = typed("--dims", "2", "3", "5", "15", "30", *QUICK, cwd=folder)
    assert (done.returncode, done.stderr.strip()) == (0, "")
    (folder / "said.txt").write_text(done.stdout, encoding="utf-8")
    return folder


def test_every_file_is_there_and_nothing_else(published: Path) -> None:
    names = {"spiral.csv", "spiral_points.csv", "spiral.json"}
    names |= {f"{stem}.{kind}" for stem in ("spiral", "spiral_stats") for kind in ("png", "pdf")}
    assert {path.name for path in (published / "figures").iterdir()} == names


def test_pictures_have_a_venues_width_and_embedded_fonts(published: Path) -> None:
    for stem in ("spiral", "spiral_stats"):
        picture = Image.open(published / "figures" / f"{stem}.png")
        assert picture.size[0] == pytest.approx(6.875 * 300, abs=2)
        assert np.asarray(picture.convert("L")).std() > 5
        pdf = (published / "figures" / f"{stem}.pdf").read_bytes()
        assert b"/FontFile2" in pdf and b"/Type3" not in pdf


def test_the_terminal_says_a_sentence_for_every_dim(published: Path) -> None:
    said = (published / "said.txt").read_text(encoding="utf-8")
    assert re.findall(r"^dim (\d+): relu lost", said, re.MULTILINE) == ["2", "3", "5", "15", "30"]
    assert "solving on the active rows gives x back" in " ".join(said.split())


def test_panels_hold_the_input_and_agree_with_the_numbers_beside_them(published: Path) -> None:
    points, numbers = csv(published / "figures", "spiral_points.csv"), csv(published / "figures")
    x = pick(points, decoder="input")[["x1", "x2"]].to_numpy()
    for dim in (2, 5, 15):
        for decoder in ("pinv", "exact"):
            panel = pick(points, dim=dim, decoder=decoder)
            x_hat = panel[["x1", "x2"]].to_numpy()
            said = pick(numbers, dim=dim, decoder=decoder, quantity="reconstruction_error", statistic="typical draw")
            error = ((x_hat - x) ** 2).sum() / (x**2).sum()
            assert error == pytest.approx(said["estimate"].item(), rel=1e-4, abs=1e-9)
        kept = pick(numbers, dim=dim, quantity="preserved_fraction", statistic="typical draw")
        assert panel["preserved"].mean() == pytest.approx(kept["estimate"].item())


def test_json_says_how_to_run_it_again_and_doing_so_gives_the_same_bytes(
    published: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = json.loads((published / "figures" / "spiral.json").read_text(encoding="utf-8"))
    assert {"spec", "key", "versions", "commit", "command", "dims_surveyed"} <= set(made)
    assert made["versions"]["torch"] == torch.__version__
    words = made["command"].removeprefix("python -m manifold_lab.spiral ").split()
    monkeypatch.chdir(tmp_path)
    assert spiral.main(words) == 0
    for name in ("spiral.csv", "spiral_points.csv"):
        assert (tmp_path / "figures" / name).read_bytes() == (published / "figures" / name).read_bytes()


def test_theory_stands_beside_the_numbers_where_it_is_known(published: Path) -> None:
    numbers = csv(published / "figures")
    for dim in (2, 5, 15):
        known = pick(numbers, dim=dim, quantity="preserved_fraction", statistic="mean")["theory"].item()
        assert known == pytest.approx(float(theory.preserved_fraction(dim, 2)), rel=1e-8)
    assert pick(numbers, decoder="affine")["theory"].isna().all()


def test_another_seed_gives_other_numbers(published: Path, tmp_path: Path) -> None:
    assert spiral.main(["--dims", "3", "5", *QUICK, "--seed", "1", "--out", str(tmp_path)]) == 0
    old, new = (pick(csv(folder), dim=5, quantity="decoder_share") for folder in (published / "figures", tmp_path))
    assert old["estimate"].iloc[0] != new["estimate"].iloc[0]


BAD = {
    "--dims 0": "dims: 0 is not allowed; it must be a finite number of at least 1",
    "--dims -3": "dims: -3 is not allowed",
    "--dims two": r"--dims: .*\['two'\].*whole numbers of at least 1",
    "--dims": "dims: none given; give one or more whole numbers",
    "--dims 1000000000": r"dims: 1000000000 needs [\d.e+]+ GiB; at most \d+ fit here",
    "--draws 0": "draws: 0 is not allowed",
    "--drawz 5": "Unrecognized options: --drawz.*--draws",
    "--activation rellu": "activation: 'rellu' is unknown; did you mean 'relu'",
    "--decoder pinvv": "decoder: 'pinvv' is unknown; did you mean 'pinv'",
    "--decoder preimage --activation abs": "decoder: preimage needs an activation that does not fold",
    "--decoder affine --points 100": "decoder: affine needs at least 4 points per channel",
    "--manifold sprial": "manifold: 'sprial' is unknown; did you mean 'spiral'",
    "--embedding zero_pad --dims 1": "dims: 1 is below the input's dimension",
    "--device cuda:99": "device: 'cuda:99' is not on this machine",
    "--device tpu": "device: 'tpu' is unknown",
    "--formats jpg": "formats: 'jpg' is unknown",
    "--style nature": "style: 'nature' is unknown",
    "--dtype float16": "dtype: 'float16' is unknown",
    "--out /dev/null/here": "out: cannot write into /dev/null/here",
    "--radius 1e308": r"radius: 1e\+308 is not allowed; it must be from 1e-06 to 1,000,000",
    "--radius 1e-300": "radius: 1e-300 is not allowed",
    "--draws 1000000000000": "draws: 1000000000000 is not allowed; it must be from 1 to 1,000,000",
    "--points 1000000000000": "points: 1000000000000 is not allowed; it must be from 8 to 1,000,000",
    "--sigma 1e-308": "sigma: 1e-308 is not allowed; it must be from 1e-06",
    "--bias 1e308": r"bias: 1e\+308 is not allowed; it must be from -1,000,000",
    "--manifold sfere --turns 3": "manifold: 'sfere' is unknown",
    "--turns 1e308": r"turns: 1e\+308 is not allowed",
    "--manifold sphere --turns 3": "turns: 3 is not allowed for sphere; only a spiral has turns",
    "--sigma 0": "sigma: 0.0 is not allowed",
    "--seed -1": "seed: -1 is not allowed",
}


@pytest.mark.parametrize("words", BAD)
def test_bad_input_is_one_line_and_leaves_nothing(
    words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert spiral.main(words.split()) == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert len(said.err.splitlines()) == 1 and said.err.startswith("error: ")
    assert re.search(BAD[words], said.err)
    assert list(tmp_path.iterdir()) == []


def test_bad_input_from_a_shell_has_no_traceback(tmp_path: Path) -> None:
    done = typed("--dims", "two", cwd=tmp_path)
    assert (done.returncode, done.stdout, len(done.stderr.splitlines())) == (2, "", 1)


@pytest.mark.parametrize(
    "words",
    ["--manifold torus", "--manifold blob --inputs 4", "--embedding rademacher", "--activation gelu --bias 0.5",
     "--activation abs", "--activation relu6 --radius 8 --decoder preimage", "--dtype float32 --decoder affine",
     "--draws 1", "--dims 1", "--formats svg --style neurips2024"],
)  # fmt: skip
def test_whatever_is_varied_it_draws_and_writes(words: str, tmp_path: Path) -> None:
    arguments = ["--dims", "3", "6", *QUICK, "--out", str(tmp_path), "--formats", "png", *words.split()]
    assert spiral.main(arguments) == 0
    assert csv(tmp_path)["quantity"].iloc[0] == "input_information"


def test_a_callable_goes_all_the_way() -> None:
    swish = custom("shifted_relu", lambda u: torch.relu(u - 0.1), window=(0.1, float("inf")), inverse=lambda y: y + 0.1)
    rows, shown = spiral.survey(MonteCarlo(dims=(5,), draws=20, points=100), torch.device("cpu"), swish)
    kept = [row for row in rows if row.quantity == "preserved_fraction" and row.dim == 5 and row.statistic == "mean"]
    assert {row.activation for row in rows} == {"shifted_relu"}
    assert kept[0].theory is not None and 0 < kept[0].estimate.value < float(theory.preserved_fraction(5, 2))
    assert [layer.dim for layer in shown] == [5]
