"""Lesions: each against the network that is built with the change from the start; the pictures' file there and back."""

import dataclasses
import io
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from experiments import ext_lesions
from manifold_lab.core import statistics
from manifold_lab.core.errors import InputError
from manifold_lab.data import image_files as samples
from manifold_lab.models import lesions, weights
from manifold_lab.models.lesions import Lesion
from manifold_lab.models.mobilenet import Network
from manifold_lab.models.specs import V2, stages
from manifold_lab.report.tables import read_csv
from manifold_lab.sweeps import lesion_run
from manifold_lab.sweeps.probe_run import ProbeSource
from manifold_lab.sweeps.study_commands import main
from tests.networks import SMALL, pictures, small
from tests.tabled import tabled

SAME = {
    "relu6_bottleneck": {"bottleneck_activation": "relu6"},
    "no_shortcut": {"shortcut": "none"},
    "linear_expansion": {"expansion_activation": "linear"},
}

TEXT = ext_lesions.STUDY.text_columns


def after(network: Network, *cuts: Lesion) -> list[torch.Tensor]:
    return list(lesions.logits(network, pictures(), [lesions.lesioned(network, cut) for cut in cuts]))


@pytest.mark.parametrize("kind", SAME)
def test_a_lesion_everywhere_is_the_network_built_so(kind: str) -> None:
    network = small()
    built = weights.from_pytorch_layout(dataclasses.replace(SMALL, **SAME[kind]), weights.to_pytorch_layout(network))
    intact, cut = after(network, Lesion(kind, lesions.lesion_blocks(network, kind)))
    with torch.no_grad():
        assert torch.allclose(cut, built(pictures()), atol=1e-5)
        assert torch.equal(intact, network(pictures())) and not torch.allclose(intact, cut, atol=1e-4)


def test_a_linear_expansion_is_linear_in_its_block_alone() -> None:
    network = small()
    twin = lesions.lesioned(network, Lesion("linear_expansion", (3,)))[3]
    x = torch.randn(1, twin.stage.inputs, 4, 4)
    assert twin.expand is not None
    with torch.no_grad():
        a, b = twin.expand(x), twin.expand(-x)
        middle = twin.expand(torch.zeros_like(x))
    assert torch.allclose(a + b, 2 * middle, atol=1e-5)
    assert network.blocks[3].expand.act.name == "relu6"


def test_every_place_has_its_lesion_and_the_network_stays() -> None:
    network = small()
    before = {key: value.clone() for key, value in network.state_dict().items()}
    cuts = lesions.every(network)
    counts = {kind: [len(cut.blocks) for cut in cuts if cut.kind == kind] for kind in lesions.LESIONS}
    joined = sum(stage.shortcut != "none" for stage in stages(SMALL))
    assert counts == {kind: [1] * n + [n] for kind, n in
                      (("relu6_bottleneck", 17), ("no_shortcut", joined), ("linear_expansion", 16))}  # fmt: skip
    found = after(network, *cuts)
    assert len(found) == 1 + len(cuts) and len({tuple(one.flatten().tolist()) for one in found}) == len(found)
    assert all(torch.equal(value, before[key]) for key, value in network.state_dict().items())


def test_an_unknown_lesion_is_refused() -> None:
    with pytest.raises(InputError, match="did you mean 'no_shortcut'"):
        lesions.lesion_blocks(small(), "no_shortcuts")


def test_a_change_is_paired_by_image() -> None:
    before, after_it = np.array([True] * 8 + [False] * 2), np.array([True] * 3 + [False] * 7)
    found = statistics.paired_proportion(before, after_it)
    assert (found.lost, found.gained, found.difference.value) == (5, 0, -0.5)
    assert found.p_value == pytest.approx(2 * 0.5**5)
    assert statistics.paired_proportion(before, before).p_value == 1.0


def test_the_interval_of_a_paired_change_covers_as_often_as_it_says() -> None:
    rng, covered = np.random.default_rng(0), 0
    for _ in range(2000):
        kind = rng.choice(4, size=60, p=(0.5, 0.2, 0.08, 0.22))
        found = statistics.paired_proportion((kind == 0) | (kind == 1), (kind == 0) | (kind == 2))
        covered += found.difference.covers(0.08 - 0.2)
    assert covered / 2000 > statistics.LEVEL - 3 * (0.95 * 0.05 / 2000) ** 0.5


def encoded(path: Path, x: np.ndarray) -> None:
    files = []
    for one in x:
        buffer = io.BytesIO()
        Image.fromarray(one).save(buffer, "JPEG", quality=100, subsampling=0)
        files.append(buffer.getvalue())
    offsets = np.cumsum([0, *map(len, files)])
    np.savez(path, jpeg=np.frombuffer(b"".join(files), np.uint8), offsets=offsets, labels=np.arange(len(x)))


def test_images_come_back_from_their_file(tmp_path: Path) -> None:
    x = np.full((3, 16, 16, 3), 128, np.uint8)
    x[1, :, :8], x[2, :8] = (255, 0, 0), 0
    encoded(tmp_path / "p.npz", x)
    found = samples.load_images(tmp_path / "p.npz")
    assert len(found) == 3 and found.labels.tolist() == [0, 1, 2]
    assert (found.x.movedim(1, -1).int() - torch.from_numpy(x).int()).abs().max() <= 6
    unit = samples.normalised(found.x[:1], samples.SYMMETRIC)
    assert unit.shape == (1, 3, 16, 16) and unit.abs().max() < 0.02


def test_a_file_of_other_things_is_refused(tmp_path: Path) -> None:
    encoded(tmp_path / "whole.npz", np.zeros((3, 16, 16, 3), np.uint8))
    content, parts = (tmp_path / "whole.npz").read_bytes(), dict(np.load(tmp_path / "whole.npz"))
    np.savez(tmp_path / "other.npz", x=np.zeros(3))
    np.save(tmp_path / "array.npy", np.zeros(3))
    np.savez(tmp_path / "labels.npz", **parts | {"labels": np.arange(2)})
    np.savez(tmp_path / "none_in_it.npz", **parts | {"offsets": np.arange(1), "labels": np.arange(0)})
    np.savez(tmp_path / "words.npz", **parts | {"offsets": np.array(["a", "b", "c", "d"])})
    (tmp_path / "broken.npz").write_bytes(b"PK nothing")
    (tmp_path / "empty.npz").write_bytes(b"")
    (tmp_path / "cut.npz").write_bytes(content[: len(content) // 2])
    (tmp_path / "changed.npz").write_bytes(content[:300] + b"?" * 40 + content[340:])
    paths = {path.name: path for path in tmp_path.iterdir() if path.name != "whole.npz"}
    assert len(samples.load_images(tmp_path / "whole.npz")) == 3 and len(paths) == 9
    for path in (*paths.values(), tmp_path / "none.npz", tmp_path):
        with pytest.raises(InputError, match="cannot be read") as refused:
            ProbeSource(path, None, 20, tmp_path).load(3, V2)
        message = str(refused.value)
        assert message.startswith(f"images: {path} cannot be read") and len(message.splitlines()) == 1


@pytest.mark.parametrize("command", ["plan", "run", "publish"])
def test_without_images_the_experiment_says_what_it_needs(
    command: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(ext_lesions.STUDY, [command, "--runs", str(tmp_path)]) == 2
    message = capsys.readouterr().err
    assert message.startswith("error: images: none given") and len(message.splitlines()) == 1
    assert main(ext_lesions.STUDY, [command, "--runs", str(tmp_path), "--images", str(tmp_path / "none.npz")]) == 2
    assert "images:" in capsys.readouterr().err


def test_a_lesion_that_loses_all_is_called_a_loss() -> None:
    right = np.ones((2, 50), bool)
    lines = [lesion_run.lesion_row(Lesion("no_shortcut", (place,)), cut, right, q) for place, (cut, q) in
             enumerate([(~right, 1e-9), (right, 1.0)])]  # fmt: skip
    lines = tabled(lines, *TEXT).to_dict("records")
    assert [ext_lesions.called(one) for one in lines] == ["loss", "undecided"]
    assert ext_lesions.shown_row(lines[0])["difference"] == "-100.0"


def test_published_lesions_fit_the_intact_network() -> None:
    folder = Path(ext_lesions.__file__).parent.parent / "figures"
    lines = ext_lesions.unrepaired(read_csv((folder / "ext_lesions.csv").read_text(encoding="utf-8"), TEXT))
    change = (lines["gained"] - lines["lost"]) / lines["n"]
    assert len(lines) > 30 and lines["top1"].to_numpy() == pytest.approx(lines["top1"][0] + change.to_numpy(), abs=1e-9)


def lesion_line(kind: str, block: str, change: float, q_value: float, half: float = 0.02) -> dict[str, str]:
    return {"kind": kind, "repair": "", "block": block, "blocks": "1" if block else "4", "n": "1000",
            "q_value": str(q_value), "p_value": str(q_value), "difference": str(change),
            "difference_low": str(change - half), "difference_high": str(change + half)}  # fmt: skip


def verdicts(relu6: list[tuple[float, float]], half: float = 0.02) -> dict[str, str]:
    """ReLU6 behind four bottlenecks, of which the last two have a shortcut: changes of top-1 and their q-values."""
    lines = [lesion_line("relu6_bottleneck", str(place), *one, half) for place, one in enumerate(relu6)]
    lines += [lesion_line("relu6_bottleneck", "", -0.5, 1e-9, half)]
    lines += [lesion_line("no_shortcut", place, -0.5, 1e-9) for place in ("2", "3", "")]
    return {claim.id.removeprefix("ext_lesions."): claim.verdict for claim in ext_lesions.claims(tabled(lines, *TEXT))}


def test_what_the_images_do_not_tell_is_undecided() -> None:
    each = "each_costs/relu6_bottleneck"
    assert verdicts([(-0.5, 1e-9)] * 4)[each] == "holds"
    assert verdicts([(-0.5, 1e-9)] * 3 + [(-0.01, 0.4)])[each] == "undecided"
    assert verdicts([(-0.5, 1e-9)] * 3 + [(0.1, 1e-9)])[each] == "fails"
    assert verdicts([(-0.5, 1e-9)] * 4)["all_cost/relu6_bottleneck"] == "holds"
    assert verdicts([(-0.5, 1e-9)] * 4, half=0.6)["all_cost/relu6_bottleneck"] == "undecided"


def test_a_shortcut_softens_by_the_images_and_not_by_the_number_of_blocks() -> None:
    name, wide, narrow = "shortcut_softens_relu6", (-0.5, 1e-9), (-0.1, 1e-9)
    assert verdicts([wide, wide, narrow, narrow])[name] == "holds"
    assert verdicts([narrow, narrow, wide, wide])[name] == "fails"
    assert verdicts([wide, wide, narrow, narrow], half=0.21)[name] == "undecided"


def verdict_of(line: dict[str, str]) -> str:
    return ext_lesions.comes_back(tabled([line], *TEXT), line["kind"], line["block"]).verdict


def test_what_comes_back_is_counted_and_judged_by_the_images() -> None:
    rng = np.random.default_rng(0)
    intact = np.ones((1, 2, 400), bool)
    cut, mended = intact.copy(), intact.copy()
    cut[0, :, :200], mended[0, :, :50] = False, False
    cuts = [Lesion("no_shortcut", (3,))]
    alone, each = lesion_run.repaired_lines("affine", cuts, np.concatenate([intact, cut]), mended)
    assert float(alone["restored"]) == float(each["restored"]) == 0.75 and each["block"] == lesion_run.EACH
    drawn = [1 - (images < 50).sum() / (images < 200).sum() for images in rng.integers(400, size=(4000, 400))]
    ends = [float(alone[f"restored_{end}"]) for end in ("low", "high")]
    assert np.allclose(ends, np.quantile(drawn, [0.025, 0.975]), atol=0.01)
    assert verdict_of(each) == "holds"
    for low, high, verdict in ((0.6, 0.9, "holds"), (0.4, 0.9, "undecided"), (0.1, 0.3, "fails")):
        line = each | {"restored_low": str(low), "restored_high": str(high), "restored": str((low + high) / 2)}
        assert verdict_of(line) == verdict
    nothing = lesion_run.restored(intact[0, 0], intact[:, 0], intact[:, 0])
    assert ext_lesions.comes_back(tabled([each]), "no_shortcut", "").verdict == "not run"
    assert set(nothing.values()) == {""} and verdict_of(each | nothing) == "undecided"
