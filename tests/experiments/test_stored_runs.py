"""Every stored run is found again from its spec, whatever has been moved and renamed since."""

import dataclasses
import json
import subprocess
import typing
from pathlib import Path
from typing import Any

import pytest

from manifold_lab.core.config import key
from manifold_lab.sweeps import information_run, inversion_run, probe_run
from manifold_lab.sweeps.training_run import TrainingRun

ROOT = Path(__file__).parent.parent.parent


def restored(kind: type, stored: object) -> object:
    """A spec from its JSON, by the annotations of its class; a record has a field's name of its day."""
    if dataclasses.is_dataclass(kind) and isinstance(stored, dict):
        hints = typing.get_type_hints(kind)
        fields = dataclasses.fields(kind)
        known = {name: field.name for field in fields for name in (field.name, field.metadata.get("key_name"))}
        return kind(**{known[name]: restored(hints[known[name]], value) for name, value in stored.items()})
    return tuple(restored(object, part) for part in stored) if isinstance(stored, list) else stored


def tracked() -> list[Path]:
    command = ["git", "ls-files", "runs/*/*/result.json"]
    message = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout
    return [ROOT / name for name in message.split()]


def kind(folder: str, record: dict[str, Any]) -> type:
    """The class that a record names, where a class of another file has the same name by the folder too."""
    classes = {"Trial": TrainingRun, "Look": probe_run.ProbeRun, "Training": probe_run.ProbedTraining,
               "RepairRun": information_run.RepairRun, "InversionRun": inversion_run.InversionRun}  # fmt: skip
    if folder == "ext_information" and record["kind"] == "Look":
        return information_run.InformationRun
    return classes[record["kind"]]


@pytest.mark.parametrize("folder", ["trials", "ext_information", "ext_dimension", "ext_inversion", "fig7_activations"])
def test_every_stored_run_has_the_key_of_its_spec(folder: str) -> None:
    paths = [path for path in tracked() if path.parts[-3] == folder]
    assert paths
    for path in paths:
        record = json.loads(path.read_text(encoding="utf-8"))
        assert key(restored(kind(folder, record), record["spec"])) == path.parent.name == record["key"]
