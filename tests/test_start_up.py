"""Start-up: what a command answers without loading torch, and the console script."""

import importlib
import importlib.metadata
import json
import os
import signal
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import manifold_lab
from manifold_lab import __main__ as console_script
from manifold_lab.probe import MEASURES
from manifold_lab.probe.names import MEASURE_NAMES

ROOT = Path(__file__).resolve().parents[1]
SLOW = {"torch", "numpy", "scipy", "pandas", "matplotlib", "numba"}
"""Libraries that take from a tenth of a second to seconds to load."""
ANSWERS = {
    "manifold_lab --version": 0,
    "manifold_lab --help": 0,
    "manifold_lab spirl": 2,
    "manifold_lab spiral --help": 0,
    "manifold_lab network --help": 0,
    "manifold_lab probe --help": 0,
    "manifold_lab report --help": 0,
    "manifold_lab.spiral --version": 0,
    "manifold_lab.network --version": 0,
    "manifold_lab.network digits --help": 0,
    "manifold_lab.network timm:resnet18 --resolution -1": 2,
    "manifold_lab.probe --model digits --measures activ": 2,
    "manifold_lab.probe --model digits --images 0": 2,
    "manifold_lab.probe": 2,
    "manifold_lab.spiral --drawz 5": 2,
    "manifold_lab.spiral --dims 0": 2,
    "manifold_lab.spiral --activation rellu": 2,
    "manifold_lab.spiral --manifold sprial": 2,
    "manifold_lab.spiral --style nature": 2,
    "manifold_lab.spiral --out /dev/null/here": 2,
    "manifold_lab.network mobilenet_v2 --width 0": 2,
    "manifold_lab.report --chek": 2,
}


STUDIES = sorted(path.stem for path in (ROOT / "experiments").glob("[!_]*.py"))
HELP = {f"experiments.{name} --help": 0 for name in STUDIES}
FORKED = """
import json, os, runpy, sys
import tyro
folder = sys.argv[1]
for place, command in enumerate(json.load(sys.stdin)):
    child = os.fork()
    if child == 0:
        for descriptor, name in ((1, "out"), (2, "err")):
            os.dup2(os.open(f"{folder}/{place}.{name}", os.O_WRONLY | os.O_CREAT), descriptor)
        (module, *words), status = command.split(), 0
        sys.argv, sys.orig_argv = ["-m", *words], [sys.executable, "-m", module, *words]  # as python -m has them
        try:
            runpy.run_module(module, run_name="__main__", alter_sys=True)
        except SystemExit as stop:
            status = stop.code or 0
        sys.stdout.flush()
        with open(f"{folder}/{place}.json", "w") as file:
            json.dump([status, sorted({name.split(".")[0] for name in sys.modules})], file)
        os._exit(0)
    os.waitpid(child, 0)
"""
"""Each command in a fork of a process that has loaded the parser of options alone: most of a start is loading that."""
Answer = tuple[int, set[str], str]
"""Exit status, the top-level modules that were loaded, and what was printed."""


@pytest.fixture(scope="module")
def answers(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Answer]:
    folder, commands = tmp_path_factory.mktemp("answers"), [*ANSWERS, *HELP]
    subprocess.run([sys.executable, "-c", FORKED, folder], input=json.dumps(commands), text=True, check=True, cwd=ROOT)
    found = {}
    for place, command in enumerate(commands):
        status, loaded = json.loads((folder / f"{place}.json").read_text(encoding="utf-8"))
        found[command] = status, set(loaded), (folder / f"{place}.out").read_text(encoding="utf-8")
    return found


@pytest.mark.parametrize("command", [*ANSWERS, *HELP])
def test_help_and_refused_options_load_no_slow_library(command: str, answers: dict[str, Answer]) -> None:
    status, loaded, _ = answers[command]
    assert status == (ANSWERS | HELP)[command]
    assert "manifold_lab" in loaded and not SLOW & loaded


@pytest.mark.parametrize("name", STUDIES)
def test_help_of_an_experiment_says_what_it_tests_and_gives_two_examples(name: str, answers: dict[str, Answer]) -> None:
    said = answers[f"experiments.{name} --help"][2]
    assert all(f"{entry}: " in said for entry in ("Paper", "Claims", "Run", "Differs"))
    assert said.partition("examples:")[2].count(f"python -m experiments.{name} ") == 2
    assert "(default: reproduce)" in said and "(required)" not in said


ASKED = {"--help": 0, "publish --help": 0, "--version": 0, "publish --style nature": 2, "runn": 2, "--workers 0": 2}


def started(program: str, *words: str) -> tuple[subprocess.CompletedProcess[str], set[str]]:
    """`python -m program words` as a user types it, and the top-level modules that were loaded for it."""
    command = [sys.executable, "-X", "importtime", "-m", program, *words]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT)
    return done, {line.rpartition("|")[2].strip().split(".")[0] for line in done.stderr.splitlines() if "|" in line}


@pytest.mark.slow
@pytest.mark.parametrize("words", ASKED)
def test_an_experiment_answers_without_a_slow_library(words: str) -> None:
    done, loaded = started("experiments.fig6a_nonlinearity", *words.split())
    assert done.returncode == ASKED[words] and "manifold_lab" in loaded and not SLOW & loaded


@pytest.mark.parametrize("name", console_script.COMMANDS)
def test_help_of_a_command_gives_two_examples(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="0"):
        console_script.main([name, "--help"])
    assert capsys.readouterr().out.partition("examples:")[2].count(f"python -m manifold_lab.{name} ") == 2


def test_what_is_known_of_the_probe_before_torch_is_loaded_is_so() -> None:
    assert tuple(MEASURES) == MEASURE_NAMES


def test_importing_the_package_loads_no_slow_library() -> None:
    code = "import sys, manifold_lab; print(*{name.split('.')[0] for name in sys.modules})"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert not SLOW & set(loaded)


UNNEEDED = {
    "scipy.stats",
    "scipy.optimize",
    "scipy.spatial",
    "matplotlib.pyplot",
    "seaborn",
    "sklearn",
    "statsmodels",
    "numba",
}
"""What the default spiral does without, of which each takes from a fifth of a second to seconds to load."""


@pytest.mark.slow
def test_the_spiral_loads_no_library_that_it_does_without() -> None:
    code = "import sys, manifold_lab.spiral.pipeline; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert "torch" in loaded and not UNNEEDED & set(loaded)


STOPPED = {
    "manifold_lab spiral": signal.SIGINT,
    "manifold_lab network mobilenet_v2": signal.SIGTERM,
    "manifold_lab probe --model digits": signal.SIGHUP,
    "manifold_lab report": signal.SIGINT,
    "manifold_lab.probe --model digits": signal.SIGINT,
    "experiments.fig7_activations status": signal.SIGINT,
    "experiments.tab2_network publish": signal.SIGHUP,
}
HEARD = """
import os, signal, sys
for number in (signal.SIGINT, signal.SIGHUP):
    signal.signal(number, signal.SIG_DFL)
os.execv(sys.executable, [sys.executable, *sys.argv[1:]])
"""
"""Starts python as a terminal would, also where the tests run in the background."""
INTERRUPTED = """
import os
try:
    os.kill(os.getpid(), {number})
except KeyboardInterrupt:
    raise ImportError
"""


@pytest.mark.slow
@pytest.mark.parametrize("command", STOPPED)
def test_a_stop_while_libraries_load_is_one_line(command: str, tmp_path: Path) -> None:
    """A numpy of ours is interrupted while it loads, and makes something else of it, as compiled modules do."""
    number = STOPPED[command]
    (tmp_path / "numpy.py").write_text(INTERRUPTED.format(number=int(number)))
    words = [sys.executable, "-c", HEARD, "-m", *command.split()]
    environment = {**os.environ, "PYTHONPATH": str(tmp_path)}
    done = subprocess.run(words, capture_output=True, text=True, check=False, cwd=ROOT, env=environment)
    assert (done.returncode, done.stderr) == (128 + number, "stopped; nothing was written\n")


def test_every_public_name_is_its_modules() -> None:
    assert sorted(set(manifold_lab.__all__)) == sorted(manifold_lab.__all__)
    for name in manifold_lab.__all__:
        found = getattr(manifold_lab, name)
        home = getattr(found, "__module__", None)
        if isinstance(home, str) and home.startswith("manifold_lab."):
            assert getattr(importlib.import_module(home), name) is found
    assert manifold_lab.metrics is importlib.import_module("manifold_lab.metrics")
    with pytest.raises(AttributeError, match="no attribute 'sampel'"):
        _ = manifold_lab.sampel


def test_the_console_script_is_declared_and_knows_every_command() -> None:
    declared = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["scripts"]
    module, _, function = declared["manifold-lab"].partition(":")
    assert getattr(importlib.import_module(module), function) is console_script.main
    assert set(console_script.COMMANDS) == {"spiral", "network", "probe", "report"}


@pytest.mark.parametrize("name", console_script.COMMANDS)
def test_a_command_answers_as_its_module_does(name: str, capfd: pytest.CaptureFixture[str]) -> None:
    assert console_script.main([name, "--no-such-option"]) == 2
    output = capfd.readouterr().err
    assert output.startswith("error: ") and "--no-such-option" in output and len(output.splitlines()) == 1


def test_version_and_help_of_the_console_script(capsys: pytest.CaptureFixture[str]) -> None:
    assert console_script.main(["--version"]) == console_script.main(["--help"]) == 0
    version, *usage = capsys.readouterr().out.splitlines()
    assert version == importlib.metadata.version("manifold_lab")
    assert [line.split()[0] for line in usage if line.startswith("  ")] == ["spiral", "network", "probe", "report"]


def test_without_a_command_it_says_which_there_are(capsys: pytest.CaptureFixture[str]) -> None:
    assert console_script.main([]) == 0
    said = capsys.readouterr().out
    assert all(name in said for name in console_script.COMMANDS)


@pytest.mark.parametrize(("arguments", "message"), [(["spirl"], "did you mean 'spiral'"), ([""], "allowed: spiral")])
def test_an_unknown_command_is_one_line(arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert console_script.main(arguments) == 2
    output = capsys.readouterr().err
    assert message in output and len(output.splitlines()) == 1
