"""Values over draws become rows: estimate, interval, spread, and what theory says beside them; rows become words."""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from manifold_lab import theory
from manifold_lab.core import statistics
from manifold_lab.core.random_streams import stream_seed
from manifold_lab.core.shown import DataFrame
from manifold_lab.core.statistics import Estimate, ResultRow
from manifold_lab.random_layer.monte_carlo import MonteCarloLayer
from manifold_lab.random_layer.specs import LAWS
from manifold_lab.report.tables import MISSING, percent, pick, plain, unique
from manifold_lab.theory import counting

BOUNDED = (
    "preserved_fraction",
    "preserved_on_manifold",
    "information_dimension_loss",
    "collapsed_pairs",
    "decoder_share",
    "reconstruction_error/exact",
)
"""Quantities that lie in [0, 1] by what they are."""
UNITS = {
    "preserved_fraction": "fraction of points",
    "preserved_on_manifold": "fraction of points",
    "injective": "fraction of draws",
    "information_dimension_loss": "fraction of the dimension",
    "collapsed_pairs": "fraction of pairs",
    "decoder_share": "fraction of pinv's error",
    "reconstruction_error": "fraction of |x|^2",
    "mutual_information": "nats",
    "input_information": "nats",
}
SHARES = ("fraction of points", "fraction of draws", "fraction of the dimension", "fraction of pinv")
"""Units that a reader wants in percent."""
TYPICAL = "typical draw"
NOTHING = 1e-9
"""Share of |x|² below which an error is rounding."""
NO_MEAN = "no mean: the error's law has none at this dim"
FOLDS = "a lower bound: this activation folds, and what two folded channels say together is not counted"
HEAVY = "the error's variance is infinite at this dim: the interval of the mean is too narrow"


@dataclass(frozen=True)
class TheoryValue:
    """What theory says of a layer; None wherever no closed form is known."""

    layer: MonteCarloLayer

    @property
    def _probability(self) -> np.ndarray | None:
        """Each row's chance to be active, per point."""
        layer, law = self.layer, LAWS[self.layer.spec.embedding]
        window, bias = layer.activation.window, layer.spec.bias
        if window is None or not law.general_position:
            return None
        radius = layer.points.x.double().norm(dim=1).cpu().numpy()
        fixed = bias == 0 and law.sign_symmetric and set(window) <= {0.0, np.inf, -np.inf}
        return theory.active_probability(radius, bias, window) if fixed or layer.spec.embedding in _GAUSSIAN else None

    @property
    def _half_flat(self) -> bool:
        """ReLU proper: one side flat, the other linear, no bias."""
        slopes = self.layer.activation.slopes
        return slopes is not None and slopes[0] == 0 and slopes[1] > 0 and self.layer.spec.bias == 0

    def _counted(self, needed: int) -> float | None:
        rng = self._probability
        return None if rng is None else float(theory.preserved_fraction(self.layer.dim, needed, rng).mean())

    def preserved_fraction(self) -> float | None:
        """Theorem 1; with a bias or a window that ends, its generalisation to each point's own chance."""
        return self._counted(self.layer.inputs)

    def preserved_on_manifold(self) -> float | None:
        """Theorem 1 for a k-manifold."""
        return self._counted(min(self.layer.inputs, self.layer.points.intrinsic + 1))

    def injective(self) -> float | None:
        """Exact for n = 2."""
        return theory.injectivity_probability(self.layer.dim, self.layer.inputs) if self._half_flat else None

    def information_dimension_loss(self) -> float | None:
        """E[(k - c)_+] / k."""
        rng, k = self._probability, self.layer.points.intrinsic
        if rng is None:
            return None
        return float(theory.information_dimension_loss(self.layer.dim, k, rng).mean())

    def collapsed_pairs(self) -> float | None:
        """Both points on the side where no row is active."""
        known = self._half_flat and self.layer.spec.embedding in _GAUSSIAN
        inactive = self.layer.points.inactive_pairs if known else None
        return None if inactive is None else counting.collapsed_pairs_of(inactive, self.layer.dim)

    def reconstruction_error(self, decoder: str) -> float | None:
        """Mean over draws, relative to |x|^2."""
        layer, slopes = self.layer, self.layer.activation.slopes
        if decoder == "exact":
            known = self._half_flat and LAWS[layer.spec.embedding].isotropic
            return theory.exact_decoder_error(layer.dim, layer.inputs) if known else None
        scale = layer.scales.get(decoder)
        if slopes is None or scale is None or layer.spec.bias:
            return None
        error = theory.pinv_error(layer.dim, layer.inputs, slopes, scale, layer.spec.embedding)
        return error if error is None or np.isfinite(error) else None


_GAUSSIAN = ("gaussian", "zero_pad")


def typical_draw(measured: dict[str, np.ndarray]) -> int:
    """The draw that the picture shows: nearest to the middle by both the share of points preserved and pinv's error.

    Of the two ranks the one farther from the middle counts; of draws that are equally near the first by error, then by
    share.
    """
    error = measured["reconstruction_error/pinv"]
    share = measured.get("preserved_fraction", np.zeros_like(error))
    away = np.maximum(np.abs(_middle_rank(error)), np.abs(_middle_rank(share)))
    return int(np.lexsort((share, error, away))[0])


def _middle_rank(values: np.ndarray) -> np.ndarray:
    """How many ranks a value is from the middle one; equal values share the mean of their ranks."""
    ordered = np.sort(values)
    below, within = (np.searchsorted(ordered, values, side) for side in ("left", "right"))
    return (below + within - len(values)) / 2


def rows(layer: MonteCarloLayer, measured: dict[str, np.ndarray], shown: bool = False) -> list[ResultRow]:
    """The rows of one layer; with `shown`, also those of its typical draw, the one that the picture shows."""
    rng = np.random.default_rng(stream_seed(layer.spec.seed, "interval", layer.dim))
    bounded = [name for name in BOUNDED if name in measured]
    safe = statistics.bounded_means(np.stack([measured[name].clip(0, 1) for name in bounded]), rng) if bounded else []
    means = dict(zip(bounded, safe, strict=True))
    made: list[ResultRow] = []
    for name, values in measured.items():
        if name == "preserved_on_manifold" and layer.points.intrinsic + 1 >= layer.inputs:
            continue  # the same as preserved_fraction
        made += _estimates(layer, name, values, means.get(name))
        if shown and name != "mutual_information":
            made.append(_row(layer, name, TYPICAL, Estimate(float(values[typical_draw(measured)]), np.nan, np.nan, 1)))
    return made


def _estimates(layer: MonteCarloLayer, name: str, values: np.ndarray, bounded: Estimate | None) -> list[ResultRow]:
    spread, expected = statistics.quantiles(values), _expected(layer, name)
    if name == "injective":
        found = statistics.proportion(int(values.sum()), len(values))
        return [_row(layer, name, "probability", found, theory=expected)]
    moments = _finite_moments(layer) if name.startswith("reconstruction_error/pinv") else math.inf
    made = []
    if moments > 0:
        note = HEAVY if moments < 3 else FOLDS if layer.activation.folds and "preserved" in name else ""
        found = bounded or statistics.mean(values)
        made.append(_row(layer, name, "mean", found, spread=spread, theory=expected, note=note))
    if "/" in name:
        note = NO_MEAN if moments <= 0 else ""
        made.append(_row(layer, name, "median", statistics.median(values), spread=spread, note=note))
    return made


def _finite_moments(layer: MonteCarloLayer) -> int | float:
    """Degrees of freedom that keep pinv(T) bounded: above 0 its squared error has a mean, above 2 a variance.

    Those of the inverse Wishart law, |m - n| - 1; none for the inverse of a square matrix, unlimited where pinv cannot
    blow up.
    """
    slopes, m, n = layer.activation.slopes, layer.dim, layer.inputs
    if layer.spec.embedding == "orthonormal" or m == 1 or (slopes is not None and slopes[0] == slopes[1]):
        return math.inf
    return 0 if layer.spec.embedding == "zero_pad" else abs(m - n) - 1


def _expected(layer: MonteCarloLayer, name: str) -> float | None:
    quantity, _, decoder = name.partition("/")
    rule = getattr(TheoryValue(layer), quantity, lambda *_: None)
    return rule(decoder) if decoder else rule()


def _row(layer: MonteCarloLayer, name: str, statistic: str, estimate: Estimate, **more: Any) -> ResultRow:
    """A row of a layer; `more` are its spread, what theory says, and a note, as far as there are any."""
    quantity, _, decoder = name.partition("/")
    spec = layer.spec
    return ResultRow(
        quantity=quantity,
        decoder=decoder,
        statistic=statistic,
        unit=UNITS[quantity] + (f" at sigma {spec.sigma:g}" if UNITS[quantity] == "nats" else ""),
        dim=layer.dim if quantity != "input_information" else None,
        manifold=spec.manifold.name,
        inputs=layer.inputs,
        intrinsic=layer.points.intrinsic,
        embedding=spec.embedding,
        activation=layer.activation.name,
        estimate=estimate,
        **more,
    )


def input_row(layer: MonteCarloLayer, values: np.ndarray) -> ResultRow:
    """The mutual information of the points themselves, which belongs to no dim; n counts repeats of the noise."""
    return _row(layer, "input_information", "mean", statistics.mean(values), spread=statistics.quantiles(values))


# ── In words ──────────────────────────────────────────────────────────────────────────────────────────────────────

OVERVIEW = (
    ("points recoverable", "preserved_fraction", "mean", ""),
    ("injective everywhere", "injective", "probability", ""),
    ("dimension lost", "information_dimension_loss", "mean", ""),
    ("pinv error, mean", "reconstruction_error", "mean", "pinv"),
    ("pinv error, median", "reconstruction_error", "median", "pinv"),
    ("  the decoder's share", "decoder_share", "mean", ""),
    ("affine error, median", "reconstruction_error", "median", "affine"),
    ("exact error, mean", "reconstruction_error", "mean", "exact"),
    ("information, nats", "mutual_information", "mean", ""),
)
"""Lines of the table in the terminal: label, quantity, statistic, decoder."""
RESULT_HEAD = ("dim", "over draws", "measured", f"{100 * statistics.LEVEL:.0f} % interval", "theory")


def _find(numbers: DataFrame, dim: int, quantity: str, statistic: str, decoder: str = "") -> dict[str, Any]:
    """The numbers that there are of one row of the table; empty without it."""
    found = pick(numbers, dim=dim, quantity=quantity, statistic=statistic, decoder=decoder)
    return found.iloc[0].dropna().to_dict() if len(found) else {}


def asked_dims(numbers: DataFrame) -> list[int]:
    """The dims that were asked for: those with a typical draw."""
    return sorted(map(int, unique(pick(numbers, statistic=TYPICAL), "dim")))


def summary_table(numbers: DataFrame, dims: Iterable[int]) -> list[list[str]]:
    """The table's lines for every dim."""
    return [row for dim in dims for row in summary_rows(numbers, dim)]


def summary_rows(numbers: DataFrame, dim: int) -> list[list[str]]:
    """The table's lines for one dim; a dash where a number does not exist."""
    body = []
    for label, *where in OVERVIEW:
        row = _find(numbers, dim, *where)
        show = percent if row.get("unit", "").startswith(SHARES) else plain
        cell = {name: show(row[name]) if name in row else MISSING for name in ("estimate", "low", "high", "theory")}
        bounds = [name for name in ("estimate", "theory") if name in row and row.get("note") == FOLDS]
        cell |= {name: f"at least {cell[name]}" for name in bounds}
        ends = f"{cell['low']} to {cell['high']}" if "low" in row else MISSING
        body.append([str(dim), label, cell["estimate"], ends, cell["theory"]])
    return body


def dim_sentence(numbers: DataFrame, dim: int) -> str:
    """One dim in plain words: what the activation lost, what the decoder spoiled; means and medians over draws."""
    pinv, exact = (_find(numbers, dim, "reconstruction_error", "median", way) for way in ("pinv", "exact"))
    sentence = f"median over draws: pinv gets {_median_error(pinv)}"
    if "estimate" in exact:
        gone = exact["estimate"] < NOTHING
        sentence += ", solving on the active rows " + ("gives x back" if gone else f"gets {_median_error(exact)}")
    share = _find(numbers, dim, "decoder_share", "mean")
    if "estimate" in share:
        sentence += f"; of pinv's error {percent(share['estimate'])} (mean) is on points that can be recovered"
    return f"dim {dim}: {_lost(_find(numbers, dim, 'preserved_fraction', 'mean'))}{sentence}."


def _lost(row: Mapping[str, Any]) -> str:
    """The share of points that an activation lost, over draws; empty where it is not known which can be recovered.

    Of an activation that folds the recoverable share is a lower bound, so that this is an upper one.
    """
    if "estimate" not in row:
        return ""
    most = "at most " if row["note"] == FOLDS else ""
    value, *ends = (percent(1 - row[name]) for name in ("estimate", "high", "low") if name in row)
    interval = f"{ends[0]} to {ends[1]}, " if ends else ""
    theory = f"; {most}{percent(1 - row['theory'])} by theory" if "theory" in row else ""
    return f"{row['activation']} lost {most}{value} of the points ({interval}mean of {row['n']:,} draws{theory}); "


def _median_error(row: Mapping[str, Any]) -> str:
    """An error of |x|², with its interval where there is one."""
    shown = [row[name] for name in ("estimate", "low", "high") if name in row]
    if not shown:
        return "an unknown part of |x|² wrong"
    each = [f"{plain(one)} times" for one in shown] if max(shown) >= 1 else [percent(one) for one in shown]
    ends = f" ({each[1]} to {each[2]})" if len(each) > 1 else ""
    return f"{each[0]}{ends} {'' if max(shown) >= 1 else 'of '}|x|² wrong"
