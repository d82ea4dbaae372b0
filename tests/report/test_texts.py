from pathlib import Path

import pytest
import torch

from manifold_lab.core.errors import InputError
from manifold_lab.random_layer import monte_carlo
from manifold_lab.random_layer.specs import PAPER_DIMS, MonteCarlo
from manifold_lab.report import texts
from manifold_lab.report.html import TEXTS
from manifold_lab.report.tables import pick, read_csv
from manifold_lab.report.texts import TEXT_BLOCKS, ReportOptions, filled, run

ROOT = Path(__file__).parent.parent.parent


@pytest.mark.slow
def test_published_texts_and_csv_agree() -> None:
    run(ReportOptions(check=True, root=ROOT))


@pytest.mark.slow
def test_a_number_changed_by_hand_is_found(tmp_path: Path) -> None:
    for folder in ("figures", "benchmarks"):
        (tmp_path / folder).symlink_to(ROOT / folder)
    (tmp_path / "docs").mkdir()
    (tmp_path / "experiments").mkdir()
    for path in (ROOT / "experiments").glob("[!_]*.py"):
        (tmp_path / "experiments" / path.name).symlink_to(path)
    for name in TEXTS:
        (tmp_path / name).write_text((ROOT / name).read_text(encoding="utf-8"), encoding="utf-8")
    run(ReportOptions(check=True, root=tmp_path))
    stale = (tmp_path / "docs" / "spiral.md").read_text(encoding="utf-8").replace("25.", "26.", 1)
    (tmp_path / "docs" / "spiral.md").write_text(stale, encoding="utf-8")
    with pytest.raises(InputError, match=r"docs/spiral\.md and the csv files differ"):
        run(ReportOptions(check=True, root=tmp_path))
    run(ReportOptions(root=tmp_path))
    run(ReportOptions(check=True, root=tmp_path))


def test_every_block_is_used_and_an_unknown_one_is_named() -> None:
    texts = "".join((ROOT / name).read_text(encoding="utf-8") for name in TEXTS)
    assert all(f"<!-- begin {name} -->" in texts for name in TEXT_BLOCKS)
    with pytest.raises(InputError, match="block: 'clams' is unknown; did you mean 'claims'"):
        filled("<!-- begin clams -->\n<!-- end clams -->", ROOT)


def test_a_missing_csv_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"spiral\.csv is missing: run the command"):
        texts.spiral_table(tmp_path)


CLAIM = (b"id,place,says,measure,estimate,low,high,n,verdict,p,within,needed,command\n"
         b"s.one,here,it is so,share,0.5,0.4,0.6,9,undecided,,0.1,12,python\n")  # fmt: skip


@pytest.mark.parametrize(
    ("block", "file", "harmed"),
    [
        ("claims:s", "s_claims.csv", CLAIM.replace(b"here", b"\xff\xfe")),
        ("claims:s", "s_claims.csv", CLAIM.replace(b"says", b"sais")),
        ("claims:s", "s_claims.csv", CLAIM.replace(b"0.5", b"half")),
        ("claims:s", "s_claims.csv", CLAIM.replace(b",9,", b",9.5,")),
        ("claims:s", "s_claims.csv", CLAIM[:70] + b"\ns.one,here"),
        ("spiral-table", "spiral.csv", b"quantity,dim\npreserved,2\n"),
        ("spiral-table", "spiral.csv", b"quantity,dim\npreserved,2,3,4\n"),
        ("spiral-table", "spiral.csv", b""),
        ("table:s", "s.md", b"\xff"),
        ("claims", "thm1_preserved_claims.csv", CLAIM.replace(b"place", b"plaice")),
    ],
)
def test_a_damaged_csv_is_refused_in_one_line(block: str, file: str, harmed: bytes, tmp_path: Path) -> None:
    (tmp_path / "figures").mkdir()
    (tmp_path / "figures" / "s_claims.csv").write_bytes(CLAIM)
    assert "it is so" in filled("<!-- begin claims:s -->\n<!-- end claims:s -->", tmp_path)
    (tmp_path / "figures" / file).write_bytes(harmed)
    with pytest.raises(InputError, match=r"publish") as refused:
        filled(f"<!-- begin {block} -->\n<!-- end {block} -->", tmp_path)
    assert str(refused.value).count("\n") == 0


@pytest.mark.parametrize("dim", [2, 15])
def test_published_numbers_come_out_again(dim: int) -> None:
    published = read_csv((ROOT / "figures" / "spiral.csv").read_text(encoding="utf-8"))
    (layer,) = monte_carlo.layers(MonteCarlo(dims=(dim,)), torch.device("cpu"))
    measured = monte_carlo.measure_layer(layer)
    assert dim in PAPER_DIMS
    for quantity, decoder in (
        ("preserved_fraction", ""),
        ("reconstruction_error", "exact"),
        ("mutual_information", ""),
    ):
        row = pick(published, quantity=quantity, decoder=decoder, statistic="mean", dim=dim)
        again = measured["/".join(filter(None, (quantity, decoder)))].mean()
        assert again == pytest.approx(row["estimate"].item(), rel=1e-6)
