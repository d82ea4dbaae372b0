"""Full and read-only disks, files at their limit, signals at random times: no run is lost, and none fails for it."""

import contextlib
import os
import random
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from manifold_lab.core.config import key
from manifold_lab.sweeps import run_lock, store, study_commands
from manifold_lab.sweeps.store import ABSENT, DONE, FAILED
from tests.faults import study_of_faults as faulty
from tests.faults.test_damaged_files import sound

pytestmark = pytest.mark.slow


def can_mount() -> bool:
    """Whether this process may mount file systems, as root in most containers may not."""
    try:
        return subprocess.run(["unshare", "-m", "true"], capture_output=True, check=False).returncode == 0
    except OSError:
        return False


@contextlib.contextmanager
def mounted(folder: Path, options: str) -> Iterator[None]:
    """A file system in memory."""
    folder.mkdir(exist_ok=True)
    done = subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", folder], capture_output=True, check=False)
    if done.returncode:
        pytest.skip("this system lets no one mount file systems")
    try:
        yield
    finally:
        os.chdir("/")
        subprocess.run(["umount", "-l", folder], check=True)


def states(root: Path) -> dict[faulty.Spec, str]:
    return {run.spec: run.state for run in store.read_runs(root / "runs" / "faulty", faulty.SPECS)}


def hidden(root: Path) -> list[Path]:
    return [path for path in root.rglob(".*") if path.name.startswith((".writing", ".ready"))]


def refused(root: Path, capsys: pytest.CaptureFixture[str]) -> int:
    """Run on a faulty disk: one line, no run failed for it, nothing hidden left; the exit status."""
    os.chdir(root)
    status = study_commands.main(faulty.STUDY, ["run"])
    complaint = capsys.readouterr().err
    assert complaint.count("\n") == (status == 2), complaint
    assert status == 1 or "run again when there is room" in complaint, complaint
    found = states(root)
    assert all(state in (ABSENT, DONE) for spec, state in found.items() if spec != faulty.FAILED), found
    assert hidden(root) == []
    return status


@pytest.mark.skipif(not can_mount(), reason="this system lets no one mount file systems")
def test_a_disk_of_any_size_loses_nothing(tmp_path: Path, monkeypatch, capsys, sample) -> None:
    monkeypatch.chdir(tmp_path)
    sizes = [4 * blocks for blocks in range(1, sample.size(60, 60), sample.size(6, 1))]
    ended = []
    for kilobytes in sizes:
        root = tmp_path / "disk"
        with mounted(root, f"size={kilobytes}k"), sample.without_hanging():
            ended.append(refused(root, capsys))
            os.chdir(tmp_path)
            subprocess.run(["mount", "-o", "remount,size=10m", root], check=True)
            os.chdir(root)
            assert study_commands.main(faulty.STUDY, ["run"]) == 1  # the one that fails by itself
            assert [sound(root, spec) for spec in faulty.SPECS if spec != faulty.FAILED] == ["as before"] * 4
            assert states(root)[faulty.FAILED] == FAILED
            sample.tried(f"disk of {kilobytes} kB", "one line, taken up again" if ended[-1] == 2 else "enough")
    assert ended[0] == 2 and ended[-1] == 1


@pytest.mark.skipif(not can_mount(), reason="this system lets no one mount file systems")
def test_a_read_only_disk_is_read_and_not_written(tmp_path: Path, monkeypatch, capsys, sample) -> None:
    monkeypatch.chdir(tmp_path)
    root = tmp_path / "disk"
    with mounted(root, "size=10m"), sample.without_hanging():
        faulty.make(root)
        far = faulty.folder(root, faulty.STOPPED) / "claim-0002"
        far.write_text('{"host": "far", "machine": "far", "pid": 1, "started": 0.0}\n')
        subprocess.run(["mount", "-o", "remount,ro", root], check=True)
        os.chdir(root)
        for command in ("status", "plan", f"publish --out {tmp_path / 'out'}"):
            assert study_commands.main(faulty.STUDY, command.split()) == 0
            assert "1 running" in capsys.readouterr().out
            sample.tried("read-only disk", f"{command.split()[0]} reads")
        assert study_commands.main(faulty.STUDY, ["worker", key(faulty.STOPPED)]) == 0  # it runs elsewhere
        assert study_commands.main(faulty.STUDY, ["run", "--retry-failed"]) == 2
        assert "Read-only file system" in capsys.readouterr().err
        sample.tried("read-only disk", "run is refused in one line")


def test_a_limit_on_the_size_of_files_is_no_fault_of_a_run(tmp_path: Path, monkeypatch, capsys, sample) -> None:
    limits, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    for size in range(50, 1000, sample.size(190, 10)):
        root = tmp_path / str(size)
        root.mkdir()
        monkeypatch.chdir(root)
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
        try:
            with sample.without_hanging():
                status = refused(root, capsys)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (limits, hard))
        assert study_commands.main(faulty.STUDY, ["run"]) == 1 and list(states(root).values()).count(DONE) == 4
        sample.tried("limit on the size of files", "one line, taken up again" if status == 2 else "enough")


def test_signals_at_random_times(tmp_path: Path, monkeypatch, capsys, sample) -> None:
    """A process is stopped again and again; then another one ends what is left, and every run is there, once."""
    monkeypatch.chdir(tmp_path)
    rng = random.Random(0)
    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGKILL)
    for turn in range(sample.size(24, 400)):
        number, after = numbers[turn % 4], rng.uniform(0, 0.25)
        child = os.fork()
        if child == 0:
            stopped_child(tmp_path / "log")
        time.sleep(after)
        os.kill(child, number)
        if turn % 3 == 0:
            with contextlib.suppress(ProcessLookupError):
                os.kill(child, number)  # twice quickly
        with sample.without_hanging():
            status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        message = (tmp_path / "log").read_text()
        assert status in (0, 1, 128 + number, -number), (turn, status, message)
        assert "Traceback" not in message and message.count("\n") <= 1, message
        sample.tried(f"{number.name} at a random time", "ended before" if status in (0, 1) else "stopped in order")
        if turn % 8 == 7:
            assert study_commands.main(faulty.STUDY, ["run"]) == 1
            assert [sound(tmp_path, spec) for spec in faulty.SPECS if spec != faulty.FAILED] == ["as before"] * 4
            for spec in faulty.SPECS:
                (faulty.folder(tmp_path, spec) / "result.json").unlink(missing_ok=True)
                (faulty.folder(tmp_path, spec) / "failure.json").unlink(missing_ok=True)
    capsys.readouterr()


def stopped_child(log: Path, *words: str) -> None:
    """Run a command of the study in a fork, as a terminal would have it, its standard error in a file."""
    status = 99
    try:
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, signal.SIG_DFL)
        run_lock.machine.cache_clear()
        os.dup2(os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), 2)
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        sys.stderr, sys.stdout = os.fdopen(2, "w"), os.fdopen(1, "w")
        status = study_commands.main(faulty.STUDY, list(words) or ["run"])
    finally:
        sys.stderr.flush()
        os._exit(status)
