"""Why ReLU6 in a bottleneck costs accuracy: arms that lose information without a nonlinearity, and the other way round.

Paper    Sandler et al. 2018, arXiv:1801.04381, section 3.2; its rival: Lin, Memisevic, Konda 2015, arXiv:1511.02580
Claims   section 3.2: a nonlinearity in the bottleneck costs accuracy because it destroys information
Run      python -m experiments.ext_cause run
Differs  CIFAR-10 at width 0.35 and short trainings instead of ImageNet; one data set, one optimiser, short of
         convergence. The rule that reads the runs was written first, on 2026-11-25 (experiments/rules/ext_cause.py);
         five short and three long seeds of linear and relu6 were known then. Arms: leaky_relu, injective, with slopes
         .5 and .1; Gaussian noise, linear, that leaves a normal channel as readable as leaky .5, leaky .1 and relu do,
         also drawn once per image and channel; |u|; half of the channels times .1; relu6 behind a norm whose bias
         starts at 2; relu6 with a norm behind it; relu6 behind the addition in blocks that have one, linear elsewhere.
         Straight-through gradients are left out: a gradient that is not its function's cannot tell blocking from error.
         Kept of a run: its curve, per block the measured linear R² and the share of positions with one preimage at the
         end, gradient norms; weights of seeds 0 and 1 of the new arms, 5 and 6 of the ends. `--smoke` runs the digits
"""

from collections.abc import Iterable, Mapping, Sequence
from types import MappingProxyType

import numpy as np
from matplotlib.figure import Figure

from experiments.drawing import ext_cause as drawing
from experiments.rules import ext_cause as rule
from experiments.rules import ext_cause_measured as measured
from experiments.rules import ext_cause_neighbours as neighbours
from experiments.rules import ext_cause_rows as kept
from experiments.rules import ext_cause_text as rule_text
from experiments.rules import ext_cause_tuning as tuning
from experiments.rules.ext_cause_arms import ARMS, ENDS, LEAKY, NOISE
from manifold_lab.core import statistics
from manifold_lab.report import plots
from manifold_lab.report.arm_styles import styles_of
from manifold_lab.report.tables import ClaimResult, DataFrame, Document, Record, frame, pick
from manifold_lab.sweeps import ablation, comparison, training_run
from manifold_lab.sweeps.store import DIVERGED, DONE
from manifold_lab.sweeps.trained_study import Arms, trained_study

WIDTH = 0.35
RULE_COMMIT = "437dd29a3ad6d5f121fcde36d9ce30187f94de3e"
"""The commit of the rule: every run of a new arm was made by a commit that descends from it."""
DECIDING = ("linear", "relu6", "leaky_0.1", "noise_0.734")
FIRST = (*DECIDING, "half_gain", "renormed")
SEEDS, MORE_SEEDS = 5, 8
RATE, OTHER_RATES, RATE_SEEDS = 0.1, (0.05, 0.025, 0.2), 3
EXTENDED: Mapping[str, tuple[float, ...]] = MappingProxyType({"linear": (0.4,), "relu6": (0.4, 0.8)})
"""Further learning rates of an arm that was best on validation at the edge of those before."""
GROUP = f"{RATE:g}"
"""Of the runs at that learning rate."""
BEST_RATES: Mapping[str, float] = MappingProxyType({"linear": 0.2, "relu6": 0.4, "leaky_0.1": 0.1, "noise_0.734": 0.1})
"""The learning rate of an arm that was best on validation, by the mean of the seeds that every rate has."""
FRESH = range(100, 105)
"""Seeds of the runs at the best rates, none of which chose them."""
BEST, BEST_OF_RELU6 = "best", "best of relu6"
"""The groups of those runs: every arm at its own best learning rate, and at the one of relu6."""
BY_PLAN = "by planned R²"
"""Of a reading that rests on one curve, for panel (a) shows the measured R²."""
AT_RATES: Mapping[str, tuple[str, str]] = MappingProxyType({
    BEST: ("at_the_best_rates", ", at each arm's best learning rate"),
    BEST_OF_RELU6: ("at_the_best_rate_of_relu6", ", at the best learning rate of ReLU6"),
})  # fmt: skip
"""The ids of what is claimed of them, and the same in words."""
CONTRAST = comparison.Comparison(styles_of(ARMS), "learning rate")


def grid(smoke: bool) -> tuple[training_run.TrainingRun, ...]:
    """In the order of what decides: five seeds of every arm, three more of both families, long runs, learning rates."""
    if smoke:
        return ablation.training_runs(ARMS, {GROUP: ablation.digits_setting({640: 1})})
    rest = [arm for arm in ARMS if arm not in FIRST]
    found = trainings(FIRST, range(SEEDS)) + trainings(rest, range(SEEDS))
    found += trainings((*ENDS, *LEAKY, *NOISE), range(SEEDS, MORE_SEEDS))
    found += trainings(DECIDING, range(SEEDS), length=ablation.LONG_IMAGES)
    found += [run for rate in OTHER_RATES for run in trainings(DECIDING, range(RATE_SEEDS), rate=rate)]
    found += [run for arm, rates in EXTENDED.items() for rate in rates
              for run in trainings((arm,), range(RATE_SEEDS), rate=rate)]  # fmt: skip
    for arm, best in BEST_RATES.items():
        found += trainings((arm,), FRESH, rate=best, group=BEST)
        if best != BEST_RATES["relu6"]:
            found += trainings((arm,), FRESH, rate=BEST_RATES["relu6"], group=BEST_OF_RELU6)
    return tuple(found)


def trainings(
    arms: Iterable[str], seeds: Iterable[int], length: int = ablation.SHORT_IMAGES, rate: float = RATE, group: str = ""
) -> list[training_run.TrainingRun]:
    """Some arms, seeds outermost; a group is a learning rate."""
    base = ablation.cifar_setting(WIDTH).of_length(length, learning_rate=rate)
    return [*ablation.paired_runs({arm: ARMS[arm] for arm in arms}, group or f"{rate:g}", base, seeds)]


def of_group(table: DataFrame, group: str, length: int) -> DataFrame:
    """The rows of a group; arms whose best learning rate is that of relu6 have the same runs in both groups of it."""
    mine = pick(table, length=length)
    same = (mine["group"] == BEST) & (mine["arm"].map(BEST_RATES) == BEST_RATES["relu6"])
    return mine[(mine["group"] == group) | (same & (group == BEST_OF_RELU6))]


def accuracies(table: DataFrame, group: str, length: int) -> dict[str, list[float]]:
    """Test accuracies in percent by arm; a diverged run counts as guessing."""
    ended = pick(of_group(table, group, length), kind=training_run.FINAL)
    ended = ended[ended["state"].isin((DONE, DIVERGED))]
    values = comparison.POINTS * ended["test_accuracy"].mask(ended["state"] == DIVERGED, 0.1)
    found = values.groupby(ended["arm"]).agg(list)
    return {arm: found[arm] for arm in ARMS if arm in found}


def readabilities(table: DataFrame, arm: str, group: str, length: int) -> list[float]:
    """The measured linear R² of every run, mean over its bottlenecks; 1 by definition of linear ones."""
    if arm == "linear":
        return [1.0]
    mine = pick(of_group(table, group, length), kind=kept.BOTTLENECK, arm=arm)
    return mine.groupby("seed", sort=False)["linear_r2"].mean().dropna().tolist()


def at_measured_r2(table: DataFrame, length: int) -> tuple[rule.Runs, rule.Runs]:
    """Test accuracies in percent and measured linear R² by arm, at the learning rate of the other experiments."""
    runs = accuracies(table, GROUP, length)
    return runs, {arm: readabilities(table, arm, GROUP, length) for arm in runs}


def findings(table: DataFrame, length: int) -> rule.Findings:
    """What the rule reads: arms at one length; arms that it lacks, doses and tuning at the shortest, which has all."""
    short = accuracies(table, GROUP, shortest(table))
    judged = rule.outcomes(short) | rule.outcomes(accuracies(table, GROUP, length))
    verdicts = {arm: judged[arm].verdict if arm in judged else rule.UNDECIDED for arm in ARMS}
    return rule.Findings(
        verdicts["leaky_0.1"], verdicts["noise_0.734"], verdicts["half_gain"], verdicts["renormed"],
        rule.one_curve(short), rule.tuning(accuracies(table, BEST, shortest(table)), short),
    )  # fmt: skip


def deciding_length(table: DataFrame) -> int:
    """That of the long trainings where they are all there, else of the short ones."""
    shortest, *longer = comparison.lengths(table, GROUP)
    runs = accuracies(table, GROUP, longer[-1]) if longer else {}
    return longer[-1] if longer and all(len(runs.get(arm, ())) >= rule.FEWEST for arm in DECIDING) else shortest


def not_decided(table: DataFrame) -> str:
    """Which runs the reading lacks; empty where it has them."""
    runs = accuracies(table, GROUP, deciding_length(table))
    short = [f"{len(runs.get(arm, ()))} of {arm}" for arm in DECIDING if len(runs.get(arm, ())) < rule.FEWEST]
    needed = f"not decided yet: it needs {rule.FEWEST} runs of every deciding arm, and there are {', '.join(short)}"
    return needed if short else ""


def answer(table: DataFrame, against: str) -> str:
    """The reading of the runs that decide; where that rests on planned R², what the measured ones say against it."""
    missing, reading = not_decided(table), rule.reading(findings(table, deciding_length(table)))
    if missing or not reading.endswith(rule.READABILITY):
        return f"{missing or reading}."
    return f"{reading}, {BY_PLAN}. {against}".strip()


def shortest(table: DataFrame) -> int:
    """Images of the trainings that every arm has."""
    return comparison.lengths(table, GROUP)[0]


def paragraphs(table: DataFrame) -> str:
    """The answer; how it was found, what every arm costs, measured R², learning rates; how far that carries."""
    lengths = (deciding_length(table), shortest(table))
    found = {length: at_measured_r2(table, length) for length in lengths}
    said = [f"**{rule_text.QUESTION}** {rule_text.capitalised(answer(table, measured.against(found)))}"]
    costs = rule_text.costs_table(found)
    said += [f"{rule_text.METHOD} {rule_text.decided_by(*lengths, otherwise(table, *lengths))}", costs] if costs else []
    said.append(measured.table(found))
    at_best, at_relu6s = (accuracies(table, group, shortest(table)) for group in (BEST, BEST_OF_RELU6))
    said.append(tuning.table(at_best, at_relu6s, BEST_RATES))
    where = f"{plots.data_name(table['data'].iloc[0])} at width {WIDTH}, learning rate {RATE} where no other is given"
    said += [f"Limits: {where}, one optimiser, short of convergence."] if costs else []
    return "\n\n".join(filter(None, said))


def otherwise(table: DataFrame, deciding: int, length: int) -> str:
    """The reading of other trainings than those that decide; empty where the deciding arms come out alike."""
    mine, others = findings(table, length), findings(table, deciding)
    costs = {rule.BELOW_RELU6: rule.WITH_RELU6}
    outcomes = [[costs.get(one, one) for one in (found.leaky, found.noise)] for found in (mine, others)]
    return "" if outcomes[0] == outcomes[1] else rule.reading(mine)


def claims(table: DataFrame) -> list[ClaimResult]:
    """What the paper's argument expects of each arm, at every length, by the rule; and what other papers do."""
    found, data = [], table["data"].iloc[0]
    shortest, *longer = comparison.lengths(table, GROUP)
    begun = [length for length in longer if set(rule_text.EXPECTED) & set(accuracies(table, GROUP, length))]
    for length in (shortest, *begun):
        runs = accuracies(table, GROUP, length)
        planned = [arm for arm in rule_text.EXPECTED if length == shortest or arm in DECIDING]
        found += [rule_text.claim(arm, runs, f"{data}/{length}") for arm in planned]
        found += measured.claims(*at_measured_r2(table, length), f"{data}/{length}")
    at_best, at_first = (accuracies(table, group, shortest) for group in (BEST, GROUP))
    where = f"{data}/{shortest}"
    found += [tuning.claim(at_best, at_first, BEST_RATES, where)] if at_best else []
    found += [rule_text.equal_planned_r2(at_first, where), neighbours.before_the_sum(at_first, where)]
    for group, (prefix, at) in AT_RATES.items():
        runs = accuracies(table, group, shortest)
        found += [rule_text.claim(arm, runs, where, prefix, at) for arm in rule_text.EXPECTED if arm in runs]
    for group, at in ((GROUP, ""), (BEST_OF_RELU6, AT_RATES[BEST_OF_RELU6][1])):
        norms = neighbours.first_gradients(pick(of_group(table, group, shortest), kind=kept.GRADIENT))
        found += [neighbours.gradients(norms, where, at)] if norms or not at else []
    return found


HEAD = {
    "group": "learning rate", "length": "images seen", "arm": "arm", "n": "runs", "accuracy": "test accuracy, %",
    "interval": "95 % interval", "r2": "linear R²", "verdict": "verdict", "p": "p (Holm)", "share": "share of the gap",
}  # fmt: skip


def document(table: DataFrame) -> Document:
    """Every arm at every learning rate and length: accuracy, measured R², verdict and share of the gap."""
    shown = []
    for place in comparison.places(table):
        mine = accuracies(table, *place)
        judged = rule.outcomes(mine)
        shown += [row(table, arm, place, (values, judged.get(arm))) for arm, values in mine.items()]
    caption = (
        "Why ReLU6 in a bottleneck costs accuracy: every arm of the intervention. Runs (n) differ in their seed; "
        f"Student's {statistics.PERCENT} interval of an accuracy; p-values after Holm's correction."
    )
    return Document(caption, HEAD, frame(shown))


def rate_of(arm: str, group: str) -> str:
    """The learning rate of an arm's runs in a group, as the table names it."""
    chosen = {BEST: arm, BEST_OF_RELU6: "relu6"}.get(group)
    return group if chosen is None else f"{group}: {BEST_RATES[chosen]:g}"


def row(
    table: DataFrame, arm: str, place: comparison.Place, found: tuple[Sequence[float], rule.ArmOutcome | None]
) -> Record:
    """One row of the table."""
    values, judged = found
    level, r2 = statistics.mean(np.array(values)), readabilities(table, arm, *place)
    share = judged.share if judged else None
    return {
        "group": rate_of(arm, place[0]), "length": place[1], "arm": arm, "n": len(values),
        "accuracy": f"{level.value:.2f}",
        "interval": "" if np.isnan(level.low) else f"{level.low:.2f} to {level.high:.2f}",
        "r2": f"{np.mean(r2):.3f}" if r2 else "", "verdict": judged.verdict if judged else "",
        "p": "" if judged is None or np.isnan(judged.p_value) else f"{judged.p_value:.2g}",
        "share": f"{share.value:.2f} ({share.low:.2f} to {share.high:.2f})" if share else "",
    }  # fmt: skip


def figure(table: DataFrame) -> Figure:
    """Accuracy lost against measured linear R², curves, and learning rates; the reading is the title."""
    length, rates = shortest(table), comparison.numbers(comparison.groups(table))
    runs, linear_r2 = at_measured_r2(table, length)
    by_rate = {arm: {rate: accuracies(table, rate, length).get(arm, []) for rate in rates} for arm in DECIDING}
    curves = pick(table, kind=training_run.CURVE, group=GROUP)
    several = len({rate for found in by_rate.values() for rate, values in found.items() if values}) > 1
    with plots.style():
        made = plots.shaped(3.3)
        axes = made.subplots(1, 2 + several)
        drawing.draw_dose(axes[0], runs, linear_r2)
        names = [f"{length:,} images", drawing.draw_training(axes[1], curves, DECIDING)]
        if several:
            drawing.draw_rates(axes[2], by_rate)
            names.append(f"learning rates, {length:,} images")
        plots.letter(axes, names)
        title, tuned = headings(table)
        unmeasured = drawing.UNMEASURED * (not all(linear_r2.values()))
        return plots.captioned(made, title, drawing.CAPTION + unmeasured + tuned, plots.handles_of(axes[:1]))


def headings(table: DataFrame) -> tuple[str, str]:
    """The cause as the figure's title; for the caption, of which trainings it is, and what is said of tuning."""
    missing, length = not_decided(table), deciding_length(table)
    if missing:
        return rule_text.capitalised(missing), ""
    found = findings(table, length)
    tuned = rule.TUNING[found.tuning]
    cause = rule.reading(found).removeprefix(f"{tuned}; ")
    cause += f", {BY_PLAN}" if cause == rule.READABILITY else ""
    return rule_text.capitalised(
        cause
    ), f" Title: the reading of trainings of {length:,} images. {rule_text.capitalised(tuned)}."


STUDY = trained_study(
    name="ext_cause",
    card=__doc__,
    grid=grid,
    arms=Arms(comparison=CONTRAST),
    caption="",
    rows=kept.rows,
    figure=figure,
    claims=claims,
    table=document,
    text=paragraphs,
)


if __name__ == "__main__":
    raise SystemExit(STUDY.main())
