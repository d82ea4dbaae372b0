import dataclasses
import json
import time
from pathlib import Path
from typing import Any

import pytest
from matplotlib.figure import Figure
from rich.console import Console

from manifold_lab.core import statistics
from manifold_lab.core.config import key
from manifold_lab.core.errors import InputError
from manifold_lab.core.shown import DataFrame
from manifold_lab.report.tables import ClaimResult, read_csv
from manifold_lab.sweeps import run_lock, status_table, store, study_commands
from manifold_lab.sweeps.publishing import named_claims
from manifold_lab.sweeps.store import Run
from manifold_lab.sweeps.study import Study
from manifold_lab.sweeps.study_commands import main
from tests import tiny
from tests.tabled import tabled
from tests.tiny import GRIDS, Tiny, ran

SMOKE = 2


def rows(runs: Any) -> list[dict[str, str]]:
    return [{"seed": str(run.spec.seed), "state": run.state, "value": str(run.numbers.get("value", ""))}
            for run in runs if run.state != store.ABSENT]  # fmt: skip


def judged(lines: DataFrame) -> list[ClaimResult]:
    values = lines.dropna(subset="value").set_index("seed")["value"].to_dict()
    both = statistics.paired(values, dict.fromkeys(values, -1.0))
    verdict = statistics.verdict(both.exceeds(0))
    return [ClaimResult("high", "here", "values are high", "mean", both.difference, verdict)]


def figure(lines: DataFrame) -> Figure:
    assert lines["seed"].dtype == int and lines["value"].dtype == float
    return Figure(figsize=(1, 1))


CARD = "Paper  none\nClaims  high\nRun  tiny\nDiffers  none"
STUDY = Study(name="tiny", card=CARD, grid=tiny.grid, measure=tiny.measure, rows=rows, figure=figure, claims=judged)


@pytest.fixture
def typed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    """Runs a command line in an empty folder; its status and what it says."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "160")

    def run(words: str) -> tuple[int, str]:
        status = main(STUDY, words.split())
        message = capsys.readouterr()
        return status, message.out + message.err

    return run


def test_plan_runs_nothing_and_tells_the_cost_once_it_is_known(typed, tmp_path: Path) -> None:
    status, message = typed("plan")
    assert status == 0 and "12 absent" in message and "Cost     not known" in message and "Paper  none" in message
    assert key(Tiny(3, "better")) in message and "seed=3 arm=better" in message
    assert not list((tmp_path / "runs").rglob("ran"))
    for seed in range(3):
        folder = tmp_path / "runs" / "tiny" / key(Tiny(seed))
        made = {"seconds": 600.0, "attempt": 1, "commit": None, "device": "abacus"}
        store.finish(Tiny(seed), folder, store.Result({"value": 1}), made)
    _, message = typed("plan --workers 3")
    assert "Cost     30 min for 3 of 12 runs, on abacus" in message
    assert "9 absent, 3 done" in message and "10 min" in message
    assert "about 30 min with 3 at a time, from finished runs that differ in 1 fields" in message


def test_a_run_says_one_object_or_one_line(capsys: pytest.CaptureFixture[str], monkeypatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    wanted = key(Tiny(4))
    assert main(STUDY, ["run", "--only", wanted, "--json"]) == 0
    message = json.loads(capsys.readouterr().out)
    assert (message["study"], message["queued"], message["passed_over"]) == ("tiny", 0, None)
    assert [(one["key"], one["state"], one["how"][:3]) for one in message["ended"]] == [(wanted, "done", "in ")]
    assert main(STUDY, ["run", "--quiet"]) == 0
    assert capsys.readouterr().out == "tiny: 11 ended, 0 queued\n"
    for words in (["run", "--smoke", "--json"], ["--json", "--out", "made"]):  # these publish: of that is the object
        assert main(STUDY, words) == 0
        assert set(json.loads(capsys.readouterr().out)) == {"claims", "runs", "written"}


def test_run_runs_what_is_missing_and_only_that(typed) -> None:
    assert typed(f"run --only {key(Tiny(4))[:6]}")[1].count("done in") == 1
    status, message = typed("run")
    assert status == 0 and "11 to run" in message and message.count("done in") == 11
    assert "0 to run; 12 done" in typed("run")[1]
    assert all(len(ran(Path("runs/tiny") / key(spec))) == 1 for spec in GRIDS["good"])


def test_failures_are_in_the_exit_status_and_are_tried_again_when_asked(typed, monkeypatch) -> None:
    monkeypatch.setitem(GRIDS, "good", (Tiny(), Tiny(ends="error"), Tiny(ends="divergence")))
    status, message = typed("run")
    assert (
        status == 1
        and "failed ValueError: this run fails" in message
        and "diverged at step 7: the loss is nan" in message
    )
    status, message = typed("run")
    assert status == 1 and "1 failed, such as" in message and "run with --retry-failed to repeat" in message
    assert typed("run --retry-failed")[0] == 1
    assert [len(ran(Path("runs/tiny") / key(spec))) for spec in GRIDS["good"]] == [1, 2, 1]
    message = typed("status")[1]
    assert "1 diverged, 1 done, 1 failed" in message and "this run fails" in message


def test_status_says_how_far_a_running_cell_is(typed) -> None:
    folder = Path("runs/tiny") / key(Tiny(2))
    store.begin(Tiny(2), folder)
    run_lock.acquire(folder)
    progress = {"step": 120, "steps": 1000, "images_per_second": 851.4, "seconds_left": 723.2}
    (folder / "progress.json").write_text(json.dumps(progress))
    message = typed("status")[1]
    assert "running" in message and "step 120 of 1000, 851 images/s, 12 min left, process" in message
    assert "11 absent, 1 running" in message


def test_a_live_status_ends_when_nothing_runs_any_more(typed, monkeypatch) -> None:
    folder = Path("runs/tiny") / key(Tiny(2))
    store.begin(Tiny(2), folder)
    claim = run_lock.acquire(folder)
    monkeypatch.setattr(study_commands, "Console", lambda: Console(force_terminal=True))
    monkeypatch.setattr(time, "sleep", lambda _: run_lock.release(claim))
    message = typed("status")[1]
    assert "stopped before its end" in message and "process" not in message.splitlines()[-2]


def test_a_long_list_is_cut_and_says_so(typed, monkeypatch) -> None:
    monkeypatch.setitem(GRIDS, "good", tuple(Tiny(seed) for seed in range(100)))
    message = typed("plan")[1]
    assert message.count("seed=") == status_table.LISTED and f"and {100 - status_table.LISTED} more" in message


def test_publish_writes_what_the_runs_say_and_leaves_the_texts_alone(typed, tmp_path: Path) -> None:
    assert typed("publish") == (2, "error: tiny: no run is done yet; run python -m experiments.tiny run\n")
    typed("run")
    (tmp_path / "paper_repro.md").write_text("<!-- begin beyond -->\n<!-- end beyond -->\n")
    status, message = typed("publish")
    assert (
        status == 0
        and "holds: values are high" in message
        and "12 done" in message
        and "run manifold-lab report" in message
    )
    assert (tmp_path / "paper_repro.md").read_text().count("\n") == 2
    assert {path.name for path in Path("figures").iterdir()} == {
        f"tiny{end}" for end in (".csv", ".png", ".pdf", ".svg", ".json", "_claims.csv")
    }
    lines = read_csv(Path("figures/tiny.csv").read_text())
    assert lines["value"].tolist() == [s.seed + 0.5 * (s.arm == "better") for s in GRIDS["good"]]
    before = {path.name: path.read_bytes() for path in Path("figures").iterdir()}
    for path in Path("figures").glob("*.png"):
        path.unlink()
    assert typed("publish --redraw --runs elsewhere")[0] == 0
    assert {path.name: path.read_bytes() for path in Path("figures").iterdir()} == before
    for harmed in (b"seed,state,amount\n1,done,2\n", b"seed\n1,2,3\n4,5,6,7\n", b"\xff\xfe"):
        Path("figures/tiny.csv").write_bytes(harmed)
        status, message = typed("publish --redraw")
        assert status == 2 and message.count("\n") == 1 and "publish" in message, message
        changed = {path.name for path in Path("figures").iterdir() if path.read_bytes() != before[path.name]}
        assert changed == {"tiny.csv"}


def test_what_is_published_says_which_runs_are_missing_and_what_they_would_take(typed, tmp_path: Path) -> None:
    def published() -> list[Any]:
        assert typed("publish")[0] == 0
        made = json.loads(Path("figures/tiny.json").read_text())
        return [made["seconds"], made["missing"], made["missing_seconds"]]

    for seed, seconds in ((0, 600.0), (1, 200.0), (2, 500.0)):
        folder = tmp_path / "runs" / "tiny" / key(Tiny(seed))
        took = {"seconds": seconds, "attempt": 1, "commit": None, "device": "abacus"}
        store.finish(Tiny(seed), folder, store.Result({"value": 1.5}), took)
    assert published() == [1300, 9, 9 * 500.0]
    typed("run")
    assert published()[1:] == [0, None]


def test_a_study_that_keeps_no_runs_makes_them_when_it_publishes(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    unstored = dataclasses.replace(STUDY, stored=False)
    assert main(unstored, ["--smoke"]) == 0 and main(unstored, ["publish"]) == 0 and main(unstored, ["status"]) == 0
    assert len(read_csv(Path("figures/tiny.csv").read_text())) == len(GRIDS["good"]) and not Path("runs").exists()


def test_ids_begin_with_the_studys_name_and_one_that_is_there_twice_is_refused(
    tmp_path: Path, monkeypatch, capsys
) -> None:
    monkeypatch.chdir(tmp_path)
    table = tabled([{"seed": "1", "value": "1"}])
    (claim,) = named_claims(STUDY, table)
    assert (claim.id, claim.command) == ("tiny.high", "python -m experiments.tiny")
    wrong = dataclasses.replace(STUDY, stored=False, claims=lambda lines: judged(lines) * 2)
    assert main(wrong, ["publish"]) == 2 and "claims: the id" in capsys.readouterr().err
    assert not any(tmp_path.iterdir())


def test_a_card_without_an_entry_is_refused() -> None:
    with pytest.raises(InputError, match="has no entry Differs"):
        dataclasses.replace(STUDY, card="Paper  a\nClaims  b\nRun  c")


@pytest.mark.parametrize("name", ["", "a/b", "../a", "a b", "a;b", "a\nb", "$(a)", ".a", "ü"])
def test_a_name_that_no_file_or_job_can_have_is_refused(name: str) -> None:
    with pytest.raises(InputError, match=r"^name: "):
        dataclasses.replace(STUDY, name=name)


def test_unfinished_and_failed_cells_reach_the_rows_as_what_they_are(typed, monkeypatch) -> None:
    monkeypatch.setitem(GRIDS, "good", (Tiny(), Tiny(1, ends="error"), Tiny(2)))
    typed("run")
    typed("publish")
    assert read_csv(Path("figures/tiny.csv").read_text())["state"].tolist() == ["done", "failed", "done"]


def test_a_smoke_run_shows_what_comes_out_and_replaces_nothing_that_is_published(typed) -> None:
    typed("")
    before = Path("figures/tiny.csv").read_bytes()
    for words in ("run --smoke", "publish --smoke", "--smoke"):
        assert typed(words)[0] == 0
        assert len(read_csv(Path("out/tiny.csv").read_text())) == SMOKE
        Path("out/tiny.csv").unlink()
    assert Path("figures/tiny.csv").read_bytes() == before


def test_without_a_verb_a_study_runs_and_publishes(typed) -> None:
    status, message = typed("--smoke --out made")
    assert status == 0 and message.count("done in") == SMOKE and "undecided" in message
    assert len(read_csv(Path("made/tiny.csv").read_text())) == SMOKE
    assert main(STUDY, []) == 0
    assert len(read_csv(Path("figures/tiny.csv").read_text())) == len(GRIDS["good"])


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        ("run --only zz", "error: only: 'zz' begins 0 keys of this grid"),
        ("run --workers 0", "error: workers: 0 is not allowed"),
        ("run --launcher slurms", "error: launcher: 'slurms' is unknown"),
        ("walk", "error: "),
    ],
)
def test_what_cannot_be_done_is_said_in_one_line(words: str, complaint: str, typed) -> None:
    status, message = typed(words)
    assert status == 2 and message.startswith(complaint) and message.count("\n") == 1


def test_a_note_is_said_where_there_is_no_more() -> None:
    assert status_table.how(Run(Tiny(), Path(), store.RUNNING, note="process 1 on h")) == "process 1 on h"


def test_runs_that_cannot_be_a_folder_are_refused_in_one_line(typed, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for command in ("plan", "run", "status"):
        status, message = typed(f"{command} --runs file")
        assert status == 2 and "cannot be a folder" in message and len(message.strip().splitlines()) == 1
