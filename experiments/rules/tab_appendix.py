"""What Appendix A and the errata claim, and the rules that decide it."""

from collections.abc import Callable

from manifold_lab.core.statistics import Estimate

TABLE_4, READING = 72.0, 0.05
"""Top-1 of Table 4, and how exactly a figure is read off, in points."""
POINT = 1e-9
"""A box of preimages no longer than this is a point: the linear programs' tolerance."""
ROUNDING = 1e-12
LAW = 0.8125
"""N / 2^m at n = 2, m = 5, by Theorem 1."""
NEAR, ALMOST_ALL = 0.02, 0.98
"""How near a share must be to that to be the same, and above which share "all" is not refuted."""
Holds = Callable[[Estimate], bool | None]


def is_law(found: Estimate) -> bool | None:
    """Whether a share is N / 2^m to within the margin."""
    return Estimate(found.value - LAW, found.low - LAW, found.high - LAW, found.n).within(NEAR)


def is_all(found: Estimate) -> bool | None:
    """Whether a share is, as far as draws can tell, all."""
    return found.exceeds(ALMOST_ALL)


STATEMENTS: dict[str, tuple[str, str, str, Holds]] = {
    "lemma_1": (
        "Lemma 1", "Lemma 1: where an image is interior, ReLU was the identity",
        "share of interior images, m = n = 3", is_all),
    "full_dimension_lost": (
        "Section 3.2", "a set that fills all m = n dimensions does not keep complete information (rows of symmetric "
        "sign, no bias)", "share of points with one preimage, m = n = 8", lambda found: found.below(0.5)),
    "only_low_dimension": (
        "Section 3.2", "only a set in a low-dimensional subspace keeps complete information, as printed",
        "share of a Gaussian in m = n = 8 dimensions that comes back from ReLU6(z/4 + 3), section 6.4's construction",
        lambda found: found.below(0.5)),
    "lemma_2_if": (
        "Lemma 2", "Lemma 2, if: n independent active rows leave one preimage", "share of such points, n = 3, m = 5",
        is_all),
    "lemma_2_only_if": (
        "Lemma 2", "Lemma 2, only if, almost everywhere: fewer leave more than one",
        "share of such points, n = 3, m = 5", is_all),
    "lemma_2_everywhere": (
        "Lemma 2", "Lemma 2, only if, everywhere: fewer leave more than one",
        "of 2 chosen points with no active row, those with one preimage all the same", lambda found: found.value == 0),
    "rank_not_count": (
        "Lemma 2 (ours)", "rank, not count: two parallel active rows do not give a point of the plane back",
        "length of the preimage within the unit box", lambda found: found.value > POINT),
    "collapsed_fraction": (
        "After Theorem 1", "N / 2^m is the collapsed fraction (erratum 6)",
        f"collapsed share at n = 2, m = 5, where N / 2^m = {LAW}", is_law),
    "theorem_1_relu6": (
        "Theorem 1", "Theorem 1 with ReLU6: the preserved fraction stays N / 2^m (erratum 9)",
        f"preserved share of a ball of radius 10 at n = 2, m = 5, where N / 2^m = {LAW}", is_law),
    "theorem_1_bias": (
        "Theorem 1", "Theorem 1 with a bias: the preserved fraction stays N / 2^m (erratum 9)",
        f"preserved share at n = 2, m = 5 with a bias of 1, where N / 2^m = {LAW}", is_law),
    "pinv_gives_back": (
        "Figure 1", "the pseudo-inverse gives x back once m is large (erratum 12)",
        "|x̂ − x|² / |x|² at n = 2, m = 2000", lambda found: found.below(0.01)),
    "pinv_identity": (
        "Figure 1", "the pseudo-inverse undoes nothing: x̂ = x/2 + pinv(T)|Tx|/2 (erratum 12)",
        "largest difference of the two sides, to 12 decimals", lambda found: found.value < ROUNDING),
    "acts_linearly": (
        "Section 6.4", "a nonlinear bottleneck can act as a linear one: ReLU6(z/4 + 3), undone, is z",
        "share of Gaussian z that come back", is_all),
    "several_percent": (
        "Section 3.2", "Figure 6a shows several percent, 2 or more (erratum 10)", "points between the arms, digitised",
        lambda found: found.value >= 2),
    "same_baseline": (
        "Figure 6a", f"Figure 6a's baseline is Table 4's {TABLE_4} (erratum 10)",
        "top-1 of the linear arm, %, digitised", lambda found: abs(found.value - TABLE_4) <= READING),
}  # fmt: skip
"""Place, claim, what is computed, and the rule that decides it, by the names of the claims."""
