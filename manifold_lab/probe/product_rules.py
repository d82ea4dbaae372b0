"""Where the channels are behind products: matrix products, einsum and attention, all read as one sum over letters."""

import string
from collections.abc import Callable
from typing import Any

from torch import Tensor

from manifold_lab.probe.axis_rules import Axes, Origin, tensors

MULTIPLIED = frozenset({"matmul", "rmatmul", "bmm", "mm", "addmm", "baddbmm"})
EINSUM = "einsum"
ATTENTION = "scaled_dot_product_attention"
SUMS = MULTIPLIED | {EINSUM, ATTENTION}
"""Functions that sum over products of two tensors."""


OriginOf = Callable[[Tensor], Origin | None]
Factor = tuple[str, Origin | None]
"""The letters of a tensor's dimensions, and what is known of it."""


def behind_product(origin_of: OriginOf, name: str, args: tuple[Any, ...]) -> Axes | None:
    """The axes of the result of a function of `SUMS`."""
    if name == ATTENTION:
        return _attended(origin_of, args)
    equation, factors = _einsum(args) if name == EINSUM else _matrices(name, args)
    written, arrow, result = equation.replace(" ", "").partition("->")
    terms = written.split(",")
    if not arrow or len(terms) != len(factors) or not all(isinstance(x, Tensor) for x in factors):
        return None
    rest = max((x.dim() - len(term.replace("...", "")) for term, x in zip(terms, factors, strict=True)), default=0)
    spelled = [_spelled(term, x.dim()) for term, x in zip(terms, factors, strict=True)]
    found = list(zip(spelled, map(origin_of, factors), strict=True))
    return axes_of_sum(found, _spelled(result, len(result.replace("...", "")) + rest * ("..." in result)))


def _einsum(args: tuple[Any, ...]) -> tuple[str, list[Tensor]]:
    equation, rest = args[0], args[1:]
    return (equation if isinstance(equation, str) else ""), list(tensors(rest))


def _matrices(name: str, args: tuple[Any, ...]) -> tuple[str, list[Any]]:
    left, right = args[1:3] if name in ("addmm", "baddbmm") else args[:2]
    if name == "rmatmul":
        left, right = right, left
    square = all(isinstance(x, Tensor) and x.dim() >= 2 for x in (left, right))
    return "...ik,...kj->...ij" if square else "", [left, right]


def _spelled(term: str, dimensions: int) -> str:
    """A term with capitals for its dots, so that the last dimensions under the dots of all terms are the same."""
    under = dimensions - len(term.replace("...", ""))
    return term.replace("...", string.ascii_uppercase[26 - under :] if under else "")


def axes_of_sum(factors: list[Factor], result: str) -> Axes | None:
    """The axes of a sum over the letters that the result does not have.

    A sum over channels with a parameter makes new channels, as a linear layer does; over channels of both factors, it
    leaves none of them; over positions, the channels stay. What sums over the channels of one factor and something else
    of the other is not known.
    """
    data = [(letters, known) for letters, known in factors if known is None or not known.constant]
    held = "".join(letters for letters, known in factors if known is not None and known.constant)
    made = {letter for letter in result if letter in held and not any(letter in letters for letters, _ in data)}
    if any(known is None or known.axes is None for _, known in data):
        return (len(result) - 1,) if len(data) == 1 and result[-1:] in made else None
    channels = [(letters, {letters[axis] for axis in known.axes or ()}) for letters, known in data if known is not None]
    gone = {letter for letters, _ in channels for letter in letters if letter not in result}
    mixed = {letter for letter in gone if 0 < sum(letter in own for _, own in channels)
             < sum(letter in letters for letters, _ in channels)}  # fmt: skip
    if mixed:
        return None
    counted = set[str]().union(*(own for _, own in channels))
    new = made if any(letter in held for letter in gone & counted) else set[str]()
    return tuple(place for place, letter in enumerate(result) if letter in counted | new)


def _attended(origin_of: OriginOf, args: tuple[Any, ...]) -> Axes | None:
    """Behind attention: where the values have them, unless it attends over them."""
    values = next(tensors(args[2:3]), None)
    known = None if values is None else origin_of(values)
    if values is None or known is None or known.axes is None or values.dim() - 2 in known.axes:
        return None
    return known.axes
