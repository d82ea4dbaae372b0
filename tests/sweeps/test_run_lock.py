import errno
import json
import os
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import psutil
import pytest

from manifold_lab.sweeps import run_lock


def left_by(folder: Path, **changes: object) -> Path:
    """A claim of this process, but for what is changed."""
    claim = run_lock.acquire(folder)
    assert claim is not None
    owner = json.loads(claim.path.read_text()) | changes
    claim.path.write_text(json.dumps(owner) + "\n")
    return claim.path


def age(path: Path, seconds: float) -> None:
    now = time.time() - seconds
    os.utime(path, (now, now))


def test_a_folder_is_held_by_one_until_it_is_given_back(tmp_path: Path) -> None:
    first = run_lock.acquire(tmp_path)
    assert first is not None and first.number == 1 and run_lock.holds(first)
    assert run_lock.acquire(tmp_path) is None
    run_lock.release(first)
    second = run_lock.acquire(tmp_path)
    assert second is not None and second.number == 2
    assert run_lock.holds(second) and not run_lock.holds(first)
    assert run_lock.latest(tmp_path).who == f"process {os.getpid()} on {socket.gethostname()}"


def test_of_many_that_want_one_folder_one_gets_it(tmp_path: Path) -> None:
    for turn in range(20):
        folder = tmp_path / str(turn)
        folder.mkdir()
        gate, got = threading.Barrier(8), []

        def want(folder=folder, gate=gate, got=got) -> None:
            gate.wait()
            got.append(run_lock.acquire(folder))

        threads = [threading.Thread(target=want) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert sum(claim is not None for claim in got) == 1


def test_of_many_that_inherit_a_dead_claim_one_gets_it(tmp_path: Path) -> None:
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    for turn in range(20):
        folder = tmp_path / str(turn)
        folder.mkdir()
        left_by(folder, pid=gone.pid)
        gate, got = threading.Barrier(8), []

        def want(folder=folder, gate=gate, got=got) -> None:
            gate.wait()
            got.append(run_lock.acquire(folder))

        threads = [threading.Thread(target=want) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert [claim.number for claim in got if claim] == [2]


def test_a_dead_process_of_this_machine_blocks_nobody_however_fresh_its_claim(tmp_path: Path) -> None:
    gone = subprocess.Popen([sys.executable, "-c", ""])
    while psutil.Process(gone.pid).status() != psutil.STATUS_ZOMBIE:
        time.sleep(0.01)
    left_by(tmp_path, pid=gone.pid, started=psutil.Process(gone.pid).create_time())
    assert not run_lock.is_held(run_lock.latest(tmp_path))  # dead, though its parent has not yet asked for its status
    gone.wait()
    assert not run_lock.is_held(run_lock.latest(tmp_path))


def test_a_living_process_of_this_machine_keeps_its_claim_however_old(tmp_path: Path) -> None:
    age(left_by(tmp_path), 100 * run_lock.STALE_AFTER)
    assert run_lock.is_held(run_lock.latest(tmp_path))


@pytest.mark.parametrize(
    "changes",
    [{"machine": "another"}, {"started": 5.0}],
    ids=["a process of another machine", "a pid that went to another process"],
)
@pytest.mark.parametrize(
    ("seconds", "held"), [(0, True), (0.8 * run_lock.STALE_AFTER, True), (1.2 * run_lock.STALE_AFTER, False)]
)
def test_elsewhere_the_last_touch_decides(changes: dict, seconds: float, held: bool, tmp_path: Path) -> None:
    age(left_by(tmp_path, **changes), seconds)
    assert run_lock.is_held(run_lock.latest(tmp_path)) == held
    assert (run_lock.acquire(tmp_path) is None) == held


def test_only_the_clock_of_the_file_system_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    left_by(tmp_path, machine="another")
    real = time.time
    for wrong in (-1e6, 1e6):
        monkeypatch.setattr(time, "time", lambda wrong=wrong: real() + wrong)
        assert run_lock.is_held(run_lock.latest(tmp_path))


@pytest.mark.parametrize("content", ["", "{", '{"pid": 1}', "[]"])
def test_a_claim_without_a_name_is_held_until_it_is_old(content: str, tmp_path: Path) -> None:
    path = tmp_path / "claim-0001"
    path.write_text(content)
    assert run_lock.acquire(tmp_path) is None
    age(path, 2 * run_lock.STALE_AFTER)
    taken = run_lock.acquire(tmp_path)
    assert taken is not None and taken.number == 2


def test_a_beating_claim_is_touched_and_a_lost_one_does_no_harm(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run_lock, "BEAT", 0.01)
    claim = run_lock.acquire(tmp_path)
    assert claim is not None
    age(claim.path, 1000)
    old = claim.path.stat().st_mtime
    with run_lock.heartbeat(claim):
        for _ in range(500):
            if claim.path.stat().st_mtime > old + 500:
                break
            time.sleep(0.01)
        assert claim.path.stat().st_mtime > old + 500
        claim.path.unlink()
        time.sleep(0.05)
    run_lock.release(claim)
    assert list(tmp_path.iterdir()) == []


def test_claims_are_counted_beyond_four_digits(tmp_path: Path) -> None:
    for number in (9999, 10000):
        (tmp_path / f"claim-{number}").write_text("{}\nreleased\n")
    taken = run_lock.acquire(tmp_path)
    assert taken is not None and taken.number == 10001


def test_what_earlier_claims_took_is_from_their_making_to_their_last_touch(tmp_path: Path) -> None:
    for held in (30.0, 12.0):
        claim = run_lock.acquire(tmp_path)
        began = json.loads(claim.path.read_text())["began"]
        run_lock.release(claim)
        os.utime(claim.path, (began + held, began + held))
    assert run_lock.spent(tmp_path, 1) == 0
    assert run_lock.spent(tmp_path, 3) == pytest.approx(42.0, abs=0.01)
    left_by(tmp_path, began=0.0)
    assert run_lock.spent(tmp_path, 4) is None


@pytest.mark.parametrize("seconds", [-1e4, -1e9])
def test_a_claim_dated_in_the_future_expires(seconds: float, tmp_path: Path) -> None:
    age(left_by(tmp_path, machine="another"), seconds)
    assert not run_lock.is_held(run_lock.latest(tmp_path))
    assert run_lock.acquire(tmp_path) is not None


@pytest.mark.parametrize("changes", [{"pid": "text"}, {"pid": 10**30}, {"pid": -1}, {"started": None}, {"job": 3}])
def test_a_claim_of_no_process_ends_when_it_is_old(changes: dict, tmp_path: Path) -> None:
    age(left_by(tmp_path, **changes), 2 * run_lock.STALE_AFTER)
    assert not run_lock.is_held(run_lock.latest(tmp_path))


def test_claims_with_numbers_of_any_size_are_counted_at_once(tmp_path: Path) -> None:
    for number in ("²", "x", "1e3", "9" * 40):
        (tmp_path / f"claim-{number}").write_text("{}\nreleased\n")
    taken = run_lock.acquire(tmp_path)
    assert taken is not None and taken.number == 10**40
    assert run_lock.spent(tmp_path, taken.number) is None


def test_claims_where_nothing_can_be_written_are_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(**_: object) -> None:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    path = left_by(tmp_path, machine="another")
    monkeypatch.setattr(run_lock.tempfile, "NamedTemporaryFile", refuse)
    assert run_lock.is_held(run_lock.latest(tmp_path))
    age(path, 2 * run_lock.STALE_AFTER)
    assert not run_lock.is_held(run_lock.latest(tmp_path))


def test_a_claim_that_cannot_be_written_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(run_lock.os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        run_lock.acquire(tmp_path)
    assert list(tmp_path.iterdir()) == []
