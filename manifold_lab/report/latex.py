"""A table as LaTeX with booktabs' rules, which a plain pdfLaTeX compiles whatever its cells hold."""

import re
from collections.abc import Iterable, Sequence
from functools import cache
from typing import Any

UNNAMEABLE = re.compile("[^A-Za-z0-9_.:-]")
"""What a label of LaTeX cannot hold."""
ACCENTS = {"\u0302": "hat", "\u0303": "tilde", "\u0304": "bar", "\u0307": "dot"}
"""Marks over the letter before them, as in x\u0302, for which many letters have no character of their own."""


def latex_table(caption: str, label: str, head: Sequence[str], body: Iterable[Sequence[str]]) -> str:
    """A table over both columns of a page, its first column to the left, its cells escaped."""
    import pandas as pd  # noqa: PLC0415  (a second that only these tables need)

    rows = [list(map(escaped, line)) for line in body]
    frame = pd.DataFrame(rows, columns=list(map(_stacked, head)))
    made = frame.style.hide(axis="index").to_latex(
        column_format="l" + "r" * (len(head) - 1),
        hrules=True,
        caption=escaped(caption),
        label=f"tab:{UNNAMEABLE.sub('-', label)}",
        position_float="centering",
        environment="table*",
    )
    return made.replace("\\centering\n", "\\centering\n\\footnotesize\\setlength{\\tabcolsep}{3pt}\n", 1)


def escaped(text: str) -> str:
    """Text on one line in which nothing is a command; a character that LaTeX does not know is shown as its number."""
    return str(_encoder().unicode_to_latex(" ".join(text.split())))


@cache
def _encoder() -> Any:
    from pylatexenc.latexencode import RULE_REGEX, UnicodeToLatexConversionRule, UnicodeToLatexEncoder  # noqa: PLC0415

    accents = [(re.compile(f"([A-Za-z]){mark}"), rf"\\ensuremath{{\\{name}{{\1}}}}") for mark, name in ACCENTS.items()]
    return UnicodeToLatexEncoder(
        conversion_rules=[UnicodeToLatexConversionRule(RULE_REGEX, accents), "defaults"],
        replacement_latex_protection="braces-after-macro",
        unknown_char_policy="unihex",
        unknown_char_warning=False,
    )


def _stacked(head: str) -> str:
    """A long head on two lines, the second from its parenthesis or its last word on."""
    words, _, rest = head.partition(" (")
    first, _, last = (words, "", f"({rest}") if rest else head.rpartition(" ")
    if rest or (len(head) > 10 and first):
        return f"\\shortstack[r]{{{escaped(first)}\\\\{escaped(last)}}}"
    return escaped(head)
