"""What is reported of a layer, as columns of a table. Each docstring says what a measure sees and what it does not."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from manifold_lab import metrics, theory
from manifold_lab.core.errors import InputError, error_line
from manifold_lab.core.random_streams import stream
from manifold_lab.core.statistics import QUANTILES
from manifold_lab.metrics import Neighbours
from manifold_lab.probe import certificate
from manifold_lab.probe.inverse import rank, ridge_r2
from manifold_lab.probe.layer import COUNTS, COVARIANCE, PICTURES, PRODUCTS, SAMPLE, LayerRecord, LayerRow
from manifold_lab.probe.tracing import batch_norm_scale

NEIGHBOURS = 20
SCALES = (1, 2, 4, 8)
CONSTANT = 1e-10
"""Variance of a channel below which it says nothing."""
PAIRS = 1000
"""Points of an information imbalance, which takes the square of them in memory."""
EQUIDISTANT = "neighbours at equal distances, as on a grid, have no finite dimension"
SIGMA, QUERIES = 0.03, 2000


@dataclass(frozen=True)
class LayerMeasure:
    """A family of columns: what it is made of, and the function that makes it."""

    needs: tuple[str, ...]
    columns: tuple[str, ...]
    compute: Callable[[LayerRecord], LayerRow]


def active(layer: LayerRecord) -> LayerRow:
    """Active channels per position, over every position of every image: exact counts.

    Sees how many channels are strictly inside the window (between the clips of ReLU6) and which clip took the others;
    channels that were always at the low end (`never_active`: dead) or always at the high clip, or whose input was
    constant (`constant_inputs`).
    `threshold` is what Lemma 2 asks for: the input channels of the 1x1 convolution before, None where there is none (a
    depthwise output). Does not see whether the active rows are independent (`rank`), nor how active a channel is; a
    minimum over positions falls with their number.
    """
    counts = layer.counts
    if counts is None:
        return {}
    histogram = counts.histogram.cpu().numpy().astype(np.float64)
    width, positions, total = len(histogram) - 1, histogram.sum(), float(counts.positions)
    cumulative, number = histogram.cumsum(), np.arange(width + 1)
    met = np.flatnonzero(histogram)
    spread = {name: int(np.searchsorted(cumulative, cut * positions)) for name, cut in QUANTILES.items()}
    summary = {"min": int(met[0]), "mean": float(number @ histogram / positions), "max": int(met[-1]), **spread}
    found: LayerRow = {f"active_{name}": value for name, value in summary.items()}
    found |= {f"fraction_{name}": summary[name] / width for name in ("min", "mean", "max")}
    high, inside = float(counts.high.sum()) / (total * width), float(counts.active.sum()) / (total * width)
    low = int((counts.active + counts.high == 0).sum())
    constant = constant_inputs(layer)
    found |= {"low_share": 1 - high - inside, "high_share": high, "never_active": low,
              "always_saturated": int((counts.high == counts.positions).sum()),
              "constant_input": None if constant is None else int(constant.sum())}  # fmt: skip
    if layer.chain.inputs is not None:
        found["below_threshold"] = float(histogram[: layer.chain.inputs].sum() / positions)
    return found


def constant_inputs(layer: LayerRecord) -> Tensor | None:
    """Channels whose input varied by less than CONSTANT, as the norm before the activation, if any, would see it.

    The same quantity as a batch norm's running variance, of the data that were shown.
    """
    if layer.still.reference is None:
        return None
    variance, norm = layer.still.variance, layer.chain.norm
    if norm is not None and layer.chain.fixed and (scale := batch_norm_scale(norm)) is not None:
        variance = variance / scale**2
    return variance < CONSTANT


def spectrum(layer: LayerRecord) -> LayerRow:
    """Linear spread of positions, from the streamed covariance: participation ratio, effective rank, saturation.

    Of an image with more than `Sampling.per_image` positions the covariance is estimated from so many of them, the same
    of every image of a size; `spectrum_positions` is how many it rests on, `spectrum_share` their share of all. Images
    and not positions are independent of each other. `saturation` is delve's: directions that hold 99 % of the variance,
    over channels. Sees second moments only: it rises when a curve is bent into more directions, and does not see
    information.
    """
    streamed = layer.covariance
    if not streamed.strips or streamed.positions < 2:
        return {}
    shares = metrics.covariance_shares(streamed.covariance.cpu())
    if not torch.isfinite(shares).all():
        return layer.unmeasured("nothing varies")
    directions = metrics.directions_for(shares)
    return {"participation_ratio": float(metrics.participation_ratio_of(shares)),
            "effective_rank": float(metrics.effective_rank_of(shares)), "directions_99": directions,
            "saturation": directions / len(shares), "spectrum_positions": streamed.positions,
            "spectrum_share": streamed.positions / streamed.met}  # fmt: skip


def shared_neighbours(points: Tensor) -> Neighbours | None:
    """The neighbours that every estimate of dimension is made from; None for too few distinct points."""
    try:
        return metrics.neighbours(points.float(), NEIGHBOURS)
    except InputError:
        return None


def dimension(layer: LayerRecord) -> LayerRow:
    """Intrinsic dimension of sampled positions and of whole images' maps: TwoNN, MLE of 20 neighbours, scale scan.

    Sees the dimension of the cloud at the scale of its nearest neighbours; the scan (GRIDE at 1, 2, 4, 8) says at which
    scale. Reads high dimensions low (2,000 points of a 50-dimensional Gaussian: about 31), and does not see folding or
    partial collapse. The errors are standard errors as if points were independent. Exact duplicates, which collapse
    makes, are set apart and reported as a share. Of a whole map it sees the coordinates that the sampling allows.
    """
    found: LayerRow = {}
    for kind, reservoir in (("", layer.sample), ("_pictures", layer.images)):
        if not reservoir.parts:
            continue
        points = reservoir.parts[0]
        cloud = shared_neighbours(points)
        if cloud is None:
            layer.note(f"dimension{kind}: too few distinct points among {len(points)}")
            continue
        scan = metrics.scale_scan(cloud)
        found |= {f"two_nn{kind}": metrics.two_nn(cloud), f"mle{kind}": metrics.maximum_likelihood(cloud, NEIGHBOURS),
                  f"two_nn_error{kind}": metrics.likelihood_error(cloud, 2),
                  f"mle_error{kind}": metrics.likelihood_error(cloud, NEIGHBOURS),
                  f"duplicates{kind}": cloud.duplicates, f"points{kind}": len(points)}  # fmt: skip
        found |= {f"scale_{n1}{kind}": scan[n1] for n1 in SCALES}
    infinite = [name for name, value in found.items() if isinstance(value, float) and not math.isfinite(value)]
    if infinite:
        layer.note(f"dimension: {EQUIDISTANT}")
    return found | dict.fromkeys(infinite)


def preservation(layer: LayerRecord) -> LayerRow:
    """What counting predicts for the measured dimension k of the layer's input: P(c >= k + 1) and E[(k - c)_+] / k.

    c is the number of active channels, with every channel's own measured chance and as if they were independent
    (Poisson-binomial); `kept` and `lost` are the same with the counts as they were, dependence and all. k is the MLE of
    20 neighbours, rounded. Sees enough rows for almost every point of a k-manifold to stay unique on it; does not see
    whether they are in general position, distant twins, or any smooth squeeze; k reads high dimensions low.
    """
    counts, sample = layer.counts, layer.sample.parts
    if counts is None or len(sample) < 2 or (cloud := shared_neighbours(sample[1])) is None:
        return {}
    measured = metrics.maximum_likelihood(cloud, NEIGHBOURS)
    if not math.isfinite(measured):
        return layer.unmeasured(f"preservation: {EQUIDISTANT}")
    k = max(1, round(measured))
    needed = k + 1 if layer.chain.inputs is None else min(k + 1, layer.chain.inputs)
    predicted = theory.poisson_binomial((counts.active.double() / counts.positions).cpu().numpy())
    met = (counts.histogram.double() / counts.positions).cpu().numpy()
    kept_predicted, kept = (min(1.0, theory.preserved_of(law, needed)) for law in (predicted, met))  # sums may round up
    lost_predicted, lost = (theory.dimension_loss_of(law, k) for law in (predicted, met))
    return {"input_dimension": k, "kept_predicted": kept_predicted, "kept": kept, "lost_predicted": lost_predicted,
            "lost": lost}  # fmt: skip


def recovery(layer: LayerRecord) -> LayerRow:
    """How much of the layer's input can be had back from its output, position by position.

    `ridge_r2`: R^2, on held-out images, of the best affine map (ridge) fitted on sampled positions: what the next 1x1
    convolution could see; missing below four images. A collapsed curve keeps an R^2 far above 0. `imbalance_out`,
    `imbalance_back`: information imbalance from input to output and back (0: near in one is near in the other, 1: says
    nothing); information lost shows as a larger second. The input is that of the 1x1 convolution before, where there is
    one, else the layer's own. Does not see what neighbouring positions could tell.
    """
    if len(layer.sample.parts) < 2:
        return {}
    y, x, images = (part.cpu() for part in layer.sample.parts)
    y, x = y.double(), x.double()
    if len(x) < 8 or not float(x.var(0).sum()):
        return {}
    out, back = metrics.information_imbalance(x[:PAIRS], y[:PAIRS], stream(layer.sampling.seed, "ties", layer.name))
    return {"ridge_r2": ridge_r2(x, y, images), "imbalance_out": out, "imbalance_back": back}


def information(layer: LayerRecord) -> LayerRow:
    """Mutual information, in nats, of a point on a curve of inputs and the layer's whole map with noise.

    The map of each image is scaled so that the curve's root mean square distance from its mean is one; the noise is
    SIGMA of that in every direction. exp of it is the number of points that can be told apart; it cannot exceed
    log(points). Sees everything in the map that is larger than the noise; does not see anything finer, and not whether
    a later layer uses it. For one batch of inputs along a curve (`curve`).
    """
    if layer.products is None or not float(layer.products.trace()):
        return {}
    values, vectors = torch.linalg.eigh(layer.products.cpu())  # codes with the same distances as the maps
    codes = vectors * values.clamp_min(0).sqrt()
    codes = codes / (codes**2).sum(1).mean().sqrt()
    rng = stream(layer.sampling.seed, "noise")  # the same for all layers
    found = metrics.known_channel_information(codes[None], SIGMA, QUERIES, rng)
    return {"information": float(found), "curve_points": len(codes)}


MEASURES: dict[str, LayerMeasure] = {
    "active": LayerMeasure((COUNTS,), (
        *(f"active_{name}" for name in ("min", "mean", "max", *QUANTILES)),
        "fraction_min", "fraction_mean", "fraction_max", "below_threshold", "low_share",
        "high_share", "never_active", "always_saturated", "constant_input",
    ), active),
    "rank": LayerMeasure((SAMPLE,), (
        "full_rank", "singular_value_min", "singular_value", "condition", "inversion_error",
        "inversion_error_full_rank", "rank_positions",
    ), rank),
    "certificate": LayerMeasure((COUNTS, SAMPLE), certificate.COLUMNS, certificate.certificate),
    "spectrum": LayerMeasure((COVARIANCE,), (
        "participation_ratio", "effective_rank", "directions_99", "saturation", "spectrum_positions", "spectrum_share",
    ), spectrum),
    "dimension": LayerMeasure((SAMPLE, PICTURES), tuple(
        f"{name}{kind}" for kind in ("", "_pictures")
        for name in ("two_nn", "two_nn_error", "mle", "mle_error", *(f"scale_{n1}" for n1 in SCALES), "duplicates", "points")  # noqa: E501
    ), dimension),
    "preservation": LayerMeasure((COUNTS, SAMPLE), (
        "input_dimension", "kept_predicted", "kept", "lost_predicted", "lost",
    ), preservation),
    "recovery": LayerMeasure((SAMPLE,), ("ridge_r2", "imbalance_out", "imbalance_back"), recovery),
    "information": LayerMeasure((PRODUCTS,), ("information", "curve_points"), information),
}  # fmt: skip
"""Every measure by name."""
FACTS = ("layer", "type", "channels", "size", "threshold", "calls", "note")


def describe(layer: LayerRecord, measures: Sequence[str]) -> LayerRow:
    """One line of the table; None where a measure has nothing to say of this layer."""
    columns = [name for measure in measures for name in MEASURES[measure].columns]
    seen = dict(layer.notes)
    found: LayerRow = dict.fromkeys(columns)
    bad = _not_finite(layer)
    if isinstance(layer.activation, str):
        layer.note(f"not counted: {layer.activation}")
    if layer.window is not None and layer.chain.by_example:
        layer.note(f"no threshold behind a {type(layer.chain.norm).__name__}, whose statistics are each example's own")
    if bad:
        layer.note(bad)
    elif layer.calls and not layer.part:
        for measure in measures:
            found |= _measured(layer, measure)
    if not layer.calls:
        layer.note("never reached")
    elif max(layer.batches) == 1:
        layer.note("batches of one image")
    size = "x".join(map(str, layer.shape[1:]))
    threshold = layer.chain.inputs if layer.window is not None and not layer.part else None
    facts = (layer.name, layer.kind, layer.shape[0] if layer.shape else None, size, threshold, layer.calls,
             "; ".join(layer.notes))  # fmt: skip
    layer.notes = seen  # what is said of numbers so far may be otherwise later
    return dict(zip(FACTS, facts, strict=True)) | found


def _measured(layer: LayerRecord, measure: str) -> LayerRow:
    """The columns of a measure; none, and a note, where it fails on this layer."""
    try:
        return MEASURES[measure].compute(layer)
    except Exception as error:  # a measure must not cost the table its other layers, whatever it meets
        return layer.unmeasured(f"{measure} failed ({error_line(error)})")


def _not_finite(layer: LayerRecord) -> str:
    """What is wrong with the numbers that came, in words."""
    if layer.counts is not None and bool(layer.counts.bad.any()):
        return f"NaN or infinite in {int(layer.counts.bad.sum())} channels"
    streamed = (layer.covariance.total, layer.products, *layer.sample.parts, *layer.images.parts)
    sums = [part.double().sum() for part in streamed if part is not None]
    return "NaN or infinite" if not math.isfinite(float(sum(sums, torch.zeros(())))) else ""
