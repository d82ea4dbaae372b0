"""A figure's title: its message in one sentence, which the verdict of a claim decides."""

from collections.abc import Sequence
from dataclasses import dataclass

from manifold_lab.core.statistics import FAILS, HOLDS, NOT_RUN, UNDECIDED
from manifold_lab.report.claims.verdicts import combined, decided
from manifold_lab.report.plots import data_name
from manifold_lab.report.tables import ClaimResult


@dataclass(frozen=True)
class Headline:
    """The sentences of a claim, by verdict.

    Args:
        claim: how the ids of the rows that decide it begin; rows of several claims have to say the same.
        holds: where they hold together.
        fails: where they fail.
        undecided: where they do neither; by default, that it is undecided whether they hold.
        not_run: where none of them has runs.
    """

    claim: str
    holds: str
    fails: str
    undecided: str = ""
    not_run: str = "Not run yet"

    @property
    def open(self) -> str:
        """Where they neither hold nor fail."""
        first, rest = self.holds[0], self.holds[1:]
        plain = not any(map(str.isupper, rest.partition(" ")[0]))  # a name such as ReLU6 keeps its capital
        return self.undecided or f"Whether {first.lower() if plain else first}{rest} is undecided"


def headline(found: Sequence[ClaimResult], messages: Headline) -> str:
    """The sentence of the verdict that the rows of a claim have together, as the texts combine them.

    Where they are not decided on every data set, it names those on which they are, and how the others stand.

    >>> headline([], Headline("fig1.kept", "kept", "lost", "open"))
    'Not run yet'
    """
    rows = [one for one in found if one.id.startswith(messages.claim)]
    claims = list(_by_part(rows, 0).values())
    verdict = _agreed(claims)
    if verdict not in (HOLDS, FAILS):
        return messages.not_run if verdict == NOT_RUN else messages.open
    sentence = messages.holds if verdict == HOLDS else messages.fails
    on = set[str].intersection(*({_part(row, 1) for row in decided(claim)} for claim in claims))
    others = {data: mine for data, mine in _by_part(rows, 1).items() if data not in on}
    if not others:
        return sentence
    if not on:
        return messages.open
    stand = "; ".join(f"{data_name(data)}: {_standing(mine)}" for data, mine in others.items())
    return f"{sentence}, on {' and '.join(map(_name, sorted(on)))} ({stand})"


def _agreed(claims: Sequence[Sequence[ClaimResult]]) -> str:
    """What several claims say together: what all of them do, and undecided where they differ."""
    verdicts = {combined(claim) for claim in claims} or {NOT_RUN}
    return verdicts.pop() if len(verdicts) == 1 else UNDECIDED


def _standing(rows: Sequence[ClaimResult]) -> str:
    return NOT_RUN if all(row.verdict == NOT_RUN for row in rows) else UNDECIDED


def _part(row: ClaimResult, place: int) -> str:
    """A part of an id: the claim, then the data set where it has one."""
    return [*row.id.split("/"), ""][place]


def _by_part(rows: Sequence[ClaimResult], place: int) -> dict[str, list[ClaimResult]]:
    parts = dict.fromkeys(_part(row, place) for row in rows)
    return {part: [row for row in rows if _part(row, place) == part] for part in parts}


def _name(data: str) -> str:
    """A data set within a sentence."""
    return {"digits": "the digits"}.get(data, data_name(data))
