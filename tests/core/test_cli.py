"""The frame of every command: one line for bad input, an orderly stop for signals, whatever the terminal is."""

import os
import signal
import sys
from collections.abc import Iterator
from dataclasses import dataclass

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
    told = capsys.readouterr().err
    assert told.startswith("error: field: many faults") and told.count("\n") == 1 and len(told) <= 310


def test_a_word_that_is_no_value_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(refuse, "--number", "x" * 10_000) == 2
    assert len(capsys.readouterr().err) <= 310


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


@pytest.mark.usefixtures("heard")
def test_what_was_ignored_stays_ignored() -> None:
    signal.signal(signal.SIGHUP, signal.SIG_IGN)  # as nohup has it
    assert run(lambda _: os.kill(os.getpid(), signal.SIGHUP)) == 0
