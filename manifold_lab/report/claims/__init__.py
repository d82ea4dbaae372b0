"""Papers' claims as data, each joined with the published numbers that decide it.

`claims.toml` says what the paper claims and which rows of `figures/<stem>_claims.csv` decide it; `neighbours/` holds a
file of the same form for every other paper. Nothing there is a number of ours.
"""

import json
import math
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache, cached_property
from importlib.resources import files
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Any

from manifold_lab.core.durations import duration
from manifold_lab.core.errors import InputError
from manifold_lab.core.files import read_text
from manifold_lab.core.statistics import NOT_RUN
from manifold_lab.report.claims.verdicts import NOT_TESTABLE, combined, verdict_counts
from manifold_lab.report.claims.verdicts import VERDICTS as VERDICTS
from manifold_lab.report.tables import MISSING, ClaimResult, claim_value, command_of, read_claims, verdict_text

FEW = 6
"""So many rows are reported one by one."""
SUFFIX = "_claims.csv"
"""Of the names of the files that hold a study's claims."""
COMMIT_DIGITS = 7
"""Digits of a commit that readers see."""


def study_of(claim_id: str) -> str:
    """The study that publishes the rows of an id; empty for none."""
    return claim_id.partition(".")[0]


def published_rows(root: Path, claim_id: str) -> list[ClaimResult]:
    """The rows of an id and of the ids below it, as `tab_block.inverted/cifar10` has; empty without a publication."""
    path = root / "figures" / f"{study_of(claim_id)}{SUFFIX}"
    found = read_claims(read_text(path)) if path.is_file() else []
    return [row for row in found if row.id == claim_id or row.id.startswith((f"{claim_id}/", f"{claim_id}."))]


@dataclass(frozen=True)
class Claim:
    """What somebody claims: where, what, with which number; and the id of the rows that decide it, or why none can."""

    place: str
    says: str
    on: str = ""
    printed: str = ""
    decided_by: str = ""
    why: str = ""
    section: str = ""


@dataclass(frozen=True)
class Erratum:
    """What is printed wrongly, and the ids of the rows that show it."""

    number: int
    says: str
    shown: Sequence[str]


@dataclass(frozen=True)
class ClaimVerdict:
    """A claim beside the rows that decide it, and how these came to be."""

    claim: Claim
    lines: Sequence[ClaimResult]
    made: dict[str, Any] = field(default_factory=dict)

    @property
    def stem(self) -> str:
        """The experiment; empty where there is none."""
        return study_of(self.claim.decided_by)

    @cached_property
    def verdict(self) -> str:
        """One of VERDICTS."""
        return combined(self.lines) if self.stem else NOT_TESTABLE

    @property
    def within(self) -> str:
        """Of a single undecided row, within how much, and what would decide; of several `value` says it.

        Where rows were not run, the runs that their study lacks, and what they would take.
        """
        if any(row.verdict == NOT_RUN for row in self.lines):
            return self.lacking
        return verdict_text(self.lines[0]).removeprefix(self.verdict) if len(self.lines) == 1 else ""

    @property
    def measured(self) -> str:
        """What was measured, or why nothing was; of several rows what they share."""
        if not self.lines:
            return self.claim.why or MISSING
        shared = ", ".join(_shared(self.lines)) if len(self.lines) <= FEW else ""
        return shared or f"rows of figures/{self.stem}_claims.csv"

    @property
    def value(self) -> str:
        """The number with interval and n; of a few rows each, by what sets it apart; of many how many hold."""
        if len(self.lines) <= 1:
            return claim_value(self.lines[0]) if self.lines else MISSING
        if len(self.lines) > FEW or all(math.isnan(row.estimate.value) for row in self.lines):
            return f"of {len(self.lines)}, {verdict_counts(row.verdict for row in self.lines)}"
        shared = _shared(self.lines)
        apart = [", ".join(part for part in _parts(row) if part not in shared) for row in self.lines]
        parts = [f"{what or row.says}: {claim_value(row)} {verdict_text(row)}"
                for what, row in zip(apart, self.lines, strict=True)]  # fmt: skip
        return "; ".join(parts)

    @property
    def command(self) -> str:
        """What runs it again."""
        return self.lines[0].command if self.lines else command_of(self.stem) if self.stem else ""

    @property
    def commit(self) -> str:
        """The code that measured, in short."""
        return ", ".join(dict.fromkeys(_short(commit) for commit in self.made.get("commits", ()))) or MISSING

    @property
    def cost(self) -> str:
        """What it took."""
        least = "at least " if self.made.get("least") else ""
        return least + duration(self.made["seconds"]) if "seconds" in self.made else MISSING

    @property
    def lacking(self) -> str:
        """The runs that its study lacks, and what they would take one after another; empty where it lacks none."""
        missing, seconds = self.made.get("missing"), self.made.get("missing_seconds")
        took = "" if seconds is None else f": about {duration(seconds)} one after another"
        return f" ({missing} runs of {self.stem} are missing{took})" if missing else ""


def _parts(row: ClaimResult) -> list[str]:
    return row.measure.split(", ")


def _shared(rows: Sequence[ClaimResult]) -> list[str]:
    """The parts of their measures that all rows have."""
    return [part for part in _parts(rows[0]) if all(part in _parts(row) for row in rows)]


def _short(commit: str) -> str:
    code, *changed = commit.split(maxsplit=1)
    return " ".join([code[:COMMIT_DIGITS], *changed])


@dataclass(frozen=True)
class Paper:
    """A paper and what it claims, in its order."""

    name: str
    arxiv: str
    title: str
    claims: tuple[Claim, ...]


@cache
def _registry() -> dict[str, Any]:
    return _loaded(files(__package__).joinpath("claims.toml"))


def _loaded(file: Traversable) -> dict[str, Any]:
    return tomllib.loads(file.read_text(encoding="utf-8"))


def _paper(registry: Mapping[str, Any]) -> Paper:
    return Paper(**registry["paper"], claims=tuple(Claim(**entry) for entry in registry["claim"]))


def paper_claims() -> tuple[Claim, ...]:
    """What the paper claims, in its order."""
    return _paper(_registry()).claims


@cache
def neighbour_papers() -> tuple[Paper, ...]:
    """The papers beside it whose claims are tested here, by their numbers, the oldest first."""
    folder = files(__package__).joinpath("neighbours")
    return tuple(sorted((_paper(_loaded(file)) for file in folder.iterdir()), key=lambda paper: paper.arxiv))


def neighbours_verdicts(root: Path) -> list[ClaimVerdict]:
    """Every claim of theirs beside the rows that decide it."""
    return verdicts(root, [claim for paper in neighbour_papers() for claim in paper.claims])


def paper_errata() -> tuple[Erratum, ...]:
    """The paper's errata, by number."""
    return tuple(Erratum(**entry) for entry in _registry()["erratum"])


def evidence(erratum: Erratum, root: Path) -> list[tuple[str, str, str]]:
    """What shows an erratum: what was measured, the value, the command that measures it again."""
    found = []
    for shown in erratum.shown:
        rows, study = published_rows(root, shown), study_of(shown)
        found += [(f"{row.says}: {row.measure}", claim_value(row), row.command) for row in rows]
        found += [] if rows else [(f"experiment {study}", NOT_RUN, command_of(study))]
    return found


def published(root: Path) -> dict[str, list[ClaimResult]]:
    """Every experiment's claims as published, by stem.

    Raises:
        InputError: where there are none at all.
    """
    paths = sorted((root / "figures").glob(f"*{SUFFIX}"))
    if not paths:
        raise InputError(f"root: {root / 'figures'} holds no claims; name a checkout whose experiments are published")
    return {path.name.removesuffix(SUFFIX): read_claims(read_text(path)) for path in paths}


def verdicts(root: Path, asked: Iterable[Claim] | None = None) -> list[ClaimVerdict]:
    """Every claim, by default the paper's, beside the rows that decide it."""
    found = []
    for claim in paper_claims() if asked is None else asked:
        rows = published_rows(root, claim.decided_by)
        found.append(ClaimVerdict(claim, rows, _made(root, study_of(claim.decided_by)) if rows else {}))
    return found


def beyond_the_paper(root: Path) -> list[ClaimVerdict]:
    """What was decided besides: the published rows that no claim and no erratum asks for, each a claim of its own."""
    asked = {row.id for finding in [*verdicts(root), *neighbours_verdicts(root)] for row in finding.lines}
    asked |= {row.id for erratum in paper_errata() for shown in erratum.shown for row in published_rows(root, shown)}
    return [
        ClaimVerdict(Claim(row.place, row.says, decided_by=row.id), [row], _made(root, stem))
        for stem, rows in published(root).items()
        for row in rows
        if row.id not in asked
    ]


def _made(root: Path, stem: str) -> dict[str, Any]:
    path = root / "figures" / f"{stem}.json"
    if not path.is_file():
        return {}
    try:
        return dict(json.loads(read_text(path)))
    except (ValueError, TypeError):
        raise InputError(f"{path} is damaged: publish it anew") from None
