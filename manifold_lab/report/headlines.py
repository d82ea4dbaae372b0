"""A figure's title: its message in one sentence, which the verdict of a claim decides."""

from collections.abc import Sequence
from dataclasses import dataclass

from manifold_lab.core.statistics import FAILS, HOLDS, NOT_RUN
from manifold_lab.report import claims
from manifold_lab.report.tables import ClaimResult


@dataclass(frozen=True)
class Headline:
    """The sentences of a claim, by verdict.

    Args:
        claim: how the ids of the rows that decide it begin.
        holds: where they hold together.
        fails: where they fail.
        undecided: where they do neither.
    """

    claim: str
    holds: str
    fails: str
    undecided: str


def headline(found: Sequence[ClaimResult], said: Headline) -> str:
    """The sentence of the verdict that the rows of a claim have together, as the texts combine them.

    >>> headline([], Headline("fig1.kept", "kept", "lost", "open"))
    'Not run yet'
    """
    rows = [one.record() for one in found if one.id.startswith(said.claim)]
    verdict = claims.combined(rows) if rows else NOT_RUN
    return {HOLDS: said.holds, FAILS: said.fails, NOT_RUN: "Not run yet"}.get(verdict, said.undecided)
