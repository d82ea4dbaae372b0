"""Random command lines and environments of a study, and local processes where the machine's name does not resolve."""

import contextlib
import os
import random
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from manifold_lab.sweeps import runner, study_commands
from tests.faults import study_of_faults as faulty

VERBS = ("plan", "run", "cell", "status", "publish", "", "stauts", "--help", "run status")
OPTIONS = ("--runs", "--only", "--workers", "--launcher", "--out", "--pictures", "--smoke", "--retry-damaged", "--job",
           "--processes-per-cell", "--cells-per-job", "--slurm.gpus", "--slurm.setup", "--slurm.extra", "--every", "-x",
           "--wrokers")  # fmt: skip
VALUES = ("", "0", "-1", "1", "2.5", "nan", "inf", str(10**30), "²", "x" * 300, "a\nb", "\x1b[0m", "loop", "file",
          "/dev/null", "/proc/none", "here", "print", "slurm", "pool ", "[red]", "--", "'", "ü",
          "none/" * 200)  # fmt: skip
ENVIRONMENT = (
    "MANIFOLD_LAB_SLURM_GPUS", "MANIFOLD_LAB_SLURM_SETUP", "SLURM_RESTART_COUNT", "WORLD_SIZE", "MANIFOLD_LAB_JOB",
)  # fmt: skip


def words(rng: random.Random) -> list[str]:
    found = rng.choice(VERBS).split()
    for _ in range(rng.randrange(4)):
        found.append(rng.choice(OPTIONS))
        found += [rng.choice(VALUES) for _ in range(rng.randrange(3))]
    return found


def test_random_command_lines_end_in_one_line(tmp_path: Path, monkeypatch, capsys, sample) -> None:
    whole = tmp_path / "whole"
    faulty.make(whole)
    for turn in range(sample.size(60, 500)):
        rng, root = random.Random(turn), tmp_path / str(turn)
        shutil.copytree(whole, root)
        (root / "file").touch()
        (root / "loop").symlink_to("loop")
        (root / "pyproject.toml").write_text(rng.choice(("", "tool = 3", "[")))
        given, name = words(rng), rng.choice(ENVIRONMENT)
        with monkeypatch.context() as patch, sample.without_hanging():
            patch.chdir(root)
            patch.setenv(name, rng.choice(("abc", "-1", "²", "")))
            try:
                status = study_commands.main(faulty.STUDY, given)
            except SystemExit as stop:  # of --help
                status = stop.code
        told = capsys.readouterr().err
        assert status in (0, 1, 2), (turn, given)
        assert "Traceback" not in told and len(told) <= 310 and told.count("\n") <= 1, (turn, given, told)
        sample.tried("random command line", f"status {status}")
        shutil.rmtree(root)


def test_status_needs_no_environment(tmp_path: Path, monkeypatch, capsys) -> None:
    faulty.make(tmp_path)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "pyproject.toml").write_text("[")
    for name in ENVIRONMENT:
        monkeypatch.setenv(name, "abc")
    assert study_commands.main(faulty.STUDY, ["status"]) == 0 and "3 done" in capsys.readouterr().out
    assert study_commands.main(faulty.STUDY, ["run"]) == 2 and capsys.readouterr().err.count("\n") == 1


MEETING = """
import torch
from torch import distributed
distributed.init_process_group("gloo")
value = torch.ones(1)
distributed.all_reduce(value)
print("sum", int(value), flush=True)
distributed.destroy_process_group()
"""


RENAMED = """
hostname no-such-host
echo nameserver "$1" > "$2"
mount --bind "$2" /etc/resolv.conf
shift 2
exec "$@"
"""
SILENT = "127.9.9.9"


def can_rename() -> bool:
    """Whether this process may give a machine of its own another name and other name servers."""
    tried = ["unshare", "-u", "-m", "sh", "-e", "-c", "hostname no-such-host; mount --bind /dev/null /etc/resolv.conf"]
    try:
        return subprocess.run(tried, capture_output=True, check=False).returncode == 0
    except OSError:
        return False


def received(listener: socket.socket) -> list[bytes]:
    listener.setblocking(False)
    found = []
    with contextlib.suppress(BlockingIOError):
        while True:
            found.append(listener.recv(512))
    return found


@pytest.mark.skipif(not can_rename(), reason="this system lets no one give the machine another name")
def test_local_processes_meet_where_the_machine_s_name_does_not_resolve(tmp_path: Path, sample) -> None:
    """The name server is one that never answers: a socket of ours that nobody reads."""
    (tmp_path / "meeting.py").write_text(MEETING)
    meeting = [sys.executable, "-m", "torch.distributed.run", *runner.ON_LOOPBACK, "--nproc-per-node=2", "meeting.py"]
    with socket.socket(type=socket.SOCK_DGRAM) as silent:
        try:
            silent.bind((SILENT, 53))
        except OSError:
            pytest.skip("this machine answers as a name server itself")
        done = subprocess.run(
            ["unshare", "-u", "-m", "sh", "-e", "-c", RENAMED, "sh", SILENT, tmp_path / "servers", *meeting],
            **{"capture_output": True, "text": True, "cwd": tmp_path, "env": {**os.environ, **runner.TOGETHER}},
            timeout=400,
            check=False,
        )
        asked = received(silent)
    assert 0 < len(asked) == len(set(asked)), "a name is asked for again, after seconds"
    assert done.stdout.count("sum 2") == 2, done.stderr[-2000:]
    sample.tried("machine's name does not resolve", "processes meet")
