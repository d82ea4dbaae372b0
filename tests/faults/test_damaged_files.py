"""Every file of a stored run is damaged in many ways, and every command is given the folder.

A run that is damaged may be shown so, or be as good as before; no number differs in silence, no healthy run is touched,
no command hangs or ends with a traceback.
"""

import os
import random
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from manifold_lab.core.config import key
from manifold_lab.sweeps import store, study_commands
from tests.faults import study_of_faults as faulty

pytestmark = pytest.mark.slow

COMMANDS = (
    "status",
    "plan",
    "publish --out out",
    "run",
    "run --retry-damaged",
    "run --retry-failed",
    "worker",
    "status --every",
)
NUMBERS = (b"NaN", b"Infinity", b"-1e999", b"7.5", b"null", b'"text"', b"1" + b"0" * 30, b"[[[]]]", b"{}")


def flipped(content: bytes, rng: random.Random) -> bytes:
    place = rng.randrange(len(content))
    return content[:place] + bytes([content[place] ^ 1 << rng.randrange(8)]) + content[place + 1 :]


def cut(content: bytes, rng: random.Random) -> bytes:
    return content[: rng.randrange(len(content))]


def lost(content: bytes, rng: random.Random) -> bytes:
    place = rng.randrange(len(content))
    return content[:place] + content[place + rng.randrange(1, 9) :]


def doubled(content: bytes, rng: random.Random) -> bytes:
    place = rng.randrange(len(content))
    return content[:place] + content[max(0, place - 20) :]


def overwritten(content: bytes, rng: random.Random) -> bytes:
    place = rng.randrange(len(content))
    return content[:place] + rng.randbytes(8) + content[place + 8 :]


def other_number(content: bytes, rng: random.Random) -> bytes:
    digits = [place for place in range(len(content)) if content[place : place + 1].isdigit()]
    if not digits:
        return b"7.5"
    place = rng.choice(digits)
    end = place
    while content[end : end + 1].isdigit():
        end += 1
    return content[:place] + rng.choice(NUMBERS) + content[end:]


def deep(_content: bytes, rng: random.Random) -> bytes:
    return b'{"numbers": ' + b"[" * rng.choice((100, 900, 100_000))


def foreign(_content: bytes, rng: random.Random) -> bytes:
    return rng.choice(
        (b"", b"[]", b"{}", b"null", b"3", b"\xff\xfe", b"\0" * 100, b'{"state": "done"}', b"{}\nreleased\n")
    )


CONTENTS = (flipped, cut, lost, doubled, overwritten, other_number, deep, foreign)
PLACES: dict[str, Callable[[Path], Any]] = {
    "removed": lambda _: None,
    "folder": Path.mkdir,
    "pipe": os.mkfifo,
    "loop": lambda path: path.symlink_to(path.name),
    "dangling link": lambda path: path.symlink_to("nowhere"),
    "device": lambda path: path.symlink_to("/dev/zero"),
    "full folder": lambda path: (path / "inner").mkdir(parents=True),
}


def damage(path: Path, rng: random.Random) -> str:
    """Harm one file; the name of the harm."""
    if rng.random() < 0.25:
        name = rng.choice(list(PLACES))
        path.unlink()
        PLACES[name](path)
        return name
    harm = rng.choice(CONTENTS)
    path.write_bytes(harm(path.read_bytes(), rng))
    return harm.__name__


def files(root: Path) -> list[Path]:
    """Every file of the runs that may be harmed, and the folder of one."""
    found = [path for spec in faulty.SPECS if spec != faulty.HEALTHY for path in faulty.folder(root, spec).iterdir()]
    return sorted(path for path in found if path.is_file())


def arguments(command: str, harmed: str) -> list[str]:
    return [*command.split(), *([harmed] if command == "worker" else [])]


def sound(root: Path, spec: faulty.Spec) -> str:
    """The state of a run after a fault: done only with the very numbers and history of before."""
    (run,) = store.read_runs(root / "runs" / "faulty", [spec])
    if run.state != store.DONE:
        assert not run.numbers
        return f"{run.state} is said"
    wanted = faulty.measure(spec, root)
    if run.verified:
        assert dict(run.numbers) == wanted.numbers, "a number differs in silence"
        assert [float(row["accuracy"]) for row in store.history(run)] == [row["accuracy"] for row in wanted.history]
    return "as before" if run.verified else "readable, without a digest"


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("whole")
    faulty.make(root)
    return root


def test_damage_of_any_file_under_any_command(whole: Path, tmp_path: Path, monkeypatch, capsys, sample) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    count = sample.size(120, 1500)
    for turn in range(count):
        rng, root = random.Random(turn), tmp_path / str(turn)
        shutil.copytree(whole, root)
        monkeypatch.chdir(root)
        paths = files(root)
        path = paths[turn % len(paths)]
        harm, command = damage(path, rng), COMMANDS[turn // len(paths) % len(COMMANDS)]
        with sample.without_hanging():
            status = study_commands.main(faulty.STUDY, arguments(command, path.parent.name))
        complaint = capsys.readouterr().err
        assert status in (0, 1, 2), (turn, harm, path, command)
        assert complaint.count("\n") <= 1 and "Traceback" not in complaint, (turn, complaint)
        spec = next(spec for spec in faulty.SPECS if key(spec) == path.parent.name)
        sample.tried(f"{path.name.partition('-')[0]} {harm}", sound(root, spec))
        assert sound(root, faulty.HEALTHY) == "as before", (turn, harm, path, command)
        shutil.rmtree(root)


def test_anything_in_the_place_of_a_run_s_folder(whole: Path, tmp_path: Path, monkeypatch, capsys, sample) -> None:
    for turn, command in enumerate(COMMANDS):
        for name in ("pipe", "loop", "dangling link", "device", "file"):
            root = tmp_path / f"{turn} {name}"
            shutil.copytree(whole, root)
            monkeypatch.chdir(root)
            path = faulty.folder(root, faulty.DONE)
            shutil.rmtree(path)
            (Path.touch if name == "file" else PLACES[name])(path)
            with sample.without_hanging():
                status = study_commands.main(faulty.STUDY, arguments(command, path.name))
            complaint = capsys.readouterr().err
            assert status in (0, 1, 2) and complaint.count("\n") <= 1, (command, name, complaint)
            assert sound(root, faulty.HEALTHY) == "as before"
            sample.tried(f"run's folder {name}", sound(root, faulty.DONE))


def test_what_was_damaged_is_redone_when_asked(whole: Path, tmp_path: Path, monkeypatch, sample) -> None:
    for turn in range(sample.size(20, 200)):
        rng, root = random.Random(f"redo {turn}"), tmp_path / str(turn)
        shutil.copytree(whole, root)
        monkeypatch.chdir(root)
        path = faulty.folder(root, faulty.DONE) / ("result.json", "history.csv")[turn % 2]
        harm = damage(path, rng)
        before = sound(root, faulty.DONE)
        with sample.without_hanging():
            study_commands.main(faulty.STUDY, ["run", "--retry-damaged"])
            study_commands.main(faulty.STUDY, ["run"])
        assert sound(root, faulty.DONE) == "as before", (turn, harm, path)
        sample.tried("redone when asked", before)
