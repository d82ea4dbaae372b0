"""Slurm's options and what is made of a queue, by a squeue that says what a test wants; the real one is tests/slurm."""

import json
import os
import re
from pathlib import Path
from types import SimpleNamespace

import pytest

from benchmarks import cluster as benchmark
from manifold_lab.core.cli import parse
from manifold_lab.core.config import key
from manifold_lab.core.errors import InputError
from manifold_lab.sweeps import command_line, run_lock, runner, slurm, store, submissions, worker
from manifold_lab.sweeps.launchers import print as printing
from manifold_lab.sweeps.launchers import slurm as launcher
from manifold_lab.sweeps.options import RunOptions
from manifold_lab.sweeps.runner import Program, Work
from manifold_lab.sweeps.slurm import Slurm
from manifold_lab.sweeps.store import ABSENT, DONE, FAILED, QUEUED, RUNNING, Run
from tests import tiny
from tests.tiny import Tiny

ROOT = Path(__file__).parent.parent.parent
SPECS = [Tiny(seed) for seed in range(4)]
PROGRAM = Program("tiny", ("tests/tiny.py",), ("--runs", "a folder"))


class Queue:
    """What squeue says, line by line, and the submission of four runs in two tasks that it is about."""

    def __init__(self, folder: Path) -> None:
        self.runs, self.message = folder / "runs", folder / "told"
        self.of = submissions.announce(
            self.runs, "tiny", [((key(a), 0), (key(b), 0)) for a, b in (SPECS[:2], SPECS[2:])], 3
        )
        self.says()

    def says(self, *lines: str) -> None:
        self.message.write_text("".join(f"{self.of.name}|{line}\n" for line in lines))

    def states(self) -> list[str]:
        return [run.state for run in self.view()]

    def view(self) -> list[Run]:
        return submissions.view(self.runs, store.read_runs(self.runs, SPECS))

    def begin(self, spec: Tiny, number: int, restart: int = 0) -> run_lock.RunLock:
        """A process of a task claims a run, on another machine."""
        folder = self.runs / key(spec)
        folder.mkdir(parents=True, exist_ok=True)
        claim = run_lock.acquire(folder)
        owner = {"host": "node7", "machine": "far", "pid": 1, "started": 0.0, "job": f"{self.of.name}/{number}"}
        claim.path.write_text(json.dumps(owner | {"restart": restart}) + "\n")
        return claim

    def log(self, number: int, text: str) -> None:
        (self.of.folder / f"12_{number}_0_log.out").write_text(text)


@pytest.fixture
def queue(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Queue:
    made = Queue(tmp_path)
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "squeue").write_text(f"#!/bin/sh\ncat {made.message}\n")
    (tmp_path / "bin" / "squeue").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}{os.pathsep}{os.environ['PATH']}")
    return made


WAITS, RUNS = "PENDING||Priority|12_1", "RUNNING|node7|None|12_0"


def test_what_waits_and_what_runs_is_queued_and_not_missing(queue: Queue) -> None:
    queue.says(f"0|{RUNS}", f"1|{WAITS}")
    queue.begin(SPECS[0], 0)
    found = queue.view()
    assert [run.state for run in found] == [RUNNING, QUEUED, QUEUED, QUEUED]
    assert "on node7" in found[0].note and found[2].note == "job 12_1 waits (Priority)"
    assert runner.missing(found) == []


@pytest.mark.parametrize("again", ["a", "z"])
def test_a_cell_that_was_handed_over_again_stands_as_its_living_job(
    again: str, queue: Queue, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever the new submission is called: its place among the others is no matter of chance."""
    store.begin(SPECS[0], queue.runs / key(SPECS[0]))
    store.fail(queue.runs / key(SPECS[0]), ValueError("no"), {})
    monkeypatch.setattr(submissions.uuid, "uuid4", lambda: SimpleNamespace(hex=again * 32))
    second = submissions.announce(queue.runs, "tiny", [((key(SPECS[0]), 1),)], 3)
    queue.message.write_text(f"{queue.of.name}|1|{WAITS}\n{second.name}|0|{WAITS}\n")
    assert queue.states() == [QUEUED, ABSENT, QUEUED, QUEUED]


def test_a_job_that_left_the_queue_without_a_word_has_failed_at_the_cell_it_was_at(queue: Queue) -> None:
    queue.begin(SPECS[0], 0)
    queue.log(0, "much\nslurmstepd: error: Detected 1 oom-kill event(s) in StepId=12.0\n")
    found = queue.view()
    assert [run.state for run in found] == [FAILED, ABSENT, ABSENT, ABSENT]
    assert "out of memory" in found[0].note and "ended before it began" in found[1].note
    assert store.state(SPECS[0], queue.runs / key(SPECS[0])).state == RUNNING  # so it seems without the queue
    submissions.close_ended(queue.runs)
    assert queue.states() == [FAILED, ABSENT, ABSENT, ABSENT] and submissions.submissions(queue.runs) == []
    failure = json.loads((queue.runs / key(SPECS[0]) / "failure.json").read_text())
    assert failure["log"][0] == "much"


def test_a_cell_that_was_given_back_has_not_failed(queue: Queue) -> None:
    run_lock.release(queue.begin(SPECS[0], 0))
    assert queue.states() == [ABSENT] * 4


def test_a_submission_that_is_closed_gives_its_late_jobs_nothing(queue: Queue, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(run_lock.JOB, f"{queue.of.name}/1")
    specs = {key(spec): spec for spec in SPECS}
    assert [run.spec for run in worker.of_this_job(queue.runs, specs)] == SPECS[2:]
    submissions.close_ended(queue.runs)
    assert worker.of_this_job(queue.runs, specs) == []


def test_a_job_knows_its_own_earlier_starts(queue: Queue, monkeypatch: pytest.MonkeyPatch) -> None:
    claim = queue.begin(SPECS[0], 0)
    assert run_lock.is_held(run_lock.latest(claim.path.parent))
    monkeypatch.setenv(run_lock.JOB, f"{queue.of.name}/0")
    monkeypatch.setenv("SLURM_RESTART_COUNT", "1")
    assert not run_lock.is_held(run_lock.latest(claim.path.parent))
    submissions.mark_dead_runs(queue.runs, queue.of, 0)  # after a requeue it goes on
    assert queue.states()[0] != FAILED or not (claim.path.parent / "failure.json").exists()
    monkeypatch.setenv("SLURM_RESTART_COUNT", "0")
    submissions.mark_dead_runs(queue.runs, queue.of, 0)  # within one start its process has died
    assert "was killed" in json.loads((claim.path.parent / "failure.json").read_text())["reason"]


def test_a_job_that_starts_too_often_fails_its_cell(queue: Queue, monkeypatch: pytest.MonkeyPatch) -> None:
    run_lock.release(queue.begin(SPECS[0], 0))
    monkeypatch.setenv("SLURM_RESTART_COUNT", "4")
    submissions.mark_dead_runs(queue.runs, queue.of, 0)
    assert queue.states() == [FAILED, ABSENT, ABSENT, ABSENT]


def test_one_submits_at_a_time(queue: Queue) -> None:
    with submissions.only_submitter(queue.runs):
        second = submissions.only_submitter(queue.runs)
        with pytest.raises(InputError, match="another process submits"), second:
            pass


def test_a_queue_that_does_not_answer_is_one_line(queue: Queue, tmp_path: Path) -> None:
    (tmp_path / "bin" / "squeue").write_text("#!/bin/sh\necho no controller >&2\nexit 1\n")
    with pytest.raises(InputError, match="squeue refused: no controller"):
        queue.view()


def test_a_lab_sets_its_defaults_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert slurm.defaults(tmp_path) == Slurm()
    (tmp_path / "pyproject.toml").write_text(
        "[tool.manifold_lab.slurm]\npartition = 'gpu'\ncpus = 4\nsetup = ['module load a', 'b']\n"
    )
    monkeypatch.setenv("MANIFOLD_LAB_SLURM_PARTITION", "spot")
    monkeypatch.setenv("MANIFOLD_LAB_SLURM_EXTRA", "constraint=a100;exclusive")
    lab = Slurm(partition="spot", cpus=4, setup=("module load a", "b"), extra=("constraint=a100", "exclusive"))
    assert slurm.defaults(tmp_path) == lab
    monkeypatch.setenv("MANIFOLD_LAB_SLURM_CPUS", "many")
    with pytest.raises(InputError, match=r"slurm.cpus: 'many' is not allowed"):
        slurm.defaults(tmp_path)
    (tmp_path / "pyproject.toml").write_text("[tool.manifold_lab.slurm]\npartiton = 'gpu'\n")
    with pytest.raises(InputError, match="did you mean 'partition'"):
        slurm.defaults(tmp_path)


def test_a_lab_s_defaults_are_read_when_a_command_is_given(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MANIFOLD_LAB_SLURM_PARTITION", "spot")
    (tmp_path / "pyproject.toml").write_text("[tool.manifold_lab.slurm]\nextra = ['comment=three']\n")
    for words in (["run"], ["--workers", "2"]):
        message = parse(command_line.kind_of(words), "experiments.x", words)
        assert message.slurm == Slurm(partition="spot", extra=("comment=three",))


def test_a_process_of_no_job_has_no_cells_of_its_job(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(run_lock.JOB, raising=False)
    with pytest.raises(InputError, match="no job of Slurm started this process"):
        worker.of_this_job(tmp_path, {})


FOREIGN = {
    "tool = 3": "tool is no table",
    "[tool.manifold_lab]\nslurm = 'x'": "slurm is no table",
    "[tool.manifold_lab.slurm]\ngpus = 1.5": "a whole number",
    "[tool.manifold_lab.slurm]\ngpus = 'x'": "a whole number",
    "[tool.manifold_lab.slurm]\nsetup = 5": "a list of texts",
    "[tool.manifold_lab.slurm]\npartition = true": "a text",
    "[tool": "cannot be read",
    "# \xe9": "cannot be read",
}


@pytest.mark.parametrize("content", FOREIGN)
def test_a_foreign_table_is_one_line_for_who_submits_and_nothing_to_the_rest(
    content: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "pyproject.toml").write_text(content, encoding="latin-1")
    with pytest.raises(InputError, match=FOREIGN[content]):
        slurm.defaults(tmp_path)
    monkeypatch.chdir(tmp_path)
    assert RunOptions().slurm == Slurm()


@pytest.mark.parametrize("sign", ["\n", "\r", "\x00", "\x1b", "\u2028"])
@pytest.mark.parametrize("option", ["partition", "account", "qos", "time", "mem", "setup", "extra"])
def test_no_option_of_slurm_has_a_control_character(option: str, sign: str) -> None:
    given = f"a{sign}#SBATCH --uid=0"
    with pytest.raises(InputError, match=f"slurm.{option}: .* no control characters"):
        Slurm(**{option: (given,) if option in ("setup", "extra") else given})


def test_the_logs_of_a_path_with_patterns_are_its_own(tmp_path: Path) -> None:
    submission = submissions.announce(tmp_path / "100%j", "tiny", [((key(SPECS[0]), 0),)], 1)
    assert "100%%j" in launcher.parameters(Work(tiny.measure), submission)["additional_parameters"]["output"]
    submission = submissions.announce(tmp_path / "two\nlines", "tiny", [((key(SPECS[0]), 0),)], 1)
    with pytest.raises(InputError, match="no control characters"):
        launcher.parameters(Work(tiny.measure), submission)


DAMAGED = ["", "{", "[]", '{"tasks": 3, "requeues": 1}', '{"tasks": [[[1, 2]]], "requeues": 1}', "[" * 10**5]


@pytest.mark.parametrize("content", DAMAGED)
def test_a_damaged_submission_is_one_line_for_who_submits_and_a_note_for_who_looks(
    content: str, queue: Queue, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = queue.of.folder / "submission.json"
    path.write_text(content)
    for ask in (submissions.submissions, submissions.close_ended):
        with pytest.raises(InputError, match="is damaged; cancel its jobs"):
            ask(queue.runs)
    assert queue.states() == [ABSENT] * 4 and "whether it is queued is not known" in queue.view()[0].note
    monkeypatch.setenv(run_lock.JOB, f"{queue.of.name}/1")
    with pytest.raises(InputError, match="is damaged"):
        worker.of_this_job(queue.runs, {})


@pytest.mark.parametrize("count", ["x", "²", "-1", "1" * 30])
def test_a_restart_count_that_is_none_is_one_line(count: str, queue: Queue, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SLURM_RESTART_COUNT", count)
    assert queue.states() == [ABSENT] * 4
    with pytest.raises(InputError, match=r"SLURM_RESTART_COUNT: .* must be a whole number"):
        submissions.mark_dead_runs(queue.runs, queue.of, 0)


@pytest.mark.parametrize("place", ["x", "", "2", "²"])
def test_a_job_of_no_task_is_one_line(place: str, queue: Queue, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(run_lock.JOB, f"{queue.of.name}/{place}")
    with pytest.raises(InputError, match="is no task of"):
        worker.of_this_job(queue.runs, {})


@pytest.mark.parametrize("wrong", [{"nodes": 0}, {"notice": 0}, {"extra": ("--constraint=a",)}])
def test_options_that_mean_nothing_are_refused(wrong: dict) -> None:
    with pytest.raises(InputError, match=f"slurm.{next(iter(wrong))}"):
        Slurm(**wrong)


def test_options_reach_sbatch(queue: Queue) -> None:
    asked = Slurm(
        "gpu", "vision", "high", "1-0", 1, 6, "8G", 2, 5, 40, 3, ("module load a",), ("constraint=a", "exclusive")
    )
    message = launcher.parameters(Work(tiny.measure, program=PROGRAM, processes=4, slurm=asked), queue.of)
    wanted = {"partition": "gpu", "account": "vision", "qos": "high", "time": "1-0", "nodes": 2, "ntasks_per_node": 2,
              "gpus_per_node": 2, "cpus_per_task": 6, "array_parallelism": 5, "signal_delay_s": 40,
              "setup": ["module load a"]}  # fmt: skip
    assert wanted.items() <= message.items()
    output = message["additional_parameters"].pop("output")
    assert output == f"{queue.of.folder.resolve()}/%A_%a_0_log.out"
    assert message["additional_parameters"] == {"requeue": True, "mem": "8G", "constraint": "a", "exclusive": True}
    with pytest.raises(InputError, match="must divide the 3 processes"):
        launcher.parameters(Work(tiny.measure, processes=3, slurm=asked), queue.of)


def test_printed_commands_run_their_cells(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    runs = store.read_runs(tmp_path, SPECS[:3])
    assert list(printing.launch(Work(tiny.measure, program=PROGRAM, runs_per_job=2), runs)) == []
    lines = capsys.readouterr().out.splitlines()
    assert [line.count(run.key) for line, run in zip(lines, runs[::2], strict=True)] == [1, 1]
    assert lines[0].endswith(f"tests/tiny.py worker {runs[0].key} {runs[1].key} --runs 'a folder'")


def test_named_cells_run_here_one_after_another(tmp_path: Path) -> None:
    specs = {key(spec): spec for spec in SPECS}
    runs = worker.named_runs(tmp_path, specs, list(specs)[:2])
    assert [run.state for run in worker.work_through(Work(tiny.measure), runs)] == [DONE] * 2
    with pytest.raises(InputError, match="'nope' is no key"):
        worker.named_runs(tmp_path, specs, ["nope"])


@pytest.mark.slow
def test_the_page_has_the_costs_that_are_counted() -> None:
    page = (ROOT / "docs" / "cluster.md").read_text(encoding="utf-8")
    block = re.search(r"<!-- begin imagenet-cost -->\n(.*?)\n<!-- end", page, re.DOTALL)
    assert block and block[1] == benchmark.table(benchmark.cost_rows())


def test_the_simulated_study_of_the_benchmark_goes_from_plan_to_publish(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    found = benchmark.simulation(4)
    lines = benchmark.measured(4, found)
    assert {line["command"] for line in lines} == {"plan", "status", "publish"} and len(lines) == 7
    assert [row["runs"] for row in found if row["what"] == "publish"] == ["all done"]
