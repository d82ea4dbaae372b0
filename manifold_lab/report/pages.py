"""Blocks of the texts that lead a reader: findings, a first probe, the experiments, every figure with its command."""

import ast
import json
import re
from pathlib import Path

import torch

from manifold_lab.core.files import read_text
from manifold_lab.core.random_streams import stream
from manifold_lab.models.weights import mobilenet_v2
from manifold_lab.probe import Probe
from manifold_lab.report.answers import Answer, answer_list, answers
from manifold_lab.report.tables import cell, markdown

PROBED = ("layer", "channels", "threshold", "active_min", "active_mean")
"""Columns of README's first probe."""
PROBED_ROWS = 5
COMMANDS_PER_CARD = re.compile(r"^(Paper|Claims|Run|Differs) +(.+(?:\n {2,}.+)*)", re.MULTILINE)


def findings(root: Path) -> str:
    """What README begins with: a sentence each, with what it rests on."""
    found = sorted((one for one in answers() if one.readme), key=lambda one: one.readme)
    return answer_list(found, root, _more)


def _more(one: Answer) -> str:
    return (
        f"([figure]({one.link}), [more](paper_repro.md#the-answers))"
        if one.figure
        else f"([more](paper_repro.md{one.link}))"
    )


def probe_frame(_root: Path) -> str:
    """What README's first probe prints: the layers of an untrained MobileNetV2, shown noise."""
    model = mobilenet_v2(width=0.35).eval()
    with torch.inference_mode(), Probe(model) as probe:
        model(torch.randn(4, 3, 224, 224, generator=stream(0, "images")))
    shown = [[cell(row[name]) for name in PROBED] for row in probe.table()[:PROBED_ROWS]]
    return markdown(PROBED, shown)


def card(path: Path) -> tuple[str, dict[str, str]]:
    """The title of an experiment's file and the entries of its card, each on one line."""
    title, _, entries = (ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or "").partition("\n")
    return title, {name: " ".join(entry.split()) for name, entry in COMMANDS_PER_CARD.findall(entries)}


def experiments(root: Path) -> str:
    """Every experiment's lab card: its title, what it decides, and its command."""
    rows = []
    for path in sorted((root / "experiments").glob("[!_]*.py")):
        title, entries = card(path)
        rows.append([f"[{path.stem}]({path.name})", title, entries["Claims"], entries["Paper"], f"`{entries['Run']}`"])
    return markdown(("experiment", "what it is", "claims it decides", "paper", "run"), rows)


def gallery(root: Path) -> str:
    """Every published figure, what it is, and the command that makes it."""
    return "\n\n".join(_shown(root, path) for path in sorted((root / "figures").glob("*.png")))


def _shown(root: Path, path: Path) -> str:
    study = root / "experiments" / f"{path.stem}.py"
    if study.is_file():
        title, entries = card(study)
        run = entries["Run"]
        command = run if run.endswith("publish") else f"{run}\npython -m experiments.{path.stem} publish"
    else:
        title, command = path.stem.replace("_", " ") + ".", _command_of(path)
    return f"## {path.stem}\n\n{title}\n\n![{title}](../figures/{path.name})\n\n```console\n{command}\n```"


def _command_of(path: Path) -> str:
    """What the json file beside a figure says of its command; of several figures of one command, the first has it."""
    stems = [path.stem.rsplit("_", parts)[0] for parts in range(path.stem.count("_") + 1)]
    known = next(one for stem in stems if (one := path.with_name(f"{stem}.json")).is_file())
    return str(json.loads(read_text(known))["command"])
