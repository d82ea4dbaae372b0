import errno
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from manifold_lab.errors import InputError
from manifold_lab.files import check_folder, publish, text


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


def test_a_kill_while_writing_leaves_the_earlier_file_whole(tmp_path: Path) -> None:
    publish(tmp_path, {"a.txt": text("old")})
    code = (
        "import sys, time; from pathlib import Path; from manifold_lab.files import publish, text\n"
        "def slow(path):\n    path.write_text('half'); print('writing', flush=True); time.sleep(60)\n"
        "publish(Path(sys.argv[1]), {'a.txt': text('new'), 'b.txt': slow})"
    )
    process = subprocess.Popen([sys.executable, "-c", code, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None and process.stdout.readline() == "writing\n"
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert (tmp_path / "a.txt").read_text() == "old"
    assert not (tmp_path / "b.txt").exists()
