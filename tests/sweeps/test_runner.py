import contextlib
import dataclasses
import errno
import multiprocessing
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest
import torch

from manifold_lab.core.config import key
from manifold_lab.core.errors import DiskError, InputError, SourceError
from manifold_lab.core.files import READY, machine, publish, text
from manifold_lab.models.specs import DIGITS
from manifold_lab.sweeps import launchers, run_lock, runner, store
from manifold_lab.sweeps.launchers import here, pool
from manifold_lab.sweeps.runner import Work
from manifold_lab.sweeps.store import ABSENT, DIVERGED, DONE, FAILED, RUNNING, Run
from manifold_lab.sweeps.training_run import LENGTH, TrainingRun
from manifold_lab.training import RECIPES
from tests import tiny
from tests.tiny import GRIDS, Tiny, ran

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parent.parent.parent
WORK = Work(tiny.measure)


@contextlib.contextmanager
def driver(grid: str, runs: Path, *words: str) -> Iterator[subprocess.Popen]:
    """A driver in a process of its own, killed at the end with its workers where any still lives."""
    path = os.pathsep.join([str(ROOT), str(ROOT / "tests")])
    environment = {**os.environ, "PYTHONPATH": path, "TINY": grid, "OMP_NUM_THREADS": "1"}
    heard = signal.signal(signal.SIGINT, signal.default_int_handler)  # a child inherits only that it is ignored
    command = [sys.executable, ROOT / "tests" / "tiny.py", "run", "--runs", runs, *words]
    process = subprocess.Popen(command, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment,
                               start_new_session=True)  # fmt: skip
    signal.signal(signal.SIGINT, heard)
    try:
        yield process
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()


def until(condition: Callable[[], object]) -> None:
    """Wait for what other processes do."""
    end = time.monotonic() + 240  # processes that import torch on a busy machine
    while not condition():
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.1)


def look(runs: Path, grid: str) -> list[Run]:
    return store.read_runs(runs / "tiny", GRIDS[grid])


def late_ones(runs: Path) -> list[Run]:
    return [run for run in look(runs, "waiting") if run.spec.ends == "late"]


def states(runs: list[Run]) -> list[str]:
    return [run.state for run in runs]


def test_two_drivers_on_one_folder_run_every_cell_once(tmp_path: Path) -> None:
    with driver("good", tmp_path) as first, driver("good", tmp_path) as second:
        for process in (first, second):
            _, complaint = process.communicate(timeout=60)
            assert (process.returncode, complaint) == (0, "")
    runs = look(tmp_path, "good")
    assert set(states(runs)) == {DONE}
    assert [len(ran(run.folder)) for run in runs] == [1] * len(runs)
    assert {ran(run.folder)[0] for run in runs} <= {first.pid, second.pid}


def test_a_driver_killed_at_work_blocks_nobody_and_what_it_left_is_found(tmp_path: Path) -> None:
    late = tmp_path / "tiny" / key(Tiny(ends="late"))
    with driver("waiting", tmp_path) as killed:
        until(lambda: ran(late))
        assert states(look(tmp_path, "waiting")) == [DONE, RUNNING, ABSENT, ABSENT]
        killed.kill()
        killed.wait()
    runs = look(tmp_path, "waiting")
    assert states(runs) == [DONE, ABSENT, ABSENT, ABSENT]
    assert "ended without a result" in runs[1].note
    (tmp_path / "tiny" / "go").touch()
    touched = run_lock.latest(late).path.stat().st_mtime + 7
    os.utime(run_lock.latest(late).path, (touched, touched))  # as if it had worked for so long
    ended = list(here.launch(WORK, runner.missing(runs)))  # at once, without waiting for the claim to grow old
    assert states(ended) == [DONE] * 3
    assert ran(late) == [killed.pid, os.getpid()]  # the second attempt found what the first one wrote
    made = ended[0].provenance
    assert made["attempt"] == 2 and made["earlier"] == pytest.approx(7, abs=1) and made["seconds"] >= made["earlier"]


def test_workers_of_a_killed_driver_stop_and_their_cells_are_free(tmp_path: Path) -> None:
    with driver("waiting", tmp_path, "--workers", "2") as killed:
        until(lambda: states(late_ones(tmp_path)) == [RUNNING] * 2)
        owners = [run_lock.latest(run.folder).owner for run in late_ones(tmp_path)]
        killed.kill()
        killed.wait()
        until(lambda: not any(psutil.pid_exists(owner.pid) for owner in owners))
    assert killed.pid not in {owner.pid for owner in owners}
    assert RUNNING not in states(look(tmp_path, "waiting"))


def test_an_interrupted_driver_ends_cleanly_with_its_workers(tmp_path: Path) -> None:
    with driver("waiting", tmp_path, "--workers", "2") as stopped:
        until(lambda: states(late_ones(tmp_path)) == [RUNNING] * 2)
        workers = psutil.Process(stopped.pid).children(recursive=True)
        os.killpg(stopped.pid, signal.SIGINT)  # to all of them at once, as the keyboard does
        _, complaint = stopped.communicate(timeout=60)
    assert stopped.returncode == 130
    assert complaint.count("\n") == 1 and "run again to go on" in complaint
    until(lambda: not any(worker.is_running() for worker in workers))
    assert RUNNING not in states(look(tmp_path, "waiting"))
    assert [run.note for run in late_ones(tmp_path)] == ["stopped before its end"] * 2


def test_workers_do_not_hear_the_keyboard_and_the_driver_always_does() -> None:
    code = "import signal; print(signal.SIGINT in signal.pthread_sigmask(signal.SIG_BLOCK, []))"

    def started() -> str:
        return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip()

    with pool._deaf():
        worker = started()
    assert (worker, started()) == ("True", "False")
    heard = signal.signal(signal.SIGINT, signal.default_int_handler)  # where the tests run in the background, none
    try:
        with pytest.raises(KeyboardInterrupt), pool._deaf():
            os.kill(os.getpid(), signal.SIGINT)
    finally:
        signal.signal(signal.SIGINT, heard)


def test_a_pool_goes_on_past_every_way_to_fail_and_does_not_repeat_itself(tmp_path: Path) -> None:
    runs = look(tmp_path, "mixed")
    ended = {run.spec: run for run in pool.launch(Work(tiny.measure, 2), runner.missing(runs))}
    wanted = {"error": FAILED, "divergence": DIVERGED, "death": ABSENT, "well": DONE}
    assert {spec: run.state for spec, run in ended.items()} == {spec: wanted[spec.ends] for spec in GRIDS["mixed"]}
    assert "SIGKILL" in ended[Tiny(ends="death")].note
    threads = max(1, pool.cores() // 2)
    assert {run.numbers["threads"] for run in ended.values() if run.state == DONE} == {threads}
    assert os.getpid() not in {pid for run in runs for pid in ran(run.folder)}
    again = look(tmp_path, "mixed")
    assert {spec.ends for spec in (run.spec for run in runner.missing(again))} == {"death"}
    assert {run.spec.ends for run in runner.missing(again, retry_failed=True)} == {"error"}
    assert multiprocessing.active_children() == []


def test_a_failed_cell_is_tried_again_only_when_asked_and_only_by_one(tmp_path: Path) -> None:
    spec = Tiny(ends="error")
    (run,) = here.launch(WORK, store.read_runs(tmp_path, [spec]))
    assert run.state == FAILED
    (planned,) = store.read_runs(tmp_path, [spec])
    assert runner.missing([planned]) == []
    assert runner.run_one(WORK, planned).state == FAILED
    assert len(ran(planned.folder)) == 2
    assert runner.run_one(WORK, planned).state == FAILED  # another driver's plan, made before that second attempt
    assert len(ran(planned.folder)) == 2


def test_a_finished_cell_is_not_run_again_by_an_older_plan(tmp_path: Path) -> None:
    (planned,) = store.read_runs(tmp_path, [Tiny()])
    assert [runner.run_one(WORK, planned).state for _ in range(3)] == [DONE] * 3
    assert ran(planned.folder) == [os.getpid()]


def test_a_cell_that_another_process_runs_is_left_to_it(tmp_path: Path) -> None:
    (planned,) = store.read_runs(tmp_path, [Tiny()])
    planned.folder.mkdir(parents=True)
    assert run_lock.acquire(planned.folder)
    assert runner.run_one(WORK, planned).state == RUNNING
    assert ran(planned.folder) == []


def took_over(spec: Tiny, folder: Path) -> store.Result:
    """Another process takes this one for dead while it works."""
    (folder / "claim-0002").write_text("{}\n")
    return tiny.measure(spec, folder)


@pytest.mark.parametrize("ends", ["well", "error"])
def test_a_process_that_was_taken_for_dead_writes_nothing(ends: str, tmp_path: Path) -> None:
    (planned,) = store.read_runs(tmp_path, [Tiny(ends=ends)])
    runner.run_one(Work(took_over), planned)
    assert not {"result.json", "failure.json"} & {path.name for path in planned.folder.iterdir()}


def interrupted(_spec: Tiny, _folder: Path) -> store.Result:
    raise KeyboardInterrupt


def test_an_interruption_gives_the_cell_back_and_goes_on_upwards(tmp_path: Path) -> None:
    (planned,) = store.read_runs(tmp_path, [Tiny()])
    with pytest.raises(KeyboardInterrupt):
        runner.run_one(Work(interrupted), planned)
    assert runner.run_one(WORK, planned).state == DONE


def test_numbers_that_are_not_finite_fail_their_cell(tmp_path: Path) -> None:
    (planned,) = store.read_runs(tmp_path, [Tiny()])
    run = runner.run_one(Work(lambda *_: store.Result({"loss": torch.tensor(torch.nan)})), planned)
    assert (run.state, "numbers must be finite" in run.note) == (FAILED, True)


def full(_spec: Tiny, folder: Path) -> store.Result:
    """A disk that is full when the measure writes, said by another error as libraries do."""
    try:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(folder))
    except OSError:
        raise InputError("checkpoint: cannot write") from None


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EFBIG])
def test_a_fault_of_the_disk_leaves_the_run_absent_and_goes_on_upwards(code: int, tmp_path: Path) -> None:
    def fault(_spec: Tiny, folder: Path) -> store.Result:
        raise OSError(code, os.strerror(code), str(folder))

    (planned,) = store.read_runs(tmp_path, [Tiny()])
    for measure in (fault, full):
        with pytest.raises(DiskError, match="the run is absent, run again when there is room"):
            runner.run_one(Work(measure), planned)
        (now,) = store.read_runs(tmp_path, [Tiny()])
        assert now.state == ABSENT and runner.missing([now]) == [now]
    assert runner.run_one(WORK, now).state == DONE


def test_another_fault_of_the_system_is_the_run_s(tmp_path: Path) -> None:
    def unreadable(_spec: Tiny, _folder: Path) -> store.Result:
        raise PermissionError(errno.EACCES, "Permission denied", "data")

    (planned,) = store.read_runs(tmp_path, [Tiny()])
    assert runner.run_one(Work(unreadable), planned).state == FAILED


def test_data_that_cannot_be_had_leave_the_run_absent_and_the_others_go_on(tmp_path: Path) -> None:
    def measure(spec: Tiny, folder: Path) -> store.Result:
        if spec.seed == 0:
            raise SourceError("data: there is no folder images")
        return tiny.measure(spec, folder)

    planned = store.read_runs(tmp_path, [Tiny(seed=0), Tiny(seed=1)])
    ended = list(here.launch(Work(measure), planned))
    assert [(run.state, run.note) for run in ended] == [(ABSENT, "data: there is no folder images"), (DONE, "")]
    now = store.read_runs(tmp_path, [run.spec for run in planned])
    assert runner.missing(now) == [now[0]] and not list(tmp_path.glob("*/.*scratch*"))
    assert runner.run_one(WORK, now[0]).state == DONE


def publishes_late(spec: Tiny, folder: Path) -> store.Result:
    """Write as a process that was taken for dead."""
    publish(folder, {"weights": text("ours")})
    (folder / "claim-0002").write_text("{}\n")
    publish(folder, {"weights": text("late"), "progress.json": text("{}")})
    return tiny.measure(spec, folder)


def test_who_no_longer_holds_a_run_publishes_nothing_into_it(tmp_path: Path) -> None:
    (planned,) = store.read_runs(tmp_path, [Tiny()])
    runner.run_one(Work(publishes_late), planned)
    assert (planned.folder / "weights").read_text() == "ours" and not (planned.folder / "progress.json").exists()
    assert not [path for path in planned.folder.iterdir() if path.name.startswith(".")] and not ran(planned.folder)


def test_a_result_whose_last_move_a_kill_prevented_is_not_measured_again(tmp_path: Path) -> None:
    (planned,) = store.read_runs(tmp_path, [Tiny()])
    assert runner.run_one(WORK, planned).state == DONE
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    left = planned.folder / f"{READY}{machine()}-{gone.pid}-abc"
    left.mkdir()
    (planned.folder / "result.json").rename(left / "result.json")
    assert store.state(planned.spec, planned.folder).state == ABSENT
    assert runner.run_one(WORK, planned).state == DONE and len(ran(planned.folder)) == 1


def test_a_launcher_is_a_module_of_their_folder() -> None:
    assert launchers.names() == ["here", "pool", "print", "slurm"]
    assert launchers.find("pool") is pool.launch
    with pytest.raises(InputError, match="launcher: 'slurn' is unknown; did you mean 'slurm'"):
        launchers.find("slurn")


def test_costs_come_from_the_nearest_finished_runs() -> None:
    def record(spec: Tiny, seconds: float, attempt: int = 1) -> store.Record:
        return {"spec": dataclasses.asdict(spec), "provenance": {"seconds": seconds, "attempt": attempt}}

    records = [record(Tiny(0), 10.0), record(Tiny(1), 30.0), record(Tiny(2), 14.0), record(Tiny(3), 1.0, attempt=2),
               record(Tiny(0, "better"), 70.0, attempt=2)]  # fmt: skip
    asked = [Tiny(9), Tiny(9, "better"), Tiny(9, "best")]
    plain, better, best = runner.costs(asked, records)
    assert (plain, better) == ((14.0, 0), (70.0, 0))
    assert best in ((14.0, 1), (70.0, 1))
    assert runner.costs(asked, []) == [None] * 3
    gone_on = record(Tiny(4), 100.0, attempt=2)
    gone_on["provenance"]["earlier"] = 60.0
    assert runner.costs(asked[:1], [record(Tiny(3), 1.0, attempt=2), gone_on]) == [(100.0, 0)]


def test_costs_are_in_proportion_to_the_length() -> None:
    short, long = (TrainingRun(DIGITS, dataclasses.replace(RECIPES["smoke"], images=images)) for images in (100, 400))
    wide = dataclasses.replace(long, network=dataclasses.replace(DIGITS, width=2))
    records = [{"spec": dataclasses.asdict(short), "provenance": {"seconds": 5.0, "attempt": 1}}]
    assert runner.costs([short, long, wide], records, LENGTH) == [(5.0, 0), (20.0, 0), (20.0, 1)]


def test_costs_of_runs_without_a_length_say_nothing_of_those_with_one() -> None:
    training = TrainingRun(DIGITS, dataclasses.replace(RECIPES["smoke"], images=400))
    records = [{"spec": dataclasses.asdict(Tiny(0)), "provenance": {"seconds": 5.0, "attempt": 1}}]
    assert runner.costs([training, Tiny(1)], records, LENGTH) == [None, (5.0, 0)]
    records = [{"spec": dataclasses.asdict(training), "provenance": {"seconds": 5.0, "attempt": 1}}]
    assert runner.costs([training, Tiny(1)], records, LENGTH) == [(5.0, 0), None]


DRIVER = """
import subprocess, sys, time
from manifold_lab.sweeps.runner import end_with_driver
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(120)"], preexec_fn=end_with_driver)
print(child.pid, flush=True)
time.sleep(120)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells a process that its parent is gone")
def test_what_a_killed_driver_started_ends_with_it() -> None:
    with subprocess.Popen([sys.executable, "-c", DRIVER], stdout=subprocess.PIPE, text=True) as driver:
        assert driver.stdout is not None
        child = psutil.Process(int(driver.stdout.readline()))
        driver.kill()
    assert psutil.wait_procs([child], timeout=20)[1] == []
