"""The table that docs/speed.md opens with: what should be how fast, and what the benchmarks' csv files say of it."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from manifold_lab.core.files import csv_rows, read_text
from manifold_lab.report.results_table import RESULT_HEAD
from manifold_lab.report.tables import MISSING, markdown, percent

Timings = Sequence[dict[str, str]]
"""A benchmark's csv file as it wrote it: numbers by column, each with the digits that it has there."""
FOLDER, BEFORE = "benchmarks", "before"
"""Where the csv files are, and the one of them that has the values before, with the commit that they are of."""
BEFORE_COLUMNS = ("aim", "value", "low", "high", "commit")
HEAD = ("work", "peer", "ratio, with interval", "limit", "before → after", "aim")
MET, NOT_MET, NOT_SHOWN = "met", "not met", "not shown"
NOT_RUN = "Not run."
INTERVAL = RESULT_HEAD[3]
MOBILENET, UNTRAINED, TRANSFORMER, DENSENET = "MobileNetV2", "MobileNetV2, untrained", "vit_b_16", "densenet121"
"""The networks of benchmarks/probe.py."""
COUNTS, COVARIANCE = "active", "active and covariance"
"""What it measures of them."""
MANIFOLDS, ACTIVATIONS = ("sphere", "swiss_roll", "torus", "blob"), ("gelu", "silu", "tanh", "relu6")
"""The cases of benchmarks/general.py."""
DECODERS = ("exact", "pinv", "affine")
"""Those of benchmarks/explorer.py."""
FORWARD = "plain forward"
TORCHS = "torch's layers"
"""The peer of benchmarks/training_step.py that is what training was before."""


@dataclass(frozen=True)
class Aim:
    """Something that should be fast, and where its measurement stands.

    Args:
        name: of its line in before.csv.
        work: what is timed.
        peer: what it is compared with.
        file: the csv file of its benchmark, without its ending.
        where: the texts that its lines have, by column; of several lines the worst one counts.
        limit: of the value.
        value: the column that the limit is for, and those of the ends of its interval.
        unit: of the value; empty for a ratio.
        at_least: whether the limit is a least value.
        named: columns that tell which line is the worst one.
    """

    name: str
    work: str
    peer: str
    file: str
    where: Mapping[str, tuple[str, ...]]
    limit: int | float
    value: tuple[str, str, str] = ("ratio", "low", "high")
    unit: str = ""
    at_least: bool = False
    named: tuple[str, ...] = ()

    def line(self, lines: Timings) -> dict[str, str]:
        """The line of a csv file that decides it; empty where there is none."""
        asked = self.where.items()
        found = [line for line in lines if line.get(self.value[0])
                 and all(line.get(column) in texts for column, texts in asked)]  # fmt: skip
        worst = min if self.at_least else max
        return worst(found, key=lambda one: float(one[self.value[0]]), default={})


def _start(name: str, works: tuple[str, ...], limit: int | float, beyond: bool = False) -> Aim:
    """An aim of benchmarks/start_up.py, which has seconds and those beyond the import of torch."""
    column, unit = ("beyond", " s more") if beyond else ("seconds", " s")
    value, named = (column, f"{column}_low", f"{column}_high"), ("work",) * (len(works) > 1)
    return Aim(name, ", ".join(works), "`import torch`", "start_up", {"work": works}, limit, value, unit, named=named)


def _probe(name: str, network: str, contestant: str, limit: int | float) -> Aim:
    """An aim of benchmarks/probe.py for the time of a pass."""
    where = {"network": (network,), "contestant": (contestant,)}
    return Aim(name, f"probe of {network}: {contestant}", FORWARD, "probe", where, limit)


def _study(runs: str, limit: int | float) -> Aim:
    """An aim of benchmarks/cluster.py."""
    where = {"runs": (runs,), "command": ("plan", "status", "publish")}
    work = f"`plan`, `status`, `publish` of {int(runs):,} runs"
    value, named = ("seconds", "", ""), ("command", "when")
    return Aim(f"study {runs}", work, MISSING, "cluster", where, limit, value, " s", named=named)


def _suite(name: str, limit: int | float) -> Aim:
    where = {"work": (name,)}
    work, value = f"tests on two cores: {name}", ("minutes", "", "")
    return Aim(f"suite {name}", work, MISSING, "suite", where, limit, value, " min")


AIMS = (
    Aim("manifolds", "sphere, swiss roll, torus, blob", "the default spiral", "general", {"case": MANIFOLDS}, 3,
        named=("case",)),
    Aim("activations", "GELU, SiLU, tanh, ReLU6 with bias", "the default spiral", "general", {"case": ACTIVATIONS}, 3,
        named=("case",)),
    Aim("x_hat", "x̂ of every point", "numpy loop", "spiral", {"work": ("x_hat",)}, 10, at_least=True,
        named=("dim", "dtype")),
    _start("import", ("import manifold_lab",), 0.5, beyond=True),
    _start("names", ("every public name",), 0.5, beyond=True),
    _start("answers", ("--help", "--version", "refused option"), 1),
    _start("default command", ("default command",), 4, beyond=True),
    Aim("training", "a training step of the ablations on one thread", TORCHS, "training_step",
        {"work": ("step",), "peer": (TORCHS,)}, 1.5, at_least=True),
    _probe("covariance", MOBILENET, COVARIANCE, 1.5),
    _probe("untrained", UNTRAINED, COUNTS, 1.3),
    _probe("transformer", TRANSFORMER, COUNTS, 1.5),
    _probe("densenet", DENSENET, COUNTS, 1.5),
    Aim("memory", "probe's peak of memory", f"{FORWARD}, compiler loaded", "probe",
        {"contestant": (COUNTS, COVARIANCE)}, 1.1, ("peak_besides_compiler", "", ""),
        named=("network", "contestant")),
    Aim("explorer", "a frame of the page's explorer, a slider moving", "a screen of 60 frames a second", "explorer",
        {"decoder": DECODERS}, 17, ("frame_ms", "frame_ms", "frame_p95"), " ms", named=("activation", "decoder")),
    _study("10000", 2),
    _study("100000", 20),
    _suite("all", 8),
    _suite("fast", 2),
)  # fmt: skip
"""In the order of the table."""


@dataclass(frozen=True)
class Measured:
    """An aim with what the csv files have of it, now and before; empty where they have nothing."""

    aim: Aim
    now: Mapping[str, str]
    before: Mapping[str, str]

    @property
    def verdict(self) -> str:
        """Whether the interval, or the value where it has none, lies on the right side of the limit, as shown."""
        if not self.now:
            return NOT_SHOWN
        value, *ends = (self.now.get(column, "") for column in self.aim.value)
        low, high = (float(end or value) for end in ends)
        limit = self.aim.limit
        right, wrong = (low >= limit, high < limit) if self.aim.at_least else (high <= limit, low > limit)
        return MET if right else NOT_MET if wrong else NOT_SHOWN

    def cells(self) -> list[str]:
        """Its row of the table."""
        aim = self.aim
        facts = [(name, self.now[name]) for name in aim.named if self.now.get(name)]
        worst = ", ".join(f"{name} {fact}" if fact.isdigit() else fact for name, fact in facts)
        work = f"{aim.work}; worst: {worst}" if worst else aim.work
        limit = f"{'≥' if aim.at_least else '≤'} {aim.limit:g}{aim.unit}"
        return [work, aim.peer, self._ratio(), limit, self._change(), f"**{self.verdict}**"]

    def _ratio(self) -> str:
        if not self.now:
            return NOT_RUN
        names = ("ratio", "low", "high") if self.aim.unit else self.aim.value
        value, low, high = (self.now.get(name, "") for name in names)
        return f"{value} ({low} to {high})" if low and low != "nan" else value or MISSING

    def _change(self) -> str:
        if not self.now and not self.before:
            return MISSING
        before, after = self.before.get("value", MISSING), self.now.get(self.aim.value[0], MISSING)
        return f"{before} → {after}{self.aim.unit}"


def lines(path: Path) -> Timings:
    """The lines of a benchmark's csv file; none where it has not been run.

    Raises:
        InputError: for a file that cannot be read.
    """
    return csv_rows(read_text(path, "run its benchmark again")) if path.exists() else []


def measured(root: Path) -> list[Measured]:
    """Every aim with its measurement."""
    before = {line["aim"]: line for line in lines(root / FOLDER / f"{BEFORE}.csv")}
    now = {file: lines(root / FOLDER / f"{file}.csv") for file in {aim.file for aim in AIMS}}
    return [Measured(aim, aim.line(now[aim.file]), before.get(aim.name, {})) for aim in AIMS]


def speed_aims(root: Path) -> str:
    """The table, and of which commits the values before are."""
    found = measured(root)
    commits = sorted({one.before["commit"] for one in found if one.before})
    note = f"Before: commit {', '.join(commits)}." if commits else "No values before."
    return f"{markdown(HEAD, [one.cells() for one in found])}\n\n{note}"


ROUNDS = "Medians of {n} rounds in turns, {threads} threads, torch {torch}."
"""How the ratios of a benchmark came to be."""
RATES = {"contestant": "ours", "images_per_second": "images/CPU s", "peer": "peer", "ratio": "ratio",
         "interval": INTERVAL}  # fmt: skip
SPENT = {"part": "part of a step", "resolution": "resolution", "plain_ms": "torch's layers, ms",
         "ours_ms": "ours, ms"}  # fmt: skip


@dataclass(frozen=True)
class SpeedTable:
    """A benchmark's csv file as a table.

    Args:
        file: without its ending.
        columns: of the file, or of `readable`, in the order of the table, each with its heading.
        note: below the table, with columns of the first line in braces.
    """

    file: str
    columns: Mapping[str, str]
    note: str = ROUNDS

    def __call__(self, root: Path) -> str:
        """The table with its note."""
        found = lines(root / FOLDER / f"{self.file}.csv")
        return f"{columned(found, self.columns)}\n\n{self.note.format(**found[0])}" if found else NOT_RUN


def columned(found: Timings, columns: Mapping[str, str]) -> str:
    """Some columns of these lines, each with its heading."""
    return markdown(list(columns.values()), [[readable(one)[name] for name in columns] for one in found])


def readable(line: Mapping[str, str]) -> dict[str, str]:
    """A line with its intervals, its shares in percent, and its options as they are typed."""
    ends = {f"{name}interval": between(line, f"{name}low", f"{name}high")
            for name in ("", "beyond_") if f"{name}low" in line}  # fmt: skip
    shares = {name: percent(float(cell)) for name, cell in line.items() if name.startswith("share_of_")}
    return {"command": f"`{line.get('options')}`", **line, **ends, **shares}


def training_speed(root: Path) -> str:
    """Ratio of whole epochs, and what a run spends around its steps."""
    first, *around = lines(root / FOLDER / "training.csv")
    spent = ", ".join(f"{line['work']} {line['seconds']} s" for line in around)
    whole = percent(sum(float(line["share"]) for line in around))
    table = columned([first], RATES | {"images_per_second": "images/s"})
    rest = (
        f"Around the steps of a run of the ablations, as long as it is at this rate: {spent}; together {whole} of it."
    )
    return f"{table}\n\n{ROUNDS.format(**first)} {rest}"


def training_step_speed(root: Path) -> str:
    """A training step on one thread against torch's own layers, and where its milliseconds go."""
    found = lines(root / FOLDER / "training_step.csv")
    if not found:
        return NOT_RUN
    steps = [line for line in found if line["work"] == "step"]
    parts = [line | {"resolution": line["resolution"] or MISSING} for line in found if line["work"] == "part"]
    return "\n\n".join((columned(steps, RATES), columned(parts, SPENT), ROUNDS.format(**steps[0])))


def between(line: Mapping[str, str], low: str, high: str) -> str:
    """An interval; a dash where there is none."""
    return MISSING if line[low] in ("", "nan") else f"{line[low]} to {line[high]}"


SPEED_BLOCKS: dict[str, Callable[[Path], str]] = {
    "speed-aims": speed_aims,
    "speed": SpeedTable("spiral", {
        "dim": "dim", "dtype": "precision", "work": "computed", "peer_seconds": "numpy loop, s",
        "ours_seconds": "ours, s", "ratio": "ratio", "share_of_bandwidth": "of bandwidth",
        "share_of_arithmetic": "of arithmetic",
    }, "{draws} draws of {points} points; medians of {rounds} rounds in turns."),
    "general-speed": SpeedTable("general", {
        "command": "options", "case_seconds": "CPU s", "default_seconds": "default's CPU s", "ratio": "ratio",
        "interval": "least to most", "limit": "limit",
    }, "{draws} draws; medians of {rounds} rounds in turns."),
    "network-speed": SpeedTable("network", {
        "work": "work", "resolution": "resolution", "batch": "batch", "width": "width",
        **RATES, "images_per_second": "images/s",
    }),
    "training-speed": training_speed,
    "training-step-speed": training_step_speed,
    "probe-speed": SpeedTable("probe", {
        "network": "network", "contestant": "contestant", "milliseconds": "ms", "ratio": "time / plain",
        "interval": INTERVAL, "peak_mib": "peak MiB", "peak_ratio": "peak / plain",
        "peak_besides_compiler": "besides the compiler",
    }),
    "start-speed": SpeedTable("start_up", {
        "work": "work", "seconds": "CPU s", "peer_seconds": "torch's import, CPU s", "beyond": "beyond it, s",
        "beyond_interval": INTERVAL, "ratio": "ratio", "interval": INTERVAL,
    }),
}  # fmt: skip
"""What the benchmarks' csv files say, by the blocks of the texts."""
