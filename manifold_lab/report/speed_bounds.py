"""What bounds the aims of speed that are not met: a sentence each, with the numbers of the benchmarks that show it."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from manifold_lab.report.speed_table import COVARIANCE, FOLDER, MET, MOBILENET, lines, measured, readable

Place = tuple[str, Mapping[str, str], str]
"""A number of a benchmark: its csv file without the ending, the texts that its line has by column, and its column."""


@dataclass(frozen=True)
class Bound:
    """Why an aim is not met.

    Args:
        sentence: with columns of the aim's own line, and `numbers`, in braces.
        numbers: of other lines, by their name in the sentence.
    """

    sentence: str
    numbers: Mapping[str, Place] = field(default_factory=dict)


def _seconds(work: str) -> Place:
    return ("start_up", {"work": work}, "seconds")


COSTLIEST = "every run of the tests ends with the files and the tests that cost most"
BOUNDS: Mapping[str, Bound] = {
    "x_hat": Bound(
        "at its worst it uses {share_of_arithmetic} of the machine's arithmetic and {share_of_bandwidth} "
        "of its bandwidth. Neither is the bound: the sorting and searching of edges is, and the passes over x̂ itself"
    ),
    "names": Bound(
        "of {seconds} s the import of torch takes {peer_seconds}; the libraries of the default command, with nothing "
        "of ours, take {libraries}",
        {"libraries": _seconds("its libraries")},
    ),
    "default command": Bound(
        "of {seconds} s of CPU time, loading its libraries takes {libraries} (torch alone {peer_seconds}); loading "
        "them, drawing the two figures and writing them takes {figures}. The rest is measurement and tables",
        {"libraries": _seconds("its libraries"), "figures": _seconds("its libraries and figures")},
    ),
    "covariance": Bound(
        "the median of {ratio} is within the limit, the upper end of its interval, {high}, is not: it is products of "
        "channels that take the time, of all positions {whole} times a plain forward",
        {"whole": ("probe", {"network": MOBILENET, "contestant": f"{COVARIANCE} of all positions"}, "ratio")},
    ),
    "untrained": Bound("the median of {ratio} is within the limit, the upper end of its interval, {high}, is not"),
    "memory": Bound(
        "at its worst the peak is {peak_mib} MiB, {peak_ratio} times a plain forward's and {peak_besides_compiler} "
        "times that of one with the compiler loaded: kept positions and a copy of one layer's batch are the rest"
    ),
    "explorer": Bound(
        "at its worst the page's own script takes {script_ms} ms of a frame of {frame_ms}; the rest is the browser's, "
        "which draws without a graphics card there"
    ),
    "suite all": Bound(
        "{minutes} minutes; the {tests} tests take {test_minutes} one after the other, {costliest_minutes} of them in "
        f"`{{costliest}}`; {COSTLIEST}"
    ),
    "suite fast": Bound(f"{{minutes}} minutes; {COSTLIEST}"),
    "study 10000": Bound("`{command}` takes {seconds} s: a file or two are opened for each run"),
    "study 100000": Bound("`{command}` takes {seconds} s: a file or two are opened for each run"),
}
"""By the name of the aim."""


def speed_bounds(root: Path) -> str:
    """A line for every aim that was measured and is not met."""
    found = [
        f"- {one.aim.work}: {_filled(root, BOUNDS[one.aim.name], one.now)}."
        for one in measured(root)
        if one.now and one.verdict != MET and one.aim.name in BOUNDS
    ]
    return "\n".join(found) or "Every aim that was measured is met."


def _filled(root: Path, bound: Bound, line: Mapping[str, str]) -> str:
    numbers = {name: _number(root, *place) for name, place in bound.numbers.items()}
    return bound.sentence.format_map(readable(dict(line)) | numbers)


def _number(root: Path, file: str, where: Mapping[str, str], column: str) -> str:
    found = (one for one in lines(root / FOLDER / f"{file}.csv") if where.items() <= one.items())
    return next((one[column] for one in found), "(not run)")
