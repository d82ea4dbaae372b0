"""Slurm as values: what a job asks of it, with a lab's own defaults, and what is in its queue."""

import dataclasses
import os
import re
import subprocess
import tomllib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from manifold_lab.core.errors import InputError, at_least, one_of
from manifold_lab.core.files import read_file

TABLE, ENVIRONMENT = "[tool.manifold_lab.slurm]", "MANIFOLD_LAB_SLURM_"
WHOLE = re.compile("-?[0-9]{1,9}")
QUEUE_TIMEOUT = 60
"""Seconds that Slurm's commands may take to answer."""
QUEUE_COLUMNS = "%j|%K|%T|%N|%r|%i"
"""Job's name, place in its array, state, nodes, reason why it waits, number."""


@dataclass(frozen=True)
class Slurm:
    """What each job asks of Slurm; what is left empty is left to Slurm.

    Defaults are read from the table [tool.manifold_lab.slurm] of the working folder's pyproject.toml and, before it,
    from variables such as MANIFOLD_LAB_SLURM_PARTITION, in which ; separates the parts of a list.
    """

    partition: str = ""
    account: str = ""
    qos: str = ""
    time: str = ""
    """Limit as Slurm writes it: minutes, or days-hours:minutes:seconds."""
    gpus: int = 0
    """For each process."""
    cpus: int = 0
    """For each process."""
    mem: str = ""
    """Of each node, such as 16G."""
    nodes: int = 1
    """Over which the processes of a run are spread."""
    parallel: int = 0
    """Jobs of an array at a time; 0 for as many as there is room for."""
    notice: int = 90
    """Seconds before its limit at which a job is told, gives its run back and is queued again."""
    requeues: int = 100
    """How often a job may start again before its run counts as failed."""
    setup: tuple[str, ...] = ()
    """Lines of shell before the work, such as: module load cuda."""
    extra: tuple[str, ...] = ()
    """Further options of sbatch, such as constraint=a100."""

    def __post_init__(self) -> None:
        """Refuse numbers that mean nothing, and characters that would end a line of the job's script."""
        for name, least in {"gpus": 0, "cpus": 0, "nodes": 1, "parallel": 0, "notice": 1, "requeues": 0}.items():
            at_least(f"slurm.{name}", getattr(self, name), least)
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            for given in (value,) if isinstance(value, str) else value if isinstance(value, tuple) else ():
                plain_text(f"slurm.{field.name}", given)
        for option in self.extra:
            if option.startswith("-"):
                raise InputError(f"slurm.extra: {option!r} is not allowed; write name=value, without dashes")


def plain_text(field: str, value: str) -> None:
    """Refuse control characters, of which a newline would start another line of a job's script.

    Raises:
        InputError: naming the field and the text.
    """
    if not value.replace("\t", " ").isprintable():
        raise InputError(f"{field}: {value[:60]!r} is not allowed; it must have no control characters")


def readable_defaults() -> Slurm:
    """The options of a lab, or Slurm's own where those cannot be read: only who submits jobs has to know."""
    try:
        return defaults()
    except InputError:
        return Slurm()


def defaults(folder: Path = Path()) -> Slurm:
    """The options of a lab: what `Slurm` says.

    Raises:
        InputError: for an option that does not exist, or a value that is none.
    """
    fields = {field.name: type(field.default) for field in dataclasses.fields(Slurm)}
    settings = {
        name: os.environ[ENVIRONMENT + name.upper()] for name in fields if ENVIRONMENT + name.upper() in os.environ
    }
    return Slurm(**{name: _value(name, fields, value) for name, value in (_table(folder) | settings).items()})


def _table(folder: Path) -> dict[str, Any]:
    path = folder / "pyproject.toml"
    try:
        found = tomllib.loads(read_file(path).decode())
    except OSError:
        return {}
    except (ValueError, RecursionError) as error:  # also text that is not UTF-8
        raise InputError(f"slurm: {path} cannot be read ({' '.join(str(error).split())[:100]})") from None
    for name in ("tool", "manifold_lab", "slurm"):
        found = found.get(name, {})
        if not isinstance(found, dict):
            raise InputError(f"slurm: {path} cannot be read ({name} is no table)")
    return found


def _value(name: str, fields: dict[str, type], value: Any) -> Any:
    kind = fields[one_of(TABLE, name, fields)]
    if kind is tuple and isinstance(value, str):
        return tuple(value.split(";"))
    if kind is tuple and isinstance(value, list) and all(isinstance(part, str) for part in value):
        return tuple(value)
    if kind is str and isinstance(value, str | int) and not isinstance(value, bool):
        return str(value)
    if kind is int and (type(value) is int or (isinstance(value, str) and WHOLE.fullmatch(value))):
        return int(value)
    allowed = {int: "a whole number", str: "a text", tuple: "a list of texts"}[kind]
    raise InputError(f"slurm.{name}: {str(value)[:60]!r} is not allowed; it must be {allowed}")


@dataclass(frozen=True)
class Queued:
    """One job in the queue: a task of an array, under the array's name."""

    name: str
    task: int
    state: str
    nodes: str
    reason: str
    number: str

    @property
    def where(self) -> str:
        """In words."""
        if self.state == "PENDING":
            return f"job {self.number} waits ({self.reason})"
        return f"job {self.number} on {self.nodes or 'a node'}" + ("" if self.state == "RUNNING" else f", {self.state}")


def queue(names: Iterable[str]) -> list[Queued]:
    """The jobs of these names that wait, run or end just now, whoever owns them; without accounting.

    Raises:
        InputError: where Slurm does not answer.
    """
    wanted = ",".join(names)
    if not wanted:
        return []
    lines = ask(["squeue", "-h", "-r", "-o", QUEUE_COLUMNS, f"--name={wanted}"]).splitlines()
    parts = [line.strip().split("|") for line in lines if line.count("|") == QUEUE_COLUMNS.count("|")]
    return [Queued(name, int(task) if task.isascii() and task.isdigit() else 0, *rest) for name, task, *rest in parts]


def largest_array() -> int:
    """How many jobs Slurm takes in one array.

    Raises:
        InputError: as `queue`.
    """
    settings = [line.split("=") for line in ask(["scontrol", "show", "config"]).splitlines() if "=" in line]
    return max(1, int({name.strip(): value.strip() for name, value, *_ in settings}.get("MaxArraySize", "1001")))


def ask(command: list[str]) -> str:
    """What one of Slurm's commands says.

    Raises:
        InputError: with its complaint, in one line.
    """
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=QUEUE_TIMEOUT, check=False)
    except FileNotFoundError:
        raise InputError(f"slurm: there is no {command[0]} on this machine; use a login node of the cluster") from None
    except subprocess.TimeoutExpired:
        raise InputError(f"slurm: {command[0]} did not answer in {QUEUE_TIMEOUT} s; try again") from None
    if done.returncode:
        raise InputError(f"slurm: {command[0]} refused: {' '.join(done.stderr.split())[:300]}")
    return done.stdout
