import contextlib
import errno
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from manifold_lab.core.errors import InputError
from manifold_lab.core.files import DAY, READY, WRITING, check_folder, publish, settle, text


def test_all_files_appear_with_their_content(tmp_path: Path) -> None:
    written = publish(tmp_path / "new" / "folder", {"a.txt": text("α\n"), "b.txt": text("b")})
    assert [path.read_bytes() for path in written] == ["α\n".encode(), b"b"]
    assert sorted(path.name for path in (tmp_path / "new" / "folder").iterdir()) == ["a.txt", "b.txt"]


def test_a_full_disk_leaves_every_earlier_file_and_nothing_else(tmp_path: Path) -> None:
    publish(tmp_path, {"a.txt": text("old")})

    def full(path: Path) -> None:
        path.write_text("half")
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with pytest.raises(InputError, match="No space left on device"):
        publish(tmp_path, {"a.txt": text("new"), "b.txt": full})
    assert [path.name for path in tmp_path.iterdir()] == ["a.txt"]
    assert (tmp_path / "a.txt").read_text() == "old"


def test_a_real_full_device_is_one_message() -> None:
    if not Path("/dev/full").exists():
        pytest.skip("this system has no /dev/full")
    with pytest.raises(InputError, match="cannot write"):
        publish(Path("/dev/full"), {"a.txt": text("x")})


def test_a_folder_that_is_a_file_is_refused_before_any_work(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for folder in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(InputError, match="name another folder"):
            check_folder(folder)


def test_checking_a_folder_does_not_make_it(tmp_path: Path) -> None:
    check_folder(tmp_path / "not" / "yet")
    assert list(tmp_path.iterdir()) == []


SLOW = """
import sys, time
from pathlib import Path
from manifold_lab.core import files
def slow(path):
    path.write_text("half"); print("writing", flush=True); time.sleep(60)
def moved(scratch, folder, names):
    (scratch / "a.txt").replace(folder / "a.txt"); print("moving", flush=True); time.sleep(60)
if sys.argv[2] == "moving":
    files._move = moved
second = slow if sys.argv[2] == "writing" else files.text("new")
files.publish(Path(sys.argv[1]), {"a.txt": files.text("new"), "b.txt": second})
"""


@contextlib.contextmanager
def publishing(folder: Path, until: str) -> Iterator[None]:
    """Another process that publishes a.txt and b.txt, alive at this point of it, killed afterwards."""
    command = [sys.executable, "-c", SLOW, str(folder), until]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None and process.stdout.readline() == f"{until}\n"
    try:
        yield
    finally:
        process.send_signal(signal.SIGKILL)
        process.communicate()


def hidden(folder: Path) -> list[str]:
    return [path.name for path in folder.iterdir() if path.name.startswith(".")]


def test_a_kill_while_writing_leaves_the_earlier_file_whole_and_the_next_publication_sweeps_up(tmp_path: Path) -> None:
    publish(tmp_path, {"a.txt": text("old")})
    with publishing(tmp_path, "writing"):
        publish(tmp_path, {"c.txt": text("c")})
        assert len(hidden(tmp_path)) == 1, "what a living process writes stays"
    assert (tmp_path / "a.txt").read_text() == "old"
    assert not (tmp_path / "b.txt").exists()
    publish(tmp_path, {"c.txt": text("c")})
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.txt", "c.txt"]


def test_after_a_kill_between_two_moves_the_next_publication_makes_the_rest(tmp_path: Path) -> None:
    publish(tmp_path, {"a.txt": text("old"), "b.txt": text("old")})
    with publishing(tmp_path, "moving"):
        settle(tmp_path)
        assert [(tmp_path / name).read_text() for name in ("a.txt", "b.txt")] == ["new", "old"]
    publish(tmp_path, {"c.txt": text("c")})
    assert [(tmp_path / name).read_text() for name in ("a.txt", "b.txt")] == ["new", "new"]
    assert hidden(tmp_path) == []


@pytest.mark.parametrize("name", [f"{WRITING}0a1b2c3d-1-abc", f"{READY}0a1b2c3d-1-abc", ".writing-of-an-older-version"])
def test_what_another_machine_left_is_removed_after_a_day_and_not_before(name: str, tmp_path: Path) -> None:
    (tmp_path / name).mkdir()
    (tmp_path / name / "a.txt").write_text("theirs")
    publish(tmp_path, {"a.txt": text("ours")})
    assert hidden(tmp_path) == [name]
    os.utime(tmp_path / name, (time.time() - 1.01 * DAY,) * 2)
    publish(tmp_path, {"b.txt": text("ours")})
    assert hidden(tmp_path) == [] and (tmp_path / "a.txt").read_text() == "ours"


def test_what_cannot_be_written_leaves_no_folder(tmp_path: Path) -> None:
    for name in ("x" * 300, "there"):
        (tmp_path / "there" / "there").mkdir(parents=True, exist_ok=True)
        with pytest.raises(InputError, match="nothing was changed"):
            publish(tmp_path / "new" / "folder" if name != "there" else tmp_path / "there", {name: text("x")})
    assert [path.name for path in tmp_path.iterdir()] == ["there"] and not hidden(tmp_path / "there")
