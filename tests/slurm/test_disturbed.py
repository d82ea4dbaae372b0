"""Runs that are pushed aside, run out of time, are requeued or lose their node end as if nothing had happened."""

import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import tiny_study
from conftest import User, ran
from tiny_study import EVERY, HELD_AT, STEPS, Spec

from manifold_lab.sweeps.store import DONE, FAILED, Run

pytestmark = pytest.mark.slow

RUN = ("run", "--launcher", "slurm")


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Callable[[Spec], list[float]]:
    """The weights with which a run ends that nobody disturbs."""
    known: dict[Spec, list[float]] = {}

    def weights(spec: Spec) -> list[float]:
        if spec not in known:
            known[spec] = list(tiny_study.measure(spec, tmp_path_factory.mktemp("undisturbed")).numbers["weights"])
        return known[spec]

    return weights


def numbers_of(user: User) -> dict[int, str]:
    """Job's number by its place in the array, of jobs that run."""
    lines = user.machine.ask("squeue", "-h", "-r", "-t", "RUNNING", "-n", names(user), "-o", "%K %i").splitlines()
    return {int(place): number for place, number in (line.split() for line in lines)}


def names(user: User) -> str:
    return ",".join(path.parent.name for path in user.folder.rglob("submission.json"))


def held(user: User, count: int) -> None:
    """Wait until so many trainings are held in their middle, while status tells of them."""
    user.until(lambda: sum(run.progress.get("step", 0) > HELD_AT for run in user.runs("training")) == count)
    message = user.types("status")
    assert f"{count} running" in message and f"step {HELD_AT + 1} of {STEPS}" in message and "images/s" in message
    assert all(f"on node{number}" in message for number in range(1, count + 1))


def ended_alike(found: list[Run], undisturbed: Callable[[Spec], list[float]]) -> None:
    """Every run was begun twice, the second time from its last checkpoint, and ended with the very same weights."""
    for run in found:
        assert run.state == DONE
        assert [int(line.split()[1]) for line in ran(run)] == [0, HELD_AT // EVERY * EVERY]
        assert run.numbers["weights"] == undisturbed(run.spec)


def test_all_nodes_preempted_and_every_run_goes_on(
    user: User, undisturbed: Callable[[Spec], list[float]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GRID", "training")
    monkeypatch.setenv("MANIFOLD_LAB_SLURM_PARTITION", "spot")
    user.types(*RUN)
    held(user, 4)
    assert "0 to run" in user.types(*RUN)
    user.machine.ask("sbatch", "--partition=main", "--nodes=4", "--output=/dev/null", "--wrap=srun sleep 1")
    user.until_over()
    ended_alike(user.runs("training"), undisturbed)


@pytest.fixture
def three(user: User, monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[int, str]]:
    """Three of four trainings, each held on a node; their jobs."""
    monkeypatch.setenv("GRID", "training")
    monkeypatch.setitem(tiny_study.GRIDS, "training", tiny_study.GRIDS["training"][:3])
    Path("pyproject.toml").write_text("[tool.manifold_lab.slurm]\nnotice = 50\nextra = ['comment=three']\n")
    user.types(*RUN)
    held(user, 3)
    yield numbers_of(user)
    if "slurmd.node3" not in user.machine.processes:
        user.machine.start_node("node3")
        user.machine.wait(lambda: "node3" in user.machine.ask("sinfo", "-h", "-N", "-t", "idle", "-o", "%N"))


def test_a_time_out_a_requeue_and_a_dead_node(
    user: User, three: dict[int, str], undisturbed: Callable[[Spec], list[float]]
) -> None:
    assert "three" in user.machine.ask("squeue", "-h", "-o", "%k")
    user.machine.ask("scontrol", "update", f"JobId={three[0]}", "TimeLimit=1")
    user.machine.ask("scontrol", "requeue", three[1])
    user.machine.kill_node("node3")
    user.until(lambda: "Restarts=1" in user.machine.ask("scontrol", "show", "job", three[0]))
    user.machine.ask("scontrol", "update", f"JobId={three[0]}", "TimeLimit=UNLIMITED")  # its second start has time
    user.until_over()
    ended_alike(user.runs("training"), undisturbed)


def test_a_run_that_never_ends_fails_after_so_many_starts(user: User, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GRID", "stuck")
    user.types(*RUN, "--slurm.requeues", "0")
    user.until(lambda: ran(user.runs("stuck")[0]))
    user.machine.ask("scontrol", "requeue", numbers_of(user)[0])
    user.until_over()
    assert user.runs("stuck")[0].state == FAILED
    assert "its job was started 2 times, and it did not end" in user.types("status")


def test_a_network_trained_over_two_nodes_is_that_of_one_process(
    user: User, undisturbed: Callable[[Spec], list[float]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GRID", "together")
    user.types(*RUN, "--processes-per-run", "2", "--slurm.nodes", "2")
    user.until_over()
    (run,) = user.runs("together")
    assert (run.state, len(ran(run))) == (DONE, 1), user.logs()
    alone = undisturbed(run.spec)
    assert run.numbers["weights"] == pytest.approx(alone, rel=1e-5, abs=1e-5)
    assert run.numbers["weights"] != alone


MEMORY = pytest.mark.parametrize("machine", ["accounting"], indirect=True)


@MEMORY
def test_a_run_that_takes_too_much_memory_fails_and_says_so(user: User, monkeypatch: pytest.MonkeyPatch) -> None:
    if not user.machine.memory:
        pytest.skip("this machine lets nobody make control groups (version 1) that limit memory")
    monkeypatch.setenv("GRID", "memory")
    user.types(*RUN, "--slurm.mem", "1500M", "--runs-per-job", "2")
    user.until_over()
    assert [run.state for run in user.runs("memory")] == [FAILED, DONE], user.logs()
    assert "out of memory" in user.types("status")
    assert "oom" in (user.runs("memory")[0].folder / "failure.json").read_text().lower()
    assert "0 to run" in user.types(*RUN)


@MEMORY
def test_accounting_knows_the_jobs(user: User, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GRID", "good")
    user.types(*RUN, "--runs-per-job", "4")
    user.until_over()
    assert subprocess.run(["sacct", "-n"], capture_output=True, check=False).returncode == 0
    assert [run.state for run in user.runs("good")] == [DONE] * 4
