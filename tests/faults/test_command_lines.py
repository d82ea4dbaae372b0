"""Random command lines and environments of a study, and local processes where the machine's name does not resolve."""

import contextlib
import dataclasses
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from manifold_lab.__main__ import main as console_script
from manifold_lab.core.config import key
from manifold_lab.core.errors import InputError
from manifold_lab.models.specs import NetworkSpec
from manifold_lab.probe.options import ProbeOptions
from manifold_lab.report.options import ReportOptions
from manifold_lab.spiral import SpiralOptions
from manifold_lab.sweeps import runner, study_commands
from tests.faults import study_of_faults as faulty
from tests.faults.test_disks_and_signals import stopped_child

pytestmark = pytest.mark.slow

COMMANDS = ("plan", "run", "worker", "status", "publish", "", "stauts", "--help", "run status")
OPTIONS = ("--runs", "--only", "--workers", "--launcher", "--out", "--images", "--smoke", "--retry-damaged", "--job",
           "--processes-per-run", "--runs-per-job", "--slurm.gpus", "--slurm.setup", "--slurm.extra", "--every", "-x",
           "--wrokers")  # fmt: skip
VALUES = ("", "0", "-1", "1", "2.5", "nan", "inf", str(10**30), "²", "x" * 300, "a\nb", "\x1b[0m", "loop", "file",
          "/dev/null", "/proc/none", "here", "print", "slurm", "pool ", "[red]", "--", "'", "ü",
          "none/" * 200)  # fmt: skip
ENVIRONMENT = (
    "MANIFOLD_LAB_SLURM_GPUS", "MANIFOLD_LAB_SLURM_SETUP", "SLURM_RESTART_COUNT", "WORLD_SIZE", "MANIFOLD_LAB_JOB",
)  # fmt: skip


def words(rng: random.Random) -> list[str]:
    found = rng.choice(COMMANDS).split()
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
        message = capsys.readouterr().err
        assert status in (0, 1, 2), (turn, given)
        assert "Traceback" not in message and len(message) <= 301 and message.count("\n") <= 1, (turn, given, message)
        sample.tried("random command line", f"status {status}")
        shutil.rmtree(root)


KINDS = {"spiral": SpiralOptions, "probe": ProbeOptions, "report": ReportOptions, "network": NetworkSpec}
MORE = ("cuda:²", "cuda:99", "cpu", "2", "8", "spiral", "digits", "timm:", ":", "os:getcwd", "nonlinearity", "\\", "~")


def line_of_a_command(rng: random.Random) -> list[str]:
    name = rng.choice((*KINDS, *KINDS, "", "sprial", "x" * 400))
    found, options = [name], [f"--{f.name}" for f in dataclasses.fields(KINDS.get(name, ReportOptions))]
    found += rng.choice((["digits"], ["cifar"], [], ["²"])) if name == "network" else []
    found += ["--model", "digits"] if name == "probe" and rng.random() < 0.7 else []
    for _ in range(rng.randrange(3)):
        found.append(rng.choice((*options, *options, "--nope")))
        found += [rng.choice(rng.choice((VALUES, MORE, ("1", "4", "16")))) for _ in range(rng.choice((0, 1, 1, 1, 2)))]
    return found


def test_random_command_lines_of_the_package_end_in_one_line(tmp_path: Path, monkeypatch, capsys, sample) -> None:
    """Up to the work itself, in a folder that is no checkout."""

    def work(*_given: object, **_named: object) -> None:
        raise InputError("work would begin")

    monkeypatch.setattr("manifold_lab.spiral.pipeline.survey", work)
    monkeypatch.setattr("manifold_lab.probe.command.probe_images", work)
    (tmp_path / "file").touch()
    (tmp_path / "loop").symlink_to("loop")
    monkeypatch.chdir(tmp_path)
    for turn in range(sample.size(60, 500)):
        given = line_of_a_command(random.Random(f"package {turn}"))
        with sample.without_hanging():
            try:
                status = console_script(given)
            except SystemExit as stop:  # of --help
                status = stop.code
        message = capsys.readouterr().err
        assert status in (0, 2) and message.count("\n") == (status == 2), (turn, given, message)
        assert "Traceback" not in message and len(message) <= 301, (turn, given, message)
        reached = "work would begin" in message
        sample.tried("random command line of the package", "work would begin" if reached else f"status {status}")


def test_status_needs_no_environment(tmp_path: Path, monkeypatch, capsys) -> None:
    faulty.make(tmp_path)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "pyproject.toml").write_text("[")
    for name in ENVIRONMENT:
        monkeypatch.setenv(name, "abc")
    assert study_commands.main(faulty.STUDY, ["status"]) == 0 and "3 done" in capsys.readouterr().out
    assert study_commands.main(faulty.STUDY, ["run"]) == 2 and capsys.readouterr().err.count("\n") == 1


@pytest.mark.parametrize(
    "message",
    [{"WORLD_SIZE": "x"}, {"WORLD_SIZE": "0"}, {"WORLD_SIZE": "2"}, {"WORLD_SIZE": "2", "RANK": "x"},
     {"WORLD_SIZE": "2", "RANK": "0", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "x"}],
)  # fmt: skip
def test_processes_that_are_not_there_are_one_line(
    message: dict[str, str], tmp_path: Path, monkeypatch, capsys
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("RANK", "MASTER_ADDR", "MASTER_PORT"):
        monkeypatch.delenv(name, raising=False)
    for name, value in message.items():
        monkeypatch.setenv(name, value)
    assert study_commands.main(faulty.STUDY, ["worker", key(faulty.DONE)]) == 2
    complaint = capsys.readouterr().err
    assert complaint.startswith("error: ") and complaint.count("\n") == 1 and "WORLD_SIZE" in complaint


def test_who_waits_for_other_processes_hears_a_stop(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))  # and does not listen
        port = str(nobody.getsockname()[1])
        for name, value in {"WORLD_SIZE": "2", "RANK": "1", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}.items():
            monkeypatch.setenv(name, value)
        child = os.fork()
        if child == 0:
            stopped_child(tmp_path / "log", "worker", key(faulty.DONE))
        time.sleep(5)
        os.kill(child, signal.SIGINT)
        deadline = time.monotonic() + 100
        while not (ended := os.waitpid(child, os.WNOHANG))[0] and time.monotonic() < deadline:
            time.sleep(0.1)
        if not ended[0]:
            os.kill(child, signal.SIGKILL)
    assert os.waitstatus_to_exitcode(ended[1]) == 130
    (message,) = (line for line in (tmp_path / "log").read_text().splitlines() if not line.startswith("[W"))
    assert message.startswith("stopped; ")


MEETING = """
import os
import torch
from torch import distributed
distributed.init_process_group("gloo")
value = torch.ones(1)
distributed.all_reduce(value)
os.write(1, f"sum {int(value)}\\n".encode())  # at once: two processes write into one pipe
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
