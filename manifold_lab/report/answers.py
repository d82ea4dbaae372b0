"""What a reader wants to know first: a sentence each, of published verdicts or of a study's published text."""

import tomllib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any

from manifold_lab.core.files import read_text
from manifold_lab.core.statistics import FAILS, HOLDS, NOT_RUN
from manifold_lab.report.claims import paper_errata, published_rows
from manifold_lab.report.tables import claim_sentence, percent


@dataclass(frozen=True)
class Part:
    """What one published row has to say in an answer, by its verdict.

    Args:
        row: the row's id.
        holds: in words, where it holds; `{value}` is its number, `{percent}` the same in percent.
        fails: in words, where it fails.
    """

    row: str
    holds: str = ""
    fails: str = ""

    def words(self, root: Path) -> str:
        """What it says, with the row's number; where it neither holds nor fails, which claim that is."""
        rows = published_rows(root, self.row)
        if not rows:
            return f"{NOT_RUN}: {self.row}"
        (row,) = rows
        said = {HOLDS: self.holds, FAILS: self.fails}.get(row.verdict)
        value = row.estimate.value
        return f"{row.verdict}: {row.says}" if said is None else said.format(value=value, percent=percent(value))

    def evidence(self, root: Path) -> list[str]:
        """What is claimed, with its verdict, what was measured, value, interval and n."""
        return [claim_sentence(row) for row in published_rows(root, self.row)] or [f"{NOT_RUN}: {self.row}"]


@dataclass(frozen=True)
class Answer:
    """One sentence of what a reader wants first, and what it rests on.

    Args:
        link: where the rest stands.
        part: the rows that it rests on, and what they say.
        about: what it is about.
        errata: whether it also says how many errata there are.
        readme: its place among the findings that README begins with; 0 where it is none.
        text: the study whose published text opens with the answer, in place of the parts; empty where none does.
    """

    link: str
    part: Sequence[Part]
    about: str = ""
    errata: bool = False
    readme: int = 0
    text: str = ""

    @property
    def figure(self) -> str:
        """The stem of the figure that its link leads to; empty for another link."""
        return Path(self.link).stem if self.link.startswith("figures/") else ""

    def sentence(self, root: Path) -> str:
        """The answer in plain words."""
        opening, *_ = self._published(root) or [""]
        if self.text:
            return opening.replace("*", "") or f"{NOT_RUN.capitalize()}: {self.text}."
        errata = [f"{len(paper_errata())} errata in all"] if self.errata else []
        return f"{self.about}: {'; '.join([*(part.words(root) for part in self.part), *errata])}."

    def evidence(self, root: Path) -> list[str]:
        """The rows that it rests on, or that stand beside it where a text says it."""
        return [line for part in self.part for line in part.evidence(root)]

    def details(self, root: Path) -> list[str]:
        """The paragraphs and tables of the published text behind its opening."""
        return self._published(root)[1:]

    def _published(self, root: Path) -> list[str]:
        path = root / "figures" / f"{self.text}_text.md"
        return read_text(path).strip().split("\n\n") if path.is_file() else []


FOLDED = ("", "<details><summary>what it rests on</summary>", "")


@cache
def answers() -> tuple[Answer, ...]:
    """All of them, in their order."""
    entries = tomllib.loads(files(__package__).joinpath("answers.toml").read_text(encoding="utf-8"))["answer"]
    return tuple(_answer(entry) for entry in entries)


def _answer(entry: Mapping[str, Any]) -> Answer:
    return Answer(**{**entry, "part": tuple(Part(**part) for part in entry["part"])})


def answer_list(found: Iterable[Answer], root: Path, link: Callable[[Answer], str]) -> str:
    """Answers as a list in markdown: the sentence, a link, and folded below it what it rests on.

    Args:
        found: in their order.
        root: the checkout.
        link: from an answer to its link in markdown.
    """
    return "\n\n".join(_item(place, one, root, link(one)) for place, one in enumerate(found, 1))


def _item(place: int, answer: Answer, root: Path, link: str) -> str:
    folded = [*FOLDED, *(f"- {line}" for line in answer.evidence(root)), "", "</details>"]
    indented = "\n".join(f"   {line}".rstrip() for line in folded)
    return f"{place}. **{answer.sentence(root)}** {link}\n{indented}"
