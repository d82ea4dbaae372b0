"""The commands of a study: plan, run, worker, status, publish."""

import contextlib
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from rich.console import Console
from rich.live import Live

from manifold_lab.core import provenance
from manifold_lab.core.cli import FIGURES, destination, run_cli
from manifold_lab.core.config import key
from manifold_lab.core.durations import duration
from manifold_lab.core.errors import InputError
from manifold_lab.core.files import as_published, publish, text
from manifold_lab.core.shown import print_json
from manifold_lab.report.tables import ClaimResult, claim_sentence
from manifold_lab.sweeps import command_line, launchers, runner, slurm, worker
from manifold_lab.sweeps.options import (
    GridOptions,
    PlanOptions,
    PublishOptions,
    RunOptions,
    StatusOptions,
    WorkerOptions,
)  # fmt: skip
from manifold_lab.sweeps.publishing import Gathered, estimates, gathered, named_claims, published_files, read_contents
from manifold_lab.sweeps.status_table import LISTED, how, labels, listing, state_counts, status_table
from manifold_lab.sweeps.store import ABSENT, DONE, QUEUED, RUNNING, Run
from manifold_lab.sweeps.study import Study, file_stem
from manifold_lab.training import distributed

REFRESH = 2.0
"""Seconds between two looks of a live table."""


def plan(study: Study, options: PlanOptions) -> None:
    """Say what would run and, from what finished runs took, how long."""
    runs = study.runs(options)
    wanted = runner.missing(runs)
    costs = estimates(wanted, study.folder(options))
    if options.json:
        print_json(study=study.name, counts=state_counts(runs), missing=[
            {"key": run.key, "run": label, "seconds": cost[0] if cost else None}
            for run, label, cost in zip(wanted, labels(wanted), costs, strict=True)])  # fmt: skip
        return
    console = Console()
    if options.quiet:
        console.print(state_counts(runs))
        return
    console.print(card(study, runs), highlight=False, markup=False, soft_wrap=True)
    rows = [[run.key, label, duration(cost[0]) if cost else "–"]
            for run, label, cost in zip(wanted[:LISTED], labels(wanted[:LISTED]), costs, strict=False)]  # fmt: skip
    console.print(listing(f"{study.name}: what would run", ("key", "run", "estimate"), rows, len(wanted)))
    console.print(state_counts(runs))
    known = [cost for cost in costs if cost]
    if wanted and known:
        apart = max(fields for _, fields in known)
        total = sum(seconds for seconds, _ in known) / min(options.workers, len(wanted))
        from_what = f"from finished runs that differ in {apart} fields besides seed and length at most"
        console.print(f"about {duration(total)} with {options.workers} at a time, {from_what}", highlight=False)
    elif wanted:
        console.print("what it takes is not known before a first run is finished")


def card(study: Study, runs: Sequence[Run]) -> str:
    """The lab card, and on its last line what the finished runs of the grid took."""
    done = [run.provenance for run in runs if run.state == DONE]
    made = provenance.joined(done)
    took = "at least " * made.least + duration(made.seconds)
    known = f"{took} for {len(done)} of {len(runs)} runs, on {', '.join(made.devices)}"
    return f"{study.card.strip()}\nCost     {known if done else 'not known before a first run is finished'}"


@dataclass(frozen=True)
class Ran:
    """What came of running a grid: runs that ended, how many wait in a queue, and what was passed over, in a line."""

    ended: list[Run]
    queued: int
    passed_over: str

    @property
    def failed(self) -> int:
        """An exit status: 1 where a run did not end well."""
        return int(bool(self.passed_over) or any(run.state not in (DONE, RUNNING) for run in self.ended))


def run_missing(study: Study, options: RunOptions) -> Ran:
    """Run what is missing.

    Raises:
        InputError: for options that are not allowed, and for a file of images or weights that cannot be read.
        KeyboardInterrupt: saying that what is finished is kept.
    """
    command_line.check_options(options)
    name = options.launcher or ("here" if options.workers == 1 else "pool")
    launch = launchers.find(name)
    slurm.defaults()  # refused here where it cannot be read; the other commands do without
    runs = _only(study.runs(options), options.only)
    wanted = runner.missing(runs, options.retry_failed, options.retry_damaged)
    if wanted and study.on_images is not None:
        study.source(options).check()
    console, ended, queued = Console(stderr=name == "print" or options.json, quiet=options.quiet), [], 0
    console.print(f"{study.name}: {len(wanted)} to run; {state_counts(runs)}", highlight=False)
    try:
        with contextlib.closing(launch(_work(study, options), wanted)) as launched:
            for run in launched:
                if run.state == QUEUED:
                    queued += 1
                    continue
                ended.append(run)
                line = f"{len(ended)}/{len(wanted)} {run.key} {run.state} {how(run)}"
                console.print(line, highlight=False, markup=False, soft_wrap=True)
    except KeyboardInterrupt:
        message = f"{len(ended)} of {len(wanted)} had ended; what is done is kept, run again to go on"
        raise KeyboardInterrupt(message) from None
    if queued > len(ended):
        console.print(f"{queued} queued; ask status how they stand, and publish when they are done", highlight=False)
    ran = Ran(ended, queued, runner.left_over(runs, wanted))
    if ran.passed_over:
        console.print(ran.passed_over, highlight=False, markup=False, soft_wrap=True)
    return ran


def say_ran(study: Study, options: RunOptions, ran: Ran) -> None:
    """With --json or --quiet, what a run did that publishes nothing."""
    if options.json:
        ended = [{"key": run.key, "state": run.state, "how": how(run)} for run in ran.ended]
        print_json(study=study.name, ended=ended, queued=ran.queued, passed_over=ran.passed_over)
    elif options.quiet:
        parts = [f"{study.name}: {len(ran.ended)} ended, {ran.queued} queued", *filter(None, [ran.passed_over])]
        print("; ".join(parts))


def _work(study: Study, options: RunOptions) -> runner.Work:
    wait = options.wait or isinstance(options, PublishOptions)
    return runner.Work(study.measure_for(options), options.workers, study.start(options), options.processes_per_run,
                      options.runs_per_job, options.slurm, wait, study.folder(options))  # fmt: skip


def run_named(study: Study, options: WorkerOptions) -> int:
    """Make the runs that are named, or those of this process's job; another status where one did not end well."""
    folder, specs, states = study.folder(options), {key(spec): spec for spec in study.specs(options)}, []
    with distributed.join_processes():
        runs = worker.of_this_job(folder, specs) if options.job else worker.named_runs(folder, specs, options.keys)
        for run in worker.work_through(runner.Work(study.measure_for(options)), runs, patient=options.job):
            states.append(run.state)
            print(run.key, run.state, how(run), flush=True)
    if all(state in (DONE, RUNNING) for state in states):
        return 0
    return worker.SOME_FAILED if options.job else 1


def _only(runs: list[Run], beginning: str) -> list[Run]:
    found = [run for run in runs if run.key.startswith(beginning)]
    if beginning and len(found) != 1:
        raise InputError(f"only: {beginning!r} begins {len(found)} keys of this grid; status and plan name them")
    return found


def status(study: Study, options: StatusOptions) -> None:
    """Say how the runs stand; on a terminal, for as long as any of them is under way."""
    console = Console()
    runs = study.runs(options)
    if options.json:
        known = [
            {"key": run.key, "state": run.state, "how": how(run), **runner.facts(asdict(run.spec))} for run in runs
        ]
        print_json(study=study.name, runs=known)
        return
    if options.quiet or not console.is_terminal or all(run.state != RUNNING for run in runs):
        console.print(state_counts(runs) if options.quiet else status_table(study.name, runs, options.every))
        if all(run.state == ABSENT for run in runs):
            begin = f"; begin with: {_starting(study, options)}" if study.command else ""  # a notebook's has none
            console.print(f"nothing has run yet{begin}", highlight=False, soft_wrap=True)
        return
    with Live(status_table(study.name, runs, options.every), console=console, auto_refresh=False) as live:
        while any(run.state == RUNNING for run in runs):
            time.sleep(REFRESH)
            runs = study.runs(options)
            live.update(status_table(study.name, runs, options.every), refresh=True)


def _starting(study: Study, options: GridOptions) -> str:
    """The command that runs what a status is asked of."""
    typed = [f"--images {options.images}"] if options.images else []
    typed += ["--smoke"] if options.smoke else []
    typed += [f"--runs {options.runs}"] if options.runs != GridOptions.runs else []
    return " ".join([study.command, "run", *typed])


def publish_study(study: Study, options: PublishOptions) -> None:
    """Write csv files, figure, tables, claims and text; the texts of the checkout are `report`'s to fill.

    Raises:
        InputError: before any run is done, or where there is no csv file to draw anew from.
    """
    out = destination(options.out, options.smoke)
    if options.redraw:
        found = Gathered(read_contents(study, out), None, "drawn anew from the csv files")
    else:
        found = gathered(study, options)
    published = study.published(found.contents)
    contents = {} if options.redraw else found.contents
    files = {f"{file_stem(study.name, part)}.csv": text(content) for part, content in contents.items()}
    with as_published(study.name) if options.redraw else contextlib.nullcontext():
        judged = named_claims(study, published)
        files |= published_files(study, published, judged, options.style, found.made)
    written = publish(out, files)
    say_published(options, judged, found.says, written)
    if out.name == FIGURES.name and not (options.smoke or options.json):
        print("now run manifold-lab report, which fills the texts")


def say_published(options: PublishOptions, judged: Sequence[ClaimResult], says: str, written: Sequence[Path]) -> None:
    """Every claim with its number, how the runs stand, and what was written."""
    if options.json:
        print_json(claims=[claim.record() for claim in judged], runs=says, written=written)
        return
    console = Console()
    for claim in () if options.quiet else judged:
        console.print(claim_sentence(claim), highlight=False, markup=False, soft_wrap=True)
    console.print(f"{says}; written: {', '.join(map(str, written))}", soft_wrap=True)


def main(study: Study, arguments: list[str] | None = None) -> int:
    """The command line of a study; its exit status."""
    typed = sys.argv[1:] if arguments is None else arguments
    description = command_line.about(study.command, study.card)
    program = study.command.removeprefix("python ").removeprefix("-m ")
    return run_cli(command_line.kind_of(typed), lambda options: _act(study, options), program, typed, description)


def _act(study: Study, options: GridOptions) -> int:
    command_line.check_options(options)
    if not study.stored:
        return _act_unstored(study, options)
    if isinstance(options, RunOptions):
        return _run_and_say(study, options)
    if isinstance(options, PublishOptions):
        publish_study(study, options)
    elif isinstance(options, StatusOptions):
        status(study, options)
    elif isinstance(options, WorkerOptions):
        return run_named(study, options)
    elif isinstance(options, PlanOptions):
        plan(study, options)
    return 0


def _run_and_say(study: Study, options: RunOptions) -> int:
    """Run, and publish where that was asked for too; a smoke run that is whole shows what comes out."""
    ran = run_missing(study, options)
    if isinstance(options, PublishOptions):
        publish_study(study, options)
    elif options.smoke and all(run.state == DONE for run in study.runs(options)):
        made = PublishOptions(smoke=True, runs=options.runs, quiet=options.quiet, json=options.json)
        publish_study(study, made)
    else:
        say_ran(study, options, ran)
    return ran.failed


def _act_unstored(study: Study, options: GridOptions) -> int:
    """A study that keeps no runs makes them when it publishes, and has nothing else to say."""
    if isinstance(options, PublishOptions):
        publish_study(study, options)
    elif isinstance(options, RunOptions):
        same = {name: getattr(options, name) for name in ("smoke", "images", "weights", "quiet", "json")}
        publish_study(study, PublishOptions(**same))
    else:
        print(f"{study.card.strip()}\n{study.name} keeps no runs: publish computes it anew, in seconds to minutes")
    return 0
