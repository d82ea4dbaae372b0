"""The frame of every command: one line for bad input, an orderly stop for signals, whatever the terminal is."""

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import time
import warnings
import weakref
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from manifold_lab.core import cli
from manifold_lab.core.errors import InputError


@dataclass(frozen=True)
class Options:
    """None to speak of."""

    number: int = 0


def run(action, *arguments: str) -> int:
    return cli.run_cli(Options, action, "a command", list(arguments))


def refuse(_: Options) -> None:
    raise InputError("field: " + "many\nfaults, " * 10_000)


def interrupt(_: Options) -> None:
    os.kill(os.getpid(), signal.SIGINT)


@pytest.fixture
def heard() -> Iterator[None]:
    """The handlers of a terminal, also where the tests run in the background."""
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}
    for number in before:
        signal.signal(number, signal.SIG_DFL)
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


def test_a_message_is_one_line_of_300_characters_at_most(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(refuse) == 2
    message = capsys.readouterr().err
    assert message.startswith("error: field: many faults") and message.count("\n") == 1 and len(message) <= 301


def test_a_word_that_is_no_value_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(refuse, "--number", "x" * 10_000) == 2
    assert len(capsys.readouterr().err) <= 301


def test_what_the_system_refuses_is_one_line_with_the_reason_at_its_end(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def read(_: Options) -> None:
        (tmp_path / ("long" * 75)).read_text()

    assert run(read) == 2
    message = capsys.readouterr().err
    assert len(message) <= 301 and message.endswith("(File name too long)\n") and str(tmp_path)[:20] in message


@pytest.mark.parametrize("error", [MemoryError(), RuntimeError("[enforce] can't allocate memory: you tried\n to")])
def test_too_little_memory_is_one_line(error: Exception, capsys: pytest.CaptureFixture[str]) -> None:
    def ask(_: Options) -> None:
        raise error

    assert run(ask) == 2
    assert re.fullmatch("error: memory: .*; ask for less\n", capsys.readouterr().err)
    with pytest.raises(RuntimeError, match="another"):
        run(lambda _: _raise(RuntimeError("another")))


def test_warnings_of_libraries_are_not_ours() -> None:
    def warn(module: str) -> None:
        warnings.warn_explicit("CUDA is too old", UserWarning, "a file", 1, module=module)

    assert run(lambda _: warn("torch.cuda")) == 0
    with pytest.raises(UserWarning):  # as this project's tests have it
        run(lambda _: warn("manifold_lab.core"))


def _raise(error: Exception) -> None:
    raise error


def test_a_reader_that_has_had_enough_is_no_error() -> None:
    command = [sys.executable, "-c", "import sys; from manifold_lab.core import cli; from tests.core.test_cli import *;"
               "sys.exit(run(lambda _: [print('x' * 1000) for _ in range(1000)] and None))"]  # fmt: skip
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None and process.stderr is not None
        process.stdout.readline()
        process.stdout.close()
        assert (process.stderr.read(), process.wait()) == ("", 128 + signal.SIGPIPE)


def test_another_pipe_that_breaks_is_said(capfd: pytest.CaptureFixture[str]) -> None:
    def write(_options: object) -> None:
        theirs, ours = os.pipe()
        os.close(theirs)
        with contextlib.closing(os.fdopen(ours, "wb", buffering=0)) as pipe:
            pipe.write(b"x")

    assert run(write) == 2
    assert capfd.readouterr().err == "error: the system refuses: Broken pipe\n"


def test_closed_output_is_one_line(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(sys, "stdout", None)
    assert run(lambda _: None) == 2
    assert capsys.readouterr().err == "error: output: it is closed; send it to a file or to /dev/null\n"
    monkeypatch.setattr(sys, "stderr", None)
    assert run(lambda _: None) == 2


@pytest.mark.usefixtures("heard")
@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM", "SIGHUP"])
def test_a_signal_stops_in_one_line_and_more_of_them_do_not_disturb_the_end(
    name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    number, ended = getattr(signal, name), []

    def action(_: Options) -> None:
        try:
            os.kill(os.getpid(), number)
        finally:
            for other in (signal.SIGINT, number, signal.SIGTERM):
                os.kill(os.getpid(), other)
            ended.append("in order")

    assert run(action) == 128 + number
    assert capsys.readouterr().err == "stopped; nothing was written\n" and ended == ["in order"]
    assert signal.getsignal(number) is signal.SIG_DFL


class Held:
    """Something that a weak reference can be to."""


@pytest.mark.usefixtures("heard")
def test_a_stop_that_a_library_loses_is_tried_again(capsys: pytest.CaptureFixture[str]) -> None:
    def action(_: Options) -> None:
        held = Held()
        _kept = weakref.ref(held, lambda _: os.kill(os.getpid(), signal.SIGINT))
        del held  # what is raised in the callback goes nowhere
        time.sleep(30)
        raise AssertionError("nobody has stopped")

    assert run(action) == 130 and capsys.readouterr().err == "stopped; nothing was written\n"


@pytest.mark.usefixtures("heard")
def test_a_signal_stops_again_when_the_end_takes_too_long(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cli, "PATIENCE", 0.2)
    heard = []

    def action(_: Options) -> None:
        for _number in range(2):
            try:
                os.kill(os.getpid(), signal.SIGINT)
            except KeyboardInterrupt:
                heard.append("stopped")
            time.sleep(0.3)

    assert run(action) == 0 and heard == ["stopped", "stopped"]


@pytest.mark.usefixtures("heard")
def test_what_was_ignored_stays_ignored() -> None:
    signal.signal(signal.SIGHUP, signal.SIG_IGN)  # as nohup has it
    assert run(lambda _: os.kill(os.getpid(), signal.SIGHUP)) == 0


def stopped_everywhere(action, folder: Path, number: int) -> list[tuple[int, str]]:
    """How a process ends that gets a signal at each line of the frame's own code, with what it says.

    One child goes through the lines; at each it leaves a child of its own, which gets the signal and goes on alone.
    """
    child = os.fork()
    if child:
        os.waitpid(child, 0)
        return json.loads((folder / "ends").read_text())
    found: list[tuple[int, str]] = []
    log = os.open(folder / "log", os.O_RDWR | os.O_CREAT | os.O_APPEND)

    def trace(frame, event, _):
        if frame.f_code.co_filename not in (cli.__file__, contextlib.__file__):
            return None
        if event == "line":
            size, grandchild = os.fstat(log).st_size, os.fork()
            if not grandchild:
                forget(frame)
                os.kill(os.getpid(), number)
                return None
            status = os.waitstatus_to_exitcode(os.waitpid(grandchild, 0)[1])
            found.append((status, (folder / "log").read_text()))
            os.ftruncate(log, size)  # but for what was said before that line
        return trace

    def forget(frame) -> None:
        sys.settrace(None)
        while frame is not None:
            frame.f_trace, frame = None, frame.f_back

    traced, status = os.getpid(), 99
    try:
        os.dup2(log, 2)
        sys.stderr = os.fdopen(2, "w")
        sys.settrace(trace)
        status = run(action)
        sys.settrace(None)
        if os.getpid() == traced:
            (folder / "ends").write_text(json.dumps(found))
    finally:
        os._exit(status)


@pytest.mark.slow
@pytest.mark.usefixtures("heard")
@pytest.mark.parametrize(
    ("action", "message"), [(lambda _: None, ""), (refuse, "error: field"), (interrupt, "stopped")]
)
def test_a_signal_at_any_line_of_the_frame_ends_in_order(action, message: str, tmp_path: Path) -> None:
    """Killed as by the signal, stopped in one line, or ended before it came; never by an error that nobody catches.

    What was refused before the signal came stays said.
    """
    alone, ends = run(action), stopped_everywhere(action, tmp_path, signal.SIGTERM)
    for step, (status, said) in enumerate(ends):
        assert status in (-signal.SIGTERM, 128 + signal.SIGTERM, alone), (step, status, said)
        assert said.count("\n") <= 1 + said.startswith("error: ") and "Traceback" not in said, (step, said)
    assert len(ends) > 20 and ends[-1][1].startswith(message)
